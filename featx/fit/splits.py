"""Draw random splits of a store's rows, and make folds of them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from featx.errors import FeatxError
from featx.images import divide_groups, draw_by_class, text_of
from featx.store import WITHOUT_GROUPS, Fold, Rows, Store, digest_rows
from featx.system import sha256_of

# Separates the values of a row's stratum; no text of a store contains it.
_BETWEEN = "\0"


def read_strata(store: Store, rows: Rows, stratify: Sequence[str], label: str) -> np.ndarray | None:
    """Return the stratum of each row: its values of the columns whose shares are kept.

    Parameters
    ----------
    store : Store
    rows : Rows
    stratify : sequence of str
        Columns of the store; `label` stands for the column of the labels.
    label : str
        That column.

    Returns
    -------
    ndarray of shape (n_rows,), str, or None
        None without columns.

    Raises
    ------
    FeatxError
        If a column does not exist, or is the group column.
    """
    if not stratify:
        return None
    if "group" in stratify:
        raise FeatxError(
            "the column 'group' can't be used: a group is in train or in test as a whole. Name other columns, or none",
            parameter="stratify",
        )
    images = store.images.set_index("path")
    missing = [column for column in stratify if column not in images and column != "label"]
    if missing:
        raise FeatxError(
            f"{store.path}: no column {missing[0]!r}; there are {', '.join(images.columns)}", parameter="stratify"
        )
    columns = [rows.y if column == "label" else images.loc[rows.paths, column].to_numpy() for column in stratify]
    return np.array([_BETWEEN.join(map(text_of, values)) for values in zip(*columns, strict=True)], dtype=object)


def draw_holdout(rows: Rows, strata: np.ndarray | None, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows at random: scikit-learn's `train_test_split`, or whole groups where there are groups."""
    everything = np.arange(len(rows))
    if rows.groups is not None:
        shares = {"train": 1 - test_share, "test": test_share}
        kept = rows.y if strata is None else strata
        parts = divide_groups(pd.Series(kept), pd.Series(rows.groups), shares, seed, classes=pd.Series(rows.y))
        train, test = everything[parts == "train"], everything[parts == "test"]
        if not len(train) or not len(test):
            raise FeatxError(
                f"seed {seed}: {_count_groups(rows)} can't be split, {test_share:g} for test: none is left to "
                f"{'test' if len(train) else 'train'} on. Give another `test_share`, or extract {WITHOUT_GROUPS}"
            )
    else:
        _check_strata(strata)
        try:
            train, test = train_test_split(everything, test_size=test_share, random_state=seed, stratify=strata)
        except ValueError as error:
            raise FeatxError(
                f"{len(rows):,} rows can't be split, {test_share:g} for test: {str(error).rstrip('.')}. Give another "
                "share, or no column to `stratify` by",
                parameter="test_share",
            ) from error
    _check_classes(rows, train, seed)
    return train, test


def _check_classes(rows: Rows, train: np.ndarray, seed: int) -> None:
    classes = sorted(set(rows.y[rows.with_weight(train)]))
    if len(classes) > 1:
        return
    is_by_weights = len(set(rows.y[train])) > 1
    of_weight = " of a weight over 0" if is_by_weights else ""
    remedy = (
        "Give rows of more classes a weight over 0"
        if is_by_weights
        else "Give a smaller `test_share`, add images, or `stratify` by label"
    )
    raise FeatxError(
        f"seed {seed}: {f'one class only ({classes[0]!r})' if classes else 'no row'} in the train rows{of_weight} of "
        f"this random split; a classifier needs two. {remedy}"
    )


def _count_groups(rows: Rows) -> str:
    n_groups = len(set(rows.groups))
    return f"{n_groups:,} group{'' if n_groups == 1 else 's'} of {len(rows):,} rows"


def _check_strata(strata: np.ndarray | None) -> None:
    """Raise an error for a row that is alone in its stratum; scikit-learn would name them all."""
    counts = pd.Series([] if strata is None else strata, dtype=object).value_counts()
    alone = sorted(counts.index[counts < 2])
    if alone:
        more = f", and the same is true of {len(alone) - 1:,} more" if len(alone) > 1 else ""
        raise FeatxError(
            f"only one row has {' and '.join(map(repr, alone[0].split(_BETWEEN)))}{more}, and a random split that "
            "keeps shares needs two. Add images, leave such rows out with `where`, or name fewer columns",
            parameter="stratify",
        )


