"""A whole experiment: what is there is kept, what is missing is done stage by stage, and all of it is written down."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError, StoppedError
from featx.experiment.existing_runs import find_all
from featx.experiment.existing_stores import Found
from featx.experiment.images import check_images, read_divided_images
from featx.experiment.option_names import explain
from featx.experiment.record import RecordKeeper, check_kept_source, read_record
from featx.experiment.schema import Experiment
from featx.experiment.stages import Stage, Work, choose_stages, describe_stage, list_stages
from featx.images import Manifest
from featx.store import RunFolder

if TYPE_CHECKING:
    from featx.cluster import Cluster


OTHER_SETTINGS = "is there with other settings"
"""How a message says that something would have to be made anew."""


_STATUS = {
    "missing": "not there",
    "unfinished": "unfinished",
    "incomplete": "incomplete",
    "other": "there with other settings",
}


@dataclass(frozen=True)
class DoneStage:
    """What became of a stage.

    Attributes
    ----------
    key : str
        Such as `fits.rf`.
    path : str
        What it makes.
    was : str
        What was there before; see `featx.experiment.existing_stores.Found`.
    is_done : bool
        Whether this run did anything for it.
    seconds : float
        Of all fine-tunings that were trained together, if it is one of them.
    summary : str
        What it came to, now or before; "" where nothing tells.
    """

    key: str
    path: str
    was: str
    is_done: bool
    seconds: float
    summary: str


@dataclass(frozen=True)
class ExperimentRun:
    """What a run of an experiment did.

    Attributes
    ----------
    output : str
    record : str
        The file that says what was run, everything written out.
    stages : tuple of DoneStage
        Those that were asked for, in order.
    report : str or None
        The page, if it is there.
    """

    output: str
    record: str
    stages: tuple[DoneStage, ...]
    report: str | None


@dataclass(frozen=True)
class Prepared:
    """What is known before an experiment begins.

    Attributes
    ----------
    stages : list of Stage
        Those that were asked for, in order.
    found : dict of str to Found
        What is there of these and of what they need, by key.
    manifest : Manifest or None
        The images; None where no store was asked for.
    """

    stages: list[Stage]
    found: dict[str, Found]
    manifest: Manifest | None

    def is_there(self, key: str) -> bool:
        """Whether a stage, or what one needs, is there with the same settings."""
        return key in self.found and self.found[key].status == "there"


def run_experiment(
    experiment: Experiment,
    *,
    only: str | Sequence[str] | None = None,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> ExperimentRun:
    """Do an experiment, stage by stage: stores, fine-tunings, stores of their networks, fits, choices, the report.

    What is there already with the same settings is kept; what was stopped goes on; a store that lacks layers or images
    is added to. `<output>/experiment.yaml` says what was run.

    Parameters
    ----------
    experiment : Experiment
        See `featx.read_experiment`.
    only : str or sequence of str, optional
        Of stores, finetunes, fits, choices and report, those to do, or single stages (`fits.rf`) and patterns of them
        (`fits.rf-*`); default: all. What they need is there.
    cluster : Cluster, optional
        Workers that extract, fit, and train recipes at the same time; see `featx.cluster.open_cluster`. Default: this
        process.
    overwrite : bool, default False
        Replace what is there with other settings; what has the same is kept all the same.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Is told what goes on, a line at a time.

    Returns
    -------
    ExperimentRun

    Raises
    ------
    FeatxError
        If something is there with other settings, or what is needed isn't there: all of it, before anything begins. Or
        if a stage fails: those before it are kept.
    """
    prepared = prepare(experiment, only=only, echo=echo)
    refuse_blocked(experiment, prepared, overwrite=overwrite)
    work = Work(experiment, prepared.manifest, progress, echo, cluster)
    keeper = RecordKeeper(experiment, prepared.manifest)
    there = [stage for stage in list_stages(experiment) if prepared.is_there(stage.key)]
    keeper.note(there, prepared.found, is_done=False)
    done: list[DoneStage] = []
    for group in _group(prepared) if cluster is not None else [[stage] for stage in prepared.stages]:
        done += _do(work, group, prepared.found, overwrite)
        made = {stage.key for stage in done if stage.is_done}
        keeper.note([stage for stage in group if stage.key in made], prepared.found, is_done=True)
    is_reported = experiment.report is not None and any(stage.section == "report" for stage in list_stages(experiment))
    return ExperimentRun(
        output=str(experiment.output),
        record=str(experiment.record_path),
        stages=tuple(done),
        report=str(experiment.report_path) if is_reported and experiment.report_path.is_file() else None,
    )


def prepare(
    experiment: Experiment, *, only: str | Sequence[str] | None = None, echo: Callable[[str], None] = lambda line: None
) -> Prepared:
    """Read the images, and see what is there. Nothing is written.

    Raises
    ------
    FeatxError
        If something else is in the place of the record or of a folder, the images can't be read, they lack what a run
        asks for, or no store is asked for and the source or the split is another than the record's.
    """
    _check_folder(experiment.output, is_written=False)
    read_record(experiment)
    stages = list_stages(experiment)
    chosen = choose_stages(stages, only)
    manifest = None
    if any(stage.section == "stores" for stage in chosen):
        manifest = read_divided_images(experiment, echo=echo)
    elif note := check_kept_source(experiment):
        echo(note)
    found = find_all(experiment, stages, chosen, manifest)
    check_images(experiment, manifest, found)
    folders = [stage.path.parent for stage in chosen if found[stage.key].status != "there"]
    for folder in dict.fromkeys([experiment.output, *folders] if folders else []):
        _check_folder(folder)
    return Prepared(chosen, found, manifest)


def _check_folder(path: Path, *, is_written: bool = True) -> None:
    """Refuse a folder that can't be made or, if it is to be, written to; nothing is made."""
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise FeatxError(f"{nearest}: expected a folder, found a file; move it away, or name another output")
    if is_written and not os.access(nearest, os.W_OK | os.X_OK):
        raise FeatxError(f"{nearest}: this folder can't be written to: give yourself the right to, or another output")


