"""A best cell at an edge of its grid, and cells that did not converge: both are said where the cells are shown."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import grouped_features, write_plain_store
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

import featx
from featx.cli import main
from featx.fit import MODELS, plan_cells
from featx.fit.cells import convergence_noted
from featx.fit.edges import format_edges
from featx.fit.models import Model
from featx.results import read_repeats

MOST = {"n_neighbors": 40, "max_features": 300}


def edges_of(model, grid, best, discretize="none"):
    cells = plan_cells(model, grid, discretize)
    chosen = next(n for n, (_, params) in enumerate(cells) if params == {**params, **best})
    return format_edges(model, cells, chosen, MOST)


@pytest.mark.parametrize(
    ("model", "grid", "best", "expected"),
    [
        ("svm", {"C": (0.001, 0.01, 10.0)}, {"C": 0.01}, []),
        ("svm", {"C": (1.0, 0.001, 10.0)}, {"C": 10.0, "kernel": "rbf"}, ["C=10 is the largest tried: try 100, 1000"]),
        ("svm", {"C": (0.001, 0.01)}, {"C": 0.001}, ["C=0.001 is the smallest tried: try 0.0001, 1e-05"]),
        ("svm", {"C": (1, 3, 10.0)}, {"C": 1}, ["C=1 is the smallest tried: try 0.333333, 0.111111"]),
        ("svm", {"C": (10.0,)}, {"C": 10.0}, []),
        # The linear kernel's values end at 10 by default.
        ("svm", {}, {"C": 10.0, "kernel": "linear"}, ["C=10 is the largest tried: try 100, 1000"]),
        ("svm", {}, {"C": 10.0, "kernel": "rbf"}, []),
        ("svm", {}, {"C": 1000.0, "kernel": "rbf"}, ["C=1000 is the largest tried: try 10000, 100000"]),
        ("svm-large", {"C": (0.1, 1.0)}, {"C": 1.0}, ["C=1 is the largest tried: try 10, 100"]),
        # A word is no number.
        ("svm", {"C": (1.0,), "gamma": ("scale", 1e-4)}, {"gamma": 1e-4}, []),
        (
            *("svm", {"C": (1.0,), "gamma": ("scale", 1e-5, 1e-4)}, {"gamma": 1e-4}),
            ["gamma=0.0001 is the largest tried: try 0.001, 0.01"],
        ),
        ("svm", {"C": (1.0,), "gamma": ("scale", 1e-5, 1e-4)}, {"gamma": "scale"}, []),
        # More trees cost time and are never worse; 1 row a leaf, 1 neighbour and all features are the last there are.
        ("rf", {"n_estimators": (10, 50)}, {"n_estimators": 50}, []),
        ("rf", {"min_samples_leaf": (1, 2, 7)}, {"min_samples_leaf": 1}, []),
        (
            "rf",
            {"min_samples_leaf": (2, 7)},
            {"min_samples_leaf": 2},
            ["min_samples_leaf=2 is the smallest tried: try 1"],
        ),
        (
            *("rf", {"min_samples_leaf": (2, 7, 20)}, {"min_samples_leaf": 20}),
            ["min_samples_leaf=20 is the largest tried: try 57, 163"],
        ),
        ("rf", {"max_features": (0.1, 0.5)}, {"max_features": 0.5}, ["max_features=0.5 is the largest tried: try 1"]),
        ("rf", {"max_features": (0.1, 1.0)}, {"max_features": 1.0}, []),
        ("rf", {"max_features": ("sqrt", 0.5)}, {"max_features": 0.5}, []),
        # Counts and shares are two kinds.
        (
            "rf",
            {"max_features": (0.5, 30, 100)},
            {"max_features": 100},
            ["max_features=100 is the largest tried: try 300"],
        ),
        ("rf", {"max_features": (0.5, 100)}, {"max_features": 100}, []),
        ("knn", {}, {"n_neighbors": 1}, []),
        ("knn", {}, {"n_neighbors": 15}, ["n_neighbors=15 is the largest tried: try 40"]),
        ("lda", {"shrinkage": (0.0, 0.1)}, {"shrinkage": 0.0}, []),
        ("lda", {"shrinkage": (0.0, 0.1)}, {"shrinkage": 0.1}, ["shrinkage=0.1 is the largest tried: try 0.2, 0.3"]),
        (
            *("rf", {"min_samples_leaf": (2, 7), "max_depth": (3, 9)}, {"min_samples_leaf": 7, "max_depth": 9}),
            ["min_samples_leaf=7 is the largest tried: try 24, 86", "max_depth=9 is the largest tried: try 27, 81"],
        ),
    ],
)
def test_the_next_values_go_on_as_the_last_two_do(model, grid, best, expected):
    assert edges_of(model, grid, best) == expected
    assert edges_of(model, grid, best, "both") == expected


@pytest.mark.parametrize(("scores", "is_edge"), [((0.9, 0.8, 0.9), True), ((0.9, 0.9, 0.8), False)])
def test_what_is_no_better_than_the_value_before_is_no_edge(scores, is_edge):
    cells = plan_cells("linear-svm", {"C": (0.1, 1.0, 10.0)}, "none")
    expected = ["C=0.1 is the smallest tried: try 0.01, 0.001"] if is_edge else []
    assert format_edges("linear-svm", cells, 0, {}, scores=scores) == expected


def test_by_default_the_rbf_kernel_has_c_to_1000_and_the_linear_one_to_10():
    values = {kernel: [] for kernel in ("linear", "rbf")}
    for _, params in plan_cells("svm", {}, "none"):
        values[params["kernel"]].append(params["C"])
    assert values == {"linear": [0.001, 0.01, 0.1, 1, 10], "rbf": [0.001, 0.01, 0.1, 1, 10, 100, 1000]}
    asked = plan_cells("svm", {"kernel": ["linear"], "C": [100.0, 1000.0]}, "none")
    assert [params["C"] for _, params in asked] == [100, 1000]
    # What stands for it where memory is short fits on the features themselves: each C costs.
    large = plan_cells("svm-large", {"C": MODELS["svm"].grid["C"]}, "none")
    assert max(params["C"] for _, params in large) == 10


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    """Classes that only a wide RBF parts: far and near of one place."""
    folder = tmp_path_factory.mktemp("edges")
    labels, splits = ["far", "near"] * 60, ["train", "train", "validation", "validation", "test", "test"] * 20
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 8))
    X *= (np.where(np.array(labels) == "far", 1.25, 0.9) / np.linalg.norm(X, axis=1))[:, None]
    features = {"fc1": X, "fc2": grouped_features(labels, 5)}
    return write_plain_store(folder / "s.h5", features, labels, splits=splits)


def test_a_choice_among_runs_tells_whose_edge_it_is(store_path, tmp_path):
    options = ("--layers", "fc1", "--kernel", "rbf", "--gamma", "0.05", "--repeats", "3", "--cv", "2")
    fit("svm", store_path, tmp_path / "narrow", *options, "--C", "0.0001,0.001,3")
    fit("svm", store_path, tmp_path / "wide", *options, "--C", "0.001,3000,3001")
    run = featx.choose_among([tmp_path / "narrow", tmp_path / "wide"], tmp_path / "chosen")
    assert "narrow: in 3 of 3 random splits C=3 is the largest tried: try 9000, 2.7e+07" in run.notes


def fit(model, store, output, *options):
    arguments = ["fit", model, str(store), "-o", str(output), *options]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_an_edge_is_in_the_table_the_record_and_the_report(store_path, tmp_path):
    options = ("--layers", "fc1", "--kernel", "rbf", "--C", "0.0001,0.001,3", "--gamma", "0.05")
    said = fit("svm", store_path, tmp_path / "svm", *options)
    note = "C=3 is the largest tried: try 9000, 2.7e+07"
    assert note in said
    cells = json.loads((tmp_path / "svm/run.json").read_text())["cells"]
    assert [cell["note"] for cell in cells] == [None, None, note]
    assert pd.read_csv(tmp_path / "svm/cells.csv")["note"].fillna("").tolist() == ["", "", note]
    assert featx.read_run(tmp_path / "svm").best.note == note
    compared = CliRunner().invoke(main, ["compare", str(tmp_path / "svm"), "--cells"])
    assert note in compared.output
    done = CliRunner().invoke(main, ["report", str(tmp_path / "svm"), "-o", str(tmp_path / "r.html")])
    assert done.exit_code == 0, done.output
    assert f'<span class="note">{note}</span>' in (tmp_path / "r.html").read_text()


def test_random_splits_say_which_edge_most_of_them_chose(store_path, tmp_path):
    options = ("--layers", "fc1", "--kernel", "rbf", "--C", "0.0001,0.001,3", "--gamma", "0.05")
    said = fit("svm", store_path, tmp_path / "run", *options, "--repeats", "3", "--cv", "2")
    note = "in 3 of 3 random splits C=3 is the largest tried: try 9000, 2.7e+07"
    assert note in said
    assert note in read_repeats(tmp_path / "run").notes


@pytest.fixture
def few_steps(monkeypatch):
    """Logistic regression that ends after two steps but where C is tiny."""

    def build(params, *, seed, class_weight):
        return LogisticRegression(**params, max_iter=2 if params["C"] > 1e-6 else 100)

    monkeypatch.setitem(MODELS, "logreg", Model({"C": (1e-9, 1.0)}, build))


def test_a_cell_that_does_not_converge_says_so(store_path, tmp_path, few_steps):
    said = fit("logreg", store_path, tmp_path / "run", "--layers", "fc2", "--C", "0.5,1e-9,1", "--each-layer")
    run = featx.read_run(tmp_path / "run")
    assert [cell.note for cell in run.cells] == ["did not converge", None, "did not converge"]
    assert said.count("did not converge") == 5
    assert "the chosen cell did not converge when it was fitted on train and validation rows together" in run.notes
    assert {"fc2, alone: did not converge", "fc2, cumulative: did not converge"} <= set(run.notes)
    table = pd.read_csv(tmp_path / "run/cells.csv")
    assert table["note"].fillna("").tolist() == ["did not converge", "", "did not converge"]
    fit("logreg", store_path, tmp_path / "cv", "--layers", "fc2", "--C", "0.5,1e-9", "--cv", "3")
    notes = [cell.note for cell in featx.read_run(tmp_path / "cv").cells]
    assert notes == ["did not converge in 3 of 3 folds", None]


def test_random_splits_that_do_not_converge(store_path, tmp_path, few_steps):
    options = ("--layers", "fc2", "--C", "1", "--repeats", "2")
    said = fit("logreg", store_path, tmp_path / "run", *options)
    assert "in 2 of 2 random splits the chosen cell did not converge" in said
    run = read_repeats(tmp_path / "run")
    assert [repeat.note for repeat in run.repeats] == ["did not converge"] * 2
    assert pd.read_csv(tmp_path / "run/repeats.csv")["note"].tolist() == ["did not converge"] * 2


def test_other_warnings_go_on_their_way():
    with pytest.warns(UserWarning, match="collinear"), convergence_noted() as noted:
        warnings.warn("collinear", UserWarning, stacklevel=1)
        warnings.warn("no luck", ConvergenceWarning, stacklevel=1)
    assert noted == ["did not converge"]
