"""Shards to one store: all are there and belong together, then their rows are copied in order into one file."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import featx
from featx.errors import SourceError, StoreError
from featx.merge import DigestIndex, Outline, merge_rows
from featx.parts import Part
from featx.progress import progress_bar
from featx.provenance import MOST_RUNS, describe_process, now, read_history
from featx.run_folder import RunFolder
from featx.shards import Shard, ShardOrigin, read_origin
from featx.store import Store
from featx.store_writer import rewrite_store

_NAMED = 10
# What is of one shard, or made anew for the whole.
_OWN = ("shard", "shard_of", "run_id", "paths_sha256", "history", "images_per_second", "attributes_sha256", "columns")


@dataclass(frozen=True)
class Merged:
    """What a merge made.

    Attributes
    ----------
    store_path : str
    n_shards, n_images, n_features, n_rejected : int
    n_identical : int
        Images whose file is, byte for byte, the one of another image: they share its features.
    seconds : float
    """

    store_path: str
    n_shards: int
    n_images: int
    n_features: int
    n_rejected: int
    n_identical: int
    seconds: float


def merge_shards(
    store_path: str | Path,
    *,
    keep: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Merged:
    """Make one store of the shards that lie beside its place, equal to one that was extracted whole.

    The shards are deleted once the store is there. Where a merge is stopped, they are all still there.

    Parameters
    ----------
    store_path : path
        The store to make; `featx.extract_features` was given the same with each shard.
    keep : bool, default False
        Keep the shards.
    overwrite : bool, default False
        Replace a store that is there, once the new one is whole.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Raises
    ------
    FeatxError
        If shards are missing, unfinished, damaged or of different settings or images; or if the store is there.
    """
    begun, started = time.monotonic(), now()
    folder = RunFolder(Path(store_path))
    paths = find_shards(folder.store_path)
    if folder.store_path.exists() and not overwrite:
        raise StoreError(f"{folder.store_path}: is there already. Give --overwrite to replace it by its shards")
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        whole_path = folder.path / "whole.h5.tmp"
        # An earlier merge may have been killed.
        whole_path.unlink(missing_ok=True)
        if not folder.is_empty():
            raise StoreError(
                f"{folder.path}: an extraction of the whole store was begun here. Finish it without --shard, or delete "
                "this folder to merge the shards"
            )
        # A shard that is being written is not merged.
        for path in paths:
            if RunFolder(path).path.is_dir():
                raise StoreError(f"{RunFolder(path).path}: this shard is being written, or was stopped. {_again(path)}")
        stores = [stack.enter_context(Store(path)) for path in paths]
        origin = _check_together(folder.store_path, stores)
        stack.callback(whole_path.unlink, missing_ok=True)
        merged = _merge(whole_path, stores, origin, started, progress=progress)
        folder.publish(whole_path)
    if not keep:
        for path in paths:
            path.unlink()
            path.with_name(f"{path.name}.log").unlink(missing_ok=True)
        echo(f"{len(paths):,} shards were deleted, since {folder.store_path} has all that was in them")
    return Merged(store_path=str(folder.store_path), **merged, seconds=round(time.monotonic() - begun, 3))


def find_shards(store_path: Path) -> list[Path]:
    """Return the files of a store's shards, in order; shards of two different divisions are refused.

    Raises
    ------
    StoreError
        If there is none, or some are of another number of shards.
    """
    name = re.compile(rf"{re.escape(store_path.stem)}\.shard-(\d+)-of-(\d+){re.escape(store_path.suffix)}")
    beside = store_path.absolute().parent
    names = [name.fullmatch(path.name) for path in beside.iterdir()] if beside.is_dir() else []
    shards = sorted(Shard(int(found[1]), int(found[2])) for found in names if found)
    counts = sorted({shard.count for shard in shards})
    if not counts:
        raise StoreError(
            f"{store_path}: no shards of it beside it ({Shard(1, 16).path_of(store_path).name}, say). Make them with "
            "featx extract --shard 1/16 and so on"
        )
    if len(counts) > 1:
        raise StoreError(
            f"{store_path}: shards of {' and of '.join(map(str, counts))} lie beside it; delete those that aren't meant"
        )
    return [shard.path_of(store_path) for shard in shards]


def _check_together(store_path: Path, stores: Sequence[Store]) -> ShardOrigin:
    """Refuse shards that are not all of one whole."""
    first = stores[0]
    shard, origin = read_origin(first.attributes, first.path)
    found = set()
    for store in stores:
        own, own_origin = read_origin(store.attributes, store.path)
        found.add(own.number)
        if own.path_of(store_path) != store.path:
            raise StoreError(f"{store.path}: is shard {own} by what it holds; give it its name back")
        if differs := _differences(store, own_origin, first, origin):
            raise StoreError(
                f"{store.path} and {first.path} are no shards of one store: {'; '.join(differs)}. Extract the one that "
                "is wrong again, with --overwrite"
            )
    wanted = {number for number in range(1, shard.count + 1) if _has_rows(Shard(number, shard.count), origin.n_images)}
    missing = sorted(wanted - found)
    if missing:
        listed = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise StoreError(
            f"{len(missing):,} of {shard.count:,} shards are missing: {listed}. "
            + _again(Shard(missing[0], shard.count).path_of("x"))
        )
    return origin


def _differences(store: Store, origin: ShardOrigin, first: Store, first_origin: ShardOrigin) -> list[str]:
    """Name what makes two shards parts of different wholes."""
    settings = ("settings_sha256", "root")
    pairs = {name: (store.attributes.get(name), first.attributes.get(name)) for name in settings}
    differs = [f"{name} {one!r} and {other!r}" for name, (one, other) in pairs.items() if one != other]
    if origin.paths_sha256 != first_origin.paths_sha256:
        differs.append(f"other lists of images ({origin.n_images:,} and {first_origin.n_images:,})")
    elif origin.table_sha256 != first_origin.table_sha256:
        differs.append("other labels, splits or further columns of the same images")
    return differs


def _has_rows(shard: Shard, n_images: int) -> bool:
    first, end = shard.rows(n_images)
    return first < end


def _again(path: Path) -> str:
    number, count = re.search(r"shard-(\d+)-of-(\d+)", path.name).groups()
    return f"Run featx extract ... --shard {int(number)}/{int(count)} (again), then featx merge"


def _merge(
    whole_path: Path, stores: Sequence[Store], origin: ShardOrigin, started: str, *, progress: bool
) -> dict[str, int]:
    """Write the whole file; return its numbers."""
    images = pd.concat([store.images for store in stores], ignore_index=True)
    rejected = pd.concat([store.rejected for store in stores], ignore_index=True)
    if not len(images):
        raise SourceError(
            f"{stores[0].path} and the other shards: none of the {origin.n_images:,} images could be read; the first, "
            f"{rejected['path'].iloc[0]}: {rejected['reason'].iloc[0]}"
        )
    n_channels = stores[0].n_channels
    counts = {
        "n_shards": len(stores),
        "n_images": len(images),
        "n_features": sum(n_channels.values()),
        "n_rejected": len(rejected),
        "n_identical": int(images["sha256"].duplicated().sum()),
    }
    with progress_bar(len(images), initial=0, wanted=progress) as bar:
        rewrite_store(
            whole_path,
            images=images,
            rejected=rejected,
            parts=_advance(_rows_of(stores, images["sha256"].to_numpy().astype("S64"), n_channels), bar.update),
            n_channels=n_channels,
            dtype=str(stores[0].attributes["store_dtype"]),
            describe=lambda: _describe(stores, origin, counts, started),
        )
    return counts


def _rows_of(stores: Sequence[Store], sha256: np.ndarray, n_channels: Mapping[str, int]) -> Iterator[Part]:
    """Yield all rows in order; identical files have the features of the first of them, as in a whole extraction."""
    n_own = np.array([len(store) for store in stores], dtype=np.int64)
    outlined = Outline(
        ranges=[],
        rows=np.arange(len(sha256)),
        sha256=sha256,
        own=np.ones(len(sha256), dtype=bool),
        n_own=n_own,
        rejected={},
    )
    first = DigestIndex(sha256).find(sha256)
    ends = np.cumsum(n_own)
    sources = [
        (np.where((first >= end - n) & (first < end), first - (end - n), -1), store)
        for store, n, end in zip(stores, n_own, ends, strict=True)
    ]
    return merge_rows(outlined, sources, n_channels)


def _advance(parts: Iterator[Part], advance: Callable[[int], object]) -> Iterator[Part]:
    for part in parts:
        yield part
        advance(len(part.rows))


def _describe(
    stores: Sequence[Store], origin: ShardOrigin, counts: Mapping[str, int], started: str
) -> dict[str, object]:
    """Return the whole store's attributes: what all shards have in common, and what is to be told of each."""
    common = {name: value for name, value in stores[0].attributes.items() if name not in _OWN}
    common["layers"] = json.dumps(common["layers"])
    for name in ("keras_version", "engine_version", "device"):
        texts = [text for store in stores for text in str(store.attributes.get(name, "")).split(", ") if text]
        common[name] = ", ".join(dict.fromkeys(texts))
    # Of one job: those that ran at the same time are not added up.
    speeds = [(len(store), store.images_per_second) for store in stores if store.images_per_second]
    seconds = sum(n_images / speed for n_images, speed in speeds)
    speed = {"images_per_second": round(sum(n for n, _ in speeds) / seconds, 2)} if seconds else {}
    run = {
        **describe_process(),
        "device": common["device"],
        "started": started,
        "ended": now(),
        "n_images": counts["n_images"],
        "n_rejected": counts["n_rejected"],
        "n_computed": 0,
        "n_resumed": counts["n_images"],
    }
    history = [run for store in stores for run in read_history(store.attributes)]
    return {
        **common,
        **speed,
        "featx_version": featx.__version__,
        "created": now(),
        "run_id": uuid.uuid4().hex,
        "paths_sha256": origin.paths_sha256,
        "history": json.dumps([*history, run][-MOST_RUNS:]),
    }
