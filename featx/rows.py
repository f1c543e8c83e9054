"""The labelled rows of a store, and folds of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.errors import FeatxError
from featx.labels import as_labels, as_number, note_look_alikes
from featx.layers import BACKBONES, expand_layers
from featx.manifest import SPLITS
from featx.pooling import layer_of, name_features
from featx.settings import Settings
from featx.splits import group_of_each
from featx.store import Store
from featx.where import select_rows, told_with

Fold = tuple[np.ndarray, np.ndarray]

# Of a CSV: nothing else has groups. Features stay as they are.
WITHOUT_GROUPS = "again with --group-column '', so that there are no groups"


@dataclass(frozen=True)
class Rows:
    """The rows of a store that take part: those with a label and a split.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    y : ndarray of shape (n_rows,), str
    split : ndarray of shape (n_rows,), str
    paths : ndarray of shape (n_rows,), str
    groups : ndarray of shape (n_rows,), str, or None
    weights : ndarray of shape (n_rows,), float64, or None
        What a row counts; one of weight 0 is neither fitted on nor scored.
    digests : ndarray of shape (n_rows,), str, or None
        SHA-256 of the images' files; None where it isn't known.
    emptied : tuple of str
        The splits all of whose images are left out by ``--drop-duplicates``.
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
        """Return what these rows count, or None where all count the same."""
        return None if self.weights is None else self.weights[rows]

    def with_weight(self, rows: np.ndarray) -> np.ndarray:
        """Return those of these rows that weigh something: what classifiers and networks are fitted on."""
        return rows if self.weights is None else rows[self.weights[rows] > 0]

    def most_frequent(self, rows: np.ndarray) -> str:
        """Return the class that most of these rows are of, without those of weight 0."""
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
    """Read the rows that take part; those without label or split are left out and counted in a note.

    Parameters
    ----------
    store : Store, or featx.finetune_task.StoreToBe
    layers : sequence of str
    label : str, default "label"
        The column that holds the labels.
    where : str, optional
        Which rows take part: an expression over the columns, such as ``type == "mono"``; see `select_rows`.
    sample_weight : str, optional
        The column that says what each row counts.
    drop_duplicates : bool, default False
        Whether images of identical files are left out; see `find_duplicates`.
    split : str, default "split"
        The column that says which split each row is in.
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
        If a column isn't there, or nothing is left to fit.
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
    takes_part = np.ones(len(images), dtype=bool)
    if where is not None:
        takes_part = select_rows(images, where)
        notes.append(f"{int(takes_part.sum()):,} of {len(images):,} images take part: {where}")
    labels = as_labels(images[label])
    for name, values in (("label", labels), ("split", images["split"])):
        if name == "split" and not needs_split:
            continue
        is_empty = (values == "").to_numpy()
        n_without = int((is_empty & takes_part).sum())
        takes_part &= ~is_empty
        if n_without and not takes_part.any():
            so, other_rows = told_with(where)
            lack, mend = "split", "extract again with a CSV with a split column, or --split"
            if name == "label":
                lack = f"label in the column {label!r}"
                mend = "name another with --label, or extract again with class folders or a label column"
            raise FeatxError(f"{store.path}: no image has a {lack}{so}: {mend}{other_rows}")
        if n_without:
            notes.append(f"{n_without:,} images without a {name} take no part")
    emptied: tuple[str, ...] = ()
    if drop_duplicates:
        if "sha256" not in images:
            raise FeatxError(
                f"{store.path}: --drop-duplicates: this store doesn't say which files are identical: extract again"
            )
        splits = images["split"] if needs_split else pd.Series("", index=images.index)
        is_left_out = np.zeros(len(images), dtype=bool)
        is_left_out[takes_part] = find_duplicates(images["sha256"][takes_part], labels[takes_part], splits[takes_part])
        emptied = tuple(sorted(set(splits[takes_part]) - set(splits[takes_part & ~is_left_out])))
        takes_part &= ~is_left_out
        if not takes_part.any():
            raise FeatxError(
                f"{store.path}: --drop-duplicates leaves out every image: each is identical to one of another label"
            )
        notes.append(f"{int(is_left_out.sum()):,} images of identical files are left out: --drop-duplicates")
    notes += note_look_alikes(labels[takes_part])
    table = images[takes_part]
    X = store.matrix(layers)
    X = X if takes_part.all() else X[takes_part]
    _check_finite(store, X, table["path"])
    return Rows(
        X=X,
        y=labels[takes_part].to_numpy(dtype=object),
        split=table["split"].to_numpy(dtype=object),
        paths=table["path"].to_numpy(dtype=object),
        groups=group_of_each(table).to_numpy(dtype=object) if "group" in table else None,
        weights=_read_weights(store, table, sample_weight),
        digests=table["sha256"].to_numpy(dtype=object) if "sha256" in table else None,
        emptied=emptied,
    ), notes


def find_duplicates(digests: pd.Series, labels: pd.Series, splits: pd.Series) -> np.ndarray:
    """Say which images to leave out so that no image outside test is of the same file as another image.

    Test images all stay, so that figures stay comparable. Of identical ones outside test, the first validation image
    stays, or else the first one; none of those that are identical to a test image, or that have several labels, of
    which at most one is right.

    Parameters
    ----------
    digests, labels, splits : Series of str
        Of the same images.

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


