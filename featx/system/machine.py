"""Measure the machine and this process: cores, memory, versions, command, time."""

import importlib.metadata
import math
import os
import platform
import shlex
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

import featx


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far, in bytes; None where the system doesn't say.

    Processes that it started are not in it. VmHWM of proc(5) on Linux, ru_maxrss of getrusage(2) elsewhere.
    """
    try:
        # Linux's ru_maxrss is no less than the peak of the process that started this one; VmHWM is this one's own.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # not a POSIX system
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, the others in KiB.
    return peak if sys.platform == "darwin" else peak * 1024


# A command may list any number of files.
_MOST_CHARACTERS = 2000
_PACKAGES = ("numpy", "h5py", "pillow", "tifffile", "imagecodecs", "keras", "tensorflow", "jax", "torch", "ncnn")


def format_command() -> str:
    """Return the command line that this process was started with, as a shell would take it, cut if it is very long."""
    program, *arguments = sys.argv or ["python"]
    path = Path(program)
    # For `python -m featx`, too.
    program = path.parent.name if path.name == "__main__.py" else path.name
    text = shlex.join([program, *arguments]).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def format_machine() -> str:
    """Return host name, system, processor kind, and the cores and memory that this process may use."""
    memory, whole_memory = total_memory(), psutil.virtual_memory().total
    return (
        f"{socket.gethostname()}: {platform.system()} {platform.release()}, {platform.machine()}, "
        f"{available_cores()} of {os.cpu_count()} cores, {memory / 1e9:.0f} of {whole_memory / 1e9:.0f} GB"
    )


def versions_record() -> dict[str, str]:
    """Return the versions of featx, Python and the packages that features may depend on."""
    versions = {"featx": featx.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    """Return the time by the machine's clock: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_ROOT = Path("/")


def available_cores(*, root: Path = _ROOT) -> int:
    """Return how many cores this process may use.

    That is the least of the machine's cores, the process's affinity, `LOKY_MAX_CPU_COUNT`, and the CPU quotas of the
    control groups that the process is in. Workers that share a machine share such a quota too.

    Parameters
    ----------
    root : Path, optional
        Where `proc` and `sys` are.
    """
    # Imported here: it takes a while, and not every command asks. It knows affinity and LOKY_MAX_CPU_COUNT, but of
    # quotas only those of the outermost group that can be seen.
    from joblib import cpu_count

    quotas = [max(1, math.ceil(quota) // sharing_processes()) for quota in _cpu_quotas(root)]
    return min([cpu_count(), *quotas])


def available_memory(*, root: Path = _ROOT) -> int:
    """Return how many bytes of memory this process can still take.

    That is the least of what the machine has free, and of what the control groups that the process is in leave to it:
    the limit less what is used. As in the machine's own count, pages of files don't count as used: they are given up
    when memory is needed.

    Parameters
    ----------
    root : Path, optional
        Where `proc` and `sys` are.
    """
    left = [max(0, limit - used) for limit, used in _memory_limits(root)]
    return min([int(psutil.virtual_memory().available), *left])


def total_memory(*, root: Path = _ROOT) -> int:
    """Return how many bytes of memory this process and those in its control groups may take together.

    Parameters
    ----------
    root : Path, optional
        Where `proc` and `sys` are.
    """
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _memory_limits(root))])


SHARED_BY = "FEATX_PROCESSES"
"""The environment variable that says how many workers share a machine, or a job's part of one."""


def sharing_processes() -> int:
    """Return how many processes of one cluster share this machine, this one among them."""
    text = os.environ.get(SHARED_BY, "1")
    return max(1, int(text)) if text.isdecimal() else 1


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups, in cores."""
    for folder in _control_groups("cpu", root):
        # Version 2 has quota and period in one file, version 1 in two.
        numbers = _read_numbers(folder / "cpu.max")
        if not numbers:
            numbers = [*_read_numbers(folder / "cpu.cfs_quota_us"), *_read_numbers(folder / "cpu.cfs_period_us")]
        if len(numbers) == 2 and min(numbers) > 0:
            yield numbers[0] / numbers[1]


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield each limit of this process's control groups, and how much of it is used and can't be given up."""
    for folder in _control_groups("memory", root):
        # Names of version 2, then of version 1.
        limits = [
            limit
            for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
            for limit in _read_numbers(folder / name)
        ]
        if limits:
            used = [*_read_numbers(folder / "memory.current"), *_read_numbers(folder / "memory.usage_in_bytes"), 0][0]
            yield min(limits), max(0, used - _file_pages(folder / "memory.stat"))


def _file_pages(path: Path) -> int:
    """Return the bytes of a control group, and those below it, that hold pages of files."""
    try:
        figures = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
        # In version 1, names without `total_` leave out the groups below.
        before = "total_" if "total_active_file" in figures else ""
        return int(figures[f"{before}active_file"]) + int(figures[f"{before}inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups by which Linux limits this process, its own first, then those around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mount = mounts
        elif controller in controllers.split(","):
            mount = mounts / controller
        else:
            continue
        # A container may be given its own group as the outermost one, by a path that isn't there.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:depth])


def _read_numbers(path: Path) -> list[int]:
    """Return the whole numbers of a file; none where it isn't there or says that there is no limit."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
