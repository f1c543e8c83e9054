"""What an experiment would do, and what that would take as far as it can be known; nothing is written."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from featx.errors import FeatxError
from featx.experiment.existing_stores import WITHOUT_PIXELS
from featx.experiment.option_names import explain
from featx.experiment.plan_finetunes import foresee_network, plan_finetune
from featx.experiment.plan_fits import RECORD_BYTES, plan_fit
from featx.experiment.run import OTHER_SETTINGS, Prepared, list_blocked, prepare
from featx.experiment.schema import Experiment
from featx.experiment.stages import Stage, network_options, store_options
from featx.extract import ExtractOptions, Forecast, forecast_extraction
from featx.store import RunFolder


@dataclass(frozen=True)
class PlannedStage:
    """What a stage would do.

    Attributes
    ----------
    key, path : str
    status : str
        What is there; see `featx.experiment.existing_stores.Found`.
    details : tuple of str
        What is missing, or differs.
    problem : str
        Why it can't be done; "" where it can.
    what : str
        How much there is to do.
    seconds : float or None
        Predicted by what was measured; None: nothing tells.
    disk_bytes : int or None
        Of the result and, while it is made, beside it. None: nothing tells.
    passing_bytes : int
        Those of them that are free again when the stage is done.
    memory_bytes : int or None
        The most of this process, or (of a fit) of the matrix and Gram matrices. None: nothing tells.
    notes : tuple of str
        What the figures are by, and what they leave out.
    """

    key: str
    path: str
    status: str
    details: tuple[str, ...] = ()
    problem: str = ""
    what: str = ""
    seconds: float | None = None
    disk_bytes: int | None = None
    passing_bytes: int = 0
    memory_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment would do.

    Attributes
    ----------
    title : str or None
    output : str
    n_images : int or None
        None where no store is asked for.
    stages : tuple of PlannedStage
    free_bytes : int
        What the disk has.
    """

    title: str | None
    output: str
    n_images: int | None
    stages: tuple[PlannedStage, ...]
    free_bytes: int

    @property
    def is_possible(self) -> bool:
        """Whether every stage can be done."""
        return not any(stage.problem for stage in self.stages)


