"""Many sources to one: a row's features come from a part, or from the store that is added to, by its file's digest."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from featx.store.parts import Part, PartFiles
from featx.store.reader import Store

# Features of about so many bytes are in memory at a time.
_BLOCK_BYTES = 2**24


_PARTS_IN_MEMORY = 4


class DigestIndex:
    """Where digests stand in an array of them.

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
        """Return each digest's first place, -1 where there is none."""
        if not len(self._sorted):
            return np.full(len(digests), -1)
        nearest = np.searchsorted(self._sorted, digests).clip(max=len(self._sorted) - 1)
        return np.where(self._sorted[nearest] == digests, self._order[nearest], -1)


@dataclass(frozen=True)
class Outline:
    """What lies in a folder of part files, without the features.

    Attributes
    ----------
    ranges : list of (int, int)
        First row and end of each part.
    rows, sha256, own
        As of one `Part` made of all.
    n_own : ndarray of int
        How many rows of each part have their features there.
    rejected : dict of int to str
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


class PartFeatures:
    """The features in a folder of part files, by their place among all that are there.

    Parameters
    ----------
    files : PartFiles
    outlined : Outline
        Of those files.
    """

    def __init__(self, files: PartFiles, outlined: Outline) -> None:
        self._files = files
        self._ranges = outlined.ranges
        self._ends = np.cumsum(outlined.n_own)
        self._starts = self._ends - outlined.n_own
        # A block's rows mostly lie in one part or two; identical images anywhere.
        self._loaded: OrderedDict[int, Part] = OrderedDict()

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features at some places, at least one."""
        numbers = np.searchsorted(self._ends, places, side="right")
        found: dict[str, np.ndarray] = {}
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            for layer, values in self._load(number).features.items():
                into = found.setdefault(layer, np.empty((len(places), values.shape[1]), values.dtype))
                into[chosen] = values[places[chosen] - self._starts[number]]
        return found

    def _load(self, number: int) -> Part:
        if number not in self._loaded:
            if len(self._loaded) >= _PARTS_IN_MEMORY:
                self._loaded.popitem(last=False)
            self._loaded[number] = self._files.load(*self._ranges[number])
        self._loaded.move_to_end(number)
        return self._loaded[number]


def merge_rows(
    outlined: Outline, sources: Iterable[tuple[np.ndarray, Store | PartFeatures]], n_channels: Mapping[str, int]
) -> Iterator[Part]:
    """Yield whole rows in blocks, in their order.

    Parameters
    ----------
    outlined : Outline
        Of the parts that tell of every row.
    sources : iterable of (places, source)
        Where each of the outline's readable rows lies in a source that can `take`, -1 where it doesn't; together they
        have every layer of every row.
    n_channels : mapping of str to int
        Features a layer.
    """
    sources = list(sources)
    n_rows = len(outlined.rows)
    block = max(1, _BLOCK_BYTES // (4 * sum(n_channels.values())))
    # Without any row there is still to be told why.
    for start in range(0, max(1, n_rows), block):
        here = slice(start, min(start + block, n_rows))
        rows = outlined.rows[here]
        features = {layer: np.zeros((len(rows), channels), np.float32) for layer, channels in n_channels.items()}
        for places, source in sources:
            chosen = places[here] >= 0
            if chosen.any():
                for layer, values in source.take(places[here][chosen]).items():
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
