"""Store to fine-tuned run: the same as plain Keras, as before a stop, and on the same rows as the classifiers."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from samples import small_recipe

import featx
from featx import FeatxError
from featx.errors import StoppedError
from featx.finetune import fine_tune, folder, sources as training_sources, tune as finetune
from featx.networks import load_keras
from featx.networks.recipes import Augmentation, Stage, read_recipe
from featx.networks.recipes.schema import AveragePool, BatchNorm, Dense, Dropout, MaxPool
from featx.results import SavedRun, read_run, score
from featx.system import sha256_of

FIGURES = ["loss", "accuracy", "val_loss", "val_accuracy"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "activations"


def curves_of(path):
    """What may be compared: everything but the clock."""
    return pd.read_csv(path / "curves.csv").drop(columns="seconds")


def same_run(path, other):
    files = ("predictions.csv", "per_class.csv", "confusion.csv", "recipe.yaml")
    return (
        curves_of(path).equals(curves_of(other))
        and all((path / name).read_bytes() == (other / name).read_bytes() for name in files)
        and read_run(path).test == read_run(other).test
        and weights_of(path) == weights_of(other)
    )


def weights_of(path):
    """The numbers in a run's weights, by name."""
    import h5py

    found = {}
    with h5py.File(path / "network.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "shape") else None)
    assert found
    return found


def entries(cache):
    return [path.name for path in cache.iterdir() if path.is_dir()] if cache.exists() else []


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Two stages with all that counts epochs and draws at random."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    head = (AveragePool(), BatchNorm(), Dense(8, l2=0.01), Dropout(0.5))
    stages = (
        Stage("head", epochs=3, batch_size=4, learning_rate=0.01, patience=2, augmentation=Augmentation(flip="both")),
        Stage("block3", unfreeze=("block3",), epochs=2, batch_size=4, learning_rate=1e-4, backbone_rate=0.5),
    )
    return small_recipe(path, head=head, stages=stages)


@pytest.fixture(scope="module")
def undisturbed(tuned_store, recipe, tmp_path_factory):
    """A run from beginning to end, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATX_CACHE", str(folder / "cache"))
        run = fine_tune(tuned_store, recipe, folder / "run", engine="keras", echo=lines.append)
    return folder / "run", run, lines


class PlainKeras:
    """What a user would write: the whole network, `fit` over all pixels, the best epoch's weights."""

    def __init__(self, store_path, tree, n_classes):
        self.keras = load_keras()
        with featx.open(store_path) as store:
            images = store.images
        from featx.images import read_picture

        pictures = [
            read_picture(tree / path, image_size=32, resize="squash", interpolation="bilinear")
            for path in images["path"]
        ]
        pixels = np.stack([picture.pixels for picture in pictures]).astype(np.float32)
        self.pixels = self.keras.applications.vgg16.preprocess_input(pixels)
        self.split = images["split"].to_numpy()
        self.weights = images["weight"].to_numpy()
        self.classes = np.unique(images["label"], return_inverse=True)[1]
        self.targets = np.eye(n_classes, dtype=np.float32)[self.classes]

    def build(self, initial):
        """The network, layer by layer, of the same initial weights."""
        keras, layers = self.keras, self.keras.layers
        base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
        values = layers.GlobalAveragePooling2D()(base.get_layer("block3_pool").output)
        values = layers.BatchNormalization(name="head_norm1")(values)
        values = layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01), name="fc1")(values)
        values = layers.Dense(3, activation="softmax", name="predictions")(values)
        self.model = keras.Model(base.input, values)
        for layer in self.model.layers:
            layer.set_weights(initial.get_layer(layer.name).get_weights() if layer.weights else [])

    def train(self, stage, number, class_weight):
        for layer in self.model.layers:
            name = layer.name
            layer.trainable = name in ("head_norm1", "fc1", "predictions") or (
                number == 1 and name.startswith("block3")
            )
        train, validation = (np.flatnonzero(self.split == name) for name in ("train", "validation"))
        smoothed = self.keras.losses.CategoricalCrossentropy(label_smoothing=stage.label_smoothing)
        self.model.compile(self.keras.optimizers.Adam(stage.learning_rate), smoothed, weighted_metrics=["accuracy"])
        lines, best = [], None
        for epoch in range(stage.epochs):
            rows = train[np.random.default_rng([1000 * 5 + number, epoch]).permutation(len(train))]
            history = self.model.fit(
                self.pixels[rows],
                self.targets[rows],
                sample_weight=(self.weights * class_weight[self.classes])[rows],
                validation_data=(self.pixels[validation], self.targets[validation], self.weights[validation]),
                batch_size=stage.batch_size,
                shuffle=False,
                verbose=0,
            ).history
            lines.append([history[name][0] for name in FIGURES])
            if best is None or lines[-1][3] > best[0]:
                best = lines[-1][3], self.model.get_weights()
        self.model.set_weights(best[1])
        return lines


