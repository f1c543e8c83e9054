"""What a network is fine-tuned on: a store's rows and files, and what is wrong with them by name."""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import SMALL, small_recipe

import featx
from featx import FeatxError
from featx.errors import SourceError, WeightsError
from featx.finetune import read_task, tune as finetune
from featx.finetune.folder import Trained
from featx.finetune.record import Outcome, run_record, write_fine_tuned
from featx.finetune.stages import StagePlan
from featx.finetune.task import choose_weights
from featx.networks.recipes import Stage, read_recipe
from featx.store import Settings


def silent(line):
    raise AssertionError(line)


def test_rows_and_their_files(tuned_store, tree):
    task = read_task(tuned_store)
    assert (len(task.rows), len(task.images)) == (30, 30)
    assert task.classes == ["ash", "birch", "cedar"]
    assert task.rows.X.shape == (30, 0)
    with featx.open(tuned_store) as store:
        assert task.images.paths.tolist() == store.images["path"].tolist()
        assert task.images.sha256.tolist() == store.images["sha256"].tolist()
    assert task.images.root == tree
    classes = np.array(task.classes)[task.targets.argmax(axis=1)]
    assert classes.tolist() == task.rows.y.tolist()
    assert task.targets.sum() == 30
    assert task.store["backbone"] == "vgg16"
    assert task.store["n_features"] == 0


def test_rows_that_are_left_out_leave_their_files_out(tuned_store):
    task = read_task(tuned_store, where="label != 'birch' and weight > 0.5")
    assert set(task.rows.y) == {"ash", "cedar"}
    assert task.images.paths.tolist() == task.rows.paths.tolist()
    with featx.open(tuned_store) as store:
        expected = store.images.set_index("path")["sha256"]
    assert task.images.sha256.tolist() == expected[task.rows.paths].tolist()
    assert any("are used: label != 'birch'" in note for note in task.notes)


def test_labels_that_are_numbers(tuned_store):
    task = read_task(tuned_store, label="grade")
    assert task.classes == ["1", "2"]
    with featx.open(tuned_store) as store:
        assert (task.targets.argmax(axis=1) + 1).tolist() == store.images["grade"].tolist()


def test_balanced_classes_weigh_the_same(tuned_store):
    task = read_task(tuned_store)
    assert task.weights_for(None).tolist() == [1.0] * 30
    weights, train = task.weights_for("balanced"), task.rows.of("train")
    totals = pd.Series(weights[train]).groupby(task.rows.y[train]).sum()
    assert totals.to_numpy() == pytest.approx([20 / 3] * 3, rel=1e-6)
    # As scikit-learn has it: rows over classes and rows of the class.
    assert weights[train][task.rows.y[train] == "ash"] == pytest.approx(20 / (3 * 8))


def test_balanced_classes_of_rows_with_weights(tuned_store):
    task = read_task(tuned_store, sample_weight="weight")
    with featx.open(tuned_store) as store:
        assert task.weights_for(None).tolist() == store.images["weight"].astype(float).tolist()
    weights, train = task.weights_for("balanced"), task.rows.of("train")
    totals = pd.Series(weights[train]).groupby(task.rows.y[train]).sum()
    assert totals.to_numpy() == pytest.approx([task.rows.weights[train].sum() / 3] * 3, rel=1e-6)
    # A class whose rows weigh nothing is not a division by it.
    task.rows.weights[task.rows.y == "cedar"] = 0
    assert np.isfinite(task.weights_for("balanced")).all()
    assert not task.weights_for("balanced")[task.rows.y == "cedar"].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"split": "unjudged"},
            r"store\.h5: no validation rows, .*test rows are never used .*another column as `split`",
        ),
        (
            {"split": "unlearned"},
            r"the class 'cedar' \(8 rows\) has none in train.*or leave the class out by `where`",
        ),
        ({"label": "species"}, "no column 'species'"),
        ({"where": "split != 'train'"}, "no labelled train rows"),
        ({"where": "label == 'ash'"}, "one class only"),
        ({"sample_weight": "label"}, r"'label' of ash/000\.png is 'ash'; weights are numbers"),
    ],
)
def test_rows_that_nothing_can_be_trained_on(options, message, tuned_store):
    with pytest.raises(FeatxError, match=message):
        read_task(tuned_store, **options)


