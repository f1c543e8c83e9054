"""Fit SVMs on kernel matrices from BLAS: one alone, or all cells of a grid on shared matrices.

The pairs are (0, 1), (0, 2), ..., (1, 2), ... All is as in libsvm (Chang and Lin 2011, doi:10.1145/1961189.1961199)
and scikit-learn's `SVC`. A thousand classes make half a million pairs: their values are computed for some rows at a
time.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import FeatxError
from featx.fit.estimators.gram import STRIP_ROWS, FoldGram, add_products, choose_gamma, column_blocks, mirror, radial
from featx.fit.estimators.row_weights import rows_to_fit

KERNELS = ("linear", "rbf")


_CELL_PARAMS = ("kernel", "C", "gamma", "class_weight")


class GramSVC(ClassifierMixin, BaseEstimator):
    """Support vector classification as by scikit-learn's `SVC`, with kernel matrices from BLAS.

    On many features `SVC` spends nearly all its time on one inner product after another; here they are one matrix
    product, always in float64. The solver is the same (libsvm: Chang and Lin 2011,
    doi:10.1145/1961189.1961199), and so are predictions. The price is a kernel matrix of the rows to fit, 8 bytes per
    value.

    Parameters
    ----------
    kernel : {"linear", "rbf"}, default "rbf"
    C : float, default 1.0
        Inverse strength of the regularization, above 0.
    gamma : {"scale", "auto"} or float, default "scale"
        Width of the radial basis functions: 1 / (n_features * X.var()), 1 / n_features, or a number from 0 up.
    class_weight : dict or "balanced", optional
        Multiplies C class by class.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    support_ : ndarray of shape (n_support,), int64
        Row numbers of the support vectors, class by class.
    support_vectors_ : ndarray of shape (n_support, n_features), as X
        The only rows that are kept.
    n_support_ : ndarray of shape (n_classes,), int32
    dual_coef_ : ndarray of shape (n_classes - 1, n_support), float64
    intercept_ : ndarray of shape (n_classes * (n_classes - 1) / 2,), float64
        One per pair of classes. Both as those of `SVC`.
    gamma_ : float
        The number that was used for gamma.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 3.0], [3.0, 4.0]])
    >>> GramSVC(kernel="linear").fit(X, ["a", "a", "b", "b"]).predict([[0.5, 0.5], [2.5, 3.0]])
    array(['a', 'b'], dtype='<U1')
    """

    def __init__(
        self,
        *,
        kernel: str = "rbf",
        C: float = 1.0,
        gamma: str | float = "scale",
        class_weight: dict | str | None = None,
    ) -> None:
        self.kernel = kernel
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> "GramSVC":
        """Find the support vectors.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Two classes or more.
        sample_weight : array of shape (n_samples,), optional
            Multiplies C row by row. A row of weight 0 is not fitted on, as if it were not there.
        """
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {self.kernel!r}")
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        kept, sample_weight = rows_to_fit(y, sample_weight)
        numbers, X, y = np.arange(len(X))[kept], X[kept], y[kept]
        self.gamma_ = choose_gamma(self.gamma, X.shape[1], variance(X))
        svc, _ = solve(self._kernel_matrix(X, X), y, sample_weight, C=self.C, class_weight=self.class_weight)
        self.classes_ = svc.classes_
        self.support_ = numbers[svc.support_]
        self.support_vectors_ = X[svc.support_]
        self.n_support_ = svc.n_support_
        self.dual_coef_ = svc.dual_coef_
        self.intercept_ = svc.intercept_
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return how far each row lies on the side of the second class, or of each of three classes or more.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes), float64
            As of `SVC` with its default, `decision_function_shape="ovr"`.
        """
        return self._decide(X, ovr_decision)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return each row's class.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        winners = self._decide(X, ovo_vote)
        return self.classes_.take(winners)

    def _decide(self, X: np.ndarray, decide: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
        """Decide by the decision values of all pairs of classes, some rows at a time."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        n_classes, decided = len(self.classes_), []
        for first in range(0, len(X), STRIP_ROWS):
            kernel = self._kernel_matrix(X[first : first + STRIP_ROWS], self.support_vectors_)
            for block in row_blocks(len(kernel), n_classes):
                pairs = decide_pairs(kernel[block], self.dual_coef_, self.n_support_, self.intercept_)
                decided.append(decide(pairs, n_classes))
        return np.concatenate(decided)

    def _kernel_matrix(self, A: np.ndarray, B: np.ndarray) -> np.ndarray:
        products = np.zeros((len(A), len(B)))
        A_squares, B_squares = np.zeros(len(A)), np.zeros(len(B))
        for columns in column_blocks(0, A.shape[1]):
            left = A[:, columns].astype(np.float64, copy=False)
            right = left if B is A else B[:, columns].astype(np.float64, copy=False)
            add_products(products, left, right)
            A_squares += np.einsum("ij,ij->i", left, left)
            B_squares += np.einsum("ij,ij->i", right, right)
        if B is A:
            mirror(products)
            A_squares = B_squares = products.diagonal()
        return products if self.kernel == "linear" else radial(products, A_squares, B_squares, self.gamma_)


@dataclass(frozen=True)
class CellPrediction:
    """Outputs of one cell for a fold's score rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_score,)
        Labels.
    decision : ndarray of shape (n_score,) or (n_score, n_classes), float64
        As of `SVC.decision_function`.
    classes : ndarray of shape (n_classes,)
        The classes of the columns of `decision`.
    seconds : float
        Seconds to fit and to score, without the shared matrices.
    """

    predicted: np.ndarray
    decision: np.ndarray
    classes: np.ndarray
    seconds: float


def fit_cells(
    fold: FoldGram,
    y: np.ndarray,
    cells: Sequence[Mapping[str, object]],
    *,
    sample_weight: np.ndarray | None = None,
    n_jobs: int | None = None,
) -> list[CellPrediction]:
    """Fit every cell of a grid on one fold and predict its score rows.

    Each kernel matrix is made once and serves all cells that differ in C or class_weight only; cells that can't differ
    (a linear kernel with several gammas) are fitted once.

    Parameters
    ----------
    fold : FoldGram
    y : ndarray of shape (n_fit,)
        Labels of the rows to fit.
    cells : sequence of mapping
        Parameters of `SVC`: kernel ("linear" or "rbf"), C, gamma, class_weight; its defaults for those left out.
    sample_weight : ndarray of shape (n_fit,), optional
    n_jobs : int, optional
        Cells fitted at once, in threads that share the kernel matrix; each has a cache of its own of up to 200 MiB.

    Returns
    -------
    list of CellPrediction
        One per cell, in their order; the same one for cells that were fitted once.

    Raises
    ------
    FeatxError
        If a cell has another parameter or kernel.
    """
    predictions = dict(iter_cells(fold, y, cells, sample_weight=sample_weight, n_jobs=n_jobs))
    for prediction in predictions.values():
        if isinstance(prediction, Exception):
            raise prediction
    return [predictions[number] for number in range(len(cells))]


def iter_cells(
    fold: FoldGram,
    y: np.ndarray,
    cells: Sequence[Mapping[str, object]],
    *,
    sample_weight: np.ndarray | None = None,
    n_jobs: int | None = None,
) -> Iterator[tuple[int, CellPrediction | Exception]]:
    """Fit the cells of `fit_cells` and yield each one's number and prediction as soon as it is there."""
    for (kernel, gamma), group in _group_cells(fold, cells).items():
        fit, score = fold.kernel(kernel, gamma)
        distinct: list[dict[str, object]] = []
        for _, params in group:
            if params not in distinct:
                distinct.append(params)
        fitted = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")(
            delayed(_try_cell)(fit, score, y, params, sample_weight) for params in distinct
        )
        for params, prediction in zip(distinct, fitted, strict=True):
            yield from ((number, prediction) for number, same in group if same == params)


