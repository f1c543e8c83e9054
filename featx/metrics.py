"""How right predictions are: metrics on arrays of labels and scores, with an interval for the accuracy."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from featx.figures import FIGURES, check_weights, gather_answers
from featx.labels import sort_labels

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
        log_loss, of which no probability counts as less than 2.2e-16; majority_class_rate: the accuracy of always
        answering `majority`. Python floats, never NaN.

        None: accuracy_interval of one row; mcc where y has one class; roc_auc and log_loss without finite scores, or
        where y has a label that is none of `classes`; roc_auc also where a class is missing from y.

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    ValueError
        If the arrays don't fit each other.
    """
    answers = gather_answers(y, predicted, classes, probabilities, decision, sample_weight)
    figures = {name: compute(answers) for name, compute in FIGURES.items()}
    correct = answers.y == answers.predicted
    interval = accuracy_interval(correct, sample_weight=answers.weight, seed=seed, n_resamples=n_resamples)
    rate = float(np.average(answers.y == majority, weights=answers.weight))
    return {"accuracy": figures.pop("accuracy"), "accuracy_interval": interval, **figures, "majority_class_rate": rate}


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
    weight = check_weights(sample_weight, len(correct))
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
        One row per class of `y` or `predicted`, sorted as `featx.labels.sort_labels` does; 0 where a figure is not
        defined; empty without rows.
    """
    classes = sort_labels({*y, *predicted})
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
        One row per true class, one column per predicted one, both sorted as `featx.labels.sort_labels` does; empty
        without rows.
    """
    classes = sort_labels({*y, *predicted})
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


def _weighted_mean(correct: np.ndarray, weight: np.ndarray, axis: int = -1) -> np.ndarray:
    return (correct * weight).sum(axis=axis) / weight.sum(axis=axis)
