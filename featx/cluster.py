"""Workers of a Dask cluster, here or elsewhere: opened, checked, given tasks one at a time, and closed.

The only module that imports dask, and not before it is needed.
"""

import contextlib
import logging
import os
import queue
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from featx.cluster_settings import Address, ClusterSettings, parse_address, read_settings, wall_seconds
from featx.cluster_worker import (
    PROCESSES,
    Answer,
    Expected,
    describe_versions,
    rebuild,
    run_here,
    threads_for,
    visible_gpus,
)
from featx.cores import available_cores
from featx.errors import FeatxError

_PRELOAD = "featx.cluster_worker"
# How often lost workers are replaced, and new ones given tasks.
_LOOK_SECONDS = 1.0
_LOST_SECONDS = 10


class KilledError(FeatxError):
    """A task whose worker dies whenever it is tried."""


class Cluster:
    """Workers that take tasks; see `open_cluster`.

    Parameters
    ----------
    client : distributed.Client
    address : Address
    settings : ClusterSettings
    n_workers : int
        How many are asked for, or are there.

    Attributes
    ----------
    client, address, settings, n_workers
        As given.
    """

    def __init__(self, client: object, address: Address, settings: ClusterSettings, n_workers: int) -> None:
        self.client = client
        self.address = address
        self.settings = settings
        self.n_workers = n_workers

    def run(
        self, function: Callable, tasks: Iterable[tuple[str, Sequence[object]]], *, paths: Sequence[str | Path] = ()
    ) -> Iterator[tuple[str, Answer | FeatxError]]:
        """Run tasks on workers, one at a time on each, and yield what they give as it comes.

        A task whose worker is lost is begun again on another. Only as many tasks as there are workers leave this
        process at a time, so that a worker that dies takes no other task's good name along.

        Parameters
        ----------
        function : callable
            Takes a task's arguments, and `echo`.
        tasks : iterable of (str, sequence)
            Each one's key and arguments.
        paths : sequence of path
            What every worker must see.

        Yields
        ------
        str
            A task's key.
        Answer or FeatxError
            `KilledError` where its worker died whenever it was tried.

        Raises
        ------
        FeatxError
            If there are no workers for too long, or the scheduler is gone.
        """
        from distributed import CancelledError

        expected, waiting = Expected(describe_versions(), _absolute(paths)), iter(tasks)
        running: dict[object, str] = {}
        done: queue.Queue = queue.Queue()
        is_over = False
        try:
            while True:
                while not is_over and len(running) < max(1, self._count()):
                    key, arguments = next(waiting, (None, ()))
                    if is_over := key is None:
                        break
                    future = self.client.submit(run_here, function, arguments, expected, pure=False)
                    running[future] = key
                    future.add_done_callback(done.put)
                if not running:
                    return
                with contextlib.suppress(queue.Empty):
                    future = done.get(timeout=_LOOK_SECONDS)
                    try:
                        outcome = rebuild(future.result())
                    except CancelledError as error:
                        raise FeatxError(self._lost()) from error
                    except Exception as error:
                        outcome = self.in_words(error)
                    yield running.pop(future), outcome
        finally:
            # Those that run already can't be stopped: they end by themselves, or with their workers.
            with contextlib.suppress(Exception):
                self.client.cancel(list(running), force=True)

    def share(
        self, function: Callable, shared: object, calls: Sequence[Sequence[object]], *, paths: Sequence[str | Path] = ()
    ) -> Iterator[tuple[int, object]]:
        """Call a function on workers, through joblib, with something large that every worker is given once.

        Parameters
        ----------
        function : callable
            Takes what is shared, a call's further arguments, and `echo`.
        shared : object
            A matrix and what belongs to it.
        calls : sequence of sequence
            The further arguments of each call.
        paths : sequence of path
            What every worker must see.

        Yields
        ------
        int
            A call's place.
        object
            What it gave.

        Raises
        ------
        FeatxError
            A call's; or as `run`.
        """
        from featx.cluster_joblib import spread

        expected = Expected(describe_versions(), _absolute(paths))
        return spread(self, function, shared, calls, expected)

    def in_words(self, error: Exception) -> FeatxError:
        """Return what a user can mend of an error of dask's; what is none is raised."""
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        if isinstance(error, KilledWorker):
            return KilledError(f"its worker died {error.allowed_failures + 1} times while it ran")
        if isinstance(error, NoValidWorkerError):
            raise FeatxError(self._no_worker()) from error
        raise error

    def _lost(self) -> str:
        return (
            f"--cluster {self.address}: the scheduler is gone, or was told to forget this work. What is done is kept; "
            "run the same command again"
        )

    def _no_worker(self) -> str:
        return no_worker(self.address, self.settings)

    def _count(self) -> int:
        from distributed import TimeoutError as DaskTimeoutError

        try:
            return len(self.client.nthreads())
        except (OSError, DaskTimeoutError, ValueError, RuntimeError) as error:
            raise FeatxError(self._lost()) from error


