"""Frozen networks: pooled activations against plain NumPy, and nothing computed that nobody asked for."""

import os

import numpy as np
import pytest
from samples import relative_error, run_featx

from featx import FeatxError
from featx.inference import build_network
from featx.networks import BACKBONES, build_application, build_backbone, load_keras, load_weights


def convolve(x, kernel, bias):
    """Correlate with zero padding, add the bias, clip at 0: a 3 x 3 convolution in double precision."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel.astype(float), optimize=True) + bias, 0)


def halve(x):
    """Take the largest of every 2 x 2 values; an odd row or column at the end is left out."""
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def plain_vgg16(pixels, arrays):
    """Return the pooled activations of every layer, computed with NumPy alone."""
    x = pixels[..., ::-1].astype(float) - (103.939, 116.779, 123.68)
    pooled = {}
    for block in range(1, 6):
        for layer in BACKBONES["vgg16"].layer_sets[f"block{block}"]:
            x = convolve(x, *arrays[layer])
            pooled[layer] = x.mean(axis=(1, 2))
        x = halve(x)
        pooled[f"block{block}_pool"] = x.mean(axis=(1, 2))
    x = x.reshape(len(x), -1)
    for layer in ("fc1", "fc2"):
        if layer in arrays:
            kernel, bias = arrays[layer]
            x = np.maximum(x @ kernel.astype(float) + bias, 0)
            pooled[layer] = x
    return pooled


def pixels_of(size, n=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(("weights", "size"), [("random:4", 32), ("imagenet-conv", 32), ("imagenet-conv", 45)])
def test_features_are_those_of_plain_numpy(weights, size):
    network = build_network(layers="all,block3_pool,block5_pool", weights=weights, image_size=size, batch_size=4)
    pixels = pixels_of(size)
    found = network(pixels)
    keras = load_keras()

    def build(include_top):
        return keras.applications.VGG16(weights=None, include_top=include_top, input_shape=(size, size, 3))

    loaded = load_weights(weights, BACKBONES["vgg16"], build=build, include_top=True)
    expected = plain_vgg16(pixels, loaded.arrays)
    assert len(found) == (17 if weights.startswith("random") else 15)
    for layer, values in found.items():
        assert values.dtype == np.float32
        assert values.shape == expected[layer].shape
        assert relative_error(values, expected[layer]) < 1e-5, layer


def test_nothing_deeper_than_the_deepest_layer_is_there():
    options = {"layers": "block2_conv1,block1_conv2", "weights": "random", "image_size": 32}
    layers = build_backbone(**options).model.layers
    assert [layer.name for layer in layers if layer.weights] == ["block1_conv1", "block1_conv2", "block2_conv1"]
    assert dict(build_network(**options).n_channels) == {"block1_conv2": 64, "block2_conv1": 128}


def test_a_short_batch_gives_what_a_full_one_gives():
    network = build_network(layers="block1,block3_conv1", weights="random", image_size=32, batch_size=8)
    pixels = pixels_of(32, n=8)
    whole, part = network(pixels), network(pixels[:3])
    for layer in whole:
        assert part[layer].shape[0] == 3
        assert relative_error(part[layer], whole[layer][:3]) < 1e-6


def test_the_digest_tells_which_weights_took_part():
    def digest(**options):
        return build_network(image_size=32, **options).weights_sha256

    assert digest(layers="block1", weights="random") == digest(layers="block1_conv2", weights="random:0")
    assert digest(layers="block1", weights="random") != digest(layers="block2_conv1", weights="random")
    assert digest(layers="block1", weights="random") != digest(layers="block1", weights="random:1")


def test_all_is_the_convolutions_where_there_is_nothing_else():
    lines = []
    network = build_network(layers="all", weights="imagenet-conv", image_size=32, echo=lines.append)
    assert sum(network.n_channels.values()) == 4224
    assert lines == ["the weights 'imagenet-conv' have no fc1 and fc2: 13 layers are extracted"]


def test_weights_without_a_top_give_the_last_layer_but_no_predictions(tmp_path):
    plain = build_application(BACKBONES["resnet50"], 32, include_top=False)
    plain.save_weights(tmp_path / "r.weights.h5")
    options = {"weights": str(tmp_path / "r.weights.h5"), "image_size": 32}
    lines = []
    frozen = build_backbone("resnet50", layers="avg_pool,conv5", **options, echo=lines.append)
    assert frozen.layers == ("conv5_block1_out", "conv5_block2_out", "conv5_block3_out", "avg_pool")
    assert lines == []
    with pytest.raises(FeatxError, match=r"'r\.weights\.h5' have no predictions"):
        build_backbone("resnet50", layers="last,predictions", **options)


def test_any_layer_can_be_asked_for_by_name():
    frozen = build_backbone("vgg16", layers="flatten,block2_pool", weights="random", image_size=32)
    assert frozen.layers == ("block2_pool", "flatten")
    assert frozen.spatial == [("block2_pool", True), ("flatten", False)]
    with pytest.raises(FeatxError, match="no layer 'input_layer'"):
        build_backbone("vgg16", layers="input_layer", weights="random", image_size=32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "fc1", "weights": "imagenet-conv"}, "have no fc1"),
        ({"layers": "all,fc2", "weights": "imagenet-conv"}, "have no fc2"),
        ({"layers": "fc", "weights": "imagenet-conv"}, "have no fc1, fc2"),
        (
            {"layers": "conv,fc", "weights": "imagenet-conv"},
            r"have no fc1, fc2: .*`weights` that have them \(imagenet, or a file\)",
        ),
        ({"layers": "all", "weights": "nowhere.h5", "image_size": 128}, "'nowhere.h5': neither a file nor one of"),
        ({"layers": "conv", "weights": ""}, "weights '': neither a file nor one of"),
        ({"layers": "conv", "weights": "random", "image_size": 16}, "image_size: expected 32 pixels or more"),
        ({"layers": "all", "weights": "imagenet", "image_size": 128}, "needs 224 pixels, found 128"),
        ({"layers": "block9", "weights": "random"}, "no layer 'block9'"),
        ({"layers": "predictions", "weights": "imagenet-conv"}, "have no predictions"),
        ({"layers": "all,predictions", "weights": "imagenet-conv"}, "have no predictions"),
        ({"layers": "predictions", "weights": "imagenet", "image_size": 128}, "needs 224 pixels, found 128"),
    ],
)
def test_what_cannot_be_built_says_why(options, message):
    with pytest.raises(FeatxError, match=message):
        build_network(**{"image_size": 32, **options})


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("caffe", [120 - 103.939, 60 - 116.779, 30 - 123.68]),
        ("torch", [(30 / 255 - 0.485) / 0.229, (60 / 255 - 0.456) / 0.224, (120 / 255 - 0.406) / 0.225]),
        ("tf", [30 / 127.5 - 1, 60 / 127.5 - 1, 120 / 127.5 - 1]),
        ("none", [30.0, 60.0, 120.0]),
        ("caffe-googlenet", [120 - 104, 60 - 117, 30 - 123]),
    ],
)
def test_preprocessing_is_what_it_is_called(mode, expected, tmp_path):
    """A first layer that passes its three inputs on (and their negatives, for the ReLU) shows what reaches it."""
    keras = load_keras()
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    kernel = np.zeros((3, 3, 3, 64), dtype=np.float32)
    for channel in range(3):
        kernel[1, 1, channel, 2 * channel] = 1
        kernel[1, 1, channel, 2 * channel + 1] = -1
    network.get_layer("block1_conv1").set_weights([kernel, np.zeros(64, dtype=np.float32)])
    network.save_weights(tmp_path / "probe.weights.h5")
    options = {"layers": "block1_conv1", "weights": str(tmp_path / "probe.weights.h5"), "image_size": 32}
    pixels = np.full((1, 32, 32, 3), (30, 60, 120), dtype=np.uint8)
    for engine, tolerance in (("keras", 1e-5), ("ncnn", 1e-4)):
        probe = build_network(**options, preprocessing=mode, engine=engine)
        values = probe(pixels)["block1_conv1"][0, :6].reshape(3, 2)
        assert values[:, 0] - values[:, 1] == pytest.approx(expected, rel=tolerance)


def test_a_backend_that_is_not_there_is_one_line(tmp_path, tree):
    environment = {**os.environ, "KERAS_BACKEND": "nonsense"}
    done = run_featx("extract", tree, "-o", tmp_path / "s.h5", "--weights", "random", env=environment)
    assert done.returncode == 1
    assert "KERAS_BACKEND" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
