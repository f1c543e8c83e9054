"""Rows of weight 0: no classifier is fitted on them."""

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d


def rows_to_fit(y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[slice | np.ndarray, np.ndarray | None]:
    """Return the rows with a weight over 0, and their weights.

    scikit-learn's classifiers treat rows of weight 0 each in their own way: they count them when they balance classes,
    standardise and draw by them, or lose count of the classes.

    Parameters
    ----------
    y : array of shape (n_rows,)
    sample_weight : array of shape (n_rows,) or None

    Returns
    -------
    slice or ndarray of int
        Row indices; a slice of all rows if all have a weight over 0.
    ndarray or None
        Shape (n_kept,), float64; None where no weights are given.

    Raises
    ------
    ValueError
        If a weight is no number from 0 up, or all are 0.
    """
    if sample_weight is None:
        return slice(None), None
    weights = column_or_1d(sample_weight, dtype=np.float64)
    check_consistent_length(y, weights)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(f"sample_weight: expected numbers from 0 up, got {weights[bad[0]]} for row {bad[0]}")
    kept = np.flatnonzero(weights)
    if not len(kept):
        raise ValueError("sample_weight: all weights are zero, so that no row is left to fit on")
    return (slice(None), weights) if len(kept) == len(weights) else (kept, weights[kept])
