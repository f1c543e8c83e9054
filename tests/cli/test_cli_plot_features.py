"""featx plot's figures of features, from the command line."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")

from PIL import Image
from plain_stores import grouped_features, write_plain_store

from featx.cli import main
from featx.report.figures import filters as first_filters
from featx.report.figures import maps as feature_maps
from featx.report.figures import store_figures as feature_figures

LABELS = [("ash", "birch", "cedar")[row % 3] for row in range(24)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    features = {"block1_conv1": grouped_features(LABELS, 6, seed=1), "block5_conv3": grouped_features(LABELS, 9)}
    return write_plain_store(tmp_path_factory.mktemp("plain") / "s.h5", features, LABELS, weights="imagenet-conv")


def plot(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


@pytest.mark.parametrize(
    ("command", "text", "caption"),
    [
        (["covariance"], "Correlation of two images", "9 features of block5_conv3"),
        (
            ["covariance", "--layer", "block1_conv1", "--kind", "covariance", "--features", "stored"],
            "Covariance of two images",
            "6 features of block1_conv1, as they are stored; 24 images",
        ),
        (["covariance", "--classes", "1:3"], "16 images, sorted by class", "16 images"),
        (["covariance", "--classes", "ash", "--classes", "cedar"], "16 images", "16 images"),
        (["embedding", "--layers", "block5_conv3"], "of the variance", "9 standardised features"),
        (["embedding", "--method", "tsne", "--images", "12"], "t-SNE 1", "12 of 24 images"),
        (["embedding", "--where", 'label != "ash"'], "birch (8)", "16 images"),
        (["dead"], "block5_conv3", "Of 15 features"),
        (["top-images", "--channel", "2", "--images", "3"], "feature", "channel 2 of block5_conv3"),
    ],
)
def test_a_figure_is_written_and_what_it_shows_is_said(store, tmp_path, command, text, caption):
    output = tmp_path / "figure.svg"
    name, *options = command
    result = plot(name, store, *options, "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}\n"
    assert caption in result.stderr
    assert text in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("scale", ["own", "shared"])
def test_filters_of_the_packaged_weights(store, tmp_path, scale):
    pytest.importorskip("onnx")
    output = tmp_path / "filters.png"
    result = plot("filters", store, "--scale", scale, "-o", output)
    assert result.exit_code == 0, result.output
    assert first_filters.SCALES[scale] in result.stderr
    # Filters have colours.
    pixels = np.asarray(Image.open(output).convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() > 50


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["covariance", "--layer", "conv9"], "no layer 'conv9' in this store; it has block1_conv1, block5_conv3"),
        (["covariance", "--classes", "oak"], "--classes: no class 'oak'; expected a range such as 0:3, or names"),
        (["covariance", "--classes", "5:"], "--classes 5:: no class is in this range; there are 3"),
        (["covariance", "--label", "colour"], "no column 'colour'"),
        (["covariance", "--label", "split"], "no image has a label in the column 'split'"),
        (["embedding", "--where", 'path == "images/000.png"'], "1 images to compare, expected at least 4"),
        (["embedding", "--layers", "fc1"], "no layer 'fc1'"),
        (["top-images", "--channel", "9"], r"block5_conv3 has no channel 9; expected 0 to 8 \(--channel\)"),
        (
            ["top-images", "--channel", "1", "--root", "nowhere"],
            r"nowhere/images/.*: cannot be opened: No such file.* --root",
        ),
        (["filters", "--weights", "nowhere.h5"], "weights 'nowhere.h5': neither a file nor one of"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_nothing_is_written(store, tmp_path, command, message):
    output = tmp_path / "figure.svg"
    name, *options = command
    result = plot(name, store, *options, "-o", output)
    assert result.exit_code == 1
    assert re.fullmatch(f"featx: .*{message}.*\n", result.stderr)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_kept(store, tmp_path):
    output = tmp_path / "figure.svg"
    output.write_text("mine")
    result = plot("dead", store, "-o", output)
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert output.read_text() == "mine"
    assert plot("dead", store, "-o", output, "--overwrite").exit_code == 0
    assert "<svg" in output.read_text()


def test_choices_are_the_librarys():
    commands = main.commands["plot"].commands
    options = {name: {option.name: option for option in commands[name].params} for name in commands}
    assert tuple(options["covariance"]["kind"].type.choices) == feature_maps.KINDS
    assert tuple(options["covariance"]["features"].type.choices) == feature_figures.FEATURES
    assert tuple(options["embedding"]["method"].type.choices) == feature_maps.METHODS
    assert tuple(options["filters"]["scale"].type.choices) == tuple(first_filters.SCALES)
