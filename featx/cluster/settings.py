"""Read a cluster's address and its settings file, and report every mistake before anything starts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import FeatxError
from featx.system import close_names, read_yaml, show_value

# Seconds to wait: a job may be in a queue for a day; a process of this machine starts within a minute.
_PATIENCE = {"local": 60.0, "running": 60.0, "slurm": 86_400.0}


_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):([0-9]{1,5})")


# Megabytes, or a letter for a unit, as in sbatch; or a unit of dask.
_MEMORY = re.compile(r"(?P<number>[0-9]*[1-9][0-9]*(\.[0-9]+)?) ?((?P<letter>[kKmMgGtT]?)|[kKMGT]i?B)")


# Times of sbatch: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
_WALL_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")


@dataclass(frozen=True)
class Address:
    """The kind of a cluster and where it is.

    Attributes
    ----------
    kind : {"local", "slurm", "running"}
    n_workers : int or None
        Of a local cluster; None: one per GPU, or one per core without GPUs.
    url : str or None
        Address of a running scheduler.
    """

    kind: str
    n_workers: int | None = None
    url: str | None = None

    def __str__(self) -> str:
        count = f":{self.n_workers}" if self.n_workers else ""
        return self.url or f"{self.kind}{count}"


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of a cluster, as in its file.

    Attributes
    ----------
    wait : float
        Seconds to wait for a first worker, at the start and whenever none is left.
    shard_size : int
        Largest number of images per task.
    jobs : int
        Number of Slurm jobs at once.
    gpus : int
        Number of GPUs per job.
    slurm : mapping of str to object
        Further arguments of dask-jobqueue's `SLURMCluster`, by its own names.
    """

    wait: float
    shard_size: int = 4096
    jobs: int = 1
    gpus: int = 0
    slurm: Mapping[str, object] = field(default_factory=dict)


def parse_address(text: str) -> Address:
    """Return the cluster that a text names.

    Raises
    ------
    FeatxError
        If the text names no cluster.

    Examples
    --------
    >>> parse_address("local:4")
    Address(kind='local', n_workers=4, url=None)
    """
    kind, _, count = text.partition(":")
    if text in ("local", "slurm"):
        return Address(text)
    if kind == "local" and count.isdecimal() and 1 <= int(count) <= 4096:
        return Address("local", n_workers=int(count))
    if (match := _ADDRESS.fullmatch(text)) and 1 <= int(match[3]) <= 65535:
        return Address("running", url=text)
    raise FeatxError(
        f"expected local, local:N (N workers, from 1 to 4096), slurm, or the address of a running scheduler such as "
        f"tcp://HOST:8786, found {text!r}",
        parameter="cluster",
    )


def read_settings(address: Address, path: Path | None = None) -> ClusterSettings:
    """Read a settings file, or return the defaults.

    Parameters
    ----------
    address : Address
    path : Path, optional
        Plain YAML: a mapping of the keys of docs/dask.md.

    Raises
    ------
    FeatxError
        If it can't be read, or with all its mistakes.
    """
    record = read_yaml(path) if path is not None else {}
    if not isinstance(record, dict):
        raise FeatxError(f"{path}: expected a mapping of keys such as partition and jobs")
    problems = []
    for key, value in record.items():
        if key not in _KEYS:
            problems.append(f"{key}: unknown key {close_names(key, list(_KEYS))}")
        elif key not in _COMMON and address.kind != "slurm":
            problems.append(f"{key}: only for slurm, and `cluster` is {address}")
        elif not _KEYS[key][2](value):
            problems.append(f"{key}: expected {_KEYS[key][1]}, found {show_value(value)}")
    if problems:
        count = f"{len(problems)} mistakes: " if len(problems) > 1 else ""
        raise FeatxError(f"{path}: {count}{'; '.join(problems)}")
    own = {key: record[key] for key in ("shard_size", "jobs", "gpus") if key in record}
    slurm = {_KEYS[key][0]: value for key, value in record.items() if _KEYS[key][0]}
    if "walltime" in slurm:
        # A number in YAML means minutes.
        slurm["walltime"] = str(slurm["walltime"])
    if "memory" in slurm:
        slurm["memory"] = format_memory(slurm["memory"])
    return ClusterSettings(wait=float(record.get("wait", _PATIENCE[address.kind])), slurm=slurm, **own)