def test_images_that_were_moved(tuned_store, tree, tmp_path):
    moved = shutil.copytree(tree, tmp_path / "moved")
    (moved / "birch" / "003.png").unlink()
    message = r"moved/birch/003\.png: no such file \(1 of 30 images are missing\)\. If .*`root`.*with `overwrite`$"
    with pytest.raises(SourceError, match=message):
        read_task(tuned_store, root=moved)
    shutil.copy(tree / "birch" / "003.png", moved / "birch" / "003.png")
    assert read_task(tuned_store, root=moved).images.root == moved


def test_images_of_absolute_paths(tree, tmp_path):
    """Another root can't be given."""
    moved = shutil.copytree(tree, tmp_path / "moved")
    paths = sorted(moved.rglob("*.png"))
    splits = ["train", "train", "validation", "test"] * 8
    table = pd.DataFrame({"path": paths, "label": [path.parent.name for path in paths], "split": splits[: len(paths)]})
    (tmp_path / "lists").mkdir()
    table.to_csv(tmp_path / "lists" / "m.csv", index=False)
    manifest = featx.read_source(tmp_path / "lists" / "m.csv")
    featx.extract_features(manifest, tmp_path / "s.h5", layers="block1_conv1", **SMALL)
    task = read_task(tmp_path / "s.h5")
    assert all((task.images.root / path).exists() for path in task.images.paths)
    moved.rename(tmp_path / "away")
    with pytest.raises(SourceError, match=r"no such file \(30 of 30 images.*moved.*extract again"):
        read_task(tmp_path / "s.h5", root=tmp_path / "away")


def test_weights_that_need_no_naming(tuned_store):
    settings = read_task(tuned_store).settings
    assert choose_weights(tuned_store, settings, None, echo=silent) == "random:0"
    assert choose_weights(tuned_store, settings, "random", echo=silent) == "random"
    with pytest.raises(WeightsError, match=r"'random:1': not those that made .*store\.h5.*Leave `weights` out$"):
        choose_weights(tuned_store, settings, "random:1", echo=silent)


def test_weights_from_a_file(tree, tmp_path):
    from featx.networks import build_backbone

    for seed in (3, 4):
        model = build_backbone("vgg16", layers="block5_conv3", weights=f"random:{seed}", image_size=32).model
        model.save_weights(tmp_path / f"{seed}.weights.h5")
    manifest = featx.make_splits(featx.read_source(tree), (0.6, 0.2, 0.2))
    options = SMALL | {"weights": str(tmp_path / "3.weights.h5")}
    featx.extract_features(manifest, tmp_path / "s.h5", layers="block1_conv1", **options)
    settings = read_task(tmp_path / "s.h5").settings
    with pytest.raises(WeightsError, match=r"came from the file '3\.weights\.h5': give its path as `weights`"):
        choose_weights(tmp_path / "s.h5", settings, None, echo=silent)
    with pytest.raises(WeightsError, match=r"not those that made the features .*Give those as `weights`$"):
        choose_weights(tmp_path / "s.h5", settings, str(tmp_path / "4.weights.h5"), echo=silent)
    named = str(tmp_path / "3.weights.h5")
    assert choose_weights(tmp_path / "s.h5", settings, named, echo=silent) == named


def test_a_store_of_a_fine_tuned_network_is_none_to_start_from(tuned_store):
    with featx.open(tuned_store) as store:
        settings = replace(Settings.from_record(store.attributes), weights="baseline")
    # Weights that made the same features of the first layers are no way round it.
    for weights in (None, "random", "runs/baseline"):
        with pytest.raises(WeightsError, match="only a backbone can be fine-tuned: give the store"):
            choose_weights(tuned_store, settings, weights, echo=silent)


class RowNumbers:
    """A source whose rows are their own numbers."""

    def take(self, rows):
        return rows[:, np.newaxis].astype(np.float32)


