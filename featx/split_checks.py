"""What is to be said of the splits of rows: what nothing can be fitted on, and what flatters."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.manifest import SPLITS
from featx.rows import Fold, Rows
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
    if "train" in rows.emptied:
        raise FeatxError(
            f"{store_path}: no labelled train rows{so}: --drop-duplicates has left them all out, since their files are "
            f"identical to others: leave --drop-duplicates out, or divide the images again{other_rows}"
        )
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
    labels = rows.y[rows.with_weight(train)]
    if len(set(labels)) < 2:
        raise FeatxError(
            f"{store_path}: the train rows of a weight over 0 are all of one class ({labels[0]!r}){so}; a "
            f"classifier needs two: give rows of another class a weight over 0{other_rows}"
        )


def notes_on_splits(rows: Rows, folds: Sequence[Fold] = ()) -> list[str]:
    """Say what makes figures less telling than they look: groups or files in two splits, labels never seen.

    Parameters
    ----------
    rows : Rows
    folds : sequence of (rows to fit, rows to score)
        Of a choice by cross-validation, for which train and validation are the same; else none.
    """
    pairs = [("test", "train"), ("test", "validation"), *([] if folds else [("validation", "train")])]
    notes = []
    for these, those in pairs:
        notes += _notes_on_pair(rows, these, those)
    if folds and rows.digests is not None:
        parts = [rows.with_weight(scored) for _, scored in folds]
        known, fold_of = np.concatenate(parts), np.repeat(np.arange(len(folds)), [*map(len, parts)])
        parted, twin = _find_parted(rows, known, fold_of)
        if len(parted):
            notes.append(
                f"{_say_parted(rows, parted, twin)}, which are in another fold: a choice by folds favours models that "
                f"only remember images; {_REMEDY}"
            )
    notes += _notes_on_labels(rows)
    known, test = rows.of("train", "validation"), rows.with_weight(rows.of("test"))
    seen = set(rows.y[known])
    n_unseen = sum(label not in seen for label in rows.y[test])
    if n_unseen:
        notes.append(f"{n_unseen:,} test images have a label that no other image has: they count as wrong")
    return [*notes, *notes_on_weights(rows), *_notes_on_lost_classes(rows, known, test)]


def notes_on_weights(rows: Rows) -> list[str]:
    """Say how many rows weigh nothing."""
    n_without = len(rows) - len(rows.with_weight(np.arange(len(rows))))
    if not n_without:
        return []
    return [f"{n_without:,} of {len(rows):,} images have the weight 0: nothing is fitted or scored on them"]


def notes_on_choices(rows: Rows) -> list[str]:
    """Name the classes that no cell can predict as cells are compared on validation rows, though the last fit can."""
    train, validation = rows.of("train"), rows.with_weight(rows.of("validation"))
    notes = []
    for label in _find_lost(rows, train):
        n_wrong = int((rows.y[validation] == label).sum())
        # Without any, the class is lost to the last fit too, and is named there.
        if n_wrong:
            notes.append(
                f"all train images of the class {label!r} have the weight 0: while cells are compared, fitted on train "
                f"images, it can't be predicted, and its {n_wrong:,} validation {_count_as(n_wrong)} wrong"
            )
    return notes


def _notes_on_lost_classes(rows: Rows, known: np.ndarray, test: np.ndarray) -> list[str]:
    """Name the classes whose rows to fit all weigh 0, so that no row can be given their label."""
    notes = []
    for label in _find_lost(rows, known):
        n_wrong = int((rows.y[test] == label).sum())
        wrong = f", and its {n_wrong:,} test {_count_as(n_wrong)} wrong" if n_wrong else ""
        notes.append(f"all images of the class {label!r} to fit on have the weight 0: it can't be predicted{wrong}")
    return notes


def _find_lost(rows: Rows, fit: np.ndarray) -> list[str]:
    return sorted(set(rows.y[fit]) - set(rows.y[rows.with_weight(fit)]))


def _count_as(n_images: int) -> str:
    return "image counts as" if n_images == 1 else "images count as"


def notes_on_identical(rows: Rows) -> list[str]:
    """Say whether a random split or a fold may part identical files, which groups would keep together."""
    if rows.digests is None:
        return []
    everything = rows.with_weight(np.arange(len(rows)))
    parted, twin = _find_parted(rows, everything, everything if rows.groups is None else rows.groups[everything])
    if not len(parted):
        return _notes_on_labels(rows)
    return [
        f"{_say_parted(rows, parted, twin)}, from which random splits and folds may part them: tests are easier than "
        f"new images are, and choices favour models that only remember images; {_REMEDY}",
        *_notes_on_labels(rows),
    ]


def _notes_on_pair(rows: Rows, these: str, those: str) -> list[str]:
    """Say which images of a split are in another one as well, by their groups and their files."""
    easy = "the test is easier than new {} are"
    if these == "validation":
        easy = "a choice by validation images favours models that only remember {}"
    first, second = (rows.with_weight(rows.of(split)) for split in (these, those))
    notes = []
    if rows.groups is not None:
        shared = sorted(set(rows.groups[first]) & set(rows.groups[second]))
        if shared:
            groups = "1 group has" if len(shared) == 1 else f"{len(shared):,} groups have"
            notes.append(
                f"{groups} images in {these} and in {those}, the first is {shared[0]!r}: {easy.format('groups')}; "
                "let --split divide the images (--split-column '' where a CSV has splits of its own)"
            )
    if rows.digests is not None:
        same = first[np.isin(rows.digests[first].astype(str), rows.digests[second].astype(str))]
        if len(same):
            twin = second[rows.digests[second] == rows.digests[same[0]]][0]
            images = f"1 {these} image is" if len(same) == 1 else f"{len(same):,} {these} images are"
            notes.append(
                f"{images} identical to {those} images, the first is {rows.paths[same[0]]} (to {rows.paths[twin]}): "
                f"{easy.format('images')}; {_REMEDY}"
            )
    return notes


def _notes_on_labels(rows: Rows) -> list[str]:
    """Say whether identical files have several labels."""
    if rows.digests is None:
        return []
    everything = rows.with_weight(np.arange(len(rows)))
    parted, twin = _find_parted(rows, everything, rows.y[everything])
    if not len(parted):
        return []
    first = parted[0]
    return [
        f"{len(parted):,} images are identical to images of another label, the first is {rows.paths[first]} "
        f"({rows.y[first]!r}, and {rows.y[twin]!r} of {rows.paths[twin]}): at most one of the labels is right"
    ]


def _find_parted(rows: Rows, among: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Return the rows whose file is identical to one of another side, in order, and such a one of the first."""
    order = np.argsort(among)
    among, sides = among[order], sides[order].astype(str)
    digests = rows.digests[among].astype(str)
    n_sides = pd.Series(sides).groupby(digests).transform("nunique")
    places = np.flatnonzero(n_sides > 1)
    if not len(places):
        return among[:0], None
    twins = (digests == digests[places[0]]) & (sides != sides[places[0]])
    return among[places], int(among[twins][0])


def _say_parted(rows: Rows, parted: np.ndarray, twin: int) -> str:
    first = f"the first is {rows.paths[parted[0]]} (to {rows.paths[twin]})"
    return f"{len(parted):,} images are identical to others, {first}"


_REMEDY = "give identical images one group (--group-column), or leave them out with --drop-duplicates"
