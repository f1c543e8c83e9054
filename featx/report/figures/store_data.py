"""Read what the figures of a store need: rows, layers, dead features, small pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, ImageError
from featx.images import as_labels, read_unchanged, sort_labels
from featx.networks import layer_of
from featx.report.figures.maps import sample_rows
from featx.store import Settings, Store, select_rows
from featx.store.export import select
from featx.system import progress_bar


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
        Of more rows, a sample is taken; see `featx.report.figures.maps.sample_rows`.
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


def find_dead(store: Store, *, progress: bool = False) -> pd.DataFrame:
    """Count the features that say nothing, layer by layer; a few rows are in memory at a time.

    Parameters
    ----------
    store : Store
    progress : bool, default False
        Show a bar on standard error, if that is a terminal.

    Returns
    -------
    DataFrame
        A row a layer (of further poolings: a row a pooling), in network order: `layer`; `n_features`; `dead`, how many
        are 0 for every image; `constant`, how many others are the same number for every image; `zeros`, the share of
        all its numbers that are 0.

    Raises
    ------
    FeatxError
        If the store has no image.
    """
    _check_images(store)
    widths = [store.n_channels[layer] for layer in store.layers]
    low, high = np.full(sum(widths), np.inf), np.full(sum(widths), -np.inf)
    n_others = np.zeros(sum(widths), dtype=np.int64)
    with progress_bar(len(store), wanted=progress) as bar:
        for block in store.blocks():
            low = np.minimum(low, block.min(axis=0))
            high = np.maximum(high, block.max(axis=0))
            n_others += np.count_nonzero(block, axis=0)
            bar.update(len(block))
    is_dead, is_constant = (low == 0) & (high == 0), (low == high) & (low != 0)
    ends = np.cumsum(widths)[:-1]
    found = zip(store.layers, *(np.split(array, ends) for array in (is_dead, is_constant, n_others)), strict=True)
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "n_features": len(dead),
                "dead": int(dead.sum()),
                "constant": int(constant.sum()),
                "zeros": 1 - others.sum() / (len(store) * len(others)),
            }
            for layer, dead, constant, others in found
        ]
    )


def top_images(store: Store, layer: str, channel: int, n: int = 12) -> pd.DataFrame:
    """Find the images that excite a channel most.

    Parameters
    ----------
    store : Store
    layer : str
    channel : int
        From 0.
    n : int, default 12

    Returns
    -------
    DataFrame
        The strongest first, at most `n`; of equal ones the earlier in the store. `row`, its number in the store;
        `value`, the feature; and the store's columns: path, label, split, sha256 and so on.

    Raises
    ------
    FeatxError
        If the store has no image, no such layer, or the layer no such channel.
    """
    _check_images(store)
    n_channels = store.n_channels
    if layer in n_channels and not 0 <= channel < n_channels[layer]:
        raise FeatxError(
            f"{store.path}: {layer} has no channel {channel}; expected 0 to {n_channels[layer] - 1:,} (--channel)"
        )
    values = np.concatenate([block[:, channel] for block in store.blocks([layer])])
    rows = np.argsort(-values, kind="stable")[:n]
    table = store.images.iloc[rows].reset_index(drop=True)
    found = pd.DataFrame({"row": rows, "value": values[rows]})
    return pd.concat([found, table.drop(columns=list(found), errors="ignore")], axis=1)


def telling_channel(X: np.ndarray, labels: np.ndarray) -> int:
    """Return the channel whose class means lie farthest apart, measured by the spread within classes.

    That is the largest F of an analysis of variance (scikit-learn's `f_classif`); of one class only, the channel of the
    largest variance.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_channels)
    labels : ndarray of shape (n_images,)

    Examples
    --------
    >>> X = np.array([[0.1, 5], [0.2, 5.1], [9, 5], [9.1, 5.1]])
    >>> telling_channel(X, np.array(["ash", "ash", "birch", "birch"]))
    0
    """
    spread = X.var(axis=0, dtype=np.float64)
    labels = np.asarray(labels).astype(str)
    varying = np.flatnonzero(spread > 0)
    n_classes = len(set(labels))
    if not 1 < n_classes < len(labels) or not len(varying):
        return int(np.argmax(spread))
    from sklearn.feature_selection import f_classif

    with np.errstate(divide="ignore", invalid="ignore"):
        F, _ = f_classif(X[:, varying].astype(np.float64), labels)
    return int(varying[np.argmax(np.nan_to_num(F, nan=-1.0, posinf=np.finfo(float).max))])


def _check_images(store: Store) -> None:
    if not len(store):
        raise FeatxError(f"{store.path}: no image in this store (all were rejected): featx info says why")


def read_pictures(
    store: Store, table: pd.DataFrame, *, side: int, root: str | Path | None = None
) -> tuple[list[np.ndarray | None], list[str]]:
    """Read images as the network saw them, but smaller.

    Parameters
    ----------
    store : Store
        Says how images are brought to one shape, and where they were.
    table : DataFrame
        Rows of `Store.images`: columns path and sha256.
    side : int
        Height and width, pixels.
    root : path, optional
        Where the paths start; default: where they did when they were extracted.

    Returns
    -------
    list of ndarray of shape (side, side, 3), uint8, or None
        None where the file is gone, can't be read, or is not the one that the features were made of.
    list of str
        Why, a line each: the file and the reason.
    """
    attributes = store.attributes
    folder = Path(str(attributes.get("root", "")) if root is None else root)
    options = {name: attributes.get(name) for name in ("resize", "interpolation")}
    # Older stores did not ask for profiles.
    options |= {"jpeg": "scaled", "icc": attributes.get("icc", "ignore")}
    pictures: list[np.ndarray | None] = []
    reasons = []
    for path, sha256 in zip(table["path"], table["sha256"], strict=True):
        try:
            pictures.append(read_unchanged(folder / path, sha256=sha256, image_size=side, **options))
        except ImageError as error:
            pictures.append(None)
            reasons.append(f"{folder / path}: {error}")
    return pictures, reasons
