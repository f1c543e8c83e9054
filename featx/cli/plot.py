"""Run `featx plot`: one figure of runs, a store or its features, as a PNG, SVG or PDF file."""

from pathlib import Path

import click

from featx.cli.options import OVERWRITE, SEED, Command, Group
from featx.cli.streams import say
from featx.errors import one_line

OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write: .png, .svg or .pdf."
)


RUN = click.argument("run", type=click.Path(path_type=Path))


SOURCE_STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where the store is now of a run of an older featx, which kept no scores.  [default: where it was]",
)


@click.group(cls=Group)
def plot() -> None:
    """Write one figure of runs or of a store as PNG, SVG or PDF."""


@plot.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@OUTPUT
@OVERWRITE
def accuracies(runs: tuple[Path, ...], output: Path, overwrite: bool) -> None:
    """Plot test accuracies of RUNS with 95% intervals, classifiers and fine-tuned networks beside each other."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import CLASSICAL, FINE_TUNED, plot_accuracies, read_accuracies

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
    from featx.report.figures import plot_confusion, read_confusion

    write_figure(plot_confusion(read_confusion(run), shares=shares), output)


@plot.command()
@RUN
@OUTPUT
@SOURCE_STORE
@OVERWRITE
def reliability(run: Path, output: Path, store: Path | None, overwrite: bool) -> None:
    """Plot how often RUN is right on its test rows, by the probability that it gives its answers.

    They are in the run's predictions.csv; those of a classifier of an older featx are computed again.
    """
    check_output(output, overwrite=overwrite)
    from featx.errors import FeatxError
    from featx.report.figures import plot_reliability, read_scores

    scores = read_scores(run, store=store, progress=True)
    if scores.probabilities is None:
        raise FeatxError(
            f"{run}: its model tells no probabilities, so there is no reliability curve; try featx plot roc"
        )
    write_figure(plot_reliability(scores.y, scores.probabilities, scores.classes), output)


@plot.command()
@RUN
@OUTPUT
@SOURCE_STORE
@OVERWRITE
def roc(run: Path, output: Path, store: Path | None, overwrite: bool) -> None:
    """Plot ROC curves of RUN on its test rows, each class against the rest; of two classes one curve.

    Scores are in the run's predictions.csv; those of a classifier of an older featx are computed again.
    """
    check_output(output, overwrite=overwrite)
    from featx.errors import FeatxError
    from featx.report.figures import plot_roc, read_scores

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
    from featx.report.figures import list_grid_axes, plot_grid, read_grid

    cells, score = read_grid(run)
    write_figure(plot_grid(cells, list_grid_axes(cells), score), output)


@plot.command()
@RUN
@OUTPUT
@OVERWRITE
def layers(run: Path, output: Path, overwrite: bool) -> None:
    """Plot what each layer gives RUN: alone, with all before it, without it, shuffled; as featx fit was asked."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import plot_layers, read_layer_figures

    write_figure(plot_layers(read_layer_figures(run)), output)


