"""Read what the figures of a store need: rows, layers, dead features, small pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, ImageError
from featx.images import as_labels, read_unchanged, sort_labels
from featx.networks import layer_of
from featx.report.figures.maps import first_infinite, sample_rows
from featx.store import Settings, Store, select_rows
from featx.store.export import select
from featx.system import progress_bar


def one_layer(store: Store, layer: str | None) -> str:
    """Return the one layer of a store that a name stands for; None: the deepest, and its mean rather than others."""
    if layer is None:
        deepest = layer_of(store.layers[-1])
        return next(name for name in store.layers if layer_of(name) == deepest)
    if layer in store.layers:
        return layer
    found = select(store, layer).layers
    if len(found) != 1:
        raise FeatxError(f"{store.path}: {layer} is {', '.join(found)}; expected one of them", parameter="layer")
    return found[0]


def labelled_rows(store: Store, *, label: str = "label", where: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows that have a label, ascending, and the labels, text."""
    images = store.images
    if label not in images:
        raise FeatxError(f"{store.path}: no column {label!r}; there are {', '.join(images.columns)}")
    labels = as_labels(images[label]).to_numpy(dtype=object)
    is_used = labels != ""
    if where is not None:
        is_used &= select_rows(images, where)
    if not is_used.any():
        raise FeatxError(
            f"{store.path}: no image has a label in the column {label!r}{'' if where is None else ' where ' + where}. "
            "Name another column with `label`, or extract again with class folders or a label column"
        )
    rows = np.flatnonzero(is_used)
    return rows, labels[rows]


def settings_of(store: Store) -> Settings:
    """Return what a store's features depend on."""
    try:
        return Settings.from_record(store.attributes)
    except KeyError as error:
        raise FeatxError(f"{store.path}: the attribute {error} is missing: extract again with `overwrite`") from error


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
    """Read the features and labels of at most `most` rows, sorted by label if asked, and say how they were chosen.

    The last of the three results is for a caption. Of more rows a sample is taken; see `sample_rows`.
    """
    kept = sample_rows(labels, most, seed=seed)
    X = read_features(store, layers, rows[kept], progress=progress)
    chosen = labels[kept]
    note = f"{len(kept):,} images"
    if len(kept) < len(rows):
        note = f"{len(kept):,} of {len(rows):,} images, drawn with seed {seed}, the classes' shares kept"
    number_of = {name: number for number, name in enumerate(sort_labels(set(chosen)))}
    order = np.argsort([number_of[name] for name in chosen], kind="stable") if by_class else slice(None)
    return X[order], chosen[order], note


def read_features(store: Store, layers: Sequence[str], rows: np.ndarray, *, progress: bool = False) -> np.ndarray:
    """Read the features of some rows, ascending, block by block of the store; all of them are finite."""
    blocks, start = [], 0
    with progress_bar(len(store), wanted=progress) as bar:
        for block in store.blocks(layers):
            first, last = np.searchsorted(rows, (start, start + len(block)))
            blocks.append(block[rows[first:last] - start])
            start += len(block)
            bar.update(len(block))
    X = np.concatenate(blocks)
    row = first_infinite(X)
    if row is not None:
        path = store.images["path"].iloc[rows[row]]
        raise FeatxError(
            f"{store.path}: the features of {path} are not finite: featx repair {store.path} makes them again"
        )
    return X


def find_dead(store: Store, *, progress: bool = False) -> pd.DataFrame:
    """Count the features that are the same for every image, layer by layer, block by block of the store.

    Returns
    -------
    DataFrame
        One row per layer (and pooling), in network order: `layer`; `n_features`; `dead`, how many are 0 for every
        image; `constant`, how many others are the same number for every image; `zeros`, the share of all its numbers
        that are 0.
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
    by_layer = zip(store.layers, *(np.split(array, ends) for array in (is_dead, is_constant, n_others)), strict=True)
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "n_features": len(dead),
                "dead": int(dead.sum()),
                "constant": int(constant.sum()),
                "zeros": 1 - others.sum() / (len(store) * len(others)),
            }
            for layer, dead, constant, others in by_layer
        ]
    )


def top_images(store: Store, layer: str, channel: int, n: int = 12) -> pd.DataFrame:
    """Find the images that excite a channel most, the strongest first; of equal ones the first in the store.

    Returns
    -------
    DataFrame
        At most `n` rows. `row`, its number in the store; `value`, the feature; and the store's columns: path, label,
        split, sha256 and so on.
    """
    _check_images(store)
    n_channels = store.n_channels
    if layer in n_channels and not 0 <= channel < n_channels[layer]:
        raise FeatxError(
            f"{store.path}: {layer} has no channel {channel}; expected 0 to {n_channels[layer] - 1:,}",
            parameter="channel",
        )
    values = np.concatenate([block[:, channel] for block in store.blocks([layer])])
    rows = np.argsort(-values, kind="stable")[:n]
    table = store.images.iloc[rows].reset_index(drop=True)
    strongest = pd.DataFrame({"row": rows, "value": values[rows]})
    return pd.concat([strongest, table.drop(columns=list(strongest), errors="ignore")], axis=1)


def most_distinct_channel(X: np.ndarray, labels: np.ndarray) -> int:
    """Return the channel whose class means lie farthest apart, measured by the spread within classes.

    That is the largest F of an analysis of variance (scikit-learn's `f_classif`); of one class only, the channel of the
    largest variance.

    Examples
    --------
    >>> X = np.array([[0.1, 5], [0.2, 5.1], [9, 5], [9.1, 5.1]])
    >>> most_distinct_channel(X, np.array(["ash", "ash", "birch", "birch"]))
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
    images: pd.DataFrame,
    root: Path,
    *,
    side: int,
    resize: str = "pad",
    interpolation: str = "bilinear",
    icc: str = "convert",
) -> Iterator[np.ndarray | str]:
    """Read the images of a store in small, or say of each why that is not possible.

    A file is shown only if its bytes are those that the features were made of: a file that has changed is no example of
    anything, and an untrusted store that names a reader's own files, whose digests it can't know, shows none of them.

    Parameters
    ----------
    images : DataFrame
        Columns path and sha256.
    root : Path
        Where the paths start.
    side : int
        Height and width, pixels.
    resize, interpolation, icc
        See `featx.images.read_picture`.

    Yields
    ------
    ndarray of shape (side, side, 3), uint8; or str
        The reason, if the file is gone, can't be read, or has changed.
    """
    options = {"image_size": side, "resize": resize, "interpolation": interpolation, "jpeg": "scaled", "icc": icc}
    for path, sha256 in zip(images["path"], images["sha256"], strict=True):
        try:
            yield read_unchanged(root / path, sha256=sha256, **options)
        except ImageError as error:
            yield str(error)
