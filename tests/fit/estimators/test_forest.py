"""A forest's prefixes are the forests that would have been fitted with fewer trees."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from featx.fit.estimators import PrefixForestClassifier

# As of scikit-learn's own forest, for the same reason: bootstrap samples are drawn by row.
XFAIL = {"check_sample_weight_equivalence_on_dense_data": "as of RandomForestClassifier, rows are drawn at random"}
SIZES = [1, 7, 20, 40]


def load(name):
    if name == "binary":
        X, y = load_breast_cancer(return_X_y=True)
        y = np.array(["benign", "malignant"], dtype=object)[y]
    else:
        X, y = load_digits(return_X_y=True)
    return X[:300].astype(np.float32), y[:300], X[300:500].astype(np.float32)


@parametrize_with_checks(
    [PrefixForestClassifier(n_estimators=20, min_samples_leaf=5)], expected_failed_checks=lambda estimator: XFAIL
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("name", "seed", "n_jobs", "params"),
    [
        ("binary", 0, None, {}),
        ("ten classes", 1, 2, {}),
        ("binary", 123, 2, {"min_samples_leaf": 3, "max_features": 0.3, "class_weight": "balanced"}),
        ("ten classes", 0, None, {"min_samples_leaf": 3, "max_features": 0.3, "class_weight": "balanced"}),
    ],
)
def test_prefixes_are_separate_forests(name, seed, n_jobs, params):
    X, y, X_new = load(name)
    largest = PrefixForestClassifier(n_estimators=SIZES[-1], random_state=seed, n_jobs=n_jobs, **params).fit(X, y)
    labels = largest.staged_predict(X_new, SIZES)
    probabilities = largest.staged_predict_proba(X_new, SIZES)
    for n, predicted, probability in zip(SIZES, labels, probabilities, strict=True):
        separate = RandomForestClassifier(n, random_state=seed, **params).fit(X, y)
        assert np.array_equal(probability, separate.predict_proba(X_new))
        assert np.array_equal(predicted, separate.predict(X_new))
        assert predicted.dtype == separate.predict(X_new).dtype
        prefix = largest.prefix(n).set_params(n_jobs=None)
        assert np.array_equal(prefix.predict_proba(X_new), probability)
    assert np.array_equal(largest.predict(X_new), labels[-1])
    assert np.array_equal(largest.predict_proba(X_new), probabilities[-1])


def test_prefixes_are_separate_forests_with_weights():
    X, y, X_new = load("binary")
    weights = np.random.default_rng(0).choice([0.33, 0.67, 1.0], len(y))
    largest = PrefixForestClassifier(n_estimators=30, max_depth=4, random_state=0).fit(X, y, sample_weight=weights)
    separate = RandomForestClassifier(12, max_depth=4, random_state=0).fit(X, y, sample_weight=weights)
    assert np.array_equal(largest.prefix(12).predict_proba(X_new), separate.predict_proba(X_new))


def test_a_prefix_is_a_forest_by_itself():
    X, y, _ = load("binary")
    largest = PrefixForestClassifier(n_estimators=10, random_state=0).fit(X, y)
    prefix = largest.prefix(4)
    assert type(prefix) is RandomForestClassifier
    assert prefix.n_estimators == len(prefix.estimators_) == 4
    assert np.array_equal(
        prefix.feature_importances_, RandomForestClassifier(4, random_state=0).fit(X, y).feature_importances_
    )
    assert len(largest.forest_.estimators_) == 10


@pytest.mark.parametrize("sizes", [[0], [11], [5, 3]])
def test_sizes_out_of_range_are_refused(sizes):
    X, y, X_new = load("binary")
    largest = PrefixForestClassifier(n_estimators=10, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="from 1 to 10, ascending"):
        largest.staged_predict(X_new, sizes)


def test_an_unfitted_forest_has_no_prefix():
    with pytest.raises(NotFittedError):
        PrefixForestClassifier().prefix(1)
