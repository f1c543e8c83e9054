"""The reference engine: its precisions, its batches, memory that runs out, and what a GPU would be given."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sample_engines import ROUNDOFF, SMALL, pixels_of, pretend_gpu, tolerance

from featx import FeatxError
from featx.inference import build_network
from featx.inference.engines import keras as keras_engine
from featx.networks import load_keras


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.fixture(scope="module")
def reference():
    return build_network(**SMALL, batch_size=4, pool="avg,max,std")(pixels_of(4))


@pytest.mark.parametrize("precision", ROUNDOFF)
def test_a_lower_precision_stays_near_float32(precision, reference):
    network = build_network(**SMALL, batch_size=4, pool="avg,max,std", precision=precision)
    for name, values in network(pixels_of(4)).items():
        assert values.dtype == np.float32
        # Not float32 by another name.
        assert ROUNDOFF[precision] / 100 < relative_error(values, reference[name]) < tolerance(precision), name


@pytest.mark.parametrize("precision", ["float32", *ROUNDOFF])
def test_pooling_is_float32_whatever_the_precision(precision, tmp_path):
    """Activations of 250 at all of 32 x 32 places add up to what float16 can't hold and bfloat16 can't tell apart."""
    keras = load_keras()
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    kernel = np.zeros((3, 3, 3, 64), dtype=np.float32)
    kernel[1, 1, 0, 0] = 1
    network.get_layer("block1_conv1").set_weights([kernel, np.zeros(64, dtype=np.float32)])
    network.save_weights(tmp_path / "probe.weights.h5")
    probe = build_network(
        layers="block1_conv1",
        weights=str(tmp_path / "probe.weights.h5"),
        image_size=32,
        preprocessing="none",
        pool="avg,max,std",
        precision=precision,
        batch_size=1,
        engine="keras",
    )
    pixels = np.full((1, 32, 32, 3), 250, dtype=np.uint8)
    found = {name: values[0, 0] for name, values in probe(pixels).items()}
    expected = {"block1_conv1": 250, "block1_conv1:max": 250, "block1_conv1:std": 0}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_normalization_keeps_its_statistics_in_float32():
    keras = load_keras()
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    model = keras.Model(pixels, keras.layers.BatchNormalization(name="norm")(x) + 1)
    # Far beyond float16's range, and below its smallest number.
    statistics = [np.ones(4), np.zeros(4), np.full(4, 1e6), np.full(4, 1e-10)]
    model.get_layer("norm").set_weights(statistics)
    lowered = keras_engine.lower_precision(keras, model, "float16")
    assert [weight.dtype for weight in lowered.get_layer("conv").weights] == ["float16", "float16"]
    for found, expected in zip(lowered.get_layer("norm").get_weights(), statistics, strict=True):
        assert found.dtype == np.float32
        assert np.allclose(found, expected, rtol=1e-6)
    assert lowered.output.dtype == "float16"
    assert keras_engine.lower_precision(keras, model, "float32") is model


def test_auto_is_8_on_a_cpu():
    network = build_network(**SMALL, batch_size="auto")
    assert (network.batch_size, network.engine.batch_size) == (8, 8)


def test_batches_in_flight_come_back_in_their_order():
    network = build_network(**SMALL, batch_size=4, views="flip")
    batches = [pixels_of(4, seed=1), pixels_of(3, seed=2)]
    waiting = [network.submit(pixels) for pixels in batches]
    for wait, pixels in zip(waiting, batches, strict=True):
        for name, values in network(pixels).items():
            assert np.array_equal(wait()[name], values)


def without_memory_for(engine, n_images, *, where):
    """Let an engine's device run out of memory for more images than these, when it begins or when it is waited for."""
    run, to_numpy = engine._run, engine._to_numpy

    def begin(pixels):
        if where == "begin" and len(pixels) > n_images:
            raise MemoryError
        return run(pixels)

    def fetch(output):
        if where == "fetch" and len(output) > n_images:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.")
        return to_numpy(output)

    engine._run, engine._to_numpy = begin, fetch


@pytest.mark.parametrize("where", ["begin", "fetch"])
def test_auto_halves_its_batch_where_memory_runs_out(where):
    network = build_network(**SMALL, batch_size="auto")
    expected = network(pixels_of(7))
    without_memory_for(network.engine, 3, where=where)
    waiting = [network.submit(pixels_of(7)), network.submit(pixels_of(7))]
    for wait in waiting:
        for name, values in wait().items():
            assert values.shape == expected[name].shape
            assert relative_error(values, expected[name]) < 1e-6
    assert network.engine.batch_size == 2
    # What callers hand over stays as it was.
    assert network.batch_size == 8


def test_a_batch_size_that_was_asked_for_is_not_changed():
    network = build_network(**SMALL, batch_size=4)
    without_memory_for(network.engine, 3, where="begin")
    with pytest.raises(FeatxError, match=r"batch size 4: .*, in featx extract, `batch_size` auto"):
        network(pixels_of(4))
    # No batch is smaller than one image.
    for batch_size in (1, "auto"):
        network = build_network(**SMALL, batch_size=batch_size)
        without_memory_for(network.engine, 0, where="fetch")
        with pytest.raises(FeatxError, match=r"of one image\. Use a smaller `image_size`"):
            network(pixels_of(4))


def test_what_a_gpu_gets_computes_the_same(monkeypatch, reference):
    pretend_gpu(monkeypatch)
    network = build_network(**SMALL, batch_size="auto")
    assert network.engine.device == "gpu:0"
    assert network.batch_size in (8, 16)
    for name, values in network(pixels_of(4)).items():
        assert relative_error(values, reference[name]) < 1e-5


def test_the_benchmark_counts_vgg16s_operations():
    spec = importlib.util.spec_from_file_location("gpu", Path(__file__).parents[3] / "benchmarks" / "gpu.py")
    gpu = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    keras = load_keras()
    convolutions = keras.applications.VGG16(weights=None, include_top=False, input_shape=(224, 224, 3))
    # Simonyan and Zisserman's network has 15.3 billion multiplications and additions in its convolutions.
    assert gpu.count_flops(convolutions) == 30_693_261_312
    pixels = keras.Input((4, 6, 3))
    x = keras.layers.DepthwiseConv2D(3, padding="same")(pixels)
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))
    assert gpu.count_flops(keras.Model(pixels, keras.Sequential([keras.layers.Dense(2)])(x))) == 2 * (
        4 * 6 * 9 * 3 + 72 * 5 + 5 * 2
    )
