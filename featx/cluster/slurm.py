"""Slurm's part of a cluster: jobs that run workers, as dask-jobqueue submits them."""

import contextlib
import logging
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from featx.cluster.settings import ClusterSettings, wall_seconds
from featx.cluster.worker import PRELOAD, THREADS
from featx.errors import FeatxError
from featx.system import SHARED_BY

# What dask tells without a password goes nowhere.
HTTP = "127.0.0.1:0"


def make_slurm(settings: ClusterSettings, security: object) -> tuple[object, int]:
    """Make a scheduler here whose workers will be jobs of Slurm, and say how many workers a job has.

    Parameters
    ----------
    settings : ClusterSettings
    security : distributed.Security
        Certificates, in files that jobs see; see `as_files`.

    Returns
    -------
    SLURMCluster
        Without jobs.
    int

    Raises
    ------
    FeatxError
        If Slurm isn't here, or refuses such a job.
    """
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise FeatxError("there is no sbatch here. Run featx where jobs are submitted", parameter="cluster")
    arguments = slurm_arguments(settings)
    try:
        cluster = SLURMCluster(**arguments, security=security)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise FeatxError(
            f"{str(error).splitlines()[0]}: change it there, or in dask's own configuration (jobqueue.slurm)",
            parameter="cluster_settings",
        ) from error
    try:
        _try_script(cluster.job_script())
    except BaseException:
        cluster.close()
        raise
    return cluster, arguments["processes"]


def slurm_arguments(settings: ClusterSettings) -> dict[str, object]:
    """Return what `SLURMCluster` is given: what the settings and dask's configuration say, and what featx needs.

    A worker ends a little before its job's wall time does, so that its task goes on elsewhere without counting as a
    failure.
    """
    from dask import config

    given = dict(settings.slurm)

    def one(name: str) -> object:
        # An empty list is said as well: none of what dask's configuration has.
        return given[name] if name in given else config.get(f"jobqueue.slurm.{name.replace('_', '-')}", None)

    def lists(name: str) -> list[str]:
        return list(one(name) or [])

    missing = [name for name in ("cores", "memory") if not one(name)]
    if missing:
        raise FeatxError(
            f"no {' and no '.join(missing)} for a job of slurm. Write them there (cores: 8, memory: 32GB), or into "
            "dask's own configuration (jobqueue.slurm)",
            parameter="cluster_settings",
        )
    processes = int(one("processes") or max(1, settings.gpus))
    extra = [
        "--nthreads",
        "1",
        "--memory-limit",
        "0",
        "--no-dashboard",
        "--dashboard-address",
        HTTP,
        "--preload",
        PRELOAD,
    ]
    seconds = wall_seconds(str(one("walltime") or ""))
    if seconds:
        margin = min(300, max(1, seconds // 10))
        extra += ["--lifetime", f"{seconds - margin}s", "--lifetime-stagger", f"{margin // 2}s"]
    # dask would give a worker one thread; what a user has set stays.
    n_threads = max(1, int(one("cores")) // processes)
    first, *others = THREADS
    exports = {SHARED_BY: processes, first: f"${{{first}:-{n_threads}}}"}
    exports |= {name: f"${{{name}:-${first}}}" for name in others}
    directives = [f"--gres=gpu:{settings.gpus}"] if settings.gpus else []
    return {
        **{name: value for name, value in given.items() if name != "shared_temp_directory"},
        "processes": processes,
        "job_extra_directives": [*directives, *lists("job_extra_directives")],
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in exports.items()),
            *lists("job_script_prologue"),
        ],
        "worker_extra_args": [*extra, *lists("worker_extra_args")],
        "scheduler_options": {"dashboard": False, "dashboard_address": HTTP} | dict(one("scheduler_options") or {}),
        "silence_logs": logging.CRITICAL,
    }


@contextlib.contextmanager
def as_files(security: object, settings: ClusterSettings) -> Iterator[object]:
    """Write the certificates of this run to a folder that jobs see, and nobody else, for as long as the block.

    Parameters
    ----------
    security : distributed.Security
        One whose certificates are files already is given back as it is.
    settings : ClusterSettings
        Their `shared_temp_directory`, or that of dask's configuration, holds the folder; default: the working folder.

    Yields
    ------
    distributed.Security

    Raises
    ------
    FeatxError
        If nothing can be written there, or a job's script can't name it.
    """
    from dask import config
    from distributed import Security

    if "\n" not in security.tls_worker_key:
        yield security
        return
    named = settings.slurm.get("shared_temp_directory") or config.get("jobqueue.slurm.shared-temp-directory", None)
    shared = Path(named or "").expanduser().absolute()
    if any(char.isascii() and shlex.quote(char) != char for char in str(shared)):
        raise FeatxError(
            f"{shared}: this path goes into jobs' scripts without quotes (dask-jobqueue has none), so that it may have "
            "no blanks and nothing else that a shell takes for itself. Name another folder that jobs see as "
            "shared_temp_directory in `cluster_settings`"
        )
    with contextlib.ExitStack() as stack:
        try:
            # For its owner alone.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".featx-cluster-", dir=shared))
            paths = {"key": Path(folder, "key.pem"), "cert": Path(folder, "cert.pem")}
            paths["key"].write_text(security.tls_worker_key, encoding="ascii")
            paths["cert"].write_text(security.tls_worker_cert, encoding="ascii")
        except OSError as error:
            raise FeatxError(
                f"{shared}: certificates for workers can't be written here ({error.strerror or error}). "
                "Name a folder that jobs see as shared_temp_directory in `cluster_settings`"
            ) from error
        own = {f"tls_{role}_{kind}": str(paths[kind]) for role in ("client", "scheduler", "worker") for kind in paths}
        yield Security(tls_ca_file=str(paths["cert"]), require_encryption=True, **own)


def _try_script(script: str) -> None:
    """Ask Slurm whether it would take a job, before dask submits it in the background, where refusals are lost."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.sh")
        path.write_text(script, encoding="utf-8")
        tried = subprocess.run(  # noqa: S603
            ["sbatch", "--test-only", str(path)],  # noqa: S607 (the system's own)
            capture_output=True,
            text=True,
            check=False,
        )
    if tried.returncode:
        lines = tried.stderr.strip().splitlines()
        raise FeatxError(
            f"Slurm refuses the job: {lines[-1] if lines else tried.returncode}. Change it there, or in dask's own "
            "configuration (jobqueue.slurm)",
            parameter="cluster_settings",
        )
