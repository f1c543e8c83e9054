"""Extract features of images into a store, or a shard of it: the public function."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import FeatxError
from featx.extract.options import ExtractOptions
from featx.extract.run import Extraction, run_extraction
from featx.extract.shards import extract_shard, shard_origin, take_shard
from featx.images import Manifest
from featx.inference import AUTO
from featx.system import Shard, takes

if TYPE_CHECKING:
    from featx.cluster import Cluster


@takes(ExtractOptions)
def extract_features(
    manifest: Manifest,
    store_path: str | Path,
    *,
    backbone: str = "vgg16",
    layers: str = "all",
    weights: str = "imagenet",
    image_size: int | None = None,
    resize: str = "squash",
    interpolation: str = "bilinear",
    preprocessing: str | None = None,
    pool: str = "avg",
    views: str = "none",
    engine: str = "auto",
    precision: str = "float32",
    jpeg: str = "full",
    icc: str = "convert",
    store_dtype: str = "float32",
    batch_size: int | str = AUTO,
    max_rejected: int | float | None = None,
    shard: Shard | None = None,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    log_every: float = 60.0,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Extraction:
    """Extract the pooled activations of a frozen network into a feature store.

    An interrupted run resumes when it is started again with the same arguments. An existing store is added to: the
    result has its layers and poolings and the new ones, for the manifest's images; only what is missing is computed.

    Parameters
    ----------
    manifest : Manifest
        The images; see `featx.read_source`.
    store_path : path
        The HDF5 file to make, or to add to.
    {options}
    shard : Shard, optional
        Make only this share of the store, in a separate file next to it; `featx.merge_shards` joins all shards.
        Default: the whole store.
    cluster : Cluster, optional
        Workers that extract shards; see `featx.cluster.open_cluster`. Default: this process.
    overwrite : bool, default False
        Replace a finished store (once the new one is complete) and an unfinished one of other settings.
    log_every : float, default 60.0
        Seconds between two lines of `<store>.log`: rows done, images/s, what the run has waited for, and memory. A run
        that ends before its first line leaves none.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Raises
    ------
    FeatxError
        If the arguments, the images or the disk don't allow it; what is done is kept.
    """
    request = ExtractOptions.make(
        backbone=backbone,
        layers=layers,
        weights=weights,
        image_size=image_size,
        resize=resize,
        interpolation=interpolation,
        preprocessing=preprocessing,
        pool=pool,
        views=views,
        engine=engine,
        precision=precision,
        jpeg=jpeg,
        icc=icc,
        store_dtype=store_dtype,
        batch_size=batch_size,
        max_rejected=max_rejected,
    ).settle_image_size()
    options: dict[str, Any] = {
        "max_rejected": request.max_rejected,
        "overwrite": overwrite,
        "log_every": log_every,
        "progress": progress,
        "echo": echo,
    }
    if cluster is not None and shard is not None:
        raise FeatxError("a cluster divides the work by itself: leave `shard` or `cluster` out")
    if cluster is not None:
        from featx.extract.distributed import extract_on

        return extract_on(cluster, manifest, store_path, request, **options)
    if shard is None:
        return run_extraction(manifest, Path(store_path), request, **options)
    origin = shard_origin(manifest, request.record())
    return extract_shard(take_shard(manifest, shard), store_path, request, shard=shard, origin=origin, **options)
