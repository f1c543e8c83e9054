"""Keep features while a store is being written: a folder of immutable part files, each a run of rows."""

import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import StoreError
from featx.system import whole_file

# What NumPy and zipfile are known to raise on damaged parts.
_DAMAGE = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, SyntaxError, MemoryError, ArithmeticError, TypeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


_PART_NAME = re.compile(r"rows-(\d{10})-(\d{10})\.npz")


@dataclass(frozen=True)
class Part:
    """The features of the rows `start` to `stop` (exclusive) of a manifest.

    Attributes
    ----------
    start, stop : int
    rows : ndarray of int64
        Manifest rows whose image could be read, ascending.
    sha256 : ndarray of S64
        Digests of those images' files.
    own : ndarray of bool
        Which of those rows have their features here. The files of the others are identical to one whose features
        are elsewhere, to be found by its digest.
    features : dict of str to ndarray of shape (own.sum(), n_channels), float32
        By layer.
    rejected : dict of int to str
        Why other rows have no features.
    """

    start: int
    stop: int
    rows: np.ndarray
    sha256: np.ndarray
    own: np.ndarray
    features: dict[str, np.ndarray]
    rejected: dict[int, str]

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features at some indices."""
        return {layer: values[indices] for layer, values in self.features.items()}

    def close(self) -> None:
        """Do nothing: a part is in memory. A `Store` is closed so."""


class PartFiles:
    """A folder of part files: a file under its final name is complete.

    Parameters
    ----------
    path : Path
        The folder; `write` makes it if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, part: Part) -> None:
        """Write a part; it is on disk before it is named."""
        arrays = {f"features/{layer}": values for layer, values in part.features.items()}
        reasons = list(part.rejected.values())
        arrays |= {
            "rows": part.rows,
            "sha256": part.sha256,
            "own": part.own,
            "rejected_rows": np.array(list(part.rejected), dtype=np.int64),
            "rejected_reasons": np.array(reasons, dtype=str) if reasons else np.array([], dtype="U1"),
        }
        with self._write_to(self._path_of(part.start, part.stop)) as file:
            np.savez(file, **arrays)

    def read(self, n_channels: Mapping[str, int], mask: np.ndarray | None = None) -> list[tuple[int, int]]:
        """Return the row ranges of all valid parts, ascending; delete what is damaged or overlaps.

        Every byte of a part is checked (a .npz holds a CRC-32 of each array).

        Parameters
        ----------
        n_channels : mapping of str to int
            Features per layer.
        mask : ndarray of bool, optional
            Rows of the manifest that the parts cover, as a mask; default: all.
        """
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink()
        ranges: list[tuple[int, int]] = []
        for path in sorted(self.path.glob("rows-*.npz")):
            part = self._read_valid(path, n_channels, mask)
            if part is None or (ranges and part.start < ranges[-1][1]):
                path.unlink()
            else:
                ranges.append((part.start, part.stop))
        return ranges

    def look(self) -> Iterator[tuple[Path, Part | None]]:
        """Yield the path and the contents of every part, None where it is damaged; change nothing."""
        for path in sorted(self.path.glob("rows-*.npz")):
            yield path, self._read_valid(path, None, None)

    def load(self, start: int, stop: int, *, with_features: bool = True) -> Part:
        """Read one part that `read` found valid, or all but its features."""
        return _load(self._path_of(start, stop), with_features=with_features)

    def drop(self, rows: Iterable[int]) -> None:
        """Delete the parts that hold any of these rows, so that they are computed again."""
        rows = np.fromiter(rows, dtype=np.int64)
        for start, stop in self.ranges():
            if ((rows >= start) & (rows < stop)).any():
                self._path_of(start, stop).unlink()

    def forget(self, rows: Iterable[int]) -> None:
        """Leave rows out of the parts that hold them, so that they, and no others, are computed again."""
        rows = np.unique(np.fromiter(rows, dtype=np.int64))
        for start, stop in self.ranges():
            inside = rows[(rows >= start) & (rows < stop)]
            if len(inside):
                part = self.load(start, stop)
                pieces = zip([start, *(inside + 1)], [*inside, stop], strict=True)
                # From the last to the first: as long as the first isn't there, the part itself is the valid one.
                for first, end in reversed([(int(first), int(end)) for first, end in pieces if first < end]):
                    self.write(_cut(part, first, end))
                self._path_of(start, stop).unlink()

    def n_done(self) -> int:
        """Return how many rows lie in parts, by their names."""
        return sum(stop - start for start, stop in self.ranges())

    def ranges(self) -> list[tuple[int, int]]:
        """Return the row ranges of all parts, by their names."""
        names = (_PART_NAME.fullmatch(path.name) for path in self.path.glob("rows-*.npz"))
        return [(int(name[1]), int(name[2])) for name in names if name]

    def _path_of(self, start: int, stop: int) -> Path:
        return self.path / f"rows-{start:010d}-{stop:010d}.npz"

    def _read_valid(self, path: Path, n_channels: Mapping[str, int] | None, mask: np.ndarray | None) -> Part | None:
        if not _PART_NAME.fullmatch(path.name):
            return None
        try:
            part = _load(path)
        except _DAMAGE:
            return None
        shapes = {layer: values.shape for layer, values in part.features.items()}
        if n_channels is None:
            n_channels = {layer: shape[1] for layer, shape in shapes.items() if len(shape) == 2}
        is_mask = part.own.dtype == bool and part.own.shape == part.rows.shape
        expected = {layer: (int(part.own.sum()), channels) for layer, channels in n_channels.items()}
        covered = sorted([*part.rows.tolist(), *part.rejected])
        whole = is_mask and shapes == expected and len(part.sha256) == len(part.rows)
        return part if whole and covered == _rows_between(part.start, part.stop, mask) else None

    @contextmanager
    def _write_to(self, path: Path) -> Iterator:
        try:
            self.path.mkdir(exist_ok=True)
            with whole_file(path) as file:
                yield file
        except OSError as error:
            raise StoreError(
                f"{path}: writing failed ({error.strerror or error}). {self.n_done():,} images are done and kept; fix "
                "it (free some disk, say) and run the same command again"
            ) from error


def _cut(part: Part, start: int, stop: int) -> Part:
    within = (part.rows >= start) & (part.rows < stop)
    return Part(
        start=start,
        stop=stop,
        rows=part.rows[within],
        sha256=part.sha256[within],
        own=part.own[within],
        features={layer: values[within[part.own]] for layer, values in part.features.items()},
        rejected={row: reason for row, reason in part.rejected.items() if start <= row < stop},
    )


def _rows_between(start: int, stop: int, mask: np.ndarray | None) -> list[int]:
    if mask is None:
        return list(range(start, stop))
    return (start + np.flatnonzero(mask[start:stop])).tolist()


def _load(path: Path, *, with_features: bool = True) -> Part:
    name = _PART_NAME.fullmatch(path.name)
    with np.load(path, allow_pickle=False) as stored:
        layers = [key for key in stored if key.startswith("features/")] if with_features else []
        rejected = zip(stored["rejected_rows"].tolist(), stored["rejected_reasons"].tolist(), strict=True)
        return Part(
            start=int(name[1]),
            stop=int(name[2]),
            rows=stored["rows"],
            sha256=stored["sha256"],
            own=stored["own"],
            features={key.removeprefix("features/"): stored[key] for key in layers},
            rejected=dict(rejected),
        )
