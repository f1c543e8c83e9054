"""Arrays too large for memory, a row an image, in files of some rows each: whatever is there is whole."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.errors import FeatxError
from featx.parts import name_beside

# A file is about this large: written at once, and the unit of going on.
_FILE_BYTES = 2**26


class RowFiles:
    """Rows of one shape and type, in a folder.

    Parameters
    ----------
    path : Path
        The folder.
    n_rows : int
    shape : tuple of int
        Of a row.
    dtype : str
        As NumPy names it.
    block_rows : int
        Rows a file; see `choose_block`.
    """

    def __init__(self, path: Path, n_rows: int, shape: tuple[int, ...], dtype: str, *, block_rows: int) -> None:
        self.path = path
        self.n_rows = n_rows
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.block_rows = block_rows
        self._open: dict[int, np.memmap] = {}

    def __len__(self) -> int:
        return self.n_rows

    @property
    def n_bytes(self) -> int:
        """What all rows take."""
        return self.n_rows * int(np.prod(self.shape)) * self.dtype.itemsize

    def blocks(self) -> list[tuple[int, int]]:
        """Return the first row and the end of every file."""
        starts = range(0, self.n_rows, self.block_rows)
        return [(start, min(start + self.block_rows, self.n_rows)) for start in starts]

    def has(self, start: int) -> bool:
        """Whether the file that begins with a row is there."""
        return self._path_of(start).exists()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write a file's rows: all of them, or nothing.

        Raises
        ------
        FeatxError
            If the disk doesn't take them.
        """
        temporary = name_beside(self._path_of(start))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                np.save(file, rows.reshape(len(rows), *self.shape).astype(self.dtype, copy=False))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path_of(start))
        except OSError as error:
            raise FeatxError(
                f"{self.path}: writing failed ({error.strerror or error}); what is written is kept. Free some disk, "
                "set FEATX_CACHE to a folder on another one, or give --no-cache"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        ndarray of shape (len(rows), *shape)
        """
        taken = np.empty((len(rows), *self.shape), self.dtype)
        numbers = rows // self.block_rows
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            taken[chosen] = self._block(number)[rows[chosen] - number * self.block_rows]
        return taken

    def close(self) -> None:
        """Let go of the files, so that their room is free once they are deleted; `take` opens them again."""
        self._open.clear()

    def _block(self, number: int) -> np.memmap:
        if number not in self._open:
            start = number * self.block_rows
            path = self._path_of(start)
            expected = (min(self.block_rows, self.n_rows - start), *self.shape)
            try:
                rows = np.lib.format.open_memmap(path, mode="r")
                if rows.shape != expected or rows.dtype != self.dtype:
                    raise ValueError(f"{rows.dtype} {rows.shape}, expected {self.dtype} {expected}")
                self._open[number] = rows
            except (OSError, ValueError, EOFError) as error:
                raise FeatxError(f"{path}: can't be read ({error}). Delete it, and run it again") from error
        return self._open[number]

    def _path_of(self, start: int) -> Path:
        return self.path / f"{start:010d}.npy"


def choose_block(shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
    """Return how many rows a file is to have, so that the largest is about 64 MiB.

    Parameters
    ----------
    shapes : mapping of str to (shape of a row, dtype)
    """
    largest = max(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())
    return max(1, _FILE_BYTES // largest)
