"""Run an experiment: keep what exists, do what is missing stage by stage, and write down what was run."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError, StoppedError
from featx.experiment.existing import Existing, find_existing
from featx.experiment.images import check_images, read_divided_images
from featx.experiment.option_names import explain
from featx.experiment.record import RecordKeeper, check_kept_source, read_record
from featx.experiment.schema import Experiment, FinetuneSpec
from featx.experiment.stages import Stage, Work, choose_stages, list_stages, summarize_stage
from featx.images import Manifest
from featx.store import PartialStore

if TYPE_CHECKING:
    from featx.cluster import Cluster


OTHER_SETTINGS = "exists with other settings"
"""How a message says that something would have to be replaced."""


_STATUS = {
    "missing": "does not exist",
    "unfinished": "is unfinished",
    "incomplete": "is incomplete",
    "other": "has other settings",
}


@dataclass(frozen=True)
class DoneStage:
    """The result of a stage.

    Attributes
    ----------
    key : str
        Such as `fits.rf`.
    path : str
        The store, the run's folder or the page.
    was : str
        The existing result before; see `featx.experiment.existing.Existing`.
    is_done : bool
        True if this run did anything for it.
    seconds : float
        Of all fine-tunings that were trained together, if it is one of them.
    summary : str
        Its result in a line; "" if nothing is known.
    """

    key: str
    path: str
    was: str
    is_done: bool
    seconds: float
    summary: str


@dataclass(frozen=True)
class ExperimentRun:
    """The result of an experiment.

    Attributes
    ----------
    output : str
    record : str
        The file that says what was run, everything written out.
    stages : tuple of DoneStage
        Those that were asked for, in order.
    report : str or None
        The page, if it exists.
    """

    output: str
    record: str
    stages: tuple[DoneStage, ...]
    report: str | None


@dataclass(frozen=True)
class Prepared:
    """An experiment that is ready to start.

    Attributes
    ----------
    stages : list of Stage
        Those that were asked for, in order.
    existing : dict of str to Existing
        Existing results of these and of what they need, by key.
    manifest : Manifest or None
        The images; None where no store was asked for.
    """

    stages: list[Stage]
    existing: dict[str, Existing]
    manifest: Manifest | None

    def exists(self, key: str) -> bool:
        """Check whether a stage, or one that others need, exists with the same settings."""
        return key in self.existing and self.existing[key].status == "exists"


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

    What exists with the same settings is kept; what was stopped resumes; layers and images that a store doesn't have
    are added. `<output>/experiment.yaml` says what was run.

    Parameters
    ----------
    experiment : Experiment
        See `featx.read_experiment`.
    only : str or sequence of str, optional
        The sections to do (stores, finetunes, fits, choices, report), single stages (`fits.rf`) or patterns of them
        (`fits.rf-*`); default: all. Stages that they need must exist.
    cluster : Cluster, optional
        Workers that extract, fit, and train recipes at the same time; see `featx.cluster.open_cluster`. Default: this
        process.
    overwrite : bool, default False
        Replace what exists with other settings; what has the same is kept all the same.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Receives a line for each step.

    Returns
    -------
    ExperimentRun

    Raises
    ------
    FeatxError
        If something exists with other settings, or what is needed doesn't exist: all of it, before anything starts. Or
        if a stage fails: those before it are kept.

    Examples
    --------
    >>> done = run_experiment(read_experiment("experiment.yaml"), only="fits")    # doctest: +SKIP
    """
    prepared = prepare(experiment, only=only, echo=echo)
    check_possible(experiment, prepared, overwrite=overwrite)
    work = Work(experiment, prepared.manifest, progress, echo, cluster)
    keeper = RecordKeeper(experiment, prepared.manifest)
    stages = list_stages(experiment)
    keeper.note([stage for stage in stages if prepared.exists(stage.key)], prepared.existing, is_done=False)
    done: list[DoneStage] = []
    for group in _group(prepared) if cluster is not None else [[stage] for stage in prepared.stages]:
        results = _do(work, group, prepared.existing, overwrite)
        made = {result.key for result in results if result.is_done}
        keeper.note([stage for stage in group if stage.key in made], prepared.existing, is_done=True)
        done += results
    is_reported = any(stage.section == "report" for stage in stages) and experiment.report_path.is_file()
    return ExperimentRun(
        output=str(experiment.output),
        record=str(experiment.record_path),
        stages=tuple(done),
        report=str(experiment.report_path) if is_reported else None,
    )


