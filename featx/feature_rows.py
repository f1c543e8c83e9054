"""Which layer and which rows of a store a figure is made of."""

from collections.abc import Sequence

import numpy as np

from featx.errors import FeatxError
from featx.feature_maps import sample_rows
from featx.labels import as_labels, sort_labels
from featx.pooling import layer_of
from featx.progress import progress_bar
from featx.selection import select
from featx.settings import Settings
from featx.store import Store
from featx.where import select_rows


def one_layer(store: Store, layer: str | None) -> str:
    """Return the one layer of a store that a name stands for; None: the deepest, and its mean rather than others.

    Raises
    ------
    FeatxError
        If the store lacks it, or it stands for several.
    """
    if layer is None:
        deepest = layer_of(store.layers[-1])
        return next(name for name in store.layers if layer_of(name) == deepest)
    if layer in store.layers:
        return layer
    found = select(store, layer).layers
    if len(found) != 1:
        raise FeatxError(f"{store.path}: --layer {layer} is {', '.join(found)}; expected one of them")
    return found[0]


def labelled_rows(store: Store, *, label: str = "label", where: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows that have a label, ascending, and the labels, text.

    Raises
    ------
    FeatxError
        If there is no such column, or no row with a label.
    """
    images = store.images
    if label not in images:
        raise FeatxError(f"{store.path}: no column {label!r}; there are {', '.join(images.columns)}")
    labels = as_labels(images[label]).to_numpy(dtype=object)
    takes_part = labels != ""
    if where is not None:
        takes_part &= select_rows(images, where)
    if not takes_part.any():
        raise FeatxError(
            f"{store.path}: no image has a label in the column {label!r}"
            f"{'' if where is None else ' where ' + where}. Name another with --label, or extract again with class "
            "folders or a label column"
        )
    rows = np.flatnonzero(takes_part)
    return rows, labels[rows]


def settings_of(store: Store) -> Settings:
    """Return what a store's features depend on.

    Raises
    ------
    FeatxError
        If its attributes don't say.
    """
    try:
        return Settings.from_record(store.attributes)
    except KeyError as error:
        raise FeatxError(f"{store.path}: the attribute {error} is missing: extract again with --overwrite") from error


def sample_features(
    store: Store,
    layers: Sequence[str],
    rows: np.ndarray,
    labels: np.ndarray,
    most: int,
    seed: int,
    *,
    by_class: bool = False,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Read the features of at most so many rows.

    Parameters
    ----------
    store : Store
    layers : sequence of str
    rows : ndarray of int
        Ascending.
    labels : ndarray of shape (n_rows,)
    most : int
        Of more rows, a sample is taken; see `featx.feature_maps.sample_rows`.
    seed : int
        Of the sample.
    by_class : bool, default False
        Sort what is read by label.
    progress : bool, default False
        Show a bar on standard error, if that is a terminal.

    Returns
    -------
    ndarray of shape (n_sample, n_features), float32
    ndarray of shape (n_sample,)
        Labels.
    str
        How many images, and how they were chosen, for a caption.
    """
    kept = sample_rows(labels, most, seed=seed)
    X = read_features(store, layers, rows[kept], progress=progress)
    chosen = labels[kept]
    note = f"{len(kept):,} images"
    if len(kept) < len(rows):
        note = f"{len(kept):,} of {len(rows):,} images, drawn with seed {seed}, the classes' shares kept"
    place_of = {name: place for place, name in enumerate(sort_labels(set(chosen)))}
    order = np.argsort([place_of[name] for name in chosen], kind="stable") if by_class else slice(None)
    return X[order], chosen[order], note


def read_features(store: Store, layers: Sequence[str], rows: np.ndarray, *, progress: bool = False) -> np.ndarray:
    """Read the features of some rows, ascending; a block of the store is in memory at a time.

    Raises
    ------
    FeatxError
        If one is not finite.
    """
    found, start = [], 0
    with progress_bar(len(store), wanted=progress) as bar:
        for block in store.blocks(layers):
            first, last = np.searchsorted(rows, (start, start + len(block)))
            found.append(block[rows[first:last] - start])
            start += len(block)
            bar.update(len(block))
    X = np.concatenate(found)
    finite = np.isfinite(X.sum(axis=1, dtype=np.float64))
    if not finite.all():
        path = store.images["path"].iloc[rows[int(np.argmin(finite))]]
        raise FeatxError(
            f"{store.path}: the features of {path} are not finite: featx repair {store.path} makes them again"
        )
    return X
