"""Rows of a store, split by split, and folds of them."""

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL

import featx
from featx import FeatxError
from featx.rows import Rows, folds, notes_on_splits, read_rows


def rows_of(y, groups=None):
    y = np.array(y, dtype=object)
    paths = np.array([f"{i}.png" for i in range(len(y))], dtype=object)
    return Rows(X=np.zeros((len(y), 2), np.float32), y=y, groups=groups, paths=paths)


def store_of(tree, tmp_path, **columns):
    table = featx.read_source(tree).table.assign(**columns)
    path = tmp_path / "s.h5"
    featx.extract_features(featx.Manifest(table, tree), path, layers="block1_conv1", **SMALL)
    return featx.open(path)


def test_every_row_is_in_its_split(small_store):
    with featx.open(small_store) as store:
        train, validation, test, notes = read_rows(store, ["block1_conv1"])
        images = store.images
        for split, rows in (("train", train), ("validation", validation), ("test", test)):
            expected = images[images["split"] == split]
            assert rows.paths.tolist() == expected["path"].tolist()
            assert rows.y.tolist() == expected["label"].tolist()
            assert np.array_equal(rows.X, store.matrix(["block1_conv1"], split=split))
    assert notes == []


def test_rows_without_label_or_split_take_no_part(tree, tmp_path):
    labels = ["ash"] * 12 + ["birch"] * 10 + [""] * 8
    splits = [""] * 2 + ["train", "test"] * 14
    with store_of(tree, tmp_path, label=labels, split=splits) as store:
        train, validation, test, notes = read_rows(store, ["block1_conv1"])
        features = pd.DataFrame(store.matrix(), index=store.images["path"])
    assert (len(train), len(validation), len(test)) == (10, 0, 10)
    assert notes == ["8 images without a label take no part", "2 images without a split take no part"]
    assert np.array_equal(train.X, features.loc[train.paths].to_numpy())


@pytest.mark.parametrize(
    ("columns", "message"), [({}, "no image has a split"), ({"label": ""}, "no image has a label")]
)
def test_a_store_with_nothing_to_fit_says_what_is_missing(tree, tmp_path, columns, message):
    with store_of(tree, tmp_path, **columns) as store, pytest.raises(FeatxError, match=message):
        read_rows(store, ["block1_conv1"])


def test_folds_are_stratified():
    rows = rows_of(["a"] * 20 + ["b"] * 10)
    scored = []
    for fit_rows, score_rows in folds(rows, 5, seed=0):
        assert (rows.y[score_rows] == "a").sum() == 4
        assert not set(fit_rows) & set(score_rows)
        scored += score_rows.tolist()
    assert sorted(scored) == list(range(30))


def test_folds_keep_groups_together():
    groups = np.repeat([f"g{i}" for i in range(10)], 3).astype(object)
    rows = rows_of(["a", "b", "a"] * 10, groups)
    for fit_rows, score_rows in folds(rows, 5, seed=0):
        assert not set(groups[fit_rows]) & set(groups[score_rows])
    with pytest.raises(FeatxError, match="only 10 groups"):
        folds(rows, 11, seed=0)


def test_splits_that_flatter_are_named():
    groups = np.array(["g", "h"], dtype=object)
    notes = notes_on_splits(rows_of(["a", "b"], groups), rows_of([]), rows_of(["a", "c"], groups))
    assert "2 groups have images in test and outside it" in notes[0]
    assert "1 test images have a label that no other image has" in notes[1]
    assert notes_on_splits(rows_of(["a", "b"]), rows_of([]), rows_of(["a", "b"])) == []
