"""What people give from Python: NumPy's numbers, numbers out of range, one path or name where several are expected."""

import json

import numpy as np
import pandas as pd
import pytest
from plain_stores import grouped_features, write_plain_store
from samples import SMALL, make_tree

import featx
from featx import FeatxError
from featx.images import list_sources
from featx.networks.recipes import read_recipe
from featx.results import cells_of_runs


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    labels = [*"ab"] * 30
    splits = ["train"] * 30 + ["validation"] * 14 + ["test"] * 16
    features = {"block1_conv1": grouped_features(labels, seed=1), "fc1": grouped_features(labels, seed=2)}
    path = tmp_path_factory.mktemp("calls") / "s.h5"
    return write_plain_store(path, features, labels, splits=splits, columns={"type": [*"xxyy"] * 15})


@pytest.mark.parametrize(
    ("model", "grid", "plain"),
    [
        ("knn", {"n_neighbors": np.arange(1, 4)}, {"n_neighbors": [1, 2, 3]}),
        ("knn", {"n_neighbors": pd.Series([1, 2])}, {"n_neighbors": [1, 2]}),
        ("lda", {"shrinkage": np.linspace(0.5, 1, 2)}, {"shrinkage": [0.5, 1.0]}),
        ("linear-svm", {"C": (np.float32(0.5), np.int64(2))}, {"C": [0.5, 2]}),
        ("rf", {"n_estimators": [np.int64(3)], "max_features": [np.str_("sqrt"), np.float16(0.5)]}, None),
    ],
)
def test_numpy_numbers_in_a_grid_are_numbers(store, tmp_path, model, grid, plain):
    run = featx.fit_grid(store, model, tmp_path / "run", grid=grid, seed=np.int64(3), cv=np.int8(2))
    plain = plain or {"n_estimators": [3], "max_features": ["sqrt", 0.5]}
    other = featx.fit_grid(store, model, tmp_path / "plain", grid=plain, seed=3, cv=2)
    assert [cell.params for cell in run.cells] == [cell.params for cell in other.cells]
    assert (run.test, run.protocol) == (other.test, other.protocol)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["protocol"]["seed"] == 3


def test_numpy_numbers_of_random_splits_are_numbers(store, tmp_path):
    grid = {"n_neighbors": np.array([1, 3])}
    numbers = {"n_repeats": np.int64(2), "test_share": np.float64(0.25), "cv": np.int64(3), "seed": np.uint32(4)}
    run = featx.fit_repeats(store, "knn", tmp_path / "run", grid=grid, **numbers)
    plain = {"n_repeats": 2, "test_share": 0.25, "cv": 3, "seed": 4}
    other = featx.fit_repeats(store, "knn", tmp_path / "plain", grid={"n_neighbors": [1, 3]}, **plain)
    assert (run.protocol, run.mean) == (other.protocol, other.mean)
    assert json.loads((tmp_path / "run" / "repeats.json").read_text())["protocol"]["test_share"] == 0.25
    few = featx.fit_repeats(store, "knn", tmp_path / "few", grid=grid, n_repeats=1, train_per_class=np.int64(9), cv=3)
    assert few.protocol["train_per_class"] == 9


def test_numpy_numbers_of_an_extraction_are_numbers(tmp_path):
    manifest = featx.read_source(make_tree(tmp_path / "images", {"ash": 2, "birch": 2}))
    numbers = {name: np.int64(value) if isinstance(value, int) else value for name, value in SMALL.items()}
    done = featx.extract_features(manifest, tmp_path / "s.h5", layers="block1_conv1", **numbers)
    assert done.n_images == 4


def test_numpy_numbers_in_changes_are_numbers():
    recipe = read_recipe("mame-i", changes={"head.epochs": np.int64(5), "learning_rate": np.float64(0.5)})
    assert (recipe.stages[0].epochs, recipe.stages[0].learning_rate) == (5, 0.5)


