"""Write the formats of an export: npy, csv and parquet in blocks of rows, .mat and .h5ad whole."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.store.export.selection import BLOCK_BYTES, Selection
from featx.system import available_memory

# What MATLAB reads of a variable in a version 5 file.
_LARGEST_IN_MAT = 2**31 - 1


_LONGEST_NAME = 63


_MATLAB_KEYWORDS = {
    *("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global", "if"),
    *("otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while"),
}


def check_mat(selection: Selection, path: Path) -> None:
    """Refuse what the format, or the memory, doesn't hold.

    Raises
    ------
    FeatxError
    """
    sizes = {"the features": selection.n_bytes} | {
        f"the column {name!r}": _bytes_of_cells(values)
        for name, values in selection.columns.items()
        if values.dtype == object
    }
    largest = max(sizes, key=sizes.get)
    if sizes[largest] > _LARGEST_IN_MAT:
        raise FeatxError(
            f"{path}: {largest}: {sizes[largest] / 1e9:.2f} GB, and a variable in a .mat file of version 5 takes "
            f"at most {_LARGEST_IN_MAT / 1e9:.2f} GB. Take fewer --layers or a --split, or read "
            f"{selection.store.path} itself: MATLAB's h5read does"
        )
    _check_memory(selection, path, n_copies=2)


def write_mat(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write X, a variable a column of the images, feature_names, layers, attributes, and which column is which."""
    from scipy.io import savemat

    fixed = {
        "X": selection.matrix(advance, order="F"),
        "feature_names": _cells(selection.features["name"]),
        "layers": _cells(selection.layers),
        "attributes": _as_struct(selection.attributes),
    }
    columns = selection.columns
    names = matlab_names(columns, taken=[*fixed, "columns"])
    variables = {name: _as_vector(values) for name, values in zip(names, columns.values(), strict=True)}
    which = np.column_stack([_cells(names), _cells(columns)])
    with paths[0].open("wb") as file:
        savemat(file, fixed | {"columns": which} | variables, appendmat=False, long_field_names=True, oned_as="column")


