"""Pixels to features: every pooling and every view against the plain way, and engines against each other."""

import numpy as np
import pytest

from featx import FeatxError
from featx.images import read_elpv, read_picture
from featx.inference import build_network
from featx.networks import build_backbone, preprocess

ENGINES = ("keras", "ncnn")
RANDOM = {"weights": "random:3", "image_size": 40}


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(5).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_poolings_are_those_of_plain_numpy(engine, pixels):
    layers = "block1_conv2,block3_conv3,fc2"
    frozen = build_backbone(layers=layers, **RANDOM)
    activations = frozen.model.predict_on_batch(preprocess(np, pixels.astype(np.float32), "caffe"))
    found = build_network(layers=layers, pool="std,avg,max", engine=engine, **RANDOM)(pixels)
    assert list(found) == [
        *("block1_conv2", "block1_conv2:max", "block1_conv2:std"),
        *("block3_conv3", "block3_conv3:max", "block3_conv3:std"),
        "fc2",
    ]
    for layer in ("block1_conv2", "block3_conv3"):
        plain = np.asarray(activations[layer], dtype=np.float64)
        assert relative_error(found[layer], plain.mean(axis=(1, 2))) < 2e-5
        assert relative_error(found[f"{layer}:max"], plain.max(axis=(1, 2))) < 2e-5
        assert relative_error(found[f"{layer}:std"], plain.std(axis=(1, 2))) < 2e-5
    assert relative_error(found["fc2"], activations["fc2"]) < 2e-5


def test_a_pooling_alone_leaves_the_others_out(pixels):
    network = build_network(layers="block1_conv1,fc1", pool="max", engine="ncnn", **RANDOM)
    assert dict(network.n_channels) == {"block1_conv1:max": 64, "fc1": 4096}
    assert set(network(pixels)) == {"block1_conv1:max", "fc1"}


@pytest.mark.parametrize("text", ["mean", "", "avg,", "avg;max"])
def test_unknown_poolings_are_named(text):
    with pytest.raises(FeatxError, match="expected avg, max, std"):
        build_network(pool=text, **RANDOM)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("views", ["flip", "dihedral"])
def test_views_average_the_features_of_each_view(engine, views, pixels):
    options = {"layers": "block1_conv1,block2_conv2", "pool": "avg,max", "engine": engine, **RANDOM}
    plain = build_network(**options)
    turned = [pixels] if views == "flip" else [np.rot90(pixels, turns, axes=(1, 2)) for turns in range(4)]
    each = [view for one in turned for view in (one, one[:, :, ::-1])]
    expected = [plain(np.ascontiguousarray(view)) for view in each]
    found = build_network(views=views, **options)(pixels)
    for name, values in found.items():
        assert values.dtype == np.float32
        assert relative_error(values, np.mean([one[name] for one in expected], axis=0)) < 1e-6


def test_dihedral_views_do_not_see_how_an_image_is_turned(pixels):
    network = build_network(layers="block2_conv1", views="dihedral", engine="ncnn", **RANDOM)
    upright, turned = network(pixels), network(np.ascontiguousarray(np.rot90(pixels, axes=(1, 2))[:, ::-1]))
    assert relative_error(turned["block2_conv1"], upright["block2_conv1"]) < 1e-6


def test_engines_agree_on_real_photographs_with_real_weights():
    manifest = read_elpv(40)
    paths = [manifest.root / path for path in manifest.table["path"][::10]]
    options = {"image_size": 224, "resize": "squash", "interpolation": "bilinear"}
    pictures = np.stack([read_picture(path, **options).pixels for path in paths])
    networks = {
        engine: build_network(layers="conv", weights="imagenet-conv", pool="avg,max,std", engine=engine)
        for engine in ENGINES
    }
    assert {name: network.engine.name for name, network in networks.items()} == {"keras": "keras", "ncnn": "ncnn"}
    assert networks["keras"].weights_sha256 == networks["ncnn"].weights_sha256
    reference, found = networks["keras"](pictures), networks["ncnn"](pictures)
    assert len(reference) == 39
    for name, values in reference.items():
        assert relative_error(found[name], values) < 1e-4, name


def test_an_image_has_the_same_bits_whatever_is_beside_it(pixels):
    network = build_network(layers="conv", engine="ncnn", **RANDOM)
    whole = network(pixels)
    for row in range(len(pixels)):
        alone = network(pixels[row : row + 1])
        assert all(np.array_equal(alone[layer][0], whole[layer][row]) for layer in whole)


def test_auto_takes_the_fast_engine_on_a_cpu():
    assert build_network(layers="block1", engine="auto", **RANDOM).engine.name == "ncnn"
