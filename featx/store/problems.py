"""Record problems of a store and the rows that each is about."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_RANGES_SHOWN = 5


Ranges = tuple[tuple[int, int], ...]


# Sampled images that have changed or are gone, and what prevents a sample: no damage of the store.
IMAGE_GONE = "image gone"


IMAGE_CHANGED = "image changed"


NO_SAMPLE = "no sample"


NO_DAMAGE = (IMAGE_GONE, IMAGE_CHANGED, NO_SAMPLE)


FEATURES_DIFFER = "features differ"


# What images and network can make again.
REPAIRABLE = ("/features/", "/images/sha256")


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes
    ----------
    what : str
        Its kind, a word or two that stay the same: checksum (bytes can't be read as they were written), digest (they
        differ from what was written), missing, foreign, type, shape, size, attributes, settings, not finite, table,
        order, features differ, part, record; for samples, which show no damage: image gone, image changed, no sample.
    where : str
        A dataset, a group or "/", within the file; the name of a file in an unfinished store's folder.
    rows : tuple of (int, int)
        First row and end of each run of rows that it is about, ascending.
    detail : str
        Explanation for a person.
    """

    what: str
    where: str
    rows: Ranges
    detail: str

    def __str__(self) -> str:
        rows = f"{format_rows(self.rows)}: " if self.rows else ""
        return f"{self.where}: {rows}{self.detail}"


def ranges_of(rows: Iterable[int]) -> Ranges:
    """Return ascending rows as runs, each its first row and its end.

    Examples
    --------
    >>> ranges_of([3, 4, 5, 9])
    ((3, 6), (9, 10))
    """
    rows = np.asarray(list(rows), dtype=np.int64)
    if not len(rows):
        return ()
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)


def rows_in(ranges: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return the rows of some runs, sorted, each once.

    Examples
    --------
    >>> rows_in([(9, 10), (3, 6), (4, 6)]).tolist()
    [3, 4, 5, 9]
    """
    return np.unique(np.concatenate([np.empty(0, np.int64), *(np.arange(start, stop) for start, stop in ranges)]))


def format_rows(ranges: Ranges) -> str:
    """Name rows for a person, by their numbers from 0.

    Examples
    --------
    >>> format_rows(((3, 6), (9, 10)))
    'rows 3 to 5, 9'
    """
    names = [str(start) if stop == start + 1 else f"{start} to {stop - 1}" for start, stop in ranges[:_RANGES_SHOWN]]
    n_rows = sum(stop - start for start, stop in ranges)
    more = f" ... ({n_rows:,} rows)" if len(ranges) > _RANGES_SHOWN else ""
    return f"row{'s' if n_rows > 1 else ''} {', '.join(names)}{more}"
