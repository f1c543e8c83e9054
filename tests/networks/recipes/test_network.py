"""Backbones with heads: what is trained by name, where the frozen part ends, and every mistake by its name."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from featx import FeatxError
from featx.networks import build_backbone, load_keras
from featx.networks.recipes import (
    Flatten,
    Recipe,
    Stage,
    TunedNetwork,
    build_tuned_network,
    freeze_all_but,
    frozen_boundary,
    read_recipe,
    split_at,
    trainable_tail,
    unfrozen_layers,
)
from featx.networks.recipes.network import attach_head
from featx.networks.recipes.schema import AveragePool, Bottleneck, Dense, Dropout

keras = load_keras()

RECIPE = Recipe(
    name="small",
    description="small",
    follows="nobody",
    backbones=("vgg16",),
    head=(AveragePool(), Dense(8), Dropout(0.5)),
    stages=(Stage("head"),),
)
# The smallest images that each takes, or a little more.
SIZES = {"inception_resnet_v2": 75, "inception_v3": 75}


@cache
def frozen(backbone, layer):
    return build_backbone(backbone, layers=layer, weights="random", image_size=SIZES.get(backbone, 32))


def network_on(backbone, layer, *, head=RECIPE.head, **changes):
    recipe = replace(RECIPE, backbones=(backbone,), from_layer=layer, head=head, **changes)
    return attach_head(recipe, frozen(backbone, layer), layer, 3, seed=0)


def inputs_of(network, n=2, seed=0):
    size = network.backbone.image_size
    return np.random.default_rng(seed).uniform(-100, 100, (n, size, size, 3)).astype(np.float32)


def cut_and_compare(network, trained):
    """Where the frozen part ends; the rest on its output must give what the whole network gives."""
    cut = frozen_boundary(network, trained)
    assert not set(trained) & {layer.name for layer in split_at(network, [cut]).model.layers}
    values = inputs_of(network)
    middle = split_at(network, [cut]).model([values], training=False)[cut]
    rest = np.asarray(trainable_tail(network, cut)(middle, training=False))
    assert rest == pytest.approx(np.asarray(network.model(values, training=False)), rel=1e-4, abs=1e-6)
    return cut


@pytest.mark.parametrize(
    ("backbone", "layer", "unfreeze", "expected"),
    [
        ("vgg16", "block5_pool", (), "head_pool1"),
        ("vgg16", "block5_pool", ("block5",), "block4_pool"),
        ("vgg16", "block5_pool", ("block5_conv3",), "block5_conv2"),
        ("vgg16", "block5_pool", ("block1_conv2",), "block1_conv1"),
        # The shortcut goes on beside what is trained: it begins where the block does.
        ("resnet50", "conv3_block2_out", ("conv3_block2_3_conv",), "conv3_block1_out"),
        ("resnet50", "conv3_block2_out", ("conv3_block1",), "conv2_block3_out"),
        ("convnext_tiny", "convnext_tiny_stage_1_block_2_add", ("convnext_tiny_stage_1_block_2",), None),
    ],
)
def test_the_frozen_part_ends_before_what_is_trained(backbone, layer, unfreeze, expected):
    network = network_on(backbone, layer)
    trained = unfrozen_layers(network, replace(RECIPE.stages[0], unfreeze=unfreeze))
    cut = cut_and_compare(network, trained)
    assert cut == expected or (expected is None and cut == "convnext_tiny_stage_1_block_1_add")


def test_new_blocks_follow_the_whole_frozen_part():
    network = network_on("resnet50", "conv3_block2_out", head=(Bottleneck(4, 2), Bottleneck(4), AveragePool()))
    assert cut_and_compare(network, ()) == "conv3_block2_out"


def test_dropout_ends_the_frozen_part():
    network = network_on("vgg16", "block3_pool", head=(Dropout(0.5), Flatten()))
    assert frozen_boundary(network, ()) == "block3_pool"


@pytest.mark.parametrize(("backbone", "layer"), [("vgg16", "block2_pool"), ("resnet50", "conv2_block1_out")])
def test_where_all_is_trained_images_are_the_inputs(backbone, layer):
    """ResNet50 begins with a padding, which trains nothing, but is larger than the image."""
    network = network_on(backbone, layer)
    trained = unfrozen_layers(network, replace(RECIPE.stages[0], unfreeze="all"))
    assert frozen_boundary(network, trained) == ""
    assert trainable_tail(network, "") is network.model


def test_a_name_stands_for_a_layer_or_a_block():
    network = network_on("resnet50", "conv3_block2_out")

    def unfrozen(**options):
        return unfrozen_layers(network, replace(RECIPE.stages[0], **options))

    assert unfrozen(unfreeze=("conv3_block2",)) == tuple(f"conv3_block2_{i}_conv" for i in (1, 2, 3))
    assert unfrozen(unfreeze=("conv3_block2_2_conv",)) == ("conv3_block2_2_conv",)
    assert len(unfrozen(unfreeze=("conv3",))) == 4 + 3
    # In network order, each once; a convolution and its normalization are two layers.
    assert unfrozen(unfreeze=("conv3_block2_1_conv",), unfreeze_last=4) == tuple(
        f"conv3_block2_{i}_conv" for i in (1, 2, 3)
    )
    assert unfrozen(unfreeze=("conv3_block2_3_conv",), unfreeze_last=2) == ("conv3_block2_3_conv",)
    assert unfrozen(unfreeze_last=1) == ()
    everything = unfrozen_layers(network, replace(RECIPE.stages[0], unfreeze="all"), batch_norm="trained")
    assert everything == tuple(
        layer.name for layer in frozen("resnet50", "conv3_block2_out").model.layers if layer.weights
    )
    assert [name for name in everything if name not in unfrozen(unfreeze="all")] == [
        name for name in everything if name.endswith("_bn")
    ]


def test_blocks_that_are_counted_with_letters():
    """As EfficientNet's are."""
    values = keras.Input((8,))
    outputs = values
    for name in ("block1a_conv", "block2a_conv", "block2b_conv", "block12a_conv", "block2_conv", "block2ab_conv"):
        outputs = keras.layers.Dense(8, name=name)(outputs)
    model = keras.Model(values, outputs)
    network = TunedNetwork(model, frozen("vgg16", "block2_pool"), tuple(layer.name for layer in model.layers), ())
    stage = replace(RECIPE.stages[0], unfreeze=("block2",))
    assert unfrozen_layers(network, stage) == ("block2a_conv", "block2b_conv", "block2_conv")
    assert frozen_boundary(network, ["block2a_conv"]) == "block1a_conv"


