"""How sure a model was of each test row: the score columns of a run's predictions.csv, written and read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.labels import sort_labels

PROBABILITY = "probability_"
DECISION = "decision_"


@dataclass(frozen=True)
class Scores:
    """What a run's predictions.csv tells of its rows beside the labels.

    Attributes
    ----------
    probabilities : ndarray of shape (n_rows, n_classes), float64, or None
        In the order of the classes; None of a model that tells none, and of older runs.
    decision : ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes, float64, or None
        As scikit-learn has it: of two classes one value, larger is more of the second.
    """

    probabilities: np.ndarray | None = None
    decision: np.ndarray | None = None


def score_columns(
    classes: Sequence, *, probabilities: np.ndarray | None = None, decision: np.ndarray | None = None
) -> dict[str, list[str]]:
    """Return the columns that stand behind path, label and predicted: nine digits, enough for float32 to come back.

    Parameters
    ----------
    classes : sequence
        In the order of the columns.
    probabilities : ndarray of shape (n_rows, n_classes), float, optional
    decision : ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes, float, optional
        Written only where there are no probabilities.

    Returns
    -------
    dict of str to list of str
        `probability_<class>` of every class; else `decision_<class>`, of two classes the second's alone; else nothing.
        Nothing without rows, and of decision values that are of pairs of classes.

    Examples
    --------
    >>> score_columns(["ash", "birch"], decision=np.array([0.25, -1.0]))
    {'decision_birch': ['0.25', '-1']}
    """
    told = probabilities if probabilities is not None else decision
    if told is None or not len(told):
        return {}
    prefix = PROBABILITY if probabilities is not None else DECISION
    table, names = (told[:, np.newaxis], classes[-1:]) if told.ndim == 1 else (told, classes)
    if table.shape[1] != len(names):
        return {}
    column_of = dict(zip(names, table.T, strict=True))
    return {f"{prefix}{name}": [f"{value:.9g}" for value in column_of[name]] for name in sort_labels(names)}


def read_scores(folder: Path, classes: Sequence[str]) -> Scores:
    """Read the score columns of a run.

    Parameters
    ----------
    folder : path
        Of the run.
    classes : sequence of str
        As the run's record lists them.

    Returns
    -------
    Scores
        Nothing where the file has no score of each class: a model tells none, or the run is older than the columns.

    Raises
    ------
    FeatxError
        If there is no such file, or a score is no finite number.
    """
    path = folder / "predictions.csv"
    try:
        header = pd.read_csv(path, nrows=0, encoding_errors="surrogateescape").columns
        wanted = {prefix: [f"{prefix}{name}" for name in classes] for prefix in (PROBABILITY, DECISION)}
        if len(classes) == 2:
            wanted[DECISION] = wanted[DECISION][1:]
        found = next((names for names in wanted.values() if names and set(names) <= set(header)), None)
        if found is None:
            return Scores()
        table = pd.read_csv(path, usecols=found, dtype=np.float64, index_col=False, encoding_errors="surrogateescape")
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such file; every run has one: was its folder copied whole?") from error
    except (ValueError, OSError) as error:
        raise FeatxError(f"{path}: scores that can't be read: {error}. Make the run again") from error
    values = table[found].to_numpy()
    if not np.isfinite(values).all():
        row, column = (int(place[0]) for place in np.nonzero(~np.isfinite(values)))
        raise FeatxError(f"{path}: row {row + 1}, {found[column]}: no finite number. Make the run again")
    if found[0].startswith(PROBABILITY):
        return Scores(probabilities=values)
    return Scores(decision=values[:, 0] if len(classes) == 2 else values)
