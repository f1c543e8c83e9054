"""One writer at a time: locks that a system keeps, or marker files where a file system has none."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from featx.errors import FeatxError, TakenError, one_line
from featx.system.machine import now

SWITCH = "FEATX_LOCKS"
"""The environment variable that chooses: `system` (the default) or `files`."""

_KINDS = {"system": filelock.FileLock, "files": filelock.SoftFileLock}


def make_lock(path: Path) -> filelock.BaseFileLock:
    """Return a lock that is not waited for, of the kind that `FEATX_LOCKS` names.

    A `system` lock is the kernel's, and goes with its process, however that ends. A `files` lock is a file that is made
    only where there is none, which works on every file system; one whose process has died on the same machine is taken
    over, one of another machine is not.

    Raises
    ------
    FeatxError
        If the variable names neither.
    """
    kind = os.environ.get(SWITCH) or "system"
    if kind not in _KINDS:
        raise FeatxError(f"{SWITCH}={kind}: expected {' or '.join(_KINDS)}")
    # A file that is left by one kind must not be a lock of the other kind.
    return _KINDS[kind](path if kind == "system" else path.with_name(path.name + ".file"), timeout=0)


@contextlib.contextmanager
def hold(path: Path, taken: str, *, elsewhere: str = "use another folder") -> Iterator[None]:
    """Hold a lock; a second process gets an error that names the first.

    Parameters
    ----------
    path : Path
        The lock's file, in a folder that exists.
    taken : str
        The message if another process holds it: `<what>: another featx ...`.
    elsewhere : str, optional
        The advice if nothing can be written.

    Raises
    ------
    TakenError
        If it is held.
    FeatxError
        If it can't be.
    """
    lock = make_lock(path)
    by_path = path.with_name(path.name + ".by")
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise TakenError(f"{taken}{_format_holder(by_path)}. Wait for it, or stop it{_if_gone(lock)}") from error
    except (OSError, NotImplementedError) as error:
        raise FeatxError(
            f"{path}: can't be locked ({getattr(error, 'strerror', None) or error}). If nothing can be written there, "
            f"{elsewhere}; where a file system has no locks, as some network file systems haven't, set "
            f"{SWITCH}=files for every featx that writes to it"
        ) from error
    try:
        _leave_name(by_path)
        yield
    finally:
        with contextlib.suppress(OSError):
            by_path.unlink(missing_ok=True)
        lock.release()


def is_lock_file(path: Path) -> bool:
    """Return whether a file in a folder that has a lock called `lock` belongs to it."""
    return path.name == "lock" or path.name.startswith("lock.")


def _leave_name(by_path: Path) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": now(),
    }
    # The lock holds without it.
    with contextlib.suppress(OSError):
        by_path.write_text(json.dumps(holder), encoding="utf-8")


def _format_holder(by_path: Path) -> str:
    try:
        holder = json.loads(by_path.read_bytes())
        return one_line(f" (process {holder['pid']} on {holder['host']}, since {holder['since']})")
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _if_gone(lock: filelock.BaseFileLock) -> str:
    """Return the advice on a marker file whose process is on another machine."""
    return f"; if it is gone, delete {lock.lock_file}" if isinstance(lock, filelock.SoftFileLock) else ""
