"""Compute the inputs of all stages once, keep them in the cache, and make batches of them.

Inputs are pixels, or activations of the part of the network that no stage changes.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from featx.finetune.batches import Batches, RowSource
from featx.finetune.cache import RowFiles, open_cache
from featx.finetune.stages import PIXELS, StagePlan
from featx.finetune.task import ImageDataset, Task
from featx.images import FLIPS, flip
from featx.inference import Network, PooledNetwork, compute_parts, run_frozen
from featx.networks import WHOLE, FrozenBackbone, format_device, load_keras
from featx.networks.recipes import TunedNetwork, split_at
from featx.store import Part
from featx.system import available_cores, progress_bar, sha256_of


class MirroredRows:
    """Rows of pixels of mirrored images; `view` is one of `featx.images.FLIPS`."""

    def __init__(self, pixels: RowSource, view: str) -> None:
        self._pixels = pixels
        self._view = view

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read images: ndarray of shape (len(rows), image_size, image_size, 3), uint8."""
        return flip(self._pixels.take(rows), self._view)


class MirroredNetwork:
    """A network that mirrors every image first; `view` is one of `featx.images.FLIPS`."""

    def __init__(self, network: Network, view: str) -> None:
        self._network = network
        self._view = view
        self.batch_size = network.batch_size
        self.n_channels = network.n_channels
        self.has_own_device = network.has_own_device

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Start what calling does, and return a function that waits for it."""
        return self._network.submit(np.ascontiguousarray(flip(pixels, self._view)))

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Push the mirrored images through the network."""
        return self.submit(pixels)()


class PixelNetwork:
    """A network whose features are the pixels themselves."""

    has_own_device = False

    def __init__(self, image_size: int, *, batch_size: int = 32) -> None:
        self.batch_size = batch_size
        self.n_channels = {PIXELS: 3 * image_size**2}

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Return a function that returns the pixels."""
        return partial(self, pixels)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the pixels, one row per image."""
        return {PIXELS: pixels.reshape(len(pixels), -1)}


def make_network(frozen: FrozenBackbone, *, engine: str = "auto") -> PooledNetwork:
    """Give a frozen network an engine that returns whole activations."""
    return run_frozen(frozen, (WHOLE,), engine=engine)


def compute_rows(
    network: Network, images: ImageDataset, files: Mapping[str, RowFiles], *, title: str = "", progress: bool = False
) -> int:
    """Push images through a network, and write its outputs into the files of their names; return how many images.

    Blocks that exist in all files are not computed again. The files have the same blocks.
    """
    blocks = next(iter(files.values())).blocks()
    gaps = [(start, stop) for start, stop in blocks if not all(rows.has(start) for rows in files.values())]
    n_left = sum(stop - start for start, stop in gaps)
    with (
        progress_bar(len(images), initial=len(images) - n_left, wanted=progress) as bar,
        contextlib.closing(compute_parts(network, images.root, images.paths, images.options.reader(), gaps)) as parts,
    ):
        bar.set_description(title)
        for start, stop in gaps:
            block = {
                name: np.empty((stop - start, int(np.prod(rows.shape))), rows.dtype) for name, rows in files.items()
            }
            n_done = start
            while n_done < stop:
                part = next(parts)
                _check_part(images, part)
                for name, rows in block.items():
                    rows[part.start - start : part.stop - start] = part.features[name]
                n_done = part.stop
                bar.update(part.stop - part.start)
            for name, rows in block.items():
                files[name].write(start, rows)
    return n_left


def _check_part(images: ImageDataset, part: Part) -> None:
    for row, reason in part.rejected.items():
        raise images.unreadable(row, reason)
    images.check_digests(part.rows, [digest.decode() for digest in part.sha256.tolist()])


def time_images(network: Network, images: ImageDataset, rows: np.ndarray) -> float:
    """Return the seconds per image from file to the network's output, for one or more rows, without the first batch."""
    paths = images.paths[rows]
    warm = [(0, min(network.batch_size, len(paths)))]
    for gaps in (warm, [(0, len(paths))]):
        started = time.monotonic()
        with contextlib.closing(compute_parts(network, images.root, paths, images.options.reader(), gaps)) as parts:
            deque(parts, maxlen=0)
    return (time.monotonic() - started) / len(paths)


@dataclass(frozen=True)
class CachePlan:
    """What is computed once for all stages.

    Attributes
    ----------
    key : str
        Name of the entry in the cache, which is a digest of all that its rows depend on.
    cuts : dict of str to list of str
        By view, the layers whose activations stages take; one pass through the network each.
    shapes : dict of str to (shape of a row, dtype)
        All kept rows, by their names in the cache.
    """

    key: str
    cuts: dict[str, list[str]]
    shapes: dict[str, tuple[tuple[int, ...], str]]


