"""The labelled rows of a store, split by split, and folds of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.errors import FeatxError
from featx.splits import group_of_each
from featx.store import Store


@dataclass(frozen=True)
class Rows:
    """The labelled rows of one split.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    y : ndarray of shape (n_rows,), str
    groups : ndarray of shape (n_rows,) or None
    paths : ndarray of shape (n_rows,), str
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray | None
    paths: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def join(self, other: "Rows") -> "Rows":
        """Return these rows, then the others."""
        if not len(other):
            return self
        groups = None if self.groups is None else np.concatenate([self.groups, other.groups])
        return Rows(
            X=np.concatenate([self.X, other.X]),
            y=np.concatenate([self.y, other.y]),
            groups=groups,
            paths=np.concatenate([self.paths, other.paths]),
        )


def read_rows(store: Store, layers: Sequence[str]) -> tuple[Rows, Rows, Rows, list[str]]:
    """Read train, validation and test rows; rows without label or split are left out and counted in a note."""
    images = store.images
    notes = []
    for column in ("label", "split"):
        n_without = int((images[column] == "").sum())
        if n_without == len(images):
            mend = "a CSV with a split column, or --split" if column == "split" else "class folders or a label column"
            raise FeatxError(f"{store.path}: no image has a {column}. Extract again with {mend}")
        if n_without:
            notes.append(f"{n_without:,} images without a {column} take no part")
    by_split = []
    for split in ("train", "validation", "test"):
        there = images["split"] == split
        labelled = (images["label"] != "")[there].to_numpy()
        rows = images[there & (images["label"] != "")]
        X = store.matrix(layers, split=split)[labelled] if there.any() else np.empty((0, 0), dtype=np.float32)
        by_split.append(
            Rows(
                X=X,
                y=rows["label"].to_numpy(dtype=object),
                groups=group_of_each(rows).to_numpy(dtype=object) if "group" in rows else None,
                paths=rows["path"].to_numpy(dtype=object),
            )
        )
    return (*by_split, notes)


def notes_on_splits(train: Rows, validation: Rows, test: Rows) -> list[str]:
    """Say what makes a test less telling than it looks: groups on both sides, labels never seen."""
    notes = []
    if train.groups is not None and len(test):
        n_shared = len({*train.groups, *(validation.groups if len(validation) else ())} & set(test.groups))
        if n_shared:
            notes.append(
                f"{n_shared:,} groups have images in test and outside it: the test is easier than new groups are"
            )
    n_unseen = int((~np.isin(test.y.astype(str), np.unique([*train.y, *validation.y]).astype(str))).sum())
    if n_unseen:
        notes.append(f"{n_unseen:,} test images have a label that no other image has: they count as wrong")
    return notes


def folds(known: Rows, cv: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (rows to fit, rows to score) of each fold: stratified, and grouped where there are groups."""
    if known.groups is None:
        splitter = StratifiedKFold(cv, shuffle=True, random_state=seed)
        return list(splitter.split(known.X, known.y))
    if len(set(known.groups)) < cv:
        raise FeatxError(f"--cv {cv}: only {len(set(known.groups))} groups outside test; use fewer folds")
    splitter = StratifiedGroupKFold(cv, shuffle=True, random_state=seed)
    return list(splitter.split(known.X, known.y, known.groups))