def test_it_is_what_plain_keras_gives(tuned_store, tree, tmp_path, monkeypatch):
    """Cached, uncached and by another engine: all epochs of both stages, with all that may change a loss."""
    options = {"epochs": 2, "batch_size": 4, "label_smoothing": 0.1, "class_weight": "balanced"}
    stages = (
        Stage("head", learning_rate=0.001, **options),
        Stage("block3", unfreeze=("block3",), learning_rate=1e-5, **options),
    )
    recipe = small_recipe(tmp_path / "r.yaml", head=(AveragePool(), BatchNorm(), Dense(8, l2=0.01)), stages=stages)
    plain = PlainKeras(tuned_store, tree, 3)

    def build(*arguments, **named):
        network = original(*arguments, **named)
        if not hasattr(plain, "model"):
            plain.build(network.model)
        return network

    original = finetune.build_tuned_network
    monkeypatch.setattr(finetune, "build_tuned_network", build)
    arguments = {"seed": 5, "sample_weight": "weight"}
    fine_tune(tuned_store, recipe, tmp_path / "cached", engine="keras", **arguments)
    fine_tune(tuned_store, recipe, tmp_path / "uncached", cache_limit=0, **arguments)
    train = plain.split == "train"
    totals = np.bincount(plain.classes[train], plain.weights[train])
    lines = [
        line for number, stage in enumerate(stages) for line in plain.train(stage, number, totals.sum() / 3 / totals)
    ]
    cached, uncached = (curves_of(tmp_path / name)[FIGURES].to_numpy() for name in ("cached", "uncached"))
    assert np.ptp(cached[:, 0]) > 0.01
    assert cached == pytest.approx(uncached, rel=1e-5)
    assert cached == pytest.approx(np.array(lines), rel=1e-4)


def test_dropout_draws_the_same_from_pixels_and_by_another_engine(tuned_store, recipe, undisturbed, tmp_path):
    """The recipe with dropout and mirrored images, whose draws depend on nothing but seed, stage and epoch."""
    pytest.importorskip("ncnn")
    expected = curves_of(undisturbed[0])[FIGURES].to_numpy()
    fine_tune(tuned_store, recipe, tmp_path / "pixels", cache_limit=0)
    assert curves_of(tmp_path / "pixels")[FIGURES].to_numpy() == pytest.approx(expected, rel=1e-3)
    run = fine_tune(tuned_store, recipe, tmp_path / "ncnn", engine="ncnn", changes={"block3.epochs": 1})
    # Another engine's last bits grow with every step; Adam's first is as long for small gradients as for large ones.
    found = curves_of(tmp_path / "ncnn")[FIGURES].to_numpy()
    assert found[:3] == pytest.approx(expected[:3], rel=1e-4)
    assert found[3] == pytest.approx(expected[3], rel=0.1)
    assert run.predict_seconds > 0


