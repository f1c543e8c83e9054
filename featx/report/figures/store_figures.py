"""Draw the figures of a store, each with a heading and a caption, and choose those of a report."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from featx.errors import FeatxError
from featx.images import as_labels, sort_labels
from featx.report.figures.channels import plot_dead, plot_filters, plot_top_images
from featx.report.figures.data import plot_class_counts
from featx.report.figures.features import plot_correlation, plot_embedding
from featx.report.figures.filters import SCALES, first_layer_filters, scale_filters, what_filters_need
from featx.report.figures.maps import choose_classes, correlate, embed, sample_rows, standardise
from featx.report.figures.registry import Panel
from featx.report.figures.store_data import (
    find_dead,
    labelled_rows,
    most_distinct_channel,
    one_layer,
    read_features,
    read_pictures,
    sample_features,
    settings_of,
    top_images,
)
from featx.store import Store
from featx.store.export import select

FEATURES = ("standardised", "stored")


def draw_classes(store: Store, *, label: str = "label", split: str = "split") -> Panel:
    """Draw how many images each class has in each split, and each class's share of each split.

    Parameters
    ----------
    store : Store
    label, split : str, default "label" and "split"
        The columns with classes and splits.

    Raises
    ------
    FeatxError
        If there is no image, no such column, or another split than train, validation, test and none.
    """
    return Panel(
        "Images of each class by split",
        plot_class_counts(store.images, label=label, split=split),
        "Counts, and the share of each class within its split: a split by label keeps the shares.",
    )


def draw_correlation(
    store: Store,
    layer: str | None = None,
    *,
    kind: str = "correlation",
    features: str = "standardised",
    classes: Sequence[str] = (),
    label: str = "label",
    where: str | None = None,
    n_images: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Panel:
    """Draw which images resemble which by a layer's features, sorted by class.

    Parameters
    ----------
    store : Store
    layer : str, optional
        Default: the deepest.
    kind : {"correlation", "covariance"}, default "correlation"
        See `featx.report.figures.maps.correlate`.
    features : {"standardised", "stored"}, default "standardised"
        Standardise features over the images first, so that what all images share doesn't count, or take them as they
        are stored, as in published figures.
    classes : sequence of str, optional
        Only these; see `featx.report.figures.maps.choose_classes`. Default: all.
    label : str, default "label"
        The column that says an image's class.
    where : str, optional
        Only these images; see `featx.store.select_rows`.
    n_images : int, default 2000
        Of more, a sample is taken that keeps the classes' shares.
    seed : int, default 0
        Of the sample.
    progress : bool, default False
        Show a bar while features are read, if standard error is a terminal.

    Raises
    ------
    FeatxError
        If the store has no such layer or column, or no labels; or there are too few images or features.
    """
    if features not in FEATURES:
        raise FeatxError(f"expected one of {', '.join(FEATURES)}, found {features!r}", parameter="features")
    name = one_layer(store, layer)
    rows, labels = labelled_rows(store, label=label, where=where)
    if classes:
        names = choose_classes(sort_labels(set(labels)), classes)
        is_in = np.isin(labels, names)
        rows, labels = rows[is_in], labels[is_in]
    X, labels, note = sample_features(store, [name], rows, labels, n_images, seed, by_class=True, progress=progress)
    if len(X) < 2:
        advice = "take more classes" if classes else "take more images"
        advice += "" if where is None else ", or give another `where`"
        raise FeatxError(f"{store.path}: one image to compare, expected at least 2: {advice}")
    matrix = correlate(standardise(X) if features == "standardised" else X, kind)
    what = "correlation (Pearson's r)" if kind == "correlation" else "covariance"
    how = "each standardised over the images first" if features == "standardised" else "as they are stored"
    caption = f"The {what} of every two images over the {X.shape[1]:,} features of {name}, {how}; {note}."
    return Panel(
        f"{kind.capitalize()} of images, {name}",
        plot_correlation(matrix, labels, kind, title=f"{kind.capitalize()} of images by {name}"),
        caption + " Gray: an image whose features are all the same." * bool(np.isnan(matrix).any()),
    )


def draw_embedding(
    store: Store,
    layers: str | Sequence[str] = "all",
    *,
    method: str = "pca",
    label: str = "label",
    where: str | None = None,
    n_images: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Panel:
    """Draw images in the plane, those with like features near each other.

    Parameters
    ----------
    store : Store
    layers : str or sequence of str, default "all"
        Names and sets of the store's layers.
    method : {"pca", "tsne", "umap"}, default "pca"
        See `featx.report.figures.maps.embed`.
    label, where, n_images, progress
        See `draw_correlation`.
    seed : int, default 0
        Of the sample and the method.

    Raises
    ------
    FeatxError
        See `draw_correlation`; or if umap-learn is asked for and isn't installed.
    """
    names = select(store, layers).layers
    rows, labels = labelled_rows(store, label=label, where=where)
    X, labels, note = sample_features(store, names, rows, labels, n_images, seed, progress=progress)
    embedding = embed(X, method, seed=seed)
    shown = names[0] if len(names) == 1 else f"{len(names)} layers"
    title = {"pca": "Principal components", "tsne": "t-SNE", "umap": "UMAP"}[method]
    advice = {
        "pca": "The plane in which the features vary most.",
        "tsne": "Neighbours are alike; distances between groups, and their sizes, mean little.",
        "umap": "Neighbours are alike; distances between groups mean little.",
    }
    return Panel(
        f"{title}, {shown}",
        plot_embedding(embedding.points, labels, method, embedding.explained, title=f"{title} of {shown}"),
        f"{title} of {X.shape[1]:,} standardised features ({shown}); {note}. {advice[method]}",
    )


def draw_dead(store: Store, *, progress: bool = False) -> Panel:
    """Draw how many features are the same for every image, and the share of zeros, layer by layer."""
    table = find_dead(store, progress=progress)
    n_dead, n_constant, n_features = (int(table[name].sum()) for name in ("dead", "constant", "n_features"))
    return Panel(
        "Dead and constant features",
        plot_dead(table, title="Features that say nothing"),
        f"Of {n_features:,} features, {n_dead:,} are 0 for each of the {len(store):,} images, and {n_constant:,} are "
        "the same other number for all; on the right, how many of a layer's numbers are 0.",
    )


def draw_filters(store: Store, weights: str | None = None, *, scale: str = "own") -> Panel:
    """Draw the filters of the first convolution of the network that made a store's features.

    Parameters
    ----------
    store : Store
    weights : str, optional
        Where they are; see `featx.report.figures.filters.first_layer_filters`.
    scale : {"own", "shared"}, default "own"
        See `featx.report.figures.filters.SCALES`.

    Raises
    ------
    FeatxError
        If the weights can't be had, or are others than those that made the features.
    """
    settings = settings_of(store)
    kernels = first_layer_filters(settings, weights)
    title = f"First filters of {settings.backbone}, weights {settings.weights}"
    return Panel(
        "Filters of the first layer",
        plot_filters(scale_filters(kernels, scale), title=title),
        f"{title}, in the colours that they see. Brightness: {SCALES[scale]}.",
    )


def draw_top_images(
    store: Store,
    layer: str | None,
    channel: int,
    *,
    n: int = 12,
    label: str = "label",
    root: str | Path | None = None,
    side: int = 200,
    echo: Callable[[str], None] = lambda line: None,
) -> Panel:
    """Draw the images that excite a channel most.

    Parameters
    ----------
    store : Store
    layer : str or None
        None: the deepest.
    channel : int
        From 0.
    n : int, default 12
    label : str, default "label"
        The column whose text is shown with the images, if the store has it.
    root : path, optional
        Where the images' paths start; default: where they did when they were extracted.
    side : int, default 200
        Height and width of a picture, pixels.
    echo : callable, optional
        Receives one line per file that can't be shown.

    Raises
    ------
    FeatxError
        If the store has no such layer or channel, or none of the images can be read.
    """
    name = one_layer(store, layer)
    strongest = top_images(store, name, channel, n)
    settings = settings_of(store)
    folder = Path(str(store.attributes.get("root", "")) if root is None else root)
    shape = {"side": side, "resize": settings.resize, "interpolation": settings.interpolation, "icc": settings.icc}
    pictures = list(read_pictures(strongest, folder, **shape))
    reasons = [
        f"{folder / path}: {picture}"
        for path, picture in zip(strongest["path"], pictures, strict=True)
        if isinstance(picture, str)
    ]
    if len(reasons) == len(pictures):
        raise FeatxError(f"{reasons[0]}. None of the images can be shown; if they have moved, say where with `root`")
    for reason in reasons:
        echo(reason)
    gone = f" {len(reasons):,} of them can't be read any more, or have changed." if reasons else ""
    labels = as_labels(strongest[label]).tolist() if label in strongest else []
    figure = plot_top_images(
        [None if isinstance(picture, str) else picture for picture in pictures],
        strongest["value"],
        strongest["path"],
        labels=labels if any(labels) else None,
        title=f"Channel {channel} of {name}: its strongest images",
    )
    return Panel(
        f"What excites channel {channel} of {name}",
        figure,
        f"The {len(strongest):,} images of {len(store):,} that excite channel {channel} of {name} most, the strongest "
        f"first, with the feature's value.{gone}",
    )


N_CLOSER = 3
"""How many classes are drawn by themselves, if there are more of them."""


# These take a second or two, and 60 kB.
_N_PCA, _N_TSNE = 2000, 1000


_N_ALIKE = 1000


_N_PICTURES, _SIDE = 8, 64


def summary_figures(
    store: Store,
    *,
    layer: str | None = None,
    label: str = "label",
    root: str | Path | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> list[Panel]:
    """Draw the figures that show the features of a store.

    Parameters
    ----------
    store : Store
    layer : str, optional
        For correlations and the channel; default: the deepest.
    label : str, default "label"
        The column that says an image's class.
    root : path, optional
        Where the images' paths start; default: where they did when they were extracted.
    classes : sequence of str, optional
        Classes to draw by themselves: those that were confused most, say. Default: three that are alike.
    seed : int, default 0
        Of samples and t-SNE.
    echo : callable, optional
        Receives one line per figure that was left out, with the reason.

    Returns
    -------
    list of Panel
        Correlations of a layer, of all and of some classes; PCA and t-SNE of all layers; dead features; the first
        layer's filters, if that needs no download; the strongest images of the channel that separates classes best.
        What can't be drawn is left out.

    Raises
    ------
    FeatxError
        If the store has no such layer; or if matplotlib isn't installed.
    """
    name = one_layer(store, layer)
    draw = [
        partial(draw_correlation, store, name, label=label, seed=seed),
        partial(_draw_closer, store, name, label, classes, seed),
        partial(draw_embedding, store, method="pca", label=label, n_images=_N_PCA, seed=seed),
        partial(draw_embedding, store, method="tsne", label=label, n_images=_N_TSNE, seed=seed),
        partial(draw_dead, store),
        partial(_draw_filters, store),
        partial(_draw_channel, store, name, label, root, seed, echo),
    ]
    panels = []
    for function in draw:
        try:
            panels.append(function())
        except FeatxError as error:
            echo(f"a figure of the features is left out: {error}")
    return [panel for panel in panels if panel is not None]


def _draw_closer(store: Store, layer: str, label: str, classes: Sequence[str], seed: int) -> Panel | None:
    """Draw the correlation of a few classes; nothing if there are no more."""
    rows, labels = labelled_rows(store, label=label)
    if len(set(labels)) <= N_CLOSER:
        return None
    chosen = list(classes)
    why = ""
    if not chosen:
        kept = sample_rows(labels, _N_ALIKE, seed=seed)
        chosen = find_alike(read_features(store, [layer], rows[kept]), labels[kept])
        why = " The classes whose images correlate most with each other's."
    panel = draw_correlation(store, layer, classes=chosen, label=label, seed=seed)
    heading = f"{panel.heading}, {len(chosen)} of {len(set(labels)):,} classes"
    return Panel(heading, panel.figure, panel.caption + why)


def find_alike(X: np.ndarray, labels: np.ndarray, n_classes: int = N_CLOSER) -> list[str]:
    """Return classes that are alike, sorted: the two whose images correlate most, then those nearest to these."""
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
    return sort_labels(str(names[number]) for number in chosen)


def _draw_filters(store: Store) -> Panel:
    reason = what_filters_need(settings_of(store))
    if reason:
        raise FeatxError(f"the first layer's filters can't be shown: {reason}")
    return draw_filters(store)


def _draw_channel(
    store: Store, layer: str, label: str, root: str | Path | None, seed: int, echo: Callable[[str], None]
) -> Panel:
    """Draw the strongest images of the channel whose means differ most between the classes."""
    rows, labels = labelled_rows(store, label=label)
    train = (store.images["split"] == "train").to_numpy()[rows]
    where = ""
    # Test images are shown, but choose nothing.
    if len(set(labels[train])) > 1:
        rows, labels, where = rows[train], labels[train], " of train images"
    kept = sample_rows(labels, _N_PCA, seed=seed)
    channel = most_distinct_channel(read_features(store, [layer], rows[kept]), labels[kept])
    panel = draw_top_images(store, layer, channel, n=_N_PICTURES, label=label, root=root, side=_SIDE, echo=echo)
    why = f" This channel's means{where} differ most between the classes, for their spread (largest F)."
    return Panel(panel.heading, panel.figure, panel.caption + why)
