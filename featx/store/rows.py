"""Read the labelled rows of a store, and note what their splits share or miss."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.images import SPLITS, as_labels, as_number, group_of_each, note_look_alikes
from featx.networks import BACKBONES, expand_layers, layer_of, name_features
from featx.store.reader import Store
from featx.store.settings import Settings
from featx.store.where import describe_where, select_rows

Fold = tuple[np.ndarray, np.ndarray]


# Only a CSV has groups. Features stay as they are.
WITHOUT_GROUPS = "again with --group-column '', so that there are no groups"


@dataclass(frozen=True)
class Rows:
    """The rows of a store that are used: those with a label and a split.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    y : ndarray of shape (n_rows,), str
    split : ndarray of shape (n_rows,), str
    paths : ndarray of shape (n_rows,), str
    groups : ndarray of shape (n_rows,), str, or None
    weights : ndarray of shape (n_rows,), float64, or None
        Weight of each row; rows of weight 0 are neither fitted on nor scored.
    digests : ndarray of shape (n_rows,), str, or None
        SHA-256 of the images' files; None where it is unknown.
    emptied : tuple of str
        Splits of which `drop_duplicates` leaves out all images.
    """

    X: np.ndarray
    y: np.ndarray
    split: np.ndarray
    paths: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None
    digests: np.ndarray | None = None
    emptied: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def of(self, *splits: str) -> np.ndarray:
        """Return the numbers of the rows of these splits, ascending."""
        return np.flatnonzero(np.isin(self.split.astype(str), splits))

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the weights of these rows, or None where all count the same."""
        return None if self.weights is None else self.weights[rows]

    def with_weight(self, rows: np.ndarray) -> np.ndarray:
        """Return those of these rows that have a weight over 0: classifiers and networks are fitted on them."""
        return rows if self.weights is None else rows[self.weights[rows] > 0]

    def most_frequent(self, rows: np.ndarray) -> str:
        """Return the most frequent class of these rows, without those of weight 0."""
        return pd.Series(self.y[self.with_weight(rows)]).value_counts().index[0]


def read_rows(
    store: Store,
    layers: Sequence[str],
    *,
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    drop_duplicates: bool = False,
    split: str = "split",
    needs_split: bool = True,
) -> tuple[Rows, list[str]]:
    """Read the rows that are used; those without label or split are left out and counted in a note.

    Parameters
    ----------
    store : Store, or featx.finetune.PlannedStore
    layers : sequence of str
    label : str, default "label"
        The column that holds the labels.
    where : str, optional
        Which rows to use: an expression over the columns, such as ``type == "mono"``; see `select_rows`.
    sample_weight : str, optional
        The column of row weights.
    drop_duplicates : bool, default False
        Whether images of identical files are left out; see `find_duplicates`.
    split : str, default "split"
        The column of splits.
    needs_split : bool, default True
        Whether rows without a split are left out.

    Returns
    -------
    Rows
    list of str
        Notes.

    Raises
    ------
    FeatxError
        If a column is missing, or no row is left to fit.
    """
    images = store.images
    for column in (label, sample_weight, split):
        if column is not None and column not in images:
            raise FeatxError(f"{store.path}: no column {column!r}; there are {', '.join(images.columns)}")
    if split != "split":
        images = images.assign(split=as_labels(images[split]))
        unknown = sorted({*images["split"]} - {*SPLITS, ""})
        if unknown:
            raise FeatxError(
                f"{store.path}: the column {split!r} has {unknown[0]!r}; expected {', '.join(SPLITS)} or ''"
            )
    notes = []
    is_used = np.ones(len(images), dtype=bool)
    if where is not None:
        is_used = select_rows(images, where)
        notes.append(f"{int(is_used.sum()):,} of {len(images):,} images are used: {where}")
    labels = as_labels(images[label])
    for name, values in (("label", labels), ("split", images["split"])):
        if name == "split" and not needs_split:
            continue
        is_empty = (values == "").to_numpy()
        n_without = int((is_empty & is_used).sum())
        is_used &= ~is_empty
        if n_without and not is_used.any():
            so, other_rows = describe_where(where)
            missing, advice = "split", "run featx extract again with a CSV with a split column, or --split"
            if name == "label":
                missing = f"label in the column {label!r}"
                advice = "name another with `label`, or extract again with class folders or a label column"
            raise FeatxError(f"{store.path}: no image has a {missing}{so}: {advice}{other_rows}")
        if n_without:
            notes.append(f"{n_without:,} images without a {name} are left out")
    emptied: tuple[str, ...] = ()
    if drop_duplicates:
        if "sha256" not in images:
            raise FeatxError(f"{store.path} has no digests of its files, which `drop_duplicates` needs: extract again")
        splits = images["split"] if needs_split else pd.Series("", index=images.index)
        is_left_out = np.zeros(len(images), dtype=bool)
        is_left_out[is_used] = find_duplicates(images["sha256"][is_used], labels[is_used], splits[is_used])
        emptied = tuple(sorted(set(splits[is_used]) - set(splits[is_used & ~is_left_out])))
        is_used &= ~is_left_out
        if not is_used.any():
            raise FeatxError(
                f"{store.path}: `drop_duplicates` leaves out every image: each is identical to one of another label"
            )
        notes.append(f"{int(is_left_out.sum()):,} images of identical files are left out: drop_duplicates")
    notes += note_look_alikes(labels[is_used])
    table = images[is_used]
    X = store.matrix(layers)
    X = X if is_used.all() else X[is_used]
    _check_finite(store, X, table["path"])
    return Rows(
        X=X,
        y=labels[is_used].to_numpy(dtype=object),
        split=table["split"].to_numpy(dtype=object),
        paths=table["path"].to_numpy(dtype=object),
        groups=group_of_each(table).to_numpy(dtype=object) if "group" in table else None,
        weights=_read_weights(store, table, sample_weight),
        digests=table["sha256"].to_numpy(dtype=object) if "sha256" in table else None,
        emptied=emptied,
    ), notes