def matlab_names(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Make names that MATLAB takes: letters, digits and underscores, at most 63, a letter first, none twice.

    Parameters
    ----------
    names : iterable of str
    taken : iterable of str
        Names that others have already.

    Examples
    --------
    >>> matlab_names(["year", "année", "2nd", "end", "a b", "a-b"])
    ['year', 'ann_e', 'x2nd', 'xend', 'a_b', 'a_b_2']
    """
    used = set(taken)
    legal = []
    for name in names:
        name = re.sub(r"[^A-Za-z0-9_]", "_", name)
        if not re.match("[A-Za-z]", name) or name in _MATLAB_KEYWORDS:
            name = "x" + name
        candidate, number = name[:_LONGEST_NAME], 1
        while candidate in used:
            number += 1
            candidate = f"{name[: _LONGEST_NAME - len(str(number)) - 1]}_{number}"
        used.add(candidate)
        legal.append(candidate)
    return legal


def check_h5ad(selection: Selection, path: Path) -> None:
    """Refuse to begin without the library, with what the format can't hold, or without the memory.

    Raises
    ------
    FeatxError
    """
    try:
        import anndata.io  # noqa: F401
    except ImportError as error:
        raise FeatxError(f"{path}: AnnData's files need the package anndata: pip install 'featx[h5ad]'") from error
    columns = selection.columns
    if "_index" in columns:
        raise FeatxError(f"{path}: AnnData has a use of its own for a column named '_index'; choose another format")
    for name, values in columns.items():
        holds_zero = [row for row, value in enumerate(values) if isinstance(value, str) and "\0" in value]
        if holds_zero:
            raise FeatxError(
                f"{path}: {name!r} of row {holds_zero[0]:,} holds a zero character, which HDF5's text can't; choose "
                "another format"
            )
    _check_memory(selection, path, n_copies=1)


def write_h5ad(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write an AnnData: X, obs by path, var by feature name, uns["featx"]."""
    from anndata import AnnData
    from anndata.io import write_elem

    from featx.store.writer import open_patiently

    attributes = {re.sub(r"[/\0]|^\.*$", "_", name): _as_uns(value) for name, value in selection.attributes.items()}
    adata = AnnData(
        selection.matrix(advance),
        obs=_frame(selection.columns, index="path"),
        var=_frame(selection.features, index="name"),
        uns={"featx": attributes},
    )
    with open_patiently(paths[0]) as (file, _):
        write_elem(file, "/", adata)


def _check_memory(selection: Selection, path: Path, *, n_copies: int) -> None:
    """Refuse features that the memory doesn't hold so many times at once: SciPy makes a copy of what it writes."""
    # While they are read, there are a block and what is read of a layer beside them.
    reading = selection.n_bytes + 2 * min(selection.n_bytes, BLOCK_BYTES)
    needed = max(reading, n_copies * selection.n_bytes)
    free = available_memory()
    if needed > free:
        raise FeatxError(
            f"{path}: this format is written as one piece, which takes {needed / 1e9:.2f} GB of memory, and "
            f"{free / 1e9:.2f} GB are free. Take fewer --layers or a --split, or npy, csv or parquet, which are "
            "written some rows at a time"
        )


def _frame(columns: Mapping[str, np.ndarray], *, index: str) -> pd.DataFrame:
    """Make a table whose text stays an array of objects: AnnData refuses what pandas 3 would make of it."""
    labels = pd.Index(columns[index], dtype=object, name=index)
    further = {name: values for name, values in columns.items() if name != index}
    return pd.DataFrame(
        {name: pd.Series(values, index=labels, dtype=values.dtype) for name, values in further.items()}, index=labels
    )


def _as_uns(value: object) -> object:
    return np.array(value, dtype=object) if isinstance(value, list) else value


def _cells(texts: Iterable[str]) -> np.ndarray:
    """Make a column of MATLAB's cells."""
    texts = list(texts)
    cells = np.empty((len(texts), 1), dtype=object)
    cells[:, 0] = texts
    return cells


def _as_vector(values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return _cells(values)
    # MATLAB has no float of other widths.
    return values if values.dtype.kind != "f" or values.itemsize in (4, 8) else values.astype(np.float64)


def _as_struct(attributes: Mapping[str, object]) -> dict[str, object]:
    names = matlab_names(attributes)
    values = [_cells(value) if isinstance(value, list) else value for value in attributes.values()]
    return dict(zip(names, values, strict=True))


def _bytes_of_cells(texts: np.ndarray) -> int:
    """Return what a column of cells takes at most: an array of its own each, with up to 72 bytes about its text."""
    return sum(72 + len(text.encode()) for text in texts)


# Nine digits tell every float32 from its neighbours, even where a reader goes by way of float64, or is off by that
# one's last digit. The shortest digits that float32 alone would need don't.
_FLOAT32 = "%.9g"


# Readers take a group of rows whole; and every group has an entry for every feature in the file's end.
_ROW_GROUP_BYTES = 2**27


def write_npy(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write the features to the first path, the images to the second, the features' names to the third.

    Notes
    -----
    Rows are appended: in a file that is mapped into memory, a full disk ends the process.
    """
    header = {"descr": "<f4", "fortran_order": False, "shape": selection.shape}
    with paths[0].open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, block in selection.blocks():
            file.write(block.astype("<f4", copy=False).data)
            advance(len(block))
    _write_table(paths[1], selection.columns)
    _write_table(paths[2], selection.features)


def write_csv(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write a row an image: its columns, then a column a feature."""
    columns = {name: _csv_cells(values) for name, values in selection.columns.items()}
    form = f",{_FLOAT32}" * selection.shape[1] + "\n"
    with _open_text(paths[0]) as file:
        _writer(file).writerow([*columns, *selection.features["name"]])
        write_cells = _writer(file, end="").writerow
        for rows, block in selection.blocks():
            images = zip(*(values[rows] for values in columns.values()), strict=True)
            for cells, features in zip(images, block, strict=True):
                write_cells(cells)
                file.write(form % tuple(features.tolist()))
                advance(1)


def check_parquet(selection: Selection, path: Path) -> None:
    """Refuse to begin without the library.

    Raises
    ------
    FeatxError
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise FeatxError(f"{path}: parquet files need the package pyarrow: pip install 'featx[export]'") from error


def write_parquet(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write a row an image: its columns, then a column a feature; a group of rows at a time."""
    import pyarrow
    from pyarrow import parquet

    columns = selection.columns
    kinds = [pyarrow.string() if v.dtype == object else pyarrow.from_numpy_dtype(v.dtype) for v in columns.values()]
    fields = [pyarrow.field(name, kind) for name, kind in zip(columns, kinds, strict=True)]
    fields += [pyarrow.field(name, pyarrow.float32()) for name in selection.features["name"]]
    schema = pyarrow.schema(fields, metadata={"featx": json.dumps(selection.attributes)})
    # Features hardly repeat, and nobody looks for a row by one: dictionaries and extremes of them would only take room.
    of_images = {"use_dictionary": list(columns), "write_statistics": list(columns)}
    with paths[0].open("wb") as file, parquet.ParquetWriter(file, schema, **of_images) as writer:
        for rows, block in selection.blocks(_ROW_GROUP_BYTES):
            arrays = [pyarrow.array(v[rows], kind) for v, kind in zip(columns.values(), kinds, strict=True)]
            arrays += [pyarrow.array(values) for values in np.ascontiguousarray(block.T)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), row_group_size=len(block))
            advance(len(block))


def _write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    cells = map(_csv_cells, columns.values())
    with _open_text(path) as file:
        write = _writer(file)
        write.writerow(columns)
        write.writerows(zip(*cells, strict=True))


def _csv_cells(values: np.ndarray) -> list[object]:
    """Return a column's cells; whole numbers, which a store has as floats, without a point."""
    if values.dtype.kind != "f":
        return values.tolist()
    return [int(value) if value.is_integer() and abs(value) < 2**53 else value for value in values.tolist()]


def _open_text(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="")


def _writer(file: TextIO, *, end: str = "\n"):
    """Return a writer that quotes all text: a label 007 stays one, and so does a line break within."""
    return csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator=end)
