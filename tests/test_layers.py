"""Layer names and the sets of them."""

import pytest

from featx import FeatxError
from featx.layers import BACKBONES, choose_layers

VGG16 = BACKBONES["vgg16"]
CONVS = tuple(f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (*CONVS, "fc1", "fc2")),
        ("conv", CONVS),
        ("fc", ("fc1", "fc2")),
        ("block-ends", ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")),
        ("block5", ("block5_conv1", "block5_conv2", "block5_conv3")),
        ("fc2, block1_conv1", ("block1_conv1", "fc2")),
        ("block5_pool,block5_conv3", ("block5_conv3", "block5_pool")),
        ("block1,block1_conv2", ("block1_conv1", "block1_conv2")),
    ],
)
def test_sets_and_names_come_in_network_order(text, expected):
    assert choose_layers(text, VGG16) == expected


@pytest.mark.parametrize("text", ["block6", "", "fc1,,fc2", "Block1"])
def test_an_unknown_layer_is_answered_with_the_layers(text):
    with pytest.raises(FeatxError, match=r"no layer .*block1_conv1, .*fc2; sets: all, conv"):
        choose_layers(text, VGG16)
