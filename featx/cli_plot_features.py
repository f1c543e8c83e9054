"""featx plot's figures of features: what a store holds, and what its network's channels see."""

from pathlib import Path

import click

from featx.cli_options import OVERWRITE, SEED, say
from featx.cli_plot import OUTPUT, check_output, write_figure

STORE = click.argument("store", type=click.Path(path_type=Path))
LAYER = click.option("--layer", help="One of the store's layers.  [default: the deepest]")
LABEL = click.option("--label", default="label", help="The column that says an image's class.")
WHERE = click.option("--where", help='Only images for which this is so, such as: type == "mono".')
IMAGES = click.option(
    "--images", "n_images", type=click.IntRange(4, 5000), default=2000, help="Of more, a sample of so many."
)


@click.command()
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
    from featx.feature_figures import draw_correlation
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_correlation(opened, progress=True, **options)
    _write(drawn, output)


@click.command()
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
    from featx.feature_figures import draw_embedding
    from featx.store import Store

    if options["method"] == "tsne":
        say("t-SNE takes some seconds a thousand images")
    with Store(store) as opened:
        drawn = draw_embedding(opened, layers, progress=True, **options)
    _write(drawn, output)


@click.command()
@STORE
@OUTPUT
@OVERWRITE
def dead(store: Path, output: Path, overwrite: bool) -> None:
    """Plot how many features of STORE are 0 or constant over all images, layer by layer."""
    check_output(output, overwrite=overwrite)
    from featx.feature_figures import draw_dead
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_dead(opened, progress=True)
    _write(drawn, output)


@click.command()
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
    from featx.feature_figures import draw_filters
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_filters(opened, **options)
    _write(drawn, output)


@click.command("top-images")
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
    from featx.feature_figures import draw_top_images
    from featx.store import Store

    with Store(store) as opened:
        drawn = draw_top_images(opened, layer, channel, echo=say, **options)
    _write(drawn, output)


def _write(drawn: object, output: Path) -> None:
    write_figure(drawn.figure, output)
    say(drawn.caption)
