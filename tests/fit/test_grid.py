"""Grids: chosen on validation rows, scored once on test rows, nothing learned from them."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import grouped_features, write_plain_store
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx import FeatxError, TernaryDiscretizer
from featx.cli import main
from featx.fit import cells as fitting
from featx.images import sort_labels
from featx.results import load_model, read_run
from featx.system import Shard

LAYERS = ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2", "block5_conv3")


def write_noisy_store(path, splits=("train", "train", "validation", "test"), **options):
    """Write a store of 120 images, 8 features per layer, and labels of which a third are drawn at random."""
    rng = np.random.default_rng(0)
    labels = np.array(["ash", "birch", "cedar"])[np.arange(120) % 3]
    features = grouped_features(labels.tolist(), 8 * len(LAYERS)).reshape(120, len(LAYERS), 8)
    labels = np.where(rng.random(120) < 0.33, rng.permutation(labels), labels)
    layers = {layer: features[:, number] for number, layer in enumerate(LAYERS)}
    return write_plain_store(path, layers, labels.tolist(), splits=rng.permutation([*splits] * 30).tolist(), **options)


@pytest.fixture(scope="module")
def noisy_store(tmp_path_factory):
    """Three classes that overlap."""
    return write_noisy_store(tmp_path_factory.mktemp("noisy") / "s.h5")


def plain(model, discretize, params):
    if model == "rf":
        classifier = RandomForestClassifier(**params, random_state=0)
        return make_pipeline(TernaryDiscretizer(), classifier) if discretize == "ternary" else classifier
    return make_pipeline(TernaryDiscretizer() if discretize == "ternary" else StandardScaler(), SVC(**params))


def known_rows(path):
    """Return features and labels of all rows but the test rows, in the store's order."""
    with featx.open(path) as store:
        is_known = (store.images["split"] != "test").to_numpy()
        return store.matrix()[is_known], store.images["label"].to_numpy()[is_known]


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        ("rf", {"n_estimators": (1, 20), "min_samples_leaf": (1, 15)}),
        ("svm", {"kernel": ("linear", "rbf"), "C": (0.01, 1.0), "gamma": ("scale", 0.001)}),
    ],
)
def test_cells_choice_and_score_are_those_of_plain_scikit_learn(noisy_store, tmp_path, model, grid):
    run = featx.fit_grid(noisy_store, model, tmp_path / "run", grid=grid, discretize="both")
    with featx.open(noisy_store) as store:
        X = {split: store.matrix(split=split) for split in ("train", "validation", "test")}
        y = {split: rows["label"].to_numpy() for split, rows in store.images.groupby("split")}
    assert len(run.cells) == (8 if model == "rf" else 12)
    for cell in run.cells:
        fitted = plain(model, cell.discretize, cell.params).fit(X["train"], y["train"])
        assert cell.validation_accuracy == fitted.score(X["validation"], y["validation"])
    accuracies = [cell.validation_accuracy for cell in run.cells]
    assert len(set(accuracies)) > 1
    assert run.chosen == accuracies.index(max(accuracies))
    best = plain(model, run.best.discretize, run.best.params)
    best.fit(*known_rows(noisy_store))
    assert run.test["accuracy"] == best.score(X["test"], y["test"])
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert predictions["predicted"].tolist() == best.predict(X["test"]).tolist()


def test_cross_validation_is_that_of_plain_scikit_learn(noisy_store, tmp_path):
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    run = featx.fit_grid(noisy_store, "svm", tmp_path / "run", grid={"kernel": ("linear",), "C": (0.01, 1.0)}, cv=3)
    for cell in run.cells:
        scores = cross_val_score(
            plain("svm", "none", cell.params),
            *known_rows(noisy_store),
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
        )
        assert cell.validation_accuracy == pytest.approx(scores.mean())
        assert cell.validation_deviation == pytest.approx(scores.std())


