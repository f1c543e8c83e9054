"""Extract one shard, an ordinary store of its rows, and check the shards of one store."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.errors import FeatxError, StoreError
from featx.extract.options import ExtractOptions
from featx.extract.run import Extraction, describe_finished, run_extraction
from featx.images import Manifest, digest_of, digest_paths, text_of
from featx.inference import PooledNetwork
from featx.store import STORE_DTYPES, RunFolder, Settings, Store, check_folder
from featx.system import Shard, is_lock_file, parse_shard

_RECORD, _WHOLE = "merged.json", "whole.h5.tmp"


# What a merge that was killed may leave behind.
_LEFTOVERS = (_RECORD, _WHOLE, f"{_RECORD}.tmp")


def refuse_begun(folder: RunFolder) -> None:
    """Refuse to make a store of shards where an extraction of the whole was begun and stopped.

    Raises
    ------
    StoreError
    """
    found = folder.path.iterdir() if folder.path.is_dir() else ()
    if not all(is_lock_file(path) or path.name in _LEFTOVERS for path in found):
        raise StoreError(
            f"{folder.path}: an extraction of the whole store was begun here. Finish it without --shard, or delete "
            "this folder to make the store of shards"
        )


_MOST_IMAGES = 10**10


def take_shard(manifest: Manifest, shard: Shard) -> Manifest:
    """Return the manifest of one shard's rows."""
    start, stop = shard.rows(len(manifest))
    return replace(manifest, table=manifest.table.iloc[start:stop].reset_index(drop=True))


@dataclass(frozen=True)
class ShardOrigin:
    """What a shard is a part of, as its store keeps it: shards make one store only where this is the same.

    Attributes
    ----------
    n_images : int
        Of the whole manifest.
    paths_sha256 : str
        Of its paths, as the whole store has it.
    table_sha256 : str
        Of all its columns.
    request : dict
        What was asked for, see `featx.extract.extract_features`; and weights_sha256, of weights that are a file.
    """

    n_images: int
    paths_sha256: str
    table_sha256: str
    request: dict[str, object]

    def to_json(self) -> str:
        """Return the text that `read_origin` reads."""
        return json.dumps(asdict(self), sort_keys=True)


def describe_origin(manifest: Manifest, request: Mapping[str, object]) -> ShardOrigin:
    """Describe the whole that shards are made of."""
    table = manifest.table
    request = {**request, "weights_sha256": digest_weights(str(request["weights"]))}
    digest = hashlib.sha256()
    for name in sorted(table):
        text = "\0".join(map(text_of, [name, *table[name]]))
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())
    return ShardOrigin(len(table), digest_paths(manifest), digest.hexdigest(), request)


def digest_weights(weights: str) -> str | None:
    """Return the digest of weights that are a file or a fine-tuned run's folder; None of those that have a name."""
    path = Path(weights)
    path = path / "network.weights.h5" if path.is_dir() else path
    return digest_of(path) if path.is_file() else None


def read_origin(attributes: Mapping[str, object], path: Path) -> tuple[Shard, ShardOrigin]:
    """Return which shard a store is, and of what.

    Raises
    ------
    StoreError
        If its attributes don't tell.
    """
    try:
        origin = ShardOrigin(**json.loads(attributes["shard_of"]))
        if type(origin.n_images) is not int or not 0 <= origin.n_images <= _MOST_IMAGES:
            raise ValueError(f"n_images is {origin.n_images!r}")
        if not isinstance(origin.request, dict) or not isinstance(origin.paths_sha256, str):
            raise TypeError("shard_of has entries of other kinds")
        return parse_shard(str(attributes["shard"])), origin
    except (KeyError, TypeError, ValueError, RecursionError, FeatxError) as error:
        raise StoreError(f"{path}: no shard of a store (featx extract --shard makes them): {error}") from error


_NAMED = 10


@dataclass(frozen=True)
class ShardSet:
    """Shards that make one store.

    Attributes
    ----------
    paths : list of Path
        In the order of their rows.
    n_rows : list of int
        Images of each.
    run_ids : list of str
        Of the runs that wrote them.
    origin : ShardOrigin
    settings : Settings
    n_channels : dict of str to int
        Features a layer, in network order.
    """

    paths: list[Path]
    n_rows: list[int]
    run_ids: list[str]
    origin: ShardOrigin
    settings: Settings
    n_channels: dict[str, int]


@dataclass(frozen=True)
class _Shard:
    path: Path
    shard: Shard
    origin: ShardOrigin
    root: str
    run_id: str
    settings: Settings
    n_channels: dict[str, int]
    n_rows: int


def lists_shards(store_path: Path) -> bool:
    """Whether anything beside a store's place is called as its shards are."""
    return bool(_names_of_shards(store_path))


