"""List every kind of figure: what it is drawn from, what draws it, and which ones a report has.

`featx plot` has one command per entry, and a report draws the entries of its runs. Importing this loads no library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from featx.results import SavedRun
    from featx.store import Store


@dataclass(frozen=True)
class Panel:
    """A figure with its heading and caption.

    Attributes
    ----------
    heading : str
    figure : matplotlib.figure.Figure
    caption : str
        One or more sentences.
    """

    heading: str
    figure: "Figure"
    caption: str = ""


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure.

    Attributes
    ----------
    name : str
        The command of `featx plot`.
    source : {"runs", "run", "store"}
        What it is drawn from: several `featx.results.SavedRun`, one, or a `featx.Store`.
    summary : str
        What it shows, for help.
    function : str
        What draws it: takes the source and options and returns a `Panel`; a name of `featx.report.figures`.
    in_report : tuple of dict
        The options of each figure of this kind that a report has of a run; those of a store are chosen by
        `featx.report.figures.summary_figures`.
    """

    name: str
    source: str
    summary: str
    function: str
    in_report: tuple[Mapping[str, object], ...] = ({},)

    def draw(self, source: "Store | SavedRun | Sequence[SavedRun]", **options: object) -> Panel:
        """Draw one figure.

        Raises
        ------
        FeatxError
            If the source has no data for it.
        """
        from featx.report import figures

        return getattr(figures, self.function)(source, **options)


FIGURES = (
    FigureKind(
        "accuracies",
        "runs",
        "Plot test accuracies of RUNS with 95% intervals, classifiers and fine-tuned networks next to each other.",
        "draw_accuracies",
    ),
    FigureKind(
        "confusion",
        "run",
        "Plot which classes RUN takes for which, on its test rows.",
        "draw_confusion",
        in_report=({}, {"shares": True}),
    ),
    FigureKind(
        "reliability",
        "run",
        "Plot how often RUN is right on its test rows, by the probability that it gives its answers.",
        "draw_reliability",
    ),
    FigureKind(
        "roc",
        "run",
        "Plot ROC curves of RUN on its test rows, each class against the rest; of two classes one curve.",
        "draw_roc",
    ),
    FigureKind(
        "grid",
        "run",
        "Plot the cells of RUN's grid over its axes: heat maps, or a line if there is one axis.",
        "draw_grid",
    ),
    FigureKind(
        "curves",
        "run",
        "Plot loss, accuracy and learning rate of RUN, a fine-tuned network, by epoch, with its stages.",
        "draw_curves",
    ),
    FigureKind(
        "layers",
        "run",
        "Plot the scores of RUN by layer: alone, with all layers before it, without it, shuffled.",
        "draw_layers",
    ),
    FigureKind(
        "classes",
        "store",
        "Plot how many images of STORE each class has in each split, and whether splits keep the classes' shares.",
        "draw_classes",
    ),
    FigureKind(
        "covariance",
        "store",
        "Plot the correlation or covariance of the images of STORE with each other, sorted by class.\n\n"
        "Ranges count the sorted classes from 0 and leave their end out: 3:7 is the fourth to the seventh class.",
        "draw_correlation",
    ),
    FigureKind(
        "embedding",
        "store",
        "Plot the images of STORE in a plane, images with like features near each other, coloured by class.",
        "draw_embedding",
    ),
    FigureKind(
        "dead",
        "store",
        "Plot how many features of STORE are 0 or constant over all images, layer by layer.",
        "draw_dead",
    ),
    FigureKind(
        "filters",
        "store",
        "Plot the filters of the first convolution of the network that made the features of STORE.",
        "draw_filters",
    ),
    FigureKind(
        "top-images",
        "store",
        "Plot the images of STORE that excite a channel of a layer most.",
        "draw_top_images",
    ),
)
