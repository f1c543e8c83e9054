"""The figures of a store that a report has: which there are, and what is left out, with the reason."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from plain_stores import grouped_features, write_plain_store

from featx import FeatxError
from featx.report.figures import summary_figures, to_svg
from featx.report.figures.store_figures import find_alike
from featx.store import Store

LABELS = [("ash", "birch", "cedar", "elm", "<script>")[row % 5] for row in range(60)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    features = {"block1_conv1": grouped_features(LABELS, 6, seed=1), "block5_conv3": grouped_features(LABELS, 30)}
    path = tmp_path_factory.mktemp("summary") / "s.h5"
    with Store(
        write_plain_store(path, features, LABELS, weights="random:0", splits=["train"] * 40 + [""] * 20)
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def drawn(store):
    said = []
    return summary_figures(store, echo=said.append), said


def test_every_figure_is_there_with_its_caption(store, drawn):
    panels, said = drawn
    headings = [panel.heading for panel in panels]
    assert headings[:5] == [
        "Correlation of images, block5_conv3",
        "Correlation of images, block5_conv3, 3 of 5 classes",
        "Principal components, 2 layers",
        "t-SNE, 2 layers",
        "Dead and constant features",
    ]
    assert headings[5].startswith("What excites channel ")
    assert "train images differ most" in panels[5].caption
    assert said == [
        "a figure of the features is left out: the first layer's filters can't be shown: its weights are random",
    ]
    for panel, again in zip(panels, summary_figures(store), strict=True):
        svg = to_svg(panel.figure, title=panel.heading)
        assert len(svg) < 80_000
        assert "<script" not in svg
        assert panel.caption.endswith(".")
        # The same store gives the same figures.
        assert again.caption == panel.caption
        assert to_svg(again.figure, title=panel.heading) == svg


@pytest.fixture
def quick(monkeypatch):
    """Leave the embeddings out: they take longest."""

    def leave_out(*args, **options):
        raise FeatxError("not now")

    monkeypatch.setattr("featx.report.figures.store_figures.draw_embedding", leave_out)


def test_another_layer_and_chosen_classes(store, quick, tmp_path):
    said = []
    root = tmp_path / "nowhere"
    panels = summary_figures(store, layer="block1_conv1", classes=["elm", "ash"], root=root, echo=said.append)
    # The images are gone.
    assert [panel.heading for panel in panels] == [
        "Correlation of images, block1_conv1",
        "Correlation of images, block1_conv1, 2 of 5 classes",
        "Dead and constant features",
    ]
    assert [text.get_text() for text in panels[1].figure.axes[0].get_yticklabels()] == ["ash", "elm"]
    assert any("No such file" in line and "`root`" in line for line in said)
    with pytest.raises(FeatxError, match="no layer 'block9'"):
        summary_figures(store, layer="block9")


def test_a_store_without_labels_still_has_its_dead_features(store):
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "images", store.images.assign(label=""))
        panels = summary_figures(store, echo=said.append)
    assert [panel.heading for panel in panels] == ["Dead and constant features"]
    assert any("no image has a label" in line for line in said)


def test_classes_that_are_alike_are_found():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 40))
    centres[3] = centres[1] + 0.4 * rng.normal(size=40)
    centres[4] = (centres[1] + centres[3]) / 2 + rng.normal(size=40)
    labels = np.repeat(["ash", "birch", "cedar", "elm", "fir"], 12)
    X = np.repeat(centres, 12, axis=0) + 0.5 * rng.normal(size=(60, 40))
    assert find_alike(X, labels, 2) == ["birch", "elm"]
    assert find_alike(X, labels, 3) == ["birch", "elm", "fir"]
    assert find_alike(X[:24], labels[:24], 3) == ["ash", "birch"]
