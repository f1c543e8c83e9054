"""Draw the figures of runs, each with a heading and a caption, from their folders."""

from collections.abc import Callable, Sequence

from featx.errors import FeatxError
from featx.report.figures.answers import plot_confusion, plot_reliability, plot_roc
from featx.report.figures.grid import list_grid_axes, plot_grid
from featx.report.figures.registry import Panel
from featx.report.figures.runs import CLASSICAL, FINE_TUNED, plot_accuracies, plot_curves, plot_layers
from featx.results import (
    SavedRun,
    accuracy_interval,
    cells_table,
    format_weight,
    majority_rate,
    note_other_measure,
)


def draw_accuracies(runs: Sequence[SavedRun], *, echo: Callable[[str], None] = lambda line: None) -> Panel:
    """Draw the test accuracy of each run with its interval; every row counts the same.

    Parameters
    ----------
    runs : sequence of SavedRun
        Their order is that of the figure, from top to bottom.
    echo : callable, optional
        Receives what a reader of the figure needs to know.

    Raises
    ------
    FeatxError
        If a folder is no run, or has no test rows.
    """
    correct = [run.correct for run in runs]
    rows = {frozenset(zip(run.predictions["path"], run.predictions["label"], strict=True)) for run in runs}
    for run, right in zip(runs, correct, strict=True):
        note = note_other_measure(run.name, run.run, float(right.mean()))
        if note:
            echo(note)
    majority = majority_rate([run.run for run in runs]) if len(rows) == 1 else None
    if len(rows) > 1:
        echo("the runs are of different test rows: their accuracies say little of which is better")
    elif majority is None and not all(format_weight(run.run) for run in runs):
        echo("the runs differ in the accuracy of always answering the majority class: the figure has no line for it")
    figure = plot_accuracies(
        [run.name for run in runs],
        [float(right.mean()) for right in correct],
        [accuracy_interval(right) for right in correct],
        [FINE_TUNED if run.run.is_finetuned else CLASSICAL for run in runs],
        majority,
    )
    same = f"On the same {len(correct[0]):,} test images" if len(rows) == 1 else "On each run's own test images"
    caption = f"{same}; every image counts the same; lines are Wilson's 95% intervals."
    return Panel("Test accuracy of every run", figure, caption)


def draw_confusion(run: SavedRun, *, shares: bool = False) -> Panel:
    """Draw which classes a run takes for which: counts, or shares of the true class."""
    figure = plot_confusion(run.confusion, shares=shares)
    if shares:
        return Panel(
            "Confusion matrix, shares", figure, "Shares of each true class's test images: the diagonal is the recall."
        )
    return Panel("Confusion matrix", figure, "Test images, true classes in rows.")


def draw_reliability(run: SavedRun) -> Panel:
    """Draw how often a run is right, by the probability that it gives its answers."""
    if run.scores.probabilities is None:
        raise FeatxError(
            f"{run.folder}: its model gives no probabilities, so there is no reliability curve; try featx plot roc"
        )
    return Panel(
        "Reliability",
        plot_reliability(run.predictions["label"].to_numpy(), run.scores.probabilities, run.classes),
        "How often the predicted class is right, by its probability: on the diagonal, as often as predicted.",
    )


def draw_roc(run: SavedRun) -> Panel:
    """Draw ROC curves of a run, each class against the rest."""
    if run.scores.values is None:
        raise FeatxError(
            f"{run.folder}: its model gives neither probabilities nor decision values, so there is no ROC curve"
        )
    figure = plot_roc(run.predictions["label"].to_numpy(), run.scores.values, run.classes)
    return Panel("ROC curves", figure, "Each class against the rest.")


def draw_grid(run: SavedRun) -> Panel:
    """Draw the cells of a run's grid by the score that they were chosen by."""
    if run.run.is_finetuned:
        raise FeatxError(f"{run.folder}: a fine-tuned network has stages, no grid: featx plot curves shows them")
    if len(run.run.cells) == 1:
        raise FeatxError(
            f"{run.folder}: one cell, so there is no grid to plot; fit again with several values of a parameter"
        )
    cells = cells_table(run.run)
    choose_by = run.run.protocol.get("choose_by", "accuracy")
    score = "validation" if choose_by == "accuracy" else f"validation {choose_by}"
    if score not in cells:
        raise FeatxError(f"{run.folder}: no cell has a {score} score: all failed")
    name = "Validation accuracy" if choose_by == "accuracy" else f"Validation {str(choose_by).replace('_', ' ')}"
    return Panel(
        "The grid",
        plot_grid(cells, list_grid_axes(cells), score),
        f"{name} of every cell{format_weight(run.run)}; test rows are not used.",
    )


def draw_curves(run: SavedRun) -> Panel:
    """Draw loss, accuracy and learning rate of a fine-tuned network by epoch."""
    if not run.run.is_finetuned:
        raise FeatxError(
            f"{run.folder}: a run of {run.run.model}, which has no training curves; expected a folder that featx "
            "finetune has written"
        )
    if run.curves is None or run.curves.empty:
        what = "no such file" if run.curves is None else "no epoch"
        raise FeatxError(f"{run.folder / 'curves.csv'}: {what}; was the run's folder copied whole?")
    caption = f"Train and validation rows, by epoch{format_weight(run.run)}."
    return Panel("Training curves", plot_curves(run.curves), caption)


def draw_layers(run: SavedRun) -> Panel:
    """Draw what each layer gives a classifier."""
    if run.run.is_finetuned:
        raise FeatxError(f"{run.folder}: a fine-tuned network has no scores by layer; classifiers of featx fit have")
    if run.layers is None:
        raise FeatxError(
            f"{run.folder}: no scores by layer. Fit again with `each_layer`, `leave_one_layer_out` or `importance`"
        )
    return Panel(
        "What each layer gives",
        plot_layers(run.layers),
        f"The chosen cell, on the rows that it was chosen on{format_weight(run.run)}.",
    )
