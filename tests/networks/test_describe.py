"""What featx backbones shows, against what is known of the networks."""

import json
import math

import pytest
from click.testing import CliRunner

from featx import FeatxError
from featx.cli import main
from featx.networks import BACKBONES, summarize_layers


def by_name(description):
    return {row["layer"]: row for row in description["layers"]}


def test_vgg16s_costs_are_those_of_its_convolutions():
    """Multiplications by hand: a 3 x 3 convolution takes 9 x in x out a place."""
    rows = by_name(summarize_layers("vgg16", image_size=32))
    first = 2 * 9 * 3 * 64 * 32 * 32
    second = first + 2 * 9 * 64 * 64 * 32 * 32
    assert rows["block1_conv1"]["gflops"] * 1e9 == pytest.approx(first)
    assert rows["block1_conv2"]["gflops"] * 1e9 == pytest.approx(second)
    assert rows["block1_pool"] == rows["block1_conv2"] | {"layer": "block1_pool", "height": 16, "width": 16}
    whole = rows["predictions"]["gflops"]
    assert (whole - rows["fc2"]["gflops"]) * 1e9 == pytest.approx(2 * 4096 * 1000)
    assert rows["predictions"]["share"] == 1
    assert rows["block1_conv2"]["share"] == pytest.approx(second / 1e9 / whole)
    assert (rows["fc1"]["channels"], rows["fc1"]["height"]) == (4096, None)


def test_published_costs():
    """He et al. 2015: ResNet-50 takes 3.8e9 multiplications; Szegedy et al. 2014: GoogLeNet about 1.5e9."""
    assert summarize_layers("resnet50")["gflops"] == pytest.approx(2 * 3.86, rel=0.01)
    assert summarize_layers("googlenet")["gflops"] == pytest.approx(2 * 1.58, rel=0.01)


def test_a_branch_costs_what_it_depends_on_and_nothing_beside_it():
    rows = by_name(summarize_layers("googlenet", image_size=64))
    begin, side = rows["pool2_3x3_s2"]["gflops"] * 1e9, rows["inception_3a_1x1"]["height"]
    places = side**2
    assert rows["inception_3a_1x1"]["gflops"] * 1e9 == pytest.approx(begin + 2 * 192 * 64 * places)
    by_5x5 = 192 * 16 + 25 * 16 * 32
    assert rows["inception_3a_5x5"]["gflops"] * 1e9 == pytest.approx(begin + 2 * by_5x5 * places)
    modules = 192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32
    assert rows["inception_3a_output"]["gflops"] * 1e9 == pytest.approx(begin + 2 * modules * places)


def test_layers_within_layers_count():
    """ConvNeXt's stem is a Sequential of a 4 x 4 convolution and a normalization."""
    rows = by_name(summarize_layers("convnext_tiny", image_size=32))
    assert rows["convnext_tiny_stem"]["gflops"] * 1e9 == pytest.approx(2 * 4 * 4 * 3 * 96 * 8 * 8)


def test_the_list_is_a_line_a_backbone(monkeypatch):
    monkeypatch.setattr("featx.networks.describe.BACKBONES", {name: BACKBONES[name] for name in ("vgg16", "googlenet")})
    lines = CliRunner().invoke(main, ["backbones"]).output.splitlines()
    assert lines[1].split() == [
        "vgg16",
        "15",
        "12,416",
        "224",
        "caffe",
        "imagenet,",
        "imagenet-conv,",
        "random,",
        "FILE",
    ]
    assert lines[2].split()[:5] == ["googlenet", "11", "5,744", "224", "caffe-googlenet"]


def test_images_that_are_too_small_are_refused():
    with pytest.raises(FeatxError, match="expected 75 pixels or more"):
        summarize_layers("inception_v3", image_size=64)


def test_an_image_size_is_of_one_backbone():
    refused = CliRunner().invoke(main, ["backbones", "--image-size", "64"])
    assert refused.exit_code == 1
    assert refused.stderr.endswith("name it: featx backbones BACKBONE\n")


def test_the_command_shows_a_backbones_layers():
    shown = CliRunner().invoke(main, ["backbones", "googlenet", "--image-size", "64"])
    assert shown.exit_code == 0
    assert "inception_5b_output" in shown.output
    assert "all, inception5, last" in shown.output
    as_json = CliRunner().invoke(main, ["backbones", "googlenet", "--image-size", "64", "--json"])
    description = json.loads(as_json.output)
    assert description["sets"]["predictions"] == ["prob"]
    assert math.isclose(description["layers"][-1]["share"], 1)
