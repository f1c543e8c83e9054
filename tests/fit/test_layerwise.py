"""Figures by layer are those of plain scikit-learn pipelines on the layers' columns."""

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx import FeatxError, TernaryDiscretizer
from featx.cli import main
from featx.fit.estimators import SharedGram
from featx.fit.layerwise import LayerAblations, ablate_layers
from featx.results import read_run
from featx.store import Rows

SEED = 3
# The last layer holds nothing but constants.
WIDTHS = {"first": 12, "second": 30, "third": 40, "dead": 5}
LAYERS = tuple(WIDTHS)
EVERYTHING = LayerAblations(each_layer=True, leave_one_layer_out=True, importance=4)
FIGURES = ["alone", "cumulative", "without", "importance", "importance_deviation"]


def make_rows(weighted=False):
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 180)
    X = rng.gamma(0.6, 1.0, (180, sum(WIDTHS.values()))).astype(np.float32)
    X[:, :6] += (y == "a")[:, None] * 0.8
    X[:, 20:25] += (y == "b")[:, None] * 2.0
    X[:, 45:] *= 3.0
    X[:, -WIDTHS["dead"] :] = 2.5
    split = np.repeat(["train", "validation", "test"], 60).astype(object)
    weights = np.round(rng.random(180) * 3) if weighted else None
    return Rows(X=X, y=y.astype(object), split=split, paths=np.arange(180).astype(str).astype(object), weights=weights)


def folds_of(rows, n_folds):
    if n_folds == 1:
        return [(rows.of("train"), rows.of("validation"))]
    known = rows.of("train", "validation")
    pairs = StratifiedKFold(n_folds, shuffle=True, random_state=SEED).split(known, rows.y[known].astype(str))
    return [(known[fit], known[score]) for fit, score in pairs]


CLASSIFIERS = {"svm": SVC, "rf": RandomForestClassifier, "knn": KNeighborsClassifier, "logreg": LogisticRegression}


def plain(model, discretize, params, class_weight):
    options = dict(params)
    if model != "knn":
        options["class_weight"] = class_weight
    if model == "rf":
        options["random_state"] = SEED
    steps = [TernaryDiscretizer()] if discretize == "ternary" else [] if model == "rf" else [StandardScaler()]
    return make_pipeline(*steps, CLASSIFIERS[model](**options))


def columns(*layers):
    return np.flatnonzero(np.repeat([layer in layers for layer in LAYERS], list(WIDTHS.values())))


def plain_figures(make, rows, folds, n_shuffles):
    """Compute every figure the long way."""
    y, weights = rows.y.astype(str), rows.weights
    # Rows of weight 0 are as if they were not there.
    folds = [(known, scored if weights is None else scored[weights[scored] > 0]) for known, scored in folds]

    def fit(rows_to_fit, chosen):
        pipeline = make()
        rows_to_fit = rows_to_fit if weights is None else rows_to_fit[weights[rows_to_fit] > 0]
        options = {} if weights is None else {f"{pipeline.steps[-1][0]}__sample_weight": weights[rows_to_fit]}
        return pipeline.fit(rows.X[np.ix_(rows_to_fit, chosen)], y[rows_to_fit], **options)

    def accuracy(fitted, X, scored):
        return fitted.score(X, y[scored], None if weights is None else weights[scored])

    def mean(*layers):
        chosen = columns(*layers)
        return np.mean(
            [accuracy(fit(known, chosen), rows.X[np.ix_(scored, chosen)], scored) for known, scored in folds]
        )

    found = []
    for place, layer in enumerate(LAYERS):
        drops = []
        for number, (known, scored) in enumerate(folds):
            fitted = fit(known, columns(*LAYERS))
            rng = np.random.default_rng([SEED, number])
            for _ in range(n_shuffles):
                X = rows.X[scored].copy()
                X[:, columns(layer)] = X[np.ix_(rng.permutation(len(scored)), columns(layer))]
                drops.append(accuracy(fitted, rows.X[scored], scored) - accuracy(fitted, X, scored))
        found.append(
            {
                "alone": mean(layer),
                "cumulative": mean(*LAYERS[: place + 1]),
                "without": mean(*(other for other in LAYERS if other != layer)),
                "importance": np.mean(drops),
                "importance_deviation": np.std(drops),
            }
        )
    return pd.DataFrame(found)


