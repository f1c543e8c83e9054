"""Split a table of images: by shares of each label, with groups kept together, or by a number of images per class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from featx.errors import SourceError
from featx.images.labels import as_labels, text_of
from featx.images.manifest import SPLITS, Manifest

_MOST_PASSES = 20


def make_splits(
    manifest: Manifest, fractions: Sequence[float], *, seed: int = 0, stratify: str | Sequence[str] = ()
) -> Manifest:
    """Divide the images into train, validation and test.

    Every split keeps the labels' shares. Where the manifest has a `group` column, no group is on two sides; the
    fractions are then met as closely as whole groups allow, and a note says by how much they are missed.

    Parameters
    ----------
    manifest : Manifest
        Images with labels and without splits.
    fractions : sequence of 2 or 3 floats
        Shares of train and test, or of train, validation and test; they add up to 1.
    seed : int, default 0
        The same seed gives the same splits.
    stratify : str or sequence of str, optional
        Further columns whose shares are kept too, like the label's.

    Returns
    -------
    Manifest
        With its `split` column filled.

    Raises
    ------
    SourceError
        If a class can't be on every side, or the source brings its own splits.
    """
    stratify = [stratify] if isinstance(stratify, str) else stratify
    names = _name_parts(fractions)
    shares = {name: share for name, share in zip(names, fractions, strict=True) if share > 0}
    _check_divisible(manifest, shares, stratify)
    table = manifest.table
    strata = table[["label", *stratify]].map(text_of).agg("\0".join, axis=1)
    if "group" not in table:
        parts = _divide_rows(strata, shares, seed)
        _check_every_class_everywhere(table["label"], parts, shares, has_groups=False)
        return replace(manifest, table=table.assign(split=parts))
    parts = divide_groups(strata, group_of_each(table), shares, seed, classes=table["label"])
    _check_every_class_everywhere(table["label"], parts, shares, has_groups=True)
    return replace(manifest, table=table.assign(split=parts), notes=(*manifest.notes, *_notes_on_shares(parts, shares)))


def make_count_splits(manifest: Manifest, *, train: int, validation: int = 0, seed: int = 0) -> Manifest:
    """Draw a number of train and validation images per class; all others are test images.

    Parameters
    ----------
    manifest : Manifest
        Images with labels, without splits, and without groups of several images.
    train : int
        Train images per class.
    validation : int, default 0
        Validation images per class.
    seed : int, default 0
        The same seed gives the same splits.

    Returns
    -------
    Manifest
        With its `split` column filled.

    Raises
    ------
    SourceError
        If a class has no image left to test on, images have groups or no label, or the source brings its own splits.

    Examples
    --------
    >>> table = pd.DataFrame({"path": [f"{n}.png" for n in range(9)], "label": [*"aaaaabbbb"], "split": ""})
    >>> table = make_count_splits(Manifest(table, "."), train=2, validation=1).table
    >>> pd.crosstab(table["label"], table["split"]).loc["a"].to_dict()
    {'test': 2, 'train': 2, 'validation': 1}
    """
    if train < 1 or validation < 0:
        raise SourceError(
            f"expected 1 or more train images per class and 0 or more for validation, found {train} and {validation}",
            parameter="split_per_class",
        )
    _check_labelled(manifest)
    if "group" in manifest.table and group_of_each(manifest.table).duplicated().any():
        raise SourceError(
            "the images have groups, which stay together, so that a class can't have a given number of train images: "
            "give shares instead (`split` 0.6,0.2,0.2), or, for a CSV, leave the groups out (`group_column` '')"
        )
    labels = manifest.table["label"].to_numpy()
    order = draw_by_class(labels, seed)
    parts = np.full(len(labels), "test", dtype=object)
    for label, rows in order.items():
        if len(rows) <= train + validation:
            raise SourceError(
                f"the class {label!r} has {len(rows)} images, and {train} train and {validation} validation images per "
                "class leave none of it to test on: add to it, leave it out, or take fewer"
            )
        parts[rows[:train]] = "train"
        parts[rows[train : train + validation]] = "validation"
    return replace(manifest, table=manifest.table.assign(split=parts))


def draw_by_class(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return each class's rows in random order, classes sorted.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,), str
    seed : int
        The same seed gives the same order.

    Examples
    --------
    >>> {label: sorted(rows.tolist()) for label, rows in draw_by_class(np.array(["b", "a", "b"]), 0).items()}
    {'a': [1], 'b': [0, 2]}
    """
    rng = np.random.default_rng(seed)
    return {str(label): rng.permutation(np.flatnonzero(labels == label)) for label in sorted(set(labels))}


