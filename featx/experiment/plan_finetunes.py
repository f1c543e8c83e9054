"""What a fine-tuning of an experiment would take, whether or not its store is there; and what its network will be."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment.images import with_stored_splits
from featx.experiment.option_names import explain
from featx.experiment.run import Prepared
from featx.experiment.schema import Experiment, FinetuneSpec, StoreSpec
from featx.experiment.stages import Stage
from featx.finetune import StoreToBe, Task, TrainingForecast, choose_weights, forecast_training, foresee_task, read_task
from featx.inference import PooledNetwork, run_frozen
from featx.networks import BACKBONES, choose_poolings, is_source
from featx.networks.recipes import Recipe, read_recipe
from featx.results import FineTuned, build_untrained, read_run
from featx.store import Settings


def plan_finetune(
    experiment: Experiment, prepared: Prepared, stage: Stage, *, echo: Callable[[str], None]
) -> dict[str, object]:
    """Say what a fine-tuning would take.

    Parameters
    ----------
    experiment : Experiment
    prepared : Prepared
    stage : Stage
        Of fine-tunings.
    echo : callable
        Is told what a user should know, a line at a time.

    Returns
    -------
    dict of str to object
        Of `featx.experiment.plan.PlannedStage`: what there is to do, why it can't be done, or figures and notes.
    """
    spec = stage.spec
    recipe = read_recipe(spec.recipe, changes=spec.set)
    n_epochs = sum(each.epochs for each in recipe.stages)
    planned: dict[str, object] = {"what": f"{recipe.name}: {len(recipe.stages)} stages, at most {n_epochs:,} epochs"}
    if prepared.manifest is None and not prepared.is_there(f"stores.{spec.store}"):
        # Nothing tells the images: that its store isn't there is a problem already.
        return planned
    try:
        task, weights = _foresee(experiment, prepared, spec, echo)
        forecast = forecast_training(
            task,
            recipe,
            weights=weights,
            engine=spec.engine,
            cache_limit=spec.cache_limit,
            seed=spec.seed,
            echo=echo,
        )
    except FeatxError as error:
        return planned | {"problem": explain(error)}
    measured = _read_epochs(stage, recipe)
    seconds = forecast.seconds
    if measured is not None:
        seconds += sum(each.epochs * (measured[each.name] - each.seconds_per_epoch) for each in forecast.stages)
    is_kept = spec.keep_cache
    return planned | {
        "seconds": round(seconds, 1),
        "disk_bytes": forecast.disk_bytes,
        "passing_bytes": forecast.disk_bytes - forecast.run_bytes - (forecast.cache_bytes if is_kept else 0),
        "memory_bytes": forecast.memory_bytes,
        "notes": tuple(_note(forecast, measured is not None, is_kept=is_kept)),
    }


def _note(forecast: TrainingForecast, is_measured: bool, *, is_kept: bool) -> Iterator[str]:
    yield "at most, by the run that is there" if is_measured else "at most, by a few batches"
    if not is_measured:
        seconds = ", ".join(f"{stage.seconds_per_epoch:,.2f} s ({stage.name})" for stage in forecast.stages)
        yield f"an epoch takes {seconds}"
    if forecast.cache_bytes:
        ending = "kept" if is_kept else "deleted at the end"
        yield f"{forecast.cache_bytes / 1e6:,.1f} MB of the disk are the cache's, {ending}"
    if forecast.n_rejected:
        yield f"{forecast.n_rejected:,} of {forecast.n_tried:,} images tried can't be read"


def _read_epochs(stage: Stage, recipe: Recipe) -> dict[str, float] | None:
    """Return the seconds an epoch, by stage, of an earlier training of the same stages; None if there is none."""
    try:
        trained = {each["name"]: each for each in (read_run(stage.path).baseline or {})["stages"]}
        return {each.name: trained[each.name]["seconds"] / trained[each.name]["epochs"] for each in recipe.stages}
    except (FeatxError, KeyError, TypeError, ZeroDivisionError):
        # No run, or of other stages.
        return None


def _foresee(
    experiment: Experiment, prepared: Prepared, spec: FinetuneSpec, echo: Callable[[str], None]
) -> tuple[Task, str]:
    """Return the rows, and the weights that training begins with: those of the store, or of what it will be."""
    path = experiment.store_path(spec.store)
    columns = {name: getattr(spec, name) for name in ("label", "where", "split", "sample_weight")}
    if prepared.is_there(f"stores.{spec.store}"):
        task = read_task(path, root=spec.root, **columns)
        return task, choose_weights(path, task.settings, spec.weights, echo=echo)
    manifest, settings = prepared.manifest, _foresee_settings(experiment.stores[spec.store])
    if not manifest.has_splits:
        manifest = with_stored_splits(experiment, spec.store, manifest)
    weights = choose_weights(path, settings, None, echo=echo) if spec.weights is None else spec.weights
    root = manifest.root if spec.root is None else Path(spec.root)
    return foresee_task(StoreToBe(path, manifest.table), settings, root=root, **columns), weights


def _foresee_settings(store: StoreSpec) -> Settings:
    """Return the settings of a store that is yet to be made, but for what only its making tells."""
    spec = BACKBONES[store.backbone]
    return Settings(
        backbone=store.backbone,
        weights=store.weights if is_source(store.weights) else Path(store.weights).name,
        weights_sha256="",
        layers=(),
        pooling=store.pool,
        image_size=store.image_size or spec.image_size,
        resize=store.resize,
        interpolation=store.interpolation,
        preprocessing=store.preprocessing or spec.preprocessing,
        precision=store.precision,
        keras_backend="",
        engine=store.engine,
        views=store.views,
        store_dtype=store.store_dtype,
        jpeg=store.jpeg,
        icc=store.icc,
    )


def foresee_network(experiment: Experiment, prepared: Prepared, name: str) -> Callable[..., PooledNetwork]:
    """Return what builds the network of a fine-tuning that is yet to be done, in the place of `build_network`.

    Its layers are those that the run's will have, and its weights random ones: that makes no difference to time, disk
    and memory.

    Parameters
    ----------
    experiment : Experiment
    prepared : Prepared
        With a manifest.
    name : str
        Of the fine-tuning.

    Raises
    ------
    FeatxError
        If rows or splits don't allow the fine-tuning.
    """
    spec = experiment.finetunes[name]
    task, _ = _foresee(experiment, prepared, spec, lambda line: None)
    tuned = FineTuned(
        path=experiment.run_path(name),
        recipe=read_recipe(spec.recipe, changes=spec.set),
        backbone=task.settings.backbone,
        classes=tuple(task.classes),
        image_size=task.settings.image_size,
        preprocessing=task.settings.preprocessing,
        weights_sha256="",
    )
    return partial(_build, tuned)


def _build(
    tuned: FineTuned,
    backbone: str,
    *,
    layers: str,
    image_size: int | None,
    preprocessing: str | None,
    pool: str,
    weights: str,
    echo: Callable[[str], None],
    **options: object,
) -> PooledNetwork:
    """Do as `featx.inference.build_network` does once the run is there."""
    frozen = build_untrained(tuned, backbone, layers=layers, image_size=image_size, preprocessing=preprocessing)
    return run_frozen(frozen, choose_poolings(pool), **options)
