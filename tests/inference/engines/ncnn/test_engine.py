"""The engine around ncnn: batches, threads, processes, disks."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from PIL import Image

from featx.inference import build_network
from featx.inference.engines.ncnn.engine import NcnnEngine
from featx.networks import build_backbone

POOLINGS = ("avg", "max", "std")


@pytest.fixture(scope="module")
def frozen():
    return build_backbone(layers="block1,block3_conv2,block5,fc", weights="random", image_size=32)


@pytest.fixture(scope="module")
def engine(frozen):
    return NcnnEngine(frozen, POOLINGS)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)


def draw_pictures(n_pictures, size):
    """Make soft shapes with a little noise, as photographs have them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n_pictures, 9, 9, 3)).astype(np.uint8)
    soft = np.stack(
        [np.asarray(Image.fromarray(tile).resize((size, size), Image.Resampling.BICUBIC)) for tile in coarse]
    )
    return np.clip(soft + rng.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)


def same_bits(found, expected, rows=slice(None)):
    assert list(found) == list(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name][rows])


def test_features_are_named_and_sized_as_said(engine, images):
    features = engine(images)
    assert {name: values.shape[1] for name, values in features.items()} == engine.n_channels
    assert {values.dtype for values in features.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_bits_depend_on_the_image_alone(frozen, engine, images, n_threads):
    expected = engine(images)
    other = NcnnEngine(frozen, POOLINGS, n_threads=n_threads)
    same_bits(other(images), expected)
    for rows in (slice(0, 1), slice(8, 9), slice(2, 5), slice(0, 4)):
        same_bits(other(images[rows]), expected, rows)
    same_bits(other(images[::-1]), expected, slice(None, None, -1))


def test_threads_may_share_an_engine(engine, images):
    expected = engine(images)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(engine, [images] * 8):
            same_bits(features, expected)


def test_memory_stays(images):
    engine = NcnnEngine(build_backbone(layers="block1", weights="random", image_size=32), POOLINGS)
    for _ in range(20):
        engine(images)
    before = psutil.Process().memory_info().rss
    for _ in range(200):
        engine(images)
    assert psutil.Process().memory_info().rss < before + 10e6


def test_real_weights_as_keras():
    pictures = draw_pictures(2, 224)
    networks = {
        name: build_network(weights="imagenet-conv", pool="avg,max,std", engine=name, batch_size=2)
        for name in ("keras", "ncnn")
    }
    expected, found = (networks[name](pictures) for name in ("keras", "ncnn"))
    assert list(found) == list(expected)
    for name, values in found.items():
        assert np.linalg.norm(values - expected[name]) < 1e-4 * np.linalg.norm(expected[name]), name


BUILD = """
import os, resource, signal, sys
import numpy as np
import featx
from featx.networks import build_backbone
from featx.inference.engines.ncnn.engine import NcnnEngine
frozen = build_backbone(layers="block1", weights="random", image_size=32)
images = np.zeros((4, 32, 32, 3), np.uint8)
"""
FORK = """
engine = NcnnEngine(frozen, ("avg",), n_threads=2)
expected = engine(images)
child = os.fork()
if not child:
    signal.alarm(60)
    found = engine(images)
    os._exit(0 if all(np.array_equal(found[name], expected[name]) for name in expected) else 1)
print("fork:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
FULL_DISK = """
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
try:
    NcnnEngine(frozen, ("avg",))
except featx.FeatxError as error:
    print("disk:", error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
"""
FOREVER = """
# A shell may have started this with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
engine = NcnnEngine(frozen, ("avg",))
print("ready", flush=True)
while True:
    engine(images)
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX's processes")


@pytest.fixture(scope="module")
def other_process():
    """What a process of its own says of a fork and of a full disk before Ctrl-C ends it; how it ends; its errors."""
    command = [sys.executable, "-c", BUILD + FORK + FULL_DISK + FOREVER]
    said = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        # Ends where the process ends, too.
        for line in run.stdout:
            name, _, found = line.strip().partition(": ")
            said[name] = found
            if name == "ready":
                break
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=120)
    return said, run.returncode, errors


@posix
def test_weights_that_cannot_be_written(other_process):
    said, _, errors = other_process
    assert "of weights can't be written" in said["disk"], errors
    assert "TMPDIR" in said["disk"]


@posix
def test_a_forked_process_can_use_it(other_process):
    assert other_process[0]["fork"] == "0", other_process[2]


@posix
def test_ctrl_c_ends_it(other_process):
    said, exit_code, errors = other_process
    assert "ready" in said, errors
    assert exit_code == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
