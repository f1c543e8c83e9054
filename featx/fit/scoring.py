"""By which score the cell of a grid is chosen, and whether that score is defined for a model and its rows."""

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.pipeline import Pipeline

from featx.errors import FeatxError
from featx.results import METRICS, gather_answers
from featx.store import Fold, Rows

CHOOSE_BY = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss")


# What a classifier must tell beside labels: one of these methods.
_NEEDED_METHODS = {"roc_auc": ("predict_proba", "decision_function"), "log_loss": ("predict_proba",)}


_TOLD_BY = {"predict_proba": "probabilities", "decision_function": "decision values"}


def check_choice(choose_by: str, estimator: Pipeline, rows: Rows, folds: Sequence[Fold] = ()) -> None:
    """Refuse a score that can't be had, before anything is fitted.

    Parameters
    ----------
    choose_by : str
        One of `CHOOSE_BY`.
    estimator : Pipeline
        Of any cell, fitted or not.
    rows : Rows
    folds : sequence of (rows to fit, rows to score)

    Raises
    ------
    FeatxError
        If there is no such score, the classifier doesn't tell what it needs, or a fold's rows leave it undefined.
    """
    if choose_by not in CHOOSE_BY:
        raise FeatxError(f"choose_by: expected one of {', '.join(CHOOSE_BY)}, got {choose_by!r}")
    if not _tells_enough(estimator, choose_by):
        missing = " and no ".join(_TOLD_BY[method] for method in _NEEDED_METHODS[choose_by])
        others = ", ".join(name for name in CHOOSE_BY if _tells_enough(estimator, name))
        raise FeatxError(
            f"--choose-by {choose_by}: {type(estimator[-1]).__name__} tells no {missing}. Choose by {others}"
        )
    for number, fold in enumerate(folds, 1):
        for problem in _list_problems(choose_by, rows, fold):
            where = f"fold {number} of {len(folds)}: " if len(folds) > 1 else ""
            raise FeatxError(f"--choose-by {choose_by}: {where}{problem}")


def _tells_enough(estimator: Pipeline, choose_by: str) -> bool:
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
        lack = "whose rows to fit all have the weight 0" if has_rows else "that no row to fit is of"
        remedy = "give some of them a weight over 0" if has_rows else "give the class train rows"
        yield (
            f"it is not defined where rows to score are of a class, {label!r}, {lack}. Choose by balanced_accuracy, "
            f"{remedy}, or leave the class out with --where"
        )
    if choose_by == "roc_auc":
        for label in sorted(known - scored):
            yield (
                f"it is not defined where no row to score is of the class {label!r}. Choose by balanced_accuracy, use "
                "fewer folds, or give every class validation rows"
            )


def measure_accuracy(rows: Rows, score: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of rows that are right, weighted where rows have weights.

    Parameters
    ----------
    rows : Rows
    score : ndarray of shape (n_score,), int
        Row numbers.
    predicted : ndarray of shape (n_score,)
        Their labels as a classifier tells them.
    """
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
    """Compute the score to choose by, weighted where rows have weights: the figure that test rows have under its name.

    Parameters
    ----------
    choose_by : str
        One of `CHOOSE_BY`.
    rows : Rows
    score : ndarray of shape (n_score,), int
        Row numbers.
    predicted, classes, probabilities, decision
        What the classifier says of them; see `featx.results.score`.

    Returns
    -------
    float or None
        None where it is not defined.
    """
    y = rows.y[score].astype(str)
    answers = gather_answers(y, predicted.astype(str), classes, probabilities, decision, rows.weights_of(score))
    return METRICS[choose_by](answers)
