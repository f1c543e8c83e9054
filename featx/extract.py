"""Stage 1, images to store: begin or go on, run the network over what is missing, make one file of the parts."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featx.batch_size import AUTO
from featx.errors import SourceError, StoppedError, StoreError
from featx.images import Picture, read_picture
from featx.keras_setup import load_keras
from featx.manifest import Manifest
from featx.network import PooledNetwork, build_network
from featx.parts import Part, PartsFolder
from featx.pipeline import plan_batches, progress_bar, run_network
from featx.settings import Settings
from featx.store import Store
from featx.store_writer import write_store

_EXISTS = "{}: exists. Give another name, or --overwrite to replace it once the new one is whole"


@dataclass(frozen=True)
class Extraction:
    """What an extraction did.

    Attributes
    ----------
    store_path : str
    n_images, n_features, n_rejected : int
        Of the finished store.
    n_resumed : int
        Images whose features an earlier, interrupted run had left.
    seconds : float
        From the first image to the finished store.
    images_per_second : float
        Of this run's own images.
    """

    store_path: str
    n_images: int
    n_features: int
    n_rejected: int
    n_resumed: int
    seconds: float
    images_per_second: float


def extract_features(
    manifest: Manifest,
    store_path: str | Path,
    *,
    backbone: str = "vgg16",
    layers: str = "all",
    weights: str = "imagenet",
    image_size: int = 224,
    resize: str = "squash",
    interpolation: str = "bilinear",
    preprocessing: str | None = None,
    pool: str = "avg",
    views: str = "none",
    engine: str = "auto",
    precision: str = "float32",
    jpeg: str = "full",
    store_dtype: str = "float32",
    batch_size: int | str = AUTO,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Extraction:
    """Extract the pooled activations of a frozen network into a feature store.

    A run that is interrupted, however, goes on where it was when it is started again with the same arguments.

    Parameters
    ----------
    manifest : Manifest
        The images; see `featx.read_source`.
    store_path : path
        The HDF5 file to make.
    backbone, layers, weights, image_size, preprocessing, pool, views, engine, precision, batch_size
        See `featx.network.build_network`. With Keras the last bits of a float may depend on `batch_size`, so that only
        runs with equal ones are equal to the bit.
    resize, interpolation, jpeg : str
        See `featx.images.decode`.
    store_dtype : {"float32", "float16"}, default "float32"
        How the features are stored.
    overwrite : bool, default False
        Replace a finished store (once the new one is whole) and an unfinished one of other settings.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Raises
    ------
    FeatxError
        If anything in the arguments, the images or the disk doesn't allow it; what is done is kept.
    """
    parts = PartsFolder(Path(store_path))
    _check_folder(parts.store_path)
    if parts.store_path.exists() and not overwrite and not parts.path.exists():
        raise StoreError(_EXISTS.format(store_path))
    network = build_network(
        backbone,
        layers=layers,
        weights=weights,
        image_size=image_size,
        preprocessing=preprocessing,
        pool=pool,
        views=views,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        echo=echo,
    )
    keras = load_keras()
    settings = Settings(
        backbone=backbone,
        weights=network.weights_name,
        weights_sha256=network.weights_sha256,
        layers=tuple(network.n_channels),
        pooling=network.pooling,
        image_size=image_size,
        resize=resize,
        interpolation=interpolation,
        preprocessing=network.preprocessing,
        precision=precision,
        keras_backend=keras.backend.backend(),
        engine=network.engine.name,
        views=views,
        store_dtype=store_dtype,
        jpeg=jpeg,
    )
    read = partial(read_picture, image_size=image_size, resize=resize, interpolation=interpolation, jpeg=jpeg)
    with parts.lock():
        run_id = _begin(parts, settings, manifest, overwrite)
        if run_id is None:
            return _finish_leftover(parts)
        runner = network.engine
        echo(f"{backbone}, {len(network.n_channels)} layers, on {runner.device} by {runner.name} {runner.version}")
        provenance = {
            "keras_version": keras.__version__,
            "engine_version": runner.version,
            "run_id": run_id,
            "device": runner.device,
            "batch_size": network.batch_size,
        }
        provenance["paths_sha256"] = _describe_source(manifest)["paths_sha256"]
        return _extract_rows(manifest, parts, settings, network, read, provenance, progress=progress, echo=echo)


def _check_folder(store_path: Path) -> None:
    if store_path.is_dir():
        raise StoreError(f"{store_path}: a folder; give the name of the HDF5 file to make")
    if not store_path.absolute().parent.is_dir():
        raise StoreError(f"{store_path}: the folder {store_path.parent} doesn't exist; make it first")


def _begin(parts: PartsFolder, settings: Settings, manifest: Manifest, overwrite: bool) -> str | None:
    """Return the identity of the run that goes on or begins; None if all that is left of it is to clean up."""
    source = _describe_source(manifest)
    if parts.store_path.exists():
        stored = _stored_attributes(parts.store_path, lenient=overwrite)
        is_same = stored.get("settings_sha256") == settings.sha256 and all(
            stored.get(name) == source[name] for name in ("root", "paths_sha256")
        )
        if is_same and (parts.wrote(stored.get("run_id")) or (parts.is_empty() and not overwrite)):
            return None
        if not overwrite:
            raise StoreError(_EXISTS.format(parts.store_path))
    return parts.begin(settings, source, replaces=overwrite)


def _describe_source(manifest: Manifest) -> dict[str, object]:
    """Return what tells one list of images from another."""
    text = "\0".join(manifest.table["path"]).encode("utf-8", "surrogateescape")
    return {
        "root": str(manifest.root),
        "n_images": len(manifest),
        "paths_sha256": hashlib.sha256(text).hexdigest(),
    }


def _stored_attributes(store_path: Path, *, lenient: bool) -> dict[str, object]:
    """Return a store's attributes; leniently, none of one that can't be read, since it will be replaced."""
    try:
        with Store(store_path) as store:
            return store.attributes
    except StoreError:
        if lenient:
            return {}
        raise


def _finish_leftover(parts: PartsFolder) -> Extraction:
    """Clean up after a run that was stopped between its store's last byte and its own end."""
    parts.remove()
    with Store(parts.store_path) as store:
        n_images, n_rejected = len(store), len(store.rejected)
        return Extraction(
            store_path=str(parts.store_path),
            n_images=n_images,
            n_features=sum(store.n_channels.values()),
            n_rejected=n_rejected,
            n_resumed=n_images + n_rejected,
            seconds=0.0,
            images_per_second=0.0,
        )


