"""Put the stand-in for the network on a worker, and images that kill it: dask runs this as a worker starts."""

import os
import signal
from unittest import mock

import stub_network

from featx.images import decode as images


def read_picture(path, **options):
    """Read a picture, or die of it: of `killer.png` until `mended` is beside it, of `once.png` the first time."""
    met = path.with_name("met")
    is_killer = path.name == "killer.png" and not path.with_name("mended").exists()
    if is_killer or (path.name == "once.png" and not met.exists()):
        met.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return images.read_picture(path, **options)


def build(*arguments, **options):
    stub_network.note(f"built {options['weights']}")
    return stub_network.build(*arguments, **options)


def dask_setup(worker):
    stub_network.install()
    mock.patch("featx.inference.build_network", build).start()
    mock.patch("featx.images.read_picture", read_picture).start()
