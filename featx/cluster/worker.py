"""What runs on a worker of a cluster: its share of the machine, what it checks first, and how it waits its turn."""

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

import featx
from featx import errors
from featx.errors import FeatxError, TakenError
from featx.system import available_cores, available_memory, sharing_processes

PRELOAD = "featx.cluster.worker"
"""What dask runs as a worker starts: this module."""


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""The environment variables by which libraries know how many threads to take."""


# Another process that holds a lock and gets no further for so long is not waited for any more.
_PATIENCE_SECONDS = 600.0


_LOOK_SECONDS = 2.0


# A network file system may take a while to show a new file.
_N_LOOKS = 5


@dataclass(frozen=True)
class Expected:
    """What a worker must have in common with the process that sends it tasks.

    Attributes
    ----------
    versions : mapping of str to str
        See `versions_record`.
    paths : tuple of str
        Files and folders that it must see.
    """

    versions: Mapping[str, str]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a task gives.

    Attributes
    ----------
    result : object
    lines : tuple of str
        What a user should know.
    pid : int
        Of the process that ran it.
    refusal : tuple of (str, str), optional
        The class and the words of the `FeatxError` that it ended with. An exception itself would come with a traceback
        of dask's, and may not survive the way.
    """

    result: object
    lines: tuple[str, ...]
    pid: int
    refusal: tuple[str, str] | None = None


def dask_setup(worker: object) -> None:
    """Take this worker's share of cores and GPUs; dask calls it as a worker starts.

    Several workers of one machine, or of one job, are told apart by the number that their name ends with.
    """
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches every process of a terminal, and is for the one that started this one.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    count = sharing_processes()
    number = str(worker.name).rpartition("-")[2]
    if count < 2 or not number.isdecimal():
        return
    take_share(int(number), count)


def take_share(number: int, count: int) -> None:
    """Keep this process to one GPU, where there are any, and to its part of the cores.

    Parameters
    ----------
    number : int
        Which worker, from 0; one that replaces another may have a number of its own, from `count` up.
    count : int
        How many there are.
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
    """Return what CUDA_VISIBLE_DEVICES calls each GPU that this process may use; none without NVIDIA's driver."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
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


def versions_record() -> dict[str, str]:
    """Return the versions that all processes of a cluster must agree on."""
    found = {"featx": featx.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("dask", "distributed"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def check_here(expected: Expected) -> None:
    """Refuse to work where featx is another, or a path can't be seen.

    Raises
    ------
    FeatxError
        With this machine's name.
    """
    here = versions_record()
    if different := [f"{name} {here[name]}" for name, wanted in expected.versions.items() if here[name] != wanted]:
        wanted = ", ".join(f"{name} {expected.versions[name]}" for name in expected.versions)
        raise FeatxError(
            f"the worker on {socket.gethostname()} has {', '.join(different)}; expected {wanted}: start workers from "
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


def run_here(function: Callable, arguments: Sequence[object], expected: Expected) -> Answer:
    """Check this worker, and run a task on it.

    Parameters
    ----------
    function : callable
        Takes the arguments, and `echo`.
    arguments : sequence
    expected : Expected
    """
    lines: list[str] = []
    result = refusal = None
    try:
        check_here(expected)
        result = function(*arguments, echo=lines.append)
    except FeatxError as error:
        refusal = (type(error).__name__, str(error))
    return Answer(result, tuple(lines), os.getpid(), refusal)


def rebuild(answer: Answer) -> Answer | FeatxError:
    """Return the error that a task ended with, or its answer."""
    if answer.refusal is None:
        return answer
    name, text = answer.refusal
    return getattr(errors, name, FeatxError)(text)


def when_free(function: Callable[[], object], count: Callable[[], int]) -> object:
    """Call a function; where another process holds what it writes, wait for that.

    A scheduler may take a worker for lost that still works: whoever is given its task meets the worker's lock.

    Parameters
    ----------
    function : callable
        Raises `TakenError` where it is taken.
    count : callable
        Tells how far the other one is; as long as that grows, it is waited for.

    Raises
    ------
    FeatxError
        The function's; of what is taken, once it has got no further for ten minutes.
    """
    begun, before = time.monotonic(), -1
    while True:
        try:
            return function()
        except TakenError:
            done = count()
            if done != before:
                begun, before = time.monotonic(), done
            if time.monotonic() - begun > _PATIENCE_SECONDS:
                raise
            time.sleep(_LOOK_SECONDS)


def describe_memory() -> tuple[str, int, int]:
    """Return this machine's name, how many workers share what this one has of it, and the free bytes of that."""
    return socket.gethostname(), sharing_processes(), available_memory()


def threads_for(count: int) -> dict[str, str]:
    """Return the environment that gives each of so many workers its part of this machine's threads.

    dask would give it one thread; what a user has set stays, and OMP_NUM_THREADS counts for the others.
    """
    chosen = os.environ.get(THREADS[0]) or str(max(1, available_cores() // count))
    return {name: os.environ.get(name) or chosen for name in THREADS}
