"""joblib's Dask backend, made safe for featx: one worker of one core works too, and what is lost is told."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from joblib import Parallel, delayed, parallel_config
from joblib._dask import DaskDistributedBackend

from featx.cluster.settings import no_worker
from featx.cluster.worker import Answer, Expected, rebuild, run_here
from featx.errors import FeatxError

if TYPE_CHECKING:
    from featx.cluster.tasks import Cluster


# What is shared can be lost with the last worker that holds it, and is then sent again.
_N_TRIES = 4


# How often it is looked whether any worker is left.
_LOOK_SECONDS = 1.0


class SharingBackend(DaskDistributedBackend):
    """joblib's Dask backend, with three changes.

    joblib runs everything in the calling process where one job at a time is all that a backend takes, as with one
    worker of one core. Its backend waits for ever for a task that died with its worker, and takes one that was
    cancelled for its result.

    Parameters
    ----------
    cluster : Cluster
    shared : object
        Sent to every worker, under a name of its own: under that of its content, what an earlier call has sent would be
        taken for it while the scheduler still forgets that.
    """

    def __init__(self, cluster: "Cluster", shared: object) -> None:
        super().__init__(client=cluster.client, wait_for_workers_timeout=cluster.settings.wait)
        self._scatter = [shared]
        try:
            sent = cluster.client.scatter([shared], broadcast=True, hash=False, timeout=cluster.settings.wait)
        except TimeoutError as error:
            raise FeatxError(no_worker(cluster.address, cluster.settings)) from error
        except OSError as error:
            # A worker that was about to die was to have it.
            raise CancelledError from error
        self.data_futures[id(shared)] = sent[0]

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return how many tasks may be under way; never 1."""
        return max(2, super().effective_n_jobs(n_jobs))

    def under_way(self) -> list[object]:
        """Return the futures of tasks that have given nothing yet."""
        return list(self._results)

    async def _collect(self) -> None:
        import asyncio

        while self._continue:
            async for future, result in self.waiting_futures:
                failed = result[1] if future.status == "error" else result
                self._results.pop(future).set_result(failed)
                self._callbacks.pop(future)(failed)
            await asyncio.sleep(0.01)

    def retrieve_result_callback(self, out: object) -> object:
        """Return a batch's results, or raise what it ended with."""
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)


def spread(
    cluster: "Cluster", function: Callable, shared: object, calls: Sequence[Sequence[object]], expected: Expected
) -> Iterator[tuple[int, object]]:
    """Yield every call's place and what it gave, as they come; see `featx.cluster.open.Cluster.share`.

    Raises
    ------
    FeatxError
        A call's; or if workers are lost again and again.
    """
    left = dict(enumerate(calls))
    n_tries = 0
    while left:
        n_before = len(left)
        try:
            for place, answer in _spread_once(cluster, function, shared, left, expected):
                del left[place]
                yield place, answer.result
        except CancelledError as error:
            n_tries = 1 if len(left) < n_before else n_tries + 1
            if cluster.client.status != "running":
                raise FeatxError(cluster.lost()) from error
            if n_tries >= _N_TRIES:
                raise _deadly(cluster, f"workers died {n_tries} times") from error
            # The next ones need a moment.
            time.sleep(n_tries)


def _deadly(cluster: "Cluster", what: str) -> FeatxError:
    return FeatxError(
        f"--cluster {cluster.address}: {what} while they ran the same tasks, which may need more memory than workers "
        "have. What is done is kept; run the same command again"
    )


def _spread_once(
    cluster: "Cluster", function: Callable, shared: object, left: dict[int, Sequence[object]], expected: Expected
) -> Iterator[tuple[int, Answer]]:
    with contextlib.ExitStack() as stack:
        try:
            backend, found = _start(cluster, function, shared, left, expected)
            stack.callback(backend.data_futures.clear)
            stack.callback(found.close)
            stack.enter_context(_watched(cluster, backend))
            for place, answer in found:
                answer = rebuild(answer)
                if isinstance(answer, FeatxError):
                    raise answer
                yield place, answer
        except (FeatxError, CancelledError):
            raise
        except Exception as error:
            killed = cluster.in_words(error)
            raise _deadly(cluster, f"workers died {killed.n_deaths} times") from error


def _start(
    cluster: "Cluster", function: Callable, shared: object, left: dict[int, Sequence[object]], expected: Expected
) -> tuple[SharingBackend, Generator[tuple[int, Answer | FeatxError]]]:
    """Send what is shared and the calls; where no worker is left to take them, one is waited for."""
    backend = SharingBackend(cluster, shared)
    parallel = Parallel(n_jobs=-1, backend=backend, batch_size=1, pre_dispatch="all", return_as="generator_unordered")
    try:
        found = parallel(delayed(_call)(function, shared, place, left[place], expected) for place in tuple(left))
    except TimeoutError as error:
        raise FeatxError(no_worker(cluster.address, cluster.settings)) from error
    return backend, found


@contextlib.contextmanager
def _watched(cluster: "Cluster", backend: SharingBackend) -> Iterator[None]:
    """Cancel what is under way once there has been no worker for too long: joblib would wait for ever.

    Raises
    ------
    FeatxError
        Then.
    """
    over, reasons = threading.Event(), []

    def watch() -> None:
        without_since = None
        while not over.wait(_LOOK_SECONDS):
            try:
                without_since = cluster.check_left(without_since)
            except FeatxError as error:
                reasons.append(error)
                with contextlib.suppress(Exception):
                    cluster.client.cancel(backend.under_way(), force=True)
                return

    thread = threading.Thread(target=watch, name="featx-workers", daemon=True)
    thread.start()
    try:
        yield
    except CancelledError as error:
        if reasons:
            raise reasons[0] from error
        raise
    finally:
        over.set()
        thread.join()


def _call(
    function: Callable, shared: object, place: int, arguments: Sequence[object], expected: Expected
) -> tuple[int, Answer]:
    # What runs in parallel within a task does so in its own process, not as further tasks of the cluster.
    with parallel_config(backend="threading"):
        return place, run_here(function, (shared, *arguments), expected)
