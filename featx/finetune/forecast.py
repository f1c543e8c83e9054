"""Predict what a fine-tuning takes: begin each stage on a few images, time it, write nothing."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.errors import SourceError
from featx.finetune.activations import PIXELS, ImageReader, Images, PixelNetwork, compute_rows, reader_of
from featx.finetune.batches import RowSource
from featx.finetune.cache import check_room, choose_block
from featx.finetune.sources import Once, choose_files, make_batches, make_runner, plan_sources
from featx.finetune.stages import StagePlan, build_stage_model, count_weights, plan_stages
from featx.finetune.task import Task
from featx.finetune.train import compile_for_training, too_large_batch
from featx.images import Picture
from featx.images.read_ahead import read_ahead
from featx.inference import is_out_of_memory
from featx.networks import format_device, load_keras
from featx.networks.recipes import Recipe, TunedNetwork, build_tuned_network
from featx.system import MemoryWatch

keras = load_keras()


_N_IMAGES = 32


# So many batches are timed; more if fewer took less than this.
_N_BATCHES = (1, 8)


_ENOUGH_SECONDS = 2.0


class HeldRows:
    """Rows of a few images in memory, in the place of `RowFiles`; they stand for those of all images.

    Parameters
    ----------
    n_rows : int
    shape : tuple of int
        Of a row.
    dtype : str
        As NumPy names it.
    """

    def __init__(self, n_rows: int, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._rows = np.empty((n_rows, *shape), self.dtype)

    def blocks(self) -> list[tuple[int, int]]:
        """Return the first row and the end: all are one block."""
        return [(0, len(self._rows))]

    def has(self, start: int) -> bool:
        """Say that nothing is there yet."""
        return False

    def write(self, start: int, rows: np.ndarray) -> None:
        """Keep rows."""
        self._rows[start : start + len(rows)] = rows.reshape(len(rows), *self.shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order; they begin anew after the last."""
        return self._rows[rows % len(self._rows)]


@dataclass(frozen=True)
class Computed:
    """What was computed once of a few images.

    Attributes
    ----------
    sources : dict of str to RowSource
        As `featx.finetune.sources.open_sources` yields them.
    startup_seconds : float
        Of the runners, up to their first batches.
    image_seconds : float
        For an image, from its file to what is kept.
    block_bytes : int
        What the rows of a whole file take in memory, beside what computing takes.
    """

    sources: dict[str, RowSource]
    startup_seconds: float
    image_seconds: float
    block_bytes: int


@dataclass(frozen=True)
class TriedStage:
    """What a stage took.

    Attributes
    ----------
    startup_seconds : float
        Its model was built and compiled, and a first batch trained and validated.
    train_seconds, validation_seconds : float
        For a row.
    file_bytes : int
        Of its model's weights and its optimizer, as an epoch keeps them.
    """

    startup_seconds: float
    train_seconds: float
    validation_seconds: float
    file_bytes: int


def read_sample(images: Images) -> tuple[Images, int]:
    """Read a few images, evenly from all of them.

    Returns
    -------
    Images
        Those that can be read, with their digests.
    int
        How many were tried.

    Raises
    ------
    SourceError
        If none can be read.
    """
    tried = np.unique(np.linspace(0, len(images) - 1, min(_N_IMAGES, len(images))).astype(int))
    with contextlib.closing(read_ahead(images.root, images.paths, iter(tried.tolist()), reader_of(images))) as pictures:
        found = dict(pictures)
    read = {row: picture.sha256 for row, picture in found.items() if isinstance(picture, Picture)}
    if not read:
        first = images.root / images.paths[tried[0]]
        raise SourceError(
            f"none of the {len(tried):,} images tried could be read; the first, {first}: {found[tried[0]]}"
        )
    digests = np.array(list(read.values()), dtype=object)
    return replace(images, paths=images.paths[list(read)], sha256=digests), len(tried)


def compute_sample(
    sample: Images, network: TunedNetwork, once: Once | None, *, n_rows: int, engine: str, most_rows: int
) -> Computed:
    """Compute of a few images what `featx.finetune.sources.open_sources` computes of all, into memory.

    Parameters
    ----------
    sample : Images
    network : TunedNetwork
    once : Once or None
        None: images are read anew each time.
    n_rows : int
        How many rows there will be.
    engine : str
        See `featx.finetune.sources.open_sources`.
    most_rows : int
        Rows of the sources at least, where images are read anew: they begin anew after the last.
    """
    if once is None:
        places = np.resize(np.arange(len(sample)), most_rows)
        reader = ImageReader(replace(sample, paths=sample.paths[places], sha256=sample.sha256[places]))
        return Computed({PIXELS: reader}, 0.0, 0.0, 0)
    size = sample.image_size
    held = {name: HeldRows(len(sample), shape, dtype) for name, (shape, dtype) in once.shapes.items()}
    startup_seconds = image_seconds = 0.0
    passes = [(view, choose_files(held, names, view)) for view, names in once.cuts.items()]
    for view, rows in passes:
        begun = time.perf_counter()
        runner = make_runner(network, list(rows), view, engine=engine)
        runner(np.zeros((runner.batch_size, size, size, 3), np.uint8))
        begun, startup_seconds = time.perf_counter(), startup_seconds + time.perf_counter() - begun
        compute_rows(runner, sample, rows)
        image_seconds += (time.perf_counter() - begun) / len(sample)
    if PIXELS in held:
        begun = time.perf_counter()
        compute_rows(PixelNetwork(size), sample, {PIXELS: held[PIXELS]})
        image_seconds += (time.perf_counter() - begun) / len(sample)
    block_rows = min(n_rows, choose_block(once.shapes))
    widths = [sum(_row_bytes(each) for each in rows.values()) for _, rows in passes]
    return Computed(held, startup_seconds, image_seconds, block_rows * max(widths, default=0))


