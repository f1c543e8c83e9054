"""Images to features: decoding (threads), the network (the calling thread) and writing (one thread) at the same time.

What lies between them is bounded, so that memory doesn't grow with the number of images.
"""

import contextlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from featx.errors import FeatxError
from featx.images import ImageError, Picture
from featx.manifest import Manifest, is_utf8
from featx.network import PooledNetwork
from featx.parts import Part, PartsFolder

N_DECODERS = 4
PART_SIZE = 128
_BATCHES_AHEAD = 4


def run_network(
    manifest: Manifest,
    parts: PartsFolder,
    network: PooledNetwork,
    read: Callable[[Path], Picture],
    batches: Iterator[tuple[int, int]],
    advance: Callable[[int], object],
) -> None:
    """Decode ahead, compute, and hand every full run of rows to the writer.

    Parameters
    ----------
    manifest : Manifest
    parts : PartsFolder
        Where the features go.
    network : PooledNetwork
    read : callable
        Turns a path into a `Picture`, or raises `ImageError`.
    batches : iterator of (int, int)
        First row and end of each batch, ascending; see `plan_batches`.
    advance : callable
        Is told the number of images of each batch that is done.

    Raises
    ------
    FeatxError
        If writing fails or the network gives values that are not finite. Whatever ends it, rows that are computed are
        written.
    """
    part_size = max(1, PART_SIZE // network.batch_size) * network.batch_size
    pending: list[Part] = []
    writing: Future | None = None
    paths = manifest.table["path"].to_numpy()
    with (
        ThreadPoolExecutor(1) as writer,
        contextlib.closing(compute_parts(network, manifest.root, paths, read, batches)) as computed,
    ):
        try:
            for part in computed:
                if pending and pending[-1].stop != part.start:
                    writing = _hand_over(pending, parts, writer, writing)
                pending.append(part)
                if part.stop - pending[0].start >= part_size:
                    writing = _hand_over(pending, parts, writer, writing)
                advance(part.stop - part.start)
        finally:
            # Also on the way out of an interruption: what is computed is kept.
            if pending:
                writing = _hand_over(pending, parts, writer, writing)
            if writing is not None:
                writing.result()


def compute_parts(
    network: PooledNetwork,
    root: Path,
    paths: Sequence[str | Path],
    read: Callable[[Path], Picture],
    batches: Iterator[tuple[int, int]],
) -> Iterator[Part]:
    """Decode ahead and yield the features of each batch; close the iterator if it is left early.

    Parameters
    ----------
    network : PooledNetwork
    root : Path
        The folder that relative paths start from.
    paths : sequence of str or Path
        Of every image, by row.
    read : callable
        Turns a path into a `Picture`, or raises `ImageError`.
    batches : iterator of (int, int)
        First row and end of each batch; see `plan_batches`.

    Yields
    ------
    Part
        One a batch, in the batches' order.

    Raises
    ------
    FeatxError
        If the network gives values that are not finite.
    """
    with contextlib.closing(_decode_ahead(root, paths, read, batches)) as decoded:
        for start, pictures in decoded:
            yield _compute(network, paths, start, pictures)


def join_layers(part: Part, layers: Iterable[str]) -> np.ndarray:
    """Lay the features of some layers side by side.

    Returns
    -------
    ndarray of shape (len(part.rows), n_features), float32
    """
    return np.concatenate([part.features[layer] for layer in layers], axis=1)


@contextlib.contextmanager
def progress_bar(total: int, *, initial: int = 0, wanted: bool = True) -> Iterator:
    """Show a bar that counts images, where it is wanted and standard error is a terminal."""
    from tqdm import tqdm

    # disable=None: only where standard error is a terminal.
    with tqdm(total=total, initial=initial, unit="img", disable=None if wanted else True, smoothing=0.1) as bar:
        yield bar


def _hand_over(pending: list[Part], parts: PartsFolder, writer: ThreadPoolExecutor, writing: Future | None) -> Future:
    """Give the pending rows to the writer once it is done with the ones before; raises what it raised."""
    part = _join(pending)
    pending.clear()
    if writing is not None:
        writing.result()
    return writer.submit(parts.write, part)


def _decode_ahead(
    root: Path, paths: Sequence[str | Path], read: Callable[[Path], Picture], batches: Iterator[tuple[int, int]]
) -> Iterator[tuple[int, list[Picture | str]]]:
    """Yield (first row, pictures) of each batch; a reason stands in for an image that can't be read."""

    def attempt(row: int) -> Picture | str:
        if not is_utf8(str(paths[row])):
            return "its name is not UTF-8: rename it"
        try:
            return read(root / paths[row])
        except ImageError as error:
            return str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(N_DECODERS) as decoders:
        # What Pillow has to say of a damaged file ends as its reason, not on the screen.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        queue: deque[tuple[int, list[Future]]] = deque()
        try:
            for start, stop in batches:
                queue.append((start, [decoders.submit(attempt, row) for row in range(start, stop)]))
                if len(queue) > _BATCHES_AHEAD:
                    first, futures = queue.popleft()
                    yield first, [future.result() for future in futures]
            while queue:
                first, futures = queue.popleft()
                yield first, [future.result() for future in futures]
        finally:
            decoders.shutdown(wait=True, cancel_futures=True)


def _compute(network: PooledNetwork, paths: Sequence[str | Path], start: int, pictures: list[Picture | str]) -> Part:
    """Push one batch through the network; an unreadable image leaves its place in the batch black."""
    good = [place for place, picture in enumerate(pictures) if isinstance(picture, Picture)]
    features = {layer: np.empty((0, channels), np.float32) for layer, channels in network.n_channels.items()}
    if good:
        side = pictures[good[0]].pixels.shape
        pixels = np.zeros((len(pictures), *side), dtype=np.uint8)
        for place in good:
            pixels[place] = pictures[place].pixels
        features = {layer: values[good] for layer, values in network(pixels).items()}
    for layer, values in features.items():
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            path = paths[start + good[int(np.argmin(finite))]]
            raise FeatxError(f"{path}: {layer} gave values that are not finite: are these the right weights?")
    return Part(
        start=start,
        stop=start + len(pictures),
        rows=np.array([start + place for place in good], dtype=np.int64),
        sha256=np.array([pictures[place].sha256 for place in good], dtype="S64"),
        features=features,
        rejected={start + place: picture for place, picture in enumerate(pictures) if isinstance(picture, str)},
    )


def _join(parts: list[Part]) -> Part:
    """Make one part of several that follow one another."""
    return Part(
        start=parts[0].start,
        stop=parts[-1].stop,
        rows=np.concatenate([part.rows for part in parts]),
        sha256=np.concatenate([part.sha256 for part in parts]),
        features={layer: np.concatenate([part.features[layer] for part in parts]) for layer in parts[0].features},
        rejected={row: reason for part in parts for row, reason in part.rejected.items()},
    )


def plan_batches(done: list[tuple[int, int]], n_rows: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield the batches that no part holds; equal whichever parts are there, so that equal bits come out."""
    for (_, gap_start), (gap_stop, _) in pairwise([(0, 0), *done, (n_rows, n_rows)]):
        for start in range(gap_start, gap_stop, batch_size):
            yield start, min(start + batch_size, gap_stop)
