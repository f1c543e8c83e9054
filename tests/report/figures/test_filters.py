"""The first convolution's filters: those of the store's network, in the colours that they see."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sample_parts import SETTINGS

from featx import FeatxError
from featx.networks import find_backbone, load_weights, preprocess
from featx.report.figures.filters import first_layer_filters, scale_filters, what_filters_need


@pytest.fixture(scope="module")
def packaged():
    pytest.importorskip("onnx")
    return first_layer_filters(replace(SETTINGS, weights="imagenet-conv"))


def test_filters_see_red_green_and_blue_in_this_order(packaged):
    spec = find_backbone("vgg16")
    kernel, _ = load_weights("imagenet-conv", spec, build=None, include_top=False).arrays["block1_conv1"]
    image = np.random.default_rng(0).uniform(0, 255, (3, 3, 3)).astype(np.float32)
    black = preprocess(np, np.zeros_like(image), "caffe")
    seen = preprocess(np, image, "caffe") - black
    assert packaged.shape == (3, 3, 3, 64)
    np.testing.assert_allclose(
        np.einsum("hwcn,hwc->n", packaged, image), np.einsum("hwcn,hwc->n", kernel, seen), rtol=1e-4, atol=1e-2
    )


def test_the_kernel_is_that_of_the_network_with_these_weights(monkeypatch):
    """The digest is of every layer that the features came from."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    layers = [SimpleNamespace(get_weights=lambda arrays=arrays: arrays) for arrays in ([], [kernel, np.zeros(8)])]

    def build(backbone, *, layers, weights, **options):
        return SimpleNamespace(model=model, weights_sha256=f"{backbone} {','.join(layers)} {weights}")

    model = SimpleNamespace(layers=layers)
    monkeypatch.setattr("featx.inference.rebuild.build_frozen", build)
    # This network takes its colours as they are.
    settings = replace(SETTINGS, weights="random:3", layers=("block1_conv1", "block1_conv1:max"), preprocessing="torch")
    settings = replace(settings, weights_sha256="vgg16 block1_conv1 random:3")
    np.testing.assert_array_equal(first_layer_filters(settings), kernel)
    with pytest.raises(FeatxError, match="weights 'random:4': not those that made the features of the store"):
        first_layer_filters(settings, "random:4")


def test_weights_that_came_from_a_file_must_be_named():
    for name in ("own.weights.h5", "results-finetuned"):
        settings = replace(SETTINGS, weights=name)
        with pytest.raises(FeatxError, match=f"'{name}', a file or a fine-tuned run: give its path as `weights`"):
            first_layer_filters(settings)
        assert "a file or a fine-tuned run" in what_filters_need(settings)


def test_what_filters_need_is_said_without_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert what_filters_need(replace(SETTINGS, weights="random:0")) == "its weights are random"
    conv = replace(SETTINGS, weights="imagenet")
    whole = replace(SETTINGS, weights="imagenet", layers=("block1_conv1", "fc1"))
    assert "isn't on this machine" in what_filters_need(conv)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    assert what_filters_need(conv) == ""
    assert "isn't on this machine" in what_filters_need(whole)
    (tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels.h5").touch()
    assert what_filters_need(whole) == ""
    assert "isn't on this machine" in what_filters_need(replace(conv, backbone="vgg19"))


def test_each_filter_by_its_own_numbers_or_all_by_the_largest():
    kernels = np.zeros((2, 2, 3, 3), np.float32)
    kernels[..., 0] = np.arange(12).reshape(2, 2, 3) - 5
    kernels[..., 1] = kernels[..., 0] / 100
    own = scale_filters(kernels)
    assert own.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(own[0], own[1], atol=1e-6)
    assert own[0].min() == 0
    assert own[0].max() == 1
    np.testing.assert_array_equal(own[2], 0.5)
    shared = scale_filters(kernels, "shared")
    np.testing.assert_allclose(shared[0], 0.5 + np.moveaxis(kernels, -1, 0)[0] / 12, atol=1e-6)
    assert np.abs(shared[1] - 0.5).max() < 0.006
    np.testing.assert_array_equal(scale_filters(kernels * 0, "shared"), 0.5)
    with pytest.raises(FeatxError, match="scale: expected one of own, shared, found 'all'"):
        scale_filters(kernels, "all")