def test_the_runs_folder(undisturbed, recipe, tuned_store):
    path, run, lines = undisturbed
    names = ["cells.csv", "confusion.csv", "curves.csv", "network.weights.h5", "per_class.csv", "predictions.csv"]
    assert sorted(entry.name for entry in path.iterdir()) == [*names, "recipe.yaml", "run.json"]
    # Neither the folder of the training nor the cache's entry is left.
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["cache", "run"]
    assert entries(path.parent / "cache" / "activations") == []
    assert read_run(path) == run
    assert run.is_finetuned
    assert read_recipe(path / "recipe.yaml") == read_recipe(recipe)
    assert run.baseline["recipe"] == featx.networks.recipes.files.recipe_record(read_recipe(recipe))
    protocol = {
        name: run.protocol[name] for name in ("selection", "choose_by", "classes", "n_train", "n_validation", "n_test")
    }
    assert protocol == {
        "selection": "validation",
        "choose_by": "accuracy",
        "classes": ["ash", "birch", "cedar"],
        "n_train": 20,
        "n_validation": 5,
        "n_test": 5,
    }
    # By hand: head, then with block3's three convolutions; block1's and block2's stay.
    n_head = 4 * 256 + (256 * 8 + 8) + (8 * 3 + 3)
    n_block3 = (9 * 128 * 256 + 256) + 2 * (9 * 256 * 256 + 256)
    n_before = (9 * 3 * 64 + 64) + (9 * 64 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 128 + 128)
    # A normalization trains two of its four weights a channel.
    n_trained = [n_head - 2 * 256, n_head - 2 * 256 + n_block3]
    stages = run.baseline["stages"]
    assert [stage["n_trainable"] for stage in stages] == n_trained
    assert [stage["n_frozen"] for stage in stages] == [n_head + n_block3 + n_before - trained for trained in n_trained]
    assert run.n_parameters == n_trained[1]
    assert [stage["computed_once"] for stage in stages] == ["head_pool1", "block2_pool"]
    assert run.baseline["weights_sha256"] == sha256_of(path / "network.weights.h5")
    assert run.predict_seconds > 0
    assert sum("computed" in line or "GB in" in line for line in lines) == 1
    assert [line.split(":")[0] for line in lines[-2:]] == ["stage head", "stage block3"]
    assert [cell.params["unfrozen"] for cell in run.cells] == ["head", "block3"]


