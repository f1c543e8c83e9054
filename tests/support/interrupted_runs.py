"""Extractions that are interrupted, and the comparison of the stores that come of them."""

import contextlib

import numpy as np
import pytest

import featx


def features_of(path):
    with featx.open(path) as store:
        return store.matrix(), store.images


def same_store(path, other):
    (X, images), (X_other, images_other) = features_of(path), features_of(other)
    return np.array_equal(X, X_other) and images.equals(images_other)


def interrupt_after(n_images, monkeypatch, error=KeyboardInterrupt, network=None):
    """Interrupt the network once it has seen this many images."""
    from featx.inference import PooledNetwork

    network = network or PooledNetwork
    seen, plain = [0], network.__call__

    def counting(self, pixels):
        seen[0] += len(pixels)
        if seen[0] > n_images:
            raise error
        return plain(self, pixels)

    monkeypatch.setattr(network, "__call__", counting)


@contextlib.contextmanager
def disk_that_takes(n_bytes):
    """Let no file grow past a size: the system then fails writes as it does when a disk is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