def batches_of(task, class_weight):
    """Return (inputs, classes, weights) of all train and all validation rows, in the order that they are trained in."""
    from featx.finetune.sources import make_batches
    from featx.finetune.stages import StagePlan

    stage = Stage("head", epochs=1, batch_size=4, class_weight=class_weight)
    plan = StagePlan(stage, (), "cut", "cut", ("",), n_trainable=1, n_frozen=0)
    return [
        [np.concatenate(each) for each in zip(*(made[place] for place in range(len(made))), strict=True)]
        for made in make_batches(task, plan, {"cut": RowNumbers()}, seed=7)
    ]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_network_sees_no_row_of_weight_0(tuned_store, tmp_path, class_weight):
    store_path = shutil.copy(tuned_store, tmp_path / "s.h5")
    with h5py.File(store_path, "a") as file:
        weights = file["images/weight"][:]
        file["images/weight"][...] = np.where(weights == 2, 0, weights)
    weighted = read_task(store_path, sample_weight="weight")
    less = read_task(tuned_store, sample_weight="weight", where="weight < 2")
    assert "9 of 30 images have the weight 0: nothing is fitted or scored on them" in weighted.notes
    for found, expected in zip(batches_of(weighted, class_weight), batches_of(less, class_weight), strict=True):
        paths = [
            task.rows.paths[inputs[:, 0].astype(int)] for task, inputs in ((weighted, found[0]), (less, expected[0]))
        ]
        assert paths[0].tolist() == paths[1].tolist()
        assert len(paths[0]) >= 3
        assert all(np.array_equal(*pair) for pair in zip(found[1:], expected[1:], strict=True))


def test_a_class_whose_images_all_have_the_weight_0_is_none_of_the_network(tuned_store, tmp_path):
    store_path = shutil.copy(tuned_store, tmp_path / "s.h5")
    with h5py.File(store_path, "a") as file:
        labels = file["images/label"].asstr()[:]
        file["images/weight"][...] = np.where(labels == "birch", 0, 1)
    task = read_task(store_path, sample_weight="weight")
    assert task.classes == ["ash", "cedar"]
    assert any("'birch' to fit on have the weight 0: it can't be predicted" in note for note in task.notes)
    assert set(task.rows.y[task.targets.sum(axis=1) == 0]) == {"birch"}
    with h5py.File(store_path, "a") as file:
        splits = file["images/split"].asstr()[:]
        file["images/weight"][...] = np.where((labels == "birch") & (splits == "train"), 0, 1)
    n_rows = int(((labels == "birch") & (splits != "train")).sum())
    with pytest.raises(FeatxError, match=rf"the class 'birch' \({n_rows} rows of a weight over 0\) has none in train"):
        read_task(store_path, sample_weight="weight")


def test_a_network_is_not_scored_on_rows_of_weight_0(tuned_store, tmp_path, monkeypatch):
    store_path = shutil.copy(tuned_store, tmp_path / "s.h5")
    with h5py.File(store_path, "a") as file:
        splits, weights = file["images/split"].asstr()[:], file["images/weight"][:]
        weights[[np.flatnonzero(splits == name)[0] for name in ("train", "validation", "test")]] = 0
        file["images/weight"][...] = weights
    task = read_task(store_path, sample_weight="weight")
    scored = task.rows.paths[(splits == "test") & (task.rows.weights > 0)].tolist()
    stage = Stage("head")
    plan = StagePlan(stage, (), "", "pixels", ("plain",), 1, 1)
    figures = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    outcome = Outcome(plan, Trained([{"epoch": 1, **figures, "learning_rate": 0.1, "seconds": 1.0}], 1, "epochs"))
    recipe = read_recipe(small_recipe(tmp_path / "recipe.yaml", stages=(stage,)))
    monkeypatch.setattr(finetune, "build_stage_model", lambda network, plan: None)
    monkeypatch.setattr(finetune, "predict_rows", lambda model, source, rows, batch_size: task.targets[rows])
    probabilities = finetune._predict_test(None, plan, task, {"pixels": None})
    costs = {"n_parameters": 1, "predict_seconds": None, "weights_sha256": "0" * 64, "once_seconds": 0.0}
    protocol = {"seed": 0, "sample_weight": "weight"}
    run = run_record(task, recipe, [outcome], 0, probabilities, protocol=protocol, **costs)
    (tmp_path / "weights").touch()
    files = {"weights_path": tmp_path / "weights", "overwrite": False}
    write_fine_tuned(tmp_path / "run", run, task, [outcome], recipe, probabilities, **files)
    assert pd.read_csv(tmp_path / "run" / "predictions.csv")["path"].tolist() == scored
    assert pd.read_csv(tmp_path / "run" / "confusion.csv", index_col=0).to_numpy().sum() == len(scored)
    assert run.test["accuracy"] == 1
    for name in ("train", "validation", "test"):
        assert run.protocol[f"n_{name}"] == (splits == name).sum() - 1
