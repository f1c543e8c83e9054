"""Choose a cell by a score, and check that the score is defined for a model and its rows."""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.pipeline import Pipeline

from featx.errors import FeatxError
from featx.results import METRICS, gather_answers, signed_score
from featx.store import Fold, Rows

CHOOSE_BY = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss")


# The methods of a classifier that a score needs, one of them.
_NEEDED_METHODS = {"roc_auc": ("predict_proba", "decision_function"), "log_loss": ("predict_proba",)}


_OUTPUTS = {"predict_proba": "probabilities", "decision_function": "decision values"}


def check_choice(choose_by: str, estimator: Pipeline, rows: Rows, folds: Sequence[Fold] = ()) -> None:
    """Raise an error for a score that is not defined, before anything is fitted.

    Parameters
    ----------
    choose_by : str
        One of `CHOOSE_BY`.
    estimator : Pipeline
        Pipeline of any cell, fitted or not.
    rows : Rows
    folds : sequence of (rows to fit, rows to score)

    Raises
    ------
    FeatxError
        If there is no such score, or it is not defined for the classifier or on a fold's rows.
    """
    if choose_by not in CHOOSE_BY:
        raise FeatxError(f"expected one of {', '.join(CHOOSE_BY)}, found {choose_by!r}", parameter="choose_by")
    if not _is_defined_for(estimator, choose_by):
        missing = " and no ".join(_OUTPUTS[method] for method in _NEEDED_METHODS[choose_by])
        others = ", ".join(name for name in CHOOSE_BY if _is_defined_for(estimator, name))
        raise FeatxError(
            f"{choose_by} is not defined for {type(estimator[-1]).__name__}, which has no {missing}. Choose by "
            f"{others}",
            parameter="choose_by",
        )
    for number, fold in enumerate(folds, 1):
        for problem in _list_problems(choose_by, rows, fold):
            where = f"fold {number} of {len(folds)}: " if len(folds) > 1 else ""
            raise FeatxError(f"{where}{choose_by} is not defined: {problem}", parameter="choose_by")


def _is_defined_for(estimator: Pipeline, choose_by: str) -> bool:
    methods = _NEEDED_METHODS.get(choose_by)
    return methods is None or any(hasattr(estimator, method) for method in methods)


def _list_problems(choose_by: str, rows: Rows, fold: Fold) -> Iterator[str]:
    """Yield what leaves a score undefined on the rows to score; rows of weight 0 don't count."""
    fit, score = fold
    known, scored = set(rows.y[rows.with_weight(fit)]), set(rows.y[rows.with_weight(score)])
    if not scored:
        yield "the weights of all rows to score are 0. Give some a weight over 0"
    if choose_by not in _NEEDED_METHODS:
        return
    for label in sorted(scored - known):
        has_rows = label in set(rows.y[fit])
        missing = "whose rows to fit all have the weight 0" if has_rows else "which no row to fit has"
        remedy = "give some of them a weight over 0" if has_rows else "give the class train rows"
        yield (
            f"rows to score have the class {label!r}, {missing}. Choose by balanced_accuracy, {remedy}, or leave the "
            "class out with `where`"
        )
    if choose_by == "roc_auc":
        for label in sorted(known - scored):
            yield (
                f"no row to score has the class {label!r}. Choose by balanced_accuracy, use fewer folds, or give every "
                "class validation rows"
            )


def measure_accuracy(rows: Rows, score: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of predictions that are right, weighted where rows have weights."""
    is_right = predicted.astype(str) == rows.y[score].astype(str)
    return float(np.average(is_right, weights=rows.weights_of(score)))


def measure_choice(
    choose_by: str,
    rows: Rows,
    score: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence,
    *,
    probabilities: np.ndarray | None = None,
    decision: np.ndarray | None = None,
) -> float | None:
    """Compute the score to choose by as for test rows, weighted if rows have weights; None where it is not defined."""
    y = rows.y[score].astype(str)
    answers = gather_answers(y, predicted.astype(str), classes, probabilities, decision, rows.weights_of(score))
    return METRICS[choose_by](answers)


def choose_cell(scores: Sequence[float | None], choose_by: str, error: str | None, where: str = "") -> int:
    """Return the index of the best score, the first of equals; failed cells have None, and `error` is of the first."""
    usable = [cell for cell, score in enumerate(scores) if score is not None]
    if not usable:
        raise FeatxError(f"{where}every cell failed; the first with {error}. Give other values")
    return max(usable, key=lambda cell: signed_score(scores[cell], choose_by))