def find_duplicates(digests: pd.Series, labels: pd.Series, splits: pd.Series) -> np.ndarray:
    """Return which images to leave out so that no image outside test has the same file as another image.

    Test images all stay, so that figures stay comparable. Of identical ones outside test, the first validation image
    stays, or else the first one; none of those that are identical to a test image, or that have several labels, of
    which at most one is right.

    Parameters
    ----------
    digests, labels, splits : Series of str
        Columns of the same images.

    Returns
    -------
    ndarray of shape (n_images,), bool

    Examples
    --------
    >>> files, labels = pd.Series([*"aabbccd"]), pd.Series([*"xxyyxyx"])
    >>> splits = pd.Series(["train", "test", "train", "validation", "train", "train", "train"])
    >>> find_duplicates(files, labels, splits).tolist()
    [True, False, True, False, True, True, False]
    """
    is_test = splits == "test"
    by_choice = (splits != "validation").sort_values(kind="stable").index
    is_repeated = digests.loc[by_choice].duplicated().loc[digests.index]
    has_several = labels.groupby(digests).transform("nunique") > 1
    return (~is_test & (digests.isin(digests[is_test]) | has_several | is_repeated)).to_numpy()


def _check_finite(store: Store, X: np.ndarray, paths: pd.Series) -> None:
    # A sum is finite only if all that it sums is (or overflows, which is as bad).
    finite = np.isfinite(X.sum(axis=1, dtype=np.float64))
    if not finite.all():
        path = paths.iloc[int(np.argmin(finite))]
        raise FeatxError(
            f"{store.path}: the features of {path} are not finite: featx repair {store.path} makes them again"
        )


