"""Run tasks on a cluster's workers: one at a time on each, started again where a worker is lost."""

import contextlib
import itertools
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from featx.cluster.settings import Address, ClusterSettings, no_worker
from featx.cluster.worker import Expected, TaskResult, measure_memory, required_versions, run_here, unwrap
from featx.errors import FeatxError

if TYPE_CHECKING:
    from distributed import Client, Future

_LOOK_SECONDS = 1.0


# How often data is sent to workers that die meanwhile.
_N_SCATTERS = 20


T = TypeVar("T")


class KilledError(FeatxError):
    """A task whose worker dies whenever it is tried.

    Parameters
    ----------
    n_deaths : int
    """

    def __init__(self, n_deaths: int) -> None:
        super().__init__(f"the worker died {n_deaths} times while it ran")
        self.n_deaths = n_deaths


@dataclass(frozen=True)
class _Running:
    """A task that a worker has, and how often the workers died that had it."""

    key: str
    arguments: Sequence[object]
    n_deaths: int = 0


class Cluster:
    """Workers that take tasks; see `featx.cluster.open_cluster`.

    Parameters
    ----------
    client : distributed.Client
    address : Address
    settings : ClusterSettings
    n_workers : int
        How many workers are requested, or exist.

    Attributes
    ----------
    client, address, settings, n_workers
        As given.
    """

    def __init__(self, client: "Client", address: Address, settings: ClusterSettings, n_workers: int) -> None:
        self.client = client
        self.address = address
        self.settings = settings
        self.n_workers = n_workers

    def run(
        self,
        function: Callable,
        tasks: Iterable[tuple[str, Sequence[object]]],
        *,
        shared: object = None,
        paths: Sequence[str | Path] = (),
    ) -> Iterator[tuple[str, TaskResult | FeatxError]]:
        """Run tasks on workers, one at a time on each, and yield their results in the order that they end.

        A task whose worker is lost starts again on another. Only as many tasks as there are workers leave this process
        at a time, so that the scheduler blames no other task for a worker that dies.

        Parameters
        ----------
        function : callable
            Takes what is shared, if anything is, a task's arguments, and `echo`.
        tasks : iterable of (str, sequence)
            Key and arguments of each task.
        shared : object, optional
            Something large that all tasks need: it goes to every worker once.
        paths : sequence of path
            Files and folders that every worker must see.

        Yields
        ------
        str
            A task's key.
        TaskResult or FeatxError
            `KilledError` where its worker died whenever it was tried.

        Raises
        ------
        FeatxError
            If there are no workers for too long, or the scheduler is gone.
        """
        from distributed import CancelledError

        expected, waiting = Expected(required_versions(), _absolute(paths)), iter(tasks)
        running: dict[Future, _Running] = {}
        done: queue.Queue[Future] = queue.Queue()
        sent = None if shared is None else self._scatter(shared)

        def start(task: _Running) -> None:
            own = () if sent is None else (sent,)
            future = self.client.submit(run_here, function, task.arguments, expected, *own, pure=False)
            running[future] = task
            future.add_done_callback(done.put)

        is_over, without_since = False, None
        try:
            while True:
                while not is_over and len(running) < max(1, self._count()):
                    key, arguments = next(waiting, (None, ()))
                    if is_over := key is None:
                        break
                    start(_Running(key, arguments))
                if not running:
                    return
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    without_since = self._check_workers(without_since)
                    continue
                without_since = None
                task = running.pop(future)
                try:
                    outcome = unwrap(future.result())
                except CancelledError as error:
                    if sent is None or self.client.status != "running":
                        raise FeatxError(self._lost(), parameter="cluster") from error
                    # What is shared was lost with the last worker that had it. dask counts no death of the task then.
                    task = replace(task, n_deaths=task.n_deaths + 1)
                    if task.n_deaths <= _allowed_failures():
                        if sent.status != "finished":
                            sent = self._scatter(shared)
                        start(task)
                        continue
                    outcome = KilledError(task.n_deaths)
                except Exception as error:
                    if self.client.status != "running":
                        raise FeatxError(self._lost(), parameter="cluster") from error
                    outcome = self._explain(error)
                yield task.key, outcome
        finally:
            # Those that run already can't be stopped: they end by themselves, or with their workers.
            with contextlib.suppress(Exception):
                self.client.cancel(list(running), force=True)

    def _scatter(self, shared: object) -> "Future":
        """Send something to a worker; the others that need it fetch it from there, once each."""
        # Not under a name of its content: the scheduler may still be forgetting what an earlier call has sent.
        without_since = None
        for n_tries in itertools.count(1):
            try:
                return self.client.scatter([shared], hash=False, timeout=_LOOK_SECONDS)[0]
            except (TimeoutError, OSError, KeyError) as error:
                # No worker is there yet, or the chosen one has just died; the scheduler then misses it in a table.
                without_since = self._check_workers(without_since)
                if without_since is None and n_tries >= _N_SCATTERS:
                    raise FeatxError(
                        f"data can't be sent to a worker ({type(error).__name__}: {error})", parameter="cluster"
                    ) from error
                time.sleep(_LOOK_SECONDS / 4)

    def memory_each(self) -> int | None:
        """Return the fewest free bytes of a worker, by its share of its machine; None if no worker answers."""
        answers = self._ask(lambda: self.client.run(measure_memory, on_error="ignore")).values()
        n_here = Counter(host for host, _, _ in answers)
        return min((free // max(count, n_here[host]) for host, count, free in answers), default=None)

    def _explain(self, error: Exception) -> KilledError:
        """Return the outcome of a task whose workers died; raise other errors, dask's own as a FeatxError."""
        from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

        if isinstance(error, KilledWorker):
            return KilledError(error.allowed_failures + 1)
        if isinstance(error, NoValidWorkerError | NoWorkerError):
            raise self._no_worker() from error
        raise error

    def _check_workers(self, without_since: float | None) -> float | None:
        """Return since when there has been no worker; raise an error if that is longer than the settings allow.

        A scheduler that featx hasn't started would wait forever.
        """
        if self._count():
            return None
        now = time.monotonic()
        if without_since is not None and now - without_since > self.settings.wait:
            raise self._no_worker()
        return now if without_since is None else without_since

    def _lost(self) -> str:
        return (
            f"the scheduler at {self.address} is gone, or has dropped this work. What is done is kept; run "
            "the same command again"
        )

    def _no_worker(self) -> FeatxError:
        return no_worker(self.address, self.settings)

    def _count(self) -> int:
        return len(self._ask(self.client.nthreads))

    def _ask(self, function: Callable[[], T]) -> T:
        """Ask the scheduler, or raise an error that it is gone."""
        from distributed import TimeoutError as DaskTimeoutError

        try:
            return function()
        except (OSError, DaskTimeoutError, ValueError, RuntimeError) as error:
            raise FeatxError(self._lost(), parameter="cluster") from error


def keep_on_worker(key: object, make: Callable[[], object]) -> object:
    """Return the object that this worker keeps under a key, after making it if there is none; others are dropped."""
    from distributed import get_worker

    kept = vars(get_worker()).setdefault("featx_kept", {})
    if key not in kept:
        # One at a time: networks are large.
        kept.clear()
        kept[key] = make()
    return kept[key]


def _allowed_failures() -> int:
    """Return how many workers a task may kill and still start again, by dask's own setting."""
    from dask import config

    return config.get("distributed.scheduler.allowed-failures")


def _absolute(paths: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)