def _extract_rows(
    manifest: Manifest,
    parts: PartsFolder,
    settings: Settings,
    network: PooledNetwork,
    read: Callable[[Path], Picture],
    provenance: dict[str, str],
    *,
    progress: bool,
    echo: Callable[[str], None],
) -> Extraction:
    begun = time.monotonic()
    n_channels = dict(network.n_channels)
    done = parts.read(n_channels)
    n_resumed = sum(stop - start for start, stop in done)
    if n_resumed:
        echo(f"going on: {n_resumed:,} of {len(manifest):,} images were done before")
    _check_disk(parts, len(manifest), len(manifest) - n_resumed, sum(n_channels.values()))
    batches = plan_batches(done, len(manifest), network.batch_size)
    try:
        with progress_bar(len(manifest), initial=n_resumed, wanted=progress) as bar:
            run_network(manifest, parts, network, read, batches, bar.update)
        seconds_of_network = time.monotonic() - begun
        n_images, n_rejected = _merge(manifest, parts, settings, n_channels, provenance)
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped: {parts.n_done():,} of {len(manifest):,} images are done and kept in {parts.path}. Run the same "
            "command again to go on"
        ) from error
    return Extraction(
        store_path=str(parts.store_path),
        n_images=n_images,
        n_features=sum(n_channels.values()),
        n_rejected=n_rejected,
        n_resumed=n_resumed,
        seconds=round(time.monotonic() - begun, 3),
        images_per_second=round((len(manifest) - n_resumed) / max(seconds_of_network, 1e-9), 2),
    )


def _check_disk(parts: PartsFolder, n_rows: int, n_missing: int, n_features: int) -> None:
    """Refuse a disk too small for the missing parts and the store; parts are deleted only once the store is there."""
    needed = int((n_rows + n_missing) * n_features * 4 * 1.02) + 2**20
    free = shutil.disk_usage(parts.path).free
    if needed > free:
        raise StoreError(
            f"{parts.store_path}: {needed / 1e6:,.0f} MB needed (parts and store), {free / 1e6:,.0f} MB free. Free "
            "some disk, write to another, or take fewer --layers"
        )


def _merge(
    manifest: Manifest,
    parts: PartsFolder,
    settings: Settings,
    n_channels: dict[str, int],
    provenance: dict[str, str],
) -> tuple[int, int]:
    """Make one file of the parts, move it into place whole, delete the parts."""
    ranges = parts.read(n_channels)
    whole_path = parts.path / "whole.h5.tmp"
    counts = {"images": 0, "rejected": 0}

    def load() -> Iterator[Part]:
        for start, stop in ranges:
            part = parts.load(start, stop)
            counts["images"] += len(part.rows)
            counts["rejected"] += len(part.rejected)
            yield part

    _refuse_if_all_rejected(manifest, parts, ranges)
    write_store(
        whole_path,
        settings=settings,
        table=manifest.table,
        root=manifest.root,
        parts=load(),
        n_channels=n_channels,
        provenance=provenance,
    )
    parts.publish(whole_path)
    parts.remove()
    return counts["images"], counts["rejected"]


def _refuse_if_all_rejected(manifest: Manifest, parts: PartsFolder, ranges: list[tuple[int, int]]) -> None:
    for start, stop in ranges:
        part = parts.load(start, stop)
        if len(part.rows):
            return
    row, reason = next(iter(parts.load(*ranges[0]).rejected.items()))
    path = manifest.table["path"].iloc[row]
    parts.remove()
    raise SourceError(
        f"none of the {len(manifest):,} images could be read; the first, {manifest.root / path}: {reason}. "
        "Are the paths right? (--root says which folder they start from)"
    )
