"""Fit the chosen cell on all rows but the test rows, score it there once, and count its numbers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.errors import FeatxError
from featx.fit.cells import FIT_ERRORS, fit_estimator
from featx.fit.estimators.large_svm import LargeSVC
from featx.fit.estimators.svm import GramSVC
from featx.fit.estimators.ternary import TernaryDiscretizer
from featx.fit.models import CellPlan, make_estimator
from featx.results import format_params, predict_scores, score
from featx.store import Rows


@dataclass(frozen=True)
class Refit:
    """A cell that was fitted for good.

    Attributes
    ----------
    estimator : Pipeline
    predicted : ndarray of shape (n_test,), str
        Labels of the test rows.
    test : dict or None
        See `featx.results.score`; None without test rows.
    seconds : float
        To fit.
    predict_seconds : float or None
        To label a thousand rows of features; None without test rows.
    n_parameters : int
        See `featx.fit.refit.count_parameters`.
    scores : dict
        Probabilities and decision values of the test rows, those of the two that it tells: see
        `featx.results.predict_scores`. Empty without test rows.
    """

    estimator: Pipeline
    predicted: np.ndarray
    test: dict[str, float | list[float] | None] | None
    seconds: float
    predict_seconds: float | None
    n_parameters: int
    scores: dict[str, np.ndarray] = field(default_factory=dict)


@contextmanager
def failures_told(cell: CellPlan, where: str = "") -> Iterator[None]:
    """Turn what the cell to score fails with into one line: there is no other cell to take in its place.

    Parameters
    ----------
    cell : (discretization, parameters)
    where : str, optional
        What the line begins with.

    Raises
    ------
    FeatxError
    """
    try:
        yield
    except FIT_ERRORS as error:
        raise FeatxError(
            f"{where}the cell to score, {format_params(cell[1])}, failed with {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Give other values"
        ) from error


def refit(model: str, cell: CellPlan, rows: Rows, *, seed: int = 0, class_weight: str | None = None) -> Refit:
    """Fit a cell on train and validation rows together, and label the test rows that weigh something.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cell : (discretization, parameters)
    rows : Rows
    seed : int, default 0
        Of the classifier, and of the interval's resamples.
    class_weight : {"balanced"}, optional

    Raises
    ------
    FeatxError
        If the cell fails: where there was nothing to choose, nobody has tried it before.
    """
    known, test = rows.of("train", "validation"), rows.with_weight(rows.of("test"))
    begun = time.monotonic()
    best = make_estimator(model, *cell, seed=seed, class_weight=class_weight)
    with failures_told(cell):
        fit_estimator(best, rows, known)
    seconds = time.monotonic() - begun
    if model == "rf":
        # Several threads add up a forest's trees in the order they come; predictions are to be the same every time.
        best[-1].set_params(n_jobs=1)
    n_parameters = count_parameters(best)
    if not len(test):
        return Refit(best, np.array([], dtype=str), None, seconds, None, n_parameters)
    X = rows.X[test]
    begun = time.monotonic()
    with failures_told(cell):
        predicted = best.predict(X)
    predict_seconds = (time.monotonic() - begun) * 1000 / len(test)
    scores = predict_scores(best, X)
    figures = score(
        rows.y[test].astype(str),
        predicted,
        classes=best.classes_,
        majority=rows.most_frequent(known),
        **scores,
        sample_weight=rows.weights_of(test),
        seed=seed,
    )
    return Refit(best, predicted, figures, seconds, predict_seconds, n_parameters, scores)


_LINEAR = ("coef_", "intercept_")


# What each kind reads to predict; a variance that is kept beside its deviation, say, isn't read.
_ARRAYS: dict[type[BaseEstimator], tuple[str, ...]] = {
    StandardScaler: ("mean_", "scale_"),
    TernaryDiscretizer: ("lower_", "upper_"),
    GramSVC: ("support_vectors_", "dual_coef_", "intercept_"),
    Nystroem: ("components_", "normalization_"),
    LinearSVC: _LINEAR,
    LogisticRegression: _LINEAR,
    LinearDiscriminantAnalysis: _LINEAR,
    # scikit-learn has no public name for the rows, and their labels, that it looks for neighbours among.
    KNeighborsClassifier: ("_fit_X", "_y"),
}


def count_parameters(estimator: BaseEstimator) -> int:
    """Count the numbers that a fitted estimator keeps and reads to predict.

    Means, deviations and thresholds of what comes before a classifier count too; names of classes, and what was given
    rather than fitted (a kernel's gamma, say), don't. An SVM keeps its support vectors, and nearest neighbours all rows
    that were fitted. A node of a tree is its feature, its threshold, its two children and a value a class.

    Parameters
    ----------
    estimator : fitted estimator
        A pipeline of `featx.fit.make_estimator`, or a part of one.

    Raises
    ------
    TypeError
        If it is of a kind that featx doesn't fit.

    Examples
    --------
    >>> count_parameters(LinearSVC().fit([[0.0, 0.0], [1.0, 1.0]], ["a", "b"]))
    3
    """
    if isinstance(estimator, Pipeline):
        return sum(count_parameters(step) for _, step in estimator.steps)
    if isinstance(estimator, RandomForestClassifier):
        return sum(tree.tree_.node_count * 4 + tree.tree_.value.size for tree in estimator.estimators_)
    if isinstance(estimator, LargeSVC):
        return count_parameters(estimator.svc_) + (count_parameters(estimator.map_) if estimator.map_ else 0)
    if type(estimator) not in _ARRAYS:
        raise TypeError(f"the size of a fitted {type(estimator).__name__} is not known")
    return sum(getattr(estimator, name).size for name in _ARRAYS[type(estimator)])
