"""One shard of an extraction: an ordinary store of its rows, which knows what it is a part of."""

from collections.abc import Callable
from pathlib import Path

from featx.errors import StoreError
from featx.extraction import Extraction, describe_finished, run_extraction
from featx.manifest import Manifest
from featx.merging import refuse_begun
from featx.network import PooledNetwork
from featx.plans import Request
from featx.run_folder import RunFolder, check_folder
from featx.shards import Shard, ShardOrigin, read_origin
from featx.store import Store

_ANEW = "Delete it, or give --overwrite to make it anew"


def extract_shard(
    manifest: Manifest,
    store_path: str | Path,
    request: Request,
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
        Of these rows only; see `featx.shards.take_shard`.
    store_path : path
        Of the whole store.
    request : Request
    shard : Shard
    origin : ShardOrigin
        Of the whole; see `featx.shards.describe_origin`.
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
    is one with a run's parts beside it, which `featx.merging.merge_shards` takes for unfinished.
    """
    if not path.exists() or RunFolder(path).path.is_dir():
        return False
    with _open(path) as store:
        attributes, n_rejected = store.attributes, len(store.rejected)
    if n_rejected or str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)


def _refuse_other(path: Path, shard: Shard, origin: ShardOrigin) -> None:
    """Refuse to add to a shard of other settings or images; other labels and splits are written into it."""
    with _open(path) as store:
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


def _open(path: Path) -> Store:
    try:
        return Store(path)
    except StoreError as error:
        raise StoreError(f"{error}. {_ANEW}") from error
