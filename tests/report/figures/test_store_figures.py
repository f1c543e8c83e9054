"""Figures of a store's features: which rows and layers are taken, what captions say, what is refused."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from plain_stores import grouped_features, write_plain_store

from featx import FeatxError
from featx.report.figures import draw_correlation, draw_dead, draw_embedding, draw_top_images
from featx.report.figures.maps import correlate, standardise
from featx.report.figures.store_data import labelled_rows, one_layer
from featx.store import Store

LABELS = [("cedar", "ash", "birch", "")[row % 4] for row in range(40)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    features = {
        "block1_conv1": grouped_features(LABELS, 6, seed=1),
        "block5_conv3": grouped_features(LABELS, 9, seed=2),
        "block5_conv3:max": grouped_features(LABELS, 9, seed=3),
    }
    return write_plain_store(tmp_path_factory.mktemp("plain") / "s.h5", features, LABELS)


@pytest.fixture
def store(path):
    with Store(path) as opened:
        yield opened


def shown(drawn):
    return np.asarray(drawn.figure.axes[0].images[0].get_array())


def test_correlations_are_of_labelled_images_sorted_by_class(store):
    drawn = draw_correlation(store)
    labels = np.array(LABELS)
    rows = np.concatenate([np.flatnonzero(labels == name) for name in ("ash", "birch", "cedar")])
    X = store.matrix(["block5_conv3"])[rows]
    np.testing.assert_allclose(shown(drawn), correlate(standardise(X)))
    assert "9 features of block5_conv3, each standardised" in drawn.caption
    assert "30 images" in drawn.caption
    drawn = draw_correlation(store, "block1_conv1", kind="covariance", features="stored", classes=["0:1", "cedar"])
    X = store.matrix(["block1_conv1"])[np.concatenate([rows[:10], rows[20:]])]
    np.testing.assert_allclose(shown(drawn), correlate(X, "covariance"))
    assert "as they are stored; 20 images" in drawn.caption


def test_a_sample_is_named(store):
    drawn = draw_correlation(store, n_images=9, seed=5)
    assert shown(drawn).shape == (9, 9)
    assert "9 of 30 images, drawn with seed 5" in drawn.caption
    assert np.array_equal(shown(drawn), shown(draw_correlation(store, n_images=9, seed=5)))
    assert "12 of 30 images" in draw_embedding(store, n_images=12).caption


def test_blocks_of_a_store_give_the_same_rows(store, monkeypatch):
    whole = shown(draw_correlation(store))
    blocks = Store.blocks
    monkeypatch.setattr(Store, "blocks", lambda store, layers: blocks(store, layers, n_bytes=100))
    assert np.array_equal(shown(draw_correlation(store)), whole)


def test_embeddings_of_layers(store):
    drawn = draw_embedding(store, "block5_conv3")
    assert "18 standardised features (2 layers); 30 images" in drawn.caption
    labels = [text.get_text() for text in drawn.figure.axes[0].get_legend().get_texts()]
    assert labels == ["ash (10)", "birch (10)", "cedar (10)"]
    drawn = draw_embedding(store, "block1_conv1", label="path", where='label == "ash"')
    assert len(drawn.figure.axes[0].collections) == 10


def test_dead_features_are_counted(store):
    values = store.matrix()
    n_dead = int((values == 0).all(axis=0).sum())
    assert f"Of 24 features, {n_dead} are 0 for each of the 40 images" in draw_dead(store).caption


def test_the_deepest_layer_is_its_mean(store):
    assert one_layer(store, None) == "block5_conv3"
    assert one_layer(store, "block5_conv3:max") == "block5_conv3:max"


def test_what_is_refused(store, path):
    with pytest.raises(FeatxError, match=r"^layer: .*: last is block5_conv3, block5_conv3:max; expected one of them"):
        draw_correlation(store, "last")
    with pytest.raises(FeatxError, match="no layer 'conv9' in this store; it has block1_conv1"):
        draw_correlation(store, "conv9")
    with pytest.raises(FeatxError, match="no column 'colour'; there are path, label"):
        labelled_rows(store, label="colour")
    with pytest.raises(FeatxError, match="features: expected one of standardised, stored, found 'raw'"):
        draw_correlation(store, features="raw")
    with pytest.raises(FeatxError, match=r"one image to compare, .*: take more images, or give another `where`$"):
        draw_correlation(store, where='path == "images/000.png"')
    with pytest.raises(FeatxError, match="2 images to compare, expected at least 4"):
        draw_embedding(store, where='path in ["images/000.png", "images/001.png"]')
    with pytest.raises(FeatxError, match="no image has a label in the column 'label' where"):
        labelled_rows(store, where='label == ""')


def test_features_that_are_no_numbers_are_named_by_their_image(tmp_path):
    X = grouped_features(LABELS, 5)
    X[6, 2] = np.inf
    path = write_plain_store(tmp_path / "s.h5", {"block1_conv1": X}, LABELS)
    with Store(path) as store, pytest.raises(FeatxError, match=r"images/006\.png are not finite: featx repair "):
        draw_correlation(store)


def test_top_images_are_the_files_themselves_and_changed_ones_are_named(tmp_path):
    X = np.zeros((10, 3))
    X[[7, 2, 4, 9], 1] = [4, 3, 2, 1]
    path = write_plain_store(tmp_path / "s.h5", {"block1_conv1": X}, ["ash"] * 10)
    (tmp_path / "images" / "002.png").write_bytes((tmp_path / "images" / "003.png").read_bytes())
    (tmp_path / "images" / "004.png").unlink()
    (tmp_path / "images" / "004.png").mkdir()
    said = []
    with Store(path) as store:
        drawn = draw_top_images(store, None, 1, n=4, side=16, echo=said.append)
        titles = [axes.get_title() for axes in drawn.figure.axes]
        assert [title.split("\n")[:2] for title in titles] == [
            ["feature 4", "007.png"],
            ["feature 3", "002.png"],
            ["feature 2", "004.png"],
            ["feature 1", "009.png"],
        ]
        assert [len(axes.images) for axes in drawn.figure.axes] == [1, 0, 0, 1]
        assert shown(drawn).shape == (16, 16, 3)
        assert len(said) == 2
        assert "002.png: not the file that the store's features were made of" in said[0]
        assert "004.png: a folder, not an image file" in said[1]
        assert "2 of them can't be read any more" in drawn.caption
        moved = tmp_path / "moved"
        with pytest.raises(
            FeatxError,
            match=r"moved/images/007\.png: cannot be opened: No such file.* say where with `root`",
        ):
            draw_top_images(store, None, 1, n=4, root=moved)
        moved.mkdir()
        (tmp_path / "images").rename(moved / "images")
        assert len(draw_top_images(store, None, 1, n=1, root=moved).figure.axes[0].images) == 1
