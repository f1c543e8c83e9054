"""An SVM of several classes is one SVM a pair of them: how their decision values make one label, and one value a class.

The pairs are (0, 1), (0, 2), ..., (1, 2), ... All is as in libsvm (Chang and Lin 2011, doi:10.1145/1961189.1961199)
and scikit-learn's `SVC`. A thousand classes make half a million pairs: whoever asks for their values asks for some rows
at a time.
"""

from collections.abc import Iterator

import numpy as np

# Values of all pairs that are held at once, for some rows: 32 MiB, small enough for one SVM in each thread.
_MOST_VALUES = 2**22


def row_blocks(n_rows: int, n_classes: int) -> Iterator[slice]:
    """Yield slices that cover all rows, each of so few that the values of their pairs take little memory."""
    n_pairs = n_classes * (n_classes - 1) // 2
    step = max(1, _MOST_VALUES // n_pairs)
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def vote(pairs: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the number of the class that wins most pairs, the first of equals.

    Parameters
    ----------
    pairs : ndarray of shape (n_rows,) or (n_rows, n_pairs), float64
        Decision values as of `SVC` with `decision_function_shape="ovo"`: with two classes they speak for the second,
        else each speaks for the first of its pair. A value of 0 goes to the second class, as in libsvm.
    n_classes : int
    """
    if n_classes == 2:
        return (pairs >= 0).astype(np.intp)
    votes = np.zeros((len(pairs), n_classes), dtype=np.intp)
    for first, columns in _by_first_class(n_classes):
        wins = pairs[:, columns] > 0
        votes[:, first] += wins.sum(axis=1)
        votes[:, first + 1 :] += ~wins
    return votes.argmax(axis=1)


def one_against_rest(pairs: np.ndarray, n_classes: int) -> np.ndarray:
    """Return one value a class: the pairs it wins, and by how much as a fraction that never outweighs a pair.

    Parameters
    ----------
    pairs, n_classes
        As of `vote`; two classes have one value, which comes back as it is.

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_classes), float64
        What `SVC` calls `decision_function_shape="ovr"`.
    """
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
    """Return the decision values of every pair of classes, as of `SVC` with `decision_function_shape="ovo"`.

    Parameters
    ----------
    kernel : ndarray of shape (n_rows, n_support), float64
        Of rows and support vectors.
    dual_coef : ndarray of shape (n_classes - 1, n_support), float64
        A vector of class i has its coefficient against class j in row j - 1, if i < j, and in row j, if i > j.
    n_support : ndarray of shape (n_classes,), int
        Support vectors of each class; they stand class by class.
    intercept : ndarray of shape (n_pairs,), float64

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_pairs), float64
    """
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