CELLS = [
    ("svm", "none", {"kernel": "rbf", "C": 3.0, "gamma": "scale"}),
    ("svm", "ternary", {"kernel": "rbf", "C": 3.0, "gamma": 0.01}),
    ("svm", "ternary", {"kernel": "linear", "C": 0.05}),
    ("svm", "none", {"kernel": "linear", "C": 0.05}),
    ("rf", "none", {"n_estimators": 12, "min_samples_leaf": 2, "max_features": "sqrt"}),
    ("rf", "ternary", {"n_estimators": 7, "min_samples_leaf": 1, "max_features": 0.5}),
    ("logreg", "none", {"C": 0.01}),
]
CASES = [
    *((*cell, *case) for cell, case in zip(CELLS[:4], ((False, 1), (True, 2), (False, 2), (True, 1)), strict=True)),
    (*CELLS[4], False, 2),
    (*CELLS[5], True, 1),
    (*CELLS[6], True, 1),
    ("knn", "none", {"n_neighbors": 5}, False, 1),
]


@pytest.mark.parametrize(("model", "discretize", "params", "weighted", "n_folds"), CASES)
def test_every_figure_is_that_of_a_plain_pipeline(model, discretize, params, weighted, n_folds):
    rows = make_rows(weighted)
    class_weight = "balanced" if weighted else None
    folds = folds_of(rows, n_folds)
    options = {"seed": SEED, "class_weight": class_weight}
    found, notes = ablate_layers(model, (discretize, params), rows, folds, WIDTHS, EVERYTHING, **options)
    expected = plain_figures(lambda: plain(model, discretize, params, class_weight), rows, folds, 4)
    table = pd.DataFrame(list(found))
    assert table["layer"].tolist() == list(LAYERS)
    assert table["n_features"].tolist() == list(WIDTHS.values())
    np.testing.assert_allclose(table[FIGURES].to_numpy(float), expected[FIGURES].to_numpy(float), atol=1e-12)
    assert notes == []
    assert table["alone"].nunique() > 2
    assert table["importance"].nunique() > 2
    assert table.set_index("layer").loc["dead", ["importance", "importance_deviation"]].tolist() == [0, 0]


