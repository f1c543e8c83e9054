"""Turn images into features: decoding, the network and writing work at the same time.

What lies between them is bounded, so that memory doesn't grow with the number of images.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from featx.errors import FeatxError
from featx.images import Manifest, Picture
from featx.images.read_ahead import read_ahead
from featx.store import Part, PartFiles
from featx.system import Tally, finish_first

# Rows of which none is computed are written in parts of about this many.
MOST_ROWS = 4096


class Network(Protocol):
    """The network as the pipeline uses it; see `featx.inference.PooledNetwork`."""

    batch_size: int
    n_channels: Mapping[str, int]
    has_own_device: bool

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Begin what calling the network does, and return what waits for it."""

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Turn pixels (n, image_size, image_size, 3), uint8, into {name: features (n, channels), float32}."""


class Batch:
    """Rows up to the next full batch: its pictures, and the rows between them that take no place in it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.rows: list[int] = []
        self.digests: list[str] = []
        self.own: list[bool] = []
        self.pixels: list[np.ndarray] = []
        self.rejected: dict[int, str] = {}

    def add(self, row: int, picture: Picture | str, known: set[str] | None) -> None:
        """Take in the next row: its picture, or the reason that there is none."""
        if isinstance(picture, str):
            self.rejected[row] = picture
            return
        is_own = known is None or picture.sha256 not in known
        self.rows.append(row)
        self.digests.append(picture.sha256)
        self.own.append(is_own)
        if is_own:
            self.pixels.append(picture.pixels)
            if known is not None:
                known.add(picture.sha256)

    def is_full(self, batch_size: int) -> bool:
        """Return whether to end here; if no picture waits, the end changes none of the batches that follow."""
        n_rows = len(self.rows) + len(self.rejected)
        return len(self.pixels) == batch_size or (not self.pixels and n_rows >= MOST_ROWS)

    def begin(self, network: Network, paths: Sequence[str | Path], stop: int, largest: float) -> Callable[[], Part]:
        """Push the pictures through the network; where it has a device of its own, without waiting for it."""
        wait = None
        if self.pixels:
            pixels = np.stack(self.pixels)
            self.pixels.clear()
            wait = network.submit(pixels) if network.has_own_device else partial(network, pixels)
        return partial(self._finish, wait, network.n_channels, paths, stop, largest)

    def _finish(
        self,
        wait: Callable[[], dict[str, np.ndarray]] | None,
        n_channels: Mapping[str, int],
        paths: Sequence[str | Path],
        stop: int,
        largest: float,
    ) -> Part:
        features = {layer: np.empty((0, channels), np.float32) for layer, channels in n_channels.items()}
        if wait is not None:
            features = wait()
            own_rows = [row for row, is_own in zip(self.rows, self.own, strict=True) if is_own]
            _check_values(features, [paths[row] for row in own_rows], largest)
        return Part(
            start=self.start,
            stop=stop,
            rows=np.array(self.rows, dtype=np.int64),
            sha256=np.array(self.digests, dtype="S64"),
            own=np.array(self.own, dtype=bool),
            features=features,
            rejected=self.rejected,
        )


def _check_values(features: dict[str, np.ndarray], paths: list[str | Path], largest: float) -> None:
    """Check that values are finite and that the store can hold them; an error names the first image."""
    for layer, values in features.items():
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            path = paths[int(np.argmin(finite))]
            raise FeatxError(
                f"{path}: {layer} gave values that are not finite: are these the right weights? "
                "(`precision` float16 overflows sooner than bfloat16)"
            )
        magnitudes = np.abs(values).max(axis=1)
        if magnitudes.max() > largest:
            place = int(np.argmax(magnitudes > largest))
            raise FeatxError(
                f"{paths[place]}: {layer} gave the value {magnitudes[place]:,.0f}, and float16 ends at {largest:,.0f}. "
                "Use `store_dtype` float32"
            )


PART_SIZE = 128
_BATCHES_AHEAD = 4