@pytest.mark.parametrize("choose_by", ["roc_auc", "log_loss"])
def test_the_best_cell_is_that_of_the_score_asked_for(noisy_store, tmp_path, choose_by):
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    grid = {"n_estimators": (1, 3, 20), "min_samples_leaf": (1, 15)}
    run = featx.fit_grid(noisy_store, "rf", tmp_path / "run", grid=grid, cv=3, choose_by=choose_by)
    scoring = {"macro_f1": "f1_macro", "roc_auc": "roc_auc_ovr", "log_loss": "neg_log_loss"}.get(choose_by, choose_by)
    X, y = known_rows(noisy_store)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    expected, accuracies = (
        [cross_val_score(plain("rf", "none", cell.params), X, y, cv=folds, scoring=name).mean() for cell in run.cells]
        for name in (scoring, "accuracy")
    )
    sign = -1 if choose_by == "log_loss" else 1
    assert [sign * cell.validation_score for cell in run.cells] == pytest.approx(expected)
    assert [cell.validation_accuracy for cell in run.cells] == pytest.approx(accuracies)
    assert run.chosen == int(np.argmax(expected))
    assert run.protocol["choose_by"] == choose_by
    assert read_run(tmp_path / "run") == run
    table = pd.read_csv(tmp_path / "run" / "cells.csv")
    assert table["validation"].tolist() == pytest.approx(accuracies)
    assert (sign * table[f"validation {choose_by}"]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("choose_by", ["accuracy", "roc_auc", "log_loss"])
def test_the_first_of_equal_cells_is_chosen(noisy_store, tmp_path, choose_by):
    # No tree of so few rows is that deep.
    grid = {"n_estimators": (5,), "max_depth": (1000, 999, 998)}
    run = featx.fit_grid(noisy_store, "rf", tmp_path / "run", grid=grid, choose_by=choose_by)
    assert len({cell.validation_score for cell in run.cells}) == 1
    assert run.chosen == 0


def test_a_score_that_a_fold_leaves_undefined_is_refused_before_a_fit(noisy_store, tmp_path):
    path = tmp_path / "changed.h5"
    path.write_bytes(noisy_store.read_bytes())
    with h5py.File(path, "a") as file:
        labels, splits = (file["images"][name].asstr()[:] for name in ("label", "split"))
        file["images/label"][...] = np.where((splits == "validation") & (labels == "ash"), "birch", labels).astype(
            object
        )
    with pytest.raises(FeatxError, match="choose_by: roc_auc is not defined: no row to score has the class 'ash'"):
        featx.fit_grid(path, "svm", tmp_path / "run", choose_by="roc_auc")
    with pytest.raises(FeatxError, match="choose_by: log_loss is not defined for GramSVC"):
        featx.fit_grid(path, "svm", tmp_path / "run", choose_by="log_loss")
    assert [file.name for file in tmp_path.iterdir()] == ["changed.h5"]


@pytest.mark.parametrize("choose_by", ["accuracy", "roc_auc"])
def test_test_rows_decide_nothing_but_the_score(noisy_store, tmp_path, choose_by):
    """With other features and labels in the test rows, everything but the test score stays as it was."""
    spoiled = tmp_path / "spoiled.h5"
    spoiled.write_bytes(noisy_store.read_bytes())
    with h5py.File(spoiled, "a") as file:
        in_test = np.flatnonzero(file["images/split"].asstr()[:] == "test")
        for dataset in file["features"].values():
            dataset[in_test] = 1e6
        file["images/label"][in_test] = file["images/label"][in_test][::-1]
    grid = {"kernel": ("linear", "rbf"), "C": (0.01, 1.0)}
    options = {"grid": grid, "discretize": "both", "choose_by": choose_by}
    runs = [featx.fit_grid(path, "svm", tmp_path / path.stem, **options) for path in (noisy_store, spoiled)]
    assert [cell.validation_score for cell in runs[0].cells] == [cell.validation_score for cell in runs[1].cells]
    assert runs[0].chosen == runs[1].chosen
    models = [load_model(tmp_path / path.stem) for path in (noisy_store, spoiled)]
    assert np.array_equal(models[0][-1].dual_coef_, models[1][-1].dual_coef_)
    assert np.array_equal(models[0][-1].support_vectors_, models[1][-1].support_vectors_)


def test_a_chosen_layer_set_is_all_that_is_seen(noisy_store, tmp_path):
    run = featx.fit_grid(noisy_store, "rf", tmp_path / "run", layers="block2,block5_conv3")
    assert run.store["layers"] == ["block2_conv1", "block2_conv2", "block5_conv3"]
    assert run.store["n_features"] == 24
    assert load_model(tmp_path / "run").n_features_in_ == 24
    with pytest.raises(FeatxError, match="no layer 'block5_conv1' in this store"):
        featx.fit_grid(noisy_store, "rf", tmp_path / "other", layers="block5")


def test_a_run_is_written_whole_and_read_again(noisy_store, tmp_path):
    run = featx.fit_grid(noisy_store, "rf", tmp_path / "results" / "run")
    folder = tmp_path / "results" / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv", "model.skops")
    }
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert read_run(folder) == run
    per_class = pd.read_csv(folder / "per_class.csv", index_col="class")
    assert list(per_class.columns) == ["precision", "recall", "f1", "support"]
    assert per_class["support"].sum() == run.protocol["n_test"] == 30
    confusion = pd.read_csv(folder / "confusion.csv", index_col="label")
    assert np.trace(confusion.to_numpy()) == round(run.test["accuracy"] * 30)
    majority = pd.read_csv(folder / "predictions.csv")["label"].value_counts(normalize=True)
    assert run.test["majority_class_rate"] in majority.to_list()