def try_stage(
    task: Task, network: TunedNetwork, recipe: Recipe, plan: StagePlan, computed: Computed, *, seed: int
) -> TriedStage:
    """Begin a stage: its first batch, then a few more, with a clock beside them.

    Parameters
    ----------
    task : Task
        Whose rows' labels and weights are taken.
    network : TunedNetwork
        Its weights change.
    recipe : Recipe
    plan : StagePlan
    computed : Computed
    seed : int

    Raises
    ------
    FeatxError
        If a batch doesn't fit into the device's memory.
    """
    begun = time.perf_counter()
    model = build_stage_model(network, plan, seed=seed)
    n_steps = math.ceil(len(task.rows.with_weight(task.rows.of("train"))) / plan.stage.batch_size)
    compile_for_training(model, plan.stage, recipe, pretrained=plan.unfrozen, n_steps=plan.stage.epochs * n_steps)
    clock = _Clock()
    try:
        _fit(model, task, plan, computed, clock, 1, seed)
        startup_seconds = time.perf_counter() - begun
        for n_batches in _N_BATCHES:
            n_train, n_validation = _fit(model, task, plan, computed, clock, n_batches, seed)
            if clock.train_seconds + clock.validation_seconds > _ENOUGH_SECONDS:
                break
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise too_large_batch(plan.stage, recipe) from error
    return TriedStage(
        startup_seconds=startup_seconds,
        train_seconds=clock.train_seconds / n_train,
        validation_seconds=clock.validation_seconds / n_validation,
        file_bytes=4 * (count_weights(model.weights) + count_weights(model.optimizer.variables)),
    )


def most_rows_tried(recipe: Recipe) -> int:
    """Return the most rows that a stage is tried on, train and validation together."""
    return 2 * max(_N_BATCHES) * max(stage.batch_size for stage in recipe.stages)


class _Clock(keras.callbacks.Callback):
    """Takes the time of an epoch's training, and of its validation; being told figures, it waits for each batch."""

    train_seconds = validation_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begun = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.train_seconds = time.perf_counter() - self._begun

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._begun = time.perf_counter()

    def on_test_end(self, logs: dict | None = None) -> None:
        self.validation_seconds = time.perf_counter() - self._begun


def _fit(
    model: object, task: Task, plan: StagePlan, computed: Computed, clock: _Clock, n_batches: int, seed: int
) -> tuple[int, int]:
    """Train and validate on a few batches, as an epoch does; return how many rows of each there were."""
    few = _take_few(task, plan, n_batches)
    train, validation = make_batches(few, plan, computed.sources, seed=seed)
    with _without_advice():
        model.fit(train, validation_data=validation, callbacks=[clock], shuffle=False, verbose=0)
    return len(few.rows.of("train")), len(few.rows.of("validation"))


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Hold back TensorFlow's warning that one model after another is compiled for a few batches: that is meant so."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _take_few(task: Task, plan: StagePlan, n_batches: int) -> Task:
    """Return rows of a few batches; where there are fewer rows, again and again the same."""
    rows = task.rows
    numbers = np.concatenate(
        [
            np.resize(known, n_batches * min(plan.stage.batch_size, len(known)))
            for known in (rows.with_weight(rows.of("train")), rows.with_weight(rows.of("validation")))
        ]
    )
    few = replace(
        rows,
        X=np.empty((len(numbers), 0), np.float32),
        y=rows.y[numbers],
        split=rows.split[numbers],
        paths=rows.paths[numbers],
        groups=None,
        weights=None if rows.weights is None else rows.weights[numbers],
    )
    return replace(task, rows=few)


def _row_bytes(rows: HeldRows) -> int:
    return math.prod(rows.shape) * rows.dtype.itemsize


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
        What its inputs are; see `featx.finetune.stages.StagePlan`.
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
        The rows; see `featx.finetune.read_task`, and `featx.finetune.foresee_task` before a store is there.
    recipe : Recipe
    weights : str
        Where training begins; see `featx.networks.load_weights`.
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
        device=format_device(load_keras()),
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
