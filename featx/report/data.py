"""What a report says, read from the folders of runs: nothing of it is drawn or laid out yet."""

from collections import Counter
from collections.abc import Sequence
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
    Scores,
    check_answers,
    count_confusion,
    describe_run,
    describe_weight,
    layers_table,
    list_answers,
    name_runs,
    put_back,
    put_in_order,
    read_curves,
    read_record,
    read_rows,
    read_scores,
    report_classes,
)
from featx.system import is_file, is_folder, sha256_of


@dataclass(frozen=True)
class ReportedRun:
    """One run.

    Attributes
    ----------
    name : str
        Its folder's name; the whole path where two runs share a name.
    folder : Path
    run : Run
    compared : ComparedRun
        Its accuracy, interval and costs.
    predictions : DataFrame
        Columns path, label and predicted, a row a test image, in an order that all runs of a report share.
    scores : Scores
        In the same order of rows.
    per_class, confusion : DataFrame
        See `featx.results.report_classes` and `featx.results.count_confusion`.
    layers, curves : DataFrame or None
        Of layers.csv and curves.csv, where the run has them.
    notes : tuple of str
    """

    name: str
    folder: Path
    run: Run
    compared: ComparedRun
    predictions: pd.DataFrame
    scores: Scores
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    layers: pd.DataFrame | None
    curves: pd.DataFrame | None
    notes: tuple[str, ...]

    @property
    def correct(self) -> np.ndarray:
        """Which test rows it gets right: bool, (n_rows,)."""
        return (self.predictions["label"] == self.predictions["predicted"]).to_numpy(bool)

    @property
    def classes(self) -> list[str]:
        """What the model knows, in the order of the columns of `scores`."""
        return [str(name) for name in self.run.protocol["classes"]]