def test_a_run_tells_its_size_and_seconds_from_files_to_labels(noisy_store, tmp_path):
    run = featx.fit_grid(noisy_store, "lda", tmp_path / "run", layers="block1")
    # A mean, a deviation, and three coefficients a feature; three intercepts.
    assert run.n_parameters == 5 * 16 + 3
    silent = tmp_path / "silent.h5"
    silent.write_bytes(noisy_store.read_bytes())
    with h5py.File(silent, "a") as file:
        file.attrs["images_per_second"] = 0.5
    slow = featx.fit_grid(silent, "lda", tmp_path / "slow", layers="block1")
    assert 2000 < slow.predict_seconds < 2060
    assert run.predict_seconds is None


def test_an_output_that_exists_is_refused_or_replaced(noisy_store, tmp_path):
    featx.fit_grid(noisy_store, "rf", tmp_path / "run")
    with pytest.raises(FeatxError, match=r"run: exists\. .*`overwrite`"):
        featx.fit_grid(noisy_store, "svm", tmp_path / "run")
    assert read_run(tmp_path / "run").model == "rf"
    featx.fit_grid(noisy_store, "svm", tmp_path / "run", grid={"C": (1.0,)}, overwrite=True)
    assert read_run(tmp_path / "run").model == "svm"


@pytest.fixture
def relabelled(noisy_store, tmp_path):
    """Return a copy of the store with its labels or splits changed."""

    def change(**columns):
        path = tmp_path / "changed.h5"
        path.write_bytes(noisy_store.read_bytes())
        with h5py.File(path, "a") as file:
            for name, change_one in columns.items():
                old = file["images"][name].asstr()[:]
                del file["images"][name]
                file["images"][name] = np.array([change_one(value) for value in old], dtype="S20").astype(
                    h5py.string_dtype("utf-8", 20)
                )
        return path

    return change


def test_without_validation_rows_there_is_nothing_to_choose_on(relabelled, tmp_path):
    path = relabelled(split=lambda split: "train" if split == "validation" else split)
    with pytest.raises(FeatxError, match=r"4 cells to choose from and no validation rows\. Give `cv`"):
        featx.fit_grid(path, "svm", tmp_path / "run", grid={"C": (0.1, 1.0)})
    only = featx.fit_grid(path, "svm", tmp_path / "run", grid={"kernel": ("linear",), "C": (1.0,)})
    assert only.cells[0].validation_accuracy is None
    assert only.test["accuracy"] > 0
    chosen = featx.fit_grid(path, "svm", tmp_path / "cv", grid={"kernel": ("linear",), "C": (0.1, 1.0)}, cv=2)
    assert chosen.protocol["selection"] == "cv"


def test_one_class_only_is_refused(relabelled, tmp_path):
    with pytest.raises(FeatxError, match="one class only"):
        featx.fit_grid(relabelled(label=lambda label: "ash"), "rf", tmp_path / "run")


def test_no_test_rows_give_no_test_figures(relabelled, tmp_path):
    path = relabelled(split=lambda split: "train" if split == "test" else split)
    run = featx.fit_grid(path, "rf", tmp_path / "run")
    assert run.test is None
    assert run.predict_seconds is None
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == 0
    assert read_run(tmp_path / "run") == run