def test_layers_whose_gram_matrices_do_not_fit_together_are_taken_one_set_at_a_time(monkeypatch):
    rows = make_rows()
    arguments = ("svm", ("none", {"kernel": "rbf", "C": 3.0, "gamma": "scale"}), rows, folds_of(rows, 2))
    expected = ablate_layers(*arguments, WIDTHS, EVERYTHING, seed=SEED)
    needed = SharedGram(rows.X).predict_memory(60, 60, n_folds=3)
    memory = psutil.virtual_memory()._replace(available=needed / 0.8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.delattr("featx.fit.estimators.gram.SharedGram.layer_folds")
    assert ablate_layers(*arguments, WIDTHS, EVERYTHING, seed=SEED) == expected


def test_only_what_is_asked_for_is_there():
    rows = make_rows()
    arguments = ("rf", ("none", {"n_estimators": 3}), rows, folds_of(rows, 1), WIDTHS)
    names = {
        LayerAblations(each_layer=True): ["alone", "cumulative"],
        LayerAblations(leave_one_layer_out=True): ["without"],
        LayerAblations(importance=1): ["importance", "importance_deviation"],
    }
    for questions, expected in names.items():
        found, _ = ablate_layers(*arguments, questions)
        assert [list(figures) for figures in found] == [["layer", "n_features", *expected]] * len(LAYERS)
    assert ablate_layers(*arguments, LayerAblations()) == ((), [])


def test_a_fit_that_fails_leaves_a_gap_and_a_note():
    rows = make_rows()
    # Discriminant analysis without shrinkage has nothing to go by where all features are constant.
    cell = ("none", {"shrinkage": "none"})
    found, notes = ablate_layers("lda", cell, rows, folds_of(rows, 2), WIDTHS, LayerAblations(each_layer=True))
    assert [figures["alone"] is None for figures in found] == [False, False, False, True]
    assert not any(figures["cumulative"] is None for figures in found)
    assert len(notes) == 1
    assert notes[0].startswith("dead, alone: IndexError")


@pytest.fixture(scope="module")
def asked(small_store, tmp_path_factory):
    """A run that was asked everything."""
    folder = tmp_path_factory.mktemp("asked") / "run"
    options = {"each_layer": True, "leave_one_layer_out": True, "importance": 2}
    return folder, featx.fit_grid(small_store, "svm", folder, grid={"C": (0.1, 1.0)}, layers="block1,block2", **options)


def test_a_run_holds_the_figures_and_the_last_cumulative_one_is_the_cell_s(asked):
    folder, run = asked
    assert [figures["layer"] for figures in run.layers] == run.store["layers"]
    assert run.layers[-1]["cumulative"] == run.best.validation_accuracy
    assert read_run(folder) == run
    table = pd.read_csv(folder / "layers.csv")
    assert list(table.columns) == ["layer", "n_features", *FIGURES]
    assert table.to_dict("records") == list(run.layers)


def test_test_rows_play_no_part(small_store, asked, tmp_path):
    spoiled = tmp_path / "spoiled.h5"
    shutil.copyfile(small_store, spoiled)
    with h5py.File(spoiled, "a") as file:
        in_test = np.flatnonzero(file["images/split"].asstr()[:] == "test")
        for dataset in file["features"].values():
            dataset[in_test] = 1e6
    options = {"each_layer": True, "leave_one_layer_out": True, "importance": 2}
    grid = {"C": (0.1, 1.0)}
    run = featx.fit_grid(spoiled, "svm", tmp_path / "run", grid=grid, layers="block1,block2", **options)
    assert run.layers == asked[1].layers


def test_questions_without_rows_or_layers_to_answer_them_on(small_store, tmp_path):
    store = tmp_path / "no_validation.h5"
    shutil.copyfile(small_store, store)
    with h5py.File(store, "a") as file:
        split = file["images/split"].asstr()[:]
        file["images/split"][...] = np.where(split == "validation", "train", split).astype(object)
    for questions in ({"each_layer": True}, {"leave_one_layer_out": True}, {"importance": 5}):
        with pytest.raises(FeatxError, match=r"validation rows, and there are none\. Give `cv`"):
            featx.fit_grid(store, "rf", tmp_path / "run", **questions)
    # They are accuracies, whatever the cell was chosen by.
    options = {"cv": 2, "layers": "block1", "choose_by": "log_loss"}
    run = featx.fit_grid(store, "rf", tmp_path / "cv", **options, each_layer=True)
    assert run.best.validation_score != run.best.validation_accuracy
    assert run.layers[-1]["cumulative"] == pytest.approx(run.best.validation_accuracy)
    with pytest.raises(FeatxError, match="block1_conv1 is the only layer"):
        featx.fit_grid(small_store, "rf", tmp_path / "run", layers="block1_conv1", leave_one_layer_out=True)
    with pytest.raises(FeatxError, match="importance: expected a whole number from 0"):
        featx.fit_grid(small_store, "rf", tmp_path / "run", importance=-1)


def test_the_commands_take_the_options(small_store, tmp_path):
    options = ("--layers", "block1", "--each-layer", "--leave-one-layer-out", "--importance", "--shuffles", "3")
    done = CliRunner().invoke(main, ["fit", "rf", str(small_store), "-o", str(tmp_path / "rf"), *options])
    assert done.exit_code == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| block1_conv")]
    run = read_run(tmp_path / "rf")
    for line, figures in zip(lines, run.layers, strict=True):
        expected = [figures["layer"], "64", *(f"{figures[name]:.4f}" for name in FIGURES)]
        assert [part.strip() for part in line.strip("|").split("|")] == expected
    assert "layers.csv" in done.stdout
    options = ("--layers", "block1", "--importance", "--json")
    done = CliRunner().invoke(main, ["fit", "knn", str(small_store), "-o", str(tmp_path / "knn"), *options])
    assert json.loads(done.stdout)["layers"] == list(read_run(tmp_path / "knn").layers)