def wall_seconds(text: str) -> int | None:
    """Return the seconds of a wall time as sbatch reads it; None if it has no end, or is no such time.

    Examples
    --------
    >>> wall_seconds("08:00:00"), wall_seconds("90"), wall_seconds("1-12"), wall_seconds("UNLIMITED")
    (28800, 5400, 129600, None)
    """
    match = _WALL_TIME.fullmatch(text.strip())
    if match is None:
        return None
    first, second, third = (int(match[name] or 0) for name in ("first", "second", "third"))
    if match["days"] is not None:
        return int(match["days"]) * 86_400 + first * 3600 + second * 60 + third
    if match["third"] is not None:
        return first * 3600 + second * 60 + third
    return first * 60 + second


def format_memory(value: str | int) -> str:
    """Return a size as dask reads it; sbatch's sizes (megabytes, or a letter for a unit) are in powers of 1024.

    Examples
    --------
    >>> format_memory("32G"), format_memory(32000), format_memory("32GB")
    ('32GiB', '32000MiB', '32GB')
    """
    match = _MEMORY.fullmatch(str(value))
    if match is None or match["letter"] is None:
        return str(value)
    return f"{match['number']}{match['letter'].upper() or 'M'}iB"


def no_worker(address: Address, settings: ClusterSettings) -> FeatxError:
    """Return the error that no worker has come."""
    looks = {
        "slurm": "squeue --me shows whether jobs wait, and log_directory in `cluster_settings` keeps their output",
        "running": f"start some (dask worker {address} --nthreads 1)",
        "local": "is this machine very busy?",
    }[address.kind]
    return FeatxError(
        f"no worker of {address} for {settings.wait:g} seconds: {looks}; wait in `cluster_settings` gives them more "
        "time. What is done is kept",
        parameter="cluster",
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item.isprintable() for item in value)


def _is_count(value: object) -> bool:
    return _is_count_or_zero(value) and value != 0


def _is_count_or_zero(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _is_wall_time(value: object) -> bool:
    return _is_count(value) or (_is_text(value) and (value == "UNLIMITED" or bool(wall_seconds(value))))


def _is_memory(value: object) -> bool:
    return _is_count(value) or (isinstance(value, str) and _MEMORY.fullmatch(value) is not None)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


_Kind = tuple[str, str, Callable[[object], bool]]


# By key: its name in SLURMCluster ("" for featx's own), what is expected, and a check of that.
_COMMON: dict[str, _Kind] = {
    "wait": ("", "seconds, more than 0", _is_seconds),
    "shard_size": ("", "a whole number from 1 up", _is_count),
}


_KEYS: dict[str, _Kind] = {
    **_COMMON,
    "jobs": ("", "a whole number from 1 up", _is_count),
    "gpus": ("", "a whole number from 0 up", _is_count_or_zero),
    "partition": ("queue", "text", _is_text),
    "account": ("account", "text", _is_text),
    "time": ("walltime", "a time such as 08:00:00, 1-12:00:00 or 90 (minutes)", _is_wall_time),
    "memory": ("memory", "a size such as 32G, 32000 (megabytes) or 32GB", _is_memory),
    "cores": ("cores", "a whole number from 1 up", _is_count),
    "processes": ("processes", "a whole number from 1 up", _is_count),
    "job_extra_directives": ("job_extra_directives", "a list of texts", _is_texts),
    "job_script_prologue": ("job_script_prologue", "a list of texts", _is_texts),
    "worker_extra_args": ("worker_extra_args", "a list of texts", _is_texts),
    "job_directives_skip": ("job_directives_skip", "a list of texts", _is_texts),
    "job_cpu": ("job_cpu", "a whole number from 1 up", _is_count),
    "job_mem": ("job_mem", "text", _is_text),
    "job_name": ("job_name", "text", _is_text),
    "interface": ("interface", "text", _is_text),
    "local_directory": ("local_directory", "text", _is_text),
    "shared_temp_directory": ("shared_temp_directory", "text", _is_text),
    "log_directory": ("log_directory", "text", _is_text),
    "python": ("python", "text", _is_text),
    "shebang": ("shebang", "text", _is_text),
    "death_timeout": ("death_timeout", "seconds, more than 0", _is_seconds),
    "scheduler_options": ("scheduler_options", "a mapping", _is_mapping),
}