@pytest.mark.slow
def test_the_deepest_backbone():
    """Its 449 layers have names that Keras counts, and additions of its own kind."""
    network = network_on("inception_resnet_v2", "conv_7b_ac")
    everything = unfrozen_layers(network, replace(RECIPE.stages[0], unfreeze="all"), batch_norm="trained")
    assert frozen_boundary(network, everything) == ""
    assert cut_and_compare(network, ["conv_7b"]) == "custom_scale_layer_39"
    assert frozen_boundary(network, ["block8_10_conv"]) == "block8_9_ac"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"unfreeze": ("block6",)},
            r"stage 'head': unfreeze names 'block6', and vgg16 has no layer .* up to block3_pool",
        ),
        ({"unfreeze": ("block5",)}, r"no layer with weights of that name up to block3_pool \(close: block3"),
        ({"unfreeze": ("block3_pool",)}, "no layer with weights of that name"),
        ({"unfreeze": ("block",)}, "no layer with weights of that name"),
        ({"unfreeze": ("fc1",)}, "no layer with weights of that name"),
        ({"unfreeze_last": 8}, r"stage 'head': unfreeze_last 8, and vgg16 has 7 layers with weights up to block3"),
    ],
)
def test_layers_that_the_backbone_lacks(options, message):
    network = network_on("vgg16", "block3_pool")
    with pytest.raises(FeatxError, match=message):
        unfrozen_layers(network, replace(RECIPE.stages[0], **options))


