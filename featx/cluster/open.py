"""Open a Dask cluster here, on Slurm, or where one runs; check it, keep it running, and close it.

This module and the other `cluster_*` ones are all that import dask, and not before it is needed.
"""

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from featx.cluster.settings import Address, ClusterSettings, no_worker, parse_address, read_settings
from featx.cluster.tasks import Cluster
from featx.cluster.worker import PRELOAD, threads_for, versions_record, visible_gpus
from featx.errors import FeatxError
from featx.system import SHARED_BY, available_cores

# How often lost workers are replaced.
_LOOK_SECONDS = 1.0


# What takes longer is told.
_SILENT_SECONDS = 1.0


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
        stack.enter_context(quiet())
        stack.enter_context(dask.config.set(choices_of_featx(dask, settings)))
        client, n_workers = opens(stack, address, settings, uses_gpus, echo)
        _wait(client, address, settings, echo)
        check_workers(client, address)
        yield Cluster(client, address, settings, n_workers)


def check_workers(client: object, address: Address) -> None:
    """Refuse a scheduler or workers of other versions, and workers that run several tasks in one process.

    Raises
    ------
    FeatxError
        With the address of the first.
    """
    wanted = versions_record()
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


def _security() -> object:
    """Return the certificates that dask's configuration names, or new ones of this run alone."""
    from distributed import Security

    configured = Security()
    return configured if configured.tls_ca_file else Security.temporary()


def _check_certificates(address: Address) -> None:
    """Refuse an encrypted address where dask's configuration names no certificates to show there.

    Raises
    ------
    FeatxError
        If it names none, or they can't be read.
    """
    from distributed import Security

    if not str(address).startswith("tls"):
        return
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        raise FeatxError(
            f"--cluster {address}: the certificates that dask's configuration names (distributed.comm.tls) can't be "
            f"read: {_first_line(error)}"
        ) from error
    if context is None:
        raise FeatxError(
            f"--cluster {address}: tls:// asks for certificates, and dask's configuration names none. Name them under "
            "distributed.comm.tls in ~/.config/dask/distributed.yaml: ca-file, client.key, client.cert"
        )


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
        "preload": [*config.get("distributed.worker.preload"), PRELOAD],
        "env": {SHARED_BY: str(n_workers)} | ({} if uses_gpus else {"CUDA_VISIBLE_DEVICES": ""}),
    }
    # Libraries read it as they are loaded, so it is there before the processes are; dask puts it into this one's too.
    environment = {**config.get("distributed.nanny.pre-spawn-environ"), **threads_for(n_workers)}
    stack.enter_context(_keep_environment([*environment, "PYTHONHASHSEED"]))
    stack.enter_context(config.set({"distributed.nanny.pre-spawn-environ": environment}))
    scheduler = {"cls": Scheduler, "options": {**here, "dashboard_address": "127.0.0.1:0", "port": 0}}
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


@contextlib.contextmanager
def _keep_environment(names: Sequence[str]) -> Iterator[None]:
    """Put some of this process's variables back at the end."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _open_slurm(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple[object, int]:
    from distributed import Client

    from featx.cluster.slurm import as_files, make_slurm

    cluster, n_each = make_slurm(settings, stack.enter_context(as_files(_security(), settings)))
    _keep_up(stack, cluster, settings.jobs * n_each)
    echo(f"submitting {settings.jobs} jobs to Slurm, {n_each} workers each; squeue --me shows them")
    return stack.enter_context(Client(cluster, set_as_default=False)), settings.jobs * n_each


def _open_running(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple[object, int]:
    from distributed import Client, Security

    wait = f"{settings.wait:g} seconds"
    _check_certificates(address)
    try:
        with _tell_later(echo, f"waiting for the scheduler at {address}, up to {wait}"):
            client = stack.enter_context(
                Client(address.url, timeout=settings.wait, security=Security(), set_as_default=False)
            )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise FeatxError(
            f"--cluster {address}: no scheduler answers there within {wait} ({_first_line(error)}). "
            "Is it running, and can this machine reach it?"
        ) from error
    return client, max(1, len(client.nthreads()))


def _keep_up(stack: contextlib.ExitStack, cluster: object, n: int) -> None:
    """Ask again and again for as many workers as there should be: those that are lost come back."""
    from tornado.ioloop import PeriodicCallback

    stack.callback(_close, cluster)
    periodic = PeriodicCallback(lambda: cluster.scale(n), _LOOK_SECONDS * 1000)
    cluster.loop.add_callback(periodic.start)
    stack.callback(cluster.loop.add_callback, periodic.stop)


def _close(cluster: object) -> None:
    # Workers that are gone already, or don't answer, are no reason to keep a user waiting.
    with contextlib.suppress(Exception):
        cluster.close(timeout=20)


def _wait(client: object, address: Address, settings: ClusterSettings, echo: Callable[[str], None]) -> None:
    from distributed import TimeoutError as DaskTimeoutError

    line = f"waiting for a worker of {address}, up to {settings.wait:g} seconds"
    try:
        # Of workers that are started from here, a user has been told.
        with _tell_later(echo, line) if address.kind == "running" else contextlib.nullcontext():
            client.wait_for_workers(1, timeout=settings.wait)
    except DaskTimeoutError as error:
        raise FeatxError(no_worker(address, settings)) from error


@contextlib.contextmanager
def _tell_later(echo: Callable[[str], None], line: str) -> Iterator[None]:
    """Tell what is waited for, unless it comes at once."""
    timer = threading.Timer(_SILENT_SECONDS, echo, [line])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_line(error: BaseException) -> str:
    """Return an error's first line, or that of what it came from where it has none."""
    while not str(error).strip() and error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_LOST_SECONDS = 10


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
        import distributed  # noqa: F401

        with keep_signals():
            import dask_jobqueue  # noqa: F401 (it brings its part of dask's configuration)
    except ImportError as error:
        raise FeatxError(f"--cluster: {error}: pip install 'featx[cluster]'") from error
    return dask


@contextlib.contextmanager
def keep_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM to what takes care of them: importing dask-jobqueue would have them end everything."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: not Python's, and left alone.
            if handler is not None:
                signal.signal(number, handler)


def choices_of_featx(dask: ModuleType, settings: ClusterSettings) -> dict[str, object]:
    """Return what featx has to say to dask's configuration, of schedulers and workers that it starts."""
    given = dask.config.get("distributed.deploy.lost-worker-timeout", "15s")
    lost = max(_LOST_SECONDS, dask.utils.parse_timedelta(given))
    return {
        "distributed.deploy.lost-worker-timeout": f"{lost}s",
        "distributed.scheduler.no-workers-timeout": f"{settings.wait}s",
        # One task in a worker's hands, so that its death is blamed on no other.
        "distributed.scheduler.worker-saturation": 1.0,
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back dask's own log: what matters comes as an error's one line."""
    families = ("distributed", "tornado", "asyncio", "dask_jobqueue")
    # Some have levels of their own.
    names = {*families, *(name for name in logging.root.manager.loggerDict if name.partition(".")[0] in families)}
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed|dask_jobqueue|joblib")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