@contextlib.contextmanager
def open_cluster(
    where: str | Address,
    settings: ClusterSettings | str | Path | None = None,
    *,
    uses_gpus: bool = True,
    echo: Callable[[str], None] = lambda line: None,
) -> Iterator[Cluster]:
    """Open a cluster, wait for its first worker, and close it at the end.

    Parameters
    ----------
    where : str or Address
        `local`, `local:N`, `slurm`, or the address of a running scheduler, which is left running.
    settings : ClusterSettings or path, optional
        Or the YAML file that holds them.
    uses_gpus : bool, default True
        Whether a local worker stands for a GPU, where there are any.
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Yields
    ------
    Cluster

    Raises
    ------
    FeatxError
        If dask isn't installed, the settings are wrong, no worker comes in time, or one has other versions.
    """
    address = parse_address(where) if isinstance(where, str) else where
    if not isinstance(settings, ClusterSettings):
        settings = read_settings(address, None if settings is None else Path(settings))
    dask = load_dask()
    opens = {"local": _open_local, "slurm": _open_slurm, "running": _open_running}[address.kind]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(_choices(dask, settings)))
        client, n_workers = opens(stack, address, settings, uses_gpus, echo)
        _wait(client, address, settings)
        check_workers(client, address)
        yield Cluster(client, address, settings, n_workers)


def load_dask() -> ModuleType:
    """Import dask.

    Raises
    ------
    FeatxError
        If it, or a part of it, isn't installed.
    """
    try:
        import cryptography  # noqa: F401
        import dask
        import dask_jobqueue  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise FeatxError(f"--cluster: {error}: pip install 'featx[cluster]'") from error
    return dask


def keep_on_worker(key: object, make: Callable[[], object]) -> object:
    """Return what this worker keeps under a key; if it keeps something else, or nothing, that is made first."""
    from distributed import get_worker

    kept = vars(get_worker()).setdefault("featx_kept", {})
    if key not in kept:
        # One at a time: networks are large.
        kept.clear()
        kept[key] = make()
    return kept[key]


def check_workers(client: object, address: Address) -> None:
    """Refuse a scheduler or workers of other versions, and workers that run several tasks in one process.

    Raises
    ------
    FeatxError
        With the address of the first.
    """
    wanted = describe_versions()
    found = client.get_versions(packages=["featx"])
    processes = {"the scheduler": found["scheduler"]}
    processes |= {f"the worker {worker}": record for worker, record in found["workers"].items()}
    for name, record in processes.items():
        packages = record["packages"] | {"python": ".".join(record["host"]["python"].split(".")[:2])}
        different = [
            f"{package} {packages.get(package)}" for package in wanted if packages.get(package) != wanted[package]
        ]
        if different:
            expected = ", ".join(f"{package} {wanted[package]}" for package in wanted)
            raise FeatxError(
                f"--cluster {address}: {name} has {', '.join(different)}; expected {expected}: start it from the same "
                "environment as featx"
            )
    crowded = [(worker, count) for worker, count in client.nthreads().items() if count > 1]
    if crowded:
        raise FeatxError(
            f"--cluster {address}: the worker {crowded[0][0]} has {crowded[0][1]} threads; start workers with "
            "--nthreads 1: featx gives a process one task at a time, which takes all its cores"
        )


def no_worker(address: Address, settings: ClusterSettings) -> str:
    """Say that no worker has come."""
    looks = {
        "slurm": "squeue --me shows whether jobs wait, and log_directory in --cluster-settings keeps what they say",
        "running": "start some (dask worker ADDRESS --nthreads 1)",
        "local": "is this machine very busy?",
    }[address.kind]
    return (
        f"--cluster {address}: no worker for {settings.wait:g} seconds: {looks}; wait in --cluster-settings gives them "
        "more time. What is done is kept"
    )


def _absolute(paths: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back dask's own log: what matters comes as an error's one line."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado.application", "asyncio", "dask_jobqueue")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"distributed|dask_jobqueue")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _choices(dask: ModuleType, settings: ClusterSettings) -> dict[str, object]:
    """Return what featx has to say to dask's configuration, of schedulers and workers that it starts."""
    given = dask.config.get("distributed.deploy.lost-worker-timeout", "15s")
    lost = max(_LOST_SECONDS, dask.utils.parse_timedelta(given))
    return {
        "distributed.deploy.lost-worker-timeout": f"{lost}s",
        "distributed.scheduler.no-workers-timeout": f"{settings.wait}s",
        # One task in a worker's hands, so that its death is blamed on no other.
        "distributed.scheduler.worker-saturation": 1.0,
    }


def _security() -> object:
    """Return the certificates that dask's configuration names, or new ones of this run alone."""
    from distributed import Security

    configured = Security()
    return configured if configured.tls_ca_file else Security.temporary()


