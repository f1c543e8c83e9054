"""Plot channels, from plain data: dead ones by layer, the first layer's filters, the images that excite one most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.report.figures.style import COLOURS, new_figure, short_name, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_LAYERS = 60
"""How many layers a figure names, before their names are thinned out."""


@style()
def plot_dead(table: pd.DataFrame, *, title: str = "") -> "Figure":
    """Draw how many features are the same for every image, and the share of zeros, layer by layer.

    Parameters
    ----------
    table : DataFrame
        See `featx.report.figures.store_data.find_dead`.
    title : str, optional

    Returns
    -------
    Figure
        Layers in network order, the first on top.
    """
    n_layers = len(table)
    figure, (left, right) = new_figure(6.4, 1.5 + 0.2 * min(n_layers, MOST_LAYERS), ncols=2, sharey=True)
    places = np.arange(n_layers)
    dead, constant = table["dead"].to_numpy(), table["constant"].to_numpy()
    left.barh(places, dead, color=COLOURS["vermillion"], label="0 for every image (dead)")
    left.barh(places, constant, left=dead, color=COLOURS["sky blue"], label="constant, not 0")
    for place, silent, n_features in zip(places, dead + constant, table["n_features"], strict=True):
        if n_layers <= MOST_LAYERS:
            text = f"{silent:,} of {n_features:,}"
            left.annotate(text, (silent, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    # So that bars of 0 and 1 don't fill the width.
    left.set_xlim(0, max(4.0, 1.6 * float((dead + constant).max())))
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_xlabel("Features")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, ncols=1)
    right.plot(100 * table["zeros"], places, "o-", color=COLOURS["blue"], clip_on=False)
    right.set_xlim(0, 100)
    right.set_xlabel("Numbers that are 0 (%)")
    step = -(-n_layers // MOST_LAYERS)
    left.set_yticks(places[::step], [short_name(name, 28) for name in table["layer"][::step]])
    left.set_ylim(n_layers - 0.4, -0.6)
    figure.suptitle(short_name(title, 80), x=0.01, ha="left")
    return figure


@style()
def plot_filters(pictures: np.ndarray, *, title: str = "") -> "Figure":
    """Draw the filters of a first convolution.

    Parameters
    ----------
    pictures : ndarray of shape (n_filters, height, width, 3)
        From 0 to 1; see `featx.report.figures.filters.scale_filters`.
    title : str, optional

    Returns
    -------
    Figure
        Row by row, numbered from 0 at the left of each row.
    """
    n_filters, height, width, _ = pictures.shape
    n_columns = int(np.ceil(np.sqrt(n_filters * 1.6)))
    n_rows = -(-n_filters // n_columns)
    # One pixel apart; nothing is drawn where there is no filter.
    page = np.zeros((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1, 4), dtype=np.float32)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, n_columns)
        top, left = row * (height + 1), column * (width + 1)
        page[top : top + height, left : left + width, :3] = picture
        page[top : top + height, left : left + width, 3] = 1
    figure, axes = new_figure(6.4, 0.7 + 6.0 * page.shape[0] / page.shape[1])
    axes.imshow(page, interpolation="nearest")
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks(np.arange(n_rows) * (height + 1) + (height - 1) / 2, np.arange(n_rows) * n_columns)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("Number of a row's first filter")
    axes.set_xlabel(f"{n_filters:,} filters, {height} x {width} pixels")
    axes.set_title(short_name(title, 70))
    return figure


@style()
def plot_top_images(
    pictures: Sequence[np.ndarray | None],
    values: Sequence[float],
    paths: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> "Figure":
    """Draw the images that excite a channel most, the strongest first.

    Parameters
    ----------
    pictures : sequence of ndarray of shape (height, width, 3), uint8, or None
        None of a file that is gone or has changed: a text says so in place of the image.
    values : sequence of float
        The feature of each.
    paths : sequence of str
    labels : sequence of str, optional
    title : str, optional
    """
    n_columns = min(4, len(pictures))
    n_rows = -(-len(pictures) // n_columns)
    figure, grid = new_figure(
        max(4.8, 1.6 * n_columns), 0.4 + 2.05 * n_rows, nrows=n_rows, ncols=n_columns, squeeze=False
    )
    for number, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if number >= len(pictures):
            continue
        picture = pictures[number]
        if picture is None:
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.text(0.5, 0.5, "not there", ha="center", va="center", style="italic", fontsize=9)
        else:
            axes.imshow(picture, interpolation="none")
        lines = [f"feature {values[number]:.4g}", short_name(_file_name(paths[number]), 20)]
        lines += [short_name(labels[number], 20)] if labels is not None else []
        axes.set_title("\n".join(lines), fontsize=8, loc="center", pad=3)
    figure.suptitle(short_name(title, 70), x=0.01, ha="left")
    return figure


def _file_name(path: str) -> str:
    """Return the end of a path, which differs between files more often than its beginning."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]