def test_only_what_is_named_is_trainable():
    network = network_on("vgg16", "block3_pool")
    freeze_all_but(network, ["block3_conv2"])
    # 9 x 256 x 256 and 256; the head's 256 x 8 and 8, 8 x 3 and 3.
    assert sum(weight.shape.num_elements() for weight in network.model.trainable_weights) == 590_080 + 2_056 + 27
    freeze_all_but(network, [])
    assert len(network.model.trainable_weights) == 4


def test_the_deepest_layer_is_the_default():
    network = build_tuned_network(RECIPE, "vgg16", 3, weights="random", image_size=32)
    assert network.backbone_layers[-1] == "block5_pool"
    assert network.head_layers == ("head_pool1", "fc1", "head_dropout1", "predictions")
    assert network.model.output.shape == (None, 3)
    expected = frozen("vgg16", "block3_pool").model.get_layer("block3_conv3").get_weights()
    found = network.model.get_layer("block3_conv3").get_weights()
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_softmax_on_fc2():
    recipe = read_recipe("caltech")
    network = build_tuned_network(recipe, "vgg16", 4, weights="random", image_size=32)
    assert network.head_layers == ("flatten1", "predictions")
    assert frozen_boundary(network, ()) == "flatten1"
    assert network.model.get_layer("predictions").input.shape == (None, 4096)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"backbones": ("resnet50", "vgg19")},
            "recipe 'small': its backbones are resnet50, vgg19, and the store's is vgg16",
        ),
        ({"from_layer": "block6_conv1"}, "vgg16 has no layer 'block6_conv1' .*close"),
        ({"from_layer": "block3"}, "from_layer 'block3' stands for 3 layers; name one of them, such as block3_conv3"),
        (
            {"from_layer": "block3_pool", "head": (Dropout(0.5),)},
            r"recipe 'small': head has neither flatten nor a pool, and block3_pool is a map \(4, 4, 256\)",
        ),
        (
            {"from_layer": "fc1", "head": (Bottleneck(4),)},
            r"recipe 'small': head doesn't fit fc1, whose activations are \(4096,\)",
        ),
        ({"from_layer": "predictions"}, "from_layer 'predictions' are .*name a layer before them, such as fc2$"),
    ],
)
def test_recipes_that_do_not_fit(parts, message):
    with pytest.raises(FeatxError, match=message):
        build_tuned_network(replace(RECIPE, **parts), "vgg16", 3, weights="random", image_size=32)


@pytest.mark.parametrize("name", ["mine", "flowers-5"])
def test_a_recipe_for_other_backbones_is_copied_where_it_ships_and_changed_where_it_is_a_users(name):
    recipe = replace(RECIPE, name=name, backbones=("resnet50",))
    with pytest.raises(FeatxError, match=r"Extract with the backbone resnet50, or add vgg16 to ") as caught:
        build_tuned_network(recipe, "vgg16", 3, weights="random", image_size=32)
    assert ("(featx recipes flowers-5)" in str(caught.value)) == (name == "flowers-5")
    assert "featx recipes mine" not in str(caught.value)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_weights_and_probabilities_float32(precision):
    network = network_on("vgg16", "block2_pool", precision=precision)
    plain = network_on("vgg16", "block2_pool")
    assert {str(weight.dtype) for weight in network.model.weights} == {"float32"}
    assert network.model.get_layer("block2_conv1").compute_dtype == precision.removeprefix("mixed_")
    assert network.model.get_layer("predictions").compute_dtype == "float32"
    assert (network.backbone_layers, network.head_layers) == (plain.backbone_layers, plain.head_layers)
    found, expected = (np.asarray(each.model(inputs_of(each) / 100)) for each in (network, plain))
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=0.05)
    assert not np.array_equal(found, expected)
    assert frozen_boundary(network, ["block2_conv2"]) == "block2_conv1"
