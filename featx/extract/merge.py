"""Shards to one store: all are there and belong together, then their rows are copied in order into one file."""

import json
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import featx
from featx.errors import SourceError, StoreError
from featx.extract.shards import _RECORD, _WHOLE, ShardSet, check_shards, lists_shards, refuse_begun
from featx.store import (
    DigestIndex,
    Outline,
    Part,
    RunFolder,
    Store,
    add_run,
    check_folder,
    merge_rows,
    read_history,
    rewrite_store,
)
from featx.system import now, progress_bar

# The shards that are opened at a time.
_MOST_OPEN = 16


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
    check_folder(Path(store_path))
    folder = RunFolder(store_path)
    with ExitStack() as stack:
        stack.enter_context(folder.lock())
        merged = _read_merged(folder)
        if merged is None:
            refuse_begun(folder)
            if folder.store_path.exists() and not overwrite:
                if not lists_shards(folder.store_path):
                    raise StoreError(
                        f"{folder.store_path}: is there already, and no shards of it are beside it: nothing is to be "
                        "merged (STORE is the name that featx extract --shard was given, not a shard's)"
                    )
                raise StoreError(f"{folder.store_path}: is there already. Give --overwrite to replace it by its shards")
            shards = check_shards(folder.store_path)
            merged = _merge(folder, shards, started, progress=progress)
        counts, paths = merged
        if keep:
            folder.remove()
        else:
            _delete(folder, paths, echo)
    return Merged(store_path=str(folder.store_path), **counts, seconds=round(time.monotonic() - begun, 3))


class ShardFeatures:
    """The features in a store's shards, by their place among all rows; only some shards are open at a time.

    Parameters
    ----------
    paths : sequence of Path
        In the order of their rows.
    n_rows : sequence of int
        Images of each.
    """

    def __init__(self, paths: Sequence[Path], n_rows: Sequence[int]) -> None:
        self._paths = paths
        self._ends = np.cumsum(n_rows)
        self._starts = self._ends - n_rows
        self._open: OrderedDict[int, Store] = OrderedDict()

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features at some places, at least one."""
        numbers = np.searchsorted(self._ends, places, side="right")
        found: dict[str, np.ndarray] = {}
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            for layer, values in self._store(number).take(places[chosen] - self._starts[number]).items():
                into = found.setdefault(layer, np.empty((len(places), values.shape[1]), values.dtype))
                into[chosen] = values
        return found

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.popitem()[1].close()

    def _store(self, number: int) -> Store:
        if number not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[number] = Store(self._paths[number])
        self._open.move_to_end(number)
        return self._open[number]


def _merge(
    folder: RunFolder, shards: ShardSet, started: str, *, progress: bool
) -> tuple[dict[str, int], Sequence[Path]]:
    """Write the whole file and move it into place; return its numbers, and the shards that are not needed any more."""
    images, rejected, told = _read_tables(shards)
    counts = {
        "n_shards": len(shards.paths),
        "n_images": len(images),
        "n_features": sum(shards.n_channels.values()),
        "n_rejected": len(rejected),
        "n_identical": int(images["sha256"].duplicated().sum()),
    }
    attributes = _describe(told, shards)
    whole_path = folder.path / _WHOLE
    with ExitStack() as stack:
        stack.callback(whole_path.unlink, missing_ok=True)
        bar = stack.enter_context(progress_bar(len(images), initial=0, wanted=progress))
        features = ShardFeatures(shards.paths, shards.n_rows)
        stack.callback(features.close)
        rewrite_store(
            whole_path,
            images=images,
            rejected=rejected,
            parts=_advance(
                _rows_of(images["sha256"].to_numpy().astype("S64"), features, shards.n_channels), bar.update
            ),
            n_channels=shards.n_channels,
            dtype=shards.settings.store_dtype,
            describe=lambda: attributes | _describe_run(attributes, counts, started),
        )
        # From here on to the last shard's end, a merge that is killed is finished by the next one.
        record = {"run_id": attributes["run_id"], "counts": counts}
        record["shards"] = [[path.name, run_id] for path, run_id in zip(shards.paths, shards.run_ids, strict=True)]
        folder.write_whole(folder.path / _RECORD, json.dumps(record).encode())
        folder.publish(whole_path)
    return counts, shards.paths


def was_merging(folder: RunFolder) -> bool:
    """Whether a merge was stopped after its store was written, or just before it was named."""
    return (folder.path / _RECORD).exists()


def _read_merged(folder: RunFolder) -> tuple[dict[str, int], list[Path]] | None:
    """Return what an earlier merge has made, if all that it hadn't done was to delete the shards."""
    try:
        record = json.loads((folder.path / _RECORD).read_bytes())
        with Store(folder.store_path) as store:
            is_there = store.attributes.get("run_id") == record["run_id"]
        paths = []
        for name, run_id in record["shards"]:
            path = folder.store_path.with_name(Path(name).name)
            if is_there and path.exists():
                with Store(path) as shard:
                    # One that was made anew meanwhile is not what was merged.
                    paths += [path] if shard.attributes.get("run_id") == run_id else []
        counts = {name: int(record["counts"][name]) for name in record["counts"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StoreError):
        is_there = False
    if is_there:
        return counts, paths
    (folder.path / _RECORD).unlink(missing_ok=True)
    (folder.path / _WHOLE).unlink(missing_ok=True)
    return None


def _delete(folder: RunFolder, paths: Sequence[Path], echo: Callable[[str], None]) -> None:
    """Delete the shards that a store was made of."""
    left = []
    for path in paths:
        try:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.with_name(f"{path.name}.log").unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{path} ({error.strerror})")
    folder.remove()
    if left:
        echo(f"{len(left):,} shards can't be deleted, and are not needed any more; the first is {left[0]}")
    elif paths:
        echo(f"{len(paths):,} shards were deleted, since {folder.store_path} has all that was in them")


def _read_tables(shards: ShardSet) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, object]]]:
    """Return the images and the rejected files of all shards, in order, and every shard's attributes."""
    images, rejected, told = [], [], []
    for path in shards.paths:
        with Store(path) as store:
            images.append(store.images)
            rejected.append(store.rejected)
            told.append(store.attributes)
    whole = pd.concat(images, ignore_index=True)
    lost = pd.concat(rejected, ignore_index=True)
    if not len(whole):
        raise SourceError(
            f"{shards.paths[0]} and the other shards: none of the {shards.origin.n_images:,} images could be read; the "
            f"first, {lost['path'].iloc[0]}: {lost['reason'].iloc[0]}. Mend them and extract the shards "
            "again, which reads them again"
        )
    return whole, lost, told


