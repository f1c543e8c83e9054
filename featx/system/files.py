"""Write whole files and folders or none, check that they may be written, digest them, and find the cache folder."""

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from featx.errors import FeatxError, WriteError

_NOTHING_KEPT = "nothing of it was kept. Fix that (free some disk space, for example) and run it again"


def is_file(path: Path) -> bool:
    """Return whether a path is a file or a link to one; False where the system can't say, as if a name is too long."""
    # Path's own method raises there.
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder or a link to one; False where the system can't say."""
    return os.path.isdir(path)  # noqa: PTH112


def _name_next_to(path: Path) -> Path:
    """Return a new hidden name next to a path, for a file or folder that gets the path's name once it is complete."""
    return path.with_name(f".featx-{uuid.uuid4().hex}.tmp")


def sha256_of(data: bytes | memoryview | str | Path) -> str:
    """Return the SHA-256 of bytes, of a text in UTF-8, or of a file's bytes if it is a path; in hexadecimal.

    Examples
    --------
    >>> sha256_of("featx")[:12] == sha256_of(b"featx")[:12]
    True
    """
    if isinstance(data, Path):
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


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
    """Check that files may be written, and that none of them is the one to keep.

    Parameters
    ----------
    paths : sequence of Path
        The files to write.
    overwrite : bool
        Whether existing files may be replaced.
    keep : Path
        An existing file that is read while the others are written.

    Raises
    ------
    FeatxError
    """
    put_files_back(paths)
    for path in paths:
        try:
            is_kept = path.exists() and path.samefile(keep)
        except OSError as error:
            raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another `output`") from error
        if is_kept:
            raise FeatxError(f"{path}: the store itself; give another `output`")
        check_writable(path, overwrite=overwrite)


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary file to write for each path; rename them to their paths once all are written.

    The first is renamed last, and what it replaces is hidden before anything is renamed, so that if the first exists,
    the others are those that were written with it. What is replaced keeps a hidden name until all are renamed, and gets
    its own back if that fails; see `put_files_back`.

    Parameters
    ----------
    paths : sequence of Path
        All in one folder.

    Yields
    ------
    list of Path
        Empty files in the same folder, one per path.

    Raises
    ------
    WriteError
        If the disk doesn't take them. However it ends early, none of them is left, and existing files stay.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            temporaries.append(_name_next_to(path))
            temporaries[-1].open("xb").close()
        yield list(temporaries)
        for temporary in temporaries:
            sync_file(temporary)
        _publish(temporaries, paths)
    except OSError as error:
        if isinstance(error, FeatxError):
            raise
        raise WriteError(f"{paths[0]}: writing failed: {error.strerror or error}; {_NOTHING_KEPT}") from error
    finally:
        # If even deleting fails, the first error is the one to report.
        with contextlib.suppress(OSError):
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name once all of it is written; if anything fails, nothing has changed.

    Raises
    ------
    WriteError
        If it can't be written.
    """
    with whole_files([path]) as [temporary], temporary.open("wb") as file:
        yield file


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to its path once it is filled.

    A folder that is replaced keeps a hidden name until the new one has its name; see `put_folder_back`. A link to a
    folder stays a link: the folder behind it is replaced.

    Raises
    ------
    WriteError
        If it can't be written.
    """
    final = Path(os.path.realpath(path))
    temporary = _name_next_to(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as error:
        raise WriteError(f"{path}: this folder can't be made: {error.strerror}. Give another `output`") from error
    try:
        yield temporary
        for file_path in temporary.iterdir():
            sync_file(file_path)
        sync_folder(temporary)
        _move_folder(temporary, final)
    except OSError as error:
        if isinstance(error, FeatxError):
            raise
        raise WriteError(f"{path}: writing failed ({error.strerror or error}); {_NOTHING_KEPT}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_folder_back(path: str | Path) -> None:
    """Rename a folder back, if featx was killed just as it replaced the folder.

    Raises
    ------
    FeatxError
        If it can't be renamed.
    """
    final = Path(os.path.realpath(path))
    waiting = _waiting_name(final)
    if os.path.lexists(final) or not is_folder(waiting):
        return
    try:
        waiting.rename(final)
    except FileNotFoundError:
        # Another process has renamed it.
        return
    except OSError as error:
        raise _not_back(path, waiting, final, error) from error


def _move_folder(folder: Path, final: Path) -> None:
    """Rename a folder; the folder that it replaces is deleted afterwards, or keeps its name."""
    waiting = _waiting_name(final)
    if not final.exists():
        folder.rename(final)
        sync_folder(final.parent)
        return
    # Left by a process that was killed as it deleted it.
    shutil.rmtree(waiting, ignore_errors=True)
    final.rename(waiting)
    try:
        folder.rename(final)
    except BaseException:
        waiting.rename(final)
        raise
    sync_folder(final.parent)
    shutil.rmtree(waiting, ignore_errors=True)


def put_files_back(paths: Sequence[Path]) -> None:
    """Rename files back, if featx was killed just as it replaced them.

    Raises
    ------
    FeatxError
        If they can't be moved.
    """
    # If the first exists, the set is complete: the old one, or the new one.
    if is_file(paths[0]):
        return
    try:
        _put_back(paths)
    except OSError as error:
        raise _not_back(paths[0], _waiting_name(paths[0]), paths[0], error) from error


def _not_back(path: str | Path, waiting: Path, final: Path, error: OSError) -> FeatxError:
    return FeatxError(
        f"{path}: featx was stopped while it replaced this, which is called {waiting} now and can't be renamed: "
        f"{error.strerror or error}. Rename it to {final.name}"
    )


def _waiting_name(path: Path) -> Path:
    """Return the name of a file or folder while another one replaces it."""
    return path.with_name(f".{path.name}.featx-old")


def _put_back(paths: Sequence[Path]) -> None:
    """Rename hidden old files to their own names, the first last."""
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
    # The new ones are complete, even where an old one can't be deleted.
    with contextlib.suppress(OSError):
        for path in paths:
            _waiting_name(path).unlink(missing_ok=True)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written: that it doesn't exist or may be replaced, and that its folder exists.

    Raises
    ------
    FeatxError
    """
    try:
        is_folder, exists, is_file = path.is_dir(), path.exists(), path.is_file()
        has_folder = path.absolute().parent.is_dir()
    except OSError as error:
        raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another `output`") from error
    if is_folder:
        raise FeatxError(f"{path}: a folder; give the name of a file to write")
    if exists and not is_file:
        # A device or a pipe: renaming a file to its name would take it away from all programs.
        raise FeatxError(f"{path}: not a regular file; give another `output`")
    if exists and not overwrite:
        raise FeatxError(f"{path}: exists. Give another `output`, or `overwrite` to replace it")
    if not has_folder:
        raise FeatxError(f"{path}: the folder {path.parent} doesn't exist; make it first")
