"""The most memory that this process holds while something runs."""

import threading
from types import TracebackType

import psutil

_SECONDS_APART = 0.01


class MemoryWatch:
    """Looks at this process's resident memory again and again, from a thread of its own, as long as it is open.

    What a computation takes and gives back within one call would not be seen between the calls.

    Attributes
    ----------
    peak : int
        Bytes.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = self._process.memory_info().rss

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._is_over.wait(_SECONDS_APART):
            self._look()

    def _look(self) -> None:
        self.peak = max(self.peak, self._process.memory_info().rss)
