"""How right predictions are: metrics on arrays of labels and scores, with an interval for the accuracy."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)
from sklearn.utils import check_consistent_length

from featx.errors import FeatxError

CONFIDENCE = 0.95

# Resamples are drawn in batches of about this many rows, so that memory stays small for any number of test rows.
_BATCH_ROWS = 2**21


def score(
    y: np.ndarray,
    predicted: np.ndarray,
    *,
    classes: Sequence,
    majority: object,
    probabilities: np.ndarray | None = None,
    decision: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> dict[str, float | list[float] | None]:
    """Score predictions by every metric that they allow.

    Parameters
    ----------
    y : array of shape (n_rows,)
        True labels; labels that are none of `classes` count as wrong.
    predicted : array of shape (n_rows,)
    classes : sequence
        What the classifier knows, in the order of the columns of `probabilities` and `decision`.
    majority : object
        The class that is most frequent in the rows that the classifier was fitted on.
    probabilities : array of shape (n_rows, n_classes), float, optional
    decision : array of shape (n_rows, n_classes), or (n_rows,) for two classes, float, optional
        Larger is more of the class (of two: of the second). One column a class, not one a pair of classes.
    sample_weight : array of shape (n_rows,), float, optional
        For every metric; rows of weight 0 take no part.
    seed : int, default 0
        Of the interval's resamples.
    n_resamples : int, default 2000

    Returns
    -------
    dict
        accuracy; accuracy_interval, see `accuracy_interval`; balanced_accuracy: mean recall of the classes in y;
        macro_f1 over the classes in y and in `predicted`; mcc: Matthews's coefficient, for several classes as in
        Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006; roc_auc: of two classes from `decision`, else from the
        second's probability, of more the mean over one-versus-rest from `probabilities`, else from `decision`;
        log_loss; majority_class_rate: the accuracy of always answering `majority`. Python floats, never NaN.

        None: accuracy_interval of one row; mcc where y has one class; roc_auc and log_loss without finite scores, or
        where y has a label that is none of `classes`; roc_auc also where a class is missing from y.

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    ValueError
        If the arrays don't fit each other.
    """
    y, predicted = np.asarray(y), np.asarray(predicted)
    check_consistent_length(y, predicted, probabilities, decision, sample_weight)
    weight = _check_weights(sample_weight, len(y))
    kept = weight > 0
    y, predicted, weight = y[kept], predicted[kept], weight[kept]
    code_of = {name: code for code, name in enumerate(classes)}
    # Codes, because scikit-learn takes columns for those of the sorted labels.
    codes = np.array([code_of.get(label, -1) for label in y.tolist()])
    probabilities = _finite_or_none(probabilities, kept)
    decision = _finite_or_none(decision, kept)
    first, second = (decision, probabilities) if len(classes) == 2 else (probabilities, decision)
    present = np.unique(y)
    figures = {
        "accuracy": accuracy_score(y, predicted, sample_weight=weight),
        "balanced_accuracy": recall_score(
            y, predicted, labels=present, average="macro", sample_weight=weight, zero_division=0
        ),
        "macro_f1": f1_score(y, predicted, average="macro", sample_weight=weight, zero_division=0),
        "mcc": matthews_corrcoef(y, predicted, sample_weight=weight) if len(present) > 1 else None,
        "roc_auc": _roc_auc(codes, second if first is None else first, len(classes), weight),
        "log_loss": _log_loss(codes, probabilities, len(classes), weight),
        "majority_class_rate": np.average(y == majority, weights=weight),
    }
    interval = accuracy_interval(y == predicted, sample_weight=weight, seed=seed, n_resamples=n_resamples)
    plain = {name: None if figure is None else float(figure) for name, figure in figures.items()}
    return {"accuracy": plain.pop("accuracy"), "accuracy_interval": interval, **plain}


def accuracy_interval(
    correct: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> list[float] | None:
    """Compute a 95% interval for the accuracy: percentiles over resampled rows, each with its weight.

    The percentile bootstrap: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3. It says how
    far other test rows of the same kind would move the accuracy, not how far another training would. Where all rows
    are right, or none, the interval is a point.

    Parameters
    ----------
    correct : array of shape (n_rows,), bool
    sample_weight : array of shape (n_rows,), float, optional
    seed : int, default 0
    n_resamples : int, default 2000

    Returns
    -------
    list of two floats, or None
        None for one row.

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    """
    weight = _check_weights(sample_weight, len(correct))
    # Without rows of weight 0, no resample has a total weight of 0.
    correct, weight = np.asarray(correct, dtype=float)[weight > 0], weight[weight > 0]
    if len(correct) < 2:
        return None
    found = stats.bootstrap(
        (correct, weight),
        _weighted_mean,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_ROWS // len(correct)),
        rng=np.random.default_rng(seed),
    )
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def report_classes(y: np.ndarray, predicted: np.ndarray, *, sample_weight: np.ndarray | None = None) -> pd.DataFrame:
    """Compute precision, recall, F1 and support of each class.

    Parameters
    ----------
    y, predicted : array of shape (n_rows,)
    sample_weight : array of shape (n_rows,), float, optional
        Support is then the sum of weights.

    Returns
    -------
    DataFrame
        A row a class of `y` or `predicted`, sorted; 0 where a figure is not defined; empty without rows.
    """
    classes = sorted({*y, *predicted})
    columns = ["precision", "recall", "f1", "support"]
    if not classes:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="class"))
    figures = precision_recall_fscore_support(
        y, predicted, labels=classes, sample_weight=sample_weight, zero_division=0
    )
    return pd.DataFrame(dict(zip(columns, figures, strict=True)), index=pd.Index(classes, name="class"))


def count_confusion(y: np.ndarray, predicted: np.ndarray, *, sample_weight: np.ndarray | None = None) -> pd.DataFrame:
    """Count the rows of each true and predicted class.

    Parameters
    ----------
    y, predicted : array of shape (n_rows,)
    sample_weight : array of shape (n_rows,), float, optional
        Sums of weights then stand in place of counts.

    Returns
    -------
    DataFrame
        A row a true class, a column a predicted one, both sorted; empty without rows.
    """
    classes = sorted({*y, *predicted})
    counts = np.empty((0, 0), dtype=int)
    if classes:
        counts = confusion_matrix(y, predicted, labels=classes, sample_weight=sample_weight)
    return pd.DataFrame(counts, index=pd.Index(classes, name="label"), columns=classes)


def peak_memory() -> int | None:
    """Return the most resident memory that this process has held so far, in bytes; None where there is no telling.

    Processes that it started are not in it. VmHWM of proc(5) on Linux, ru_maxrss of getrusage(2) elsewhere.
    """
    try:
        # Linux's ru_maxrss is no less than the peak of the process that started this one; VmHWM is this one's own.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, the others in KiB.
    return peak if sys.platform == "darwin" else peak * 1024


def _check_weights(sample_weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return weights as float64, ones if none are given."""
    if not n_rows:
        raise FeatxError("no test rows to score. Extract again with --split 0.6,0.2,0.2, or give a split column")
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=float)
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        raise FeatxError(f"a sample weight is {weight[wrong][0]:g}; weights are numbers from 0 up")
    if not weight.any():
        raise FeatxError("all test rows have the sample weight 0: nothing is left to score. Give some a weight over 0")
    return weight