def draw_per_class(rows: Rows, train_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a number of train rows of every class; all other rows are test rows."""
    if rows.groups is not None and len(set(rows.groups)) < len(rows):
        raise FeatxError(
            "the rows have groups, which stay together, so that a class can't have a given number of train rows: give "
            "`test_share` instead",
            parameter="train_per_class",
        )
    order = draw_by_class(rows.y.astype(str), seed)
    small = {label: len(numbers) for label, numbers in order.items() if len(numbers) <= train_per_class}
    if small:
        label = min(small, key=small.get)
        raise FeatxError(
            f"the class {label!r} has {small[label]} rows, and {train_per_class} train rows per class leave none of it "
            "to test on: leave the class out with `where`, or give a smaller number",
            parameter="train_per_class",
        )
    train = np.sort(np.concatenate([numbers[:train_per_class] for numbers in order.values()]))
    _check_classes(rows, train, seed)
    return train, np.setdiff1d(np.arange(len(rows)), train)


def digest_draws(rows: Rows, strata: np.ndarray | None) -> str:
    """Digest everything that random splits and their folds depend on, except shares and seeds.

    The rows' own splits are not part of it: stores of the same images with other splits, or none, give the same.
    """
    of_rows = digest_rows(replace(rows, split=np.full(len(rows), "", dtype=object)))
    kept = None if strata is None else strata.tolist()
    return sha256_of(f"{of_rows} {kept!r}".encode("utf-8", "backslashreplace"))


def make_folds(rows: Rows, known: np.ndarray, n_folds: int, *, seed: int, of: str | None = None) -> list[Fold]:
    """Divide rows into folds of (rows to fit, rows to score): stratified by label, and in whole groups if they exist.

    Parameters
    ----------
    rows : Rows
    known : ndarray of int
        Indices of the rows to divide.
    n_folds : int
    seed : int
    of : str, optional
        The random split whose train rows they are, for messages; default: they are all rows but the test rows.
    """
    where = "outside test" if of is None else f"to train on in {of}"
    if n_folds < 2:
        raise FeatxError(f"expected 2 folds or more, found {n_folds}", parameter="cv")
    y = rows.y[known].astype(str)
    groups = None if rows.groups is None else rows.groups[known].astype(str)
    if groups is not None and (n_groups := len(set(groups))) < n_folds:
        remedy = f"Give `cv` {n_groups}, or extract" if n_groups > 1 else "Extract"
        raise FeatxError(
            f"only {n_groups} group{'' if n_groups == 1 else 's'} {where}, fewer than {n_folds} folds. {remedy} "
            f"{WITHOUT_GROUPS}",
            parameter="cv",
        )
    counts = pd.Series(y).value_counts()
    if counts.min() < n_folds:
        fewest = counts.min()
        remedy = f"Give `cv` {fewest}, or leave" if fewest > 1 else "Add images of it, or leave"
        raise FeatxError(
            f"the class {counts.idxmin()!r} has {fewest} row{'' if fewest == 1 else 's'} {where}, fewer than {n_folds} "
            f"folds. {remedy} the class out with `where`{'' if of is None else '; a grid of one cell needs no folds'}",
            parameter="cv",
        )
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    pairs = splitter(n_folds, shuffle=True, random_state=seed).split(known, y, groups)
    folds = [(known[fit], known[score]) for fit, score in pairs]
    classes = set(rows.y[rows.with_weight(known)])
    for fit, _ in folds:
        missing = sorted(classes - set(rows.y[rows.with_weight(fit)]))
        if missing:
            few, remedy = "groups", f", or extract {WITHOUT_GROUPS}"
            if missing[0] in set(rows.y[fit]):
                few, remedy = "rows with a weight over 0", ", or give more of its rows a weight over 0"
            raise FeatxError(
                f"one fold of {n_folds} has no row of the class {missing[0]!r} to fit on: its {few} are too few. Leave "
                f"the class out with `where`{remedy}",
                parameter="cv",
            )
    return folds
