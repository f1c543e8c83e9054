"""The features' section of a report: which figures stand in it, of any store, in a few seconds."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.channels import telling_channel
from featx.errors import FeatxError
from featx.feature_figures import (
    FeatureFigure,
    draw_correlation,
    draw_dead,
    draw_embedding,
    draw_filters,
    draw_top_images,
)
from featx.feature_maps import correlate, sample_rows, standardise
from featx.feature_rows import labelled_rows, one_layer, read_features, settings_of
from featx.first_filters import what_they_need
from featx.labels import sort_labels
from featx.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_CLOSER = 3
"""So many classes are looked at more closely, where there are more of them."""

# What takes a second or two, and 60 kB.
_N_PCA, _N_TSNE = 2000, 1000
_N_ALIKE = 1000
_N_PICTURES, _SIDE = 8, 64


def describe_features(
    store_path: str | Path,
    *,
    layer: str | None = None,
    label: str = "label",
    images_root: str | Path | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> list[tuple[str, "Figure", str]]:
    """Draw what there is to see in a store's features.

    Parameters
    ----------
    store_path : path
    layer : str, optional
        The one that correlations and the channel are of; default: the deepest.
    label : str, default "label"
        The column that says an image's class.
    images_root : path, optional
        Where the images' paths start; default: where they did when they were extracted.
    classes : sequence of str, optional
        To be looked at more closely: those that were confused most, say. Default: three that are alike.
    seed : int, default 0
        Of samples and t-SNE.
    echo : callable, optional
        Is told what was left out, and why, a line each.

    Returns
    -------
    list of (heading, Figure, caption)
        Correlations of a layer, whole and of some classes; PCA and t-SNE of all layers; dead features; the first
        layer's filters, if they can be had without a download; the strongest images of the channel that tells classes
        apart best. What can't be drawn is left out.

    Raises
    ------
    FeatxError
        If the store can't be read, or has no such layer; or if matplotlib isn't installed.
    """
    with Store(store_path) as store:
        name = one_layer(store, layer)
        drawn = [
            partial(draw_correlation, store, name, label=label, seed=seed),
            partial(_draw_closer, store, name, label, classes, seed),
            partial(draw_embedding, store, method="pca", label=label, n_images=_N_PCA, seed=seed),
            partial(draw_embedding, store, method="tsne", label=label, n_images=_N_TSNE, seed=seed),
            partial(draw_dead, store),
            partial(_draw_filters, store, echo),
            partial(_draw_channel, store, name, label, images_root, seed, echo),
        ]
        figures = [_try(draw, echo) for draw in drawn]
    return [tuple(figure) for figure in figures if figure is not None]


def _try(draw: Callable[[], FeatureFigure | None], echo: Callable[[str], None]) -> FeatureFigure | None:
    """Draw a figure, or say why there is none: a report is whole without it."""
    try:
        return draw()
    except FeatxError as error:
        echo(f"a figure of the features is left out: {error}")
        return None


def _draw_closer(store: Store, layer: str, label: str, classes: Sequence[str], seed: int) -> FeatureFigure | None:
    rows, labels = labelled_rows(store, label=label)
    if len(set(labels)) <= N_CLOSER:
        return None
    chosen = list(classes)
    why = ""
    if not chosen:
        kept = sample_rows(labels, _N_ALIKE, seed=seed)
        chosen = find_alike(read_features(store, [layer], rows[kept]), labels[kept])
        why = " The classes whose images correlate most with each other's."
    heading, figure, caption = draw_correlation(store, layer, classes=chosen, label=label, seed=seed)
    return FeatureFigure(f"{heading}, {len(chosen)} of {len(set(labels)):,} classes", figure, caption + why)


def find_alike(X: np.ndarray, labels: np.ndarray, n_classes: int = N_CLOSER) -> list[str]:
    """Find classes that are alike: the two whose images correlate most with each other's, then those nearest to these.

    Parameters
    ----------
    X : ndarray of shape (n_images, n_features)
        Standardised within.
    labels : ndarray of shape (n_images,)
        At least two classes.
    n_classes : int, default 3

    Returns
    -------
    list of str
        Sorted.
    """
    names, of_class = np.unique(labels.astype(str), return_inverse=True)
    matrix = np.nan_to_num(correlate(standardise(X)))
    member = (of_class[:, None] == np.arange(len(names))).astype(np.float64)
    member /= member.sum(axis=0)
    means = member.T @ matrix @ member
    np.fill_diagonal(means, -np.inf)
    chosen = list(np.unravel_index(np.argmax(means), means.shape))
    while len(chosen) < min(n_classes, len(names)):
        nearness = means[chosen].sum(axis=0)
        chosen.append(int(np.argmax(nearness)))
    return sort_labels(str(names[place]) for place in chosen)


def _draw_filters(store: Store, echo: Callable[[str], None]) -> FeatureFigure | None:
    lacking = what_they_need(settings_of(store))
    if lacking:
        echo(f"the first layer's filters are left out: {lacking}")
        return None
    return draw_filters(store)


def _draw_channel(
    store: Store, layer: str, label: str, root: str | Path | None, seed: int, echo: Callable[[str], None]
) -> FeatureFigure:
    rows, labels = labelled_rows(store, label=label)
    train = (store.images["split"] == "train").to_numpy()[rows]
    where = ""
    # Test images are shown, but choose nothing.
    if len(set(labels[train])) > 1:
        rows, labels, where = rows[train], labels[train], " of train images"
    kept = sample_rows(labels, _N_PCA, seed=seed)
    channel = telling_channel(read_features(store, [layer], rows[kept]), labels[kept])
    drawn = draw_top_images(store, layer, channel, n=_N_PICTURES, label=label, root=root, side=_SIDE, echo=echo)
    why = f" This channel's means{where} differ most between the classes, for their spread (largest F)."
    return drawn._replace(caption=drawn.caption + why)
