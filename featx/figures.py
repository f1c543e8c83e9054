"""Single figures of how right predictions are, each computed by itself; `featx.metrics` gathers them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef, recall_score, roc_auc_score
from sklearn.utils import check_consistent_length

from featx.errors import FeatxError


@dataclass(frozen=True)
class Answers:
    """What a classifier said of the rows that weigh something.

    Attributes
    ----------
    y, predicted : ndarray of shape (n_rows,)
        True labels, and those that were told.
    codes : ndarray of shape (n_rows,), int
        Places of the true labels among the classes, -1 for those that are none of them: scikit-learn takes columns of
        scores for those of the sorted labels.
    n_classes : int
    probabilities, decision : ndarray or None
        See `featx.metrics.score`; None too where one of them is not finite.
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
    """Put together what figures are computed from, without rows of weight 0.

    Parameters
    ----------
    y, predicted, classes, probabilities, decision, sample_weight
        As of `featx.metrics.score`.

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    ValueError
        If the arrays don't fit each other.
    """
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
    """Return weights as float64, ones if none are given.

    Parameters
    ----------
    sample_weight : array of shape (n_rows,), float, or None
    n_rows : int

    Raises
    ------
    FeatxError
        If there are no rows, or the weights are no weights.
    """
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


def accuracy(answers: Answers) -> float:
    """Compute the share of rows that are right."""
    return float(accuracy_score(answers.y, answers.predicted, sample_weight=answers.weight))


def balanced_accuracy(answers: Answers) -> float:
    """Compute the mean recall of the classes in y."""
    options = {"labels": np.unique(answers.y), "average": "macro", "zero_division": 0}
    return float(recall_score(answers.y, answers.predicted, sample_weight=answers.weight, **options))


def macro_f1(answers: Answers) -> float:
    """Compute the mean F1 of the classes in y and in what was told."""
    options = {"average": "macro", "zero_division": 0}
    return float(f1_score(answers.y, answers.predicted, sample_weight=answers.weight, **options))


def mcc(answers: Answers) -> float | None:
    """Compute Matthews's coefficient; None where y has one class."""
    if len(np.unique(answers.y)) < 2:
        return None
    return float(matthews_corrcoef(answers.y, answers.predicted, sample_weight=answers.weight))


def roc_auc(answers: Answers) -> float | None:
    """Compute the area under the ROC curve; None without scores, or where y has not just all of the classes."""
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
    """Compute the log loss; None without probabilities, or where y has a label that is none of the classes."""
    codes, n_classes = answers.codes, answers.n_classes
    if answers.probabilities is None or n_classes < 2 or codes.min() < 0:
        return None
    # scikit-learn cuts off at the epsilon of the type: an answer with the probability 0 would cost 16 where a model
    # tells float32, and 36 where it tells float64, and models are compared by it.
    probabilities = answers.probabilities.astype(np.float64)
    if answers.probabilities.dtype != np.float64:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return float(log_loss(codes, probabilities, labels=list(range(n_classes)), sample_weight=answers.weight))


FIGURES: dict[str, Callable[[Answers], float | None]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "mcc": mcc,
    "roc_auc": roc_auc,
    "log_loss": logarithmic_loss,
}
"""By the names that they have in a run's record. Python floats, never NaN."""
