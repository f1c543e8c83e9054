"""Single features over the images of a store: dead ones, and the images that excite one most."""

import numpy as np
import pytest
from plain_stores import write_plain_store

from featx import FeatxError
from featx.report.figures.store_data import find_dead, most_distinct_channel, top_images
from featx.store import Store

LABELS = ["ash"] * 20 + ["birch"] * 10


def features():
    rng = np.random.default_rng(0)
    first = np.maximum(rng.normal(size=(30, 8)), 0)
    first[:, 2] = 0
    first[:, 5] = -0.0
    first[:, 6] = 0.25
    # 0 for all but the last image, which a look at the first rows would miss.
    first[:, 7] = 0
    first[29, 7] = 1
    second = rng.uniform(1, 2, (30, 5))
    return {"block1_conv1": first, "block1_conv2": second}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(write_plain_store(tmp_path_factory.mktemp("plain") / "s.h5", features(), LABELS)) as opened:
        yield opened


@pytest.mark.parametrize("n_bytes", [1, 500, 2**26])
def test_dead_features_are_those_of_the_whole_matrix(store, monkeypatch, n_bytes):
    blocks = Store.blocks
    monkeypatch.setattr(Store, "blocks", lambda store: blocks(store, n_bytes=n_bytes))
    table = find_dead(store)
    assert table["layer"].tolist() == ["block1_conv1", "block1_conv2"]
    assert table["n_features"].tolist() == [8, 5]
    assert table["dead"].tolist() == [2, 0]
    assert table["constant"].tolist() == [1, 0]
    expected = [(store.matrix([layer]) == 0).mean() for layer in table["layer"]]
    np.testing.assert_allclose(table["zeros"], expected)


def test_top_images_are_the_largest_in_order(store):
    table = top_images(store, "block1_conv2", 3, n=7)
    values = store.matrix(["block1_conv2"])[:, 3]
    expected = sorted(range(30), key=lambda row: (-values[row], row))[:7]
    assert table["row"].tolist() == expected
    np.testing.assert_array_equal(table["value"], values[expected])
    assert table["path"].tolist() == store.images["path"].iloc[expected].tolist()


def test_of_equal_ones_the_earlier_is_first(store):
    assert top_images(store, "block1_conv1", 7, n=4)["row"].tolist() == [29, 0, 1, 2]


def test_channels_that_are_not_there(store):
    for channel in (8, -1):
        with pytest.raises(FeatxError, match=f"block1_conv1 has no channel {channel}; expected 0 to 7"):
            top_images(store, "block1_conv1", channel)
    with pytest.raises(FeatxError, match="no layer 'block9'"):
        top_images(store, "block9", 0)


def test_a_store_without_images(tmp_path):
    empty = write_plain_store(tmp_path / "e.h5", {"block1_conv1": np.empty((0, 3))}, [])
    with Store(empty) as opened:
        for ask in (find_dead, lambda store: top_images(store, "block1_conv1", 0)):
            with pytest.raises(FeatxError, match="no image in this store"):
                ask(opened)


def test_the_most_distinct_channel_differs_between_classes_for_its_spread():
    rng = np.random.default_rng(0)
    labels = np.repeat(["ash", "birch"], 25)
    X = rng.normal(size=(50, 6)).astype(np.float32)
    # Further apart, but wider by far.
    X[:, 1] = rng.normal(0, 50, 50) + 40 * (labels == "birch")
    X[:, 4] += 3 * (labels == "birch")
    X[:, 5] = 1
    assert most_distinct_channel(X, labels) == 4
    assert most_distinct_channel(X, np.array(["ash"] * 50)) == 1
    assert most_distinct_channel(np.ones((4, 2)), labels[[0, 1, 48, 49]]) == 0
