"""What figures are drawn from, out of run folders: accuracies, test answers and their scores, curves, grids, layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.results import (
    Run,
    accuracy_interval,
    cells_table,
    count_confusion,
    describe_weight,
    layers_table,
    load_model,
    name_runs,
    note_other_measure,
    predict_scores,
    read_predictions,
    read_run,
)
from featx.results import read_scores as read_columns
from featx.store import Store
from featx.system import progress_bar

_BLOCK_ROWS = 512


_FIGURES_OF_EPOCHS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


@dataclass(frozen=True)
class Accuracies:
    """Test accuracies of several runs, every test row counted the same; one entry for each run but in the last two.

    Attributes
    ----------
    names : list of str
        Of the folders; whole paths where two share a name.
    accuracies : list of float
    intervals : list of [low, high]
        95%.
    is_finetuned : list of bool
    majority : float or None
        The accuracy of always answering the most frequent class; None where the runs differ in it or in their test
        rows, and where all of them have weighted figures only.
    notes : tuple of str
        What a reader of the figure needs to know.
    """

    names: list[str]
    accuracies: list[float]
    intervals: list[list[float]]
    is_finetuned: list[bool]
    majority: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """What a run's model makes of its test rows; every row counts the same.

    Attributes
    ----------
    y : ndarray of shape (n_rows,), str
        True labels.
    classes : list of str
        What the model can answer, in the order of the columns.
    probabilities : ndarray of shape (n_rows, n_classes), float, or None
        None where the model tells none.
    decision : ndarray of shape (n_rows, n_classes), or (n_rows,) for two classes, float, or None
    """

    y: np.ndarray
    classes: list[str]
    probabilities: np.ndarray | None = None
    decision: np.ndarray | None = None


def read_accuracies(folders: Sequence[str | Path]) -> Accuracies:
    """Read runs' test accuracies from their test rows, whatever weights those have in the runs' own figures.

    Raises
    ------
    FeatxError
        If a folder is no run, its record isn't as featx writes it, or it has no test rows.
    """
    folders = [Path(folder) for folder in folders]
    runs = [read_run(folder) for folder in folders]
    names = name_runs(folders)
    tests = [_check_test(folder, run) for folder, run in zip(folders, runs, strict=True)]
    tables = [read_predictions(folder) for folder in folders]
    correct = [(table["label"] == table["predicted"]).to_numpy() for table in tables]
    accuracies = [float(row.mean()) for row in correct]
    found = [note_other_measure(*each) for each in zip(names, runs, accuracies, strict=True)]
    notes = [note for note in found if note]
    # Of weighted rows it is another measure.
    rates = [test.get("majority_class_rate") for run, test in zip(runs, tests, strict=True) if not describe_weight(run)]
    agree = bool(rates) and all(isinstance(rate, float) and abs(rate - rates[0]) < 1e-9 for rate in rates)
    rows = {frozenset(zip(table["path"], table["label"], strict=True)) for table in tables}
    if len(rows) > 1:
        notes.append("the runs are of different test rows: their accuracies say little of which is better")
    elif rates and not agree:
        notes.append("the runs differ in what always answering the majority class gets: there is no one line for it")
    return Accuracies(
        names=names,
        accuracies=accuracies,
        intervals=[accuracy_interval(row) for row in correct],
        is_finetuned=[run.is_finetuned for run in runs],
        majority=rates[0] if agree and len(rows) == 1 else None,
        notes=tuple(notes),
    )


def _check_test(folder: Path, run: Run) -> dict[str, object]:
    """Return the test figures on record."""
    if run.test is None:
        raise FeatxError(f"{folder}: no test rows, so there is no test accuracy. Extract with --split and fit again")
    accuracy = run.test.get("accuracy")
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise FeatxError(f"{folder / 'run.json'}: test: expected an accuracy, found {run.test}")
    return run.test


def read_confusion(folder: str | Path) -> pd.DataFrame:
    """Count a run's test rows by true and predicted class; see `featx.results.count_confusion`.

    Raises
    ------
    FeatxError
        If the folder is no run, or has no test rows.
    """
    read_run(folder)
    answers = read_predictions(Path(folder))
    return count_confusion(answers["label"].to_numpy(), answers["predicted"].to_numpy())


def read_grid(folder: str | Path) -> tuple[pd.DataFrame, str]:
    """Return a run's cells as `cells_table` has them, and which column says what they were chosen by.

    Raises
    ------
    FeatxError
        If the folder is no run of a grid.
    """
    run = read_run(folder)
    if run.is_finetuned:
        raise FeatxError(f"{folder}: a fine-tuned network has stages, no grid: featx plot curves shows them")
    cells = cells_table(run)
    choose_by = run.protocol.get("choose_by", "accuracy")
    score = "validation" if choose_by == "accuracy" else f"validation {choose_by}"
    if len(cells) == 1:
        raise FeatxError(
            f"{folder}: one cell, so there is no grid to plot; fit again with several values of a parameter"
        )
    if score not in cells:
        raise FeatxError(f"{folder}: no cell has a {score} score: all failed")
    return _as_numbers(cells, [score], Path(folder) / "run.json"), score


def read_layer_figures(folder: str | Path) -> pd.DataFrame:
    """Return a run's figures by layer; see `featx.results.folder.layers_table`.

    Raises
    ------
    FeatxError
        If the folder is no run, or none were asked for.
    """
    run = read_run(folder)
    if run.is_finetuned:
        raise FeatxError(
            f"{folder}: a fine-tuned network has no figures by layer; those are of featx fit, with --each-layer, say"
        )
    if not run.layers:
        raise FeatxError(
            f"{folder}: no figures by layer. Fit again with --each-layer, --leave-one-layer-out or --importance"
        )
    try:
        return layers_table(run)
    except (ValueError, TypeError, KeyError) as error:
        raise FeatxError(f"{Path(folder) / 'run.json'}: layers: not as featx writes them: {error}") from error


def read_curves(folder: str | Path) -> pd.DataFrame:
    """Read a fine-tuned run's curves.csv; see `featx.finetune.record.curves_table`.

    Raises
    ------
    FeatxError
        If the folder is no run of a fine-tuned network, or the file is not as featx writes it.
    """
    run, path = read_run(folder), Path(folder) / "curves.csv"
    if not run.is_finetuned:
        raise FeatxError(
            f"{folder}: a run of {run.model}, which has no training curves; expected a folder that featx finetune has "
            "written"
        )
    curves = _read_csv(path)
    missing = [name for name in ("stage", *_FIGURES_OF_EPOCHS) if name not in curves]
    if missing or curves.empty:
        what = f"no column {missing[0]!r}" if missing else "no epoch"
        raise FeatxError(f"{path}: {what}; not as featx finetune writes it. Fine-tune again")
    return _as_numbers(curves, _FIGURES_OF_EPOCHS, path)


def read_scores(folder: str | Path, *, store: str | Path | None = None, progress: bool = False) -> Scores:
    """Return a run's scores of its test rows: those in predictions.csv, else computed again.

    Classifiers of an older featx kept none: theirs are computed from the saved model and the store's features, and have
    to be those that predictions.csv tells the answers of.

    Parameters
    ----------
    folder : path
    store : path, optional
        Where the store is now, if scores are computed again; default: where the run's record says that it was.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Raises
    ------
    FeatxError
        If the folder is no run with test rows, its store isn't there or is another, or a fine-tuned run is of a time
        when probabilities weren't kept.
    """
    folder = Path(folder)
    run = read_run(folder)
    answers = read_predictions(folder)
    classes = [str(name) for name in run.protocol.get("classes", ())]
    kept = read_columns(folder, classes)
    if kept.probabilities is not None or kept.decision is not None:
        y = answers["label"].to_numpy()
        return Scores(y, classes, probabilities=kept.probabilities, decision=kept.decision)
    if run.is_finetuned:
        raise FeatxError(
            f"{folder / 'predictions.csv'}: no probabilities; an older featx fine-tuned this run, and kept the answers "
            "alone. Fine-tune again for them"
        )
    return _compute_scores(folder, run, answers, store, progress)


def _compute_scores(folder: Path, run: Run, answers: pd.DataFrame, store: str | Path | None, progress: bool) -> Scores:
    """Ask a classifier for its scores once more."""
    path = Path(str(run.store.get("path")) if store is None else store)
    if not path.exists():
        raise FeatxError(f"{path}: no such store; {folder} was fitted on it. If it has moved, say where with --store")
    model = load_model(folder)
    found: dict[str, list[np.ndarray]] = {}
    with Store(path) as opened, progress_bar(len(answers), wanted=progress) as bar:
        rows = _find_rows(opened, answers["path"], folder)
        layers = list(run.store.get("layers", ()))
        if not layers or not set(layers) <= set(opened.layers):
            raise FeatxError(f"{path}: not the store that {folder} was fitted on: it has other layers")
        for start in range(0, len(rows), _BLOCK_ROWS):
            taken = opened.take(rows[start : start + _BLOCK_ROWS])
            X = np.concatenate([taken[layer].astype(np.float32) for layer in layers], axis=1)
            if getattr(model, "n_features_in_", None) != X.shape[1]:
                raise FeatxError(f"{path}: not the store that {folder} was fitted on: it has {X.shape[1]:,} features")
            found.setdefault("predicted", []).append(np.asarray(model.predict(X)).astype(str))
            for name, scores in predict_scores(model, X).items():
                found.setdefault(name, []).append(scores)
            bar.update(len(X))
    whole = {name: np.concatenate(blocks) for name, blocks in found.items()}
    differ = np.flatnonzero(whole.pop("predicted") != answers["predicted"].to_numpy().astype(str))
    if len(differ):
        raise FeatxError(
            f"{path}: not the store that {folder} was fitted on: {answers['path'].iloc[differ[0]]!r} is answered "
            "otherwise than in predictions.csv. Say which with --store, or fit again"
        )
    return Scores(answers["label"].to_numpy(), [str(name) for name in model.classes_], **whole)


def _find_rows(store: Store, paths: pd.Series, folder: Path) -> np.ndarray:
    """Return the numbers of the rows of these images."""
    rows = pd.Index(store.images["path"]).get_indexer_for(paths) if len(store) else np.array([-1])
    if len(rows) != len(paths) or (rows < 0).any():
        raise FeatxError(f"{store.path}: not the store that {folder} was fitted on: it has other images")
    return rows


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a table of a run's folder as text."""
    try:
        return pd.read_csv(
            path, dtype=object, keep_default_na=False, index_col=False, encoding_errors="surrogateescape"
        )
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such file; was the run's folder copied whole?") from error
    except (ValueError, OSError) as error:
        raise FeatxError(f"{path}: not a CSV that can be read: {error}") from error


def _as_numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> pd.DataFrame:
    """Return the table with these columns as numbers; NaN where a field is empty."""
    try:
        return table.assign(**{name: pd.to_numeric(table[name].replace("", np.nan)) for name in columns})
    except (ValueError, TypeError) as error:
        raise FeatxError(f"{path}: {error}; expected numbers in {', '.join(columns)}") from error