def plan_experiment(
    experiment: Experiment,
    *,
    only: str | Sequence[str] | None = None,
    overwrite: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> ExperimentPlan:
    """Say what `featx.run_experiment` would do with the same arguments. Nothing is written.

    A few batches of images go through the network of every store that is to be made, and every stage of a fine-tuning
    trains on a few. Other figures are those of earlier runs in the output folder, or plain arithmetic; where nothing
    tells, there is none.

    Parameters
    ----------
    experiment, only, overwrite, echo
        See `featx.run_experiment`.

    Raises
    ------
    FeatxError
        If the images can't be read, or lack something that a run asks for.
    """
    prepared = prepare(experiment, only=only, echo=echo)
    problems = dict(list_blocked(prepared, overwrite=overwrite))
    forecasts: dict[str, Forecast] = {}
    planned = []
    for stage in prepared.stages:
        found = prepared.found[stage.key]
        echo(f"{stage.key}: {found.status}")
        plan = PlannedStage(stage.key, str(stage.path), found.status, found.details, problems.get(stage.key, ""))
        planned.append(plan if plan.problem else _plan(experiment, prepared, stage, plan, forecasts, echo))
    return ExperimentPlan(
        title=experiment.title,
        output=str(experiment.output),
        n_images=None if prepared.manifest is None else len(prepared.manifest),
        stages=tuple(planned),
        free_bytes=shutil.disk_usage(_nearest_folder(experiment.output)).free,
    )


def _nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the first above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _plan(
    experiment: Experiment,
    prepared: Prepared,
    stage: Stage,
    plan: PlannedStage,
    forecasts: dict[str, Forecast],
    echo: Callable[[str], None],
) -> PlannedStage:
    if plan.status == "there":
        return replace(plan, seconds=0.0, disk_bytes=0, memory_bytes=0)
    if stage.section == "stores":
        return _plan_store(experiment, prepared, stage, plan, forecasts, echo)
    if stage.section == "finetunes":
        return replace(plan, **plan_finetune(experiment, prepared, stage, echo=echo))
    if stage.section == "fits":
        return replace(plan, **plan_fit(experiment, prepared, stage, forecasts))
    what = f"{len(stage.needs)} runs"
    if stage.section == "choices":
        # Records are compared, and nothing is fitted.
        disk_bytes = RECORD_BYTES * experiment.fits[stage.spec.among[0]].repeats
        return replace(plan, what=what, seconds=0.0, disk_bytes=disk_bytes, memory_bytes=0)
    return replace(plan, what=what)


def _plan_store(
    experiment: Experiment,
    prepared: Prepared,
    stage: Stage,
    plan: PlannedStage,
    forecasts: dict[str, Forecast],
    echo: Callable[[str], None],
) -> PlannedStage:
    spec, found = stage.spec, prepared.found[stage.key]
    notes = ("at most: only what is missing is computed",) if found.status == "incomplete" else ()
    beside = _nearest_folder(stage.path.parent) / stage.path.name
    try:
        if spec.of_run is not None and not prepared.is_there(stage.needs[0]):
            options, build = store_options(spec), {"build": foresee_network(experiment, prepared, spec.of_run)}
            notes = (f"by random weights: {stage.needs[0]} is yet to be done",)
        else:
            options, build = network_options(experiment, spec), {}
        forecast = forecast_extraction(prepared.manifest, beside, ExtractOptions(**options), echo=echo, **build)
    except FeatxError as error:
        return replace(plan, problem=explain(error))
    forecasts[stage.name] = forecast
    if found.status == "incomplete" and set(found.details) <= set(WITHOUT_PIXELS):
        disk_bytes = stage.path.stat().st_size
        figures = {"seconds": 0.0, "disk_bytes": disk_bytes, "passing_bytes": disk_bytes, "memory_bytes": 0}
        return replace(plan, what="no image is computed again", **figures)
    n_done = min(RunFolder(stage.path).n_done(), forecast.n_images) if found.status == "unfinished" else 0
    seconds = forecast.startup_seconds + (forecast.n_images - n_done) / forecast.images_per_second
    return replace(
        plan,
        what=f"{forecast.n_images - n_done:,} images, {forecast.n_features:,} features, {forecast.engine} on "
        f"{forecast.device}",
        seconds=round(seconds, 1),
        disk_bytes=forecast.store_bytes + forecast.parts_bytes,
        passing_bytes=forecast.parts_bytes,
        memory_bytes=forecast.memory_bytes,
        notes=notes,
    )


_IS = {"other": "other settings"}


def plan_table(plan: ExperimentPlan) -> pd.DataFrame:
    """Return a line a stage: what is there, seconds, MB of disk and memory; "?" where nothing tells."""
    return pd.DataFrame(
        {
            "stage": stage.key,
            "is": "can't be done" if stage.problem else _IS.get(stage.status, stage.status),
            "to do": "" if stage.status == "there" else stage.what,
            "seconds": _shown(stage.seconds, 1),
            "disk MB": _shown(stage.disk_bytes, 1e6),
            "memory MB": _shown(stage.memory_bytes, 1e6),
        }
        for stage in plan.stages
    )


def _shown(value: float | None, unit: float) -> str:
    return "?" if value is None else f"{value / unit:,.1f}"


def describe_plan(plan: ExperimentPlan) -> Iterator[str]:
    """Yield what the table of a plan leaves unsaid, a line each: problems, details, notes, sums."""
    for stage in plan.stages:
        if stage.problem:
            yield f"{stage.key}: {stage.problem}"
        elif texts := (*stage.details, *stage.notes):
            yield f"{stage.key}: {'; '.join(texts)}"
    if any(stage.status == "other" and OTHER_SETTINGS in stage.problem for stage in plan.stages):
        yield "--overwrite makes anew what has other settings; another output leaves it alone"
    left = [stage for stage in plan.stages if stage.status != "there"]
    if not left:
        yield "everything is there"
        return
    seconds = [stage.seconds for stage in left if stage.seconds is not None]
    yield f"{sum(seconds):,.1f} s in all{_unknown(left, seconds)}"
    sizes = [stage.disk_bytes for stage in left if stage.disk_bytes is not None]
    yield f"{_sum_disk(left) / 1e6:,.1f} MB of disk in all{_unknown(left, sizes)}"
    yield f"{plan.free_bytes / 1e6:,.0f} MB of disk are free"


def _unknown(left: Sequence[PlannedStage], known: Sequence[float]) -> str:
    n_unknown = len(left) - len(known)
    return f", and {n_unknown} stage{'s' if n_unknown > 1 else ''} of which nothing tells" if n_unknown else ""


def _sum_disk(left: Sequence[PlannedStage]) -> int:
    """Return the most that the disk must hold at once, as far as it is known: stages are done one after the other."""
    kept = most = 0
    for stage in left:
        most = max(most, kept + (stage.disk_bytes or 0))
        kept += (stage.disk_bytes or 0) - stage.passing_bytes
    return most