def group_of_each(table: pd.DataFrame) -> pd.Series:
    """Return the group of each image; one without a group belongs with no other."""
    groups = as_labels(table["group"])
    return groups.where(groups != "", "\0" + table["path"])


def _name_parts(fractions: Sequence[float]) -> tuple[str, ...]:
    if len(fractions) not in (2, 3) or min(fractions) < 0 or not np.isclose(sum(fractions), 1.0):
        raise SourceError(
            "expected two shares (train,test) or three (train,validation,test) that add up to 1, found "
            f"{','.join(f'{share:g}' for share in fractions)}",
            parameter="split",
        )
    names = SPLITS if len(fractions) == 3 else (SPLITS[0], SPLITS[2])
    if fractions[0] == 0:
        raise SourceError("the share of train is 0, and nothing can be fitted without train images", parameter="split")
    return names


def _check_labelled(manifest: Manifest) -> None:
    if manifest.has_splits:
        raise SourceError(
            "the source brings its own splits: leave `split` or `split_per_class` out, or, for a CSV, give "
            "`split_column` '' to leave out the source's"
        )
    if n_unlabelled := int((manifest.table["label"] == "").sum()):
        images = "1 image has" if n_unlabelled == 1 else f"{n_unlabelled:,} images have"
        raise SourceError(f"{images} no label, and a split goes by labels: label every image first")


def _check_divisible(manifest: Manifest, shares: dict[str, float], stratify: Sequence[str]) -> None:
    table = manifest.table
    _check_labelled(manifest)
    missing = [name for name in stratify if name not in table]
    if "group" in stratify:
        raise SourceError("the column 'group' can't be stratified by: a group is on one side only")
    if missing:
        raise SourceError(f"no column {missing[0]!r} to stratify by; there are {', '.join(table.columns)}")
    if "group" in table:
        members = group_of_each(table).groupby(table["label"]).nunique()
    else:
        members = table["label"].value_counts()
    small = members[members < len(shares)].sort_values()
    if len(small):
        what = "groups" if "group" in table else "images"
        raise SourceError(
            f"the class {small.index[0]!r} has {small.iloc[0]} {what}, fewer than the {len(shares)} splits asked for "
            f"({', '.join(shares)}); {len(small)} classes are so small. Add to them or leave them out"
        )


def _divide_rows(strata: pd.Series, shares: dict[str, float], seed: int) -> np.ndarray:
    """Cut one share after another off the rest, each stratified."""
    from sklearn.model_selection import train_test_split

    parts = np.full(len(strata), next(iter(shares)), dtype=object)
    rest, left = np.arange(len(strata)), 1.0
    for name, share in list(shares.items())[:0:-1]:
        try:
            rest, cut = train_test_split(rest, test_size=share / left, random_state=seed, stratify=strata.iloc[rest])
        except ValueError as error:
            raise SourceError(
                f"the images can't be divided into {', '.join(shares)}: {say_why(strata.iloc[rest], error)}. Stratify "
                "by fewer columns, add images, or choose larger shares for the smaller splits"
            ) from error
        parts[cut] = name
        left -= share
    return parts


def say_why(strata: pd.Series, error: ValueError) -> str:
    """Return why scikit-learn can't divide rows; where some are the only ones of their kind, without naming them all.

    Examples
    --------
    >>> say_why(pd.Series(["ash", "ash", "birch"]), ValueError("..."))
    "1 of 2 kinds to stratify by have one image alone, such as 'birch'"
    """
    counts = strata.value_counts(sort=False)
    alone = counts.index[counts == 1]
    if not len(alone):
        return str(error).rstrip(".")
    first = str(alone[0]).replace("\0", " / ")
    return f"{len(alone):,} of {len(counts):,} kinds to stratify by have one image alone, such as {first!r}"


