"""Run tasks on a worker of a cluster: take its share of the machine, check it, and wait for locks."""

import os
import platform
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import featx
from featx import errors
from featx.errors import FeatxError, TakenError
from featx.system import available_cores, available_memory, sharing_processes

if TYPE_CHECKING:
    from distributed import Worker

PRELOAD = "featx.cluster.worker"
"""The module that dask runs when a worker starts."""


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which libraries know how many threads to use."""


# How long to wait for another process that holds a lock and makes no progress.
_PATIENCE_SECONDS = 600.0


_LOOK_SECONDS = 2.0


# A network file system may take a while to show a new file.
_N_LOOKS = 5


@dataclass(frozen=True)
class Expected:
    """Versions and paths that a worker must have in common with the process that sends it tasks.

    Attributes
    ----------
    versions : mapping of str to str
        See `required_versions`.
    paths : tuple of str
        Files and folders that it must see.
    """

    versions: Mapping[str, str]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class TaskResult:
    """Result of a task.

    Attributes
    ----------
    result : object
    lines : tuple of str
        Lines for the user.
    pid : int
        Process that ran it.
    failure : tuple of (str, str, str or None), optional
        Class, text and parameter of the `FeatxError` that it ended with. An exception itself would come with a
        traceback of dask's, and may not survive pickling.
    """

    result: object
    lines: tuple[str, ...]
    pid: int
    failure: tuple[str, str, str | None] | None = None


def dask_setup(worker: "Worker") -> None:
    """Take this worker's share of cores and GPUs; dask calls it when a worker starts.

    The number at the end of its name says which of several workers of a machine, or of a job, it is.
    """
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal, and is meant for the one that started this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    count = sharing_processes()
    number = str(worker.name).rpartition("-")[2]
    if count < 2 or not number.isdecimal():
        return
    pin_resources(int(number), count)


def pin_resources(number: int, count: int) -> None:
    """Restrict this process to one GPU, if there are GPUs, and to its part of the cores.

    `number` counts workers from 0; a worker that replaces another may have a number from `count` up.
    """
    number %= count
    if gpus := visible_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        size = max(1, len(cores) // count)
        first = (number * size) % len(cores)
        os.sched_setaffinity(0, cores[first : first + size])


def visible_gpus() -> list[str]:
    """Return names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; none without NVIDIA's driver."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],  # noqa: S607 (the system's own)
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


def required_versions() -> dict[str, str]:
    """Return the versions that all processes of a cluster must have."""
    versions = {"featx": featx.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("dask", "distributed"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return versions


def check_here(expected: Expected) -> None:
    """Raise an error if this worker has other versions, or doesn't see a path."""
    here = required_versions()
    if different := [f"{name} {here[name]}" for name, required in expected.versions.items() if here[name] != required]:
        required = ", ".join(f"{name} {value}" for name, value in expected.versions.items())
        raise FeatxError(
            f"the worker on {socket.gethostname()} has {', '.join(different)}; expected {required}: start workers from "
            "the same environment"
        )
    for path in map(Path, expected.paths):
        if not _is_seen(path):
            raise FeatxError(
                f"the worker on {socket.gethostname()} doesn't see {path}: put it on a file system that all workers "
                "share, under the same path"
            )


def _is_seen(path: Path) -> bool:
    for look in range(_N_LOOKS):
        if path.exists():
            return True
        try:
            # Listing a folder makes network file systems look again.
            os.listdir(path.parent)  # noqa: PTH208
        except OSError:
            return False
        if look + 1 < _N_LOOKS:
            time.sleep(_LOOK_SECONDS / 4)
    return False


def run_here(function: Callable, arguments: Sequence[object], expected: Expected, *shared: object) -> TaskResult:
    """Check this worker, and run a task on it: call the function with what is shared, the arguments, and `echo`."""
    lines: list[str] = []
    result = failure = None
    try:
        check_here(expected)
        result = function(*shared, *arguments, echo=lines.append)
    except FeatxError as error:
        failure = (type(error).__name__, error.text, error.parameter)
    return TaskResult(result, tuple(lines), os.getpid(), failure)


def unwrap(result: TaskResult) -> TaskResult | FeatxError:
    """Return the error that a task ended with, or its result."""
    if result.failure is None:
        return result
    name, text, parameter = result.failure
    return getattr(errors, name, FeatxError)(text, parameter=parameter)


def wait_for_lock(function: Callable[[], object], count: Callable[[], int]) -> object:
    """Call a function, and wait while another process holds the lock of what it writes.

    A scheduler may give up a worker that still works: the worker that gets its task then finds its lock.

    Parameters
    ----------
    function : callable
        Raises `TakenError` while another process holds the lock.
    count : callable
        Returns how far the other process is; as long as that grows, it is waited for.

    Raises
    ------
    FeatxError
        The function's; `TakenError` once the other process has made no progress for ten minutes.
    """
    started, before = time.monotonic(), -1
    while True:
        try:
            return function()
        except TakenError:
            done = count()
            if done != before:
                started, before = time.monotonic(), done
            if time.monotonic() - started > _PATIENCE_SECONDS:
                raise
            time.sleep(_LOOK_SECONDS)


def measure_memory() -> tuple[str, int, int]:
    """Return this machine's name, the number of workers that share this one's memory, and its free bytes."""
    return socket.gethostname(), sharing_processes(), available_memory()


def threads_for(count: int) -> dict[str, str]:
    """Return environment variables that give each of `count` workers its part of this machine's threads.

    dask would give it one thread; variables that a user has set stay, and OMP_NUM_THREADS is used for the others.
    """
    chosen = os.environ.get(THREADS[0]) or str(max(1, available_cores() // count))
    return {name: os.environ.get(name) or chosen for name in THREADS}
