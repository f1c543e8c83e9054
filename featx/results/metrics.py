"""Compute metrics of predictions, the interval of the accuracy, and scores of a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from featx.images import sort_labels


def predict_scores(estimator: object, X: np.ndarray) -> dict[str, np.ndarray]:
    """Return a classifier's probabilities and decision values, as far as it has them.

    Parameters
    ----------
    estimator : fitted classifier
    X : ndarray of shape (n_rows, n_features)

    Returns
    -------
    dict
        The arguments `probabilities` and `decision` of `featx.results.score`.
    """
    methods = {"probabilities": "predict_proba", "decision": "decision_function"}
    return {name: getattr(estimator, method)(X) for name, method in methods.items() if hasattr(estimator, method)}


def signed_score(score: float | np.ndarray, choose_by: str) -> float | np.ndarray:
    """Return a score with the sign for which larger is better.

    Means over folds are compared as they are, with all digits, as scikit-learn's GridSearchCV does: of the same scores
    in another order, either may be the larger.

    Examples
    --------
    >>> signed_score(0.75, "roc_auc"), signed_score(0.5, "log_loss")
    (0.75, -0.5)
    """
    return -score if choose_by == "log_loss" else score


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
        The classes that the classifier knows, in the order of the columns of `probabilities` and `decision`.
    majority : object
        The class that is most frequent in the rows that the classifier was fitted on.
    probabilities : array of shape (n_rows, n_classes), float, optional
    decision : array of shape (n_rows, n_classes), or (n_rows,) for two classes, float, optional
        Larger is more of the class (of two: of the second). One column per class, not one per pair of classes.
    sample_weight : array of shape (n_rows,), float, optional
        For every metric; rows of weight 0 are not used.
    seed : int, default 0
        Seed of the resamples of weighted rows; see `accuracy_interval`.
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

        None: mcc if y has one class; roc_auc and log_loss without finite scores, or if y has a label that is none of
        `classes`; roc_auc also if a class is missing from y.

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    ValueError
        If the arrays don't fit each other.
    """
    answers = gather_answers(y, predicted, classes, probabilities, decision, sample_weight)
    scores = {name: compute(answers) for name, compute in METRICS.items()}
    correct = answers.y == answers.predicted
    interval = accuracy_interval(correct, sample_weight=answers.weight, seed=seed, n_resamples=n_resamples)
    rate = float(np.average(answers.y == majority, weights=answers.weight))
    return {"accuracy": scores.pop("accuracy"), "accuracy_interval": interval, **scores, "majority_class_rate": rate}


def accuracy_interval(
    correct: np.ndarray,
    *,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
) -> list[float]:
    """Compute a 95% interval for the accuracy.

    It says how far other test rows of the same kind would move the accuracy, not how far another training would. It is
    never a point, also if all rows are right.

    Rows that all weigh the same: Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953; for how
    often intervals hold the true share see Brown, Cai and DasGupta 2001, doi:10.1214/ss/1009213286).

    Rows of different weights: percentiles over resampled rows (Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, section 13.3), widened to include Wilson's interval of as many rows as the weights are worth:
    sum(w)^2 / sum(w^2), Kish's effective sample size (Kish 1965, Survey Sampling, section 11.7). If all rows of weight
    are right, all resamples are alike, and only the second says how little that is.

    Parameters
    ----------
    correct : array of shape (n_rows,), bool
    sample_weight : array of shape (n_rows,), float, optional
        Rows of weight 0 are left out.
    seed : int, default 0
        Seed of the resamples.
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
        interval = stats.binomtest(int(correct.sum()), len(correct)).proportion_ci(CONFIDENCE, method="wilson")
        return [float(interval.low), float(interval.high)]
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
        One row per class of `y` or `predicted`, sorted as `featx.images.sort_labels` does; 0 for an undefined value;
        empty without rows.
    """
    classes = sort_labels({*y, *predicted})
    columns = ["precision", "recall", "f1", "support"]
    if not classes:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="class"))
    scores = precision_recall_fscore_support(y, predicted, labels=classes, sample_weight=sample_weight, zero_division=0)
    return pd.DataFrame(dict(zip(columns, scores, strict=True)), index=pd.Index(classes, name="class"))


def count_confusion(y: np.ndarray, predicted: np.ndarray, *, sample_weight: np.ndarray | None = None) -> pd.DataFrame:
    """Count the rows of each true and predicted class.

    Parameters
    ----------
    y, predicted : array of shape (n_rows,)
    sample_weight : array of shape (n_rows,), float, optional
        The table then has sums of weights in place of counts.

    Returns
    -------
    DataFrame
        One row per true class, one column per predicted one, both sorted as `featx.images.sort_labels` does; empty
        without rows.
    """
    classes = sort_labels({*y, *predicted})
    counts = np.empty((0, 0), dtype=int)
    if classes:
        counts = confusion_matrix(y, predicted, labels=classes, sample_weight=sample_weight)
    return pd.DataFrame(counts, index=pd.Index(classes, name="label"), columns=classes)


def _weighted_mean(correct: np.ndarray, weight: np.ndarray, axis: int = -1) -> np.ndarray:
    return (correct * weight).sum(axis=axis) / weight.sum(axis=axis)


def _effective_rows(weight: np.ndarray) -> float:
    # In units of the largest weight: squares of the weights as they are might overflow.
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (weight**2).sum())