def test_more_folds_than_a_class_has_rows(noisy_store, tmp_path):
    with pytest.raises(FeatxError, match=r"cv: the class '\w+' has \d+ rows outside .* Give `cv` \d+, or leave"):
        featx.fit_grid(noisy_store, "rf", tmp_path / "run", cv=60)


def test_the_commands_print_every_cell(noisy_store, tmp_path):
    arguments = ("fit", "rf", str(noisy_store), "-o", str(tmp_path / "rf"), "--n-estimators", "5")
    done = CliRunner().invoke(main, [*arguments, "--min-samples-leaf", "2,7,20", "--discretize", "both"])
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line.startswith("| rf")]
    assert len(lines) == 6
    assert sum("*" in line for line in lines) == 1
    run = read_run(tmp_path / "rf")
    low, high = run.test["accuracy_interval"]
    assert f"test accuracy {run.test['accuracy']:.4f} [{low:.4f}, {high:.4f}] on 30 images" in done.stdout
    options = ("--kernel", "linear", "--C", "0.01,1", "--json")
    done = CliRunner().invoke(main, ["fit", "svm", str(noisy_store), "-o", str(tmp_path / "svm"), *options])
    assert json.loads(done.stdout)["model"] == "svm"


def test_a_grid_that_is_stopped_goes_on_from_its_last_finished_cell(noisy_store, tmp_path, monkeypatch):
    from featx.fit import grid as cell_scores
    from featx.fit.cells import score_cells

    asked = []

    def stopped_after(n_cells):
        def score_some(model, cells, *arguments, **options):
            asked.append(len(cells))
            for done, found in enumerate(score_cells(model, cells, *arguments, **options)):
                if done == n_cells:
                    raise KeyboardInterrupt
                yield found

        return score_some

    options = {"grid": {"n_estimators": (2, 4), "min_samples_leaf": (1, 2, 5)}, "discretize": "both", "cv": 2}
    expected = featx.fit_grid(noisy_store, "rf", tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(cell_scores, "score_cells", stopped_after(5))
        with pytest.raises(KeyboardInterrupt):
            featx.fit_grid(noisy_store, "rf", tmp_path / "run", **options)
        patch.setattr(cell_scores, "score_cells", stopped_after(10**9))
        run = featx.fit_grid(noisy_store, "rf", tmp_path / "run", **options)
        # Scores by which no cell was to be chosen are not taken for those that are.
        patch.setattr(cell_scores, "score_cells", stopped_after(5))
        with pytest.raises(KeyboardInterrupt):
            featx.fit_grid(noisy_store, "rf", tmp_path / "other", **options)
        patch.setattr(cell_scores, "score_cells", stopped_after(10**9))
        other = featx.fit_grid(noisy_store, "rf", tmp_path / "other", **options, choose_by="roc_auc")
    assert asked == [12, 7, 12, 12, 12, 12]
    assert all(cell.validation_score != cell.validation_accuracy for cell in other.cells)
    assert [cell.validation_accuracy for cell in run.cells] == [cell.validation_accuracy for cell in expected.cells]
    assert run.test == expected.test
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run", "whole"]


def test_a_cell_that_fails_is_reported_and_not_chosen(noisy_store, tmp_path, monkeypatch):
    plain = fitting.fit_estimator

    def failing(estimator, rows, known):
        if estimator[-1].n_neighbors == 7:
            raise ValueError("on purpose")
        return plain(estimator, rows, known)

    monkeypatch.setattr(fitting, "fit_estimator", failing)
    run = featx.fit_grid(noisy_store, "knn", tmp_path / "run", grid={"n_neighbors": (7, 3)})
    assert run.cells[0].validation_accuracy is None
    assert run.cells[0].error == "ValueError: on purpose"
    assert run.chosen == 1
    with pytest.raises(FeatxError, match="every cell failed; the first with ValueError"):
        featx.fit_grid(noisy_store, "knn", tmp_path / "none", grid={"n_neighbors": (7,)})


@pytest.mark.parametrize("model", ["linear-svm", "logreg", "knn", "lda"])
def test_other_models_are_chosen_scored_and_saved(noisy_store, tmp_path, model):
    run = featx.fit_grid(noisy_store, model, tmp_path / "run", layers="block1,block2")
    assert 0 < run.test["accuracy"] <= 1
    with featx.open(noisy_store) as store:
        X = store.matrix(["block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2"], split="test")
    predicted = pd.read_csv(tmp_path / "run" / "predictions.csv")["predicted"].tolist()
    assert load_model(tmp_path / "run").predict(X).tolist() == predicted


def test_classes_can_weigh_the_same(noisy_store, tmp_path):
    options = {"grid": {"kernel": ("linear",), "C": (0.0001,)}}
    plain_run = featx.fit_grid(noisy_store, "svm", tmp_path / "plain", **options)
    balanced = featx.fit_grid(noisy_store, "svm", tmp_path / "balanced", class_weight="balanced", **options)
    assert balanced.protocol["class_weight"] == "balanced"
    models = [load_model(tmp_path / name)[-1] for name in ("plain", "balanced")]
    assert not np.array_equal(models[0].dual_coef_, models[1].dual_coef_)
    assert plain_run.protocol["class_weight"] is None


@pytest.fixture(scope="module")
def weighted_store(tmp_path_factory):
    """Four classes of unequal sizes with awkward names, and rows that weigh 0, or count for several."""
    rng = np.random.default_rng(0)
    names = ["1"] * 60 + ['a, "b"'] * 30 + ["割れ Ω"] * 20 + ["02"] * 15
    features = grouped_features(names, 16) + rng.gamma(1.0, 0.5, (125, 16))
    splits = ["train", "test", "train", "validation", "test"] * 25
    columns = {"weight": rng.choice([0.0, 0.3, 1.0, 2.5], 125).tolist()}
    path = tmp_path_factory.mktemp("weighted") / "s.h5"
    return write_plain_store(path, {"block1_conv1": features}, names, splits=splits, columns=columns)


@pytest.mark.parametrize("model", ["rf", "logreg", "linear-svm", "svm"])
def test_figures_follow_from_the_written_answers_and_the_weights(weighted_store, tmp_path, model):
    options = {"class_weight": "balanced", "sample_weight": "weight", "discretize": "ternary"}
    # Forests and logistic regression so free that wrong answers have probabilities of 0, or near it.
    grid = {"rf": {"n_estimators": (3,), "min_samples_leaf": (1,)}, "logreg": {"C": (100.0,)}}.get(model, {"C": (0.1,)})
    test = featx.fit_grid(weighted_store, model, tmp_path / "run", grid=grid, **options).test
    answers = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype={"label": str, "predicted": str})
    with featx.open(weighted_store) as store:
        images = store.images.set_index("path").loc[answers["path"]]
    y, predicted, weight = answers["label"], answers["predicted"], images["weight"].to_numpy()
    assert y.tolist() == images["label"].tolist()
    classes = sort_labels(set(y))
    assert [name.split("_", 1)[1] for name in answers.columns[3:]] == classes
    scores = answers.iloc[:, 3:].to_numpy(float)
    areas = [metrics.roc_auc_score(y == name, scores[:, n], sample_weight=weight) for n, name in enumerate(classes)]
    told = np.clip(scores[np.arange(len(y)), [classes.index(name) for name in y]], np.finfo(float).eps, 1)
    loss = np.average(-np.log(told), weights=weight) if model in ("rf", "logreg") else None
    kept = weight > 0
    recalls = [np.average((predicted == name)[y == name], weights=weight[y == name]) for name in set(y[kept])]
    assert test["accuracy"] == pytest.approx(np.average(y == predicted, weights=weight))
    assert test["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert test["macro_f1"] == pytest.approx(
        metrics.f1_score(y[kept], predicted[kept], average="macro", sample_weight=weight[kept], zero_division=0)
    )
    assert test["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert test["log_loss"] == (loss if loss is None else pytest.approx(loss, rel=1e-5))
    assert test["majority_class_rate"] == pytest.approx(np.average(y == "1", weights=weight))
    counts = pd.read_csv(tmp_path / "run" / "confusion.csv", index_col=0, dtype={"label": str})
    assert np.array_equal(counts, metrics.confusion_matrix(y, predicted, labels=counts.index))


def assert_same_run(run, other):
    assert [replace(cell, seconds=0) for cell in run.cells] == [replace(cell, seconds=0) for cell in other.cells]
    assert (run.chosen, run.test, run.protocol, run.store) == (other.chosen, other.test, other.protocol, other.store)


@pytest.mark.parametrize(
    ("model", "options", "n_shards"),
    [
        ("rf", {"grid": {"n_estimators": (2, 4), "min_samples_leaf": (1, 2, 5)}, "discretize": "both", "cv": 2}, 2),
        ("svm", {"grid": {"kernel": ("linear", "rbf"), "C": (0.01, 1.0)}, "discretize": "both"}, 20),
        ("knn", {"cv": 3}, 2),
    ],
)
def test_shards_of_a_grid_give_the_run_of_one_process(noisy_store, tmp_path, monkeypatch, model, options, n_shards):
    from featx.fit import grid as cell_scores

    whole = featx.fit_grid(noisy_store, model, tmp_path / "whole", **options)
    shares = [
        featx.fit_share(noisy_store, model, tmp_path / "run.v2", shard=Shard(number, n_shards), **options)
        for number in range(1, n_shards + 1)
    ]
    n_scores = len(whole.cells) * options.get("cv", 1)
    assert sum(share.n_units for share in shares) == sum(share.n_scored for share in shares) == n_scores
    assert len(list(tmp_path.glob("run.v2.shard-*.cells.jsonl"))) == n_shards
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(cell_scores, "score_cells", lambda model, cells, *_, **__: asked.extend(cells) or iter(()))
        run = featx.fit_grid(noisy_store, model, tmp_path / "run.v2", **options)
    assert asked == []
    assert_same_run(run, whole)
    assert run.notes == whole.notes
    assert (tmp_path / "run.v2" / "predictions.csv").read_bytes() == (
        tmp_path / "whole" / "predictions.csv"
    ).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.v2", "whole"]


def test_forests_that_share_trees_are_in_one_shard(noisy_store, tmp_path):
    options = {"grid": {"n_estimators": (2, 4, 8), "min_samples_leaf": (1, 2)}}
    shares = [
        featx.fit_share(noisy_store, "rf", tmp_path / "run", shard=Shard(number, 3), **options) for number in (1, 2, 3)
    ]
    assert sorted(share.n_units for share in shares) == [0, 3, 3]


def test_what_shards_lack_is_scored_and_other_grids_are_not_taken_up(noisy_store, tmp_path):
    options = {"grid": {"n_estimators": (2, 4), "min_samples_leaf": (1, 2)}}
    whole = featx.fit_grid(noisy_store, "rf", tmp_path / "whole", **options)
    featx.fit_share(noisy_store, "rf", tmp_path / "run", shard=Shard(1, 2), **options)
    featx.fit_share(noisy_store, "rf", tmp_path / "run", shard=Shard(2, 2), **options, seed=1)
    run = featx.fit_grid(noisy_store, "rf", tmp_path / "run", **options)
    assert_same_run(run, whole)
    assert len(run.notes) == len(whole.notes) + 1
    assert any("run.shard-0002-of-0002.cells.jsonl: scores of another grid, store or version" in n for n in run.notes)
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["run.shard-0002-of-0002.cells.jsonl"]


def test_shards_on_the_command_line(noisy_store, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, ["fit", "rf", str(noisy_store), *map(str, arguments)])

    grid = ["--n-estimators", "2,3", "--min-samples-leaf", "2,5", "--each-layer"]
    assert "--shard: its scores are kept next to the output: give --output" in run(*grid, "--shard", "1/2").stderr
    done = run(*grid, "-o", tmp_path / "run", "--shard", "1/2")
    assert done.exit_code == 0, done.output
    assert "2 scores of shard 1/2, 2 of them made now" in done.stdout
    again = run(*grid, "-o", tmp_path / "run", "--shard", "1/2", "--json")
    assert json.loads(again.stdout)["n_scored"] == 0
    assert run(*grid, "-o", tmp_path / "run").exit_code == 0
    assert "exists" in run(*grid, "-o", tmp_path / "run", "--shard", "2/2").stderr
