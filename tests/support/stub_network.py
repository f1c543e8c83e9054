"""A stand-in for the network: what is around it can then be run, and killed, many times in a second.

As a program it is featx's command line with the stand-in: `python stub_network.py extract photos -o photos.h5`.
"""

import os
import sys
import time
from types import SimpleNamespace
from unittest import mock

import numpy as np

N_CHANNELS = {"block1_conv1": 8, "block1_conv2": 300}

# Seconds a batch, and a file that every batch is written down in.
DELAY, NOTES = "STUB_DELAY", "STUB_NOTES"


class StubNetwork:
    """Gives features that tell each image from others."""

    views, pooling, image_size, preprocessing = "none", "avg", 32, "caffe"
    weights_name, weights_sha256 = "random:0", "0" * 64
    has_own_device = False

    def __init__(self, *, layers, batch_size):
        self.n_channels = {name: width for name, width in N_CHANNELS.items() if layers == "all" or name in layers}
        self.batch_size = 4 if batch_size == "auto" else batch_size
        self.engine = SimpleNamespace(name="keras", version="0", device="cpu:stub", n_channels=self.n_channels)

    def __call__(self, pixels):
        note("begun")
        time.sleep(float(os.environ.get(DELAY, 0)))
        note("done")
        return features_of(pixels, self.n_channels)


def features_of(pixels, n_channels=N_CHANNELS):
    """Return means over a few pixels each, as float32."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    return {
        layer: np.stack([flat[:, channel::width].mean(axis=1) for channel in range(width)], axis=1)
        for layer, width in n_channels.items()
    }


def note(word):
    if os.environ.get(NOTES):
        with open(os.environ[NOTES], "a") as file:  # noqa: PTH123
            file.write(f"{word}\n")


def build(backbone, *, layers, batch_size, **options):
    return StubNetwork(layers=layers, batch_size=batch_size)


def stand_in():
    """Return patches that put the stand-in where Keras would be loaded."""
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "stub"), __version__="0")
    frozen = SimpleNamespace(
        layers=tuple(N_CHANNELS),
        spatial=tuple((name, True) for name in N_CHANNELS),
        preprocessing="caffe",
        weights_name="random:0",
        weights_sha256="0" * 64,
        model=SimpleNamespace(output={name: np.empty((1, width)) for name, width in N_CHANNELS.items()}),
    )
    patches = {
        "featx.inference.build_network": build,
        "featx.extract.plan.load_keras": lambda: keras,
        "featx.extract.add.load_keras": lambda: keras,
        "featx.extract.add.build_frozen": lambda *args, **options: frozen,
        "featx.inference.network.load_keras": lambda: keras,
    }
    return [mock.patch(name, value) for name, value in patches.items()]


def install():
    for patch in stand_in():
        patch.start()


if __name__ == "__main__":
    install()
    from featx.cli import main

    sys.exit(main())
