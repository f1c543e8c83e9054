"""Plot how many images each class has in each split, and whether splits keep the classes' shares."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.images import as_labels, sort_labels
from featx.report.figures.style import COLOURS, INK, MOST_CLASSES, new_figure, short_name, show_percent, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Neighbours differ in grey.
_SPLIT_LOOKS = {
    "train": {"color": COLOURS["blue"], "marker": "o"},
    "validation": {"color": COLOURS["sky blue"], "marker": "s"},
    "test": {"color": COLOURS["vermillion"], "marker": "D"},
    "": {"color": COLOURS["yellow"], "marker": "^"},  # no split
}


@style()
def plot_class_counts(table: pd.DataFrame, *, label: str = "label", split: str = "split") -> "Figure":
    """Plot how many images each class has by split, and next to it each class's share of each split.

    In stratified splits, a class has the same share in all of them.

    Parameters
    ----------
    table : DataFrame
        As `featx.Store.images`: one row per image.
    label, split : str, default "label" and "split"
        Its columns. The 20 largest classes are named, the others are one group.

    Raises
    ------
    FeatxError
        If there is no image, no such column, or another split than train, validation, test and none.
    """
    counts = count_classes(table, label=label, split=split)
    figure, (bars, shares) = new_figure(
        8.0, 1.4 + 0.27 * max(len(counts), 3), ncols=2, sharey=True, width_ratios=(3, 2)
    )
    places, left = np.arange(len(counts)), np.zeros(len(counts))
    for number, name in enumerate(counts):
        look = _SPLIT_LOOKS[name]
        shown = f"{name or 'no split'}, {counts[name].sum():,} images"
        bars.barh(places, counts[name], left=left, color=look["color"], edgecolor=INK, height=0.72, label=shown)
        left += counts[name].to_numpy()
        share = counts[name] / max(counts[name].sum(), 1)
        look = {"marker": look["marker"], "markerfacecolor": look["color"], "markeredgecolor": INK}
        # Next to each other, so that equal shares don't hide each other.
        offset = 0.5 * ((number + 0.5) / len(counts.columns) - 0.5)
        shares.plot(share, places + offset, linestyle="", markeredgewidth=0.6, **look)
    for place, total in enumerate(left):
        bars.annotate(f"{total:,.0f}", (total, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    bars.set_xlim(0, 1.16 * left.max())
    bars.set_yticks(places, counts.index)
    bars.set_ylim(len(counts) - 0.4, -0.6)
    bars.set_xlabel("images")
    bars.set_ylabel("class")
    bars.xaxis.get_major_locator().set_params(integer=True, nbins=5)
    shares.set_xlabel("class's share of each split")
    show_percent(shares.xaxis)
    shares.xaxis.get_major_locator().set_params(nbins=5)
    shares.set_xlim(0, 1.08 * (counts / counts.sum().clip(lower=1)).max(axis=None))
    for ax in (bars, shares):
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper left", ncols=2 if len(counts.columns) > 3 else 3)
    return figure


def count_classes(table: pd.DataFrame, *, label: str = "label", split: str = "split") -> pd.DataFrame:
    """Count images by class and split, the largest class first; see `plot_class_counts`.

    There is one row per class, with a last one for all but the 20 largest, and one column per split that has images:
    train, validation, test, and the empty name for images without.
    """
    for name in (label, split):
        if name not in table:
            raise FeatxError(f"no column {name!r} in the table of images; expected one of {', '.join(table)}")
    if not len(table):
        raise FeatxError("no images: there is nothing to count")
    counts = pd.crosstab(as_labels(table[label]), as_labels(table[split]))
    unknown = [name for name in counts if name not in _SPLIT_LOOKS]
    if unknown:
        raise FeatxError(
            f"the column {split!r} has {short_name(unknown[0])!r}; expected train, validation, test or ''. Name "
            "another with `split`"
        )
    counts = counts.loc[sort_labels(counts.index), [name for name in _SPLIT_LOOKS if name in counts]]
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    names = [short_name(name) or "(no label)" for name in counts.index]
    if len(counts) > MOST_CLASSES:
        others = counts.iloc[MOST_CLASSES:]
        counts = pd.concat([counts.iloc[:MOST_CLASSES], others.sum().to_frame().T])
        names = [*names[:MOST_CLASSES], f"{len(others):,} more class{'es' if len(others) > 1 else ''}"]
    return counts.set_axis(names)
