"""Combine features from part files and stores into blocks of whole rows."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featx.store.file import StoredFeatures
from featx.store.parts import Part, PartFiles
from featx.store.reader import Store

# Size of a block of features in memory.
_BLOCK_BYTES = 2**24


_PARTS_IN_MEMORY = 4


class DigestIndex:
    """The index of each digest in an array of digests.

    Parameters
    ----------
    digests : ndarray of S64

    Examples
    --------
    >>> DigestIndex(np.array([b"b", b"a", b"b"])).find(np.array([b"b", b"c"])).tolist()
    [0, -1]
    """

    def __init__(self, digests: np.ndarray) -> None:
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]

    def find(self, digests: np.ndarray) -> np.ndarray:
        """Return each digest's first index, -1 where there is none."""
        if not len(self._sorted):
            return np.full(len(digests), -1)
        nearest = np.searchsorted(self._sorted, digests).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[nearest] == digests, self._order[nearest], -1)


@dataclass(frozen=True)
class Outline:
    """Contents of a folder of part files, without the features.

    Attributes
    ----------
    ranges : list of (int, int)
        First row and end of each part.
    rows, sha256, own, rejected
        Those of all parts; see `Part`.
    n_own : ndarray of int
        Rows of each part that have their features there.
    """

    ranges: list[tuple[int, int]]
    rows: np.ndarray
    sha256: np.ndarray
    own: np.ndarray
    n_own: np.ndarray
    rejected: dict[int, str]

    @classmethod
    def of_rows(cls, rows: np.ndarray, sha256: np.ndarray, rejected: dict[int, str]) -> "Outline":
        """Make the outline of rows that lie in no part files."""
        return cls([], rows, sha256, np.ones(len(rows), dtype=bool), np.array([len(rows)]), rejected)

    @property
    def own_sha256(self) -> np.ndarray:
        """Digests of the rows whose features are there, in their order."""
        return self.sha256[self.own]


def outline(files: PartFiles, ranges: list[tuple[int, int]]) -> Outline:
    """Read all of some valid parts but their features."""
    parts = [files.load(start, stop, with_features=False) for start, stop in ranges]
    return Outline(
        ranges=ranges,
        rows=np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]),
        sha256=np.concatenate([np.empty(0, "S64"), *(part.sha256 for part in parts)]),
        own=np.concatenate([np.empty(0, bool), *(part.own for part in parts)]),
        n_own=np.array([part.own.sum() for part in parts], dtype=np.int64),
        rejected={row: reason for part in parts for row, reason in part.rejected.items()},
    )


class SplitFeatures:
    """Features that lie in several pieces, by their index among the rows of all pieces.

    Parameters
    ----------
    n_rows : sequence of int
        Rows of each piece.
    open_piece : callable
        Returns a piece, which can `take` rows and be closed.
    most_open : int
        Pieces that are open at a time.
    """

    def __init__(self, n_rows: Sequence[int], open_piece: Callable[[int], Part | Store], *, most_open: int) -> None:
        self._ends = np.cumsum(n_rows)
        self._starts = self._ends - n_rows
        self._open_piece = open_piece
        self._most_open = most_open
        self._open: OrderedDict[int, Part | Store] = OrderedDict()

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features at some indices, at least one."""
        numbers = np.searchsorted(self._ends, indices, side="right")
        features: dict[str, np.ndarray] = {}
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            for layer, values in self._piece(number).take(indices[chosen] - self._starts[number]).items():
                into = features.setdefault(layer, np.empty((len(indices), values.shape[1]), values.dtype))
                into[chosen] = values
        return features

    def close(self) -> None:
        """Close all pieces."""
        while self._open:
            self._open.popitem()[1].close()

    def _piece(self, number: int) -> Part | Store:
        if number not in self._open:
            if len(self._open) >= self._most_open:
                self._open.popitem(last=False)[1].close()
            self._open[number] = self._open_piece(number)
        self._open.move_to_end(number)
        return self._open[number]


def part_features(files: PartFiles, outlined: Outline) -> SplitFeatures:
    """Return the features in a folder of part files."""
    # A block's rows mostly lie in one part or two; identical images anywhere.
    return SplitFeatures(
        outlined.n_own, lambda number: files.load(*outlined.ranges[number]), most_open=_PARTS_IN_MEMORY
    )


def merge_rows(
    outlined: Outline,
    sources: Iterable[tuple[np.ndarray, Store | StoredFeatures | SplitFeatures]],
    n_channels: Mapping[str, int],
) -> Iterator[Part]:
    """Yield whole rows in blocks, in their order.

    Parameters
    ----------
    outlined : Outline
        All rows.
    sources : iterable of (indices, source)
        The index of each readable row in a source, -1 where it isn't there; together the sources have every layer of
        every row.
    n_channels : mapping of str to int
        Features per layer.
    """
    sources = list(sources)
    n_rows = len(outlined.rows)
    block = max(1, _BLOCK_BYTES // (4 * sum(n_channels.values())))
    # Without any row, the rejected ones still go into a part.
    for start in range(0, max(1, n_rows), block):
        here = slice(start, min(start + block, n_rows))
        rows = outlined.rows[here]
        features = {layer: np.zeros((len(rows), channels), np.float32) for layer, channels in n_channels.items()}
        for indices, source in sources:
            chosen = indices[here] >= 0
            if chosen.any():
                for layer, values in source.take(indices[here][chosen]).items():
                    features[layer][chosen] = values
        yield Part(
            start=int(rows[0]) if len(rows) else 0,
            stop=int(rows[-1]) + 1 if len(rows) else 0,
            rows=rows,
            sha256=outlined.sha256[here],
            own=np.ones(len(rows), dtype=bool),
            features=features,
            rejected=outlined.rejected if start == 0 else {},
        )
