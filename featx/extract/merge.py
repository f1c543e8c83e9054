"""Merge shards: check that they are complete and belong together, then copy their rows in order into one store."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import featx
from featx.errors import SourceError, StoreError
from featx.extract.shards import MERGED, WHOLE, ShardOrigin, check_no_parts, list_shards, read_origin
from featx.store import (
    STORE_DTYPES,
    DigestIndex,
    Outline,
    Part,
    PartialStore,
    Settings,
    SplitFeatures,
    Store,
    add_run,
    check_folder,
    merge_rows,
    read_history,
    rewrite_store,
)
from featx.system import Shard, now, progress_bar

_MOST_OPEN = 16


_N_SHOWN = 10


# Attributes of one shard, or made again for the whole.
_OWN = ("shard", "shard_of", "run_id", "paths_sha256", "history", "images_per_second", "attributes_sha256", "columns")


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

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


@dataclass(frozen=True)
class ShardStore:
    """A finished shard, without its features."""

    path: Path
    shard: Shard
    origin: ShardOrigin
    settings: Settings
    n_channels: dict[str, int]
    attributes: dict[str, object]
    images: pd.DataFrame
    rejected: pd.DataFrame

    @property
    def run_id(self) -> str:
        """The run that wrote it."""
        return str(self.attributes.get("run_id"))


def merge_shards(
    store_path: str | Path,
    *,
    keep: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Merged:
    """Make one store of the shards next to it, equal to one that was extracted whole.

    The shards are deleted once the store is complete. When a merge is stopped, all shards still exist.

    Parameters
    ----------
    store_path : path
        The store to make: the one that `featx.extract_features` was given with each shard.
    keep : bool, default False
        Keep the shards.
    overwrite : bool, default False
        Replace an existing store, once the new one is complete.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Raises
    ------
    FeatxError
        If shards are missing, unfinished, damaged or of different settings or images; or if the store exists.
    """
    started_at, started = time.monotonic(), now()
    check_folder(Path(store_path))
    folder = PartialStore(store_path)
    with folder.lock():
        merged = _read_merged(folder)
        if merged is None:
            check_no_parts(folder)
            if folder.store_path.exists() and not overwrite:
                if not list_shards(folder.store_path):
                    raise StoreError(
                        f"{folder.store_path}: exists, and no shards of it lie next to it: there is nothing to merge "
                        "(give the name that featx extract --shard was given, not a shard's)"
                    )
                raise StoreError(f"{folder.store_path}: exists. Use `overwrite` to replace it by its shards")
            merged = _merge(folder, check_shards(folder.store_path), started, progress=progress)
        counts, paths = merged
        if keep:
            folder.remove()
        else:
            _delete(folder, paths, echo)
    return Merged(store_path=str(folder.store_path), **counts, seconds=round(time.monotonic() - started_at, 3))


def check_shards(store_path: Path) -> list[ShardStore]:
    """Return a store's shards in order; raise an error if some are missing, unfinished, or of different stores."""
    paths = _find_shards(store_path)
    shards: list[ShardStore] = []
    for shard, path in paths:
        if PartialStore(path).path.is_dir():
            raise StoreError(f"{PartialStore(path).path}: this shard is being written, or was stopped. {_again(shard)}")
        shards.append(_read_shard(path, shard))
        if differences := _differences(shards[-1], shards[0]):
            raise StoreError(
                f"{path} and {shards[0].path} are no shards of one store: {'; '.join(differences)}. Extract the "
                "wrong one again, with `overwrite`"
            )
    numbers, origin, count = {shard.number for shard, _ in paths}, shards[0].origin, shards[0].shard.count
    every_shard = (Shard(number, count) for number in range(1, count + 1))
    missing = [shard for shard in every_shard if shard.number not in numbers and _n_rows(shard, origin)]
    if missing:
        listed = ", ".join(str(shard.number) for shard in missing[:_N_SHOWN])
        listed += ", ..." if len(missing) > _N_SHOWN else ""
        raise StoreError(
            f"{store_path}: {len(missing):,} of {count:,} shards are missing: {listed}. {_again(missing[0])}"
        )
    return shards


