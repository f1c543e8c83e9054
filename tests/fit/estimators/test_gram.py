"""Gram matrices that a grid shares: the same products, gammas and memory as promised."""

import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featx import FeatxError, TernaryDiscretizer
from featx.fit.estimators import SharedGram
from featx.fit.estimators.gram import sum_folds
from featx.fit.estimators.svm import fit_cells

LAYERS = {"low": 700, "middle": 900, "high": 500}


@pytest.fixture(scope="module")
def X():
    """Features like those of a network: half of them 0, scales far apart, some constant in every row or fold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(650, 2100)) * np.exp(2 * rng.normal(size=2100))
    X[:, 3] = 7.5
    X[:600, 4] = 0.1
    return np.maximum(X, 0).astype(np.float32)


# More rows, and more columns, than are multiplied at once.
FIT, SCORE = np.arange(600), np.arange(600, 650)


def standardise(X, columns=slice(None)):
    scaler = StandardScaler().fit(X[FIT][:, columns])
    return (
        scaler.transform(X[FIT][:, columns]).astype(np.float64),
        scaler.transform(X[SCORE][:, columns]).astype(np.float64),
    )


def test_products_are_those_of_standardised_features(X):
    fit, score = standardise(X)
    fold = SharedGram(X).fold(FIT, SCORE)
    np.testing.assert_allclose(fold.fit, fit @ fit.T, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(fold.score, score @ fit.T, rtol=1e-12, atol=1e-9)
    assert np.array_equal(fold.fit, fold.fit.T)


def test_products_are_exact_for_discretized_features(X):
    discretizer = TernaryDiscretizer().fit(X[FIT])
    fit, score = discretizer.transform(X[FIT]).astype(int), discretizer.transform(X[SCORE]).astype(int)
    fold = SharedGram(X, discretize="ternary").fold(FIT, SCORE)
    assert np.array_equal(fold.fit, fit @ fit.T)
    assert np.array_equal(fold.score, score @ fit.T)


def test_score_rows_teach_nothing(X):
    changed = X.copy()
    changed[SCORE] *= 5
    for discretize in ("none", "ternary"):
        before = SharedGram(X, discretize=discretize).fold(FIT, SCORE)
        after = SharedGram(changed, discretize=discretize).fold(FIT, SCORE)
        assert np.array_equal(before.fit, after.fit)
        assert not np.array_equal(before.score, after.score)


@pytest.mark.parametrize("gamma", [1e-4, 0.01])
def test_radial_basis_functions(X, gamma):
    fit, score = standardise(X)
    K_fit, K_score = SharedGram(X).fold(FIT, SCORE).kernel("rbf", gamma)
    np.testing.assert_allclose(K_fit, rbf_kernel(fit, gamma=gamma), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(K_score, rbf_kernel(score, fit, gamma=gamma), rtol=1e-9, atol=1e-300)
    assert (np.diagonal(K_fit) == 1).all()
    assert K_fit.max() <= 1


def test_equal_rows_have_a_distance_of_zero_at_least():
    rows = np.repeat(np.random.default_rng(0).normal(size=(10, 3000)).astype(np.float32), 4, axis=0)
    fold = SharedGram(rows).fold(np.arange(20), np.arange(20, 40))
    for K in fold.kernel("rbf", 1e3):
        assert K.max() <= 1


@pytest.mark.parametrize("discretize", ["none", "ternary"])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.25])
def test_gamma_is_that_of_svc(X, discretize, gamma):
    transformer = StandardScaler() if discretize == "none" else TernaryDiscretizer()
    fit = transformer.fit_transform(X[FIT]).astype(np.float64)
    expected = {"scale": 1 / (fit.shape[1] * fit.var()), "auto": 1 / fit.shape[1], 0.25: 0.25}[gamma]
    assert SharedGram(X, discretize=discretize).fold(FIT, SCORE).gamma(gamma) == pytest.approx(expected, rel=1e-12)


def test_gamma_of_constant_features_is_that_of_svc():
    X = np.full((6, 4), 0.1, dtype=np.float32)
    assert SharedGram(X).fold(np.arange(4), np.arange(4, 6)).gamma("scale") == 1.0


@pytest.mark.parametrize("discretize", ["none", "ternary"])
def test_layers_add_up(X, discretize):
    grams = SharedGram(X, layers=LAYERS, discretize=discretize)
    by_layer = grams.layer_folds(FIT, SCORE)
    assert list(by_layer) == list(LAYERS)
    summed = sum_folds([by_layer["low"], by_layer["high"]])
    columns = np.r_[0:700, 1600:2100]
    together = SharedGram(X[:, columns], discretize=discretize).fold(FIT, SCORE)
    for fold in (summed, grams.fold(FIT, SCORE, layers=["high", "low"])):
        np.testing.assert_allclose(fold.fit, together.fit, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(fold.score, together.score, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(fold.score_squares, together.score_squares, rtol=1e-12)
        assert fold.n_features == len(columns)
        assert fold.gamma("scale") == pytest.approx(together.gamma("scale"), rel=1e-12)
    assert by_layer["low"].n_features == 700


def test_real_layers_predict_as_a_pipeline_of_their_columns():
    X, y = load_digits(return_X_y=True)
    X = X[:300].astype(np.float32)
    y, fit, score = y[:300], np.arange(200), np.arange(200, 300)
    by_layer = SharedGram(X, layers={"top": 20, "middle": 24, "bottom": 20}).layer_folds(fit, score)
    fold = sum_folds([by_layer["top"], by_layer["bottom"]])
    (cell,) = fit_cells(fold, y[fit], [{"kernel": "rbf", "C": 10.0, "gamma": "scale"}])
    columns = np.r_[0:20, 44:64]
    scaler = StandardScaler().fit(X[fit][:, columns])
    svc = SVC(C=10.0).fit(scaler.transform(X[fit][:, columns]), y[fit])
    assert np.array_equal(cell.predicted, svc.predict(scaler.transform(X[score][:, columns])))


@pytest.mark.parametrize("discretize", ["none", "ternary"])
@pytest.mark.parametrize(("n_fit", "n_score", "n_features"), [(1200, 300, 1500), (200, 100, 6000)])
def test_memory_stays_below_what_is_predicted(discretize, n_fit, n_score, n_features):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_fit + n_score, n_features)).astype(np.float32)
    y = np.arange(n_fit) % 2
    grams = SharedGram(X, discretize=discretize)
    predicted = grams.predict_memory(n_fit, n_score)
    tracemalloc.start()
    try:
        fold = grams.fold(np.arange(n_fit), np.arange(n_fit, n_fit + n_score))
        fit_cells(fold, y, [{"kernel": "linear"}, {"kernel": "rbf", "C": 0.1}, {"kernel": "rbf", "gamma": 1e-5}])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert predicted / 3 < peak <= predicted


def test_too_little_memory_is_refused_before_anything_is_made(X):
    needed = SharedGram(X).predict_memory(len(FIT), len(SCORE))
    SharedGram(X, memory_limit=needed).fold(FIT, SCORE)
    with pytest.raises(FeatxError, match=r"600 rows to fit and 50 to score need .* limit"):
        SharedGram(X, memory_limit=needed - 1).fold(FIT, SCORE)
    with pytest.raises(FeatxError, match="limit"):
        SharedGram(X, layers=LAYERS, memory_limit=needed).layer_folds(FIT, SCORE)


def test_what_does_not_fit_is_refused(X):
    with pytest.raises(FeatxError, match=r"2,099 columns, features 2,100"):
        SharedGram(X, layers={"low": 2099})
    with pytest.raises(FeatxError, match="discretize: expected one of none, ternary"):
        SharedGram(X, discretize="binary")
    with pytest.raises(FeatxError, match="'top' is not one of low, middle, high"):
        SharedGram(X, layers=LAYERS).fold(FIT, SCORE, layers=["top"])
    with pytest.raises(FeatxError, match="found none"):
        SharedGram(X, layers=LAYERS).fold(FIT, SCORE, layers=[])
    with pytest.raises(ValueError, match="gamma: expected"):
        SharedGram(X).fold(FIT, SCORE).gamma("wide")
