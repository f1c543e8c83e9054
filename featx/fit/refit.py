"""Fit the chosen cell on all rows but the test rows, score it on the test rows once, and count its parameters."""

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
    """A cell that was fitted on all rows but the test rows.

    Attributes
    ----------
    estimator : Pipeline
    predicted : ndarray of shape (n_test,), str
        Labels of the test rows.
    test : dict or None
        See `featx.results.score`; None without test rows.
    seconds : float
        Seconds to fit.
    predict_seconds : float or None
        Seconds to label a thousand rows of features; None without test rows.
    n_parameters : int
        See `featx.fit.refit.count_parameters`.
    scores : dict
        Probabilities and decision values of the test rows, as far as the classifier has them: see
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
def name_failing_cell(cell: CellPlan, where: str = "") -> Iterator[None]:
    """Turn an error of the cell to score into a FeatxError that names it; `where` begins the message."""
    try:
        yield
    except FIT_ERRORS as error:
        raise FeatxError(
            f"{where}the cell to score, {format_params(cell[1])}, failed with {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Give other values"
        ) from error


def refit(model: str, cell: CellPlan, rows: Rows, *, seed: int = 0, class_weight: str | None = None) -> Refit:
    """Fit a cell on train and validation rows together, and score it on the test rows with a weight over 0."""
    known, test = rows.of("train", "validation"), rows.with_weight(rows.of("test"))
    started = time.monotonic()
    best = make_estimator(model, *cell, seed=seed, class_weight=class_weight)
    with name_failing_cell(cell):
        fit_estimator(best, rows, known)
    seconds = time.monotonic() - started
    if model == "rf":
        # Several threads would add up a forest's trees in any order; predictions must be the same every time.
        best[-1].set_params(n_jobs=1)
    n_parameters = count_parameters(best)
    if not len(test):
        return Refit(best, np.array([], dtype=str), None, seconds, None, n_parameters)
    X = rows.X[test]
    started = time.monotonic()
    with name_failing_cell(cell):
        predicted = best.predict(X)
    predict_seconds = (time.monotonic() - started) * 1000 / len(test)
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


# Arrays that each kind reads to predict; a variance that is kept next to its deviation, for example, is not read.
_ARRAYS: dict[type[BaseEstimator], tuple[str, ...]] = {
    StandardScaler: ("mean_", "scale_"),
    TernaryDiscretizer: ("lower_", "upper_"),
    GramSVC: ("support_vectors_", "dual_coef_", "intercept_"),
    Nystroem: ("components_", "normalization_"),
    LinearSVC: _LINEAR,
    LogisticRegression: _LINEAR,
    LinearDiscriminantAnalysis: _LINEAR,
    # scikit-learn has no public name for the rows among which it looks for neighbours, and their labels.
    KNeighborsClassifier: ("_fit_X", "_y"),
}


def count_parameters(estimator: BaseEstimator) -> int:
    """Count the numbers that a fitted estimator keeps and reads to predict.

    Means, deviations and thresholds of transformers count too; names of classes and parameters that are not fitted (a
    kernel's gamma, for example) don't. An SVM keeps its support vectors, and nearest neighbours all fitted rows. A node
    of a tree has its feature, its threshold, its two children and one value per class.

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