def _find_shards(store_path: Path) -> list[tuple[Shard, Path]]:
    shards = []
    for path, number, count in list_shards(store_path):
        if not 1 <= number <= count or Shard(number, count).path_of(store_path) != path:
            raise StoreError(f"{path}: looks like a shard's name, but no shard has this name; move it away")
        shards.append((Shard(number, count), path))
    counts = sorted({shard.count for shard, _ in shards})
    if not counts:
        raise StoreError(
            f"{store_path}: no shards of it lie next to it ({Shard(1, 16).path_of(store_path).name}, say). Make them "
            "with featx extract --shard 1/16 and so on"
        )
    if len(counts) > 1:
        raise StoreError(
            f"{store_path}: shards of {' and of '.join(map(str, counts))} lie next to it; delete the wrong ones"
        )
    return sorted(shards)


def _read_shard(path: Path, expected: Shard) -> ShardStore:
    """Read a shard, and compare what it claims with what it holds."""
    try:
        store = Store(path)
    except StoreError as error:
        raise StoreError(f"{error}. {_again(expected, '--overwrite')}") from error
    with store:
        attributes, images, rejected = store.attributes, store.images, store.rejected
        try:
            shard, origin = read_origin(attributes, path)
        except StoreError as error:
            raise StoreError(f"{error}. Move it away. {_again(expected)}") from error
        if shard != expected:
            raise StoreError(f"{path}: is shard {shard} by its contents; give it its name back")
        try:
            settings = Settings.from_record(attributes)
            is_sound = settings.sha256 == attributes.get("settings_sha256")
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path}: its settings can't be read ({error!r}). {_again(shard, '--overwrite')}"
            ) from error
        n_rows, n_expected = len(images) + len(rejected), _n_rows(shard, origin)
        if not is_sound or settings.store_dtype not in STORE_DTYPES or n_rows != n_expected:
            raise StoreError(
                f"{path}: its contents differ from its attributes: {n_rows:,} images, expected {n_expected:,} of "
                f"{origin.n_images:,}, or settings that differ from their digest. {_again(shard, '--overwrite')}"
            )
        return ShardStore(path, shard, origin, settings, store.n_channels, attributes, images, rejected)


def _differences(one: ShardStore, other: ShardStore) -> list[str]:
    """Name what makes two shards parts of different stores."""
    recorded = asdict(one.settings) | {"layers": list(one.settings.layers)}
    differences = [change.replace(", now ", " and ") for change in other.settings.changes_from(recorded)]
    if one.n_channels != other.n_channels:
        differences.append("other features")
    roots = [shard.attributes.get("root") for shard in (one, other)]
    if roots[0] != roots[1]:
        differences.append(f"root {roots[0]!r} and {roots[1]!r}")
    if one.origin.paths_sha256 != other.origin.paths_sha256 or one.origin.n_images != other.origin.n_images:
        differences.append(f"other lists of images ({one.origin.n_images:,} and {other.origin.n_images:,})")
    elif one.origin.table_sha256 != other.origin.table_sha256:
        differences.append("other labels, splits or further columns of the same images")
    return differences


def _n_rows(shard: Shard, origin: ShardOrigin) -> int:
    first, end = shard.rows(origin.n_images)
    return end - first


def _again(shard: Shard, option: str = "") -> str:
    return f"Run featx extract ... --shard {shard}{f' {option}' if option else ''} (again), then featx merge"


def _merge(
    folder: PartialStore, shards: Sequence[ShardStore], started: str, *, progress: bool
) -> tuple[dict[str, int], list[Path]]:
    """Write the whole file and move it into place; return its numbers, and the shards that are no longer needed."""
    images = pd.concat([shard.images for shard in shards], ignore_index=True)
    rejected = pd.concat([shard.rejected for shard in shards], ignore_index=True)
    if not len(images):
        raise SourceError(
            f"{shards[0].path} and the other shards: none of the {shards[0].origin.n_images:,} images could be read; "
            f"the first, {rejected['path'].iloc[0]}: {rejected['reason'].iloc[0]}. Fix them and extract again"
        )
    n_channels, paths = shards[0].n_channels, [shard.path for shard in shards]
    counts = {
        "n_shards": len(shards),
        "n_images": len(images),
        "n_features": sum(n_channels.values()),
        "n_rejected": len(rejected),
        "n_identical": int(images["sha256"].duplicated().sum()),
    }
    attributes = _describe(shards)
    whole_path = folder.path / WHOLE
    with ExitStack() as stack:
        stack.callback(whole_path.unlink, missing_ok=True)
        bar = stack.enter_context(progress_bar(len(images), initial=0, wanted=progress))
        n_rows = [len(shard.images) for shard in shards]
        features = SplitFeatures(n_rows, lambda number: Store(paths[number]), most_open=_MOST_OPEN)
        stack.callback(features.close)
        rewrite_store(
            whole_path,
            images=images,
            rejected=rejected,
            parts=_rows_of(images["sha256"].to_numpy().astype("S64"), features, n_channels, bar.update),
            n_channels=n_channels,
            dtype=shards[0].settings.store_dtype,
            describe=lambda: attributes | _describe_run(attributes, counts, started),
        )
        # From here on to the last shard's end, a merge that is killed is finished by the next one.
        record = {"run_id": attributes["run_id"], "counts": counts}
        record["shards"] = [[shard.path.name, shard.run_id] for shard in shards]
        folder.write_whole(folder.path / MERGED, json.dumps(record).encode())
        folder.publish(whole_path)
    return counts, paths


