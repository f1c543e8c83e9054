"""How far the features of one image may be from those of the same image, made again: one measure, one limit."""

from collections.abc import Mapping

import numpy as np

# The norm of the difference over the norm, of one row of one layer. Keras's batches change the seventh digit; another
# engine or device (Winograd, other orders of adding) the fifth; 16 bits the third or fourth.
_SAME = 1e-4
OTHER_ENGINE = 1e-3
_STORED = {"float32": _SAME, "float16": 1e-3}
_COMPUTED = {"float32": _SAME, "float16": 1e-2, "bfloat16": 5e-2}


def tolerance_of(recorded: Mapping[str, object]) -> float:
    """Return the limit for features made again by the same engine.

    Parameters
    ----------
    recorded : mapping
        A store's attributes: what counts is its precision and its store_dtype.

    Examples
    --------
    >>> tolerance_of({"precision": "float32", "store_dtype": "float16"})
    0.001
    """
    computed = _COMPUTED.get(str(recorded.get("precision")), _SAME)
    return max(computed, _STORED.get(str(recorded.get("store_dtype", "float32")), _SAME))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the norm of the difference over the larger norm; infinity where a value is not finite.

    Examples
    --------
    >>> difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])) < 0.1
    True
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    norm = max(np.linalg.norm(one), np.linalg.norm(other))
    if not np.isfinite(norm):
        return float("inf")
    return float(np.linalg.norm(one - other) / norm) if norm else 0.0
