"""Run `featx backbones`: list the networks, and the layers of each."""

from collections.abc import Iterator

import click

from featx.cli.options import AS_JSON, Command, show_json
from featx.errors import FeatxError
from featx.networks import BACKBONES


@click.command(cls=Command)
@click.argument("backbone", required=False, type=click.Choice(list(BACKBONES)))
@click.option(
    "--image-size",
    type=click.IntRange(32, 4096),
    help="Height and width in pixels, for the costs.  [default: the backbone's own]",
)
@AS_JSON
def backbones(backbone: str | None, image_size: int | None, as_json: bool) -> None:
    """List the networks; or the layers of BACKBONE with their channels, and the cost of stopping there.

    GFLOPs are twice the multiplications with weights, for one image, in a layer and in all layers that it depends on.
    The last column names the sets that contain the layer.
    """
    from featx.networks import summarize_backbones, summarize_layers

    if backbone is None and image_size is not None:
        raise FeatxError("only for the costs of one network; name it: featx backbones BACKBONE", parameter="image_size")
    if backbone is None:
        rows = summarize_backbones()
        show_json(list(rows)) if as_json else _show_backbones(rows)
        return
    description = summarize_layers(backbone, image_size=image_size)
    if as_json:
        show_json(description)
    else:
        _show_layers(description)


def _show_backbones(rows: Iterator[dict]) -> None:
    """Show each row as soon as its network is built: building all of them takes a while."""
    click.echo(f"{'backbone':<22}{'layers':>6}{'features':>10}{'pixels':>8}  {'preprocessing':<17}weights")
    for row in rows:
        weights = ", ".join([*row["weights"], "random", "FILE"])
        click.echo(
            f"{row['backbone']:<22}{row['layers']:>6}{row['features']:>10,}{row['image_size']:>8}  "
            f"{row['preprocessing']:<17}{weights}"
        )
    click.echo("layers and features: of --layers all; featx backbones NAME lists every layer of one")


def _show_layers(description: dict) -> None:
    wide = max(len(row["layer"]) for row in description["layers"])
    click.echo(f"{'layer':<{wide}}  channels       size    GFLOPs   share  sets")
    for row in description["layers"]:
        size = f"{row['height']} x {row['width']}" if row["height"] else ""
        sets = ", ".join(name for name, layers in description["sets"].items() if row["layer"] in layers)
        line = f"{row['layer']:<{wide}}  {row['channels']:>8,} {size:>10} {row['gflops']:>9.3f} {row['share']:>7.1%}"
        click.echo(f"{line}  {sets}".rstrip())
    click.echo(
        f"{description['backbone']}: {description['gflops']:.2f} GFLOPs for an image of {description['image_size']} "
        f"pixels; preprocessing {description['preprocessing']}"
    )
