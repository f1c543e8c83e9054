"""Handle SIGTERM like Ctrl-C, after the current work is finished."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived: a batch system's time is over, or the machine goes down."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in the main thread, as Ctrl-C raises `KeyboardInterrupt`.

    In other threads, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def finish_first() -> Iterator[Callable[[], None]]:
    """Let SIGTERM wait for a good moment; a second one doesn't wait.

    Only where `stop_on_sigterm` is in force: a program that uses featx as a library keeps its own ways.

    Yields
    ------
    callable
        To be called at good moments; raises `Terminated` if the signal has arrived. So does the end of the block.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not _raise:
        yield lambda: None
        return
    noted: list[int] = []

    def note(signum: int, frame: object) -> None:
        if noted:
            raise Terminated
        noted.append(signum)

    def check() -> None:
        if noted:
            raise Terminated

    signal.signal(signal.SIGTERM, note)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGTERM, _raise)


def _raise(signum: int, frame: object) -> None:
    raise Terminated
