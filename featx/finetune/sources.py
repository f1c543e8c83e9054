"""What the stages of a fine-tuning take: pixels, or activations that were computed once; and batches of them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from featx.finetune.activations import (
    PIXELS,
    ImageReader,
    MirroredNetwork,
    MirroredRows,
    PixelNetwork,
    compute_rows,
    make_network,
)
from featx.finetune.batches import Batches, RowSource
from featx.finetune.cache import RowFiles, open_cache
from featx.finetune.stages import StagePlan
from featx.finetune.task import Task
from featx.images import FLIPS
from featx.inference import Network
from featx.networks import format_device, load_keras
from featx.networks.recipes import TunedNetwork, split_at
from featx.system import available_cores, sha256_of


@dataclass(frozen=True)
class Once:
    """What is computed once for all stages.

    Attributes
    ----------
    key : str
        Of its entry in the cache; says what is in there.
    cuts : dict of str to list of str
        By view, the layers whose activations stages take: a pass through the network each.
    shapes : dict of str to (shape of a row, dtype)
        Of all that is kept, by the name that it has in the cache.
    """

    key: str
    cuts: dict[str, list[str]]
    shapes: dict[str, tuple[tuple[int, ...], str]]


def plan_sources(task: Task, network: TunedNetwork, plans: Sequence[StagePlan], *, engine: str) -> Once:
    """Say what `open_sources` computes and keeps.

    Parameters
    ----------
    task, network, plans, engine
        See `open_sources`.
    """
    size = task.images.image_size
    cuts = {plan.source for plan in plans} - {PIXELS}
    trunk = split_at(network, cuts).model if cuts else None
    outputs = trunk.output if cuts else {}
    # By view, so that one pass serves every stage that takes it.
    wanted = {
        view: [cut for cut in outputs if any(cut == plan.source and view in plan.views for plan in plans)]
        for view in FLIPS["both"]
    }
    shapes = {
        _name_view(cut, view): (tuple(outputs[cut].shape[1:]), "float32")
        for view, names in wanted.items()
        for cut in names
    }
    shapes |= {PIXELS: ((size, size, 3), "uint8")} if any(plan.source == PIXELS for plan in plans) else {}
    # By their kinds and precisions, too: a mean and a maximum have the same name and shape.
    layers = (
        [(type(layer).__name__, layer.name, layer.dtype_policy.name) for layer in trunk.layers[1:]] if cuts else None
    )
    parts = (network.backbone.weights_sha256, layers, task.settings.preprocessing, engine)
    key = _digest(task.images.digest, shapes, *(parts if cuts else ()))
    return Once(key[:16], {view: names for view, names in wanted.items() if names}, shapes)


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
) -> Iterator[dict[str, RowSource]]:
    """Compute what the stages take, once, and keep it as long as it is used.

    Parameters
    ----------
    task : Task
    network : TunedNetwork
        With the weights that it begins with.
    plans : list of StagePlan
    engine : str
        What runs the frozen part; see `featx.inference.engines.ENGINES`.
    limit : int
        Bytes that the cache may take; 0: images are read anew each time, which the plans must be made for.
    keep, echo
        See `featx.finetune.cache.open_cache`.
    progress : bool
        Show progress bars, if standard error is a terminal.

    Yields
    ------
    dict of str to RowSource
        By the names that the plans have for it; see `make_batches`.

    Raises
    ------
    FeatxError
        If a file isn't as it was when the store was made, or the cache can't take it.
    """
    if limit == 0:
        yield {PIXELS: ImageReader(task.images)}
        return
    once = plan_sources(task, network, plans, engine=engine)
    with open_cache(once.key, len(task.images), once.shapes, limit=limit, keep=keep, echo=echo) as files:
        for view, names in once.cuts.items():
            found = choose_files(files, names, view)
            if not _is_whole(found):
                runner = make_runner(network, names, view, engine=engine)
                compute_rows(runner, task.images, found, what=" ".join(found), progress=progress)
        if PIXELS in files:
            pixels = PixelNetwork(task.images.image_size)
            compute_rows(pixels, task.images, {PIXELS: files[PIXELS]}, what=PIXELS, progress=progress)
        yield files


def make_runner(network: TunedNetwork, cuts: Sequence[str], view: str, *, engine: str) -> Network:
    """Return what gives the activations of some layers for a view of an image, by the layers' names."""
    runner = make_network(split_at(network, cuts), engine=engine)
    return MirroredNetwork(runner, view) if view else runner


def choose_files(files: Mapping[str, RowFiles], cuts: Sequence[str], view: str) -> dict[str, RowFiles]:
    """Return what the activations of some layers for a view of an image are written to, by the layers' names."""
    return {cut: files[_name_view(cut, view)] for cut in cuts}


def make_batches(
    task: Task, plan: StagePlan, sources: Mapping[str, RowSource], *, seed: int
) -> tuple[Batches, Batches]:
    """Return the batches of train and of validation rows, without those of weight 0.

    Parameters
    ----------
    task : Task
    plan : StagePlan
    sources : mapping of str to RowSource
        See `open_sources`.
    seed : int
        Of the train rows' order and views.
    """
    targets, stage, source = task.targets, plan.stage, sources[plan.source]
    if plan.source == PIXELS:
        mirrored = [MirroredRows(source, view) for view in plan.views[1:]]
    else:
        mirrored = [sources[_name_view(plan.source, view)] for view in plan.views[1:]]
    # Files are read by several threads. Rows of a cache are there, and on a CPU a thread more would only be in the way.
    on_cpu = format_device(load_keras()).startswith("cpu")
    n_workers = available_cores() if isinstance(source, ImageReader) or not on_cpu else 1
    made = []
    for split, class_weight, options in (
        ("train", stage.class_weight, {"seed": seed, "mirrored": mirrored}),
        ("validation", None, {}),
    ):
        rows, weights = task.rows.with_weight(task.rows.of(split)), task.weights_for(class_weight)
        made.append(
            Batches(source, rows, targets[rows], weights[rows], stage.batch_size, n_workers=n_workers, **options)
        )
    return made[0], made[1]


def _name_view(cut: str, view: str) -> str:
    """Return what the activations of a view are called in the cache."""
    return f"{cut}-{view}" if view else cut


def _is_whole(files: Mapping[str, RowFiles]) -> bool:
    return all(rows.has(start) for rows in files.values() for start, _ in rows.blocks())


def _digest(*parts: object) -> str:
    return sha256_of(repr(parts))