def run_network(
    manifest: Manifest,
    files: PartFiles,
    network: Network,
    read: Callable[[Path], Picture],
    gaps: Iterable[tuple[int, int]],
    advance: Callable[[int], object],
    *,
    known: set[str] | None = None,
    wanted: np.ndarray | None = None,
    largest: float = np.inf,
    reject: Callable[[int, str], object] = lambda row, reason: None,
    note: Callable[[int, str], object] = lambda row, text: None,
    tally: Tally | None = None,
) -> int:
    """Decode ahead, compute, and hand every full run of rows to the writer; SIGTERM waits for the batch in hand.

    Parameters
    ----------
    manifest : Manifest
    files : PartFiles
        Where the features go.
    network : Network
    read : callable
        Turns a path into a `Picture`, or raises `ImageError`.
    gaps : iterable of (int, int)
        First row and end of what is to be done, ascending; see `find_gaps`.
    advance : callable
        Receives the number of images that are done.
    known, wanted, largest, reject, note
        See `compute_parts`.
    tally : Tally, optional
        Counts how far the run is, and what it waits for.

    Returns
    -------
    int
        How many images went through the network.

    Raises
    ------
    FeatxError
        If writing fails or the network gives values that can't be stored. Whatever ends it, rows that are computed are
        written.
    """
    tally = tally or Tally()
    part_size = max(1, PART_SIZE // network.batch_size) * network.batch_size
    pending: list[Part] = []
    n_computed = n_pending = 0
    writing: Future | None = None
    paths = manifest.table["path"].to_numpy()
    with (
        ThreadPoolExecutor(1) as writer,
        contextlib.closing(
            compute_parts(
                network,
                manifest.root,
                paths,
                read,
                gaps,
                known=known,
                wanted=wanted,
                largest=largest,
                reject=reject,
                note=note,
                tally=tally,
            )
        ) as computed,
        finish_first() as stop_if_asked,
    ):
        try:
            for part in computed:
                if pending and pending[-1].stop != part.start:
                    writing, n_pending = _hand_over(pending, files, writer, writing, tally), 0
                pending.append(part)
                n_own = int(part.own.sum())
                n_pending += n_own
                n_computed += n_own
                if n_pending >= part_size or part.stop - pending[0].start >= MOST_ROWS:
                    writing, n_pending = _hand_over(pending, files, writer, writing, tally), 0
                tally.n_done += len(part.rows) + len(part.rejected)
                tally.n_rejected += len(part.rejected)
                advance(len(part.rows) + len(part.rejected))
                stop_if_asked()
        finally:
            # Also on the way out of an interruption: what is computed is kept.
            if pending:
                writing = _hand_over(pending, files, writer, writing, tally)
            if writing is not None:
                with tally.waiting("writing"):
                    writing.result()
    return n_computed


def compute_parts(
    network: Network,
    root: Path,
    paths: Sequence[str | Path],
    read: Callable[[Path], Picture],
    gaps: Iterable[tuple[int, int]],
    *,
    known: set[str] | None = None,
    wanted: np.ndarray | None = None,
    largest: float = np.inf,
    reject: Callable[[int, str], object] = lambda row, reason: None,
    note: Callable[[int, str], object] = lambda row, text: None,
    tally: Tally | None = None,
) -> Iterator[Part]:
    """Decode ahead and yield the features batch by batch; close the iterator if it is left early.

    Unreadable and identical images take no place in a batch. A part ends where its batch is full, so that a
    run that resumes at the end of any part forms the same batches.

    Parameters
    ----------
    network : Network
    root : Path
        The folder that relative paths start from.
    paths : sequence of str or Path
        Of every image, by row.
    read : callable
        Turns a path into a `Picture`, or raises `ImageError`. It may leave out the pixels of what is known.
    gaps : iterable of (int, int)
        First row and end of what is to be done, ascending.
    known : set of str, optional
        Digests of files whose features exist; those computed here are added. Default: every image is
        computed.
    wanted : ndarray of bool, optional
        By row, whether the image is read at all; default: every one.
    largest : float, optional
        The largest value that the store can hold.
    reject : callable, optional
        Receives the row of every image that can't be read, in the rows' order, and the reason; what it raises ends the
        run.
    note : callable, optional
        Receives the row of every image with a note, and the note: see `featx.images.Picture`.
    tally : Tally, optional
        Counts what is waited for.

    Yields
    ------
    Part
        One per batch, in the rows' order.

    Raises
    ------
    FeatxError
        If the network gives values that can't be stored.
    """
    gaps, tally = list(gaps), tally or Tally()
    rows = (row for start, stop in gaps for row in range(start, stop) if wanted is None or wanted[row])
    with contextlib.closing(read_ahead(root, paths, rows, read, _BATCHES_AHEAD * network.batch_size)) as pictures:
        started: deque[Callable[[], Part]] = deque()
        waited_for = _count_waiting(pictures, tally)
        for batch, stop in _fill_batches(waited_for, gaps, network.batch_size, known, wanted, reject, note):
            with tally.waiting("network"):
                started.append(batch.begin(network, paths, stop, largest))
            # A device of its own computes one batch while the next is made; on a CPU both want the same cores.
            while len(started) > network.has_own_device:
                yield _finish(started.popleft(), tally)
        while started:
            yield _finish(started.popleft(), tally)


def find_gaps(done: list[tuple[int, int]], n_rows: int) -> list[tuple[int, int]]:
    """Return the ranges of rows that no part holds.

    Examples
    --------
    >>> find_gaps([(0, 4), (8, 12)], 20)
    [(4, 8), (12, 20)]
    """
    return [(start, stop) for (_, start), (stop, _) in pairwise([(0, 0), *done, (n_rows, n_rows)]) if start < stop]


def join_layers(part: Part, layers: Iterable[str]) -> np.ndarray:
    """Lay the features of some layers side by side."""
    return np.concatenate([part.features[layer] for layer in layers], axis=1)


def _fill_batches(
    pictures: Iterator[tuple[int, Picture | str]],
    gaps: Iterable[tuple[int, int]],
    batch_size: int,
    known: set[str] | None,
    wanted: np.ndarray | None,
    reject: Callable[[int, str], object],
    note: Callable[[int, str], object],
) -> Iterator[tuple[Batch, int]]:
    """Yield each batch, full where the rows allow it, and the row that it ends before."""
    for start, stop in gaps:
        n_rows = stop - start if wanted is None else int(wanted[start:stop].sum())
        batch = Batch(start)
        for row, picture in islice(pictures, n_rows):
            if isinstance(picture, str):
                reject(row, picture)
            else:
                for text in picture.notes:
                    note(row, text)
            batch.add(row, picture, known)
            if batch.is_full(batch_size):
                yield batch, row + 1
                batch = Batch(row + 1)
        if batch.start < stop:
            yield batch, stop


def _count_waiting(pictures: Iterator[tuple[int, Picture | str]], tally: Tally) -> Iterator[tuple[int, Picture | str]]:
    """Pass pictures on, and count the time that they let wait."""
    while True:
        with tally.waiting("decoding"):
            following = next(pictures, None)
        if following is None:
            return
        yield following


def _finish(wait: Callable[[], Part], tally: Tally) -> Part:
    with tally.waiting("network"):
        return wait()


def _hand_over(
    pending: list[Part], files: PartFiles, writer: ThreadPoolExecutor, writing: Future | None, tally: Tally
) -> Future:
    """Hand the pending rows to the writer after it has written the previous ones; raises what it raised."""
    with tally.waiting("writing"):
        part = _join(pending)
        pending.clear()
        if writing is not None:
            writing.result()
        return writer.submit(files.write, part)


def _join(parts: list[Part]) -> Part:
    """Make one part of several that follow one another."""
    return Part(
        start=parts[0].start,
        stop=parts[-1].stop,
        rows=np.concatenate([part.rows for part in parts]),
        sha256=np.concatenate([part.sha256 for part in parts]),
        own=np.concatenate([part.own for part in parts]),
        features={layer: np.concatenate([part.features[layer] for part in parts]) for layer in parts[0].features},
        rejected={row: reason for part in parts for row, reason in part.rejected.items()},
    )
