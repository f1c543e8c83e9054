"""What a fine-tuning would take: each of its stages begun on a few of its own images, timed, and nothing written."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featx.activation_cache import check_room
from featx.finetune_task import Task
from featx.keras_setup import describe_device, load_keras
from featx.memory_watch import MemoryWatch
from featx.recipes import Recipe
from featx.stage_plans import StagePlan, count_weights, plan_stages
from featx.training_probe import TriedStage, compute_sample, most_rows_tried, read_sample, try_stage
from featx.training_sources import plan_sources
from featx.tuned_network import build_tuned_network

# The best epoch and the last one, each of before and of now: what lies there of a stage when an epoch ends.
_N_FILES = 4


@dataclass(frozen=True)
class StageForecast:
    """What a stage is expected to take.

    Attributes
    ----------
    name : str
    epochs : int
        The most.
    computed_once : str
        What its inputs are; see `featx.stage_plans.StagePlan`.
    seconds_per_epoch : float
        To train on all train rows and score all validation rows.
    """

    name: str
    epochs: int
    computed_once: str
    seconds_per_epoch: float


@dataclass(frozen=True)
class TrainingForecast:
    """What a fine-tuning is expected to take, begun anew.

    Attributes
    ----------
    n_train, n_validation, n_test : int
        Rows.
    n_tried, n_rejected : int
        Images that were read, and how many of them can't be.
    device : str
        Where it would train.
    startup_seconds : float
        Measured: the network and each stage's model are built and compiled, and their first batches done.
    once_seconds : float
        Expected: what no stage changes is computed of all rows.
    stages : tuple of StageForecast
    test_seconds : float
        Expected: the test rows are scored.
    seconds : float
        Expected from the command to the run, every stage to its last epoch, writing left out.
    cache_bytes : int
        What is computed once, in the cache, as long as it trains.
    training_bytes : int
        Weights and optimizers of epochs and stages, beside the run as long as it trains, and the run's own weights.
    run_bytes : int
        The run's own weights alone.
    memory_bytes : int
        The most memory of this process. What a GPU has of its own is not counted, nor what the system holds of files.
    """

    n_train: int
    n_validation: int
    n_test: int
    n_tried: int
    n_rejected: int
    device: str
    startup_seconds: float
    once_seconds: float
    stages: tuple[StageForecast, ...]
    test_seconds: float
    seconds: float
    cache_bytes: int
    training_bytes: int
    run_bytes: int
    memory_bytes: int

    @property
    def disk_bytes(self) -> int:
        """The most that the disk must hold."""
        return self.cache_bytes + self.training_bytes


def forecast_training(
    task: Task,
    recipe: Recipe,
    *,
    weights: str,
    engine: str = "auto",
    cache_limit: int,
    seed: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> TrainingForecast:
    """Say what `featx.fine_tune` would take.

    What no stage changes is computed of a few images, taken evenly from all of them, and held in memory; every stage
    trains and validates on a few batches of that.

    Parameters
    ----------
    task : Task
        The rows; see `featx.finetune_task.read_task`, and `featx.finetune_task.foresee_task` before a store is there.
    recipe : Recipe
    weights : str
        Where training begins; see `featx.weights.load_weights`.
    engine, cache_limit, seed, echo
        See `featx.fine_tune`.

    Raises
    ------
    FeatxError
        If the network can't be built, the cache can't take what is computed once, or none of the images tried can be
        read.
    """
    begun = time.perf_counter()
    network = build_tuned_network(
        recipe,
        task.settings.backbone,
        len(task.classes),
        weights=weights,
        image_size=task.settings.image_size,
        preprocessing=task.settings.preprocessing,
        seed=seed,
        echo=echo,
    )
    plans = plan_stages(network, recipe, is_cached=cache_limit > 0)
    once = plan_sources(task, network, plans, engine=engine) if cache_limit else None
    cache_bytes = 0 if once is None else check_room(once.key, len(task.images), once.shapes, limit=cache_limit)
    startup_seconds = time.perf_counter() - begun
    sample, n_tried = read_sample(task.images)
    with MemoryWatch() as computing:
        n_rows, most_rows = len(task.images), most_rows_tried(recipe)
        computed = compute_sample(sample, network, once, n_rows=n_rows, engine=engine, most_rows=most_rows)
    with MemoryWatch() as training:
        tried = [try_stage(task, network, recipe, plan, computed, seed=seed) for plan in plans]
    n_train, n_validation, n_test = (
        len(task.rows.with_weight(task.rows.of(split))) for split in ("train", "validation", "test")
    )
    stages = tuple(
        StageForecast(
            name=plan.stage.name,
            epochs=plan.stage.epochs,
            computed_once=plan.source,
            seconds_per_epoch=round(n_train * each.train_seconds + n_validation * each.validation_seconds, 3),
        )
        for plan, each in zip(plans, tried, strict=True)
    )
    startup_seconds = round(startup_seconds + computed.startup_seconds + sum(each.startup_seconds for each in tried), 2)
    once_seconds = round(n_rows * computed.image_seconds, 2)
    # The network of any stage may be the one that is kept.
    test_seconds = round(n_test * max(each.validation_seconds for each in tried), 2)
    epochs_seconds = sum(stage.epochs * stage.seconds_per_epoch for stage in stages)
    run_bytes = 4 * count_weights(network.model.weights)
    return TrainingForecast(
        n_train=n_train,
        n_validation=n_validation,
        n_test=n_test,
        n_tried=n_tried,
        n_rejected=n_tried - len(sample),
        device=describe_device(load_keras()),
        startup_seconds=startup_seconds,
        once_seconds=once_seconds,
        stages=stages,
        test_seconds=test_seconds,
        seconds=round(startup_seconds + once_seconds + epochs_seconds + test_seconds, 1),
        cache_bytes=cache_bytes,
        training_bytes=_count_training(plans, tried, run_bytes),
        run_bytes=run_bytes,
        memory_bytes=max(computing.peak + computed.block_bytes, training.peak),
    )


def _count_training(plans: Sequence[StagePlan], tried: Sequence[TriedStage], run_bytes: int) -> int:
    """Return the most that lies in a training's folder and the run's at once.

    A finished stage leaves the whole network there; the run gets a copy of one.
    """
    most = (len(plans) + 1) * run_bytes
    for number, (plan, each) in enumerate(zip(plans, tried, strict=True)):
        n_files = _N_FILES if plan.stage.epochs > 1 else _N_FILES // 2
        ending = max(n_files * each.file_bytes, _N_FILES // 2 * each.file_bytes + run_bytes)
        most = max(most, number * run_bytes + ending)
    return most
