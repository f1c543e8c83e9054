"""Write npy, csv and parquet files in blocks of rows."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from featx.errors import FeatxError
from featx.store.export.selection import Selection

# Nine digits distinguish every float32 from its neighbours, even where a reader uses float64 in between, or is off by
# the last digit of that. The shortest digits that float32 alone would need don't.
_FLOAT32 = "%.9g"


# Readers take a group of rows whole; and every group has an entry for every feature in the file's end.
_ROW_GROUP_BYTES = 2**27


def write_npy(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write the features to the first path, the images to the second, the features' names to the third."""
    # Rows are appended: in a file that is mapped into memory, a full disk ends the process.
    header = {"descr": "<f4", "fortran_order": False, "shape": selection.shape}
    with paths[0].open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for _, block in selection.blocks():
            file.write(block.astype("<f4", copy=False).data)
            advance(len(block))
    _write_table(paths[1], selection.columns)
    _write_table(paths[2], selection.features)


def write_csv(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write one row per image: its columns, then one column per feature."""
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
    """Raise an error if the library is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise FeatxError(f"{path}: parquet files need the package pyarrow: pip install 'featx[export]'") from error


def write_parquet(selection: Selection, paths: Sequence[Path], advance: Callable[[int], object]) -> None:
    """Write one row per image: its columns, then one column per feature; one group of rows at a time."""
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
