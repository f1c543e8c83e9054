"""Slurm's part of a cluster: jobs that run workers, as dask-jobqueue submits them."""

import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from featx.cluster_settings import ClusterSettings, wall_seconds
from featx.cluster_worker import PRELOAD, threads_for
from featx.cores import SHARED_BY
from featx.errors import FeatxError


def make_slurm(settings: ClusterSettings, security: object) -> tuple[object, int]:
    """Make a scheduler here whose workers will be jobs of Slurm, and say how many workers a job has.

    Parameters
    ----------
    settings : ClusterSettings
    security : distributed.Security
        Certificates; temporary ones go to workers as files in `shared_temp_directory`.

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
        raise FeatxError("--cluster slurm: there is no sbatch here. Run featx where jobs are submitted")
    arguments = slurm_arguments(settings)
    try:
        cluster = SLURMCluster(**arguments, security=security)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise FeatxError(
            f"--cluster slurm: {str(error).splitlines()[0]} Give it in --cluster-settings (cores, memory and so on), "
            "or in dask's own configuration (jobqueue.slurm)"
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

    def lists(name: str) -> list[str]:
        return list(given.get(name) or config.get(f"jobqueue.slurm.{name.replace('_', '-')}", None) or [])

    processes = int(given.get("processes") or config.get("jobqueue.slurm.processes", None) or max(1, settings.gpus))
    extra = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--preload", PRELOAD]
    seconds = wall_seconds(str(given.get("walltime") or config.get("jobqueue.slurm.walltime", None) or ""))
    if seconds:
        margin = min(300, max(1, seconds // 10))
        extra += ["--lifetime", f"{seconds - margin}s", "--lifetime-stagger", f"{margin // 2}s"]
    cores = given.get("cores") or config.get("jobqueue.slurm.cores", None)
    exports = {SHARED_BY: processes}
    if cores:
        exports |= dict.fromkeys(threads_for(1), max(1, int(cores) // processes))
    scheduler = given.get("scheduler_options") or config.get("jobqueue.slurm.scheduler-options", None) or {}
    directives = [f"--gres=gpu:{settings.gpus}"] if settings.gpus else []
    return {
        "shared_temp_directory": config.get("jobqueue.slurm.shared-temp-directory", None) or os.getcwd(),  # noqa: PTH109
        **given,
        "processes": processes,
        "job_extra_directives": [*directives, *lists("job_extra_directives")],
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in exports.items()),
            *lists("job_script_prologue"),
        ],
        "worker_extra_args": [*extra, *lists("worker_extra_args")],
        "scheduler_options": {"dashboard": False, "dashboard_address": None} | dict(scheduler),
        "silence_logs": logging.CRITICAL,
    }


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
        said = tried.stderr.strip().splitlines()
        raise FeatxError(f"--cluster slurm: Slurm refuses the job: {said[-1] if said else tried.returncode}")