def was_merging(folder: PartialStore) -> bool:
    """Return whether a merge was stopped after its store was written, or just before it was named."""
    return (folder.path / MERGED).exists()


def _read_merged(folder: PartialStore) -> tuple[dict[str, int], list[Path]] | None:
    """Return what an earlier merge has made, if it was stopped before it had deleted all shards."""
    try:
        record = json.loads((folder.path / MERGED).read_bytes())
        with Store(folder.store_path) as store:
            is_complete = store.attributes.get("run_id") == record["run_id"]
        paths = []
        for name, run_id in record["shards"]:
            path = folder.store_path.with_name(Path(name).name)
            if is_complete and path.exists():
                with Store(path) as shard:
                    # A shard that was extracted again meanwhile is not the one that was merged.
                    paths += [path] if shard.attributes.get("run_id") == run_id else []
        counts = {name: int(record["counts"][name]) for name in record["counts"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StoreError):
        is_complete = False
    if is_complete:
        return counts, paths
    (folder.path / MERGED).unlink(missing_ok=True)
    (folder.path / WHOLE).unlink(missing_ok=True)
    return None


def _delete(folder: PartialStore, paths: Sequence[Path], echo: Callable[[str], None]) -> None:
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
        echo(f"{len(left):,} shards can't be deleted, and are no longer needed; the first is {left[0]}")
    elif paths:
        echo(f"{len(paths):,} shards were deleted, since {folder.store_path} has all of their contents")


def _rows_of(
    sha256: np.ndarray, features: SplitFeatures, n_channels: Mapping[str, int], advance: Callable[[int], object]
) -> Iterator[Part]:
    """Yield all rows in order; identical files have the features of the first of them, as in a whole extraction."""
    outlined = Outline.of_rows(np.arange(len(sha256)), sha256, {})
    for part in merge_rows(outlined, [(DigestIndex(sha256).find(sha256), features)], n_channels):
        yield part
        advance(len(part.rows))


def _describe(shards: Sequence[ShardStore]) -> dict[str, object]:
    """Return the whole store's attributes: those that all shards share, and joined ones."""
    every_attributes = [shard.attributes for shard in shards]
    common = {name: value for name, value in every_attributes[0].items() if name not in _OWN}
    common["layers"] = json.dumps(common["layers"])
    for name in ("keras_version", "engine_version", "device"):
        texts = [text for attributes in every_attributes for text in str(attributes.get(name, "")).split(", ") if text]
        common[name] = ", ".join(dict.fromkeys(texts))
    # The speed of one job: those that ran at the same time are not added up.
    speeds = [(len(shard.images), shard.attributes.get("images_per_second")) for shard in shards]
    speeds = [(n, speed) for n, speed in speeds if isinstance(speed, float) and 0 < speed < np.inf]
    seconds = sum(n / speed for n, speed in speeds)
    speed = {"images_per_second": round(sum(n for n, _ in speeds) / seconds, 2)} if seconds else {}
    return {
        **common,
        **speed,
        "featx_version": featx.__version__,
        "run_id": uuid.uuid4().hex,
        "paths_sha256": shards[0].origin.paths_sha256,
        "history": json.dumps([run for attributes in every_attributes for run in read_history(attributes)]),
    }


def _describe_run(attributes: Mapping[str, object], counts: Mapping[str, int], started: str) -> dict[str, object]:
    """Return what is known once the features are written: the time, and the merge as the history's last run."""
    n_images, n_rejected = counts["n_images"], counts["n_rejected"]
    run = {"n_images": n_images, "n_rejected": n_rejected, "n_computed": 0, "n_resumed": n_images}
    return {"created": now(), "history": add_run(attributes, str(attributes["device"]), started, **run)}
