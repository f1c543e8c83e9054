"""Every backbone as Keras builds it: what featx knows of it beforehand holds, and names are the same every time."""

import json
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner
from samples import relative_error

from featx import FeatxError
from featx.cli import main
from featx.networks import (
    BACKBONES,
    build_application,
    build_backbone,
    load_keras,
    named_outputs,
    plan_features,
    pool,
    preprocess,
)

N_FEATURES = {
    "vgg16": 12416,
    "vgg19": 13696,
    "resnet50": 15168,
    "resnet101": 32576,
    "inception_v3": 10048,
    "inception_resnet_v2": 50784,
    "densenet121": 34464,
    "efficientnet_v2_s": 7824,
    "convnext_tiny": 6720,
    "googlenet": 5744,
}
# A few layers of each: early, in the midst, the last one; and those that Keras names itself.
LAYERS = {
    "vgg19": "block1_conv2,block3_pool,last,fc1,predictions",
    "resnet50": "conv1_relu,conv3_block2_1_relu,conv4_block6_out,last,avg_pool,predictions",
    "inception_v3": "activation_4,mixed0,mixed8,concatenate,last,predictions",
    "densenet121": "conv1_relu,conv3_block12_concat,pool4_pool,last,predictions",
    "efficientnet_v2_s": "block1b_add,block4a_se_excite,block6o_add,last,predictions",
    "convnext_tiny": "convnext_tiny_stem,convnext_tiny_stage_1_block_2_add,last,predictions",
}


@cache
def built(backbone):
    """The smallest network of that name, with its top."""
    spec = BACKBONES[backbone]
    return build_application(spec, spec.min_image_size, include_top=True)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_known_beforehand_holds(backbone):
    spec, network = BACKBONES[backbone], built(backbone)
    outputs = named_outputs(network)
    names = list(outputs)
    assert tuple(names[-len(spec.top) :]) == spec.top
    assert all(len(outputs[layer].shape) == 2 for layer in spec.top)
    assert len(outputs[names[-len(spec.top) - 1]].shape) == 4
    weighted = [layer.name for layer in network.layers if layer.weights]
    assert tuple(layer for layer in weighted if layer in spec.top) == spec.top_weighted
    for layers in spec.layer_sets.values():
        assert [name for name in names if name in layers] == list(layers)
    assert sum(outputs[layer].shape[-1] for layer in spec.layer_sets["all"]) == N_FEATURES[backbone]


def test_every_backbone_is_listed(monkeypatch):
    """By `featx backbones`, of the networks that the other tests have built at the very size that it asks for."""

    def build(spec, image_size, *, include_top):
        assert (image_size, include_top) == (spec.min_image_size, spec.name in ("vgg16", "vgg19"))
        return built(spec.name)

    monkeypatch.setattr("featx.networks.describe.build_application", build)
    result = CliRunner().invoke(main, ["backbones", "--json"])
    assert result.exit_code == 0, result.exception
    rows = {row["backbone"]: row for row in json.loads(result.output)}
    assert list(rows) == list(BACKBONES)
    assert (rows["vgg16"]["layers"], rows["vgg16"]["features"], rows["vgg16"]["image_size"]) == (15, 12416, 224)
    assert {name: row["features"] for name, row in rows.items()} == N_FEATURES
    assert rows["googlenet"]["weights"] == []
    assert [name for name, row in rows.items() if "imagenet-conv" in row["weights"]] == ["vgg16"]


def test_sizes_are_those_that_keras_applications_takes():
    keras = load_keras()
    for spec in BACKBONES.values():
        if spec.application is not None and spec.min_image_size > 32:
            shape = (spec.min_image_size - 1,) * 2 + (3,)
            with pytest.raises(ValueError, match=f"at least {spec.min_image_size}x{spec.min_image_size}"):
                getattr(keras.applications, spec.application)(weights=None, input_shape=shape)
    with pytest.raises(FeatxError, match="expected 75 pixels or more for inception_v3"):
        build_backbone("inception_v3", weights="random", image_size=74)


def test_names_do_not_depend_on_what_was_built_before():
    """Keras itself would go on counting: activation_94 and so on."""
    spec = BACKBONES["inception_v3"]
    first = built("inception_v3")
    again = build_application(spec, spec.min_image_size, include_top=True)
    names = [layer.name for layer in again.layers]
    assert names == [layer.name for layer in first.layers]
    assert {"activation", "activation_93", "conv2d", "max_pooling2d_3"} <= set(names)
    assert "activation_94" not in names


def test_convnext_blocks_end_in_what_they_add():
    """The output of a block is what the next one begins with, not its branch alone."""
    network = built("convnext_tiny")
    outputs = named_outputs(network)
    following = network.get_layer("convnext_tiny_stage_0_block_1_depthwise_conv")
    assert following.input is outputs["convnext_tiny_stage_0_block_0_add"]


def keras_applications_module(keras, application):
    """keras.applications.resnet50 and the like, with its own preprocess_input."""
    modules = {"ResNet50": "resnet", "ResNet101": "resnet", "EfficientNetV2S": "efficientnet_v2"}
    by_name = {"InceptionV3": "inception_v3", "InceptionResNetV2": "inception_resnet_v2", "DenseNet121": "densenet"}
    modules |= by_name | {"ConvNeXtTiny": "convnext", "VGG19": "vgg19"}
    return getattr(keras.applications, modules[application])


@pytest.mark.parametrize("backbone", LAYERS)
def test_features_are_those_of_keras_applications(backbone):
    keras = load_keras()
    spec = BACKBONES[backbone]
    size = spec.min_image_size
    frozen = build_backbone(backbone, layers=LAYERS[backbone], weights="random:2", image_size=size)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    # Run without an engine: compiling a deep network takes far longer than running it once.
    activations = frozen.model([preprocess(np, pixels.astype(np.float32), frozen.preprocessing)])
    plan = plan_features(frozen.spatial, ("avg",))
    found = {name: pool(np, np.asarray(activations[layer]), pooling) for name, (layer, pooling) in plan.items()}

    plain = built(backbone)
    for layer in frozen.model.layers:
        if layer.weights:
            plain.get_layer(layer.name).set_weights(layer.get_weights())
    outputs = named_outputs(plain)
    prepared = keras_applications_module(keras, spec.application).preprocess_input(pixels.astype("float32"))
    probe = keras.Model(plain.inputs, {layer: outputs[layer] for layer in found})
    assert list(found)[-1] == spec.top[-1]
    for layer, values in probe([prepared]).items():
        activations = np.asarray(values)
        expected = activations.mean(axis=(1, 2)) if activations.ndim == 4 else activations
        assert np.isfinite(expected).all()
        assert relative_error(found[layer], expected) < 1e-4, layer
    # Two images of noise give features that differ: nothing has died or run off.
    last = found[spec.layer_sets["last"][0]]
    assert (last != 0).mean() > 0.02
    assert relative_error(last[0], last[1]) > 1e-4
    assert found[spec.top[-1]].sum(axis=1) == pytest.approx(1)


def test_each_backbone_has_its_own_image_size():
    for backbone, size in {"inception_v3": 299, "efficientnet_v2_s": 384, "googlenet": 224}.items():
        assert BACKBONES[backbone].image_size == size
    frozen = build_backbone("inception_v3", layers="activation", weights="random")
    assert frozen.image_size == 299
    assert frozen.model.inputs[0].shape[1:] == (299, 299, 3)
    assert frozen.preprocessing == "tf"
