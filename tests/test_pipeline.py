"""Decoding, network and writing at the same time, within bounds, with a stand-in for the network."""

import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_parts import SETTINGS, SOURCE

from featx import FeatxError, Manifest
from featx.images import ImageError, Picture
from featx.parts import PartsFolder
from featx.pipeline import plan_batches, run_network

N_CHANNELS = {"block1_conv1": 3}


@dataclass
class MeanOfPixels:
    """Gives each image's mean colour."""

    batch_size: int = 4
    n_channels: dict = field(default_factory=lambda: N_CHANNELS)

    def __call__(self, pixels):
        return {"block1_conv1": pixels.mean(axis=(1, 2), dtype=np.float32)}


def manifest_of(n):
    return Manifest(pd.DataFrame({"path": [f"{row}.png" for row in range(n)]}), Path("images"))


def read(path):
    row = int(Path(path).stem)
    if row % 10 == 7:
        raise ImageError("seven")
    return Picture(pixels=np.full((2, 2, 3), row % 256, dtype=np.uint8), sha256=f"{row:064d}")


@pytest.fixture
def parts(tmp_path):
    folder = PartsFolder(tmp_path / "store.h5")
    with folder.lock():
        folder.begin(SETTINGS, SOURCE)
        yield folder


def run(parts, n, read=read, network=None, batches=None):
    network = network or MeanOfPixels()
    run_network(
        manifest_of(n), parts, network, read, batches or plan_batches([], n, network.batch_size), lambda n: None
    )


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], [(0, 4), (4, 8), (8, 10)]),
        ([(0, 4)], [(4, 8), (8, 10)]),
        ([(4, 8)], [(0, 4), (8, 10)]),
        ([(0, 4), (8, 10)], [(4, 8)]),
        ([(0, 10)], []),
    ],
)
def test_batches_are_what_no_part_holds(done, expected):
    assert list(plan_batches(done, 10, 4)) == expected


def test_parts_hold_every_row_once_in_order(parts):
    run(parts, 301)
    ranges = parts.read(N_CHANNELS)
    assert ranges == [(0, 128), (128, 256), (256, 301)]
    rows, values = [], []
    for start, stop in ranges:
        part = parts.load(start, stop)
        rows += part.rows.tolist()
        values += part.features["block1_conv1"][:, 0].tolist()
        assert set(part.rejected) == {row for row in range(start, stop) if row % 10 == 7}
    assert rows == [row for row in range(301) if row % 10 != 7]
    assert values == [row % 256 for row in rows]


def test_rows_around_a_gap_stay_apart(parts):
    run(parts, 20, batches=iter([(0, 4), (12, 16), (16, 20)]))
    assert parts.read(N_CHANNELS) == [(0, 4), (12, 20)]


def test_pictures_in_memory_are_bounded(parts):
    alive, most = weakref.WeakSet(), 0
    lock = threading.Lock()

    class Counted(Picture):
        __hash__ = object.__hash__

    def counting(path):
        nonlocal most
        picture = Counted(pixels=np.zeros((2, 2, 3), np.uint8), sha256="0" * 64)
        with lock:
            alive.add(picture)
            most = max(most, len(alive))
        return picture

    run(parts, 2000, read=counting)
    assert most <= 4 * 8


def test_decoding_goes_on_while_the_network_computes(parts):
    """The network waits, in its first batch, until an image of the next batch has been read."""
    next_batch_was_read = threading.Event()

    def telling(path):
        if int(Path(path).stem) >= 4:
            next_batch_was_read.set()
        return read(path)

    class Waiting(MeanOfPixels):
        def __call__(self, pixels):
            assert next_batch_was_read.wait(timeout=30)
            return super().__call__(pixels)

    run(parts, 12, read=telling, network=Waiting())
    assert parts.read(N_CHANNELS) == [(0, 12)]


def test_the_network_computes_while_a_part_is_written(parts, monkeypatch):
    """Writing the first part waits until the network has gone on to the second."""
    went_on = threading.Event()
    plain_write = parts.write

    def waiting_write(part):
        assert went_on.wait(timeout=30)
        plain_write(part)

    class Telling(MeanOfPixels):
        n_batches = 0

        def __call__(self, pixels):
            self.n_batches += 1
            if self.n_batches > 32:
                went_on.set()
            return super().__call__(pixels)

    monkeypatch.setattr(parts, "write", waiting_write)
    run(parts, 200, network=Telling())
    assert parts.read(N_CHANNELS) == [(0, 128), (128, 200)]


def test_what_was_computed_before_an_error_is_kept(parts):
    class Failing(MeanOfPixels):
        def __call__(self, pixels):
            if pixels[0, 0, 0, 0] >= 40:
                raise FeatxError("enough")
            return super().__call__(pixels)

    with pytest.raises(FeatxError, match="enough"):
        run(parts, 60, network=Failing())
    assert parts.read(N_CHANNELS) == [(0, 40)]