def _weighted_mean(correct: np.ndarray, weight: np.ndarray, axis: int = -1) -> np.ndarray:
    return (correct * weight).sum(axis=axis) / weight.sum(axis=axis)


def _finite_or_none(scores: np.ndarray | None, kept: np.ndarray) -> np.ndarray | None:
    if scores is None:
        return None
    scores = np.asarray(scores)[kept]
    return scores if np.isfinite(scores).all() else None


def _roc_auc(codes: np.ndarray, scores: np.ndarray | None, n_classes: int, weight: np.ndarray) -> float | None:
    """Compute the area under the ROC curve where y has all classes and no other label."""
    if scores is None or n_classes < 2 or set(codes.tolist()) != set(range(n_classes)):
        return None
    if n_classes == 2:
        return roc_auc_score(codes == 1, scores if scores.ndim == 1 else scores[:, -1], sample_weight=weight)
    if scores.shape != (len(codes), n_classes):
        raise ValueError(f"scores of {n_classes} classes have the shape {scores.shape}, not {len(codes), n_classes}")
    # As indicators, because scikit-learn's multi_class="ovr" wants rows that sum to 1; decision values don't.
    return roc_auc_score(codes[:, None] == np.arange(n_classes), scores, average="macro", sample_weight=weight)


def _log_loss(codes: np.ndarray, probabilities: np.ndarray | None, n_classes: int, weight: np.ndarray) -> float | None:
    if probabilities is None or n_classes < 2 or codes.min() < 0:
        return None
    return log_loss(codes, probabilities, labels=list(range(n_classes)), sample_weight=weight)
