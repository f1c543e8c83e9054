"""Write whole files or none, check that files may be written, and find the cache folder."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from featx.errors import FeatxError


def is_file(path: Path) -> bool:
    """Whether it is a file or leads to one; not if there is no telling, as where a name is too long."""
    # Path's own raises there.
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether it is a folder or leads to one; not if there is no telling."""
    return os.path.isdir(path)  # noqa: PTH112


def name_beside(path: Path) -> Path:
    """Return a hidden name next to a path, which no other process uses, for what is renamed to it once it is whole."""
    return path.with_name(f".featx-{uuid.uuid4().hex}.tmp")


def sync_folder(path: Path) -> None:
    """Flush a rename to disk, where folders can be opened (not on Windows) and flushed (not on all network disks)."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(folder)


def cache_dir() -> Path:
    """Return the folder for files that featx can make again: `$FEATX_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("FEATX_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("featx", appauthor=False))


def check_free_files(paths: Sequence[Path], *, overwrite: bool, keep: Path) -> None:
    """Refuse files that are taken, that can't be replaced, or that are the one to keep.

    Parameters
    ----------
    paths : sequence of Path
        The files to write.
    overwrite : bool
        Whether files that are there may be replaced.
    keep : Path
        A file that is there, and is read while the others are written.

    Raises
    ------
    FeatxError
    """
    put_files_back(paths)
    for path in paths:
        try:
            is_kept = path.exists() and path.samefile(keep)
        except OSError as error:
            raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another --output") from error
        if is_kept:
            raise FeatxError(f"{path}: the store itself; give another --output")
        check_writable(path, overwrite=overwrite)


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a file to write for each path, in the same folder; move them to their places once all are written.

    The first is moved last, and what stood in its place is hidden before anything is moved, so that where the first is,
    the others next to it are those that were written with it. What is replaced keeps a hidden name until all are moved,
    and gets its own back if that fails; see `put_files_back`.

    Parameters
    ----------
    paths : sequence of Path
        All in one folder.

    Yields
    ------
    list of Path
        Empty files, a path each.

    Raises
    ------
    FeatxError
        If the disk doesn't take them; whatever ends it early, nothing of them is left, and what was there stays.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            temporaries.append(name_beside(path))
            temporaries[-1].open("xb").close()
        yield list(temporaries)
        for temporary in temporaries:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        _publish(temporaries, paths)
    except OSError as error:
        raise FeatxError(
            f"{paths[0]}: writing failed: {error.strerror or error}; nothing of it was kept. Mend it (free some disk, "
            "say) and run it again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


def put_files_back(paths: Sequence[Path]) -> None:
    """Give files their names back, where featx was killed just as it replaced them all.

    Raises
    ------
    FeatxError
        If they can't be moved.
    """
    # Where the first is, the set is whole: the old one, or the new one.
    if is_file(paths[0]):
        return
    try:
        _put_back(paths)
    except OSError as error:
        raise FeatxError(
            f"{paths[0]}: featx was stopped as it replaced this file, which is {_waiting_name(paths[0])} now and can't "
            f"be moved back: {error.strerror or error}. Rename it"
        ) from error


def _waiting_name(path: Path) -> Path:
    """Return what a file is called while another one takes its place."""
    return path.with_name(f".{path.name}.featx-old")


def _put_back(paths: Sequence[Path]) -> None:
    """Move what waits back to its place, the first last."""
    for path in reversed(paths):
        if is_file(_waiting_name(path)):
            _waiting_name(path).replace(path)


def _publish(temporaries: Sequence[Path], paths: Sequence[Path]) -> None:
    if len(paths) == 1:
        temporaries[0].replace(paths[0])
        sync_folder(paths[0].absolute().parent)
        return
    try:
        for path in paths:
            if is_file(path):
                path.replace(_waiting_name(path))
        for temporary, path in reversed(list(zip(temporaries, paths, strict=True))):
            temporary.replace(path)
    except BaseException:
        for temporary, path in zip(temporaries, paths, strict=True):
            if not temporary.exists():
                path.unlink(missing_ok=True)
        _put_back(paths)
        raise
    sync_folder(paths[0].absolute().parent)
    # The new ones are in place, whatever becomes of the old ones.
    with contextlib.suppress(OSError):
        for path in paths:
            _waiting_name(path).unlink(missing_ok=True)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is taken, is no file, or whose folder isn't there or can't be looked into.

    Raises
    ------
    FeatxError
    """
    try:
        is_folder, is_there, is_file = path.is_dir(), path.exists(), path.is_file()
        has_folder = path.absolute().parent.is_dir()
    except OSError as error:
        raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another --output") from error
    if is_folder:
        raise FeatxError(f"{path}: a folder; give the name of a file to write")
    if is_there and not is_file:
        # A device or a pipe: what is renamed into its place would take it away from everybody.
        raise FeatxError(f"{path}: neither a file nor free; give another --output")
    if is_there and not overwrite:
        raise FeatxError(f"{path}: exists. Give another --output, or --overwrite to replace it")
    if not has_folder:
        raise FeatxError(f"{path}: the folder {path.parent} doesn't exist; make it first")


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name once all of it is there, or not at all.

    Raises
    ------
    FeatxError
        If it can't be written.
    """
    temporary = name_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FeatxError(f"{path}: writing failed: {error.strerror or error}; nothing of it was kept") from error
    finally:
        # Where it couldn't even be looked for, that is what was raised.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
