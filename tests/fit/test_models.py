"""Grids' axes, and the pipeline of each cell."""

import numpy as np
import pytest

from featx import FeatxError
from featx.fit import MODELS, make_estimator, plan_cells


def test_gamma_counts_for_other_kernels_only():
    cells = plan_cells("svm", {"kernel": ("linear", "rbf"), "C": (1.0,), "gamma": ("scale", 0.1)}, "both")
    assert len(cells) == 2 * (1 + 2)
    assert ("none", {"kernel": "linear", "C": 1.0}) in cells


def test_an_axis_without_values_is_left_to_scikit_learn():
    assert "max_depth" not in plan_cells("rf", {}, "none")[0][1]
    assert plan_cells("rf", {"max_depth": (3,)}, "none")[0][1]["max_depth"] == 3


def test_an_unknown_axis_is_answered_with_those_there():
    with pytest.raises(FeatxError, match="rf has no parameter 'C'; there are n_estimators"):
        plan_cells("rf", {"C": (1,)}, "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("svn", {}, "none"), "model: expected one of rf, svm, .*, found 'svn'"),
        (("svm", {}, "binary"), "discretize: expected one of none, ternary, both, found 'binary'"),
        (("svm", {"C": 1}, "none"), r"C: expected a list of values, found 1"),
        (("svm", {"kernel": "rbf"}, "none"), "kernel: expected a list of values, found 'rbf'"),
        (("svm", {"C": []}, "none"), r"C: no values\. Give some, or leave it out for its default"),
    ],
)
def test_what_is_no_grid_is_said(arguments, message):
    with pytest.raises(FeatxError, match=message):
        plan_cells(*arguments)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_may_be_said(model):
    assert plan_cells(model, MODELS[model].grid, "both") == plan_cells(model, {}, "both")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("discretize", ["none", "ternary"])
def test_every_default_cell_fits_and_predicts(model, discretize):
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], 20)
    X = (rng.random((60, 30)) + (y == "b")[:, None] * 0.7).astype(np.float32)
    for step, params in plan_cells(model, {}, discretize):
        estimator = make_estimator(model, step, params, seed=1).fit(X, y)
        assert estimator.predict(X).shape == (60,)
        names = [name for name, _ in estimator.steps]
        expected = ["discretize"] if discretize == "ternary" else ["standardise"] if model != "rf" else []
        assert names == [*expected, "classifier"]


@pytest.mark.parametrize("model", ["knn", "lda"])
def test_class_weights_where_there_are_none(model):
    with pytest.raises(FeatxError, match=f"{model} takes no class weights"):
        make_estimator(model, "none", plan_cells(model, {}, "none")[0][1], class_weight="balanced")


def test_a_grid_is_planned_in_time_that_grows_with_it_and_has_an_end():
    gammas = [number / 7 for number in range(1, 4000)]
    assert len(plan_cells("svm", {"kernel": ["linear"], "C": [1], "gamma": gammas}, "none")) == 1
    assert len(plan_cells("svm", {"kernel": ["linear", "rbf"], "C": [1], "gamma": gammas}, "none")) == 4000
    axis = list(range(1, 3000))
    with pytest.raises(FeatxError, match="a grid of 8,994,001 cells: expected 10,000 or fewer"):
        plan_cells("rf", {"n_estimators": axis, "min_samples_leaf": axis}, "none")