def _wilson(share: float, n_rows: float) -> tuple[float, float]:
    """Return Wilson's score interval for any number of rows; SciPy has it for whole numbers only."""
    z = stats.norm.ppf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * n_rows)
    reach = z * np.sqrt(share * (1 - share) / n_rows + (z / (2 * n_rows)) ** 2)
    low, high = np.clip([middle - reach, middle + reach] / (1 + z**2 / n_rows), 0, 1)
    return float(low), float(high)


@dataclass(frozen=True)
class Answers:
    """A classifier's predictions of the rows with a weight over 0.

    Attributes
    ----------
    y, predicted : ndarray of shape (n_rows,)
        True and predicted labels.
    codes : ndarray of shape (n_rows,), int
        Indices of the true labels among the classes, -1 for other labels: scikit-learn takes columns of scores for
        those of the sorted labels.
    n_classes : int
    probabilities, decision : ndarray or None
        See `featx.results.score`; None too if one of them is not finite.
    weight : ndarray of shape (n_rows,), float64
    """

    y: np.ndarray
    predicted: np.ndarray
    codes: np.ndarray
    n_classes: int
    probabilities: np.ndarray | None
    decision: np.ndarray | None
    weight: np.ndarray


def gather_answers(
    y: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence,
    probabilities: np.ndarray | None = None,
    decision: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
) -> Answers:
    """Prepare the rows with a weight over 0 for `METRICS`; see `featx.results.score`."""
    y, predicted = np.asarray(y), np.asarray(predicted)
    check_consistent_length(y, predicted, probabilities, decision, sample_weight)
    weight = check_weights(sample_weight, len(y))
    kept = weight > 0
    code_of = {name: code for code, name in enumerate(classes)}
    return Answers(
        y=y[kept],
        predicted=predicted[kept],
        codes=np.array([code_of.get(label, -1) for label in y[kept].tolist()]),
        n_classes=len(classes),
        probabilities=_finite_or_none(probabilities, kept),
        decision=_finite_or_none(decision, kept),
        weight=weight[kept],
    )


def _finite_or_none(scores: np.ndarray | None, kept: np.ndarray) -> np.ndarray | None:
    if scores is None:
        return None
    scores = np.asarray(scores)[kept]
    return scores if np.isfinite(scores).all() else None


def check_weights(sample_weight: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Return weights as float64, ones if there are none; raise an error if they, or their number, can't be used."""
    if not n_rows:
        raise FeatxError("no test rows to score. Extract again with test rows: make splits, or give a split column")
    if sample_weight is None:
        return np.ones(n_rows)
    weight = np.asarray(sample_weight, dtype=float)
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        raise FeatxError(f"a sample weight is {weight[wrong][0]:g}; weights are numbers from 0 up")
    if not weight.any():
        raise FeatxError("all test rows have the sample weight 0: nothing is left to score. Give some a weight over 0")
    return weight


def accuracy(answers: Answers) -> float:
    """Compute the share of rows that are right."""
    return float(accuracy_score(answers.y, answers.predicted, sample_weight=answers.weight))


def balanced_accuracy(answers: Answers) -> float:
    """Compute the mean recall of the classes in y."""
    options = {"labels": np.unique(answers.y), "average": "macro", "zero_division": 0}
    return float(recall_score(answers.y, answers.predicted, sample_weight=answers.weight, **options))


def macro_f1(answers: Answers) -> float:
    """Compute the mean F1 of the true and the predicted classes."""
    options = {"average": "macro", "zero_division": 0}
    return float(f1_score(answers.y, answers.predicted, sample_weight=answers.weight, **options))


def mcc(answers: Answers) -> float | None:
    """Compute Matthews's coefficient; None if y has one class."""
    if len(np.unique(answers.y)) < 2:
        return None
    return float(matthews_corrcoef(answers.y, answers.predicted, sample_weight=answers.weight))


def roc_auc(answers: Answers) -> float | None:
    """Compute the area under the ROC curve; None without scores, or if the labels of y are not all of the classes."""
    codes, n_classes, weight = answers.codes, answers.n_classes, answers.weight
    first, second = answers.probabilities, answers.decision
    if n_classes == 2:
        first, second = second, first
    scores = second if first is None else first
    if scores is None or n_classes < 2 or set(codes.tolist()) != set(range(n_classes)):
        return None
    if n_classes == 2:
        return float(roc_auc_score(codes == 1, scores if scores.ndim == 1 else scores[:, -1], sample_weight=weight))
    if scores.shape != (len(codes), n_classes):
        raise ValueError(f"scores of {n_classes} classes have the shape {scores.shape}, not {len(codes), n_classes}")
    # As indicators, because scikit-learn's multi_class="ovr" wants rows that sum to 1; decision values don't.
    is_class = codes[:, None] == np.arange(n_classes)
    return float(roc_auc_score(is_class, scores, average="macro", sample_weight=weight))


def logarithmic_loss(answers: Answers) -> float | None:
    """Compute the log loss; None without probabilities, or if y has a label that is none of the classes."""
    codes, n_classes = answers.codes, answers.n_classes
    if answers.probabilities is None or n_classes < 2 or codes.min() < 0:
        return None
    # scikit-learn cuts off at the epsilon of the type: a true class with the probability 0 would cost 16 in float32 and
    # 36 in float64, and models are compared by it.
    probabilities = answers.probabilities.astype(np.float64)
    if answers.probabilities.dtype != np.float64:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return float(log_loss(codes, probabilities, labels=list(range(n_classes)), sample_weight=answers.weight))


METRICS: dict[str, Callable[[Answers], float | None]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mcc": mcc,
    "roc_auc": roc_auc,
    "log_loss": logarithmic_loss,
}
"""Metrics by their names in a run's record. Python floats, never NaN."""
