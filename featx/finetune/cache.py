"""Keep activations that are computed once on disk, within a limit, in files of some rows each."""

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import filelock
import numpy as np

from featx.errors import FeatxError
from featx.system import available_memory, cache_dir, hold, make_lock, whole_file

# A file is about this large; it is written at once, and what is in it is not computed again.
_FILE_BYTES = 2**26


class RowFiles:
    """Rows of one shape and type in a folder, with `block_rows` rows per file; see `choose_block`."""

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
        """The bytes of all rows."""
        return self.n_rows * int(np.prod(self.shape)) * self.dtype.itemsize

    def blocks(self) -> list[tuple[int, int]]:
        """Return the first row and the end of every file."""
        starts = range(0, self.n_rows, self.block_rows)
        return [(start, min(start + self.block_rows, self.n_rows)) for start in starts]

    def has(self, start: int) -> bool:
        """Return whether the file that begins with a row exists."""
        return self._path_of(start).exists()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write a file's rows: all of them, or nothing."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self._path_of(start)) as file:
                np.save(file, rows.reshape(len(rows), *self.shape).astype(self.dtype, copy=False))
        except OSError as error:
            raise FeatxError(
                f"{self.path}: writing failed ({error.strerror or error}); what is written is kept. Free some "
                "disk space, set FEATX_CACHE to a folder on another disk, or use no cache"
            ) from error

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read rows in any order: ndarray of shape (len(rows), *shape)."""
        taken = np.empty((len(rows), *self.shape), self.dtype)
        numbers = rows // self.block_rows
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            taken[chosen] = self._block(number)[rows[chosen] - number * self.block_rows]
        return taken

    def close(self) -> None:
        """Close the files, so that deleting them frees the disk; `take` opens them again."""
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
    """Return the number of rows per file for which the largest file has about 64 MiB."""
    largest = max(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values())
    return max(1, _FILE_BYTES // largest)


# Bytes of the free disk that are left to others.
_DISK_LEFT = 2**28


@contextlib.contextmanager
def open_cache(
    key: str,
    n_rows: int,
    shapes: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    limit: int,
    keep: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, RowFiles]]:
    """Open an entry of the cache as its only user; report its size before anything is written.

    Parameters
    ----------
    key : str
        Name of the entry, for a file name.
    n_rows : int
    shapes : mapping of str to (shape of a row, dtype)
        By name.
    limit : int
        Bytes that the cache may take; the least recently used entries are deleted to keep to it.
    keep : bool, default False
        Whether the entry is kept after use. After an error or a stop it is always kept for the next run.
    echo : callable, optional
        Receives messages for the user, one line each.

    Yields
    ------
    dict of str to RowFiles
        By name.

    Raises
    ------
    FeatxError
        If the entry is over the limit, the disk has no room for it, or another process uses it.
    """
    folder = _folder()
    files = _list_files(folder / key, n_rows, shapes)
    needed, what = _check_limit(files, limit)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(
            f"{folder}: nothing can be written there: {error.strerror}. Set FEATX_CACHE to another folder"
        ) from error
    taken = f"{folder / key}: another featx trains on the same activations"
    with hold(folder / f"{key}.lock", taken, elsewhere="set FEATX_CACHE to another folder"):
        _make_room(folder, key, limit - needed)
        _check_disk(folder, what, needed - _size_of(folder / key))
        echo(f"{what}: {needed / 1e9:,.2f} GB in {folder / key}, {'kept' if keep else 'deleted at the end'}")
        if needed > available_memory():
            echo("that is more than the free memory: every epoch will read from the disk")
        (folder / key).mkdir(exist_ok=True)
        os.utime(folder / key)
        try:
            yield files
        finally:
            for rows in files.values():
                rows.close()
        if not keep:
            shutil.rmtree(folder / key, ignore_errors=True)


def _folder() -> Path:
    return cache_dir() / "activations"


def _list_files(path: Path, n_rows: int, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, RowFiles]:
    block_rows = choose_block(shapes)
    return {
        name: RowFiles(path / name, n_rows, shape, dtype, block_rows=block_rows)
        for name, (shape, dtype) in shapes.items()
    }


def _check_limit(files: Mapping[str, RowFiles], limit: int) -> tuple[int, str]:
    """Return the bytes of all files, and their name in messages."""
    needed = sum(rows.n_bytes for rows in files.values())
    what = f"{', '.join(files)} of {len(next(iter(files.values()))):,} images"
    if needed > limit:
        raise FeatxError(
            f"{what} take {needed / 1e9:,.2f} GB, more than the cache may ({limit / 1e9:,.2f} GB). Give a "
            f"`cache_limit` of {math.ceil(needed / 1e7) / 100:g} GB or more, or use no cache"
        )
    return needed, what


def _make_room(folder: Path, key: str, allowed: int) -> None:
    """Delete other entries, the least recently used first, until the rest takes no more than is allowed."""
    others = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink() and path.name != key]
    sizes = {path: _size_of(path) for path in sorted(others, key=_last_used)}
    for path in list(sizes):
        if sum(sizes.values()) <= allowed:
            return
        lock = make_lock(folder / f"{path.name}.lock")
        with contextlib.suppress(filelock.Timeout), lock:
            shutil.rmtree(path, ignore_errors=True)
            del sizes[path]


def _check_disk(folder: Path, what: str, missing: int) -> None:
    free = shutil.disk_usage(folder).free - _DISK_LEFT
    if missing > free:
        raise FeatxError(
            f"{what} take {missing / 1e9:,.2f} GB more of the disk, and {max(free, 0) / 1e9:,.2f} GB are left to use "
            f"at {folder}. Free some, set FEATX_CACHE to a folder on another disk, or use no cache"
        )


def _last_used(folder: Path) -> float:
    # Another process may delete an entry at any moment.
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.npy"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
