"""Plot runs, from plain data: accuracies next to each other, training curves, what each layer gives.

The other figures of a run are in `featx.report.figures.answers` (confusion, reliability, ROC) and
`featx.report.figures.grid`, those of the data in `featx.report.figures.data`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.report.figures.style import (
    COLOURS,
    INK,
    MOST_CLASSES,
    new_figure,
    series_look,
    short_name,
    show_percent,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


CLASSICAL, FINE_TUNED = "classical", "fine-tuned"


_KIND_LOOKS = {
    CLASSICAL: {"color": COLOURS["blue"], "marker": "o"},
    FINE_TUNED: {"color": COLOURS["vermillion"], "marker": "D"},
}


_KIND_LABELS = {CLASSICAL: "classifier on frozen features", FINE_TUNED: "fine-tuned network"}


@style()
def plot_accuracies(
    names: Sequence[str],
    accuracies: Sequence[float],
    intervals: Sequence[Sequence[float] | None],
    kinds: Sequence[str],
    majority: float | None,
) -> "Figure":
    """Plot runs' test accuracies with their 95% intervals, one line per run, the first on top.

    Parameters
    ----------
    names : sequence of str
        Of the runs.
    accuracies : sequence of float
        Shares, 0 to 1.
    intervals : sequence of (low, high) or None
        None: not known.
    kinds : sequence of str
        CLASSICAL or FINE_TUNED: they differ by marker and colour.
    majority : float or None
        The accuracy of always answering the most frequent class, drawn as a line; None: no line.

    Raises
    ------
    FeatxError
        If there is no run.
    """
    if not len(names):
        raise FeatxError("expected one run or more, found none")
    figure, ax = new_figure(7.2, 1.3 + 0.29 * len(names))
    for kind, look in _KIND_LOOKS.items():
        rows = [row for row, own in enumerate(kinds) if own == kind]
        if rows:
            ax.plot([accuracies[row] for row in rows], rows, **look, linestyle="", label=_KIND_LABELS[kind], zorder=3)
    for row, (accuracy, interval, kind) in enumerate(zip(accuracies, intervals, kinds, strict=True)):
        if interval is not None:
            ax.plot(interval, [row, row], color=_KIND_LOOKS[kind]["color"], linewidth=1.5, solid_capstyle="butt")
        ax.text(
            1.02, row, _format_accuracy(accuracy, interval), transform=ax.get_yaxis_transform(), va="center", fontsize=9
        )
    if majority is not None:
        ax.axvline(majority, color=INK, linestyle=(0, (5, 2)), linewidth=1, label="always the majority class")
    ax.set_yticks(range(len(names)), [short_name(name, 32) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.06)
    show_percent(ax.xaxis)
    ax.set_xlabel("test accuracy, with its 95% interval")
    figure.legend(loc="outside upper left", ncols=3)
    return figure


@style()
def plot_curves(curves: pd.DataFrame) -> "Figure":
    """Plot a training: loss, accuracy and learning rate by epoch, the stages one after the other.

    Parameters
    ----------
    curves : DataFrame
        As a fine-tuned run's curves.csv: one row per epoch, columns stage, loss, accuracy, val_loss, val_accuracy and
        learning_rate. NaN leaves a gap.

    Raises
    ------
    FeatxError
        If there is no epoch.
    """
    if not len(curves):
        raise FeatxError("expected one epoch or more, found none")
    figure, (loss, accuracy, rate) = new_figure(6.4, 5.6, nrows=3, sharex=True, height_ratios=(3, 3, 1.7))
    epochs = np.arange(1, len(curves) + 1)
    few = {} if len(epochs) <= 40 else {"marker": ""}
    for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
        for number, (column, label) in enumerate(((name, "train"), (f"val_{name}", "validation"))):
            values = curves[column].to_numpy(dtype=float)
            ax.plot(epochs, values, **series_look(number) | {"markersize": 4} | few, label=label)
        ax.set_ylabel(name)
    show_percent(accuracy.yaxis)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    rates = curves["learning_rate"].to_numpy(dtype=float)
    # A rate of 0, as a schedule may end with, can't be drawn on a logarithmic axis.
    rate.plot(epochs, np.where(rates > 0, rates, np.nan), **series_look(6) | {"markersize": 3} | few)
    _scale_rates(rate, rates[rates > 0])
    rate.set_ylabel("learning rate")
    rate.set_xlabel("epoch, over all stages" if curves["stage"].nunique() > 1 else "epoch")
    rate.xaxis.get_major_locator().set_params(integer=True)
    rate.set_xlim(0.5, len(epochs) + 0.5)
    _mark_stages((loss, accuracy, rate), curves["stage"].astype(str).to_numpy())
    figure.align_ylabels()
    return figure


@style()
def plot_layers(layers: pd.DataFrame) -> "Figure":
    """Plot what each layer gives, in network order.

    Parameters
    ----------
    layers : DataFrame
        As `featx.results.layers_table`: one row per layer, column layer, and of alone, cumulative, without, importance
        and importance_deviation those that were asked for.

    Raises
    ------
    FeatxError
        If there is no layer, or no scores of any.
    """
    accuracies = {
        "alone": "this layer alone",
        "cumulative": "this layer and all before it",
        "without": "all layers but this one",
    }
    accuracies = {name: label for name, label in accuracies.items() if name in layers}
    panels = [name for name, is_there in (("accuracy", accuracies), ("importance", "importance" in layers)) if is_there]
    if not len(layers) or not panels:
        raise FeatxError("no scores by layer: fit again with `each_layer`, `leave_one_layer_out` or `importance`")
    names = [short_name(name) for name in layers["layer"].iloc[:: _thinning(len(layers))]]
    high = 0.8 + 0.08 * max(map(len, names)) + 2.1 * len(panels)
    figure, axes = new_figure(max(6.4, 1.2 + 0.27 * min(len(layers), 40)), high, nrows=len(panels))
    by_name = dict(zip(panels, np.atleast_1d(axes), strict=True))
    places = np.arange(len(layers))
    if "accuracy" in by_name:
        for number, (name, label) in enumerate(accuracies.items()):
            by_name["accuracy"].plot(places, layers[name].to_numpy(dtype=float), **series_look(number), label=label)
        by_name["accuracy"].set_ylabel("validation accuracy")
        figure.legend(loc="outside upper left", ncols=3)
    if "importance" in by_name:
        spread = layers["importance_deviation"].to_numpy(dtype=float) if "importance_deviation" in layers else None
        by_name["importance"].bar(
            places, layers["importance"].to_numpy(dtype=float), yerr=spread, color=COLOURS["sky blue"], ecolor=INK
        )
        by_name["importance"].axhline(0, color=INK, linewidth=0.6)
        by_name["importance"].set_ylabel("accuracy lost\nwhen it is shuffled")
    for ax in by_name.values():
        show_percent(ax.yaxis)
        ax.set_xlim(-0.6, len(layers) - 0.4)
        ax.set_xticks(places[:: _thinning(len(layers))], [])
        ax.grid(axis="x", visible=False)
    ax.set_xticklabels(names, rotation=90)
    ax.set_xlabel("layer, in network order")
    figure.align_ylabels()
    return figure


def _format_accuracy(accuracy: float, interval: Sequence[float] | None) -> str:
    bounds = "" if interval is None else f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    return f"{100 * accuracy:.1f}%{bounds}"


def _scale_rates(ax: "Axes", rates: np.ndarray) -> None:
    """Make the axis of learning rates logarithmic, and wide enough to contain a power of ten with a label."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ax.set_yscale("log")
    if len(rates):
        ax.set_ylim(rates.min() / 4, rates.max() * 4)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _thinning(n_names: int) -> int:
    """Return the step that leaves no more names than a figure shows."""
    return -(-n_names // MOST_CLASSES)


def _mark_stages(axes: Sequence["Axes"], stages: np.ndarray) -> None:
    """Draw a line between stages, and name them above the first panel."""
    starts = np.flatnonzero(np.r_[True, stages[1:] != stages[:-1]])
    for start in starts[1:]:
        for ax in axes:
            ax.axvline(start + 0.5, color=INK, linewidth=0.8, linestyle=(0, (1, 1.2)))
    if len(starts) == 1 and not stages[0]:
        return
    names = [short_name(stages[start], 16) for start in starts]
    top = axes[0].secondary_xaxis("top")
    middles = (starts + np.r_[starts[1:], len(stages)] + 1) / 2
    # A letter takes about 0.011 of the panel's width.
    room = np.diff(np.r_[starts, len(stages)]) / len(stages)
    fits = all(0.011 * len(name) < share for name, share in zip(names, room, strict=True))
    turned = {} if fits else {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    top.set_xticks(middles, names, **turned)
    top.tick_params(length=0)
    top.spines["top"].set_visible(False)
