"""Whether the shards beside a store's place are all there, whole, and of one store; each is opened in its turn."""

import re
from dataclasses import dataclass
from pathlib import Path

from featx.errors import StoreError
from featx.plans import STORE_DTYPES
from featx.run_folder import RunFolder
from featx.settings import Settings
from featx.shards import Shard, ShardOrigin, read_origin
from featx.store import Store

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
