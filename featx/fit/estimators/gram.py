"""Gram matrices that a whole grid of SVMs shares.

An SVM sees its features through inner products only. These are the same for every C, and give the radial basis
functions of every gamma, so one matrix product per fold serves the grid (`featx.fit.estimators.svm.fit_cells`).

Features are float32, and so are standardised ones, as in scikit-learn; their products are float64. libsvm's steps
follow the last digits of its input: from products in float32 it ends within its tolerance of the same optimum, but with
other predictions for a few rows of 10,000. Products of -1, 0 and 1 are exact in float32.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_array

from featx.errors import FeatxError
from featx.fit.estimators.ternary import TernaryDiscretizer

# Features are transformed and multiplied this many columns at a time, and products added this many rows at a time:
# large enough for BLAS, small enough that no second copy of the features or of the products is held.
_BLOCK_COLUMNS = 1024


STRIP_ROWS = 512


# libsvm's cache of kernel values, bytes: scikit-learn's default.
_CACHE_BYTES = 200 * 2**20


_TRANSFORMERS = {"none": StandardScaler, "ternary": TernaryDiscretizer}


@dataclass(frozen=True)
class FoldGram:
    """Inner products of one fold's transformed features.

    Attributes
    ----------
    fit : ndarray of shape (n_fit, n_fit), float64
    score : ndarray of shape (n_score, n_fit), float64
    score_squares : ndarray of shape (n_score,), float64
        Each score row's product with itself.
    n_features : int
    total : float
        Sum of all transformed features of the rows to fit.
    """

    fit: np.ndarray
    score: np.ndarray
    score_squares: np.ndarray
    n_features: int
    total: float

    def gamma(self, gamma: str | float) -> float:
        """Return the number that scikit-learn's SVC uses for gamma on these features."""
        n_values = len(self.fit) * self.n_features
        variance = float(self.fit.trace()) / n_values - (self.total / n_values) ** 2
        return choose_gamma(gamma, self.n_features, variance)

    def kernel(self, kernel: str, gamma: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Make the kernel matrices (fit by fit, score by fit).

        Parameters
        ----------
        kernel : {"linear", "rbf"}
            "linear" returns `fit` and `score` themselves, not copies.
        gamma : float
            For "rbf".

        Returns
        -------
        ndarray of shape (n_fit, n_fit), float64
        ndarray of shape (n_score, n_fit), float64
        """
        if kernel == "linear":
            return self.fit, self.score
        squares = self.fit.diagonal()
        return radial(self.fit, squares, squares, gamma), radial(self.score, self.score_squares, squares, gamma)


class SharedGram:
    """Make Gram matrices of a matrix's rows, transformed by means and thresholds of the rows to fit alone.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
        All rows of a protocol, to fit and to score; kept, not copied.
    layers : mapping of str to int, optional
        Names of layers and how many columns each has, in the order of the columns.
    discretize : {"none", "ternary"}, default "none"
        `StandardScaler` or `featx.TernaryDiscretizer`, fitted on the rows to fit.
    memory_limit : int, optional
        Bytes that Gram matrices may use; see `predict_memory`.

    Notes
    -----
    Both transformers treat each feature by itself. So columns are transformed a block at a time, and a layer subset's
    Gram matrix is the sum of its layers'; see `layer_folds`.
    """

    def __init__(
        self,
        X: np.ndarray,
        *,
        layers: Mapping[str, int] | None = None,
        discretize: str = "none",
        memory_limit: int | None = None,
    ) -> None:
        if discretize not in _TRANSFORMERS:
            raise FeatxError(
                f"expected one of {', '.join(_TRANSFORMERS)}, found {discretize!r}", parameter="discretize"
            )
        self.X = check_array(X, dtype=[np.float32, np.float64])
        self.layers = {"all": self.X.shape[1]} if layers is None else dict(layers)
        if sum(self.layers.values()) != self.X.shape[1]:
            raise FeatxError(f"layers have {sum(self.layers.values()):,} columns, features {self.X.shape[1]:,}")
        self.discretize = discretize
        self.memory_limit = memory_limit

    def predict_memory(self, n_fit: int, n_score: int, *, n_folds: int = 1) -> int:
        """Predict the largest number of bytes for Gram matrices and one cell at a time on them, without the features.

        Parameters
        ----------
        n_fit, n_score : int
            Numbers of rows.
        n_folds : int, default 1
            How many `FoldGram` are held at once.

        Returns
        -------
        int
        """
        products = np.dtype(np.float64).itemsize * n_fit * (n_fit + n_score)
        block = (n_fit + n_score) * min(_BLOCK_COLUMNS, self.X.shape[1])
        strip = STRIP_ROWS * max(n_fit, n_score)
        # A block: as stored, transformed, deviations or products' operands in float64. A cell: its kernel matrices,
        # libsvm's cache.
        working = (2 * self.X.itemsize + 16) * block + 8 * strip
        solving = products + 3 * 8 * strip + min(_CACHE_BYTES, 4 * n_fit**2)
        return n_folds * products + max(working, solving)

    def fold(self, fit_rows: np.ndarray, score_rows: np.ndarray, *, layers: Sequence[str] | None = None) -> FoldGram:
        """Make the Gram matrices of one fold.

        Parameters
        ----------
        fit_rows, score_rows : ndarray of int
            Row numbers in X.
        layers : sequence of str, optional
            Some of the layers.

        Raises
        ------
        FeatxError
            If it would need more than the memory limit, or a layer does not exist.
        """
        self._check_memory(len(fit_rows), len(score_rows), n_folds=1)
        return self._fold(fit_rows, score_rows, self.layers if layers is None else layers)

    def layer_folds(self, fit_rows: np.ndarray, score_rows: np.ndarray) -> dict[str, FoldGram]:
        """Make each layer's Gram matrices by itself, for `sum_folds` to make any subset's."""
        self._check_memory(len(fit_rows), len(score_rows), n_folds=len(self.layers) + 1)
        return {layer: self._fold(fit_rows, score_rows, [layer]) for layer in self.layers}

    def _fold(self, fit_rows: np.ndarray, score_rows: np.ndarray, layers: Sequence[str]) -> FoldGram:
        fit = np.zeros((len(fit_rows), len(fit_rows)))
        score = np.zeros((len(score_rows), len(fit_rows)))
        score_squares = np.zeros(len(score_rows))
        n_features, total = 0, 0.0
        for columns in self._blocks(layers):
            transformer = _TRANSFORMERS[self.discretize]()
            known = self._as_factor(transformer.fit_transform(self.X[fit_rows, columns]))
            add_products(fit, known, known)
            n_features += known.shape[1]
            total += float(known.sum(dtype=np.float64))
            if len(score_rows):
                scored = self._as_factor(transformer.transform(self.X[score_rows, columns]))
                add_products(score, scored, known)
                score_squares += np.einsum("ij,ij->i", scored, scored)
        return FoldGram(mirror(fit), score, score_squares, n_features, total)

    def _as_factor(self, features: np.ndarray) -> np.ndarray:
        """Return features in the precision to multiply them in: sums of -1, 0 and 1 are exact in float32."""
        return features.astype(np.float32 if self.discretize == "ternary" else np.float64, copy=False)

    def _blocks(self, layers: Sequence[str]) -> Iterator[slice]:
        """Yield the layers' columns; neighbours share a block, so that the usual case is few large products."""
        if not layers:
            raise FeatxError(f"expected some of {', '.join(self.layers)}, found none", parameter="layers")
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown:
            raise FeatxError(f"{unknown[0]!r} is not one of {', '.join(self.layers)}", parameter="layers")
        runs: list[list[int]] = []
        first = 0
        for layer, width in self.layers.items():
            if layer in layers and runs and runs[-1][1] == first:
                runs[-1][1] += width
            elif layer in layers:
                runs.append([first, first + width])
            first += width
        for start, stop in runs:
            yield from column_blocks(start, stop)

    def _check_memory(self, n_fit: int, n_score: int, *, n_folds: int) -> None:
        needed = self.predict_memory(n_fit, n_score, n_folds=n_folds)
        if self.memory_limit is not None and needed > self.memory_limit:
            raise FeatxError(
                f"Gram matrices of {n_fit:,} rows to fit and {n_score:,} to score need {needed / 1e9:.1f} GB, the "
                f"limit is {self.memory_limit / 1e9:.1f} GB. Use fewer rows, or a machine with more memory"
            )


def sum_folds(folds: Sequence[FoldGram]) -> FoldGram:
    """Add up Gram matrices of different features of the same rows."""
    first, *others = folds
    fit, score, score_squares = first.fit.copy(), first.score.copy(), first.score_squares.copy()
    for other in others:
        fit += other.fit
        score += other.score
        score_squares += other.score_squares
    n_features = sum(fold.n_features for fold in folds)
    return FoldGram(fit, score, score_squares, n_features, sum(fold.total for fold in folds))


def choose_gamma(gamma: str | float, n_features: int, variance: float) -> float:
    """Return the number that gamma stands for."""
    if gamma == "scale":
        return 1.0 / (n_features * variance) if variance > 0 else 1.0
    if gamma == "auto":
        return 1.0 / n_features
    if not isinstance(gamma, Real) or not gamma >= 0:
        raise ValueError(f"gamma: expected 'scale', 'auto' or a number from 0 up, got {gamma!r}")
    return float(gamma)


def column_blocks(start: int, stop: int) -> Iterator[slice]:
    """Yield slices that cover columns from `start` up to `stop`."""
    for first in range(start, stop, _BLOCK_COLUMNS):
        yield slice(first, min(first + _BLOCK_COLUMNS, stop))


def add_products(total: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    """Add A @ B.T to a matrix; only to its lower triangle where B is A, for `mirror` to complete."""
    for first in range(0, len(A), STRIP_ROWS):
        stop = min(first + STRIP_ROWS, len(A))
        until = stop if B is A else len(B)
        total[first:stop, :until] += A[first:stop] @ B[:until].T


def mirror(square: np.ndarray) -> np.ndarray:
    """Copy a matrix's lower triangle onto its upper one, in place."""
    for first in range(0, len(square), STRIP_ROWS):
        stop = min(first + STRIP_ROWS, len(square))
        square[:first, first:stop] = square[first:stop, :first].T
        lower = np.tril(square[first:stop, first:stop])
        square[first:stop, first:stop] = lower + np.tril(lower, -1).T
    return square


def radial(products: np.ndarray, row_squares: np.ndarray, column_squares: np.ndarray, gamma: float) -> np.ndarray:
    """Turn inner products into radial basis functions exp(-gamma * squared distance).

    Parameters
    ----------
    products : ndarray of shape (n_rows, n_columns), float64
    row_squares, column_squares : ndarray of shape (n_rows,) and (n_columns,), float64
        Each vector's product with itself.
    gamma : float

    Returns
    -------
    ndarray of shape (n_rows, n_columns), float64
        A new one: products serve every gamma.
    """
    values = np.empty_like(products)
    for first in range(0, len(products), STRIP_ROWS):
        strip = slice(first, first + STRIP_ROWS)
        distances = row_squares[strip, np.newaxis] + column_squares
        distances -= 2.0 * products[strip]
        # Rounding may leave a distance of nearly 0 just below it.
        np.maximum(distances, 0.0, out=distances)
        np.exp(-gamma * distances, out=values[strip])
    return values
