"""What workers do in tests of clusters: quick to import, so that a worker is quick to begin."""

import os
import signal
import time

from featx.errors import StoreError


def tell(shared, number, *, echo):
    return os.getpid(), number, shared.nbytes


def whoami(number, *, echo):
    echo("here")
    return number


def nap(seconds, *, echo):
    time.sleep(seconds)
    return seconds


def die(*, echo):
    os.kill(os.getpid(), signal.SIGKILL)


def die_shared(shared, *, echo):
    die(echo=echo)


def die_once(shared, number, path, *, echo):
    if not path.exists():
        path.touch()
        die(echo=echo)
    return number * float(shared.sum())


def refuse(*, echo):
    try:
        raise OSError("a cause that need not survive the way")
    except OSError as error:
        raise StoreError("no such luck") from error


def divide(shared, *, echo):
    return 1 / 0
