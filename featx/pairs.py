"""An SVM of several classes is one SVM a pair of them: how their decision values make one label, and one value a class.

The pairs are (0, 1), (0, 2), ..., (1, 2), ... All is as in libsvm (Chang and Lin 2011, doi:10.1145/1961189.1961199)
and scikit-learn's `SVC`.
"""

import numpy as np


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
    first, second = _sides(n_classes)
    wins = pairs > 0
    return (wins @ first + ~wins @ second).argmax(axis=1)


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
    first, second = _sides(n_classes)
    losses = pairs < 0
    votes = ~losses @ first + losses @ second
    margins = pairs @ (first - second)
    return votes + margins / (3 * (np.abs(margins) + 1))


def _sides(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which class is the first and which the second of each pair, as rows of 0 and 1."""
    first, second = np.triu_indices(n_classes, 1)
    return np.eye(n_classes)[first], np.eye(n_classes)[second]


def pair_coefficients(dual_coef: np.ndarray, n_support: np.ndarray) -> np.ndarray:
    """Spread libsvm's packed coefficients out: a row a support vector, a column a pair of classes.

    Parameters
    ----------
    dual_coef : ndarray of shape (n_classes - 1, n_support), float64
        A vector of class i has its coefficient against class j in row j - 1, if i < j, and in row j, if i > j.
    n_support : ndarray of shape (n_classes,), int
        Support vectors of each class; they stand class by class.

    Returns
    -------
    ndarray of shape (n_support, n_pairs), float64
        Multiplied by kernel values, it gives decision values as of `SVC` with `decision_function_shape="ovo"`.
    """
    n_classes = len(n_support)
    if n_classes == 2:
        return dual_coef.T
    stops = np.cumsum(n_support)
    of_class = [slice(stop - count, stop) for stop, count in zip(stops, n_support, strict=True)]
    coefficients = np.zeros((dual_coef.shape[1], n_classes * (n_classes - 1) // 2))
    for column, (one, other) in enumerate(zip(*np.triu_indices(n_classes, 1), strict=True)):
        coefficients[of_class[one], column] = dual_coef[other - 1, of_class[one]]
        coefficients[of_class[other], column] = dual_coef[one, of_class[other]]
    return coefficients
