"""Plot the cells of a grid: a line over one axis, heat maps over two, one map for each value of further ones."""

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.report.figures.style import (
    COLOURS,
    INK,
    SEQUENTIAL,
    new_figure,
    series_look,
    short_name,
    style,
    write_on_cells,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


_MISSING = "–"


_MOST_PANELS = 12


_MOST_WRITTEN = 12


_NOT_AXES = ("model", "validation", "deviation", "test", "seconds", "error", "chosen", "note")


def list_grid_axes(cells: pd.DataFrame) -> list[str]:
    """Return which columns of a table of cells are axes: parameters that differ between cells, longest axis last.

    Parameters
    ----------
    cells : DataFrame
        As `featx.results.cells_table`.
    """
    names = [name for name in cells if name not in _NOT_AXES and not name.startswith("validation ")]
    texts = cells[names].map(_as_text)
    names = sorted((name for name in names if texts[name].nunique() > 1), key=lambda name: texts[name].nunique())
    for name in list(names):
        # Such as gamma, which a linear kernel does not have: with one value otherwise, the kernel says it all.
        others = [other for other in names if other != name]
        if (texts[name] == _MISSING).any() and others and not texts[others].duplicated().any():
            names = others
    return names


@style()
def plot_grid(cells: pd.DataFrame, axes: Sequence[str], score: str) -> "Figure":
    """Plot the cells of a grid.

    Parameters
    ----------
    cells : DataFrame
        As `featx.results.cells_table`: one row per cell. A cell without a score stays empty; the one with "*" in the
        column chosen is marked.
    axes : sequence of str
        Columns; see `list_grid_axes`. The last is drawn below, the one before it at the side, and the others have one
        heat map for each of their values; of more than 12 maps, the best over them is drawn. Over one axis, a line is
        drawn.
    score : str
        The column to plot; if its name contains loss, less is better.

    Raises
    ------
    FeatxError
        If no cell has a score, there is no axis, or no such column.
    """
    for name in (score, *axes):
        if name not in cells:
            raise FeatxError(f"no column {name!r} in the cells; expected one of {', '.join(cells)}")
    if not axes:
        raise FeatxError("a grid of one cell has no axis to plot over")
    if not cells[score].notna().any():
        raise FeatxError(f"no cell has a {score}: nothing was chosen between, or all failed")
    return _plot_line(cells, axes[0], score) if len(axes) == 1 else _plot_maps(cells, list(axes), score)


def _plot_line(cells: pd.DataFrame, axis: str, score: str) -> "Figure":
    texts = cells[axis].map(_as_text)
    values = _in_order(cells[axis])
    names = [short_name(value) for value in values]
    longest = max(map(len, names))
    is_turned = len(names) > 8 or (len(names) > 3 and longest > 12)
    figure, ax = new_figure(6.4, 3.6 + (0.08 * longest if is_turned else 0))
    positions = texts.map({value: position for position, value in enumerate(values)}).to_numpy()
    order = np.argsort(positions, kind="stable")
    heights = cells[score].to_numpy(dtype=float)
    spread = cells["deviation"].to_numpy(dtype=float)[order] if score == "validation" and "deviation" in cells else None
    label = "mean and deviation over folds" if spread is not None else None
    ax.errorbar(positions[order], heights[order], yerr=spread, **series_look(0), capsize=2, label=label)
    for row in np.flatnonzero(_is_chosen(cells)):
        ax.plot(
            positions[row], heights[row], "o", markersize=12, markerfacecolor="none", color=INK, label="chosen cell"
        )
    ax.set_xticks(range(len(names)), names)
    if is_turned:
        ax.tick_params(axis="x", rotation=90)
    ax.margins(x=0.08, y=0.15)
    ax.set_xlabel(axis)
    ax.set_ylabel(_label(score))
    if ax.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _plot_maps(cells: pd.DataFrame, axes: list[str], score: str) -> "Figure":
    *further, side, below = axes
    cells = cells.assign(**{name: cells[name].map(_as_text) for name in axes}, _chosen=_is_chosen(cells))
    orders = {name: _in_order(cells[name]) for name in axes}
    merged = ""
    if math.prod(len(orders[name]) for name in further) > _MOST_PANELS:
        # Of equal ones the first, as cells are chosen.
        cells = cells.sort_values(score, ascending="loss" in score, kind="stable").drop_duplicates([side, below])
        merged, further = f"the best over {', '.join(further)}", []
    panels = []
    for values in product(*(orders[name] for name in further)):
        here = cells
        for name, value in zip(further, values, strict=True):
            here = here[here[name] == value]
        if len(here):
            title = ", ".join(f"{name}={short_name(value, 16)}" for name, value in zip(further, values, strict=True))
            panels.append((title, here))
    return _draw_maps(panels, orders, side, below, score, merged)


def _draw_maps(
    panels: list[tuple[str, pd.DataFrame]],
    orders: dict[str, list[str]],
    side: str,
    below: str,
    score: str,
    merged: str,
) -> "Figure":
    n_columns = min(len(panels), 3 if len(orders[below]) <= 6 else 2)
    n_rows = -(-len(panels) // n_columns)
    wide = 1.3 + 0.5 * min(max(len(orders[below]), 3), _MOST_WRITTEN)
    high = 1.2 + 0.36 * min(max(len(orders[side]), 2), _MOST_WRITTEN)
    figure, axes = new_figure(1.5 + wide * n_columns, 0.4 + high * n_rows, nrows=n_rows, ncols=n_columns, squeeze=False)
    all_scores = pd.concat([cells[score] for _, cells in panels]).astype(float)
    scale = {"vmin": all_scores.min(), "vmax": all_scores.max()}
    scale["cmap"] = f"{SEQUENTIAL}_r" if "loss" in score else SEQUENTIAL
    image = None
    for ax, (title, cells) in zip(axes.flat, panels, strict=False):
        image = _draw_map(ax, cells, orders, side, below, score, scale)
        ax.set_title(title, fontsize=9)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label=_label(score))
    bar.outline.set_visible(False)
    marked = [patch for ax in axes.flat for patch in ax.patches]
    if marked:
        figure.legend(handles=marked[:1], loc="outside lower left")
    if merged:
        figure.suptitle(merged, x=0.01, ha="left")
    return figure


def _draw_map(
    ax: "Axes",
    cells: pd.DataFrame,
    orders: dict[str, list[str]],
    side: str,
    below: str,
    score: str,
    scale: dict[str, object],
) -> "AxesImage":
    """Draw one heat map, over those values of its axes that it has cells for."""
    columns = [value for value in orders[below] if (cells[below] == value).any()]
    rows = [value for value in orders[side] if (cells[side] == value).any()]
    values = np.full((len(rows), len(columns)), np.nan)
    for row, column, height in zip(cells[side], cells[below], cells[score].astype(float), strict=True):
        values[rows.index(row), columns.index(column)] = height
    image = ax.imshow(values, **scale, aspect="auto", interpolation="none")
    if len(columns) <= _MOST_WRITTEN:
        write_on_cells(image, "{:.3f}", size=8, missing="failed")
    for row, column in cells.loc[cells["_chosen"], [side, below]].itertuples(index=False):
        _frame(ax, columns.index(column), rows.index(row))
    ax.set_xticks(range(len(columns)), [short_name(value, 12) for value in columns])
    ax.set_yticks(range(len(rows)), [short_name(value, 16) for value in rows])
    if len(columns) > 4 and max(map(len, columns)) > 5:
        ax.tick_params(axis="x", rotation=90)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(below)
    ax.set_ylabel(side)
    return image


def _frame(ax: "Axes", column: int, row: int) -> None:
    """Mark the chosen cell."""
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle(
            (column - 0.46, row - 0.46),
            0.92,
            0.92,
            fill=False,
            edgecolor=COLOURS["vermillion"],
            linewidth=2.5,
            label="chosen cell",
        )
    )


def _is_chosen(cells: pd.DataFrame) -> np.ndarray:
    return (cells["chosen"] == "*").to_numpy() if "chosen" in cells else np.zeros(len(cells), dtype=bool)


def _label(score: str) -> str:
    name = "validation accuracy" if score == "validation" else score.replace("_", " ")
    return f"{name} (less is better)" if "loss" in score else name


def _as_text(value: object) -> str:
    """Return a parameter's value as text; a dash if a cell doesn't have it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return _MISSING
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_order(values: pd.Series) -> list[str]:
    """Return the different values: numbers ascending, then words in their order."""
    different = list(dict.fromkeys(values.map(_as_text)))
    return sorted(different, key=lambda text: (0, float(text)) if _is_number(text) else (1, 0.0))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
