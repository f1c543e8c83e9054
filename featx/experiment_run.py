"""A whole experiment: what is there is kept, what is missing is done stage by stage, and all of it is written down."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import featx
from featx.errors import FeatxError, StoppedError
from featx.experiment import experiment_record
from featx.experiment_found import find_all
from featx.experiment_parts import Experiment
from featx.experiment_rows import check_images
from featx.experiment_stages import Stage, choose_stages, list_stages, read_images
from featx.experiment_stores import Found
from featx.experiment_work import Work, describe_stage, tuning_options
from featx.manifest import Manifest
from featx.predictions import open_whole
from featx.strict_yaml import to_yaml

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster

_HEAD = "# featx run"

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
        What was there before; see `featx.experiment_stores.Found`.
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


def run_experiment(
    experiment: Experiment,
    *,
    only: Sequence[str] | None = None,
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
    only : sequence of str, optional
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
    _write_record(experiment)
    work = Work(experiment, prepared.manifest, progress, echo, cluster)
    groups = _group(prepared) if cluster is not None else [[stage] for stage in prepared.stages]
    done = tuple(stage for group in groups for stage in _do(work, group, prepared.found[group[0].key], overwrite))
    is_reported = experiment.report_path.is_file()
    return ExperimentRun(
        output=str(experiment.output),
        record=str(experiment.record_path),
        stages=done,
        report=str(experiment.report_path) if is_reported else None,
    )


def prepare(
    experiment: Experiment, *, only: Sequence[str] | None = None, echo: Callable[[str], None] = lambda line: None
) -> Prepared:
    """Read the images, and see what is there. Nothing is written.

    Raises
    ------
    FeatxError
        If something else is in the place of the record, the images can't be read, or they lack what a run asks for.
    """
    read_record(experiment)
    stages = list_stages(experiment)
    chosen = choose_stages(stages, only)
    manifest = None
    if any(stage.section == "stores" for stage in chosen):
        manifest = read_images(experiment, echo=echo)
        check_images(experiment, manifest)
    return Prepared(chosen, find_all(experiment, stages, chosen, manifest), manifest)


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
                yield stage.key, f"{stage.path} is there with other settings: {'; '.join(found.details)}"


def _group(prepared: Prepared) -> list[list[Stage]]:
    """Return the stages, in order; neighbouring fine-tunings that differ in their recipe alone are one group."""

    def kind(stage: Stage) -> object:
        status = prepared.found[stage.key].status
        if stage.section != "finetunes" or status == "there":
            return stage.key
        return stage.spec.store, sorted(tuning_options(stage.spec).items(), key=str), status == "other"

    groups: list[list[Stage]] = []
    for stage in prepared.stages:
        if groups and kind(groups[-1][0]) == kind(stage):
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _do(work: Work, stages: Sequence[Stage], found: Found, overwrite: bool) -> list[DoneStage]:
    """Do stages that go together; what is there of the first is there of all."""
    if found.status == "there":
        work.echo(f"{stages[0].key}: there already, {stages[0].path}")
        return [DoneStage(stages[0].key, str(stages[0].path), found.status, False, 0.0, describe_stage(stages[0]))]
    details = f", {'; '.join(found.details)}" if found.details else ""
    keys = ", ".join(stage.key for stage in stages)
    work.echo(f"{keys}: {_BEGINNINGS[found.status]}{details}")
    for stage in stages:
        stage.path.parent.mkdir(parents=True, exist_ok=True)
    # A training that was stopped goes on where it can, and only it knows all that it was begun with.
    is_replaced = found.status == "other" or (overwrite and stages[0].section == "finetunes")
    begun = time.monotonic()
    try:
        summaries = work.do(stages, overwrite=is_replaced)
    except StoppedError:
        # It says how to go on.
        raise
    except FeatxError as error:
        raise FeatxError(f"{keys}: {error}") from error
    seconds = round(time.monotonic() - begun, 3)
    done = []
    for stage, summary in zip(stages, summaries, strict=True):
        if summary:
            work.echo(f"{stage.key}: {summary}; {seconds:,.1f} s")
        is_done = summary is not None
        done.append(DoneStage(stage.key, str(stage.path), found.status, is_done, seconds, summary or ""))
    return done


_BEGINNINGS = {
    "missing": "begins",
    "unfinished": "goes on",
    "incomplete": "lacks something and is added to",
    "other": "is made anew",
}


def read_record(experiment: Experiment) -> str | None:
    """Return the record that an earlier run has left, without its first line; None where there is none.

    Raises
    ------
    FeatxError
        If it can't be read, or is a file of somebody else's.
    """
    path = experiment.record_path
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FeatxError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.startswith(_HEAD):
        raise FeatxError(
            f"{path}: stands where featx run keeps its record, and is none (its first line would say so): name another "
            "folder as output"
        )
    return text.partition("\n")[2]


def _write_record(experiment: Experiment) -> None:
    """Write down what is run, everything written out, unless that is what the record says already."""
    record = to_yaml(experiment_record(experiment))
    if read_record(experiment) == record:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = f"{_HEAD}, featx {featx.__version__}, {now}: everything as it was run; featx run takes this file too\n"
    try:
        experiment.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(f"{experiment.output}: this folder can't be made: {error.strerror}") from error
    with open_whole(experiment.record_path) as file:
        file.write((head + record).encode("utf-8"))