def refuse_blocked(experiment: Experiment, prepared: Prepared, *, overwrite: bool) -> None:
    """Refuse to begin where stages can't be done: all of them at once.

    Raises
    ------
    FeatxError
    """
    problems = dict(list_blocked(prepared, overwrite=overwrite))
    if not problems:
        return
    others = any(prepared.found[key].status == "other" for key in problems)
    mend = " Give --overwrite to replace what has other settings, or another output" if others else ""
    texts = "; ".join(f"{key}: {text}" for key, text in problems.items())
    raise FeatxError(f"{experiment.path}: {texts}.{mend}")


def list_blocked(prepared: Prepared, *, overwrite: bool) -> Iterator[tuple[str, str]]:
    """Yield the key of each stage that can't be done, and why."""
    keys = {stage.key for stage in prepared.stages}
    for stage in prepared.stages:
        found = prepared.found[stage.key]
        for need in stage.needs:
            status = prepared.found[need].status
            if need not in keys and status != "there":
                details = "".join(f" ({detail})" for detail in prepared.found[need].details)
                yield stage.key, f"needs {need}, which is {_STATUS[status]}{details}: run --only {need} first"
                break
        else:
            if found.status == "other" and not overwrite:
                yield stage.key, f"{stage.path} {OTHER_SETTINGS}: {'; '.join(found.details)}"


def _group(prepared: Prepared) -> list[list[Stage]]:
    """Return the stages, in order; neighbouring fine-tunings that differ in their recipe alone are one group."""

    def kind(stage: Stage) -> object:
        status = prepared.found[stage.key].status
        if stage.section != "finetunes" or status == "there":
            return stage.key
        return stage.spec.store, replace(stage.spec, recipe=""), status == "other"

    groups: list[list[Stage]] = []
    for stage in prepared.stages:
        if groups and kind(groups[-1][0]) == kind(stage):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _do(work: Work, stages: Sequence[Stage], found: Mapping[str, Found], overwrite: bool) -> list[DoneStage]:
    """Do stages that go together."""
    first = found[stages[0].key]
    if first.status == "there":
        work.echo(f"{stages[0].key}: there already, {stages[0].path}")
        return [DoneStage(stages[0].key, str(stages[0].path), first.status, False, 0.0, describe_stage(stages[0]))]
    for stage in stages:
        was = found[stage.key]
        details = f", {'; '.join(was.details)}" if was.details else ""
        work.echo(f"{stage.key}: {_BEGINNINGS[was.status]}{details}")
        _make_folder(stage)
    # A training that was stopped goes on where it can, and only it knows all that it was begun with.
    is_replaced = first.status == "other" or (overwrite and stages[0].section == "finetunes")
    begun = time.monotonic()
    try:
        if first.is_addition:
            _clear_addition(stages[0])
            is_replaced = False
        summaries = work.do(stages, overwrite=is_replaced)
    except StoppedError:
        # It says how to go on.
        raise
    except FeatxError as error:
        raise FeatxError(explain(error, ", ".join(stage.key for stage in stages))) from error
    seconds = round(time.monotonic() - begun, 3)
    done = []
    for stage, summary in zip(stages, summaries, strict=True):
        if summary:
            work.echo(f"{stage.key}: {summary}; {seconds:,.1f} s")
        was, is_done = found[stage.key].status, summary is not None
        done.append(DoneStage(stage.key, str(stage.path), was, is_done, seconds, summary or ""))
    return done


def _clear_addition(stage: Stage) -> None:
    """Delete the parts that were to be added to a store otherwise; the store itself stays and is added to."""
    folder = RunFolder(stage.path)
    with folder.lock():
        folder.clear()


def _make_folder(stage: Stage) -> None:
    try:
        stage.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(
            f"{stage.key}: {stage.path.parent}: this folder can't be made: {error.strerror}. Name another output"
        ) from error


_BEGINNINGS = {
    "missing": "begins",
    "unfinished": "goes on",
    "incomplete": "lacks something and is added to",
    "other": "is made anew",
}
