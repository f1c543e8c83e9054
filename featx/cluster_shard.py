"""A shard of an extraction on a worker: made once, whatever happens to the worker, by the network that it keeps."""

from collections.abc import Callable
from pathlib import Path

from featx.cluster_tasks import keep_on_worker
from featx.cluster_worker import when_free
from featx.extract_shard import extract_shard, is_finished
from featx.extraction import Extraction, describe_finished, run_extraction
from featx.manifest import Manifest
from featx.plans import Request
from featx.run_folder import RunFolder
from featx.shards import Shard, ShardOrigin, read_origin
from featx.store import Store


def make_shard(
    manifest: Manifest,
    store_path: Path,
    request: Request,
    shard: Shard,
    origin: ShardOrigin,
    max_rejected: int | None,
    overwrite: bool,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Make one shard's store on a worker, by the network that it keeps.

    Parameters
    ----------
    manifest : Manifest
        Of the shard's rows.
    store_path, request, shard, origin, max_rejected, overwrite, log_every, echo
        See `featx.extract_shard.extract_shard`. A shard that is there was made by the same run, and stays.
    """
    path = shard.path_of(store_path)
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}

    def make() -> Extraction:
        # Asked each time: the worker that was waited for may have finished it.
        if is_finished(path, manifest, shard, origin):
            return describe_finished(path)
        if _is_of(path, manifest, shard, origin):
            # Of its images that can't be read, some may be mended; the others are not computed again.
            marks = {"shard": str(shard), "shard_of": origin.to_json()}
            return run_extraction(manifest, path, request, overwrite=False, progress=False, marks=marks, **options)
        # Weights under the same name may be others by now, and workers outlive a command.
        key = (request, origin.request["weights_sha256"])
        network = keep_on_worker(key, lambda: request.build(echo))
        options_of_shard = {"shard": shard, "origin": origin, "overwrite": overwrite, "network": network}
        return extract_shard(manifest, store_path, request, **options_of_shard, **options)

    return when_free(make, RunFolder(path).n_done)


def add_to(
    manifest: Manifest,
    store_path: Path,
    request: Request,
    max_rejected: int | float | None,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Add to a store, on a worker."""
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}
    return when_free(
        lambda: run_extraction(manifest, store_path, request, overwrite=False, progress=False, **options),
        RunFolder(store_path).n_done,
    )


def _is_of(path: Path, manifest: Manifest, shard: Shard, origin: ShardOrigin) -> bool:
    """Whether a store that is there is this shard, of the same whole."""
    if not path.exists():
        return False
    with Store(path) as store:
        attributes = store.attributes
    if str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)
