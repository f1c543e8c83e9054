"""featx plot: one figure of runs or of a store, as a PNG, SVG or PDF file."""

from pathlib import Path

import click

from featx.cli_options import OVERWRITE, say
from featx.errors import one_line

OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write: .png, .svg or .pdf."
)
RUN = click.argument("run", type=click.Path(path_type=Path))
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where the store is now of a run of an older featx, which kept no scores.  [default: where it was]",
)


@click.group()
def plot() -> None:
    """Write one figure of runs or of a store as PNG, SVG or PDF."""


@plot.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUT
@OVERWRITE
def accuracies(runs: tuple[Path, ...], output: Path, overwrite: bool) -> None:
    """Plot test accuracies of RUNS with 95% intervals, classifiers and fine-tuned networks beside each other."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import CLASSICAL, FINE_TUNED, plot_accuracies
    from featx.run_files import read_accuracies

    found = read_accuracies(runs)
    for note in found.notes:
        say(one_line(note))
    kinds = [FINE_TUNED if is_finetuned else CLASSICAL for is_finetuned in found.is_finetuned]
    write_figure(plot_accuracies(found.names, found.accuracies, found.intervals, kinds, found.majority), output)


@plot.command()
@RUN
@OUTPUT
@click.option("--shares", is_flag=True, help="Shares of the true class, not counts.")
@OVERWRITE
def confusion(run: Path, output: Path, shares: bool, overwrite: bool) -> None:
    """Plot which classes RUN takes for which, on its test rows."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import plot_confusion
    from featx.run_files import read_confusion

    write_figure(plot_confusion(read_confusion(run), shares=shares), output)


@plot.command()
@RUN
@OUTPUT
@STORE
@OVERWRITE
def reliability(run: Path, output: Path, store: Path | None, overwrite: bool) -> None:
    """Plot how often RUN is right on its test rows, by the probability that it gives its answers.

    They are in the run's predictions.csv; those of a classifier of an older featx are computed again.
    """
    check_output(output, overwrite=overwrite)
    from featx.errors import FeatxError
    from featx.plots_runs import plot_reliability
    from featx.run_files import read_scores

    scores = read_scores(run, store=store, progress=True)
    if scores.probabilities is None:
        raise FeatxError(
            f"{run}: its model tells no probabilities, so there is no reliability curve; try featx plot roc"
        )
    write_figure(plot_reliability(scores.y, scores.probabilities, scores.classes), output)


@plot.command()
@RUN
@OUTPUT
@STORE
@OVERWRITE
def roc(run: Path, output: Path, store: Path | None, overwrite: bool) -> None:
    """Plot ROC curves of RUN on its test rows, each class against the rest; of two classes one curve.

    Scores are in the run's predictions.csv; those of a classifier of an older featx are computed again.
    """
    check_output(output, overwrite=overwrite)
    from featx.errors import FeatxError
    from featx.plots_runs import plot_roc
    from featx.run_files import read_scores

    scores = read_scores(run, store=store, progress=True)
    # The figures on record take them in this order too.
    is_binary = len(scores.classes) == 2
    pair = (scores.decision, scores.probabilities) if is_binary else (scores.probabilities, scores.decision)
    told = next((values for values in pair if values is not None), None)
    if told is None:
        raise FeatxError(f"{run}: its model tells neither probabilities nor decision values, so there is no ROC curve")
    write_figure(plot_roc(scores.y, told, scores.classes), output)


@plot.command()
@RUN
@OUTPUT
@OVERWRITE
def grid(run: Path, output: Path, overwrite: bool) -> None:
    """Plot the cells of RUN's grid over its axes: heat maps, or a line where there is one axis."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import list_grid_axes, plot_grid
    from featx.run_files import read_grid

    cells, score = read_grid(run)
    write_figure(plot_grid(cells, list_grid_axes(cells), score), output)


@plot.command()
@RUN
@OUTPUT
@OVERWRITE
def layers(run: Path, output: Path, overwrite: bool) -> None:
    """Plot what each layer gives RUN: alone, with all before it, without it, shuffled; as featx fit was asked."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import plot_layers
    from featx.run_files import read_layer_figures

    write_figure(plot_layers(read_layer_figures(run)), output)


@plot.command()
@RUN
@OUTPUT
@OVERWRITE
def curves(run: Path, output: Path, overwrite: bool) -> None:
    """Plot loss, accuracy and learning rate of RUN, a fine-tuned network, by epoch, with its stages."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import plot_curves
    from featx.run_files import read_curves

    write_figure(plot_curves(read_curves(run)), output)


@plot.command()
@click.argument("store", type=click.Path(path_type=Path))
@OUTPUT
@click.option("--label", default="label", help="The column that holds the labels.")
@click.option("--split", default="split", help="The column that holds the splits.")
@OVERWRITE
def classes(store: Path, output: Path, label: str, split: str, overwrite: bool) -> None:
    """Plot how many images of STORE each class has in each split, and whether splits keep the classes' shares."""
    check_output(output, overwrite=overwrite)
    from featx.plots_runs import plot_class_counts
    from featx.store import Store

    with Store(store) as opened:
        table = opened.images
    write_figure(plot_class_counts(table, label=label, split=split), output)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a file that can't be written or a figure that can't be drawn.

    Raises
    ------
    FeatxError
        If it ends otherwise, is taken or has no folder; or if matplotlib is not installed.
    """
    from featx.figure_style import ending_of, style
    from featx.predictions import check_writable

    ending_of(output)
    check_writable(output, overwrite=overwrite)
    with style():
        pass


def write_figure(figure: object, output: Path) -> None:
    """Write a figure and say where it is."""
    from featx.figure_style import save

    save(figure, output)
    click.echo(output)