def _group_cells(
    fold: FoldGram, cells: Sequence[Mapping[str, object]]
) -> dict[tuple[str, float | None], list[tuple[int, dict[str, object]]]]:
    """Return (cell number, its other parameters) of all cells that share a kernel matrix, by kernel and gamma."""
    groups: dict[tuple[str, float | None], list[tuple[int, dict[str, object]]]] = {}
    for number, cell in enumerate(cells):
        params = {"kernel": "rbf", "gamma": "scale", **cell}
        unknown = [name for name in params if name not in _CELL_PARAMS]
        if unknown:
            raise FeatxError(f"an SVM on shared Gram matrices has no {unknown[0]!r}; it has {', '.join(_CELL_PARAMS)}")
        kernel, gamma = params.pop("kernel"), params.pop("gamma")
        if kernel not in KERNELS:
            raise FeatxError(f"expected one of {', '.join(KERNELS)}, found {kernel!r}", parameter="kernel")
        key = (kernel, None if kernel == "linear" else fold.gamma(gamma))
        groups.setdefault(key, []).append((number, params))
    return groups


def _try_cell(*arguments: object) -> CellPrediction | Exception:
    """Fit one SVM, or return the error of its solver."""
    try:
        return _fit_cell(*arguments)
    except (ValueError, ArithmeticError, MemoryError) as error:
        return error


