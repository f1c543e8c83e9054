"""Open a Dask cluster here, on Slurm, or at a running scheduler; check it, keep it running, and close it."""

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from featx.cluster.settings import Address, ClusterSettings, no_worker, parse_address, read_settings
from featx.cluster.tasks import Cluster
from featx.cluster.worker import PRELOAD, required_versions, threads_for, visible_gpus
from featx.errors import FeatxError
from featx.system import SHARED_BY, available_cores

if TYPE_CHECKING:
    from distributed import Client, Security, SpecCluster

# How often lost workers are replaced.
_LOOK_SECONDS = 1.0


# What takes longer is echoed.
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
        The settings, or their YAML file.
    uses_gpus : bool, default True
        Start one local worker per GPU, if there are GPUs.
    echo : callable, optional
        Receives lines for the user.

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
        stack.enter_context(dask.config.set(dask_settings(dask, settings)))
        client, n_workers = opens(stack, address, settings, uses_gpus, echo)
        _wait(client, address, settings, echo)
        check_workers(client, address)
        yield Cluster(client, address, settings, n_workers)


def check_workers(client: "Client", address: Address) -> None:
    """Raise an error for a process of other versions, or for workers that run several tasks in one process."""
    required = required_versions()
    versions = client.get_versions(packages=["featx"])
    processes = {"the scheduler": versions["scheduler"]}
    processes |= {f"the worker {worker}": record for worker, record in versions["workers"].items()}
    for name, record in processes.items():
        packages = record["packages"] | {"python": ".".join(record["host"]["python"].split(".")[:2])}
        different = [
            f"{package} {packages.get(package)}" for package in required if packages.get(package) != required[package]
        ]
        if different:
            expected = ", ".join(f"{package} {required[package]}" for package in required)
            raise FeatxError(
                f"{name} of {address} has {', '.join(different)}; expected {expected}: start it from the same "
                "environment as featx",
                parameter="cluster",
            )
    crowded = [(worker, count) for worker, count in client.nthreads().items() if count > 1]
    if crowded:
        raise FeatxError(
            f"the worker {crowded[0][0]} has {crowded[0][1]} threads; start workers with --nthreads 1: featx gives a "
            "process one task at a time, which uses all its cores",
            parameter="cluster",
        )


def _security() -> "Security":
    """Return the certificates that dask's configuration names, or new ones for this run alone."""
    from distributed import Security

    configured = Security()
    return configured if configured.tls_ca_file else Security.temporary()


def _check_certificates(address: Address) -> None:
    """Raise an error for an encrypted address if dask's configuration names no certificates that can be read."""
    from distributed import Security

    if not str(address).startswith("tls"):
        return
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:
        raise FeatxError(
            f"{address}: the certificates that dask's configuration names (distributed.comm.tls) can't be read: "
            f"{_first_line(error)}",
            parameter="cluster",
        ) from error
    if context is None:
        raise FeatxError(
            f"{address} needs certificates, and dask's configuration names none. Name them under distributed.comm.tls "
            "in ~/.config/dask/distributed.yaml: ca-file, client.key, client.cert",
            parameter="cluster",
        )


def _open_local(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple["Client", int]:
    from dask import config
    from distributed import Client, Nanny, Scheduler, SpecCluster

    gpus = visible_gpus() if uses_gpus else []
    n_workers = address.n_workers or len(gpus) or available_cores()
    if gpus and n_workers > len(gpus):
        raise FeatxError(
            f"{address}: {len(gpus)} GPUs are visible, and a worker uses one: give local:{len(gpus)}, or set "
            "CUDA_VISIBLE_DEVICES='' to compute on the CPU",
            parameter="cluster",
        )
    security = _security()
    here = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    worker = {
        **here,
        "nthreads": 1,
        # The system takes care of processes that grow: dask would pause them forever.
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "preload": [*config.get("distributed.worker.preload"), PRELOAD],
        "env": {SHARED_BY: str(n_workers)} | ({} if uses_gpus else {"CUDA_VISIBLE_DEVICES": ""}),
    }
    # Libraries read it while they are loaded, so it is set before the processes start; dask sets it in this one too.
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
        raise FeatxError(f"workers can't be started: {_first_line(error)}", parameter="cluster") from error
    _keep_up(stack, cluster, n_workers)
    return stack.enter_context(Client(cluster, set_as_default=False)), n_workers


@contextlib.contextmanager
def _keep_environment(names: Sequence[str]) -> Iterator[None]:
    """Restore some of this process's variables at the end."""
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
) -> tuple["Client", int]:
    from distributed import Client

    from featx.cluster.slurm import as_files, make_slurm

    cluster, n_each = make_slurm(settings, stack.enter_context(as_files(_security(), settings)))
    _keep_up(stack, cluster, settings.jobs * n_each)
    echo(f"submitting {settings.jobs} jobs to Slurm, {n_each} workers each; squeue --me shows them")
    return stack.enter_context(Client(cluster, set_as_default=False)), settings.jobs * n_each


