"""Write a MATLAB file of version 5."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from featx.errors import FeatxError
from featx.store.export.selection import Selection
from featx.system import available_memory

_MOST_BYTES = 2**31 - 1  # what MATLAB reads of one variable
_KEYWORDS = {
    *("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global", "if"),
    *("otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while"),
}


def check_mat(selection: Selection, path: Path) -> None:
    """Raise an error where a variable is too large for the format, or the features for the memory."""
    texts = [values for values in selection.columns.values() if values.dtype == object]
    # A text is an array of its own, with up to 72 bytes around it.
    largest = max([selection.n_bytes, *(sum(72 + len(text.encode()) for text in values) for values in texts)])
    if largest > _MOST_BYTES or 2 * selection.n_bytes > available_memory():
        raise FeatxError(
            f"{path}: a variable of {largest / 1e9:.2f} GB, more than the format ({_MOST_BYTES / 1e9:.2f} GB) or half "
            "of the free memory holds. Choose fewer `layers` or a `split`, or read the store with MATLAB's h5read"
        )


def write_mat(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write X, one variable per column of the images, feature_names, layers, attributes and the columns' own names."""
    from scipy.io import savemat

    values = [np.array(v, dtype=object) if isinstance(v, list) else v for v in selection.attributes.values()]
    fixed = {"X": selection.matrix(advance), "feature_names": selection.features["name"]}
    fixed |= {"layers": np.array(selection.layers, dtype=object)}
    fixed |= {"attributes": dict(zip(matlab_names(selection.attributes), values, strict=True))}
    names = matlab_names(selection.columns, taken=[*fixed, "columns"])
    columns = dict(zip(names, selection.columns.values(), strict=True))
    columns["columns"] = np.array([names, [*selection.columns]], dtype=object).T
    with paths[0].open("wb") as file:
        savemat(file, fixed | columns, appendmat=False, long_field_names=True, oned_as="column")


def matlab_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return names that MATLAB accepts: letters, digits and underscores, at most 63, a letter first, none twice."""
    legal = list(taken)
    n_taken = len(legal)
    for name in names:
        name = re.sub(r"[^A-Za-z0-9_]", "_", name)
        name = name if re.match("[A-Za-z]", name) and name not in _KEYWORDS else f"x{name}"
        candidate, number = name[:63], 1
        while candidate in legal:
            number += 1
            candidate = f"{name[: 62 - len(str(number))]}_{number}"
        legal.append(candidate)
    return legal[n_taken:]