def plan_cache(task: Task, network: TunedNetwork, plans: Sequence[StagePlan], *, engine: str) -> CachePlan:
    """Plan what `open_sources` computes and keeps."""
    size = task.images.options.image_size
    cuts = {plan.source for plan in plans} - {PIXELS}
    trunk = split_at(network, cuts).model if cuts else None
    outputs = trunk.output if cuts else {}
    # By view, so that one pass serves every stage that takes it.
    by_view = {
        view: [cut for cut in outputs if any(cut == plan.source and view in plan.views for plan in plans)]
        for view in FLIPS["both"]
    }
    shapes = {
        _name_view(cut, view): (tuple(outputs[cut].shape[1:]), "float32")
        for view, names in by_view.items()
        for cut in names
    }
    shapes |= {PIXELS: ((size, size, 3), "uint8")} if any(plan.source == PIXELS for plan in plans) else {}
    parts = [task.images.digest, shapes]
    if trunk is not None:
        # Kinds and precisions too: a mean and a maximum have the same name and shape.
        layers = [(type(layer).__name__, layer.name, layer.dtype_policy.name) for layer in trunk.layers[1:]]
        parts += [network.backbone.weights_sha256, layers, task.settings.preprocessing, engine]
    key = sha256_of(repr(tuple(parts)))[:16]
    return CachePlan(key, {view: names for view, names in by_view.items() if names}, shapes)


@contextlib.contextmanager
def open_sources(
    task: Task,
    network: TunedNetwork,
    plans: list[StagePlan],
    *,
    engine: str,
    limit: int,
    keep: bool,
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[Mapping[str, RowSource]]:
    """Compute the inputs of all stages once, and keep them as long as they are used.

    Parameters
    ----------
    task : Task
    network : TunedNetwork
        With its initial weights.
    plans : list of StagePlan
    engine : str
        Library that runs the frozen part; see `featx.inference.engines.ENGINES`.
    limit : int
        Bytes that the cache may take; 0: images are read every time, and all plans take pixels.
    keep, echo
        See `featx.finetune.cache.open_cache`.
    progress : bool
        Show progress bars, if standard error is a terminal.

    Yields
    ------
    mapping of str to RowSource
        By the plans' names; see `make_batches`.

    Raises
    ------
    FeatxError
        If a file is not as it was when the store was made, or the cache can't take it.
    """
    if limit == 0:
        yield {PIXELS: task.images}
        return
    plan = plan_cache(task, network, plans, engine=engine)
    with open_cache(plan.key, len(task.images), plan.shapes, limit=limit, keep=keep, echo=echo) as files:
        for view, cuts in plan.cuts.items():
            rows = {cut: files[_name_view(cut, view)] for cut in cuts}
            if not all(each.has(start) for each in rows.values() for start, _ in each.blocks()):
                runner = make_network(split_at(network, cuts), engine=engine)
                runner = MirroredNetwork(runner, view) if view else runner
                compute_rows(runner, task.images, rows, title=" ".join(rows), progress=progress)
        if PIXELS in files:
            runner = PixelNetwork(task.images.options.image_size)
            compute_rows(runner, task.images, {PIXELS: files[PIXELS]}, title=PIXELS, progress=progress)
        yield files


def make_batches(
    task: Task, plan: StagePlan, sources: Mapping[str, RowSource], *, seed: int
) -> tuple[Batches, Batches]:
    """Return the batches of train and of validation rows, without rows of weight 0.

    `sources` is what `open_sources` yields; `seed` decides the order of the train rows, and their views.
    """
    targets, stage, source = task.targets, plan.stage, sources[plan.source]
    if plan.source == PIXELS:
        mirrored = [MirroredRows(source, view) for view in plan.views[1:]]
    else:
        mirrored = [sources[_name_view(plan.source, view)] for view in plan.views[1:]]
    # Several threads read files. Rows of a cache are quick to read, and on a CPU more threads would only disturb.
    on_cpu = format_device(load_keras()).startswith("cpu")
    n_workers = available_cores() if isinstance(source, ImageDataset) or not on_cpu else 1

    def batches_of(split: str, class_weight: str | None, **options: int | Sequence[RowSource]) -> Batches:
        rows, weights = task.rows.with_weight(task.rows.of(split)), task.weights_for(class_weight)
        return Batches(source, rows, targets[rows], weights[rows], stage.batch_size, n_workers=n_workers, **options)

    train = batches_of("train", stage.class_weight, seed=seed, mirrored=mirrored)
    return train, batches_of("validation", None)


def _name_view(cut: str, view: str) -> str:
    """Return the name of a view's activations in the cache."""
    return f"{cut}-{view}" if view else cut
