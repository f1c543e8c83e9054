"""SIGTERM: like Ctrl-C, but it can wait for a good moment."""

import os
import signal
import threading

import click
import pytest
from click.testing import CliRunner

from featx.cli.options import Commands
from featx.errors import StoppedError
from featx.system import Terminated, finish_first, stop_on_sigterm

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have no such signal")


def send():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def unchanged():
    """Whatever a test does, the process is as it was."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_is_raised_at_once():
    with pytest.raises(Terminated), stop_on_sigterm():
        send()
        raise AssertionError("it went on")


def test_it_waits_for_a_good_moment():
    done = []
    with pytest.raises(Terminated), stop_on_sigterm(), finish_first() as stop_if_asked:
        stop_if_asked()
        send()
        done.append("batch")
        stop_if_asked()
        raise AssertionError("it went on")
    assert done == ["batch"]


def test_at_the_latest_it_comes_at_the_end():
    done = []
    with pytest.raises(Terminated), stop_on_sigterm():
        with finish_first():
            send()
            done.append("batch")
        raise AssertionError("it went on")
    assert done == ["batch"]


def test_an_error_meanwhile_is_not_hidden():
    with pytest.raises(ValueError, match="first"), stop_on_sigterm(), finish_first():
        send()
        raise ValueError("first")


def test_a_second_one_does_not_wait():
    with pytest.raises(Terminated), stop_on_sigterm(), finish_first():
        send()
        send()
        raise AssertionError("it went on")


def test_a_program_of_its_own_keeps_its_handler():
    noted = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: noted.append(arguments))
    try:
        with finish_first() as stop_if_asked:
            send()
            assert len(noted) == 1
            stop_if_asked()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_have_no_signals():
    done = []

    def work():
        with stop_on_sigterm(), finish_first() as stop_if_asked:
            stop_if_asked()
            done.append("batch")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["batch"]


@click.group(cls=Commands)
def commands():
    """Hold the commands below."""


@commands.command()
def plain():
    send()


@commands.command()
def careful():
    try:
        send()
    except KeyboardInterrupt as error:
        raise StoppedError("stopped: 3 of 7 are kept") from error


@commands.command()
def by_ctrl_c():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "code", "line"),
    [
        ("plain", 143, "featx: stopped; finished work is kept, nothing half-written is\n"),
        ("careful", 143, "featx: stopped: 3 of 7 are kept\n"),
        ("by-ctrl-c", 130, "featx: stopped; finished work is kept, nothing half-written is\n"),
    ],
)
def test_the_exit_code_tells_which(name, code, line):
    done = CliRunner().invoke(commands, [name])
    assert (done.exit_code, done.stderr) == (code, line)