def _rows_of(sha256: np.ndarray, features: ShardFeatures, n_channels: Mapping[str, int]) -> Iterator[Part]:
    """Yield all rows in order; identical files have the features of the first of them, as in a whole extraction."""
    outlined = Outline.of_rows(np.arange(len(sha256)), sha256, {})
    return merge_rows(outlined, [(DigestIndex(sha256).find(sha256), features)], n_channels)


def _advance(parts: Iterator[Part], advance: Callable[[int], object]) -> Iterator[Part]:
    for part in parts:
        yield part
        advance(len(part.rows))


def _describe(told: Sequence[Mapping[str, object]], shards: ShardSet) -> dict[str, object]:
    """Return the whole store's attributes: what all shards have in common, and what is to be told of each."""
    common = {name: value for name, value in told[0].items() if name not in _OWN}
    common["layers"] = json.dumps(common["layers"])
    for name in ("keras_version", "engine_version", "device"):
        texts = [text for attributes in told for text in str(attributes.get(name, "")).split(", ") if text]
        common[name] = ", ".join(dict.fromkeys(texts))
    # Of one job: those that ran at the same time are not added up.
    speeds = [(n, attributes.get("images_per_second")) for n, attributes in zip(shards.n_rows, told, strict=True)]
    speeds = [(n, speed) for n, speed in speeds if isinstance(speed, float) and 0 < speed < np.inf]
    seconds = sum(n / speed for n, speed in speeds)
    speed = {"images_per_second": round(sum(n for n, _ in speeds) / seconds, 2)} if seconds else {}
    history = [run for attributes in told for run in read_history(attributes)]
    return {
        **common,
        **speed,
        "featx_version": featx.__version__,
        "run_id": uuid.uuid4().hex,
        "paths_sha256": shards.origin.paths_sha256,
        "history": json.dumps(history),
    }


def _describe_run(attributes: Mapping[str, object], counts: Mapping[str, int], started: str) -> dict[str, object]:
    """Return what is known once the features are written: when, and the merge itself as the history's last run."""
    n_images, n_rejected = counts["n_images"], counts["n_rejected"]
    run = {"n_images": n_images, "n_rejected": n_rejected, "n_computed": 0, "n_resumed": n_images}
    return {"created": now(), "history": add_run(attributes, str(attributes["device"]), started, **run)}
