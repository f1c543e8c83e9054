"""Splits keep shares and groups."""

import hashlib
from itertools import product

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featx import FeatxError, Manifest, make_count_splits, make_splits
from featx.cli import main
from featx.fit.splits import draw_holdout
from featx.store import Rows


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
    with pytest.raises(FeatxError, match=r"brings its own splits.* `split_column` ''"):
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


def test_groups_of_one_image_each_leave_counts_as_they_are():
    table = make_count_splits(manifest_of(["a", "b"] * 9, group=["", "x"] + [""] * 16), train=5).table
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
        (["a", "b"] * 9, (0, 2), {}, "expected 1 or more train images"),
        (["a", "b"] * 9, (2, -1), {}, "0 or more for validation"),
        (["a"] * 9 + [""], (2, 0), {}, "1 image has no label"),
        (["a", "b"] * 9, (2, 0), {"group": ["g"] * 18}, r"have groups.*`split` 0\.6,0\.2,0\.2.*`group_column` ''"),
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


def three_groups_each(*labels, size=10):
    """Every class has three groups of the same size."""
    names = np.repeat([f"{label}{number}" for label in labels for number in range(3)], size)
    return manifest_of([name[0] for name in names], group=names)


@pytest.mark.parametrize("seed", range(3))
def test_three_groups_of_a_class_are_one_in_each_split(seed):
    table = make_splits(three_groups_each(*"abcd"), (0.6, 0.2, 0.2), seed=seed).table
    assert (pd.crosstab(table["label"], table["split"]) == 10).all(axis=None)
    assert table.groupby("group")["split"].nunique().max() == 1


def test_a_division_with_every_class_everywhere_is_found_where_there_is_one():
    n_found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n_rows = int(rng.integers(9, 25))
        manifest = manifest_of(rng.choice([*"abc"], n_rows), group=rng.integers(0, 6, n_rows).astype(str))
        has_class = pd.crosstab(manifest.table["group"], manifest.table["label"]).to_numpy() > 0
        divisions = (np.array(parts) for parts in product(range(3), repeat=len(has_class)))
        if any(all(has_class[parts == part].any(axis=0).all() for part in range(3)) for parts in divisions):
            table = make_splits(manifest, (0.6, 0.2, 0.2), seed=seed).table
            assert (pd.crosstab(table["label"], table["split"]) > 0).all(axis=None)
            n_found += 1
    assert n_found > 15


def test_groups_that_no_division_serves_are_refused():
    """a and b have groups 1 and 2 in common, so that 3 and 4 would be in the same split, and c has these two."""
    manifest = manifest_of([*"aaabbbccc"], group=[*"123124134"])
    with pytest.raises(FeatxError, match="and no division of whole groups puts every class into train, validation, te"):
        make_splits(manifest, (0.6, 0.2, 0.2))


def test_a_rare_class_of_few_groups_is_in_both_sides_of_a_random_split():
    y = np.array(["a"] * 40 + ["b"] * 10, dtype=object)
    groups = np.array([f"g{row // 4}" for row in range(40)] + ["h"] * 9 + ["i"], dtype=object)
    rows = Rows(np.zeros((50, 1)), y, np.full(50, ""), np.arange(50).astype(str), groups)
    for seed in range(5):
        train, test = draw_holdout(rows, y, 0.02, seed)
        assert set(y[train]) == set(y[test]) == {"a", "b"}


def test_shares_that_whole_groups_miss_are_said():
    groups = ["big"] * 415 + [f"g{number % 9}" for number in range(65)]
    manifest = make_splits(manifest_of(np.tile([*"ab"], 240), group=groups), (0.6, 0.2, 0.2))
    counts = manifest.table["split"].value_counts()
    assert counts["train"] == 415
    (note,) = manifest.notes
    assert note.startswith("whole groups miss the shares: 415 train images (86.5%, 60% asked for), ")
    assert f"{counts['test']} test images ({counts['test'] / 480:.1%}, 20% asked for)" in note
    assert make_splits(three_groups_each(*"ab"), (1 / 3, 1 / 3, 1 / 3)).notes == ()
    # Images without groups are a row off at most.
    assert make_splits(manifest_of(np.tile([*"ab"], 11)), (0.6, 0.2, 0.2)).notes == ()


def test_the_command_says_by_how_much_shares_are_missed(tmp_path):
    rows = [f"{row}.png,{'ab'[row % 2]},{'big' if row < 80 else f'g{row // 4}'}" for row in range(100)]
    (tmp_path / "photos.csv").write_text("\n".join(["path,label,group", *rows]), encoding="utf-8")
    arguments = ["extract", str(tmp_path / "photos.csv"), "-o", str(tmp_path / "s.h5"), "--split", "0.6,0.2,0.2"]
    # Splits are made before weights are looked for.
    found = CliRunner().invoke(main, [*arguments, "--weights", "none.h5"])
    assert "whole groups miss the shares: 80 train images (80.0%, 60% asked for), " in found.stderr


def mixed_table(seed, n_groups):
    rng = np.random.default_rng(seed)
    manifest = manifest_of(rng.choice([*"abc"], 240, p=[0.6, 0.3, 0.1]))
    return manifest.table.assign(group=rng.integers(0, n_groups, 240).astype(str)) if n_groups else manifest.table


@pytest.mark.parametrize(
    ("n_groups", "of_splits", "of_draws"),
    [
        (0, "931a678d337967bb", "49d173b1d819bd2d"),
        (15, "8e0341c35aec16f1", "f75565dfc6ac319a"),
        (60, "0ab15fca7abd430e", "869da724f79ce26a"),
    ],
)
def test_splits_that_studies_were_made_with_stay_as_they_were(n_groups, of_splits, of_draws):
    """By digests of the splits that featx 0.1.0 made before groups were moved for the sake of rare classes."""

    def digest(parts):
        return hashlib.sha256(" ".join(map(str, np.concatenate(parts))).encode()).hexdigest()[:16]

    tables = [mixed_table(seed, n_groups) for seed in range(4)]
    both = ((0.6, 0.2, 0.2), (0.75, 0.25))
    made = [
        make_splits(Manifest(table, "."), shares, seed=seed).table["split"]
        for seed, table in enumerate(tables)
        for shares in both
    ]
    assert digest(made) == of_splits
    drawn = []
    for seed, table in enumerate(tables):
        y, groups = table["label"].to_numpy(object), table["group"].to_numpy(object) if n_groups else None
        drawn += draw_holdout(Rows(np.zeros((240, 1)), y, y, table["path"].to_numpy(object), groups), y, 0.25, seed)
    assert digest(drawn) == of_draws