def test_the_epoch_that_is_kept_is_the_best_on_validation(undisturbed):
    path, run, _ = undisturbed
    curves = pd.read_csv(path / "curves.csv")
    columns = ["stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    assert list(curves.columns) == columns
    for cell, stage in zip(run.cells, run.baseline["stages"], strict=True):
        lines = curves[curves["stage"] == stage["name"]].reset_index()
        assert lines["epoch"].tolist() == list(range(1, stage["epochs"] + 1))
        assert stage["best_epoch"] == 1 + int(lines["val_accuracy"].argmax())
        assert cell.validation_accuracy == cell.validation_score == pytest.approx(lines["val_accuracy"].max())
    assert run.chosen == int(np.argmax([cell.validation_accuracy for cell in run.cells]))


def test_the_weights_and_figures_are_those_of_the_predictions(undisturbed, tuned_store, tree):
    """Plain Keras reads the weights, and answers as predictions.csv and run.json say."""
    path, run, _ = undisturbed
    plain = PlainKeras(tuned_store, tree, 3)
    keras = plain.keras
    from featx.networks.recipes import build_tuned_network

    model = build_tuned_network(read_recipe(path / "recipe.yaml"), "vgg16", 3, weights="random:9", image_size=32).model
    model.load_weights(path / "network.weights.h5")
    classes = np.array(run.protocol["classes"])
    for split in ("validation", "test"):
        rows = plain.split == split
        answers = keras.ops.convert_to_numpy(model(plain.pixels[rows], training=False))
        if split == "validation":
            accuracy = np.mean(answers.argmax(axis=1) == plain.classes[rows])
            assert accuracy == pytest.approx(run.best.validation_accuracy)
    predictions = pd.read_csv(path / "predictions.csv")
    assert predictions["predicted"].tolist() == classes[answers.argmax(axis=1)].tolist()
    kept = predictions[[f"probability_{name}" for name in classes]].to_numpy()
    np.testing.assert_allclose(kept, answers, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(SavedRun(path).scores.probabilities, kept)
    expected = score(
        predictions["label"].to_numpy(str),
        predictions["predicted"].to_numpy(str),
        classes=run.protocol["classes"],
        majority="ash",
        probabilities=answers,
        seed=0,
    )
    interval = expected.pop("accuracy_interval")
    assert run.test["accuracy_interval"] == pytest.approx(interval)
    assert {name: run.test[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def stop_after(patch, n_epochs, *, is_whole=True, error=KeyboardInterrupt):
    """Stop the process once so many epochs are kept, or when the last of them is all but kept."""
    original, n_kept = folder.StageFolder.keep_epoch, 0

    def keep_epoch(self):
        nonlocal n_kept
        n_kept += 1
        if n_kept < n_epochs or is_whole:
            original(self)
        if n_kept == n_epochs:
            raise error

    patch.setattr(folder.StageFolder, "keep_epoch", keep_epoch)


def test_stopped_in_every_stage_it_ends_the_same(tuned_store, recipe, undisturbed, tmp_path, cache):
    output = tmp_path / "run"
    training = tmp_path / "run.training"
    n_first = undisturbed[1].baseline["stages"][0]["epochs"]
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(StoppedError, match="stopped before the first epoch") as caught,
    ):
        stop_after(patch, 1, is_whole=False)
        fine_tune(tuned_store, recipe, output, engine="keras")
    assert caught.value.exit_code == 130
    assert not training.exists()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StoppedError):
        stop_after(patch, 1)
        fine_tune(tuned_store, recipe, output, seed=3, engine="keras")
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(StoppedError, match=r"1 epochs are done and kept in .*training"),
    ):
        stop_after(patch, 1)
        fine_tune(tuned_store, recipe, output, engine="keras", overwrite=True)
    assert not output.exists()
    assert len(entries(cache)) == 1
    # Another training is not taken for this one, and what is there is kept, unless it may be replaced.
    for options, name in (
        ({"changes": {"batch_size": 5}}, "recipe"),
        ({"seed": 1}, "seed"),
        ({"where": "weight < 2"}, "rows"),
    ):
        message = f"run.training: this unfinished training was started with other .*{name}.*`overwrite` to start again"
        with pytest.raises(FeatxError, match=message):
            fine_tune(tuned_store, recipe, output, engine="keras", **options)
    # In the second stage, while its first epoch is being written.
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(StoppedError, match=f"{n_first} epochs are done and kept"),
    ):
        stop_after(patch, n_first, is_whole=False)
        fine_tune(tuned_store, recipe, output, engine="keras")
    assert (training / "stage-0.json").exists()
    backup = training / "stage-1" / "backup" / "latest.weights.h5"
    backup.write_bytes(backup.read_bytes()[:2000])
    fine_tune(tuned_store, recipe, output, engine="keras")
    assert same_run(output, undisturbed[0])
    assert not training.exists()
    assert entries(cache) == []
    with pytest.raises(FeatxError, match=r"run: exists\. Give another `output`, or `overwrite`"):
        fine_tune(tuned_store, recipe, output)