def prepare(
    experiment: Experiment, *, only: str | Sequence[str] | None = None, echo: Callable[[str], None] = lambda line: None
) -> Prepared:
    """Read the images, and find out what exists. Nothing is written.

    Raises
    ------
    FeatxError
        If something else is in the place of the record or of a folder, the images can't be read or don't serve a fit
        or a fine-tuning, or no store is asked for and the source or the split is another than the record's.
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
    existing = find_existing(experiment, stages, chosen, manifest)
    check_images(experiment, manifest, existing)
    folders = [stage.path.parent for stage in chosen if existing[stage.key].status != "exists"]
    for folder in dict.fromkeys([experiment.output, *folders] if folders else []):
        _check_folder(folder)
    return Prepared(chosen, existing, manifest)


def _check_folder(path: Path, *, is_written: bool = True) -> None:
    """Check that a folder can be made and, if it is to be, written to; nothing is made."""
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise FeatxError(f"{nearest}: expected a folder, found a file; move it away, or name another output")
    if is_written and not os.access(nearest, os.W_OK | os.X_OK):
        raise FeatxError(f"{nearest}: this folder can't be written to: give yourself the right to, or another output")


def check_possible(experiment: Experiment, prepared: Prepared, *, overwrite: bool) -> None:
    """Raise an error that names all stages that can't be done, if there are any.

    Raises
    ------
    FeatxError
    """
    problems = dict(list_blocked(prepared, overwrite=overwrite))
    if not problems:
        return
    others = any(prepared.existing[key].status == "other" for key in problems)
    remedy = " Give `overwrite` to replace what has other settings, or another output" if others else ""
    texts = "; ".join(f"{key}: {text}" for key, text in problems.items())
    raise FeatxError(f"{experiment.path}: {texts}.{remedy}")


def list_blocked(prepared: Prepared, *, overwrite: bool) -> Iterator[tuple[str, str]]:
    """Yield the key of each stage that can't be done, and why."""
    keys = {stage.key for stage in prepared.stages}
    for stage in prepared.stages:
        existing = prepared.existing[stage.key]
        for need in stage.needs:
            if need not in keys and not prepared.exists(need):
                missing = prepared.existing[need]
                details = "".join(f" ({detail})" for detail in missing.details)
                yield stage.key, f"needs {need}, which {_STATUS[missing.status]}{details}: do {need} first"
                break
        else:
            if existing.status == "other" and not overwrite:
                yield stage.key, f"{stage.path} {OTHER_SETTINGS}: {'; '.join(existing.details)}"


def _group(prepared: Prepared) -> list[list[Stage]]:
    """Return the stages, in order; neighbouring fine-tunings that differ in their recipe alone are one group."""

    def kind(stage: Stage) -> tuple[object, ...]:
        status = prepared.existing[stage.key].status
        if not isinstance(stage.spec, FinetuneSpec) or status == "exists":
            return (stage.key,)
        return stage.spec.store, replace(stage.spec, recipe=""), status == "other"

    groups: list[list[Stage]] = []
    for stage in prepared.stages:
        if groups and kind(groups[-1][0]) == kind(stage):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


_STARTS = {
    "missing": "starts",
    "unfinished": "resumes",
    "incomplete": "is added to",
    "other": "starts from scratch",
}


def _do(work: Work, stages: Sequence[Stage], existing: Mapping[str, Existing], overwrite: bool) -> list[DoneStage]:
    """Do stages that go together."""
    first = existing[stages[0].key]
    if first.status == "exists":
        work.echo(f"{stages[0].key}: exists already, {stages[0].path}")
        return [DoneStage(stages[0].key, str(stages[0].path), first.status, False, 0.0, summarize_stage(stages[0]))]
    for stage in stages:
        was = existing[stage.key]
        details = f", {'; '.join(was.details)}" if was.details else ""
        work.echo(f"{stage.key}: {_STARTS[was.status]}{details}")
        _make_folder(stage)
    # A stopped training resumes where it can, and only it knows all that it was started with.
    is_replaced = first.status == "other" or (overwrite and stages[0].section == "finetunes")
    started = time.monotonic()
    try:
        if first.is_addition:
            _clear_addition(stages[0])
            is_replaced = False
        summaries = work.do(stages, overwrite=is_replaced)
    except StoppedError:
        # It says how to resume.
        raise
    except FeatxError as error:
        raise FeatxError(explain(error, ", ".join(stage.key for stage in stages))) from error
    seconds = round(time.monotonic() - started, 3)
    done = []
    for stage, summary in zip(stages, summaries, strict=True):
        if summary:
            work.echo(f"{stage.key}: {summary}; {seconds:,.1f} s")
        was, is_done = existing[stage.key].status, summary is not None
        done.append(DoneStage(stage.key, str(stage.path), was, is_done, seconds, summary or ""))
    return done


def _clear_addition(stage: Stage) -> None:
    """Delete the parts of another addition to a store; the store itself stays and is added to."""
    folder = PartialStore(stage.path)
    with folder.lock():
        folder.clear()


def _make_folder(stage: Stage) -> None:
    try:
        stage.path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(
            f"{stage.key}: {stage.path.parent}: this folder can't be made: {error.strerror}. Name another output"
        ) from error
