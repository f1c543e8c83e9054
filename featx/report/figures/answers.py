"""Plot the predictions of test rows: which classes are confused, how reliable probabilities are, how well they rank."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.images import sort_labels
from featx.report.figures.style import (
    COLOURS,
    INK,
    MOST_CLASSES,
    SEQUENTIAL,
    new_figure,
    series_look,
    short_name,
    show_percent,
    style,
    write_on_cells,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_N_BINS = 10


# The false positive rates at which the curves of many classes are averaged.
_FALSE_RATES = np.linspace(0, 1, 201)


@style()
def plot_confusion(counts: pd.DataFrame, shares: bool = False) -> "Figure":
    """Plot which classes are taken for which.

    Parameters
    ----------
    counts : DataFrame
        As `featx.results.count_confusion`: one row per true class, one column per predicted one.
    shares : bool, default False
        Divide each row by its sum; a class without rows stays empty. Else counts.

    Raises
    ------
    FeatxError
        If there is no class.
    """
    if not counts.size:
        raise FeatxError("expected one class or more, found none")
    values = counts.to_numpy(dtype=float)
    if shares:
        sums = values.sum(axis=1, keepdims=True)
        values = np.divide(values, sums, out=np.full_like(values, np.nan), where=sums > 0)
    n_classes = max(counts.shape)
    names = [[short_name(name) for name in axis] for axis in (counts.index, counts.columns)]
    longest = max(map(len, names[0] + names[1]))
    is_turned = n_classes > 5 or longest > 12
    side = min(0.42 * max(n_classes, 5), 6.5)
    figure, ax = new_figure(side + 1.7 + 0.08 * longest, side + 0.6 + (0.08 * longest if is_turned else 0))
    # "none": one pixel per class, however large it is drawn.
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=1 if shares else None, interpolation="none")
    if n_classes <= MOST_CLASSES:
        write_on_cells(image, "{:.0%}" if shares else "{:,.0f}", size=9 if n_classes <= 10 else 7, zeros=False)
    for axis, own in zip((ax.yaxis, ax.xaxis), names, strict=True):
        step = -(-len(own) // MOST_CLASSES)
        axis.set_ticks(range(0, len(own), step), own[::step])
    if is_turned:
        ax.tick_params(axis="x", rotation=90)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    bar = figure.colorbar(image, shrink=0.8, label="share of the true class" if shares else "images")
    bar.outline.set_visible(False)
    if shares:
        show_percent(bar.ax.yaxis)
    return figure


def calibration_bins(y: np.ndarray, probabilities: np.ndarray, classes: Sequence) -> tuple[pd.DataFrame, float]:
    """Compare the predicted class's probability with how often it is right: Guo et al. 2017, arXiv:1706.04599.

    Returns one row for each of ten bins of equal width: low, high (in the bin), n_rows, probability (its mean),
    accuracy, the last two NaN in an empty bin; and the expected calibration error: the mean of |accuracy - probability|
    over bins, weighted by their rows. A label that is none of `classes` is never predicted right.

    Examples
    --------
    >>> bins, error = calibration_bins(["a", "b"], [[0.95, 0.05], [0.75, 0.25]], ["a", "b"])
    >>> bins.loc[bins["n_rows"] > 0, "accuracy"].tolist(), round(error, 3)
    ([0.0, 1.0], 0.4)
    """
    probabilities = _check_scores(y, probabilities, classes)
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise FeatxError("expected probabilities, 0 to 1, for a reliability curve; found other scores")
    highest = np.clip(probabilities.max(axis=1), 0, 1)
    right = np.asarray(classes).astype(str)[probabilities.argmax(axis=1)] == np.asarray(y).astype(str)
    edges = np.arange(_N_BINS + 1) / _N_BINS
    # As published: a bin includes its upper edge.
    bin_of = np.clip(np.searchsorted(edges, highest, side="left") - 1, 0, _N_BINS - 1)
    n_rows = np.bincount(bin_of, minlength=_N_BINS)
    mean = [
        np.divide(np.bincount(bin_of, values, _N_BINS), n_rows, out=np.full(_N_BINS, np.nan), where=n_rows > 0)
        for values in (highest, right)
    ]
    bins = {"low": edges[:-1], "high": edges[1:], "n_rows": n_rows, "probability": mean[0], "accuracy": mean[1]}
    return pd.DataFrame(bins), float(np.nansum(np.abs(mean[1] - mean[0]) * n_rows) / len(highest))


@style()
def plot_reliability(y: np.ndarray, probabilities: np.ndarray, classes: Sequence) -> "Figure":
    """Plot how often the predicted class is right, by its probability, and how many rows have each probability.

    Parameters
    ----------
    y : array of shape (n_rows,)
        True labels.
    probabilities : array of shape (n_rows, n_classes), float
    classes : sequence
        In the order of the columns.

    Raises
    ------
    FeatxError
        If there are no rows, or a number is no probability.
    """
    bins, error = calibration_bins(y, probabilities, classes)
    figure, (curve, rows) = new_figure(4.8, 5.0, nrows=2, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (5, 2)), label="as often as predicted")
    filled = bins[bins["n_rows"] > 0]
    curve.plot(filled["probability"], filled["accuracy"], color=COLOURS["blue"], marker="o", label="this run")
    curve.set_ylim(0, 1.03)
    curve.set_xlim(0, 1)
    curve.set_ylabel("share that is right")
    curve.legend(loc="upper left")
    curve.set_title(f"expected calibration error {100 * error:.1f}%, {len(y):,} images")
    bars = rows.bar(bins["low"], bins["n_rows"], width=1 / _N_BINS, align="edge", color=COLOURS["sky blue"])
    for bar in bars:
        bar.set(edgecolor=INK, linewidth=0.6)
    rows.bar_label(bars, labels=[f"{n:,}" if n else "" for n in bins["n_rows"]], fontsize=8, padding=1)
    rows.margins(y=0.25)
    rows.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    rows.set_ylabel("images")
    rows.set_xlabel("probability of the predicted class")
    rows.grid(axis="x", visible=False)
    for axis in (curve.xaxis, curve.yaxis):
        show_percent(axis)
    figure.align_ylabels()
    return figure


@style()
def plot_roc(y: np.ndarray, scores: np.ndarray, classes: Sequence) -> "Figure":
    """Plot ROC curves, each class against the rest; of two classes one curve, the second's.

    Parameters
    ----------
    y : array of shape (n_rows,)
        True labels.
    scores : array of shape (n_rows, n_classes), or (n_rows,) for two classes, float
        Probabilities or decision values: larger is more of the class (of two: of the second).
    classes : sequence
        In the order of the columns. A class of no row, or of all rows, has no curve; of more than 20 others the mean
        curve is drawn, and where the middle 80% of them lie.

    Raises
    ------
    FeatxError
        If no class has a curve, or a score is not finite.
    """
    curves = _roc_curves(y, scores, classes)
    many, several = len(curves) > MOST_CLASSES, 1 < len(curves) <= MOST_CLASSES
    longest = max(len(short_name(name)) for name in curves)
    figure, ax = new_figure(6.3 + 0.07 * longest if several else 4.9, 4.9)
    if many:
        _draw_mean(ax, curves)
    else:
        for number, (name, (false_rate, true_rate, area)) in enumerate(curves.items()):
            look = series_look(number) | {"marker": ""}
            ax.plot(false_rate, true_rate, **look, label=f"{short_name(name)}, AUC {area:.3f}")
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 1.2)), label="by chance, AUC 0.500")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    for axis in (ax.xaxis, ax.yaxis):
        show_percent(axis)
    first, second = ("the others", "the class") if len(classes) != 2 else map(short_name, classes)
    ax.set_xlabel(f"share of {first} that is taken for {second}")
    ax.set_ylabel(f"share of {second} that is found")
    n_without = 0 if len(classes) == 2 else len(classes) - len(curves)
    if n_without:
        ax.set_title(f"{n_without} of {len(classes)} classes: no curve, as they have no test images")
    if several:
        figure.legend(loc="outside right upper")
    else:
        ax.legend(loc="lower right")
    return figure


def _roc_curves(
    y: np.ndarray, scores: np.ndarray, classes: Sequence
) -> dict[object, tuple[np.ndarray, np.ndarray, float]]:
    """Return false rate, true rate and area of every class that has a curve."""
    from sklearn.metrics import auc, roc_curve

    scores = np.asarray(scores, dtype=float)
    if scores.ndim == 1 and len(classes) == 2:
        scores = np.stack([-scores, scores], axis=1)
    scores = _check_scores(y, scores, classes)
    labels = np.asarray(y).astype(str)
    curves = {}
    for column, name in enumerate(classes):
        is_of = labels == str(name)
        if (len(classes) == 2 and column == 0) or is_of.all() or not is_of.any():
            continue
        false_rate, true_rate, _ = roc_curve(is_of, scores[:, column])
        curves[name] = (false_rate, true_rate, float(auc(false_rate, true_rate)))
    if not curves:
        raise FeatxError("no ROC curve: the test rows are all of one class")
    return {name: curves[name] for name in sort_labels(curves)}


def _draw_mean(ax: "Axes", curves: dict[object, tuple[np.ndarray, np.ndarray, float]]) -> None:
    heights = np.array([np.interp(_FALSE_RATES, false, true) for false, true, _ in curves.values()])
    # All begin in the corner; if a curve starts with a step up, interpolation would take its top.
    heights[:, 0] = 0
    area = np.mean([area for *_, area in curves.values()])
    low, high = np.percentile(heights, (10, 90), axis=0)
    ax.fill_between(
        _FALSE_RATES, low, high, color=COLOURS["sky blue"], alpha=0.4, linewidth=0, label="80% of the classes"
    )
    label = f"mean of {len(curves)} classes, AUC {area:.3f}"
    ax.plot(_FALSE_RATES, heights.mean(axis=0), color=COLOURS["blue"], label=label)


def _check_scores(y: np.ndarray, scores: np.ndarray, classes: Sequence) -> np.ndarray:
    scores = np.asarray(scores, dtype=float)
    if not len(y):
        raise FeatxError("no test rows: there is nothing to plot")
    if scores.shape != (len(y), len(classes)):
        raise ValueError(f"scores are {scores.shape}, expected {(len(y), len(classes))}: rows and classes")
    if not np.isfinite(scores).all():
        row = int(np.argmin(np.isfinite(scores).all(axis=1)))
        raise FeatxError(f"the scores of test row {row + 1} are not finite: there is no curve of them")
    return scores
