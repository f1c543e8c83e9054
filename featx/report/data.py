"""Gather the contents of a report from the folders of runs, before anything is drawn or laid out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, one_line
from featx.images import sort_labels
from featx.report.answer import Answer, answer_question
from featx.report.dataset import StoreData, read_store
from featx.results import (
    ComparedRun,
    Run,
    SavedRun,
    Scores,
    align_predictions,
    check_same_classes,
    list_unused_classes,
    majority_rate,
    name_runs,
    put_back,
    report_classes,
    summarize_run,
)
from featx.system import is_file, is_folder, sha256_of


@dataclass(frozen=True)
class ReportedRun:
    """One run of a report.

    Attributes
    ----------
    saved : SavedRun
        Its folder, record and predictions.
    compared : ComparedRun
        Its accuracy, interval and costs.
    scores : Scores
        Of the rows of its predictions; empty if they can't be read.
    per_class : DataFrame
        See `featx.results.report_classes`.
    notes : tuple of str
    """

    saved: SavedRun
    compared: ComparedRun
    scores: Scores
    per_class: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its folder's name; the whole path if two runs share a name."""
        return self.saved.name

    @property
    def run(self) -> Run:
        """Its record."""
        return self.saved.run


@dataclass(frozen=True)
class LeftOut:
    """A path that was given and is not in the report, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes
    ----------
    answer : Answer
    runs : tuple of ReportedRun
        All on the same test rows, and able to predict the same classes, in the order that they were given.
    left_out : tuple of LeftOut
        Runs on other test rows, and folders that can't be read.
    n_rows : int
        Test rows.
    classes : tuple of str
        Of the test rows' labels and of what the runs predict, sorted.
    majority : float or None
        See `featx.results.majority_rate`.
    store : StoreData or None
        What the store that the runs name says of the data; None if it isn't there.
    notes : tuple of str
    """

    answer: Answer
    runs: tuple[ReportedRun, ...]
    left_out: tuple[LeftOut, ...]
    n_rows: int
    classes: tuple[str, ...]
    majority: float | None
    store: StoreData | None
    notes: tuple[str, ...]


def gather(results: str | Path | Sequence[str | Path]) -> Report:
    """Read runs for a report.

    Parameters
    ----------
    results : path, or sequence of path
        Folders of runs, or folders that contain some.

    Returns
    -------
    Report
        Of the test rows that most runs share, the first of equals.

    Raises
    ------
    FeatxError
        If no run is left.

    Examples
    --------
    >>> gather("results").answer.sentence                    # doctest: +SKIP
    """
    paths = [Path(path) for path in ([results] if isinstance(results, str | Path) else results)]
    folders, left_out = _find_runs(paths)
    readable = {}
    for folder in folders:
        try:
            readable[folder] = _read(folder)
        except FeatxError as error:
            left_out.append(LeftOut(str(folder), str(error)))
    if not readable:
        reason = f"; the first, {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise FeatxError(
            f"{', '.join(map(str, paths)) or 'nothing'}: no run to report on{reason}. Give folders that featx fit or "
            "featx finetune has written, or folders of them"
        )
    kept, others = _keep_same_rows(list(readable.values()))
    left_out += others
    for saved, name in zip(kept, name_runs([saved.folder for saved in kept]), strict=True):
        saved.name = name
    first = kept[0].predictions
    correct = [
        align_predictions(first, saved.predictions, kept[0].folder, saved.folder) == first["label"].to_numpy()
        for saved in kept
    ]
    runs = tuple(map(_report, kept))
    store, store_notes = read_store(kept)
    labels = {name for saved in kept for column in ("label", "predicted") for name in saved.predictions[column]}
    return Report(
        answer=answer_question([(run.run, run.compared, right) for run, right in zip(runs, correct, strict=True)]),
        runs=runs,
        left_out=tuple(left_out),
        n_rows=len(first),
        classes=tuple(sort_labels(labels)),
        majority=majority_rate([saved.run for saved in kept]),
        store=store,
        notes=store_notes,
    )


