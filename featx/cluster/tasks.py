"""Tasks on a cluster's workers: one at a time on each, begun again where a worker is lost, errors in featx's words."""

import contextlib
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from featx.cluster.settings import Address, ClusterSettings, no_worker
from featx.cluster.worker import Answer, Expected, describe_memory, rebuild, run_here, versions_record
from featx.errors import FeatxError

_LOOK_SECONDS = 1.0


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


class Cluster:
    """Workers that take tasks; see `featx.cluster.open_cluster`.

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

        expected, waiting = Expected(versions_record(), _absolute(paths)), iter(tasks)
        running: dict[object, str] = {}
        done: queue.Queue = queue.Queue()
        is_over, without_since = False, None
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
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    without_since = self.check_left(without_since)
                    continue
                without_since = None
                try:
                    outcome = rebuild(future.result())
                except CancelledError as error:
                    raise FeatxError(self.lost()) from error
                except Exception as error:
                    if self.client.status != "running":
                        raise FeatxError(self.lost()) from error
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
        from featx.cluster.joblib import spread

        expected = Expected(versions_record(), _absolute(paths))
        return spread(self, function, shared, calls, expected)

    def memory_each(self) -> int | None:
        """Return the free bytes of the worker that has the fewest, its share of its machine; None: none tells.

        Raises
        ------
        FeatxError
            If the scheduler is gone.
        """
        found = self._ask(lambda: self.client.run(describe_memory, on_error="ignore")).values()
        n_here = Counter(host for host, _, _ in found)
        return min((free // max(count, n_here[host]) for host, count, free in found), default=None)

    def in_words(self, error: Exception) -> KilledError:
        """Return a task's end whose workers died; other errors are raised, in featx's words if they have any."""
        from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError

        if isinstance(error, KilledWorker):
            return KilledError(error.allowed_failures + 1)
        if isinstance(error, NoValidWorkerError | NoWorkerError):
            raise FeatxError(self._no_worker()) from error
        raise error

    def check_left(self, without_since: float | None) -> float | None:
        """Return since when there has been no worker, None while there are some.

        A scheduler that featx hasn't started would wait for ever.

        Parameters
        ----------
        without_since : float or None
            What this has returned a moment ago.

        Raises
        ------
        FeatxError
            If that is longer than the settings allow, or the scheduler is gone.
        """
        if self._count():
            return None
        now = time.monotonic()
        if without_since is not None and now - without_since > self.settings.wait:
            raise FeatxError(self._no_worker())
        return now if without_since is None else without_since

    def lost(self) -> str:
        """Say that the scheduler is gone."""
        return (
            f"--cluster {self.address}: the scheduler is gone, or was told to forget this work. What is done is kept; "
            "run the same command again"
        )

    def _no_worker(self) -> str:
        return no_worker(self.address, self.settings)

    def _count(self) -> int:
        return len(self._ask(self.client.nthreads))

    def _ask(self, function: Callable[[], T]) -> T:
        """Ask the scheduler, or say that it is gone."""
        from distributed import TimeoutError as DaskTimeoutError

        try:
            return function()
        except (OSError, DaskTimeoutError, ValueError, RuntimeError) as error:
            raise FeatxError(self.lost()) from error


def keep_on_worker(key: object, make: Callable[[], object]) -> object:
    """Return what this worker keeps under a key; if it keeps something else, or nothing, that is made first."""
    from distributed import get_worker

    kept = vars(get_worker()).setdefault("featx_kept", {})
    if key not in kept:
        # One at a time: networks are large.
        kept.clear()
        kept[key] = make()
    return kept[key]


def _absolute(paths: Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)
