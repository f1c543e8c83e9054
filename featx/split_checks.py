"""What is to be said of the splits of rows: what nothing can be fitted on, and what flatters."""

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.manifest import SPLITS
from featx.rows import Rows
from featx.where import told_with


def check_splits(store_path: object, rows: Rows, where: str | None = None) -> None:
    """Refuse rows that nothing can be fitted on.

    Parameters
    ----------
    store_path : path
        What a message begins with.
    rows : Rows
    where : str, optional
        What they were chosen by.

    Raises
    ------
    FeatxError
        If there are no train rows, or they are of one class.
    """
    so, other_rows = told_with(where)
    train = rows.of("train")
    if not len(train):
        there = ", ".join(sorted({repr(str(name)) for name in rows.split} & {repr(name) for name in SPLITS}))
        raise FeatxError(
            f"{store_path}: no labelled train rows{so} (there are {there}): extract again with --split "
            f"0.6,0.2,0.2, and --split-column '' where a CSV has splits of its own{other_rows}"
        )
    for split in SPLITS:
        if len(rows.of(split)) and rows.weights is not None and not rows.weights[rows.of(split)].any():
            raise FeatxError(f"{store_path}: the weights of all {split} rows are 0: give some a weight over 0")
    if len(set(rows.y[train])) < 2:
        raise FeatxError(
            f"{store_path}: one class only ({rows.y[train][0]!r}) in train{so}; a classifier needs two: name the "
            f"column that holds the labels with --label{other_rows}"
        )
    weighing = rows.weighing(train)
    if len(set(rows.y[weighing])) < 2:
        raise FeatxError(
            f"{store_path}: the train rows of a weight over 0 are all of one class ({rows.y[weighing][0]!r}){so}; a "
            f"classifier needs two: give rows of another class a weight over 0{other_rows}"
        )


def notes_on_splits(rows: Rows) -> list[str]:
    """Say what makes a test less telling than it looks: groups or files on both sides, labels never seen."""
    notes = []
    known, test = rows.of("train", "validation"), rows.of("test")
    if rows.groups is not None:
        n_shared = len(set(rows.groups[known]) & set(rows.groups[test]))
        if n_shared:
            notes.append(
                f"{n_shared:,} groups have images in test and outside it: the test is easier than new groups are"
            )
    if rows.digests is not None:
        n_same = int(np.isin(rows.digests[test].astype(str), rows.digests[known].astype(str)).sum())
        if n_same:
            images = "1 test image is" if n_same == 1 else f"{n_same:,} test images are"
            notes.append(f"{images} identical to images outside test: the test is easier than new images are")
    n_unseen = sum(label not in set(rows.y[known]) for label in rows.y[test])
    if n_unseen:
        notes.append(f"{n_unseen:,} test images have a label that no other image has: they count as wrong")
    return [*notes, *notes_on_weights(rows), *notes_on_lost_classes(rows, known, test, "test")]


def notes_on_weights(rows: Rows) -> list[str]:
    """Say how many rows weigh nothing."""
    n_without = len(rows) - len(rows.weighing(np.arange(len(rows))))
    if not n_without:
        return []
    return [f"{n_without:,} of {len(rows):,} images have the weight 0: nothing is fitted or scored on them"]


def notes_on_lost_classes(rows: Rows, fit: np.ndarray, score: np.ndarray, split: str) -> list[str]:
    """Name the classes whose rows to fit all weigh 0, so that no row can be given their label.

    Parameters
    ----------
    rows : Rows
    fit, score : ndarray of int
        The rows to fit, those of weight 0 among them, and the rows to score.
    split : str
        What the rows to score are called.
    """
    notes = []
    for label in sorted(set(rows.y[fit]) - set(rows.y[rows.weighing(fit)])):
        n_wrong = int((rows.y[rows.weighing(score)] == label).sum())
        images = "image counts" if n_wrong == 1 else "images count"
        wrong = f", and its {n_wrong:,} {split} {images} as wrong" if n_wrong else ""
        notes.append(f"all images of the class {label!r} to fit on have the weight 0: it can't be predicted{wrong}")
    return notes


def notes_on_identical(rows: Rows) -> list[str]:
    """Say whether a random split may put the same file on both sides, which groups would keep together."""
    if rows.digests is None:
        return []
    sides = np.arange(len(rows)) if rows.groups is None else rows.groups.astype(str)
    table = pd.DataFrame({"digest": rows.digests.astype(str), "side": sides})
    n_same = int((table.groupby("digest")["side"].transform("nunique") > 1).sum())
    if not n_same:
        return []
    return [
        f"{n_same:,} images are identical to others, from which a random split may part them: give them one group, or "
        "the test is easier than new images are"
    ]