def _read_weights(store: Store, table: pd.DataFrame, column: str | None) -> np.ndarray | None:
    if column is None:
        return None
    cells = table[column].to_numpy()
    if cells.dtype.kind in "biuf":
        weights = cells.astype(np.float64)
    else:
        # Such as 0.50, of which a float would not give the text back.
        weights = np.array([as_number(cell) for cell in cells.astype(str)], dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        path = table["path"].iloc[bad[0]]
        cell = cells[bad[0]]
        shown = repr(cell) if isinstance(cell, str) else cell
        raise FeatxError(f"{store.path}: {column!r} of {path} is {shown}; weights are numbers from 0 up")
    return weights


def choose_stored_layers(store: Store, text: str) -> list[str]:
    """Return the features asked for, in the store's order; see `choose_features`."""
    backbone = store.attributes.get("backbone")
    if backbone not in BACKBONES and any(part.partition(":")[0].strip() != "all" for part in text.split(",")):
        raise FeatxError(
            f"{store.path}: the attribute backbone is {backbone!r}, expected one of {', '.join(BACKBONES)}; without "
            "`layers`, all layers are used"
        )
    return choose_features(store.layers, text, backbone=str(backbone), path=store.path)


def choose_features(stored: Sequence[str], text: str, *, backbone: str, path: str | Path) -> list[str]:
    """Return the chosen features of a store, in its order; `all` is all of them.

    A layer, or a set of layers, means all of its poolings; `block5_conv3:max`, `conv:std` and `all:avg` mean one.

    Parameters
    ----------
    stored : sequence of str
        The features' names.
    text : str
    backbone : str
        The backbone of the store.
    path : path
        The store's, for messages.

    Raises
    ------
    FeatxError
        If the store has no such feature.
    """
    chosen: set[str] = set()
    for part in text.split(","):
        name, _, pooling = part.strip().partition(":")
        chosen |= _find_features(stored, name, pooling, backbone, path)
    return [name for name in stored if name in chosen]


def _find_features(stored: Sequence[str], name: str, pooling: str, backbone: str, path: str | Path) -> set[str]:
    """Return the names of a layer's features, or of a set of layers', of one pooling or of every one."""
    layers = {*map(layer_of, stored)} if name == "all" else expand_layers(name, BACKBONES[backbone])
    names = set()
    for layer in layers:
        own = {feature for feature in stored if layer_of(feature) == layer}
        if pooling:
            own &= {name_features(layer, pooling)}
        # Of all layers that a store has, those without height and width have no poolings.
        if not own and name != "all":
            missing = f"{layer}:{pooling}" if pooling else layer
            raise FeatxError(f"{path}: no layer {missing!r} in this store; it has {', '.join(stored)}")
        names |= own
    if not names:
        raise FeatxError(f"{path}: no layer has the pooling {pooling!r}; the store has {', '.join(stored)}")
    return names


def store_record(store: Store, layers: Sequence[str]) -> dict[str, object]:
    """Return the record of the features that a run was fitted on."""
    attributes = store.attributes
    kept = (*(field.name for field in fields(Settings) if field.name != "layers"), "settings_sha256", "run_id")
    return {
        "path": str(store.path),
        "layers": list(layers),
        "store_layers": store.layers,
        "n_features": sum(store.n_channels[layer] for layer in layers),
        **{name: attributes.get(name) for name in kept},
    }


def digest_rows(rows: Rows) -> str:
    """Return the digest of the used rows: their labels, splits, groups and weights."""
    digest = hashlib.sha256()
    for column in (rows.paths, rows.y, rows.split, rows.groups, rows.weights):
        digest.update(repr(None if column is None else column.tolist()).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def check_splits(store_path: str | Path, rows: Rows, where: str | None = None) -> None:
    """Raise an error if there are no train rows, or all of them have one class.

    Parameters
    ----------
    store_path : path
        For messages.
    rows : Rows
    where : str, optional
        The expression that chose them.
    """
    so, other_rows = describe_where(where)
    train = rows.of("train")
    if "train" in rows.emptied:
        raise FeatxError(
            f"{store_path}: no labelled train rows{so}: `drop_duplicates` has left them all out, since their files are "
            f"identical to others: leave `drop_duplicates` out, or divide the images again{other_rows}"
        )
    if not len(train):
        there = ", ".join(sorted({repr(str(name)) for name in rows.split} & {repr(name) for name in SPLITS}))
        raise FeatxError(
            f"{store_path}: no labelled train rows{so} (there are {there}): run featx extract again with --split "
            f"0.6,0.2,0.2, and --split-column '' where a CSV has splits of its own{other_rows}"
        )
    for split in SPLITS:
        if len(rows.of(split)) and rows.weights is not None and not rows.weights[rows.of(split)].any():
            raise FeatxError(f"{store_path}: the weights of all {split} rows are 0: give some a weight over 0")
    if len(set(rows.y[train])) < 2:
        raise FeatxError(
            f"{store_path}: one class only ({rows.y[train][0]!r}) in train{so}; a classifier needs two: name the "
            f"column that holds the labels with `label`{other_rows}"
        )
    labels = rows.y[rows.with_weight(train)]
    if len(set(labels)) < 2:
        raise FeatxError(
            f"{store_path}: the train rows of a weight over 0 are all of one class ({labels[0]!r}){so}; a "
            f"classifier needs two: give rows of another class a weight over 0{other_rows}"
        )


def notes_on_splits(rows: Rows, folds: Sequence[Fold] = ()) -> list[str]:
    """Return notes on what makes scores look too good: groups or files in two splits, labels never seen.

    Parameters
    ----------
    rows : Rows
    folds : sequence of (rows to fit, rows to score)
        Folds of a choice by cross-validation, which uses train and validation rows alike.
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
    """Return a note on rows of weight 0."""
    n_without = len(rows) - len(rows.with_weight(np.arange(len(rows))))
    if not n_without:
        return []
    return [f"{n_without:,} of {len(rows):,} images have the weight 0: nothing is fitted or scored on them"]


def notes_on_choices(rows: Rows) -> list[str]:
    """Return notes on classes that cells can't predict while they are compared, though the last fit can."""
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
    """Return notes on classes all of whose rows to fit have the weight 0: they are never predicted."""
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
    """Return notes on identical files without a common group, which random splits and folds may separate."""
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
    """Return notes on images of a split that are in another one as well, by their groups and their files."""
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
                "let featx extract --split divide the images (--split-column '' where a CSV has splits of its own)"
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
    """Return a note on identical files with several labels."""
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
    """Return the rows whose file is identical to one of another side, in order, and such a row for the first."""
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


_REMEDY = "give identical images one group (group_column), or leave them out (drop_duplicates)"