def _check_finite(store: Store, X: np.ndarray, paths) -> None:  # noqa: ANN001
    # A sum is finite only if all that it sums is (or overflows, which is as bad).
    finite = np.isfinite(X.sum(axis=1, dtype=np.float64))
    if not finite.all():
        path = paths.iloc[int(np.argmin(finite))]
        raise FeatxError(
            f"{store.path}: the features of {path} are not finite: featx repair {store.path} makes them again"
        )


def _read_weights(store: Store, table, column: str | None) -> np.ndarray | None:  # noqa: ANN001
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
        found = repr(cell) if isinstance(cell, str) else cell
        raise FeatxError(f"{store.path}: {column!r} of {path} is {found}; weights are numbers from 0 up")
    return weights


def make_folds(rows: Rows, known: np.ndarray, n_folds: int, *, seed: int) -> list[Fold]:
    """Divide rows into folds: stratified by label, and whole groups where there are groups.

    Parameters
    ----------
    rows : Rows
    known : ndarray of int
        The rows to divide.
    n_folds : int
    seed : int

    Returns
    -------
    list of (rows to fit, rows to score)

    Raises
    ------
    FeatxError
        If there are too few folds, or groups, or a class is in too few groups.
    """
    if n_folds < 2:
        raise FeatxError(f"--cv {n_folds}: expected 2 folds or more")
    y = rows.y[known].astype(str)
    if rows.groups is None:
        pairs = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(known, y)
    else:
        groups = rows.groups[known].astype(str)
        n_groups = len(set(groups))
        if n_groups < n_folds:
            found = "only 1 group" if n_groups == 1 else f"only {n_groups} groups"
            mend = f"Use --cv {n_groups}, or extract" if n_groups > 1 else "Extract"
            raise FeatxError(f"--cv {n_folds}: {found} outside test. {mend} {WITHOUT_GROUPS}")
        pairs = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(known, y, groups)
    folds = [(known[fit], known[score]) for fit, score in pairs]
    classes = set(rows.y[rows.with_weight(known)])
    for fit, _ in folds:
        absent = sorted(classes - set(rows.y[rows.with_weight(fit)]))
        if absent:
            few, mend = "groups", f", or extract {WITHOUT_GROUPS}"
            if absent[0] in set(rows.y[fit]):
                few, mend = "rows with a weight over 0", ", or give more of its rows a weight over 0"
            raise FeatxError(
                f"--cv {n_folds}: in one fold no row of the class {absent[0]!r} is left to fit on: its {few} are too "
                f"few. Leave the class out with --where{mend}"
            )
    return folds


def choose_stored_layers(store: Store, text: str) -> list[str]:
    """Return the features asked for, in the store's order; see `choose_features`."""
    backbone = store.attributes.get("backbone")
    if backbone not in BACKBONES and any(part.partition(":")[0].strip() != "all" for part in text.split(",")):
        raise FeatxError(
            f"{store.path}: the attribute backbone is {backbone!r}, expected one of {', '.join(BACKBONES)}; without "
            "--layers, all layers are taken"
        )
    return choose_features(store.layers, text, backbone=str(backbone), path=store.path)


def choose_features(stored: Sequence[str], text: str, *, backbone: str, path: str | Path) -> list[str]:
    """Return those of a store's features that are asked for, in its order; `all` is all that it has.

    A layer, or a set of layers, stands for every pooling of it; `block5_conv3:max`, `conv:std` and `all:avg` for that
    one alone.

    Parameters
    ----------
    stored : sequence of str
        The features' names.
    text : str
    backbone : str
        Whose sets of layers are meant.
    path : path
        What a message calls the store.

    Raises
    ------
    FeatxError
        If the store lacks one.
    """
    wanted: set[str] = set()
    for part in text.split(","):
        name, _, pooling = part.strip().partition(":")
        wanted |= _find_features(stored, name, pooling, backbone, path)
    return [name for name in stored if name in wanted]


def _find_features(stored: Sequence[str], name: str, pooling: str, backbone: str, path: str | Path) -> set[str]:
    """Return the names of a layer's features, or of a set of layers', of one pooling or of every one."""
    layers = {*map(layer_of, stored)} if name == "all" else expand_layers(name, BACKBONES[backbone])
    found = set()
    for layer in layers:
        there = {feature for feature in stored if layer_of(feature) == layer}
        if pooling:
            there &= {name_features(layer, pooling)}
        # Of all layers that a store has, those without height and width have no poolings.
        if not there and name != "all":
            missing = f"{layer}:{pooling}" if pooling else layer
            raise FeatxError(f"{path}: no layer {missing!r} in this store; it has {', '.join(stored)}")
        found |= there
    if not found:
        raise FeatxError(f"{path}: no layer has the pooling {pooling!r}; the store has {', '.join(stored)}")
    return found


def describe_store(store: Store, layers: Sequence[str]) -> dict[str, object]:
    """Return what a run's record says of the features it was fitted on."""
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
    """Digest which rows take part, with their labels, splits, groups and weights."""
    digest = hashlib.sha256()
    for column in (rows.paths, rows.y, rows.split, rows.groups, rows.weights):
        digest.update(repr(None if column is None else column.tolist()).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