KILLED = """
import os, sys, time
from featx.finetune import fine_tune
fine_tune(sys.argv[1], sys.argv[2], sys.argv[3], engine="keras")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_killed_it_ends_the_same(tuned_store, recipe, undisturbed, tmp_path):
    """A moment after an epoch is kept is a moment within the next: its weights may be half written."""
    output, training = tmp_path / "run", tmp_path / "run.training"
    command = [sys.executable, "-c", KILLED, str(tuned_store), str(recipe), str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not list(training.glob("stage-1/best-*")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    # This process resumes, unless the other one was done before it could be killed.
    if not output.exists():
        assert training.exists()
        fine_tune(tuned_store, recipe, output, engine="keras")
    assert same_run(output, undisturbed[0])


def test_test_rows_never_count(tuned_store, recipe, undisturbed, tmp_path):
    """Without test rows the same network comes out, and nothing is scored."""
    run = fine_tune(tuned_store, recipe, tmp_path / "run", split="untested", engine="keras", keep_cache=True)
    assert (run.test, run.predict_seconds) == (None, None)
    assert curves_of(tmp_path / "run").equals(curves_of(undisturbed[0]))
    assert weights_of(tmp_path / "run") == weights_of(undisturbed[0])
    assert (tmp_path / "run" / "predictions.csv").read_text().splitlines() == ["path,label,predicted"]


def test_what_is_kept_is_used_again_by_the_same_network_alone(tuned_store, tmp_path, cache, monkeypatch):
    """A mean and a maximum have the same name and shape, and so do activations of another precision."""
    computed = []
    original = training_sources.compute_rows
    monkeypatch.setattr(training_sources, "compute_rows", lambda *a, **k: computed.append(original(*a, **k)))
    stage = (Stage("head", epochs=1, batch_size=8),)
    heads = {"mean": (AveragePool(), Dense(4)), "maximum": (MaxPool(), Dense(4))}
    recipes = {name: small_recipe(tmp_path / f"{name}.yaml", head=head, stages=stage) for name, head in heads.items()}
    for name, path in recipes.items():
        fine_tune(tuned_store, path, tmp_path / name, engine="keras", keep_cache=True)
    low = {"changes": {"precision": "mixed_bfloat16"}}
    fine_tune(tuned_store, recipes["mean"], tmp_path / "low", engine="keras", keep_cache=True, **low)
    # Computed for the mean, the maximum and the other precision.
    assert computed == [30, 30, 30]
    assert len(entries(cache)) == 3
    fine_tune(tuned_store, recipes["mean"], tmp_path / "last", engine="keras")
    assert len(computed) == 3
    assert len(entries(cache)) == 2
    assert same_run(tmp_path / "mean", tmp_path / "last")


def test_a_loss_that_is_no_number(tuned_store, recipe, tmp_path, cache):
    """From the first epoch on there is nothing to keep; in a later stage, what the ones before gave."""
    with pytest.raises(
        FeatxError, match=r"recipe 'small', stage 'head': the loss of the first epoch is no number.*`changes`"
    ):
        fine_tune(tuned_store, recipe, tmp_path / "first", changes={"learning_rate": 1e38}, engine="keras")
    # What the message says to do, can be done.
    assert not (tmp_path / "first.training").exists()
    lines = []
    changes = {"head.epochs": 1, "block3.learning_rate": 1e38, "block3.backbone_rate": 1.0}
    run = fine_tune(tuned_store, recipe, tmp_path / "run", changes=changes, engine="keras", echo=lines.append)
    said = "stage block3: the loss of its first epoch is no number, so that training ended there"
    assert said in lines
    assert said in run.notes
    assert run.chosen == 0
    assert run.cells[1].validation_accuracy is None
    assert run.cells[1].error == "the loss of its first epoch is no number"
    assert [stage["ended"] for stage in run.baseline["stages"]] == ["epochs", "diverged"]
    assert curves_of(tmp_path / "run")["val_loss"].isna().tolist() == [False, True]
    assert read_run(tmp_path / "run") == run
    assert run.test["accuracy"] is not None


def test_kept_by_its_loss_on_two_classes_that_are_numbers_with_rows_left_out(tuned_store, recipe, tmp_path):
    where = "label != 'cedar' and weight > 0.5"
    changes = {"epochs": 1, "keep": "val_loss"}
    run = fine_tune(tuned_store, recipe, tmp_path / "run", label="grade", where=where, changes=changes, engine="keras")
    assert run.protocol["classes"] == ["1", "2"]
    assert run.protocol["where"] == where
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == run.protocol["n_test"] < 5
    # A loss of training has L2 in it: it is no log loss of validation rows.
    losses = curves_of(tmp_path / "run")["val_loss"]
    assert run.protocol["choose_by"] == "loss"
    assert run.chosen == int(losses.argmin())
    table = pd.read_csv(tmp_path / "run" / "cells.csv")
    assert table["validation loss"].tolist() == pytest.approx(losses.tolist())
    assert "validation log_loss" not in table


def test_augmented_from_kept_pixels_and_from_files(tuned_store, tmp_path):
    turned = Augmentation(rotation=20, flip="both", shift=0.1)
    stages = (Stage("head", epochs=1, batch_size=8, augmentation=turned),)
    recipe = small_recipe(tmp_path / "r.yaml", from_layer="block2_pool", stages=stages)
    for name, options in {"cached": {}, "uncached": {"cache_limit": 0}}.items():
        run = fine_tune(tuned_store, recipe, tmp_path / name, **options)
        assert run.baseline["stages"][0]["computed_once"] == "pixels"
    assert same_run(tmp_path / "cached", tmp_path / "uncached")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"block3.unfreeze": ["block9"]}}, "stage 'block3': unfreeze names 'block9'"),
        ({"changes": {"from_layer": "block7_pool"}}, "vgg16 has no layer 'block7_pool'"),
        ({"split": "unjudged"}, "no validation rows, by which fine-tuning chooses its epoch"),
        ({"split": "unlearned"}, "the class 'cedar' .* has none in train"),
        ({"weights": "random:1"}, "weights 'random:1': not those that made the features"),
        ({"cache_limit": 10}, r"more than the cache may \(0\.00 GB\)\. Give a `cache_limit`"),
    ],
)
def test_what_is_refused_leaves_nothing(options, message, tuned_store, recipe, tmp_path, cache):
    with pytest.raises(FeatxError, match=message):
        fine_tune(tuned_store, recipe, tmp_path / "run", engine="keras", **options)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.training").exists()
    assert entries(cache) == []


def test_two_at_once(tuned_store, recipe, tmp_path):
    import filelock

    (tmp_path / "run.training").mkdir()
    with (
        filelock.FileLock(tmp_path / "run.training" / "lock"),
        pytest.raises(FeatxError, match=r"run\.training: another featx trains this run"),
    ):
        fine_tune(tuned_store, recipe, tmp_path / "run")


@pytest.mark.parametrize("cache_limit", [10**9, 0])
def test_a_file_that_changed(cache_limit, tuned_store, recipe, tree, tmp_path):
    moved = shutil.copytree(tree, tmp_path / "moved")
    shutil.copy(moved / "ash" / "000.png", moved / "birch" / "002.png")
    message = r"birch/002\.png: not the file that the store's features were made of"
    with pytest.raises(FeatxError, match=message):
        fine_tune(tuned_store, recipe, tmp_path / "run", root=moved, engine="keras", cache_limit=cache_limit)
    assert not (tmp_path / "run.training").exists()


def test_a_disk_that_fails_between_stages_is_one_line(tuned_store, tmp_path, monkeypatch):
    recipe = small_recipe(tmp_path / "r.yaml", stages=(Stage("head", epochs=1, batch_size=8),))

    def finish_stage(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(finetune.TrainingFolder, "finish_stage", finish_stage)
        with pytest.raises(FeatxError, match=r"run\.training: can't be read or written \(No space left on device\)"):
            fine_tune(tuned_store, recipe, tmp_path / "run", engine="keras")
    assert not (tmp_path / "run").exists()
    # The epoch is kept; a test above resumes from one.
    assert (tmp_path / "run.training" / "stage-0" / "epoch-000001").is_dir()
