"""Pixels for engines, and how far their features may differ."""

from functools import partial

import numpy as np

from featx.inference.batch_size import find_batch_size
from featx.inference.engines import keras as keras_engine
from featx.networks import backend as keras_backend

SMALL = {"layers": "block1_conv1,block2_conv1", "weights": "random:3", "image_size": 32, "engine": "keras"}


# Half of the distance between 1 and the next number.
ROUNDOFF = {"float16": 2**-11, "bfloat16": 2**-8}


# Of block2_conv1: convolutions from the pixels on.
DEPTH = 3


def pixels_of(n, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def tolerance(precision):
    """Each convolution rounds its weights, its sum, its sum with the bias, and once more on the way to the next."""
    return 4 * DEPTH * ROUNDOFF[precision]


def pretend_gpu(monkeypatch):
    """Have the engine do what it does on a GPU: compile with XLA, exact products, a batch size that is searched."""
    for module in (keras_engine, keras_backend):
        monkeypatch.setattr(module, "format_device", lambda keras: "gpu:0")
    monkeypatch.setattr(keras_engine, "find_batch_size", partial(find_batch_size, largest=16))
    monkeypatch.setattr(keras_engine, "_SECONDS_A_TRIAL", 0.0)
