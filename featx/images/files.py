"""The bytes of a stranger's file: only of a regular one, and never more than a limit."""

import errno
import os
import stat
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from pathlib import Path

from featx.errors import ImageError
from featx.system import sha256_of

MAX_BYTES = 2**30
"""Most bytes of a file that is read."""


LARGE_BYTES = 2**26
"""Files over this size are read, and their pictures decoded, one at a time."""


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


# Should the file have become a pipe meanwhile, opening it doesn't wait for a writer; a terminal doesn't become this
# process's own; and Windows leaves line ends and Ctrl-Z alone.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))


# What disks, most of all those of a network, answer at times and not a little later: no reason yet to lose a file.
_PASSING = {
    getattr(errno, name)
    for name in (
        "EIO",
        "ESTALE",
        "ETIMEDOUT",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "EMFILE",
        "ENFILE",
    )
    if hasattr(errno, name)
}


_PAUSES = (0.1, 1.0, 5.0)


# Decoders run side by side, up to 32 of them. What is harmless once (a picture just below the limit takes 1 to 2 GB
# while it unfolds) would fill any memory in all of them at the same time, so that the largest pictures take turns. The
# lock is of the process since its memory is; whoever holds it for a file may take it again for the file's picture.
_TURN = threading.RLock()


def take_turns(is_large: bool) -> AbstractContextManager:
    """Return what is entered around work that may need much memory: only one thread at a time has large work."""
    return _TURN if is_large else nullcontext()


def size_of(path: str | Path, *, max_bytes: int = MAX_BYTES) -> int:
    """Return the size of a regular file, bytes, without opening it: opening some devices does something to them.

    Parameters
    ----------
    path : path
        Links are followed.
    max_bytes : int, default `MAX_BYTES`

    Raises
    ------
    ImageError
        If it isn't there, is no regular file, or is larger than `max_bytes`.

    Examples
    --------
    >>> size_of(os.curdir)
    Traceback (most recent call last):
    ...
    featx.errors.ImageError: a folder, not an image file
    """
    try:
        return _check(Path(path).stat(), max_bytes)
    except (OSError, ValueError) as error:
        raise _cannot("be opened", error) from error


def read_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file; never waits for another process, as for a pipe's, and never reads without end.

    Where the disk fails in a way that may pass, it is tried again three times, over some six seconds.

    Parameters
    ----------
    path : path
        Links are followed.
    max_bytes : int, default `MAX_BYTES`

    Raises
    ------
    ImageError
        If it can't be opened or read, is no regular file, or is, or grows, larger than `max_bytes`.
    """
    for pause in _PAUSES:
        try:
            return _read_once(path, max_bytes)
        except ImageError as error:
            if getattr(error.__cause__, "errno", None) not in _PASSING:
                raise
        time.sleep(pause)
    return _read_once(path, max_bytes)


def digest_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; see `read_file`."""
    return sha256_of(read_file(path))


def _read_once(path: str | Path, max_bytes: int) -> bytes:
    size_of(path, max_bytes=max_bytes)
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _cannot("be opened", error) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            # Asked again of what was opened: the name may stand for another file by now.
            expected = _check(os.fstat(descriptor), max_bytes)
            return _read(file, expected, max_bytes)
        except OSError as error:
            raise _cannot("be read", error) from error


def _check(found: os.stat_result, max_bytes: int) -> int:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise ImageError(f"{kind}, not an image file")
    _check_size(found.st_size, max_bytes)
    return found.st_size


def _check_size(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise ImageError(f"{n_bytes:,} bytes, more than {max_bytes:,}")


def _read(file: FileIO, expected: int, max_bytes: int) -> bytes:
    """Read to the end, mostly in one go: one byte more than expected says whether the end is there."""
    pieces: list[bytes] = []
    n_bytes = 0
    while piece := file.read(max(expected - n_bytes, 2**16) + 1):
        pieces.append(piece)
        n_bytes += len(piece)
        # Files that grow, and those of /proc, hold more than they say.
        _check_size(n_bytes, max_bytes)
    return b"".join(pieces)


def _cannot(what: str, error: OSError | ValueError) -> ImageError:
    return ImageError(f"cannot {what}: {getattr(error, 'strerror', None) or error}")
