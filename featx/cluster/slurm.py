"""Make a cluster of Slurm jobs that run workers, which dask-jobqueue submits."""

import contextlib
import logging
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from featx.cluster.settings import ClusterSettings, wall_seconds
from featx.cluster.worker import PRELOAD, THREADS
from featx.errors import FeatxError
from featx.system import SHARED_BY

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Security

# dask's HTTP server has no password: it listens to this machine only.
HTTP = "127.0.0.1:0"


def make_slurm(settings: ClusterSettings, security: "Security") -> tuple["SLURMCluster", int]:
    """Return a scheduler here, without jobs yet, and the number of workers per job; see `as_files` for `security`."""
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
    """Return arguments of `SLURMCluster`: those of the settings and of dask's configuration, and what featx needs.

    A worker ends a little before its job's wall time, so that its task resumes elsewhere without counting as a failure.
    """
    from dask import config

    own = dict(settings.slurm)

    def one(name: str) -> object:
        # An empty list replaces the one of dask's configuration.
        return own[name] if name in own else config.get(f"jobqueue.slurm.{name.replace('_', '-')}", None)

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
    # dask would give a worker one thread; variables that a user has set stay.
    n_threads = max(1, int(one("cores")) // processes)
    first, *others = THREADS
    exports = {SHARED_BY: processes, first: f"${{{first}:-{n_threads}}}"}
    exports |= {name: f"${{{name}:-${first}}}" for name in others}
    directives = [f"--gres=gpu:{settings.gpus}"] if settings.gpus else []
    return {
        **{name: value for name, value in own.items() if name != "shared_temp_directory"},
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
def as_files(security: "Security", settings: ClusterSettings) -> Iterator["Security"]:
    """Write the certificates of this run to a folder that only its owner's jobs see, and delete it after the block.

    It lies in the `shared_temp_directory` of the settings or of dask's configuration; default: the working folder.
    Certificates that are files already are yielded as they are.
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
            f"{shared}: this path stands in jobs' scripts without quotes (dask-jobqueue adds none), so it may have "
            "no blanks and no other special characters of a shell. Name another folder that jobs see as "
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
        files = {f"tls_{role}_{kind}": str(paths[kind]) for role in ("client", "scheduler", "worker") for kind in paths}
        yield Security(tls_ca_file=str(paths["cert"]), require_encryption=True, **files)


def _try_script(script: str) -> None:
    """Ask Slurm if it would accept a job, before dask submits it in the background, where errors are lost."""
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
