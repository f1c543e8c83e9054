"""Sizes of fitted classifiers, each counted by hand on 60 rows of 30 features and three classes."""

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from featx.fit import MODELS, make_estimator
from featx.fit.refit import count_parameters

N_ROWS, N_FEATURES, N_CLASSES = 60, 30, 3
LINEAR = N_CLASSES * (N_FEATURES + 1)
# A mean and a deviation, or two thresholds, a feature.
BEFORE = 2 * N_FEATURES


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b", "c"], N_ROWS // N_CLASSES)
    return (rng.random((N_ROWS, N_FEATURES)) + (y == "b")[:, None] * 0.7).astype(np.float32), y


def count_nodes(tree, node=0):
    """Walk a tree from its root."""
    left, right = tree.children_left[node], tree.children_right[node]
    return 1 if left == -1 else 1 + count_nodes(tree, left) + count_nodes(tree, right)


def size_by_hand(model, params, classifier):
    """Return how many numbers a classifier keeps, without the step before it."""
    if model == "rf":
        # Feature, threshold, two children, and a value a class.
        return sum(count_nodes(tree.tree_) for tree in classifier.estimators_) * (4 + N_CLASSES)
    if model == "svm":
        n_support = int(classifier.n_support_.sum())
        # Every support vector takes part in the pairs of its class with the two others; there are three pairs.
        return n_support * N_FEATURES + n_support * 2 + 3
    if model == "svm-large" and params["kernel"] == "rbf":
        # All rows, for there are fewer than 2,000, their normalisation, and a weight a row and an intercept a class.
        return N_ROWS * N_FEATURES + N_ROWS * N_ROWS + N_CLASSES * (N_ROWS + 1)
    if model == "knn":
        return N_ROWS * (N_FEATURES + 1)
    return LINEAR


CASES = {
    "rf": [{"n_estimators": 1, "min_samples_leaf": 5}, {"n_estimators": 7, "min_samples_leaf": 2}],
    "svm": [{"kernel": "linear", "C": 1.0}, {"kernel": "rbf", "C": 0.1}],
    "svm-large": [{"kernel": "linear", "C": 0.01}, {"kernel": "rbf", "C": 1.0}],
    "linear-svm": [{"C": 0.01}],
    "logreg": [{"C": 0.01}],
    "knn": [{"n_neighbors": 5}],
    "lda": [{"shrinkage": "none"}, {"shrinkage": "auto"}],
}


@pytest.mark.parametrize("discretize", ["none", "ternary"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_counted(rows, model, discretize):
    for params in CASES[model]:
        fitted = make_estimator(model, discretize, params).fit(*rows)
        before = 0 if model == "rf" and discretize == "none" else BEFORE
        assert count_parameters(fitted) == before + size_by_hand(model, params, fitted[-1]), params


def test_two_classes_take_one_line(rows):
    X, y = rows
    fitted = make_estimator("logreg", "none", {"C": 0.01}).fit(X, y == "b")
    assert count_parameters(fitted) == BEFORE + N_FEATURES + 1


def test_a_strangers_size_is_not_guessed(rows):
    with pytest.raises(TypeError, match="the size of a fitted GaussianNB is not known"):
        count_parameters(GaussianNB().fit(*rows))
