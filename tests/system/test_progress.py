"""The log of a long run: what it has waited for, up to the moment."""

import time

import pytest

from featx.system import RunLog, Tally


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when it is told."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_wait_counts_while_it_lasts(clock):
    tally = Tally()
    with tally.waiting("network"):
        clock[0] += 5
        assert tally.so_far() == {"decoding": 0.0, "network": 5.0, "writing": 0.0}
        assert tally.seconds["network"] == 0.0
        clock[0] += 2
    assert tally.so_far() == tally.seconds == {"decoding": 0.0, "network": 7.0, "writing": 0.0}


def test_a_wait_that_fails_counts(clock):
    tally = Tally()
    with pytest.raises(ValueError, match="x"), tally.waiting("writing"):
        clock[0] += 3
        raise ValueError("x")
    assert tally.so_far()["writing"] == 3.0


def test_shares_of_a_line_are_of_its_own_time(tmp_path):
    """A wait that is longer than the time between two lines is 100% of each of them, not 0% and then more."""
    tally, path = Tally(), tmp_path / "run.log"
    with RunLog(path, "featx", 10, tally, every=0.1), tally.waiting("network"):
        time.sleep(0.45)
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    shares = [int(line.split("network ")[1].split("%")[0]) for line in lines]
    assert len(shares) >= 3
    assert all(90 <= share <= 101 for share in shares[1:-1])


def test_a_run_that_is_over_soon_leaves_no_log(tmp_path):
    with RunLog(tmp_path / "run.log", "featx", 10, Tally()):
        pass
    assert list(tmp_path.iterdir()) == []
