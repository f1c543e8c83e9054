"""Rows of a store, split by split, and folds of them."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import SMALL

import featx
from featx import FeatxError
from featx.fit.splits import make_folds
from featx.images import as_label
from featx.networks import BACKBONES
from featx.store import Rows, check_splits, choose_stored_layers, notes_on_identical, notes_on_splits, read_rows


def rows_of(y, split="train", groups=None, weights=None):
    y = np.array(y, dtype=object)
    return Rows(
        X=np.zeros((len(y), 2), np.float32),
        y=y,
        split=np.array([split] * len(y) if isinstance(split, str) else split, dtype=object),
        paths=np.array([f"{i}.png" for i in range(len(y))], dtype=object),
        groups=groups,
        weights=weights,
    )


def store_of(tree, tmp_path, **columns):
    table = featx.read_source(tree).table.assign(**columns)
    path = tmp_path / "s.h5"
    featx.extract_features(featx.Manifest(table, tree), path, layers="block1_conv1", **SMALL)
    return featx.open(path)


def test_every_row_is_in_its_split(small_store):
    with featx.open(small_store) as store:
        rows, notes = read_rows(store, ["block1_conv1"])
        images = store.images
        for split in ("train", "validation", "test"):
            expected = images[images["split"] == split]
            assert rows.paths[rows.of(split)].tolist() == expected["path"].tolist()
            assert rows.y[rows.of(split)].tolist() == expected["label"].tolist()
            assert np.array_equal(rows.X[rows.of(split)], store.matrix(["block1_conv1"], split=split))
    assert notes == []
    assert len(rows.of("train", "validation")) == 24


def test_rows_without_label_or_split_take_no_part(tree, tmp_path):
    labels = ["ash"] * 12 + ["birch"] * 10 + [""] * 8
    splits = [""] * 2 + ["train", "test"] * 14
    with store_of(tree, tmp_path, label=labels, split=splits) as store:
        rows, notes = read_rows(store, ["block1_conv1"])
        features = pd.DataFrame(store.matrix(), index=store.images["path"])
    assert (len(rows.of("train")), len(rows.of("validation")), len(rows.of("test"))) == (10, 0, 10)
    assert notes == ["8 images without a label are left out", "2 images without a split are left out"]
    assert np.array_equal(rows.X, features.loc[rows.paths].to_numpy())


def test_another_column_as_the_label_some_rows_and_weights(tree, tmp_path):
    n = np.arange(30)
    columns = {
        "split": "train",
        "p": np.where(n % 3 == 0, np.nan, n % 3),
        "type": np.where(n < 20, "mono", "poly"),
        "w": n / 2,
    }
    with store_of(tree, tmp_path, **columns) as store:
        rows, notes = read_rows(store, ["block1_conv1"], label="p", where='type == "mono"', sample_weight="w")
        assert set(rows.y) == {"1", "2"}
        assert rows.weights.tolist() == [row / 2 for row in range(20) if row % 3]
        assert notes == ['20 of 30 images are used: type == "mono"', "7 images without a label are left out"]
        with pytest.raises(FeatxError, match="no column 'kind'; there are path, label"):
            read_rows(store, ["block1_conv1"], label="kind")
        with pytest.raises(FeatxError, match=r"'type' of ash/000\.png is 'mono'; weights are numbers"):
            read_rows(store, ["block1_conv1"], sample_weight="type")
        with pytest.raises(FeatxError, match=r"'p' of ash/000\.png is nan; weights are numbers"):
            read_rows(store, ["block1_conv1"], sample_weight="p")


@pytest.mark.parametrize(
    ("value", "text"),
    [(20260131.0, "20260131"), (1e6, "1000000"), (-3.0, "-3"), (0.25, "0.25"), (np.nan, ""), (7, "7"), ("a", "a")],
)
def test_labels_that_are_numbers_keep_all_their_digits(value, text):
    assert as_label(value) == text


@pytest.mark.parametrize(
    ("columns", "message"), [({}, "no image has a split"), ({"label": ""}, "no image has a label")]
)
def test_a_store_with_nothing_to_fit_says_what_is_missing(tree, tmp_path, columns, message):
    with store_of(tree, tmp_path, **columns) as store, pytest.raises(FeatxError, match=message):
        read_rows(store, ["block1_conv1"])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("label == ''", "no image has a label in the column 'label' where label == '': .*, or use another `where`$"),
        ("split == ''", "no image has a split where split == '': .*, or use another `where`$"),
    ],
)
def test_rows_without_label_or_split_by_choice_are_not_the_stores_fault(tree, tmp_path, where, message):
    columns = {"label": ["ash"] * 20 + [""] * 10, "split": [""] * 10 + ["train"] * 20}
    with store_of(tree, tmp_path, **columns) as store, pytest.raises(FeatxError, match=message):
        read_rows(store, ["block1_conv1"], where=where)


def test_folds_are_stratified_and_keep_to_their_rows():
    rows = rows_of(["a"] * 20 + ["b"] * 10 + ["a"] * 9, split=["train"] * 30 + ["test"] * 9)
    scored = []
    for fit_rows, score_rows in make_folds(rows, rows.of("train"), 5, seed=0):
        assert (rows.y[score_rows] == "a").sum() == 4
        assert not set(fit_rows) & set(score_rows)
        scored += score_rows.tolist()
    assert sorted(scored) == list(range(30))


def test_folds_keep_groups_together():
    groups = np.repeat([f"g{i}" for i in range(10)], 3).astype(object)
    rows = rows_of(["a", "b", "a"] * 10, groups=groups)
    for fit_rows, score_rows in make_folds(rows, rows.of("train"), 5, seed=0):
        assert not set(groups[fit_rows]) & set(groups[score_rows])
    with pytest.raises(
        FeatxError, match=r"only 10 groups outside test, fewer than 11 folds. Give `cv` 10, or extract again"
    ):
        make_folds(rows, rows.of("train"), 11, seed=0)


def test_one_group_is_not_told_to_take_fewer_folds():
    rows = rows_of(["a", "b"] * 5, groups=np.full(10, "g", dtype=object))
    with pytest.raises(
        FeatxError, match=r"only 1 group outside test, fewer than 2 folds. Extract again with --group-column ''"
    ):
        make_folds(rows, np.arange(10), 2, seed=0)


def test_a_class_in_one_group_cannot_be_folded():
    groups = np.array(["g"] * 6 + [f"h{i}" for i in range(12)], dtype=object)
    # Fewer folds would not help.
    with pytest.raises(FeatxError, match=r"no row of the class 'rare' to fit on: .* with `where`, or extract"):
        make_folds(rows_of(["rare"] * 6 + ["a", "b"] * 6, groups=groups), np.arange(18), 3, seed=0)


def test_features_that_are_not_finite_name_their_image(small_store, tmp_path):
    path = tmp_path / "s.h5"
    path.write_bytes(small_store.read_bytes())
    with h5py.File(path, "a") as file:
        file["features/fc2"][5, 7] = np.nan
        name = file["images/path"].asstr()[5]
    with (
        featx.open(path) as store,
        pytest.raises(FeatxError, match=f"features of {name} are not finite: featx repair {path} "),
    ):
        read_rows(store, ["fc2"])


def test_splits_that_flatter_are_named():
    groups = np.array(["g", "h", "g", "h"], dtype=object)
    notes = notes_on_splits(rows_of(["a", "b", "a", "c"], ["train", "validation", "test", "test"], groups))
    assert "1 group has images in test and in train, the first is 'g': the test is easier" in notes[0]
    assert "1 group has images in test and in validation, the first is 'h': the test is easier" in notes[1]
    assert "1 test images have a label that no other image has" in notes[2]
    groups = np.array(["g", "g", "h"], dtype=object)
    (note,) = notes_on_splits(rows_of(["a", "b", "a"], ["train", "validation", "test"], groups))
    assert "1 group has images in validation and in train, the first is 'g': a choice by validation images" in note
    assert notes_on_splits(rows_of(["a", "b", "a"], ["train", "train", "test"])) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of(["a", "b"], "test"), r"no labelled train rows \(there are 'test'\)"),
        (rows_of(["a", "a", "b"], ["train", "train", "test"]), r"one class only \('a'\) in train"),
        (rows_of(["a", "b"], weights=np.zeros(2)), "weights of all train rows are 0"),
    ],
)
def test_rows_that_nothing_can_be_fitted_on(rows, message):
    with pytest.raises(FeatxError, match=message):
        check_splits("s.h5", rows)


@pytest.mark.parametrize("rows", [rows_of(["a", "b"], "test"), rows_of(["a", "a"])])
def test_rows_chosen_by_an_expression_may_be_chosen_otherwise(rows):
    with pytest.raises(FeatxError, match=r"train.* where n > 1\b.*, or use another `where`$"):
        check_splits("s.h5", rows, "n > 1")


class StoreOf:
    """A store's names alone."""

    path = "s.h5"

    def __init__(self, backbone, *layers):
        self.attributes = {"backbone": backbone}
        self.layers = list(layers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("block5_conv3", ["block5_conv3", "block5_conv3:max"]),
        ("block5_conv3:max", ["block5_conv3:max"]),
        ("fc1,block-ends", ["block4_conv3", "block5_conv3", "block5_conv3:max", "fc1"]),
        ("last,fc1", ["block5_conv3", "block5_conv3:max", "fc1"]),
        ("fc1,all", ["block4_conv3", "block5_conv3", "block5_conv3:max", "fc1"]),
        ("block-ends:avg", ["block4_conv3", "block5_conv3"]),
        ("last:max,fc1", ["block5_conv3:max", "fc1"]),
        ("all:max", ["block5_conv3:max"]),
        ("all:avg", ["block4_conv3", "block5_conv3", "fc1"]),
        ("block5_conv3:avg", ["block5_conv3"]),
    ],
)
def test_a_layer_stands_for_all_its_poolings(text, expected, monkeypatch):
    ends = tuple(layer for layer in BACKBONES["vgg16"].layer_sets["block-ends"] if layer >= "block4")
    monkeypatch.setitem(BACKBONES["vgg16"].layer_sets, "block-ends", ends)
    store = StoreOf("vgg16", "block4_conv3", "block5_conv3", "block5_conv3:max", "fc1")
    assert choose_stored_layers(store, text) == expected


