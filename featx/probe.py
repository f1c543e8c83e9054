"""HDF5 on a damaged file: tried in a process of its own, since the library may crash on one, or never come back."""

import subprocess
import sys
from pathlib import Path

import featx
from featx.errors import StoreError
from featx.store_file import DAMAGE, find_faults, opened, read_attributes

_TIMEOUT = 60.0
_BYTES_PER_SECOND = 10**8

# Without the working folder on its path (-P): a stranger's file may lie there under the name of a module.
_SCRIPT = "import sys; sys.path.append(sys.argv[1]); from featx.probe import touch; touch(sys.argv[2])"


def probe(path: Path, *, timeout: float = _TIMEOUT, script: str = _SCRIPT) -> None:
    """Read all of a file's metadata and tables in another process; do nothing, if that comes to its end.

    Parameters
    ----------
    path : Path
    timeout : float, default 60
        Seconds, to which a large file adds some: one for every 100 MB.
    script : str
        What the process runs.

    Raises
    ------
    StoreError
        If the process crashes or doesn't end.
    """
    try:
        timeout += path.stat().st_size / _BYTES_PER_SECOND
        command = [sys.executable, "-P", "-c", script, str(Path(featx.__file__).parents[1]), str(path)]
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603
        # Killed by a signal; on Windows, by an exception. Other codes are Python's own, and tell nothing of the file.
        how = "crashes on it" if done.returncode < 0 or done.returncode >= 0xC0000000 else ""
    except subprocess.TimeoutExpired:
        how = f"doesn't get through it in {timeout:.0f} s"
    except OSError:
        # What can't be opened, or processes that can't be started: the caller says so, or does without.
        return
    if how:
        raise StoreError(f"{path}: an HDF5 file so damaged that HDF5 {how}: restore a copy, or extract it again")


def touch(path: str) -> None:
    """Read what a probe reads; that it can't be read is for another to tell."""
    try:
        with opened(Path(path)) as file:
            read_attributes(file, Path(path))
            list(find_faults(file, Path(path)))
            file.visititems(_touch_dataset)
    except (StoreError, *DAMAGE):
        return


def _touch_dataset(name: str, found: object) -> None:
    """Read a dataset's attributes and where its chunks are; of features a row, of a table all."""
    try:
        dict(found.attrs)
        if hasattr(found, "shape"):
            n_rows = 1 if name.startswith("features/") else len(found)
            for start in range(0, n_rows, found.chunks[0] if found.chunks else max(1, n_rows)):
                found[start]
            if found.chunks:
                found.id.chunk_iter(lambda chunk: None)
    except (StoreError, *DAMAGE):
        return
