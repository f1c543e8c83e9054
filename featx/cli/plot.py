"""Run `featx plot`: one figure of runs, or of a store, as a PNG, SVG or PDF file."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click

from featx.cli.options import OVERWRITE, SEED, Command, Group
from featx.cli.streams import say
from featx.errors import one_line
from featx.report.figures.registry import FIGURES, FigureKind

OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="File to write: .png, .svg or .pdf."
)


LAYER = click.option("--layer", help="Layer of the store.  [default: the deepest]")


LABEL = click.option("--label", default="label", help="Column of the labels.")


WHERE = click.option("--where", help='Condition that chooses the images, such as: type == "mono".')


IMAGES = click.option(
    "--images",
    "n_images",
    type=click.IntRange(4, 5000),
    default=2000,
    help="Greatest number of images; of more, a sample is drawn.",
)


SOURCES = {
    "run": click.argument("run", type=click.Path(path_type=Path)),
    "runs": click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path)),
    "store": click.argument("store", type=click.Path(path_type=Path)),
}


# By the figure's name: the options of its command.
OPTIONS: dict[str, tuple[Callable, ...]] = {
    "confusion": (click.option("--shares", is_flag=True, help="Show shares of the true class in place of counts."),),
    "classes": (
        click.option("--label", default="label", help="Column of the labels."),
        click.option("--split", default="split", help="Column of the splits."),
    ),
    "covariance": (
        LAYER,
        click.option(
            "--kind",
            type=click.Choice(["correlation", "covariance"]),
            default="correlation",
            help="Number that is shown for every two images.",
        ),
        click.option(
            "--features",
            type=click.Choice(["standardised", "stored"]),
            default="standardised",
            help="Features as stored, or each standardised over the images, so that what all share doesn't count.",
        ),
        click.option(
            "--classes",
            multiple=True,
            help="Classes to show: names with commas, or a range of the sorted ones, such as 3:7.  [default: all]",
        ),
        LABEL,
        WHERE,
        IMAGES,
        click.option("--seed", type=SEED, default=0, help="Seed of the sample."),
    ),
    "embedding": (
        click.option("--layers", default="all", help="Layers of the store: names and sets, with commas."),
        click.option(
            "--method",
            type=click.Choice(["pca", "tsne", "umap"]),
            default="pca",
            help="Method; tsne takes some seconds per thousand images, umap needs the package umap-learn.",
        ),
        LABEL,
        WHERE,
        IMAGES,
        click.option("--seed", type=SEED, default=0, help="Seed of the sample and the method."),
    ),
    "filters": (
        click.option("--weights", help="Weights, if they came from a file or a run.  [default: what STORE names]"),
        click.option(
            "--scale",
            type=click.Choice(["own", "shared"]),
            default="own",
            help="Brightness of each filter by its own numbers, or of all by the largest of all.",
        ),
    ),
    "top-images": (
        LAYER,
        click.option("--channel", type=click.IntRange(0), required=True, help="Number of the channel, from 0."),
        click.option("--images", "n", type=click.IntRange(1, 60), default=12, help="Number of images."),
        click.option("--root", type=click.Path(path_type=Path), help="Folder of the images.  [default: the store's]"),
    ),
}


# By the figure's name: what its function takes besides the options.
_SAID = {
    "accuracies": {"echo": lambda line: say(one_line(line))},
    "covariance": {"progress": True},
    "embedding": {"progress": True},
    "dead": {"progress": True},
    "top-images": {"echo": say},
}


@click.group(cls=Group)
def plot() -> None:
    """Write one figure of runs or of a store as PNG, SVG or PDF."""


def _draw(kind: FigureKind, /, output: Path, overwrite: bool, **options: Any) -> None:
    """Draw one figure and write it."""
    from featx.report.figures import ending_of, save, style
    from featx.results import SavedRun, name_runs
    from featx.store import Store
    from featx.system import check_writable

    # Before any work: the name of the file, and whether matplotlib is installed.
    ending_of(output)
    check_writable(output, overwrite=overwrite)
    with style():
        pass
    path = options.pop(kind.source)
    if kind.source == "runs":
        opened = nullcontext([SavedRun(*pair) for pair in zip(path, name_runs(path), strict=True)])
    else:
        opened = Store(path) if kind.source == "store" else nullcontext(SavedRun(path))
    with opened as source:
        panel = kind.draw(source, **options, **_SAID.get(kind.name, {}))
    save(panel.figure, output)
    click.echo(output)
    if panel.caption:
        say(one_line(panel.caption))


for _kind in FIGURES:
    _command = Command(_kind.name, callback=partial(_draw, _kind), help=_kind.summary)
    for _add in (SOURCES[_kind.source], OUTPUT, *OPTIONS.get(_kind.name, ()), OVERWRITE):
        _add(_command)
    plot.add_command(_command)
