"""What single features do over the images of a store: which are dead, and which images excite one most."""

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.progress import progress_bar
from featx.store import Store


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
