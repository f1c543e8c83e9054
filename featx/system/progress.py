"""Show a progress bar, and keep the log file of a long run."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

STEPS = ("decoding", "network", "writing")


class Tally:
    """Counts of a run: rows that are done, and seconds that it has waited for each step.

    Attributes
    ----------
    n_done, n_rejected : int
        Rows, and those of them that could not be read; those of earlier, interrupted runs may be counted in.
    seconds : dict of str to float
        What the run's one loop has waited for, by step. Work in other threads that it never waits for is not in it.
    """

    def __init__(self, *, n_done: int = 0, n_rejected: int = 0) -> None:
        self.n_done = n_done
        self.n_rejected = n_rejected
        self.seconds = dict.fromkeys(STEPS, 0.0)
        self._now: tuple[str, float] | None = None

    @contextlib.contextmanager
    def waiting(self, step: str) -> Iterator[None]:
        """Count the time of a block."""
        started = time.monotonic()
        self._now = (step, started)
        try:
            yield
        finally:
            self._now = None
            self.seconds[step] += time.monotonic() - started

    def so_far(self) -> dict[str, float]:
        """Return `seconds`, and with them those of a wait that isn't over."""
        seconds, now = dict(self.seconds), self._now
        if now is not None:
            seconds[now[0]] += time.monotonic() - now[1]
        return seconds


class RunLog:
    """Lines about a run at regular intervals, by a thread of its own: also while nothing moves.

    A run that is over before its first line leaves no file; a log that can't be written stops no run. Time is measured
    by a clock that doesn't jump; the date at a line's beginning is the machine's own.

    Parameters
    ----------
    path : Path
        Appended to.
    title : str
        What runs; the first line.
    n_rows : int
        How many rows there are to do.
    tally : Tally
    every : float, default 60.0
        Seconds between two lines.
    """

    def __init__(self, path: Path, title: str, n_rows: int, tally: Tally, *, every: float = 60.0) -> None:
        self.path = path
        self._title = title
        self._n_rows = n_rows
        self._tally = tally
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._has_lines = False
        self._first = self._last = (time.monotonic(), tally.n_done, tally.so_far())

    def __enter__(self) -> "RunLog":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._over.set()
        self._thread.join()
        if self._has_lines:
            seconds = time.monotonic() - self._first[0]
            end = "done" if kind is None else f"ended by {kind.__name__}"
            self._write(f"{end} after {_format_seconds(seconds)}; over all of it: {self._describe(self._first)}")

    def _run(self) -> None:
        while not self._over.wait(self._every):
            if not self._has_lines:
                self._write(self._title)
            self._has_lines = True
            line = self._describe(self._last)
            self._last = (time.monotonic(), self._tally.n_done, self._tally.so_far())
            self._write(line)

    def _describe(self, since: tuple[float, int, dict[str, float]]) -> str:
        """Format how far the run is, and what it has waited for since a moment."""
        tally, now = self._tally, time.monotonic()
        then, n_before, seconds = since
        elapsed = max(now - then, 1e-9)
        rate = (tally.n_done - n_before) / elapsed
        waited = tally.so_far()
        shares = [f"{step} {(waited[step] - seconds[step]) / elapsed:.0%}" for step in STEPS]
        left = (self._n_rows - tally.n_done) / rate if rate else None
        parts = [
            f"{tally.n_done:,} of {self._n_rows:,} rows",
            f"{tally.n_rejected:,} rejected",
            f"{rate:,.1f} images/s",
            f"waited for {', '.join(shares)}",
            f"{psutil.Process().memory_info().rss / 1e6:,.0f} MB of memory",
        ]
        if left and not self._over.is_set():
            parts.append(f"{_format_seconds(left)} left")
        return "; ".join(parts)

    def _write(self, line: str) -> None:
        stamp = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{stamp}  {line}\n")


def _format_seconds(seconds: float) -> str:
    """Format a duration for people.

    Examples
    --------
    >>> _format_seconds(50), _format_seconds(600), _format_seconds(9000), _format_seconds(500000)
    ('50 s', '10 min', '2 h 30 min', '5 d 18 h')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


@contextmanager
def progress_bar(total: int, *, initial: int = 0, wanted: bool = True, unit: str = "img") -> Iterator:
    """Show a bar that counts images, or other units, where it is wanted and standard error is a terminal."""
    from tqdm import tqdm

    # disable=None: only where standard error is a terminal.
    with tqdm(total=total, initial=initial, unit=unit, disable=None if wanted else True, smoothing=0.1) as bar:
        yield bar