def _fit_cell(
    fit: np.ndarray, score: np.ndarray, y: np.ndarray, params: Mapping[str, object], sample_weight: np.ndarray | None
) -> CellPrediction:
    """Fit one SVM on a kernel matrix; labels follow from the same decision values, so rows are scored once."""
    started = time.monotonic()
    svc, used = solve(fit, y, sample_weight, **params)
    n_classes, predicted, decision = len(svc.classes_), [], []
    for block in row_blocks(len(score), n_classes):
        pairs = svc.decision_function(score[block, used])
        predicted.append(svc.classes_.take(ovo_vote(pairs, n_classes)))
        decision.append(ovr_decision(pairs, n_classes))
    seconds = time.monotonic() - started
    return CellPrediction(np.concatenate(predicted), np.concatenate(decision), svc.classes_, seconds)


def solve(
    matrix: np.ndarray,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    *,
    C: float = 1.0,
    class_weight: Mapping | str | None = None,
) -> tuple[SVC, slice | np.ndarray]:
    """Fit an SVM on the rows of a kernel matrix with a weight over 0, and return it and these rows."""
    used, sample_weight = rows_to_fit(y, sample_weight)
    if not isinstance(used, slice):
        matrix, y = matrix[np.ix_(used, used)], np.asarray(y)[used]
    svc = SVC(kernel="precomputed", decision_function_shape="ovo", C=C, class_weight=class_weight)
    return svc.fit(matrix, y, sample_weight), used


def variance(X: np.ndarray) -> float:
    """Compute the variance of all values in float64, some rows at a time."""
    mean = X.mean(dtype=np.float64)
    squares = 0.0
    for first in range(0, len(X), STRIP_ROWS):
        squares += float(np.square(X[first : first + STRIP_ROWS] - mean, dtype=np.float64).sum())
    return squares / X.size


# Values of all pairs that are held at once, for some rows: 32 MiB, small enough for one SVM in each thread.
_MOST_VALUES = 2**22


def row_blocks(n_rows: int, n_classes: int) -> Iterator[slice]:
    """Yield slices that cover all rows, each short enough that the values of its pairs need little memory."""
    n_pairs = n_classes * (n_classes - 1) // 2
    step = max(1, _MOST_VALUES // n_pairs)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def ovo_vote(pairs: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the index of the class that wins most pairs, the first of equals; a value of 0 is for the second class."""
    if n_classes == 2:
        return (pairs >= 0).astype(np.intp)
    votes = np.zeros((len(pairs), n_classes), dtype=np.intp)
    for first, columns in _by_first_class(n_classes):
        wins = pairs[:, columns] > 0
        votes[:, first] += wins.sum(axis=1)
        votes[:, first + 1 :] += ~wins
    return votes.argmax(axis=1)


def ovr_decision(pairs: np.ndarray, n_classes: int) -> np.ndarray:
    """Return one value per class: the pairs it wins, and by how much as a fraction that never outweighs a pair."""
    if n_classes == 2:
        return pairs
    votes, margins = np.zeros((2, len(pairs), n_classes))
    for first, columns in _by_first_class(n_classes):
        values = pairs[:, columns]
        losses = values < 0
        votes[:, first] += (~losses).sum(axis=1)
        votes[:, first + 1 :] += losses
        # One after the other, as scikit-learn adds them up: other orders have other last digits.
        margins[:, first] = np.cumsum(np.column_stack([margins[:, first], values]), axis=1)[:, -1]
        margins[:, first + 1 :] -= values
    return votes + margins / (3 * (np.abs(margins) + 1))


def decide_pairs(kernel: np.ndarray, dual_coef: np.ndarray, n_support: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Return the decision values of every pair of classes, as of `SVC` with `decision_function_shape="ovo"`."""
    n_classes = len(n_support)
    if n_classes == 2:
        return (kernel @ dual_coef.T + intercept).ravel()
    # What each class's vectors say against each other class.
    sides = np.empty((n_classes, len(kernel), n_classes - 1))
    stop = 0
    for side, count in zip(sides, n_support, strict=True):
        start, stop = stop, stop + count
        np.matmul(kernel[:, start:stop], dual_coef[:, start:stop].T, out=side)
    pairs = np.empty((len(kernel), len(intercept)))
    for first, columns in _by_first_class(n_classes):
        pairs[:, columns] = sides[first, :, first:] + sides[first + 1 :, :, first].T
    pairs += intercept
    return pairs


def _by_first_class(n_classes: int) -> Iterator[tuple[int, slice]]:
    """Yield every class but the last, and which pairs it is the first of; their second ones are all after it."""
    stop = 0
    for first in range(n_classes - 1):
        start, stop = stop, stop + n_classes - 1 - first
        yield first, slice(start, stop)


# The name that saved models hold, wherever the class lies.
GramSVC.__module__ = "featx"
