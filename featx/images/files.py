"""Read the bytes of untrusted files: only of regular files, and never more than a limit."""

import stat
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from featx.errors import ImageError
from featx.system import sha256_of

MAX_BYTES = 2**30
"""Most bytes of a file that is read."""

LARGE_BYTES = 2**26
"""Files over this size are read, and their pictures decoded, one at a time."""

# Up to 32 decoders run at the same time. One picture just below the limit takes 1 to 2 GB while it is decoded, which
# is harmless; 32 of them would fill any memory. The lock is reentrant: a thread that holds it for a file takes it again
# for the file's picture.
_ONE_AT_A_TIME = threading.RLock()


def take_turns(is_large: bool) -> AbstractContextManager:
    """Return a context manager for work that may need much memory: only one thread at a time does large work."""
    return _ONE_AT_A_TIME if is_large else nullcontext()


def size_of(path: str | Path, *, max_bytes: int = MAX_BYTES) -> int:
    """Return the size of a regular file in bytes without opening it: opening a pipe would wait for its writer.

    Examples
    --------
    >>> size_of(".")
    Traceback (most recent call last):
    ...
    featx.errors.ImageError: a folder, not an image file
    """
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise _unreadable("opened", error) from error
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("a folder, not an image file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size > max_bytes:
        raise ImageError(f"{status.st_size:,} bytes, more than {max_bytes:,}")
    return status.st_size


def read_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a regular file, and no more bytes than its size says.

    Parameters
    ----------
    path : path
        Links are followed.
    max_bytes : int, default `MAX_BYTES`

    Raises
    ------
    ImageError
        If it can't be opened or read, is no regular file, or is larger than `max_bytes`.
    """
    size = size_of(path, max_bytes=max_bytes)
    try:
        with Path(path).open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise _unreadable("read", error) from error


def digest_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; see `read_file`."""
    return sha256_of(read_file(path))


def _unreadable(step: str, error: OSError | ValueError) -> ImageError:
    return ImageError(f"cannot be {step}: {getattr(error, 'strerror', None) or error}")
