"""Random splits of a store's rows, for protocols that ask for several."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from featx.errors import FeatxError
from featx.rows import Rows, digest_rows
from featx.splits import divide_groups, draw_by_class, say_why
from featx.store import Store


def read_strata(store: Store, rows: Rows, stratify: Sequence[str], label: str) -> np.ndarray | None:
    """Return what each row is stratified by.

    Parameters
    ----------
    store : Store
    rows : Rows
    stratify : sequence of str
        Columns of the store; `label` is what is to be told, whichever column it comes from.
    label : str
        That column.

    Returns
    -------
    ndarray of shape (n_rows,), str, or None
        None where there is nothing to stratify by.

    Raises
    ------
    FeatxError
        If a column isn't there.
    """
    if not stratify:
        return None
    images = store.images.set_index("path")
    missing = [column for column in stratify if column not in images and column != "label"]
    if missing:
        raise FeatxError(
            f"{store.path}: no column {missing[0]!r} to stratify by; there are {', '.join(images.columns)}"
        )
    columns = [rows.y if column == "label" else images.loc[rows.paths, column].to_numpy() for column in stratify]
    return np.array(["\0".join(map(str, values)) for values in zip(*columns, strict=True)], dtype=object)


def draw_split(rows: Rows, strata: np.ndarray | None, test_share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows at random: scikit-learn's `train_test_split`, or whole groups where there are groups.

    Parameters
    ----------
    rows : Rows
    strata : ndarray of shape (n_rows,), str, or None
        See `read_strata`.
    test_share : float
    seed : int

    Returns
    -------
    train, test : ndarray of int
        Numbers of rows.

    Raises
    ------
    FeatxError
        If a stratum has too few rows, or there are too few for these shares.
    """
    everything = np.arange(len(rows))
    if rows.groups is not None:
        shares = {"train": 1 - test_share, "test": test_share}
        kept = rows.y if strata is None else strata
        parts = divide_groups(pd.Series(kept), pd.Series(rows.groups), shares, seed)
        return everything[parts == "train"], everything[parts == "test"]
    try:
        train, test = train_test_split(everything, test_size=test_share, random_state=seed, stratify=strata)
    except ValueError as error:
        why = str(error) if strata is None else say_why(pd.Series(strata), error)
        raise FeatxError(
            f"{len(rows):,} rows can't be split, {test_share:g} for test: {why}. Stratify by fewer columns "
            "(--stratify), leave out what is rare (--where), or take another --test-share"
        ) from error
    return train, test


def draw_per_class(rows: Rows, train_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw so many train rows of every class; all others are test rows.

    Parameters
    ----------
    rows : Rows
        Without groups.
    train_per_class : int
    seed : int

    Returns
    -------
    train, test : ndarray of int
        Numbers of rows, ascending.

    Raises
    ------
    FeatxError
        If a class has no row left to test on, or rows have groups.
    """
    if rows.groups is not None:
        raise FeatxError(
            "the rows have groups, which stay together, so that a class can't have a given number of train rows: give "
            "--test-share instead"
        )
    order = draw_by_class(rows.y.astype(str), seed)
    small = {label: len(numbers) for label, numbers in order.items() if len(numbers) <= train_per_class}
    if small:
        label = min(small, key=small.get)
        raise FeatxError(
            f"the class {label!r} has {small[label]} rows, and {train_per_class} train rows a class leave none of it "
            "to test on: leave it out (--where), or take fewer"
        )
    train = np.sort(np.concatenate([numbers[:train_per_class] for numbers in order.values()]))
    return train, np.setdiff1d(np.arange(len(rows)), train)


def digest_draws(rows: Rows, strata: np.ndarray | None) -> str:
    """Digest what `draw_split` and the folds of a split's train rows depend on, beside shares and seeds.

    The rows' own splits are none of that: stores of the same images with other splits, or none, draw the same.
    """
    of_rows = digest_rows(replace(rows, split=np.full(len(rows), "", dtype=object)))
    kept = None if strata is None else strata.tolist()
    return hashlib.sha256(f"{of_rows} {kept!r}".encode("utf-8", "backslashreplace")).hexdigest()
