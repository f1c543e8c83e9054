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
        Of the resamples of weighted rows; see `accuracy_interval`.
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

        None: mcc where y has one class; roc_auc and log_loss without finite scores, or where y has a label that is
        none of `classes`; roc_auc also where a class is missing from y.

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
) -> list[float]:
    """Compute a 95% interval for the accuracy.

    It says how far other test rows of the same kind would move the accuracy, not how far another training would. It is
    never a point, also where all rows are right.

    Rows that all weigh the same: Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953; for how
    often intervals hold the true share see Brown, Cai and DasGupta 2001, doi:10.1214/ss/1009213286).

    Rows of different weights: percentiles over resampled rows (Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, section 13.3), widened to hold Wilson's interval of as many rows as the weights are worth:
    sum(w)^2 / sum(w^2), Kish's effective sample size (Kish 1965, Survey Sampling, section 11.7). Where all rows of
    weight are right, all resamples are alike, and only the second says how little that is.

    Parameters
    ----------
    correct : array of shape (n_rows,), bool
    sample_weight : array of shape (n_rows,), float, optional
        Rows of weight 0 are left out.
    seed : int, default 0
        Of the resamples.
    n_resamples : int, default 2000

    Returns
    -------
    list of two floats

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    """
    weight = check_weights(sample_weight, len(correct))
    # Without rows of weight 0, no resample has a total weight of 0.
    correct, weight = np.asarray(correct, dtype=bool)[weight > 0], weight[weight > 0]
    if (weight == weight[0]).all():
        found = stats.binomtest(int(correct.sum()), len(correct)).proportion_ci(CONFIDENCE, method="wilson")
        return [float(found.low), float(found.high)]
    resampled = stats.bootstrap(
        (correct, weight),
        _weighted_mean,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_ROWS // len(correct)),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    low, high = _wilson(float(_weighted_mean(correct, weight)), _effective_rows(weight))
    return [min(low, float(resampled.low)), max(high, float(resampled.high))]


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


def _effective_rows(weight: np.ndarray) -> float:
    # Of the largest weight: squares of the weights as they are might be no numbers.
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (weight**2).sum())


def _wilson(share: float, n_rows: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share of so many rows, which SciPy has for whole numbers of rows only."""
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * n_rows)
    reach = z * np.sqrt(share * (1 - share) / n_rows + (z / (2 * n_rows)) ** 2)
    low, high = np.clip([middle - reach, middle + reach] / (1 + z**2 / n_rows), 0, 1)
    return float(low), float(high)