def most_confused(report: Report, n_classes: int) -> list[str]:
    """Return the classes that the answer's run, or the first one, takes for each other most; none if too few."""
    name = report.answer.classical or report.answer.finetuned
    run = next((run for run in report.runs if run.name == name), report.runs[0])
    labels, counts = run.saved.confusion.index.tolist(), run.saved.confusion.to_numpy()
    pairs = counts + counts.T
    chosen: dict[str, None] = {}
    for index in np.argsort(-np.triu(pairs, 1), axis=None, kind="stable"):
        one, other = divmod(int(index), len(labels))
        if other <= one or not pairs[one, other]:
            break
        chosen |= dict.fromkeys((labels[one], labels[other]))
        if len(chosen) >= n_classes:
            return list(chosen)[:n_classes]
    return []


def _find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Return the folders of runs, each once, and the paths that are none."""
    folders: dict[Path, Path] = {}
    left_out = []
    for path in paths:
        _put_back_all(path)
        inner = _list_folders(path, "run.json")
        for folder in inner:
            folders.setdefault(folder.resolve(), folder)
        repeated = _list_folders(path, "repeats.json")
        reason = "a run of random splits: a report is of one split; featx compare shows them"
        left_out += [LeftOut(str(folder), reason) for folder in repeated]
        if not inner and not repeated:
            what = "neither a run nor a folder of runs" if is_file(path) or is_folder(path) else "no such folder"
            left_out.append(LeftOut(str(path), what))
    return list(folders.values()), left_out


def _put_back_all(path: Path) -> None:
    """Rename a run, and those in a folder, back to their names; see `featx.results.put_back`."""
    put_back(path)
    for waiting in path.glob(".*.featx-old") if is_folder(path) else ():
        put_back(path / waiting.name.removeprefix(".").removesuffix(".featx-old"))


def _list_folders(path: Path, record: str) -> list[Path]:
    """Return the folder itself, or those in it, that contain such a record."""
    if is_file(path / record):
        return [path]
    try:
        # A hidden folder is no run: it may be one that is being written.
        return sorted(
            folder for folder in path.iterdir() if not folder.name.startswith(".") and is_file(folder / record)
        )
    except OSError:
        return []


def _read(folder: Path) -> SavedRun:
    """Read the record and the predictions of a run that may be untrusted."""
    saved = SavedRun(folder)
    saved.check_sizes()
    # Read here, so that an error leaves this run out.
    _ = saved.classes, saved.predictions
    return saved


def _keep_same_rows(runs: Sequence[SavedRun]) -> tuple[list[SavedRun], list[LeftOut]]:
    """Return the runs on the test rows that most of them share, and why the others are none of these."""
    keys = [
        (_digest_rows(run.predictions), *list_unused_classes(run.run, set(run.predictions["label"]))) for run in runs
    ]
    # Of equal counts the first: Counter keeps the order.
    most = Counter(keys).most_common(1)[0][0]
    kept = [run for run, key in zip(runs, keys, strict=True) if key == most]
    first, left_out = kept[0], []
    for run, key in zip(runs, keys, strict=True):
        if key == most:
            continue
        try:
            align_predictions(first.predictions, run.predictions, first.folder, run.folder)
            check_same_classes(first.run, run.run, set(run.predictions["label"]), first.folder, run.folder)
        except FeatxError as error:
            left_out.append(LeftOut(str(run.folder), str(error)))
    return kept, left_out


def _digest_rows(table: pd.DataFrame) -> str:
    rows = sorted(zip(table["path"], table["label"], strict=True))
    return sha256_of(repr(rows))


@contextmanager
def _note_errors(notes: list[str]) -> Iterator[None]:
    try:
        yield
    except FeatxError as error:
        notes.append(str(error))


def _report(saved: SavedRun) -> ReportedRun:
    """Return what a report says of a run, with a note about each file that can't be read."""
    compared, note = summarize_run(saved.name, saved.run, saved.correct)
    notes = [*map(one_line, saved.run.notes), *([note] if note else [])]
    scores = Scores()
    with _note_errors(notes):
        scores = saved.scores
    with _note_errors(notes):
        _ = saved.layers
    with _note_errors(notes):
        _ = saved.curves
    return ReportedRun(
        saved=saved,
        compared=compared,
        scores=scores,
        per_class=report_classes(saved.predictions["label"].to_numpy(), saved.predictions["predicted"].to_numpy()),
        notes=tuple(notes),
    )