@pytest.mark.parametrize(
    ("model", "grid", "message"),
    [
        ("logreg", {"C": [0, 1]}, "C: expected a number over 0, found 0"),
        ("svm", {"C": np.array([1.0, -1.0])}, r"C: expected a number over 0, found -1\.0"),
        ("svm", {"C": [float("nan")]}, "C: expected a number over 0, found nan"),
        ("svm", {"gamma": ["wide"]}, "gamma: expected a number over 0, scale or auto, found 'wide'"),
        ("rf", {"n_estimators": [2.5]}, r"n_estimators: expected a whole number from 1, found 2\.5"),
        ("rf", {"max_features": [-1.0]}, r"max_features: expected a number over 0 to 1, a count, sqrt or log2, "),
        ("knn", {"n_neighbors": [0]}, "n_neighbors: expected a whole number from 1, found 0"),
        ("knn", {"n_neighbors": [True]}, "n_neighbors: expected a whole number from 1, found True"),
        ("knn", {"n_neighbors": np.array(3)}, "n_neighbors: expected a list of values, found 3"),
        (
            "knn",
            {"n_neighbors": (3, 31)},
            "n_neighbors: expected 30 or less, found 31: some cells are fitted on 30 ",
        ),
    ],
)
def test_numbers_that_no_cell_can_be_fitted_with_are_found_before_any_is(store, tmp_path, model, grid, message):
    with pytest.raises(FeatxError, match=message):
        featx.fit_grid(store, model, tmp_path / "run", grid=grid)
    assert list(tmp_path.iterdir()) == []


def test_neighbours_are_counted_in_folds_and_random_splits(store, tmp_path):
    grid = {"n_neighbors": (1, 23)}
    with pytest.raises(FeatxError, match="n_neighbors: expected 22 or less, found 23"):
        featx.fit_grid(store, "knn", tmp_path / "run", grid=grid, cv=2)
    with pytest.raises(FeatxError, match="n_neighbors: expected 15 or less, found 23"):
        featx.fit_repeats(store, "knn", tmp_path / "run", grid=grid, cv=2, n_repeats=1, test_share=0.5)
    assert list(tmp_path.iterdir()) == []


def test_depth_and_features_without_a_limit_are_scikit_learn_s(store, tmp_path):
    grid = {"n_estimators": [2], "max_depth": (None, 2), "max_features": (None,)}
    assert len(featx.fit_grid(store, "rf", tmp_path / "run", grid=grid).cells) == 2


def test_one_column_to_stratify_by_is_not_its_letters(store, tmp_path):
    options = {"n_repeats": 1, "grid": {"n_neighbors": (1,)}}
    run = featx.fit_repeats(store, "knn", tmp_path / "run", stratify="type", **options)
    assert run.protocol["stratify"] == ["type"]
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(80)], "label": [*"ab"] * 40, "split": ""})
    manifest = featx.Manifest(table.assign(type=[*"xxyy"] * 20), ".")
    one, several = (featx.make_splits(manifest, (0.5, 0.5), stratify=given).table for given in ("type", ["type"]))
    assert one.equals(several)


def test_one_run_is_not_its_letters(store, tmp_path):
    featx.fit_grid(store, "knn", tmp_path / "run", grid={"n_neighbors": (1,)})
    for path in (tmp_path / "run", str(tmp_path / "run")):
        with pytest.raises(FeatxError, match="expected two runs or more, found 1"):
            featx.compare_runs(path)
        with pytest.raises(FeatxError, match="expected two runs or more, found 1"):
            featx.choose_among(path, tmp_path / "chosen")
        assert len(cells_of_runs(path)) == 1


def test_one_source_is_not_its_letters(tmp_path):
    make_tree(tmp_path / "images", {"ash": 2})
    assert list_sources(str(tmp_path / "images")) == list_sources([tmp_path / "images"])
    assert list_sources(tmp_path / "images") == [tmp_path / "images/ash/000.png", tmp_path / "images/ash/001.png"]


def test_one_layer_is_not_its_letters(store, tmp_path):
    with featx.open(store) as opened:
        for read in (opened.matrix, opened.frame, lambda layers: opened.take(np.arange(2), layers)):
            with pytest.raises(FeatxError, match=r"layers 'fc1': expected a list of names, such as \['fc1'\]"):
                read("fc1")
    one = featx.export_store(store, tmp_path / "one.npy", layers="fc1")
    assert one.n_features == featx.export_store(store, tmp_path / "several.npy", layers=["fc1"]).n_features == 12