@pytest.mark.parametrize(
    ("backbone", "stored", "text"),
    [
        ("resnet50", "conv5_block3_out", "last"),
        ("inception_v3", "activation_4", "activation_4"),
        ("convnext_tiny", "convnext_tiny_head_dense", "predictions"),
        ("googlenet", "pool5_7x7_s1", "pool5/7x7_s1"),
        ("googlenet", "inception_3a_1x1:std", "inception_3a/relu_1x1"),
    ],
)
def test_stores_of_every_backbone_know_its_sets_and_names(backbone, stored, text):
    assert choose_stored_layers(StoreOf(backbone, "other", stored), text) == [stored]


@pytest.mark.parametrize("text", ["block5_conv3:std", "block5", "block9", "", "last:max"])
def test_what_a_store_lacks_is_said(text):
    with pytest.raises(FeatxError, match=r"s\.h5: no layer '.*' in this store; it has block5_conv3"):
        choose_stored_layers(StoreOf("vgg16", "block5_conv3"), text)


@pytest.mark.parametrize("backbone", [None, "lenet"])
def test_layers_of_a_backbone_that_nobody_knows(backbone):
    store = StoreOf(backbone, "conv1", "conv2")
    with pytest.raises(
        FeatxError, match=f"the attribute backbone is {backbone!r}, expected one of vgg16, .* without `layers`"
    ):
        choose_stored_layers(store, "conv1")
    assert choose_stored_layers(store, "all") == ["conv1", "conv2"]