def _open_local(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple[object, int]:
    from dask import config
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = visible_gpus() if uses_gpus else []
    n_workers = address.n_workers or len(gpus) or available_cores()
    if gpus and n_workers > len(gpus):
        raise FeatxError(
            f"--cluster {address}: {len(gpus)} GPUs are visible, and a worker takes one: give local:{len(gpus)}, or "
            "set CUDA_VISIBLE_DEVICES='' to compute on the CPU"
        )
    security = _security()
    here = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    worker = {
        **here,
        "nthreads": 1,
        # A process that grows is the system's affair: dask would pause it for good.
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "preload": [*config.get("distributed.worker.preload"), _PRELOAD],
        "env": {PROCESSES: str(n_workers), **threads_for(n_workers)}
        | ({} if uses_gpus else {"CUDA_VISIBLE_DEVICES": ""}),
    }
    scheduler = {"cls": Scheduler, "options": {**here, "dashboard_address": None, "port": 0}}
    echo(f"starting {n_workers} workers here")
    try:
        cluster = SpecCluster(
            workers={number: {"cls": Nanny, "options": worker} for number in range(n_workers)},
            scheduler=scheduler,
            security=security,
            name="featx",
        )
    except (RuntimeError, OSError) as error:
        raise FeatxError(f"--cluster {address}: workers can't be started: {_first_line(error)}") from error
    _keep_up(stack, cluster, n_workers)
    return stack.enter_context(Client(cluster, set_as_default=False)), n_workers


def _open_slurm(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple[object, int]:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    if shutil.which("sbatch") is None:
        raise FeatxError("--cluster slurm: there is no sbatch here. Run featx where jobs are submitted")
    arguments = slurm_arguments(settings)
    try:
        cluster = SLURMCluster(**arguments, security=_security())
        script = cluster.job_script()
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise FeatxError(
            f"--cluster slurm: {_first_line(error)}. --cluster-settings takes cores, memory and the rest, as dask's "
            "own configuration does (jobqueue.slurm)"
        ) from error
    _keep_up(stack, cluster, settings.jobs)
    _try_script(script)
    n_workers = settings.jobs * int(arguments["processes"])
    echo(f"submitting {settings.jobs} jobs to Slurm, {n_workers} workers in all; squeue --me shows them")
    return stack.enter_context(Client(cluster, set_as_default=False)), n_workers


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
    extra = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--preload", _PRELOAD]
    seconds = wall_seconds(str(given.get("walltime") or config.get("jobqueue.slurm.walltime", None) or ""))
    if seconds:
        margin = min(300, max(1, seconds // 10))
        extra += ["--lifetime", f"{seconds - margin}s", "--lifetime-stagger", f"{margin // 2}s"]
    cores = given.get("cores") or config.get("jobqueue.slurm.cores", None)
    exports = {PROCESSES: processes}
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
        tried = subprocess.run(
            ["sbatch", "--test-only", str(path)],  # noqa: S607 (the system's own)
            capture_output=True,
            text=True,
            check=False,
        )
    if tried.returncode:
        said = tried.stderr.strip().splitlines()
        raise FeatxError(f"--cluster slurm: Slurm refuses the job: {said[-1] if said else tried.returncode}")


def _open_running(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple[object, int]:
    from distributed import Client, Security

    try:
        client = stack.enter_context(
            Client(address.url, timeout=settings.wait, security=Security(), set_as_default=False)
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise FeatxError(
            f"--cluster {address}: no scheduler answers there within {settings.wait:g} seconds ({_first_line(error)}). Is "
            "it running, and can this machine reach it?"
        ) from error
    return client, max(1, len(client.nthreads()))


def _keep_up(stack: contextlib.ExitStack, cluster: object, n: int) -> None:
    """Ask again and again for as many workers, or jobs, as there should be: those that are lost come back."""
    from tornado.ioloop import PeriodicCallback

    stack.callback(_close, cluster)
    periodic = PeriodicCallback(lambda: cluster.scale(n), _LOOK_SECONDS * 1000)
    cluster.loop.add_callback(periodic.start)
    stack.callback(cluster.loop.add_callback, periodic.stop)


def _close(cluster: object) -> None:
    # Workers that are gone already, or don't answer, are no reason to keep a user waiting.
    with contextlib.suppress(Exception):
        cluster.close(timeout=20)


def _wait(client: object, address: Address, settings: ClusterSettings) -> None:
    from distributed import TimeoutError as DaskTimeoutError

    try:
        client.wait_for_workers(1, timeout=settings.wait)
    except DaskTimeoutError as error:
        raise FeatxError(no_worker(address, settings)) from error


def _first_line(error: BaseException) -> str:
    """Return an error's first line, or that of what it came from where it has none."""
    while not str(error).strip() and error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
