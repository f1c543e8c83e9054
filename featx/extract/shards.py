"""Extract one shard: an ordinary store of its rows, which names the whole store that it belongs to."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.errors import FeatxError, StoreError
from featx.extract.options import ExtractOptions
from featx.extract.run import Extraction, run_extraction, summarize_finished
from featx.images import Manifest, digest_of, digest_paths, text_of
from featx.inference import PooledNetwork
from featx.store import PartialStore, Store, check_folder
from featx.system import Shard, is_lock_file, parse_shard

MERGED, WHOLE = "merged.json", "whole.h5.tmp"


def check_no_parts(folder: PartialStore) -> None:
    """Raise an error where an extraction of the whole store was started and stopped."""
    # A merge that was killed may leave its record and temporary files.
    paths = folder.path.iterdir() if folder.path.is_dir() else ()
    if not all(is_lock_file(path) or path.name == MERGED or path.suffix == ".tmp" for path in paths):
        raise StoreError(
            f"{folder.path}: an extraction of the whole store was started here. Finish it without `shard`, or delete "
            "this folder to make the store of shards"
        )


def list_shards(store_path: Path, further: str = "") -> list[tuple[Path, int, int]]:
    """Return the paths next to a store that are named as its shards, the number of each, and of how many it is.

    Parameters
    ----------
    store_path : Path
    further : str, default ""
        A regular expression that may follow a shard's name.
    """
    stem, suffix = re.escape(store_path.stem), re.escape(store_path.suffix)
    name = re.compile(rf"{stem}\.shard-(\d{{1,6}})-of-(\d{{1,6}}){suffix}(?:{further})")
    folder = store_path.absolute().parent
    names = [name.fullmatch(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [(store_path.with_name(match[0]), int(match[1]), int(match[2])) for match in names if match]


_MOST_IMAGES = 10**10


def take_shard(manifest: Manifest, shard: Shard) -> Manifest:
    """Return the manifest of one shard's rows."""
    start, stop = shard.rows(len(manifest))
    return replace(manifest, table=manifest.table.iloc[start:stop].reset_index(drop=True))


@dataclass(frozen=True)
class ShardOrigin:
    """The whole that a shard belongs to: images, digests of paths and of all columns, options, and weights' digest."""

    n_images: int
    paths_sha256: str
    table_sha256: str
    request: dict[str, object]

    def to_json(self) -> str:
        """Return the text that `read_origin` reads."""
        return json.dumps(asdict(self), sort_keys=True)


def shard_origin(manifest: Manifest, request: Mapping[str, object]) -> ShardOrigin:
    """Return the record of the whole that shards belong to."""
    table = manifest.table
    request = {**request, "weights_sha256": digest_weights(str(request["weights"]))}
    digest = hashlib.sha256()
    for name in sorted(table):
        text = "\0".join(map(text_of, [name, *table[name]]))
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())
    return ShardOrigin(len(table), digest_paths(manifest), digest.hexdigest(), request)


def digest_weights(weights: str) -> str | None:
    """Return the digest of weights that are a file or a fine-tuned run's folder; None for weights with a name."""
    path = Path(weights)
    path = path / "network.weights.h5" if path.is_dir() else path
    return digest_of(path) if path.is_file() else None


def read_origin(attributes: Mapping[str, object], path: Path) -> tuple[Shard, ShardOrigin]:
    """Return which shard a store is, and of which whole; raise an error if its attributes say neither."""
    try:
        origin = ShardOrigin(**json.loads(attributes["shard_of"]))
        if type(origin.n_images) is not int or not 0 <= origin.n_images <= _MOST_IMAGES:
            raise ValueError(f"n_images is {origin.n_images!r}")
        if not isinstance(origin.request, dict) or not isinstance(origin.paths_sha256, str):
            raise TypeError("shard_of has entries of other kinds")
        return parse_shard(str(attributes["shard"])), origin
    except (KeyError, TypeError, ValueError, RecursionError, FeatxError) as error:
        raise StoreError(f"{path}: no shard of a store (featx extract --shard makes them): {error}") from error


_AGAIN = "Delete it, or use `overwrite` to make it again"


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
    """Make the store of one shard, given its rows as a manifest, next to the whole store; keep a finished one."""
    store_path = Path(store_path)
    check_folder(store_path)
    path = shard.path_of(store_path)
    if store_path.exists() and not overwrite:
        raise StoreError(
            f"{store_path}: exists, and shards make a new store. To add to it, leave `shard` out; to make it again, "
            "use `overwrite` for every shard and for the merge"
        )
    check_no_parts(PartialStore(store_path))
    if not len(manifest):
        echo(f"shard {shard}: none of the {origin.n_images:,} images is in it")
        return Extraction(str(path), *(0,) * 6, 0.0, 0.0)
    if not overwrite and is_finished(path, manifest, shard, origin):
        echo(f"{path}: exists")
        return summarize_finished(path)
    if path.exists() and not overwrite:
        _check_same(path, shard, origin)
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
    """Return whether a shard's store is complete and the requested one, without rejected images; read no images."""
    if not path.exists() or PartialStore(path).path.is_dir():
        return False
    with _open_shard(path) as store:
        attributes, n_rejected = store.attributes, len(store.rejected)
    if n_rejected or str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)


def _check_same(path: Path, shard: Shard, origin: ShardOrigin) -> None:
    """Raise an error for a shard of other settings or images; other labels and splits are written into it."""
    with _open_shard(path) as store:
        try:
            own, recorded = read_origin(store.attributes, path)
        except StoreError as error:
            raise StoreError(f"{error}. {_AGAIN}") from error
    names = [name for name, value in origin.request.items() if recorded.request.get(name) != value]
    differs = [f"{name} {recorded.request.get(name)!r}, now {origin.request[name]!r}" for name in names]
    if own != shard:
        differs.append(f"shard {own}, now {shard}")
    if recorded.paths_sha256 != origin.paths_sha256:
        differs.append(f"another list of images ({recorded.n_images:,} of them, now {origin.n_images:,})")
    if differs:
        raise StoreError(f"{path}: was made with {'; '.join(differs)}. {_AGAIN}")


def _open_shard(path: Path) -> Store:
    try:
        return Store(path)
    except StoreError as error:
        raise StoreError(f"{error}. {_AGAIN}") from error
