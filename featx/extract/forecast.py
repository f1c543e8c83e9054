"""Forecast an extraction: time a few batches of its own images, and write nothing."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from featx.errors import ImageError
from featx.extract.options import ExtractOptions
from featx.extract.rejections import none_readable
from featx.images import Manifest, Picture, n_decoders
from featx.inference import PART_SIZE, PooledNetwork, compute_parts
from featx.store import CHUNK_BYTES, check_folder

_N_BATCHES = 4


# HDF5's own of a dataset in chunks: its header, and an index with room for 64 chunks.
_HEADER_BYTES, _INDEX_BYTES = 600, 2_700


# A zip archive's and NumPy's own of an array in a part.
_ARRAY_BYTES = 400


@dataclass(frozen=True)
class Forecast:
    """The expected cost of an extraction from scratch.

    Attributes
    ----------
    n_images, n_features : int
    n_tried, n_rejected : int
        Images that were read, and how many of them can't be.
    engine, device, precision : str
        What would run the network.
    batch_size : int
    startup_seconds : float
        Measured: the network is built, and its first batch done.
    decode_images_per_second, network_images_per_second : float
        Measured: reading and decoding alone, the network alone.
    images_per_second : float
        Expected of both at the same time: the slower one's where the network has a device of its own; on a CPU they
        share its cores.
    seconds : float
        Expected from the command to the store, writing left out.
    store_bytes, parts_bytes : int
        The finished store, and the parts that lie next to it until it is complete: together, what the disk must hold.
    free_bytes : int
        What the disk has.
    memory_bytes : int
        The most memory of this process. What a GPU has of its own is not counted.
    n_channels : dict of str to int
        Features a layer, in the store's order.
    """

    n_images: int
    n_features: int
    n_tried: int
    n_rejected: int
    engine: str
    device: str
    precision: str
    batch_size: int
    startup_seconds: float
    decode_images_per_second: float
    network_images_per_second: float
    images_per_second: float
    seconds: float
    store_bytes: int
    parts_bytes: int
    free_bytes: int
    memory_bytes: int
    n_channels: dict[str, int]


def forecast_extraction(
    manifest: Manifest,
    store_path: str | Path,
    options: ExtractOptions,
    *,
    echo: Callable[[str], None] = lambda line: None,
) -> Forecast:
    """Forecast what `featx.extract_features` takes with the same arguments.

    A few batches of the images, taken evenly from all of them, are decoded and pushed through the network.

    Parameters
    ----------
    manifest : Manifest
        The images; see `featx.read_source`.
    store_path : path
        Where the store would be made.
    options : ExtractOptions
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Raises
    ------
    FeatxError
        If no store can be made there, the network can't be built, or none of the images tried can be read.
    """
    check_folder(Path(store_path))
    started_at = time.perf_counter()
    network = options.build(echo)
    size = network.image_size
    network(np.zeros((network.batch_size, size, size, 3), dtype=np.uint8))
    startup_seconds = time.perf_counter() - started_at

    read = replace(options, image_size=size).reader()
    paths = _choose(manifest, _N_BATCHES * network.batch_size)
    results, decode_rate = _time_decoding(paths, read)
    pictures = [picture for picture in results if isinstance(picture, Picture)]
    if not pictures:
        raise none_readable(f"{len(paths):,} images tried", paths[0], results[0])
    network_rate, network_memory = _time_network(network, pictures)
    shares_cores = network.engine.device.startswith("cpu")
    rate = 1 / (1 / decode_rate + 1 / network_rate) if shares_cores else min(decode_rate, network_rate)
    n_features = sum(network.n_channels.values())
    itemsize = np.dtype(options.store_dtype).itemsize
    return Forecast(
        n_images=len(manifest),
        n_features=n_features,
        n_tried=len(paths),
        n_rejected=len(paths) - len(pictures),
        engine=network.engine.name,
        device=network.engine.device,
        precision=options.precision,
        batch_size=network.batch_size,
        startup_seconds=round(startup_seconds, 2),
        decode_images_per_second=round(decode_rate, 2),
        network_images_per_second=round(network_rate, 2),
        images_per_second=round(rate, 2),
        seconds=round(startup_seconds + len(manifest) / rate, 1),
        store_bytes=_predict_store(manifest.table, list(network.n_channels.values()), itemsize),
        parts_bytes=_predict_parts(len(manifest), network),
        free_bytes=shutil.disk_usage(Path(store_path).absolute().parent).free,
        # One part is gathered while another is written.
        n_channels=dict(network.n_channels),
        memory_bytes=network_memory + 2 * max(PART_SIZE, network.batch_size) * n_features * 4,
    )


def format_forecast(forecast: Forecast) -> str:
    """Lay a forecast out for the screen."""
    needed = forecast.store_bytes + forecast.parts_bytes
    return "\n".join(
        [
            "images     {n_images:,}; {n_tried:,} tried, {n_rejected:,} of them rejected",
            "network    {n_features:,} features, {engine} on {device}, {precision}, batches of {batch_size:,}",
            "images/s   {images_per_second:,.1f} (decoding alone {decode_images_per_second:,.1f}, the network alone "
            "{network_images_per_second:,.1f})",
            "time       {seconds:,.0f} s, {startup_seconds:,.0f} s of them before the first images",
            "disk       {needed:,.1f} MB while it runs, {store:,.1f} MB of it the store; {free:,.0f} MB free{verdict}",
            "memory     {memory:,.0f} MB",
        ]
    ).format(
        **asdict(forecast),
        needed=needed / 1e6,
        store=forecast.store_bytes / 1e6,
        free=forecast.free_bytes / 1e6,
        memory=forecast.memory_bytes / 1e6,
        verdict=": too little" if needed > forecast.free_bytes else "",
    )


def _choose(manifest: Manifest, n_tried: int) -> list[Path]:
    """Return some images, evenly from all of them."""
    rows = np.unique(np.linspace(0, len(manifest) - 1, min(n_tried, len(manifest))).astype(int))
    return [manifest.root / path for path in manifest.table["path"].iloc[rows]]


def _time_decoding(paths: list[Path], read: Callable[[Path], Picture]) -> tuple[list[Picture | str], float]:
    """Return pictures, or why there is none, and images/s."""

    def attempt(path: Path) -> Picture | str:
        try:
            return read(path)
        except ImageError as error:
            return str(error)

    started_at = time.perf_counter()
    with ThreadPoolExecutor(n_decoders()) as decoders:
        results = list(decoders.map(attempt, paths))
    return results, len(paths) / (time.perf_counter() - started_at)


def _time_network(network: PooledNetwork, pictures: list[Picture]) -> tuple[float, int]:
    """Return images/s of full batches, in an extraction's own way, and the most memory of this process meanwhile."""
    n_rows = math.ceil(len(pictures) / network.batch_size) * network.batch_size
    rows = list(map(str, range(n_rows)))
    memory = 0
    started_at = time.perf_counter()
    with contextlib.closing(
        compute_parts(network, Path(), rows, lambda path: pictures[int(path.name) % len(pictures)], [(0, n_rows)])
    ) as parts:
        for _ in parts:
            memory = max(memory, psutil.Process().memory_info().rss)
    return n_rows / (time.perf_counter() - started_at), memory


def _predict_store(table: pd.DataFrame, widths: list[int], itemsize: int) -> int:
    """Return the bytes of a finished store; chunks are written whole."""
    n_rows = len(table)
    total = 0
    for width in widths:
        chunk_rows = max(1, min(n_rows, CHUNK_BYTES // (width * itemsize)))
        n_chunks = math.ceil(n_rows / chunk_rows)
        total += n_chunks * chunk_rows * width * itemsize + _HEADER_BYTES + math.ceil(n_chunks / 64) * _INDEX_BYTES
    # Compressed: a digest takes half of its 64 digits, other columns mostly say little in a row.
    return total + (len(table.columns) + 3) * (_HEADER_BYTES + _INDEX_BYTES) + n_rows * (36 + 6 * len(table.columns))


def _predict_parts(n_rows: int, network: PooledNetwork) -> int:
    n_features = sum(network.n_channels.values())
    n_parts = math.ceil(n_rows / (max(1, PART_SIZE // network.batch_size) * network.batch_size))
    return n_rows * (4 * n_features + 8 + 64) + n_parts * (len(network.n_channels) + 4) * _ARRAY_BYTES
