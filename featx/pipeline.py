"""Images to features: decoding (threads), the network (the calling thread) and writing (one thread) at the same time.

What lies between them is bounded, so that memory doesn't grow with the number of images.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from featx.batches import MOST_ROWS, Batch, Network
from featx.decoding import read_ahead
from featx.images import Picture
from featx.manifest import Manifest
from featx.parts import Part, PartFiles
from featx.run_log import Tally
from featx.stopping import finish_first

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
    tally: Tally | None = None,
    **options: object,
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
        Is told the number of images that are done.
    tally : Tally, optional
        Is told how far the run is, and what it waits for.
    **options
        See `compute_parts`.

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
            compute_parts(network, manifest.root, paths, read, gaps, tally=tally, **options)
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

    Unreadable and identical images take no place in a batch. A part ends where its batch is full, so that whoever goes
    on from the end of any part forms the same batches.

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
        Digests of files whose features are there already; those computed here are added. Default: every image is
        computed.
    wanted : ndarray of bool, optional
        By row, whether the image is read at all; default: every one.
    largest : float, optional
        The largest value that the store can hold.
    reject : callable, optional
        Is told the row of every image that can't be read, in the rows' order, and why; what it raises ends the run.
    note : callable, optional
        Is given the row of every image of which something is to say, and what: see `featx.images.Picture`.
    tally : Tally, optional
        Is told what is waited for.

    Yields
    ------
    Part
        One a batch, in the rows' order.

    Raises
    ------
    FeatxError
        If the network gives values that can't be stored.
    """
    gaps, tally = list(gaps), tally or Tally()
    rows = (row for start, stop in gaps for row in range(start, stop) if wanted is None or wanted[row])
    with contextlib.closing(read_ahead(root, paths, rows, read, _BATCHES_AHEAD * network.batch_size)) as pictures:
        begun: deque[Callable[[], Part]] = deque()
        waited_for = _count_waiting(pictures, tally)
        for batch, stop in _fill_batches(waited_for, gaps, network.batch_size, known, wanted, reject, note):
            with tally.waiting("network"):
                begun.append(batch.begin(network, paths, stop, largest))
            # A device of its own computes one batch while the next is made; on a CPU both want the same cores.
            while len(begun) > network.has_own_device:
                yield _finish(begun.popleft(), tally)
        while begun:
            yield _finish(begun.popleft(), tally)


def find_gaps(done: list[tuple[int, int]], n_rows: int) -> list[tuple[int, int]]:
    """Return the ranges of rows that no part holds.

    Examples
    --------
    >>> find_gaps([(0, 4), (8, 12)], 20)
    [(4, 8), (12, 20)]
    """
    return [(start, stop) for (_, start), (stop, _) in pairwise([(0, 0), *done, (n_rows, n_rows)]) if start < stop]


def join_layers(part: Part, layers: Iterable[str]) -> np.ndarray:
    """Lay the features of some layers side by side.

    Returns
    -------
    ndarray of shape (part.own.sum(), n_features), float32
    """
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
    """Give the pending rows to the writer once it is done with the ones before; raises what it raised."""
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
