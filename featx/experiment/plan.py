"""Plan an experiment without writing anything: what exists, what is to do, and what each store will take."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from featx.errors import FeatxError
from featx.experiment.existing import OTHER_ORDER, OTHER_TABLE
from featx.experiment.option_names import explain
from featx.experiment.run import OTHER_SETTINGS, Prepared, list_blocked, prepare
from featx.experiment.schema import Experiment, FinetuneSpec, FitSpec
from featx.experiment.stages import Stage, store_options
from featx.extract import forecast_extraction
from featx.fit import plan_cells
from featx.networks.recipes import read_recipe
from featx.store import PartialStore


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes
    ----------
    key, path : str
    status : str
        The existing result; see `featx.experiment.existing.Existing`.
    details : tuple of str
        Missing or different parts.
    problem : str
        The reason why it can't be done; "" if it can.
    what : str
        Amount of work, such as `2 cells x 5 folds`.
    seconds : float or None
        Predicted from a few batches; None of all but stores.
    disk_bytes : int or None
        The most that the disk must hold while the store is made.
    memory_bytes : int or None
        The most memory of this process.
    notes : tuple of str
        Limits of the figures.
    """

    key: str
    path: str
    status: str
    details: tuple[str, ...] = ()
    problem: str = ""
    what: str = ""
    seconds: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExperimentPlan:
    """The stages that an experiment would do.

    Attributes
    ----------
    title : str or None
    output : str
    n_images : int or None
        None where no store is asked for.
    stages : tuple of PlannedStage
    free_bytes : int
        Free space on the disk.
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
    """Plan what `featx.run_experiment` would do with the same arguments. Nothing is written.

    A few batches of images go through the network of every store that is to be made.

    Parameters
    ----------
    experiment, only, overwrite, echo
        See `featx.run_experiment`.

    Returns
    -------
    ExperimentPlan

    Raises
    ------
    FeatxError
        If the images can't be read, or don't have what a run asks for.
    """
    prepared = prepare(experiment, only=only, echo=echo)
    problems = dict(list_blocked(prepared, overwrite=overwrite))
    planned = []
    for stage in prepared.stages:
        existing = prepared.existing[stage.key]
        echo(f"{stage.key}: {existing.status}")
        plan = PlannedStage(stage.key, str(stage.path), existing.status, existing.details, problems.get(stage.key, ""))
        if not plan.problem and existing.status != "exists":
            plan = replace(plan, what=_count_work(stage))
            if stage.section == "stores":
                plan = _plan_store(experiment, prepared, stage, plan, echo)
        planned.append(plan)
    return ExperimentPlan(
        title=experiment.title,
        output=str(experiment.output),
        n_images=None if prepared.manifest is None else len(prepared.manifest),
        stages=tuple(planned),
        free_bytes=shutil.disk_usage(_nearest_folder(experiment.output)).free,
    )


def _nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the first one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _count_work(stage: Stage) -> str:
    """Return how much a stage does: cells, folds and splits, epochs, or runs; "" for a store."""
    spec = stage.spec
    if isinstance(spec, FitSpec):
        n_cells = len(plan_cells(spec.model, spec.grid, spec.discretize))
        folds = f" x {spec.cv} folds" if spec.cv is not None else ""
        splits = f" x {spec.repeats} splits" if spec.repeats is not None else ""
        return f"{n_cells:,} cell{'s' if n_cells > 1 else ''}{folds}{splits}"
    if isinstance(spec, FinetuneSpec):
        recipe = read_recipe(spec.recipe, changes=spec.set)
        n_epochs = sum(each.epochs for each in recipe.stages)
        return f"{recipe.name}: {len(recipe.stages)} stages, at most {n_epochs:,} epochs"
    return "" if stage.section == "stores" else f"{len(stage.needs)} runs"


def _plan_store(
    experiment: Experiment, prepared: Prepared, stage: Stage, plan: PlannedStage, echo: Callable[[str], None]
) -> PlannedStage:
    spec = stage.spec
    if spec.of_run is not None and not prepared.exists(stage.needs[0]):
        n_images = len(prepared.manifest)
        return replace(plan, what=f"{n_images:,} images", notes=(f"no figures before {stage.needs[0]} is done",))
    if plan.status == "incomplete" and set(plan.details) <= {OTHER_ORDER, OTHER_TABLE}:
        disk_bytes = stage.path.stat().st_size
        return replace(plan, what="no image is computed again", seconds=0.0, disk_bytes=disk_bytes, memory_bytes=0)
    store_path = _nearest_folder(stage.path.parent) / stage.path.name
    try:
        forecast = forecast_extraction(prepared.manifest, store_path, store_options(experiment, spec), echo=echo)
    except FeatxError as error:
        return replace(plan, problem=explain(error))
    n_done = min(PartialStore(stage.path).n_done(), forecast.n_images) if plan.status == "unfinished" else 0
    n_left = forecast.n_images - n_done
    return replace(
        plan,
        what=f"{n_left:,} images, {forecast.n_features:,} features, {forecast.engine} on {forecast.device}",
        seconds=round(forecast.startup_seconds + n_left / forecast.images_per_second, 1),
        disk_bytes=forecast.store_bytes + forecast.parts_bytes,
        memory_bytes=forecast.memory_bytes,
        notes=("at most: only what is missing is computed",) if plan.status == "incomplete" else (),
    )


_IS = {"other": "other settings"}


def plan_table(plan: ExperimentPlan) -> pd.DataFrame:
    """Return one row per stage: what exists, what is to do, and of stores seconds and MB of disk and memory."""
    return pd.DataFrame(
        {
            "stage": stage.key,
            "is": "can't be done" if stage.problem else _IS.get(stage.status, stage.status),
            "to do": stage.what,
            "seconds": _shown(stage.seconds, 1),
            "disk MB": _shown(stage.disk_bytes, 1e6),
            "memory MB": _shown(stage.memory_bytes, 1e6),
        }
        for stage in plan.stages
    )


def _shown(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:,.1f}"


def format_plan(plan: ExperimentPlan) -> Iterator[str]:
    """Yield the lines below the table of a plan: problems, details, notes and sums."""
    for stage in plan.stages:
        if stage.problem:
            yield f"{stage.key}: {stage.problem}"
        elif texts := (*stage.details, *stage.notes):
            yield f"{stage.key}: {'; '.join(texts)}"
    if any(stage.status == "other" and OTHER_SETTINGS in stage.problem for stage in plan.stages):
        yield "overwrite replaces what has other settings; another output leaves it alone"
    if all(stage.status == "exists" for stage in plan.stages):
        yield "everything exists"
        return
    stores = [stage for stage in plan.stages if stage.seconds is not None]
    if stores:
        seconds, n_bytes = (sum(getattr(stage, name) for stage in stores) for name in ("seconds", "disk_bytes"))
        yield f"{seconds:,.1f} s and {n_bytes / 1e6:,.1f} MB of disk for stores, at most"
    yield f"{plan.free_bytes / 1e6:,.0f} MB of disk are free"
