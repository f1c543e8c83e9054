"""Write and read a run's predictions.csv: test rows, labels and scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.images import sort_labels

PROBABILITY, DECISION = "probability_", "decision_"


COLUMNS = ("path", "label", "predicted")


@dataclass(frozen=True)
class Scores:
    """What a model gives for its test rows besides the predicted class.

    Attributes
    ----------
    probabilities : ndarray of shape (n_rows, n_classes), float64, or None
        In the order of the classes; None of a model that has none.
    decision : ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes, float64, or None
        As in scikit-learn: of two classes one value, larger is more of the second. None if there are probabilities.
    """

    probabilities: np.ndarray | None = None
    decision: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray | None:
        """Probabilities, else decision values, else None."""
        return self.decision if self.probabilities is None else self.probabilities


def score_columns(
    classes: Sequence, *, probabilities: np.ndarray | None = None, decision: np.ndarray | None = None
) -> dict[str, list[str]]:
    """Return the columns that follow path, label and predicted: nine digits, enough for float32 to come back.

    Parameters
    ----------
    classes : sequence
        In the order of the columns.
    probabilities : ndarray of shape (n_rows, n_classes), float, optional
    decision : ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes, float, optional
        Written only if there are no probabilities.

    Returns
    -------
    dict of str to list of str
        `probability_<class>` of every class; else `decision_<class>`, of two classes only the second's; else nothing.
        Nothing without rows, and nothing of decision values per pair of classes.

    Examples
    --------
    >>> score_columns(["ash", "birch"], decision=np.array([0.25, -1.0]))
    {'decision_birch': ['0.25', '-1']}
    """
    scores = probabilities if probabilities is not None else decision
    if scores is None or not len(scores):
        return {}
    prefix = PROBABILITY if probabilities is not None else DECISION
    table, names = (scores[:, np.newaxis], classes[-1:]) if scores.ndim == 1 else (scores, classes)
    if table.shape[1] != len(names):
        return {}
    column_of = dict(zip(names, table.T, strict=True))
    return {f"{prefix}{name}": [f"{value:.9g}" for value in column_of[name]] for name in sort_labels(names)}


def read_scores(folder: Path, classes: Sequence[str]) -> Scores:
    """Read the score columns of a run's predictions.csv.

    Parameters
    ----------
    folder : path
    classes : sequence of str
        As the run's record lists them.

    Returns
    -------
    Scores
        Empty if the file has no score of each class.

    Raises
    ------
    FeatxError
        If there is no such file, or a score is no finite number.
    """
    path = folder / "predictions.csv"
    names = {prefix: [f"{prefix}{name}" for name in classes] for prefix in (PROBABILITY, DECISION)}
    if len(classes) == 2:
        names[DECISION] = names[DECISION][1:]
    with _reading(path):
        header = pd.read_csv(path, nrows=0, encoding_errors="backslashreplace").columns
        columns = next((columns for columns in names.values() if columns and set(columns) <= set(header)), None)
        if columns is None:
            return Scores()
        options = {"usecols": columns, "dtype": np.float64, "index_col": False}
        values = pd.read_csv(path, encoding_errors="backslashreplace", **options)[columns].to_numpy()
    if not np.isfinite(values).all():
        row, column = (int(index[0]) for index in np.nonzero(~np.isfinite(values)))
        raise FeatxError(f"{path}: row {row + 1}, {columns[column]}: no finite number. Make the run again")
    if columns[0].startswith(PROBABILITY):
        return Scores(probabilities=values)
    return Scores(decision=values[:, 0] if len(classes) == 2 else values)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read a run's predictions.csv as text, and check that each row is whole and appears once.

    Returns
    -------
    DataFrame
        Columns path, label and predicted; at least one row. Bytes that are not UTF-8 are escaped, as in a store.

    Raises
    ------
    FeatxError
        If there is no such file, or it is not as featx writes it.
    """
    path = folder / "predictions.csv"
    with _reading(path):
        table = pd.read_csv(
            path, dtype=object, keep_default_na=False, index_col=False, encoding_errors="backslashreplace"
        )
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise FeatxError(
            f"{path}: no column {missing[0]!r}; expected {', '.join(COLUMNS)}, found {', '.join(table)}. Make the run "
            "again"
        )
    table = table[list(COLUMNS)]
    if table.empty:
        raise FeatxError(f"{path}: no test rows. Extract with test rows and fit again")
    unfinished = (table == "").any(axis="columns")
    if unfinished.any():
        raise FeatxError(f"{path}: row {unfinished.argmax() + 1} has an empty field. Make the run again")
    repeated = table["path"][table["path"].duplicated()]
    if len(repeated):
        raise FeatxError(f"{path}: {repeated.iloc[0]!r} is there twice; expected once. Make the run again")
    return table


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn the errors of reading a CSV into one that a user understands."""
    try:
        yield
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such file; every run has one: was its folder copied whole?") from error
    except (ValueError, OSError) as error:
        raise FeatxError(f"{path}: can't be read as CSV: {error}. Make the run again") from error


def align_predictions(reference: pd.DataFrame, table: pd.DataFrame, first: Path, folder: Path) -> np.ndarray:
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
