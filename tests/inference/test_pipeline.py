"""Decoding, network and writing at the same time, within bounds, with a stand-in for the network."""

import threading
import time
import tracemalloc
import weakref
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sample_parts import SETTINGS, SOURCE

from featx import FeatxError, Manifest
from featx.errors import ImageError
from featx.images import Picture, n_decoders
from featx.inference import find_gaps, run_network
from featx.store import PartialStore

N_CHANNELS = {"block1_conv1": 3}


@dataclass
class MeanOfPixels:
    """Gives each image's mean colour."""

    batch_size: int = 4
    n_channels: dict = field(default_factory=lambda: N_CHANNELS)

    has_own_device: bool = False

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
    folder = PartialStore(tmp_path / "store.h5")
    with folder.lock():
        folder.begin(SETTINGS, SOURCE)
        yield folder


def run(parts, n, read=read, network=None, done=(), **options):
    network = network or MeanOfPixels()
    return run_network(manifest_of(n), parts, network, read, find_gaps(list(done), n), lambda n: None, **options)


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], [(0, 10)]),
        ([(0, 4)], [(4, 10)]),
        ([(4, 8)], [(0, 4), (8, 10)]),
        ([(0, 4), (4, 6), (8, 10)], [(6, 8)]),
        ([(0, 10)], []),
    ],
)
def test_gaps_are_what_no_part_holds(done, expected):
    assert find_gaps(done, 10) == expected


def test_parts_hold_every_row_once_in_order(parts):
    run(parts, 301)
    ranges = parts.read(N_CHANNELS)
    # Parts end where a batch is full: after 128 images that could be read.
    assert ranges == [(0, 142), (142, 284), (284, 301)]
    rows, values = [], []
    for start, stop in ranges:
        part = parts.load(start, stop)
        rows += part.rows.tolist()
        values += part.features["block1_conv1"][:, 0].tolist()
        assert set(part.rejected) == {row for row in range(start, stop) if row % 10 == 7}
    assert rows == [row for row in range(301) if row % 10 != 7]
    assert values == [row % 256 for row in rows]


def test_a_device_of_its_own_has_a_batch_in_flight_and_gives_the_same(tmp_path):
    class Beside(MeanOfPixels):
        def submit(self, pixels):
            events.append("begun")

            def fetch():
                events.append("fetched")
                return self(pixels)

            return fetch

    found = []
    for name, network in (("plain", MeanOfPixels()), ("beside", Beside(has_own_device=True))):
        events = []
        folder = PartialStore(tmp_path / f"{name}.h5")
        with folder.lock():
            folder.begin(SETTINGS, SOURCE)
            run(folder, 30, network=network, known=set())
            parts = [folder.load(start, stop) for start, stop in folder.read(N_CHANNELS)]
        found.append(np.concatenate([part.features["block1_conv1"] for part in parts]))
    assert np.array_equal(*found)
    assert events == ["begun", *["begun", "fetched"] * 6, "fetched"]


def test_rows_around_a_gap_stay_apart(parts):
    run(parts, 20, done=[(4, 12)])
    assert parts.read(N_CHANNELS) == [(0, 4), (12, 20)]


@pytest.mark.parametrize(("cores", "expected"), [(1, 2), (2, 2), (12, 12), (96, 32)])
def test_a_decoder_a_core_within_bounds(monkeypatch, cores, expected):
    monkeypatch.setattr("featx.images.read_ahead.available_cores", lambda: cores)
    assert n_decoders() == expected


@pytest.mark.parametrize("cores", [1, 16])
def test_the_rows_keep_their_order_with_any_number_of_decoders(parts, monkeypatch, cores):
    monkeypatch.setattr("featx.images.read_ahead.available_cores", lambda: cores)

    def jittery(path):
        time.sleep(0.002 * (int(Path(path).stem) % 3))
        return read(path)

    run(parts, 100, read=jittery)
    ((start, stop),) = parts.read(N_CHANNELS)
    part = parts.load(start, stop)
    assert part.rows.tolist() == [row for row in range(100) if row % 10 != 7]
    assert part.features["block1_conv1"][:, 0].tolist() == part.rows.tolist()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    def peak(n, attempt):
        folder = PartialStore(tmp_path / f"{n}-{attempt}.h5")
        with folder.lock():
            folder.begin(SETTINGS, SOURCE)
            # A fifth of the files are identical to others.
            run(folder, n, read=lambda path: picture(int(Path(path).stem) // 5 * 4 % n), known=set())
            return tracemalloc.get_traced_memory()[1]

    def least_peak(n):
        """Of two attempts: what other threads of this process do once, such as an import, is in one of them alone."""
        found = []
        for attempt in range(2):
            tracemalloc.start()
            found.append(peak(n, attempt))
            tracemalloc.stop()
        return min(found)

    def picture(number):
        return Picture(pixels=np.zeros((64, 64, 3), np.uint8), sha256=f"{number:064d}")

    peaks = [least_peak(n) for n in (500, 5000)]
    # What grows are digests, about 200 bytes a file.
    assert peaks[1] < peaks[0] + 300 * 4500


def test_batches_are_full_and_of_one_of_each(parts):
    """Unreadable and identical images take no place."""
    sizes = []

    class Counting(MeanOfPixels):
        def __call__(self, pixels):
            sizes.append(len(pixels))
            return super().__call__(pixels)

    def twofold(path):
        picture = read(path)
        return Picture(pixels=picture.pixels, sha256=f"{int(Path(path).stem) % 50:064d}")

    assert run(parts, 100, read=twofold, network=Counting(), known=set()) == 45
    assert sizes == [4] * 11 + [1]
    ((start, stop),) = parts.read(N_CHANNELS)
    assert parts.load(start, stop).own.tolist() == [True] * 45 + [False] * 45


def test_only_wanted_rows_are_read(parts):
    wanted = np.zeros(300, dtype=bool)
    wanted[[3, 50, 51, 52, 53, 200]] = True
    seen = []
    run(parts, 300, read=lambda path: seen.append(int(Path(path).stem)) or read(path), wanted=wanted)
    assert sorted(seen) == [3, 50, 51, 52, 53, 200]
    assert parts.read(N_CHANNELS, wanted) == [(0, 300)]
    assert parts.load(0, 300).rows.tolist() == seen
    wanted[4] = True
    assert parts.read(N_CHANNELS, wanted) == []


def test_pictures_in_memory_are_bounded(parts, monkeypatch):
    monkeypatch.setattr("featx.images.read_ahead.available_cores", lambda: 8)
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
    assert parts.read(N_CHANNELS) == [(0, 142), (142, 200)]


def test_what_was_computed_before_an_error_is_kept(parts):
    class Failing(MeanOfPixels):
        def __call__(self, pixels):
            if pixels[0, 0, 0, 0] >= 40:
                raise FeatxError("enough")
            return super().__call__(pixels)

    with pytest.raises(FeatxError, match="enough"):
        run(parts, 60, network=Failing())
    assert parts.read(N_CHANNELS) == [(0, 40)]