def _open_running(
    stack: contextlib.ExitStack, address: Address, settings: ClusterSettings, uses_gpus: bool, echo: Callable
) -> tuple["Client", int]:
    from distributed import Client, Security

    wait = f"{settings.wait:g} seconds"
    _check_certificates(address)
    try:
        with _echo_later(echo, f"waiting for the scheduler at {address}, up to {wait}"):
            client = stack.enter_context(
                Client(address.url, timeout=settings.wait, security=Security(), set_as_default=False)
            )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise FeatxError(
            f"no scheduler answers at {address} within {wait} ({_first_line(error)}). Is it running, and can this "
            "machine reach it?",
            parameter="cluster",
        ) from error
    return client, max(1, len(client.nthreads()))


def _keep_up(stack: contextlib.ExitStack, cluster: "SpecCluster", n: int) -> None:
    """Keep the number of workers: those that are lost are replaced."""
    from tornado.ioloop import PeriodicCallback

    stack.callback(_close, cluster)
    periodic = PeriodicCallback(lambda: cluster.scale(n), _LOOK_SECONDS * 1000)
    cluster.loop.add_callback(periodic.start)
    stack.callback(cluster.loop.add_callback, periodic.stop)


def _close(cluster: "SpecCluster") -> None:
    # A user should not wait for workers that are gone already or don't answer.
    with contextlib.suppress(Exception):
        cluster.close(timeout=20)


def _wait(client: "Client", address: Address, settings: ClusterSettings, echo: Callable[[str], None]) -> None:
    from distributed import TimeoutError as DaskTimeoutError

    line = f"waiting for a worker of {address}, up to {settings.wait:g} seconds"
    try:
        # For workers that are started from here, a line was echoed already.
        with _echo_later(echo, line) if address.kind == "running" else contextlib.nullcontext():
            client.wait_for_workers(1, timeout=settings.wait)
    except DaskTimeoutError as error:
        raise no_worker(address, settings) from error


@contextlib.contextmanager
def _echo_later(echo: Callable[[str], None], line: str) -> Iterator[None]:
    """Echo a line unless the block ends at once."""
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
    """Import dask, or raise an error if a part of it isn't installed."""
    try:
        import cryptography  # noqa: F401
        import dask
        import distributed  # noqa: F401

        with keep_signals():
            import dask_jobqueue  # noqa: F401 (it brings its part of dask's configuration)
    except ImportError as error:
        raise FeatxError(f"{error}: pip install 'featx[cluster]'", parameter="cluster") from error
    return dask


@contextlib.contextmanager
def keep_signals() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM, which importing dask-jobqueue would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: not set by Python.
            if handler is not None:
                signal.signal(number, handler)


def dask_settings(dask: ModuleType, settings: ClusterSettings) -> dict[str, object]:
    """Return featx's changes of dask's configuration, for schedulers and workers that it starts."""
    timeout = dask.config.get("distributed.deploy.lost-worker-timeout", "15s")
    lost = max(_LOST_SECONDS, dask.utils.parse_timedelta(timeout))
    return {
        "distributed.deploy.lost-worker-timeout": f"{lost}s",
        "distributed.scheduler.no-workers-timeout": f"{settings.wait}s",
        # One task per worker, so that a death is blamed on no other task.
        "distributed.scheduler.worker-saturation": 1.0,
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide dask's own log: what matters is raised as an error."""
    families = ("distributed", "tornado", "asyncio", "dask_jobqueue")
    # Some have levels of their own.
    names = {*families, *(name for name in logging.root.manager.loggerDict if name.partition(".")[0] in families)}
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed|dask_jobqueue")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
