"""Run `featx verify`, `featx repair` and `featx export`."""

from collections.abc import Callable
from pathlib import Path

import click

from featx.cli.options import AS_JSON, OVERWRITE, SEED, Command, show_json
from featx.cli.streams import say
from featx.errors import StoreError, one_line

_SHOWN = 20


_STORE = click.argument("store", type=click.Path(path_type=Path))


_WITH_IMAGES = (
    click.option("--sample", type=click.IntRange(0), default=0, help="Number of rows to extract again and to compare."),
    click.option("--seed", type=SEED, default=0, help="Seed of the sample."),
    click.option(
        "--weights", help="Weights, where the store's came from a file or a fine-tuned run.  [default: the store's]"
    ),
    click.option("--root", type=click.Path(path_type=Path), help="Folder of the images.  [default: the store's]"),
    click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images per forward pass."),
)


def _with_images(command: Callable) -> Callable:
    for option in reversed(_WITH_IMAGES):
        command = option(command)
    return command


@click.command(cls=Command, name="verify")
@_STORE
@_with_images
@AS_JSON
def verify_store(
    store: Path,
    sample: int,
    seed: int,
    weights: str | None,
    root: Path | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Check that STORE is what was written: checksums, digests, shapes, settings, values, tables.

    In an unfinished store, its parts are checked. Nothing is changed. The exit code is 1 if anything is wrong.
    """
    from dataclasses import asdict

    from featx.extract import verify_store as verify

    for name, value in (("weights", weights), ("root", root)):
        if value is not None and not sample:
            raise StoreError("only for rows that are extracted again: give `sample` too", parameter=name)
    found = verify(
        store,
        sample=sample,
        seed=seed,
        weights=weights,
        root=root,
        batch_size=batch_size,
        progress=True,
        echo=say,
    )
    if as_json:
        show_json(asdict(found) | {"ok": found.ok, "is_damaged": found.is_damaged, "bad_rows": found.bad_rows.tolist()})
    else:
        for problem in found.problems[:_SHOWN]:
            click.echo(one_line(str(problem)))
        if len(found.problems) > _SHOWN:
            click.echo(f"... and {len(found.problems) - _SHOWN:,} more: --json has all")
        for note in found.notes:
            say(one_line(f"{store}: {note}"))
    n_problems = f"{len(found.problems):,} problem{'s' if len(found.problems) > 1 else ''}"
    if found.is_unfinished and found.problems:
        raise StoreError(f"{store}: {n_problems}. Run the same extraction again (with --overwrite if it refuses)")
    if found.is_damaged:
        if found.beyond_repair:
            raise StoreError(
                f"{store}: {n_problems}, not all of which featx repair can fix: restore a copy, or extract it again "
                "with --overwrite"
            )
        raise StoreError(f"{store}: {n_problems}. featx repair {store} fixes what can be made again")
    if not found.ok:
        raise StoreError(f"{store}: {n_problems} with the sample; the store itself is as it was written")
    if not as_json:
        sampled = f", {found.n_sampled:,} rows are their images'" if found.n_sampled else ""
        images = "images are done" if found.is_unfinished else f"images x {found.n_features:,} features"
        click.echo(f"{store}: {found.n_images:,} {images}; nothing is wrong{sampled}")


@click.command(cls=Command, name="repair")
@_STORE
@click.option("--drop", is_flag=True, help="Reject damaged rows whose image is missing or has changed.")
@_with_images
@AS_JSON
def repair(
    store: Path,
    drop: bool,
    sample: int,
    seed: int,
    weights: str | None,
    root: Path | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Verify STORE, and extract its damaged rows again from their images, with the network that made it.

    Everything else is copied, and the new file replaces the old one once it is whole.
    """
    from dataclasses import asdict

    from featx.extract import repair_store

    done = repair_store(
        store,
        drop=drop,
        sample=sample,
        seed=seed,
        weights=weights,
        root=root,
        batch_size=batch_size,
        progress=True,
        echo=say,
    )
    if as_json:
        show_json(asdict(done))
        return
    if not done.is_changed:
        click.echo(f"{store}: nothing is wrong, and nothing was changed")
    else:
        click.echo(
            f"{store}: {done.n_images:,} images; {done.n_repaired:,} extracted again, {done.n_dropped:,} dropped"
        )


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--format",
    type=click.Choice(["npy", "csv", "parquet", "mat"]),
    help="Format of the file.  [default: the ending of its name]",
)
@click.option("--layers", default="all", help="Layers of the store: names and sets, with commas.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    help="Split to write.  [default: all images]",
)
@OVERWRITE
@AS_JSON
def export(
    store: Path, output: Path, format: str | None, layers: str, split: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write the features and the table of images of STORE to a .npy, .csv, .parquet or .mat file.

    Features are bit for bit those of the store, with the rows in its order. FILE.images.csv and FILE.features.csv are
    written next to FILE.npy.
    """
    from dataclasses import asdict

    from featx.store.export import export_store

    done = export_store(store, output, format=format, layers=layers, split=split, overwrite=overwrite, progress=True)
    if as_json:
        show_json(asdict(done))
    else:
        click.echo(
            f"{', '.join(done.paths)}: {done.n_images:,} images, {done.n_features:,} features, "
            f"{done.bytes / 1e6:.1f} MB"
        )