def find_shards(store_path: Path) -> list[tuple[Shard, Path]]:
    """Return a store's shards and their files, in order; shards of two different divisions are refused.

    Raises
    ------
    StoreError
        If there is none, or some are of another number of shards.
    """
    shards = []
    for found in _names_of_shards(store_path):
        path = store_path.with_name(found[0])
        number, count = int(found[1]), int(found[2])
        if not 1 <= number <= count or Shard(number, count).path_of(store_path) != path:
            raise StoreError(f"{path}: has a shard's name, and no shard is called so; move it away")
        shards.append((Shard(number, count), path))
    counts = sorted({shard.count for shard, _ in shards})
    if not counts:
        raise StoreError(
            f"{store_path}: no shards of it beside it ({Shard(1, 16).path_of(store_path).name}, say). Make them with "
            "featx extract --shard 1/16 and so on"
        )
    if len(counts) > 1:
        raise StoreError(
            f"{store_path}: shards of {' and of '.join(map(str, counts))} lie beside it; delete those that aren't meant"
        )
    return sorted(shards)


def _names_of_shards(store_path: Path) -> list[re.Match]:
    name = re.compile(rf"{re.escape(store_path.stem)}\.shard-(\d{{1,6}})-of-(\d{{1,6}}){re.escape(store_path.suffix)}")
    beside = store_path.absolute().parent
    names = [name.fullmatch(path.name) for path in beside.iterdir()] if beside.is_dir() else []
    return [found for found in names if found]


def check_shards(store_path: Path) -> ShardSet:
    """Refuse shards that are not all there, not whole, or not of one store.

    Raises
    ------
    StoreError
        With what differs, or lacks, and what to run again.
    """
    found = []
    for number, path in find_shards(store_path):
        if RunFolder(path).path.is_dir():
            raise StoreError(f"{RunFolder(path).path}: this shard is being written, or was stopped. {_again(number)}")
        found.append(_look(path, number))
        if differs := _differences(found[-1], found[0]):
            raise StoreError(
                f"{path} and {found[0].path} are no shards of one store: {'; '.join(differs)}. Extract the one that is "
                "wrong again, with --overwrite"
            )
    first = found[0]
    numbers = {shard.shard.number for shard in found}
    all_shards = (Shard(number, first.shard.count) for number in range(1, first.shard.count + 1))
    missing = [shard for shard in all_shards if shard.number not in numbers and _n_rows(shard, first.origin)]
    if missing:
        listed = ", ".join(str(shard.number) for shard in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise StoreError(
            f"{store_path}: {len(missing):,} of {first.shard.count:,} shards are missing: {listed}. "
            f"{_again(missing[0])}"
        )
    return ShardSet(
        paths=[shard.path for shard in found],
        n_rows=[shard.n_rows for shard in found],
        run_ids=[shard.run_id for shard in found],
        origin=first.origin,
        settings=first.settings,
        n_channels=first.n_channels,
    )


def _look(path: Path, expected: Shard) -> _Shard:
    """Read what a shard is, and compare what it claims with what it holds."""
    with _open(path, expected) as store:
        attributes = store.attributes
        try:
            shard, origin = read_origin(attributes, path)
        except StoreError as error:
            raise StoreError(f"{error}. Move it away. {_again(expected)}") from error
        if shard != expected:
            raise StoreError(f"{path}: is shard {shard} by what it holds; give it its name back")
        try:
            settings = Settings.from_record(attributes)
            is_sound = settings.sha256 == attributes.get("settings_sha256")
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{path}: its settings can't be read ({error!r}). {_again(shard, '--overwrite')}"
            ) from error
        n_rows = len(store) + len(store.rejected)
        if not is_sound or settings.store_dtype not in STORE_DTYPES or n_rows != _n_rows(shard, origin):
            raise StoreError(
                f"{path}: what it holds is not what it says: {n_rows:,} images, expected {_n_rows(shard, origin):,} of "
                f"{origin.n_images:,}, or other settings than their digest is of. {_again(shard, '--overwrite')}"
            )
        return _Shard(
            path=path,
            shard=shard,
            origin=origin,
            root=str(attributes.get("root")),
            run_id=str(attributes.get("run_id")),
            settings=settings,
            n_channels=store.n_channels,
            n_rows=len(store),
        )


def _open(path: Path, shard: Shard) -> Store:
    try:
        return Store(path)
    except StoreError as error:
        raise StoreError(f"{error}. {_again(shard, '--overwrite')}") from error


