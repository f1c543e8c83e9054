"""CSVs: read as tables of text with the file's own rows and columns, and written so that they read back the same."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pandas as pd

from featx.errors import SourceError
from featx.images.folders import find_named_otherwise, has_image_name
from featx.system import is_file

# What spreadsheets put between cells; commas come first where a header could have several.
_DELIMITERS = {",": "','", ";": "';'", "\t": "tabs"}

# The mask of a picture, written as text, is longer than Python's csv lets a cell be. This is what its C code can count.
_LONGEST_CELL = 2**31 - 1
_DECIMAL = r"\s*[-+]?\d+(,\d+)?\s*"
_LINE_END = re.compile("\r\n|\r|\n")


def load_csv(csv_path: Path, *, path_column: str, root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Load a CSV with all its cells as text."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        delimiter = _find_delimiter(csv_path, path_column)
        with _open_text(csv_path) as file:
            names, table = _read_rows(csv_path, file, delimiter, path_column, root)
    except UnicodeDecodeError as error:
        near = error.object[max(0, error.start - 20) : error.start + 20].decode(errors="replace")
        raise SourceError(
            f"{csv_path}: not a CSV that can be read: not UTF-8 near {near!r}: save it as UTF-8 text"
        ) from error
    except OSError as error:
        raise SourceError(f"{csv_path}: not a CSV that can be read: {error.strerror or error}") from error
    finally:
        csv.field_size_limit(limit)
    named = [bool(name.strip()) for name in names]
    n_unnamed = named.count(False)
    columns = "1 column without a name is" if n_unnamed == 1 else f"{n_unnamed:,} columns without a name are"
    notes = [f"{columns} left out"] if n_unnamed else []
    if delimiter != ",":
        notes.append(f"{csv_path.name}: its cells are separated by {_DELIMITERS[delimiter]}, and are read so")
        notes += _note_decimal_commas(table.loc[:, named])
    return table.loc[:, named], tuple(notes)


def list_columns(table: pd.DataFrame, notes: tuple[str, ...]) -> str:
    """Format the columns of a CSV that was loaded, for messages."""
    return "; ".join([", ".join(map(repr, table.columns)) or "none", *notes])


def write_table(table: pd.DataFrame, file: str | Path | TextIO, **options: object) -> None:
    """Write a table as a CSV whose cells Python's csv and pandas read back as they are.

    Parameters
    ----------
    table : DataFrame
    file : path or text file
    **options
        Of `pandas.DataFrame.to_csv`.
    """
    texts = [table.index, table.columns, *(column for _, column in table.items() if column.dtype.kind == "O")]
    has_returns = any("\r" in text for values in texts for text in values if isinstance(text, str))
    # Python's csv, before 3.11.9, puts a cell with a line feed in quotes and one with a carriage return not.
    quoting = csv.QUOTE_NONNUMERIC if has_returns else csv.QUOTE_MINIMAL
    table.to_csv(file, quoting=quoting, **options)


def _open_text(csv_path: Path) -> TextIO:
    # Line ends as they are: within quotes they belong to a cell.
    return csv_path.open(encoding="utf-8-sig", newline="")


def _find_delimiter(csv_path: Path, path_column: str) -> str:
    """Return the delimiter that gives the header the path column, else the one that gives it most columns."""
    n_columns = {}
    broken = None
    for delimiter in _DELIMITERS:
        with _open_text(csv_path) as file:
            try:
                _, _, names = next(_rows(csv_path, file, delimiter), (1, 1, ()))
            except SourceError as error:
                # Names in quotes are no header to a reader that expects another delimiter behind them.
                broken = broken or error
                continue
        if path_column in names:
            return delimiter
        n_columns[delimiter] = len(names)
    if not n_columns:
        raise broken
    return max(n_columns, key=n_columns.get)


def _rows(csv_path: Path, file: TextIO, delimiter: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Yield the lines that a row begins and ends in, and its cells; rows without any text are left out."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            # Spreadsheets may say in the first line what separates the cells.
            if "".join(cells).strip() and not (line == 1 and delimiter.join(cells) == f"sep={delimiter}"):
                # Tuples of text, unlike lists, are nothing to the garbage collector: half the time of a million rows.
                yield line, reader.line_num, tuple(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(
            f"{csv_path}: not a CSV that can be read: the row that begins in line {line} has a quote that opens a cell "
            f"and is not closed as it should be ({error}, in line {reader.line_num}). Close it behind the cell's last "
            'character, and write "" for a quote within the cell'
        ) from error


def _read_rows(
    csv_path: Path, file: TextIO, delimiter: str, path_column: str, root: Path
) -> tuple[tuple[str, ...], pd.DataFrame]:
    rows = _rows(csv_path, file, delimiter)
    first, last, names = next(rows, (1, 1, ()))
    if not names:
        raise SourceError(f"{csv_path}: not a CSV that can be read: it is empty; expected a header and rows below it")
    if names[0].startswith("#") and path_column not in names:
        raise SourceError(
            f"{csv_path}: not a CSV that can be read: line {first} is a comment ({names[0]!r}), where its header is "
            "expected: take lines of comments out"
        )
    repeated = [name for name in names if name.strip() and names.count(name) > 1]
    if repeated:
        raise SourceError(f"{csv_path}: the column {repeated[0]!r} occurs twice: rename one or leave it out")
    path_index = names.index(path_column) if path_column in names else None
    if last > first and path_index is not None:
        _check_swallowed(csv_path, first, names, delimiter, path_index, root)
    lines, table = [], []
    for line, last, cells in rows:
        if len(cells) != len(names):
            raise SourceError(f"{csv_path}: not a CSV that can be read: {_wrong_count(line, cells, names)}")
        if cells[0].lstrip().startswith("#") and not (path_index == 0 and _names_a_file(cells[0], root)):
            fix = "correct the path, or begin it with ./" if path_index == 0 else "put another column first"
            raise SourceError(
                f"{csv_path}: line {line} looks like a comment ({cells[0]!r}): take comments out. If it is none, {fix}"
            )
        if last > line and path_index is not None:
            _check_swallowed(csv_path, line, cells, delimiter, path_index, root)
        lines.append(line)
        table.append(cells)
    if not table:
        raise SourceError(f"{csv_path}: no rows below the header")
    columns = {number: pd.Series(cells, dtype=str) for number, cells in enumerate(zip(*table, strict=True))}
    frame = pd.DataFrame(columns).set_axis(lines, axis="index")
    # At the end: columns without a name would be one.
    frame.columns = names
    return names, frame


def _names_a_file(cell: str, root: Path) -> bool:
    """Return whether a file has the path in a cell, also if it is written as another system writes it."""
    return is_file(root / find_named_otherwise([cell.strip()], root)[0][0])


def _note_decimal_commas(table: pd.DataFrame) -> list[str]:
    notes = []
    for name, column in table.items():
        filled = column[column.str.strip() != ""]
        if filled.str.fullmatch(_DECIMAL).all() and (with_comma := filled[filled.str.contains(",")]).any():
            notes.append(
                f"the column {name!r} has decimal commas ({with_comma.iloc[0]!r}) and stays text: write points where "
                "it is to be numbers"
            )
    return notes


def _wrong_count(line: int, cells: tuple[str, ...], names: tuple[str, ...]) -> str:
    n_cells = f"{len(cells):,} {'cell' if len(cells) == 1 else 'cells'}"
    what = f"line {line} has {n_cells}, and the header {len(names):,}"
    if cells[0].startswith("#"):
        return f"{what}. It looks like a comment ({cells[0]!r}): take lines of comments out"
    if len(cells) > len(names) and not cells[-1].strip():
        return f"{what}: it ends in a delimiter, and the header doesn't. Take it away there, or end the header so too"
    if len(cells) > len(names):
        return f"{what}. Put a cell that has a delimiter in it in quotes"
    return f"{what}. Put a cell that has a line break in it in quotes, and write empty cells at the end of a row too"


def _check_swallowed(
    csv_path: Path, line: int, cells: tuple[str, ...], delimiter: str, path_index: int, root: Path
) -> None:
    """Raise an error for a quoted cell with a line that has a path in it: a row that a quote has swallowed.

    A line within the cell is a whole line of the file; the cell's first line is the end of one, its last the beginning.
    """
    for number, cell in enumerate(cells):
        inner = _LINE_END.split(cell)
        # A path may have line breaks in it.
        if len(inner) == 1 or (number == path_index and _names_a_file(cell, root)):
            continue
        for n_before, text in enumerate(inner):
            is_first, is_last = n_before == 0, n_before == len(inner) - 1
            first, last = number if is_first else 0, number if is_last else len(cells) - 1
            pieces = text.split(delimiter)
            if len(pieces) <= last - first or not first <= path_index <= last:
                continue
            # Nor is a path's own first or last line a row, though it ends like an image's name.
            is_part = path_index == number and (is_first or is_last) and len(pieces) == 1
            # A swallowed row may have too many cells, before or after its path: they were not counted.
            for path in (pieces[path_index - first].strip(), pieces[path_index - last - 1].strip()):
                if path and ((has_image_name(Path(path)) and not is_part) or is_file(root / path)):
                    raise SourceError(
                        f"{csv_path}: not a CSV that can be read: the row that begins in line {line} has a quote that "
                        f"opens a cell and closes it some lines later, with what looks like another row in it "
                        f'({path!r}). Take the quote out, or close it in its line and write "" for a quote within the '
                        "cell"
                    )
