"""The ternary discretizer, as scikit-learn and as the paper want it."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from featx import TernaryDiscretizer


@parametrize_with_checks([TernaryDiscretizer()])
def test_scikit_learn_is_content(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_scores_and_thresholds(dtype):
    rng = np.random.default_rng(0)
    X_train, X_test = (rng.gamma(0.7, 2.0, (n, 40)).astype(dtype) for n in (200, 50))
    scores = StandardScaler().fit(X_train.astype(float)).transform(X_test.astype(float))
    found = TernaryDiscretizer().fit(X_train).transform(X_test)
    assert found.dtype == dtype
    assert np.array_equal(found, np.where(scores < -0.25, -1, np.where(scores > 0.15, 1, 0)))
    assert set(np.unique(found)) == {-1, 0, 1}


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 12345.678])
def test_constant_features_become_zero_whatever_comes(value):
    X = np.full((37, 3), value, dtype=np.float32)
    X[:, 1] = np.arange(37)
    discretizer = TernaryDiscretizer().fit(X)
    found = discretizer.transform(np.array([[value + 9, 50, -9]], dtype=np.float32))
    assert found.tolist() == [[0, 1, 0]]
    assert discretizer.scale_[[0, 2]].tolist() == [0, 0]


def test_statistics_of_many_columns_are_the_same_as_of_one(monkeypatch):
    X = np.random.default_rng(1).random((50, 30)).astype(np.float32)
    whole = TernaryDiscretizer().fit(X)
    monkeypatch.setattr("featx.fit.estimators.ternary._BLOCK_VALUES", 100)
    blocks = TernaryDiscretizer().fit(X)
    assert np.array_equal(whole.mean_, blocks.mean_)
    assert np.array_equal(whole.scale_, blocks.scale_)


def test_only_fitted_rows_count():
    rng = np.random.default_rng(2)
    X_train, X_test = rng.random((30, 5)), rng.random((30, 5)) + 100
    fitted = TernaryDiscretizer().fit(X_train)
    assert fitted.mean_ == pytest.approx(X_train.mean(axis=0))
    assert (fitted.transform(X_test) == 1).all()


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="low must be at most high"):
        TernaryDiscretizer(low=1, high=0).fit(np.eye(3))
