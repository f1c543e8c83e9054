"""The most memory while something runs: also what is given back before it ends."""

import time

import numpy as np

from featx.system import MemoryWatch


def test_what_is_given_back_is_seen():
    with MemoryWatch() as watch:
        before = watch.peak
        taken = np.ones(40_000_000)
        # It looks again and again; how long that takes hangs on who else is at work.
        deadline = time.monotonic() + 20
        while watch.peak < before + 0.9 * taken.nbytes and time.monotonic() < deadline:
            time.sleep(0.01)
        del taken
    assert watch.peak >= before + 0.9 * 320_000_000


def test_it_has_looked_even_where_nothing_took_time():
    with MemoryWatch() as watch:
        pass
    assert watch.peak > 10**6