def divide_groups(
    strata: pd.Series, groups: pd.Series, shares: dict[str, float], seed: int, *, classes: pd.Series
) -> np.ndarray:
    """Assign each group to the split that it brings closest to its shares, until none fits better elsewhere.

    The first order (by the spread of a group's counts, ties at random) is that of scikit-learn's
    `StratifiedGroupKFold`, which divides into equal folds only. Where that leaves a class out of a split, and another
    division doesn't, groups are moved.
    """
    counts = pd.crosstab(groups, strata)
    counts = counts.iloc[np.random.default_rng(seed).permutation(len(counts))]
    counts = counts.iloc[np.argsort(-counts.to_numpy().std(axis=1), kind="stable")]
    # In units of each stratum's size, so that a rare one weighs as much as a frequent one.
    weights = counts.to_numpy() / counts.to_numpy().sum(axis=0)
    lag = np.repeat(np.array(list(shares.values()))[:, None], weights.shape[1], axis=1)
    parts = np.full(len(counts), -1)
    for _ in range(_MOST_PASSES):
        before = parts.copy()
        for group, weight in enumerate(weights):
            if parts[group] >= 0:
                lag[parts[group]] += weight
            # What is left of the squared lags, split by split, if the group went there.
            parts[group] = np.argmin((((lag - weight) ** 2) - lag**2).sum(axis=1))
            lag[parts[group]] -= weight
        if (parts == before).all():
            break
    has_class = pd.crosstab(groups, classes).loc[counts.index].to_numpy() > 0
    parts = _put_classes_everywhere(parts, has_class, weights, lag)
    names = np.array(list(shares), dtype=object)
    return groups.map(dict(zip(counts.index, names[parts], strict=True))).to_numpy(dtype=object)


def _put_classes_everywhere(
    parts: np.ndarray, has_class: np.ndarray, weights: np.ndarray, lag: np.ndarray
) -> np.ndarray:
    """Move groups, at the least cost in squared lags, so that every class that has enough groups is in every split."""
    n_groups, n_splits = len(parts), len(lag)
    has_class = has_class[:, has_class.sum(axis=0) >= n_splits]
    if all(has_class[parts == split].any(axis=0).all() for split in range(n_splits)):
        return parts
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    stays = np.eye(n_splits, dtype=bool)[parts]
    # Squared lags if this group alone went from its split to another.
    leave = (((lag[parts] + weights) ** 2) - lag[parts] ** 2).sum(axis=1)
    enter = (weights**2).sum(axis=1)[:, None] - 2 * weights @ lag.T
    cost = np.where(stays, 0, leave[:, None] + enter)
    one_split_each = LinearConstraint(sparse.kron(sparse.eye_array(n_groups), np.ones((1, n_splits))), 1, 1)
    all_classes = LinearConstraint(
        sparse.kron(sparse.csr_array(has_class.T.astype(float)), sparse.eye_array(n_splits)), 1
    )
    found = milp(cost.ravel(), integrality=1, bounds=Bounds(0, 1), constraints=[one_split_each, all_classes])
    return parts if found.x is None else found.x.reshape(n_groups, n_splits).argmax(axis=1)


def _notes_on_shares(parts: np.ndarray, shares: dict[str, float]) -> list[str]:
    """Format by how much whole groups miss the shares, if by more than 2% of the images, and more than one image."""
    found = {name: int((parts == name).sum()) for name in shares}
    if all(abs(found[name] - share * len(parts)) <= max(1, 0.02 * len(parts)) for name, share in shares.items()):
        return []
    found_and_wanted = ", ".join(
        f"{found[name]:,} {name} images ({found[name] / len(parts):.1%}, {share:.0%} asked for)"
        for name, share in shares.items()
    )
    return [f"whole groups miss the shares: {found_and_wanted}"]


def _check_every_class_everywhere(
    labels: pd.Series, parts: np.ndarray, shares: dict[str, float], *, has_groups: bool
) -> None:
    counts = pd.crosstab(labels, parts).reindex(columns=list(shares), fill_value=0)
    for name in shares:
        absent = counts.index[counts[name] == 0]
        if not len(absent):
            continue
        of_class = f"the class {absent[0]!r} ({int(counts.loc[absent[0]].sum())} images) has no image in {name}"
        if has_groups:
            raise SourceError(
                f"{of_class}, and no division of whole groups puts every class into {', '.join(shares)}: add images "
                "of other groups to it, leave it out, or make smaller groups"
            )
        raise SourceError(
            f"{of_class} at these shares: add images to it, or choose larger shares for the smaller splits"
        )