def test_a_pooling_that_no_layer_has_is_said():
    with pytest.raises(FeatxError, match=r"s\.h5: no layer has the pooling 'std'; the store has block5_conv3"):
        choose_stored_layers(StoreOf("vgg16", "block5_conv3"), "all:std")


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (["train", "test", "test", "train"], ["2 test images are identical to train images, the first is 1.png (to 0"]),
        (
            ["train", "validation", "test", "train"],
            [
                "1 test image is identical to train images, the first is 2.png (to 0.png)",
                "1 test image is identical to validation images, the first is 2.png (to 1.png)",
                "1 validation image is identical to train images, the first is 1.png (to 0.png)",
            ],
        ),
        (
            ["train", "validation", "train", "test"],
            ["1 validation image is identical to train images, the first is 1.png (to 0.png)"],
        ),
        (["train", "train", "train", "test"], []),
        (["test", "test", "test", "train"], []),
    ],
)
def test_files_in_two_splits_are_said(split, told):
    rows = replace(rows_of(["a", "a", "a", "a"], split), digests=np.array(["1", "1", "1", "2"], dtype=object))
    notes = notes_on_splits(rows)
    assert [note[: len(start)] for note, start in zip(notes, told, strict=True)] == told
    assert all("one group (group_column), or leave them out" in note for note in notes)


def test_files_that_random_splits_may_part_are_told():
    rows = replace(rows_of(["a", "a", "a", "b"]), digests=np.array(["1", "1", "1", "2"], dtype=object))
    assert "3 images are identical to others" in notes_on_identical(rows)[0]
    assert notes_on_identical(replace(rows, groups=np.array(["g", "g", "g", "h"], dtype=object))) == []
    assert "3 images are" in notes_on_identical(replace(rows, groups=np.array(["g", "g", "h", "h"], dtype=object)))[0]
    assert notes_on_identical(replace(rows, digests=None)) == []


def test_rows_know_their_files(small_store):
    with featx.open(small_store) as store:
        rows, _ = read_rows(store, ["block1_conv1"])
        digests = store.images.set_index("path")["sha256"]
    assert rows.digests.tolist() == digests.loc[rows.paths].tolist()
