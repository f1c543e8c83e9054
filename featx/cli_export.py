"""featx export: a store in the formats that other people's scripts read."""

from pathlib import Path

import click

from featx.cli_options import AS_JSON, OVERWRITE, show_json


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--format",
    type=click.Choice(["npy", "csv", "parquet", "mat", "h5ad"]),
    help="Of the file.  [default: what its name ends in]",
)
@click.option("--layers", default="all", help="Which of the store's layers: names and sets, with commas.")
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), help="Only its images.  [default: all images]"
)
@OVERWRITE
@AS_JSON
def export(store: Path, output: Path, as_json: bool, **options: object) -> None:
    """Write the features and the table of images of STORE to a .npy, .csv, .parquet, .mat or .h5ad file.

    Features are the store's to the bit, rows in its order. Beside FILE.npy come FILE.images.csv and FILE.features.csv.
    """
    from dataclasses import asdict

    from featx.export import export_store

    done = export_store(store, output, progress=True, **options)
    if as_json:
        show_json(asdict(done))
    else:
        click.echo(
            f"{', '.join(done.paths)}: {done.n_images:,} images, {done.n_features:,} features, "
            f"{done.bytes / 1e6:.1f} MB"
        )
