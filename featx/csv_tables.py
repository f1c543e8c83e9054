"""CSVs as tables of text, with the file's own rows and columns; what isn't UTF-8 with commas is refused."""

import warnings
from pathlib import Path

import pandas as pd

from featx.errors import SourceError

# What spreadsheets put in a comma's place.
_OTHER_DELIMITERS = {";": "';'", "\t": "tabs"}


def load_csv(csv_path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Load a CSV with all its cells as text.

    Parameters
    ----------
    csv_path : Path

    Returns
    -------
    table : DataFrame
        The columns that have a name; row i of its index is line i + 2.
    notes : tuple of str
        What was left out.

    Raises
    ------
    SourceError
        If it can't be read, has other delimiters than commas or two columns of one name, or no rows.
    """
    names = _read_header(csv_path)
    table = _read_cells(csv_path)
    # Blank lines are read, and dropped here, so that row numbers are those of the file.
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise SourceError(f"{csv_path}: no rows below the header")
    # Here and not by pandas, which would invent names for those without.
    table.columns = names
    named = [bool(name.strip()) for name in names]
    n_unnamed = named.count(False)
    columns = "1 column without a name is" if n_unnamed == 1 else f"{n_unnamed:,} columns without a name are"
    return table.loc[:, named], (f"{columns} left out",) if n_unnamed else ()


def list_columns(table: pd.DataFrame, notes: tuple[str, ...]) -> str:
    """Say which columns a CSV that was loaded has."""
    return "; ".join([", ".join(map(repr, table.columns)) or "none", *notes])


def _read_header(csv_path: Path) -> list[str]:
    names = _read_cells(csv_path, header=None, nrows=1).iloc[0].tolist()
    for delimiter, what in _OTHER_DELIMITERS.items():
        if len(names) == 1 and delimiter in names[0]:
            raise SourceError(
                f"{csv_path}: expected commas between its cells, and they seem to be separated by {what} (its header: "
                f"{names[0]!r}): save it with commas"
            )
    repeated = [name for name in names if name.strip() and names.count(name) > 1]
    if repeated:
        raise SourceError(f"{csv_path}: the column {repeated[0]!r} is there twice: rename one or leave it out")
    return names


def _read_cells(csv_path: Path, **options: object) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # A row with too many fields would lose some.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                csv_path,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,
                skip_blank_lines=False,
                **options,
            )
    except UnicodeDecodeError as error:
        near = error.object[max(0, error.start - 20) : error.start + 20].decode(errors="replace")
        raise SourceError(
            f"{csv_path}: not a CSV that can be read: not UTF-8 near {near!r}: save it as UTF-8 text"
        ) from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        raise SourceError(f"{csv_path}: not a CSV that can be read: {error}") from error
