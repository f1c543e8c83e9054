"""The test rows of a run as its predictions.csv has them: read, checked, and put in the order of another run's."""

from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError

COLUMNS = ("path", "label", "predicted")


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read a run's predictions.csv as text, and check that each row is whole and stands there once.

    Parameters
    ----------
    folder : path
        Of the run.

    Returns
    -------
    DataFrame
        Columns path, label and predicted; at least one row.

    Raises
    ------
    FeatxError
        If there is no such file, or it is not as featx writes it.
    """
    path = folder / "predictions.csv"
    try:
        # object, not str: a path that is not UTF-8 has no place in pandas's own string type.
        table = pd.read_csv(
            path, dtype=object, keep_default_na=False, index_col=False, encoding_errors="surrogateescape"
        )
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such file; every run has one: was its folder copied whole?") from error
    except (ValueError, OSError) as error:
        raise FeatxError(f"{path}: not a CSV that can be read: {error}. Make the run again") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise FeatxError(
            f"{path}: no column {missing[0]!r}; expected {', '.join(COLUMNS)}, found {', '.join(table)}. Make the run "
            "again"
        )
    table = table[list(COLUMNS)]
    if table.empty:
        raise FeatxError(f"{path}: no test rows to compare. Extract with --split 0.6,0.2,0.2 and fit again")
    unfinished = (table == "").any(axis="columns")
    if unfinished.any():
        raise FeatxError(f"{path}: row {unfinished.argmax() + 1} has an empty field. Make the run again")
    repeated = table["path"][table["path"].duplicated()]
    if len(repeated):
        raise FeatxError(
            f"{path}: {repeated.iloc[0]!r} stands there twice; expected each test row once. Make the run again"
        )
    return table


def put_in_order(reference: pd.DataFrame, table: pd.DataFrame, first: Path, folder: Path) -> np.ndarray:
    """Return a run's predictions in the order of the first run's rows.

    Parameters
    ----------
    reference, table : DataFrame
        Of the first run and of this one; see `read_predictions`.
    first, folder : path
        Their folders, for messages.

    Raises
    ------
    FeatxError
        If the two differ in rows or in labels.
    """
    for one, other, only_in in ((reference, table, first), (table, reference, folder)):
        alone = one["path"][~one["path"].isin(other["path"])]
        if len(alone):
            raise FeatxError(
                f"{first} and {folder}: not the same test rows ({len(reference):,} and {len(table):,}); "
                f"{alone.iloc[0]!r} is only in {only_in}. Compare runs of one store, split and weights"
            )
    ordered = table.set_index("path").loc[reference["path"]]
    differ = np.flatnonzero(ordered["label"].to_numpy() != reference["label"].to_numpy())
    if len(differ):
        row = differ[0]
        raise FeatxError(
            f"{first} and {folder}: not the same labels; {reference['path'].iloc[row]!r} is "
            f"{reference['label'].iloc[row]!r} in {first} and {ordered['label'].iloc[row]!r} in {folder}. Compare runs "
            "of one store and label"
        )
    return ordered["predicted"].to_numpy()