@dataclass(frozen=True)
class LeftOut:
    """What was named and is not in the report: where it lies, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Everything that a report says.

    Attributes
    ----------
    answer : Answer
    runs : tuple of ReportedRun
        All on the same test rows, and able to answer the same classes, in the order that they were given.
    left_out : tuple of LeftOut
        Runs on other test rows, and folders that can't be read.
    n_rows : int
        Test rows.
    classes : tuple of str
        Of the test rows' labels and of what the runs predict, sorted.
    majority : float or None
        Accuracy of always answering the class that is most frequent in the rows fitted on; None where runs differ in
        it, or all of them have weighted figures only.
    store : StoreData or None
        What the store that the runs name says of the data; None where it isn't there.
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
        Folders of runs, or folders that hold some.

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
    given = [results] if isinstance(results, str | Path) else list(results)
    found, left_out = _find_runs([Path(path) for path in given])
    tables: dict[Path, tuple[Run, pd.DataFrame]] = {}
    for folder in found:
        try:
            tables[folder] = read_record(folder), read_rows(folder)
        except FeatxError as error:
            left_out.append(LeftOut(str(folder), str(error)))
    if not tables:
        reason = f"; the first, {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise FeatxError(
            f"{', '.join(map(str, given)) or 'nothing'}: no run to report on{reason}. Give folders that featx fit or "
            "featx finetune has written, or folders of them"
        )
    kept, others = _keep_same_rows(tables)
    left_out += others
    names = dict(zip(kept, name_runs(kept), strict=True))
    reference = tables[kept[0]][1]
    runs = tuple(_report(names[folder], folder, tables[folder][0], reference, tables[folder][1]) for folder in kept)
    store, store_notes = read_store(runs[0].run, [run.folder for run in runs], [run.run for run in runs])
    labels = {name for run in runs for column in ("label", "predicted") for name in run.predictions[column]}
    rates = [
        rate
        for run in runs
        # Of weighted rows it is another measure.
        if not describe_weight(run.run) and (rate := (run.run.test or {}).get("majority_class_rate")) is not None
    ]
    return Report(
        answer=answer_question([(run.run, run.compared, run.correct) for run in runs]),
        runs=runs,
        left_out=tuple(left_out),
        n_rows=len(reference),
        classes=tuple(sort_labels(labels)),
        majority=rates[0] if rates and max(rates) - min(rates) < 1e-9 else None,
        store=store,
        notes=store_notes,
    )


def most_confused(report: Report, n_classes: int) -> list[str]:
    """Return the classes that the answer's run, or the first one, takes for each other most; none if too few.

    Parameters
    ----------
    report : Report
    n_classes : int
    """
    name = report.answer.classical or report.answer.finetuned
    run = next((run for run in report.runs if run.name == name), report.runs[0])
    labels = sort_labels({*map(str, run.confusion.index), *map(str, run.confusion.columns)})
    counts = run.confusion.rename(index=str, columns=str).reindex(index=labels, columns=labels, fill_value=0)
    pairs = counts.to_numpy() + counts.to_numpy().T
    chosen: dict[str, None] = {}
    for place in np.argsort(-np.triu(pairs, 1), axis=None, kind="stable"):
        one, other = divmod(int(place), len(labels))
        if other <= one or not pairs[one, other]:
            break
        chosen |= dict.fromkeys((labels[one], labels[other]))
        if len(chosen) >= n_classes:
            return list(chosen)[:n_classes]
    return []


def _find_runs(given: Sequence[Path]) -> tuple[list[Path], list[LeftOut]]:
    """Return the folders of runs, each once, and what was named and is none."""
    found: dict[Path, Path] = {}
    left_out = []
    of_splits = "random splits (--repeats): a report is of one split; featx compare shows them"
    for path in given:
        _put_back_all(path)
        inner = _list_folders(path, "run.json")
        for folder in inner:
            found.setdefault(folder.resolve(), folder)
        repeated = _list_folders(path, "repeats.json")
        left_out += [LeftOut(str(folder), of_splits) for folder in repeated]
        if not inner and not repeated:
            what = "neither a run nor a folder of runs" if is_file(path) or is_folder(path) else "no such folder"
            left_out.append(LeftOut(str(path), what))
    return list(found.values()), left_out


def _put_back_all(path: Path) -> None:
    """Give a run, and those in a folder, their names back; see `featx.results.put_back`."""
    put_back(path)
    for waiting in path.glob(".*.featx-old") if is_folder(path) else ():
        put_back(path / waiting.name.removeprefix(".").removesuffix(".featx-old"))


def _list_folders(path: Path, record: str) -> list[Path]:
    """Return the folder itself, or those in it, that hold such a record."""
    if is_file(path / record):
        return [path]
    try:
        # A hidden folder is no run's own: one that is being written, say.
        return sorted(
            folder for folder in path.iterdir() if not folder.name.startswith(".") and is_file(folder / record)
        )
    except OSError:
        return []


def _keep_same_rows(tables: dict[Path, tuple[Run, pd.DataFrame]]) -> tuple[list[Path], list[LeftOut]]:
    """Return the runs on the test rows that most of them share, and why the others are none of these."""
    keys = {
        folder: (_digest_rows(table), *list_answers(run, set(table["label"])))
        for folder, (run, table) in tables.items()
    }
    most = Counter(keys.values()).most_common(1)[0][0]
    kept = [folder for folder, key in keys.items() if key == most]
    left_out = []
    first_run, first_table = tables[kept[0]]
    for folder, (run, table) in tables.items():
        if keys[folder] == most:
            continue
        try:
            put_in_order(first_table, table, kept[0], folder)
            check_answers(first_run, run, set(table["label"]), kept[0], folder)
        except FeatxError as error:
            left_out.append(LeftOut(str(folder), str(error)))
    return kept, left_out


def _digest_rows(table: pd.DataFrame) -> str:
    rows = sorted(zip(table["path"], table["label"], strict=True))
    return sha256_of(repr(rows))


def _report(name: str, folder: Path, run: Run, reference: pd.DataFrame, table: pd.DataFrame) -> ReportedRun:
    notes = [one_line(note) for note in run.notes]
    # Where each of the reference's rows stands in this run's file.
    places = pd.Series(np.arange(len(table)), index=table["path"]).loc[reference["path"]].to_numpy()
    ordered = table.iloc[places].reset_index(drop=True)
    label, predicted = ordered["label"].to_numpy(), ordered["predicted"].to_numpy()
    compared, note = describe_run(name, run, label == predicted)
    notes += [note] if note else []
    scores = Scores()
    try:
        scores = _in_order(read_scores(folder, [str(name) for name in run.protocol["classes"]]), places)
    except FeatxError as error:
        notes.append(str(error))
    curves = layers = None
    try:
        curves = read_curves(folder)
        if run.layers:
            layers = layers_table(run).astype({"layer": str})
    except FeatxError as error:
        notes.append(str(error))
    except (ValueError, TypeError, KeyError) as error:
        notes.append(f"{folder}: figures by layer that are no numbers: {error}")
    return ReportedRun(
        name=name,
        folder=folder,
        run=run,
        compared=compared,
        predictions=ordered,
        scores=scores,
        per_class=report_classes(label, predicted),
        confusion=count_confusion(label, predicted),
        layers=layers,
        curves=curves,
        notes=tuple(notes),
    )


def _in_order(scores: Scores, places: np.ndarray) -> Scores:
    return Scores(*(told if told is None else told[places] for told in (scores.probabilities, scores.decision)))
