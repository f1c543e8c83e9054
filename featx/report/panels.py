"""The figures of a report: which there are, and how they stand in the page without making it large."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featx.errors import FeatxError, one_line
from featx.report.answer import rank_runs
from featx.report.data import Report, ReportedRun
from featx.report.figures.style import style, to_svg
from featx.results import cells_table, describe_weight

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_SVG = 60_000
"""Characters of a figure as SVG; a larger one becomes a picture of few colours."""


BUDGET = 2_800_000
"""Characters that all figures of a page may take."""


_COLOURS = 32


# No figure takes fewer characters.
_SMALL = 5_000


_PIXELS_PER_INCH = 96


# In a tag, whose attributes have no quotes, < or > in their values: they are escaped.
_STYLE = re.compile(r'(<[^<>]*?) style="([^"]*)"')


_PLAIN_STYLE = re.compile(r"[\w\s:;,.#%'()/-]*")


@dataclass(frozen=True)
class Panel:
    """A figure to draw.

    Attributes
    ----------
    heading : str
    figure : Figure
    caption : str
        A sentence or two below it.
    """

    heading: str
    figure: "Figure"
    caption: str = ""


@dataclass(frozen=True)
class Drawn:
    """A figure in the page.

    Attributes
    ----------
    heading, caption : str
        Text.
    markup : str
        Safe to stand in the page as it is.
    width : int
        Pixels, where there is room.
    """

    heading: str
    markup: str
    caption: str
    width: int


@dataclass
class Easel:
    """Draws figures, and minds how large they are together.

    Attributes
    ----------
    budget : int, default 2,800,000
        Characters.
    most_svg : int, default 60,000
        Characters of one figure.
    spent : int
        So far.
    """

    budget: int = BUDGET
    most_svg: int = MOST_SVG
    spent: int = 0
    _classes: dict[str, str] = field(default_factory=dict)

    def draw(self, panel: Panel) -> Drawn | None:
        """Draw a figure; None where it would take more than is left."""
        # What a reader who doesn't see it is told.
        title = f"{panel.heading}. {panel.caption}".strip()
        markup = self._without_styles(to_svg(panel.figure, title=panel.heading))
        if len(markup) > self.most_svg:
            markup = _as_picture(panel.figure, title)
        if self.spent + len(markup) > self.budget:
            return None
        self.spent += len(markup)
        width = round(panel.figure.get_figwidth() * _PIXELS_PER_INCH)
        return Drawn(panel.heading, markup, panel.caption, width)

    @property
    def is_full(self) -> bool:
        """Whether there is hardly room for another."""
        return self.spent + _SMALL > self.budget

    @property
    def css(self) -> str:
        """Rules for the classes that the drawn figures use."""
        return "\n".join(f".{name}{{{rules}}}" for rules, name in self._classes.items())

    def _without_styles(self, svg: str) -> str:
        """Move what stands in style attributes to classes: smaller, and the page's policy allows no attributes."""

        def replace(match: re.Match) -> str:
            rules = match[2].replace("&quot;", "'")
            if not _PLAIN_STYLE.fullmatch(rules):
                return match[1]
            name = self._classes.setdefault(rules, f"v{len(self._classes)}")
            return f'{match[1]} class="{name}"'

        return _STYLE.sub(replace, svg)


def answer_panel(report: Report) -> Panel:
    """Return the dot plot of all runs: each kind by itself, and of those that can be ranked the best first."""
    from featx.report.figures.runs import plot_accuracies

    runs = []
    for is_finetuned in (False, True):
        kind = [run for run in report.runs if run.run.is_finetuned is is_finetuned]
        ranked = [place for group in rank_runs([run.run for run in kind]) for place in group]
        runs += [kind[place] for place in dict.fromkeys([*ranked, *range(len(kind))])]
    figure = plot_accuracies(
        [one_line(run.name) for run in runs],
        [run.compared.accuracy for run in runs],
        [run.compared.accuracy_interval for run in runs],
        [kind_of(run) for run in runs],
        report.majority,
    )
    caption = (
        f"On the same {report.n_rows:,} test images; every image counts the same; lines are Wilson's 95% intervals."
    )
    return Panel("Test accuracy of every run", figure, caption)


def kind_of(run: ReportedRun) -> str:
    """Return what sort of run it is: classical or fine-tuned."""
    return "fine-tuned" if run.run.is_finetuned else "classical"


def data_panels(report: Report) -> Iterator[Panel]:
    """Yield the figures of the data's section."""
    from featx.report.figures.data import plot_class_counts

    if report.store is not None and len(report.store.images):
        images = report.store.images[["label", "split"]].map(one_line)
        yield Panel(
            "Images of each class by split",
            plot_class_counts(images),
            "Counts, and the share of each class within its split: a split by label keeps the shares.",
        )


def run_panels(run: ReportedRun) -> Iterator[Panel]:
    """Yield the figures of a run that are defined."""
    for heading, caption, plot in _plans(run):
        try:
            yield Panel(heading, plot(), caption)
        except FeatxError:
            # Not defined of this run: of one class in the test rows there is no ROC curve, say.
            continue


def _plans(run: ReportedRun) -> Iterator[tuple[str, str, Callable[[], "Figure"]]]:
    """Yield heading, caption and what plots it."""
    from featx.report.figures.answers import plot_confusion, plot_reliability, plot_roc
    from featx.report.figures.grid import list_grid_axes, plot_grid
    from featx.report.figures.runs import plot_curves, plot_layers

    weighted = describe_weight(run.run)
    confusion = run.confusion.rename(index=one_line, columns=one_line)
    yield "Confusion matrix", "Test images, true classes in rows.", lambda: plot_confusion(confusion)
    yield (
        "Confusion matrix, shares",
        "Of each true class's test images: the diagonal is the recall.",
        lambda: plot_confusion(confusion, shares=True),
    )
    y, classes = run.predictions["label"].to_numpy(), run.classes
    probabilities, decision = run.scores.probabilities, run.scores.decision
    if probabilities is not None:
        yield (
            "Reliability",
            "How often the predicted class is right, by its probability: on the diagonal, as often as told.",
            lambda: plot_reliability(y, probabilities, classes),
        )
    scores = probabilities if probabilities is not None else decision
    if scores is not None:
        yield "ROC curves", "Each class against the rest.", lambda: plot_roc(y, scores, classes)
    cells = cells_table(run.run)
    # The stages of a fine-tuning are no grid.
    axes = [] if run.run.is_finetuned or "validation" not in cells else list_grid_axes(cells)
    if axes:
        yield (
            "The grid",
            f"Validation accuracy of every cell{weighted}; test rows play no part.",
            lambda: plot_grid(cells, axes, "validation"),
        )
    if run.curves is not None:
        curves = run.curves
        yield "Training curves", f"Of train and validation rows, by epoch{weighted}.", lambda: plot_curves(curves)
    if run.layers is not None:
        layers = run.layers
        yield (
            "What each layer gives",
            f"Of the chosen cell, on the rows that it was chosen on{weighted}.",
            lambda: plot_layers(layers),
        )


@style()
def _as_picture(figure: "Figure", title: str) -> str:
    from markupsafe import escape
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    with Image.open(drawn) as picture:
        width, height = picture.size
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    uri = base64.b64encode(small.getvalue()).decode("ascii")
    alt = escape(one_line(title))
    return f'<img alt="{alt}" width="{width}" height="{height}" src="data:image/png;base64,{uri}">'