def _differences(one: _Shard, other: _Shard) -> list[str]:
    """Name what makes two shards parts of different wholes."""
    differs = [
        change.replace(", now ", " and ") for change in other.settings.changes_from(vars(one.settings) | _lists(one))
    ]
    if one.n_channels != other.n_channels:
        differs.append("other features")
    if one.root != other.root:
        differs.append(f"root {one.root!r} and {other.root!r}")
    if one.origin.paths_sha256 != other.origin.paths_sha256 or one.origin.n_images != other.origin.n_images:
        differs.append(f"other lists of images ({one.origin.n_images:,} and {other.origin.n_images:,})")
    elif one.origin.table_sha256 != other.origin.table_sha256:
        differs.append("other labels, splits or further columns of the same images")
    return differs


def _lists(shard: _Shard) -> dict[str, object]:
    return {"layers": list(shard.settings.layers)}


def _n_rows(shard: Shard, origin: ShardOrigin) -> int:
    first, end = shard.rows(origin.n_images)
    return end - first


def _again(shard: Shard, option: str = "") -> str:
    return f"Run featx extract ... --shard {shard}{f' {option}' if option else ''} (again), then featx merge"


_ANEW = "Delete it, or give --overwrite to make it anew"


def extract_shard(
    manifest: Manifest,
    store_path: str | Path,
    request: ExtractOptions,
    *,
    shard: Shard,
    origin: ShardOrigin,
    max_rejected: int | float | None = None,
    overwrite: bool = False,
    log_every: float = 60.0,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
    network: PooledNetwork | None = None,
) -> Extraction:
    """Make the store of one shard's rows, beside the place of the whole store; one that is finished stays as it is.

    Parameters
    ----------
    manifest : Manifest
        Of these rows only; see `featx.extract.take_shard`.
    store_path : path
        Of the whole store.
    request : ExtractOptions
    shard : Shard
    origin : ShardOrigin
        Of the whole; see `featx.extract.shards.describe_origin`.
    max_rejected, overwrite, log_every, progress, echo
        As of `featx.extract.extract_features`; images that can't be read are counted shard by shard.
    network : PooledNetwork, optional
        One that was built for this request; default: it is built.

    Raises
    ------
    FeatxError
        As `featx.extract.extract_features`; and if the whole store is there already.
    """
    store_path = Path(store_path)
    check_folder(store_path)
    path = shard.path_of(store_path)
    if store_path.exists() and not overwrite:
        raise StoreError(
            f"{store_path}: is there already, and shards make a new store. To add to it, leave --shard out; to make it "
            "anew, give --overwrite to every shard and to featx merge"
        )
    refuse_begun(RunFolder(store_path))
    if not len(manifest):
        echo(f"shard {shard}: none of the {origin.n_images:,} images is in it")
        return Extraction(str(path), *(0,) * 6, 0.0, 0.0)
    if not overwrite and is_finished(path, manifest, shard, origin):
        echo(f"{path}: there already")
        return describe_finished(path)
    if path.exists() and not overwrite:
        _refuse_other(path, shard, origin)
    return run_extraction(
        manifest,
        path,
        request,
        max_rejected=max_rejected,
        overwrite=overwrite,
        log_every=log_every,
        progress=progress,
        echo=echo,
        network=network,
        marks={"shard": str(shard), "shard_of": origin.to_json()},
    )


def is_finished(path: Path, manifest: Manifest, shard: Shard, origin: ShardOrigin) -> bool:
    """Whether a shard's store is there, whole, and what is asked for; images are not read for it.

    Images that were rejected may be mended by now, so that a shard with such is looked at by `run_extraction`; and so
    is one with a run's parts beside it, which `featx.extract.merge_shards` takes for unfinished.
    """
    if not path.exists() or RunFolder(path).path.is_dir():
        return False
    with _open_shard(path) as store:
        attributes, n_rejected = store.attributes, len(store.rejected)
    if n_rejected or str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)


def _refuse_other(path: Path, shard: Shard, origin: ShardOrigin) -> None:
    """Refuse to add to a shard of other settings or images; other labels and splits are written into it."""
    with _open_shard(path) as store:
        try:
            found, recorded = read_origin(store.attributes, path)
        except StoreError as error:
            raise StoreError(f"{error}. {_ANEW}") from error
    names = [name for name, value in origin.request.items() if recorded.request.get(name) != value]
    differs = [f"{name} {recorded.request.get(name)!r}, now {origin.request[name]!r}" for name in names]
    if found != shard:
        differs.append(f"shard {found}, now {shard}")
    if recorded.paths_sha256 != origin.paths_sha256:
        differs.append(f"another list of images ({recorded.n_images:,} of them, now {origin.n_images:,})")
    if differs:
        raise StoreError(f"{path}: was made with {'; '.join(differs)}. {_ANEW}")


def _open_shard(path: Path) -> Store:
    try:
        return Store(path)
    except StoreError as error:
        raise StoreError(f"{error}. {_ANEW}") from error
