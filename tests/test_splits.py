"""Splits keep shares and groups."""

import numpy as np
import pandas as pd
import pytest

from featx import FeatxError, Manifest, make_count_splits, make_splits


def manifest_of(labels, **columns):
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(labels))], "label": labels, "split": "", **columns})
    return Manifest(table, root=".")


def test_labels_keep_their_shares_in_every_split():
    labels = np.repeat(["a", "b", "c"], [100, 50, 30])
    table = make_splits(manifest_of(labels), (0.6, 0.2, 0.2)).table
    assert pd.crosstab(table["label"], table["split"]).loc["a"].to_dict() == {"test": 20, "train": 60, "validation": 20}
    assert pd.crosstab(table["label"], table["split"]).loc["c"].to_dict() == {"test": 6, "train": 18, "validation": 6}


def test_further_columns_keep_their_shares():
    labels = np.tile(["a", "b"], 100)
    kinds = np.repeat(["mono", "poly"], [40, 160])
    table = make_splits(manifest_of(labels, type=kinds), (0.75, 0.25), stratify=["type"]).table
    counts = table.groupby(["split", "label", "type"]).size()
    assert counts["test"].to_dict() == {("a", "mono"): 5, ("a", "poly"): 20, ("b", "mono"): 5, ("b", "poly"): 20}


def test_the_seed_decides():
    manifest = manifest_of(np.tile(["a", "b"], 50))
    first, again, other = (make_splits(manifest, (0.5, 0.5), seed=seed).table["split"] for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_two_sides(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 600).astype(str)
    labels = np.where(rng.random(600) < 0.3, "rare", "common")
    table = make_splits(manifest_of(labels, group=groups), (0.6, 0.2, 0.2), seed=seed).table
    assert table.groupby("group")["split"].nunique().max() == 1
    shares = table["split"].value_counts(normalize=True)
    assert abs(shares["train"] - 0.6) < 0.05
    rare = table[table["label"] == "rare"]["split"].value_counts(normalize=True)
    assert abs(rare["test"] - 0.2) < 0.07


def test_images_without_a_group_do_not_stick_together():
    groups = [""] * 40
    table = make_splits(manifest_of(np.tile(["a", "b"], 20), group=groups), (0.5, 0.5)).table
    assert table["split"].value_counts().to_dict() == {"train": 20, "test": 20}


@pytest.mark.parametrize(
    ("labels", "fractions", "columns", "message"),
    [
        (["a"] * 9 + ["b"], (0.6, 0.2, 0.2), {}, "the class 'b' has 1 images, fewer than the 3 splits"),
        (["a"] * 9 + ["b"] * 9, (0.6, 0.2), {}, "add up to 1"),
        (["a"] * 9 + ["b"] * 9, (0.5, 0.2, 0.2, 0.1), {}, "two shares"),
        (["a"] * 9 + ["b"] * 9, (0.0, 0.5, 0.5), {}, "share of train is 0"),
        (["a"] * 9 + [""], (0.5, 0.5), {}, "1 image has no label"),
        (["a"] * 9 + ["b"] * 9, (0.5, 0.5), {"group": ["g"] * 9 + ["h"] * 9}, "has 1 groups"),
    ],
)
def test_splits_that_cannot_be_made(labels, fractions, columns, message):
    with pytest.raises(FeatxError, match=message):
        make_splits(manifest_of(labels, **columns), fractions)


def test_groups_keep_the_shares_of_further_columns():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 80, 800).astype(str)
    kinds = np.where(rng.random(800) < 0.5, "mono", "poly")
    manifest = manifest_of(np.tile(["a", "b"], 400), group=groups, type=kinds)
    table = make_splits(manifest, (0.7, 0.3), stratify=["type"]).table
    shares = pd.crosstab([table["label"], table["type"]], table["split"], normalize="index")["test"]
    assert (shares - 0.3).abs().max() < 0.05
    with pytest.raises(FeatxError, match="'group' can't be stratified by"):
        make_splits(manifest, (0.7, 0.3), stratify=["group"])


def test_an_unknown_column_to_stratify_by():
    with pytest.raises(FeatxError, match="no column 'kind'"):
        make_splits(manifest_of(["a", "b"] * 9), (0.5, 0.5), stratify=["kind"])


def test_kinds_of_one_image_are_counted_and_not_listed():
    manifest = manifest_of(["a", "b"] * 900, year=[*range(1800)])
    with pytest.raises(FeatxError, match=r"1,800 of 1,800 kinds .* such as 'a / 0'\. Stratify by fewer") as raised:
        make_splits(manifest, (0.5, 0.5), stratify=["year"])
    assert len(str(raised.value)) < 300


def test_a_class_too_small_for_a_share_is_named():
    with pytest.raises(FeatxError, match="'b'"):
        make_splits(manifest_of(["a"] * 97 + ["b"] * 3), (0.9, 0.05, 0.05))


def test_splits_of_the_source_are_not_overruled():
    manifest = manifest_of(["a", "b"] * 5)
    manifest.table["split"] = "train"
    with pytest.raises(FeatxError, match=r"brings its own splits.* --split-column '' .*source\.split_column: ''"):
        make_splits(manifest, (0.5, 0.5))


def test_so_many_images_a_class_and_the_rest_to_test_on():
    manifest = manifest_of(np.repeat(["a", "b", "c"], [100, 50, 11]))
    table = make_count_splits(manifest, train=8, validation=2, seed=3).table
    counts = pd.crosstab(table["label"], table["split"])
    assert counts["train"].to_dict() == {"a": 8, "b": 8, "c": 8}
    assert counts["validation"].to_dict() == {"a": 2, "b": 2, "c": 2}
    assert counts["test"].to_dict() == {"a": 90, "b": 40, "c": 1}
    assert (manifest.table["split"] == "").all()


def test_counts_without_validation_images():
    table = make_count_splits(manifest_of(["a", "b"] * 9), train=5).table
    assert table["split"].value_counts().to_dict() == {"train": 10, "test": 8}


def test_counts_are_drawn_by_the_seed():
    manifest = manifest_of(np.tile(["a", "b"], 50))
    first, again, other = (make_count_splits(manifest, train=25, seed=seed).table["split"] for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)
    # Drawn, not the first of each class.
    assert set(first[:50]) == {"train", "test"}


@pytest.mark.parametrize(
    ("labels", "counts", "columns", "message"),
    [
        (["a"] * 9 + ["b"] * 5, (3, 2), {}, "the class 'b' has 5 images, and 3 train and 2 validation"),
        (["a", "b"] * 9, (0, 2), {}, "1 or more of train"),
        (["a", "b"] * 9, (2, -1), {}, "0 or more of validation"),
        (["a"] * 9 + [""], (2, 0), {}, "1 image has no label"),
        (["a", "b"] * 9, (2, 0), {"group": ["g"] * 18}, r"have groups.*--split 0\.6,0\.2,0\.2;.*--group-column ''"),
    ],
)
def test_counts_that_cannot_be_drawn(labels, counts, columns, message):
    with pytest.raises(FeatxError, match=message):
        make_count_splits(manifest_of(labels, **columns), train=counts[0], validation=counts[1])


def test_counts_do_not_overrule_splits_of_the_source():
    manifest = manifest_of(["a", "b"] * 5)
    manifest.table["split"] = "train"
    with pytest.raises(FeatxError, match="brings its own splits"):
        make_count_splits(manifest, train=2)
