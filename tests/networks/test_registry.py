"""Layer names and the sets of them."""

import pytest

from featx import FeatxError
from featx.networks import BACKBONES, choose_layers, expand_layers

VGG16 = BACKBONES["vgg16"]
CONVS = tuple(f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1))
NETWORK = (*CONVS, "block5_pool", "flatten", "fc1", "fc2", "predictions")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (*CONVS, "fc1", "fc2")),
        ("conv", CONVS),
        ("fc", ("fc1", "fc2")),
        ("last", ("block5_conv3",)),
        ("predictions", ("predictions",)),
        ("block-ends", ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")),
        ("block5", ("block5_conv1", "block5_conv2", "block5_conv3")),
        ("fc2, block1_conv1", ("block1_conv1", "fc2")),
        ("block5_pool,block5_conv3", ("block5_conv3", "block5_pool")),
        ("block1,block1_conv2", ("block1_conv1", "block1_conv2")),
    ],
)
def test_sets_and_names_come_in_network_order(text, expected):
    assert choose_layers(text, VGG16, NETWORK) == expected


@pytest.mark.parametrize("text", ["block6", "", "fc1,,fc2", "Block1"])
def test_an_unknown_layer_is_answered_with_the_sets(text):
    with pytest.raises(FeatxError, match=r"no layer .*Sets: all, conv, .*'featx backbones vgg16' lists its layers"):
        choose_layers(text, VGG16, NETWORK)


def test_an_unknown_layer_is_answered_with_what_is_close():
    with pytest.raises(FeatxError, match=r"no layer 'block5_conf3' \(close: block5_conv3, "):
        choose_layers("block5_conf3", VGG16, NETWORK)
    with pytest.raises(FeatxError, match=r"no layer 'conv:max' \(use `pool` for poolings\)"):
        choose_layers("conv:max", VGG16, NETWORK)


@pytest.mark.parametrize(
    ("backbone", "text", "expected"),
    [
        ("vgg19", "block5", ("block5_conv1", "block5_conv2", "block5_conv3", "block5_conv4")),
        ("resnet50", "conv5", ("conv5_block1_out", "conv5_block2_out", "conv5_block3_out")),
        ("resnet101", "last", ("conv5_block3_out",)),
        ("inception_v3", "last", ("mixed10",)),
        ("inception_resnet_v2", "last", ("conv_7b_ac",)),
        ("densenet121", "last", ("relu",)),
        ("efficientnet_v2_s", "block2", ("block2a_project_bn", "block2b_add", "block2c_add", "block2d_add")),
        ("convnext_tiny", "predictions", ("convnext_tiny_head_dense",)),
        ("googlenet", "pool5/7x7_s1,inception_3a/output", ("pool5_7x7_s1", "inception_3a_output")),
        ("googlenet", "conv1/relu_7x7,inception_4e/relu_3x3_reduce", ("conv1_7x7_s2", "inception_4e_3x3_reduce")),
        ("googlenet", "predictions,prob", ("prob",)),
    ],
)
def test_every_backbone_has_its_sets(backbone, text, expected):
    assert expand_layers(text, BACKBONES[backbone]) == expected


def test_caffes_names_are_those_of_its_model():
    """The number of names in bvlc_googlenet's deploy.prototxt: 57 convolutions, as many ReLUs."""
    googlenet = BACKBONES["googlenet"]
    assert len(googlenet.aliases) == len(set(googlenet.aliases.values())) == 57
    assert not set(googlenet.aliases) & set(googlenet.aliases.values())