@plot.command()
@RUN
@OUTPUT
@OVERWRITE
def curves(run: Path, output: Path, overwrite: bool) -> None:
    """Plot loss, accuracy and learning rate of RUN, a fine-tuned network, by epoch, with its stages."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import plot_curves, read_curves

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
    from featx.report.figures import plot_class_counts
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
    from featx.report.figures import ending_of
    from featx.report.figures.style import style
    from featx.system import check_writable

    ending_of(output)
    check_writable(output, overwrite=overwrite)
    with style():
        pass


def write_figure(figure: object, output: Path) -> None:
    """Write a figure and say where it is."""
    from featx.report.figures import save

    save(figure, output)
    click.echo(output)


STORE = click.argument("store", type=click.Path(path_type=Path))


LAYER = click.option("--layer", help="One of the store's layers.  [default: the deepest]")


LABEL = click.option("--label", default="label", help="The column that says an image's class.")


WHERE = click.option("--where", help='Only images for which this is so, such as: type == "mono".')


IMAGES = click.option(
    "--images", "n_images", type=click.IntRange(4, 5000), default=2000, help="Of more, a sample of so many."
)


@click.command(cls=Command)
@STORE
@OUTPUT
@LAYER
@click.option(
    "--kind", type=click.Choice(["correlation", "covariance"]), default="correlation", help="What two images have."
)
@click.option(
    "--features",
    type=click.Choice(["standardised", "stored"]),
    default="standardised",
    help="Each feature standardised over the images first, so that what all share doesn't count; or as it is.",
)
@click.option(
    "--classes", multiple=True, help="Only these: names with commas, or a range of the sorted ones, such as 3:7."
)
@LABEL
@WHERE
@IMAGES
@click.option("--seed", type=SEED, default=0, help="Of the sample.")
@OVERWRITE
def covariance(store: Path, output: Path, overwrite: bool, **options: object) -> None:
    """Plot the correlation or covariance of the images of STORE with each other, sorted by class.

    Ranges count the sorted classes from 0 and leave their end out: 3:7 is the fourth to the seventh class.
    """
    check_output(output, overwrite=overwrite)
    from featx.report.figures import draw_correlation
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_correlation(opened, progress=True, **options)
    _write(drawn, output)


@click.command(cls=Command)
@STORE
@OUTPUT
@click.option("--layers", default="all", help="Which of the store's layers: names and sets, with commas.")
@click.option(
    "--method", type=click.Choice(["pca", "tsne", "umap"]), default="pca", help="umap needs the package umap-learn."
)
@LABEL
@WHERE
@IMAGES
@click.option("--seed", type=SEED, default=0, help="Of the sample and the method.")
@OVERWRITE
def embedding(store: Path, output: Path, layers: str, overwrite: bool, **options: object) -> None:
    """Plot the images of STORE in a plane, those with like features near each other, coloured by class."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import draw_embedding
    from featx.store import Store

    if options["method"] == "tsne":
        say("t-SNE takes some seconds a thousand images")
    with Store(store) as opened:
        drawn = draw_embedding(opened, layers, progress=True, **options)
    _write(drawn, output)


@click.command(cls=Command)
@STORE
@OUTPUT
@OVERWRITE
def dead(store: Path, output: Path, overwrite: bool) -> None:
    """Plot how many features of STORE are 0 or constant over all images, layer by layer."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import draw_dead
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_dead(opened, progress=True)
    _write(drawn, output)


@click.command(cls=Command)
@STORE
@OUTPUT
@click.option("--weights", help="Where they are, if they came from a file or a run.  [default: what STORE names]")
@click.option(
    "--scale",
    type=click.Choice(["own", "shared"]),
    default="own",
    help="Brightness of each filter by its own numbers, or of all by the largest of all.",
)
@OVERWRITE
def filters(store: Path, output: Path, overwrite: bool, **options: object) -> None:
    """Plot the filters of the first convolution of the network that made the features of STORE."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import draw_filters
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_filters(opened, **options)
    _write(drawn, output)


@click.command(cls=Command, name="top-images")
@STORE
@OUTPUT
@LAYER
@click.option("--channel", type=click.IntRange(0), required=True, help="Of the layer, from 0.")
@click.option("--images", "n", type=click.IntRange(1, 60), default=12, help="So many.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the images are.  [default: where they were]")
@OVERWRITE
def top_images(store: Path, output: Path, layer: str | None, channel: int, overwrite: bool, **options: object) -> None:
    """Plot the images of STORE that excite a channel of a layer most."""
    check_output(output, overwrite=overwrite)
    from featx.report.figures import draw_top_images
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_top_images(opened, layer, channel, echo=say, **options)
    _write(drawn, output)


def _write(drawn: object, output: Path) -> None:
    write_figure(drawn.figure, output)
    say(drawn.caption)
