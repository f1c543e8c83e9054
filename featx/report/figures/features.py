"""Plot images by their features: which are alike, and where each lies in a plane.

Thousands of marks are drawn as a picture, also in SVG and PDF, so that files stay small.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featx.images import sort_labels
from featx.report.figures.style import (
    COLOURS,
    DIVERGING,
    MARKERS,
    MOST_CLASSES,
    ON_LIGHT,
    SEQUENTIAL,
    new_figure,
    short_name,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


MOST_CELLS = 250
"""How many rows and columns of a matrix are drawn; of more images, a cell is the mean of neighbours."""


# Not the ink: it follows a page's text, and a picture within the page doesn't.
_POINT_COLOURS = tuple(COLOURS[name] for name in ("blue", "orange", "green", "vermillion", "sky blue", "purple"))


_GRAY = "#8C8C8C"


_N_COLOURS = 20


@style()
def plot_correlation(
    matrix: np.ndarray, labels: Sequence[str], kind: str = "correlation", *, title: str = ""
) -> "Figure":
    """Draw images against images, with the borders between the classes.

    Parameters
    ----------
    matrix : ndarray of shape (n_images, n_images)
        See `featx.report.figures.maps.correlate`; NaN is drawn gray.
    labels : sequence of str
        Each image's class; images of one class are next to each other.
    kind : {"correlation", "covariance"}, default "correlation"
        Correlations are drawn from -1 to 1. Covariances have 0 in the middle too, or, if none is below 0, at the
        end; the scale ends where one in a hundred between two images is beyond it.
    title : str, optional

    Returns
    -------
    Figure
        At most 20 classes are named: those with the most images, if there is room for their names.
    """
    figure, axes = new_figure(6.4, 4.7)
    n_images = len(matrix)
    cells = _shrink(matrix, MOST_CELLS)
    low, high, colours = _range_of(matrix, kind)
    drawn = axes.imshow(
        *(cells,),
        cmap=_stepped(colours),
        vmin=low,
        vmax=high,
        extent=(0, n_images, n_images, 0),
        interpolation="none",
    )
    axes.grid(False)
    axes.set_title(short_name(title, 70))
    beyond = "neither" if kind == "correlation" else "max" if low == 0 else "both"
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label=_LABELS[kind], extend=beyond)
    bar.outline.set_visible(False)
    _mark_classes(axes, labels)
    return figure


_LABELS = {"correlation": "Correlation of two images (r)", "covariance": "Covariance of two images"}


def _shrink(matrix: np.ndarray, most: int) -> np.ndarray:
    """Return a matrix of at most `most` rows and columns, each cell the mean of its neighbours."""
    n_rows = len(matrix)
    if n_rows <= most:
        return matrix
    starts = np.linspace(0, n_rows, most, endpoint=False).astype(int)
    counts = np.diff([*starts, n_rows])
    sums = np.add.reduceat(np.add.reduceat(matrix.astype(np.float64), starts, axis=0), starts, axis=1)
    return sums / np.outer(counts, counts)


def _range_of(matrix: np.ndarray, kind: str) -> tuple[float, float, str]:
    if kind == "correlation":
        return -1.0, 1.0, DIVERGING
    # Without the diagonal: an image's own variance is far larger, and would leave one shade to all else.
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    most = (float(np.quantile(np.abs(others), 0.99)) if len(others) else 0.0) or 1.0
    return (-most, most, DIVERGING) if len(others) and others.min() < 0 else (0.0, most, SEQUENTIAL)


def _stepped(name: str) -> "Colormap":
    """Return a map of few colours: the picture in the file is a quarter as large, and eyes see no difference."""
    from matplotlib import colormaps

    return colormaps[name].resampled(_N_COLOURS).with_extremes(bad=_GRAY)


def _mark_classes(axes: "Axes", labels: Sequence[str]) -> None:
    names = np.asarray(labels).astype(str)
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    ends = np.r_[starts[1:], len(names)]
    # Of many classes, lines of full width would hide the images.
    width = 0.6 if len(starts) <= MOST_CLASSES else 0.2
    for border in starts[1:]:
        axes.axhline(border, color=ON_LIGHT, linewidth=width)
        axes.axvline(border, color=ON_LIGHT, linewidth=width)
    middles = (starts + ends) / 2
    named = _with_room(middles, ends - starts, room=len(names) / (MOST_CLASSES + 2))
    # Columns are in the rows' order: one side with names is enough.
    axes.set_yticks(middles[named], [short_name(names[starts[number]], 22) for number in named])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_xlabel(f"{len(names):,} images, sorted by class")
    n_unnamed = len(starts) - len(named)
    axes.set_ylabel(f"Class ({n_unnamed:,} of {len(starts):,} not named)" if n_unnamed else "Class")


def _with_room(middles: np.ndarray, sizes: np.ndarray, *, room: float) -> list[int]:
    """Choose the classes to name, the largest first, so that no name touches another."""
    chosen: list[int] = []
    for number in np.argsort(-sizes, kind="stable").tolist():
        if all(abs(middles[number] - middles[other]) >= room for other in chosen):
            chosen.append(number)
    return sorted(chosen[:MOST_CLASSES])


@style()
def plot_embedding(
    points: np.ndarray,
    labels: Sequence[str],
    method: str,
    explained: tuple[float, float] | None = None,
    *,
    title: str = "",
) -> "Figure":
    """Draw an embedding: one point per image, one colour and marker per class.

    Parameters
    ----------
    points : ndarray of shape (n_images, 2)
    labels : sequence of str
    method : {"pca", "tsne", "umap"}
    explained : tuple of float, optional
        Shares of the variance that the two axes have, for their labels.
    title : str, optional

    Returns
    -------
    Figure
        Of more than 20 classes, the 19 with the most images are distinguished, and the others are one group.
    """
    figure, axes = new_figure(6.4, 4.6)
    groups = _group(np.asarray(labels).astype(str))
    size = 14 if len(points) <= 1000 else 9
    for number, (name, rows) in enumerate(groups.items()):
        look = {"color": _POINT_COLOURS[number % len(_POINT_COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        if name is None:
            look = {"color": _GRAY, "marker": "."}
        label = f"{short_name(name, 22)} ({len(rows):,})" if name is not None else _others(labels, groups)
        # Below 0: drawn as one picture, if there are many points. Few points go above many.
        zorder = -2 - (1 if name is None else len(rows) / len(points))
        axes.scatter(*points[rows].T, s=size, alpha=0.8, linewidths=0, label=label, zorder=zorder, **look)
    if len(points) > _MOST_VECTOR_POINTS:
        axes.set_rasterization_zorder(0)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        title="Class (images)",
        alignment="left",
        borderpad=0,
        markerscale=1.4,
    )
    axes.set_title(short_name(title, 70))
    _name_axes(axes, method, explained)
    return figure


_MOST_VECTOR_POINTS = 300


_METHOD_NAMES = {"pca": "Principal component", "tsne": "t-SNE", "umap": "UMAP"}


def _group(labels: np.ndarray) -> dict[str | None, np.ndarray]:
    """Return the rows of each class by its name; if there are too many, those of the smallest ones under None."""
    names, counts = np.unique(labels, return_counts=True)
    n_named = len(names) if len(names) <= MOST_CLASSES else MOST_CLASSES - 1
    kept = sort_labels(names[np.argsort(-counts, kind="stable")[:n_named]].tolist())
    groups = {name: np.flatnonzero(labels == name) for name in kept}
    rest = np.flatnonzero(~np.isin(labels, list(groups)))
    return groups | ({None: rest} if len(rest) else {})


def _others(labels: Sequence[str], groups: dict[str | None, np.ndarray]) -> str:
    n_classes = len(set(map(str, labels))) - (len(groups) - 1)
    return f"{n_classes:,} more classes ({len(groups[None]):,})"


def _name_axes(axes: "Axes", method: str, explained: tuple[float, float] | None) -> None:
    shares = ["", ""] if explained is None else [f" ({share:.1%} of the variance)" for share in explained]
    axes.set_xlabel(f"{_METHOD_NAMES[method]} 1{shares[0]}")
    axes.set_ylabel(f"{_METHOD_NAMES[method]} 2{shares[1]}")
    if method != "pca":
        # Only which images are near each other means anything.
        axes.set_xticks([])
        axes.set_yticks([])
