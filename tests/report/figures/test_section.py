"""The features' section of a report: what stands in it, and what is left out with a word."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from plain_stores import grouped_features, write_plain_store

from featx import FeatxError
from featx.report.figures.store_figures import describe_features, find_alike
from featx.report.figures.style import to_svg

LABELS = [("ash", "birch", "cedar", "elm", "<script>")[row % 5] for row in range(60)]


def make_store(folder, labels, **options):
    features = {"block1_conv1": grouped_features(LABELS, 6, seed=1), "block5_conv3": grouped_features(LABELS, 30)}
    return write_plain_store(folder / "s.h5", features, labels, weights="random:0", **options)


@pytest.fixture
def path(tmp_path):
    return make_store(tmp_path, LABELS, splits=["train", "train", "test"] * 20)


def headings(figures):
    return [heading for heading, _, _ in figures]


def test_every_figure_is_there_with_its_caption(path):
    said = []
    figures = describe_features(path, echo=said.append)
    assert headings(figures)[:5] == [
        "Correlation of images, block5_conv3",
        "Correlation of images, block5_conv3, 3 of 5 classes",
        "Principal components, 2 layers",
        "t-SNE, 2 layers",
        "Dead and constant features",
    ]
    assert headings(figures)[5].startswith("What excites channel ")
    assert "train images differ most" in figures[5][2]
    assert said == ["the first layer's filters are left out: its weights are random"]
    for heading, figure, caption in figures:
        svg = to_svg(figure, title=heading)
        assert len(svg) < 80_000
        assert "<script" not in svg
        assert caption.endswith(".")


def test_the_same_store_gives_the_same_figures(path):
    first, second = describe_features(path), describe_features(path)
    assert headings(first) == headings(second)
    for (heading, a, _), (_, b, _) in zip(first, second, strict=True):
        assert to_svg(a, title=heading) == to_svg(b, title=heading)


def test_a_layer_and_classes_of_ones_own(path):
    figures = describe_features(path, layer="block1_conv1", classes=["elm", "ash"])
    assert headings(figures)[:2] == [
        "Correlation of images, block1_conv1",
        "Correlation of images, block1_conv1, 2 of 5 classes",
    ]
    names = [text.get_text() for text in figures[1][1].axes[0].get_yticklabels()]
    assert names == ["ash", "elm"]


def test_images_that_are_gone_leave_a_word(path, tmp_path):
    said = []
    figures = describe_features(path, images_root=tmp_path / "nowhere", echo=said.append)
    assert not any(heading.startswith("What excites") for heading in headings(figures))
    assert any("No such file" in line and "--root" in line for line in said)


def test_a_store_without_labels_still_has_its_dead_features(tmp_path):
    said = []
    figures = describe_features(make_store(tmp_path, [""] * 60), echo=said.append)
    assert headings(figures) == ["Dead and constant features"]
    assert any("no image has a label" in line for line in said)


def test_what_is_no_store_is_refused(path, tmp_path):
    with pytest.raises(FeatxError, match="no such store"):
        describe_features(tmp_path / "none.h5")
    with pytest.raises(FeatxError, match="no layer 'block9'"):
        describe_features(path, layer="block9")


def test_classes_that_are_alike_are_found():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(5, 40))
    places[3] = places[1] + 0.4 * rng.normal(size=40)
    places[4] = (places[1] + places[3]) / 2 + rng.normal(size=40)
    labels = np.repeat(["ash", "birch", "cedar", "elm", "fir"], 12)
    X = np.repeat(places, 12, axis=0) + 0.5 * rng.normal(size=(60, 40))
    assert find_alike(X, labels, 2) == ["birch", "elm"]
    assert find_alike(X, labels, 3) == ["birch", "elm", "fir"]
    assert find_alike(X[:24], labels[:24], 3) == ["ash", "birch"]
