"""Run `featx verify`, `featx repair` and `featx export`."""

from pathlib import Path

import click

from featx.cli.options import AS_JSON, OVERWRITE, SEED, Command, say, show_json
from featx.errors import StoreError, one_line

_SHOWN = 20


_STORE = click.argument("store", type=click.Path(path_type=Path))


_WITH_IMAGES = (
    click.option("--sample", type=click.IntRange(0), default=0, help="So many rows are extracted again and compared."),
    click.option("--seed", type=SEED, default=0, help="Of the sample."),
    click.option("--weights", help="Where the store's came from a file or a fine-tuned run.  [default: the store's]"),
    click.option("--root", type=click.Path(path_type=Path), help="Where paths start.  [default: where they did]"),
    click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images a forward pass."),
)


def _with_images(command: object) -> object:
    for option in reversed(_WITH_IMAGES):
        command = option(command)
    return command


@click.command(cls=Command, name="verify")
@_STORE
@_with_images
@AS_JSON
def verify(store: Path, as_json: bool, **options: object) -> None:
    """Check that STORE is what was written: checksums, digests, shapes, settings, values, tables.

    Of an unfinished store, its parts are checked. Nothing is changed. The exit code is 1 where anything is wrong.
    """
    from dataclasses import asdict

    from featx.extract import verify_store

    if not options["sample"]:
        unused = [f"--{name}" for name in ("weights", "root") if options[name] is not None]
        if unused:
            raise StoreError(f"{store}: {' and '.join(unused)} without --sample, which extracts rows anew; give it too")
    found = verify_store(store, progress=True, echo=say, **options)
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
@click.option("--drop", is_flag=True, help="Damaged rows whose image is gone or has changed go to the rejected ones.")
@_with_images
@AS_JSON
def repair(store: Path, as_json: bool, **options: object) -> None:
    """Verify STORE, and extract its damaged rows again from their images, with the network that made it.

    Everything else is copied, and the new file replaces the old one once it is whole.
    """
    from dataclasses import asdict

    from featx.extract import repair_store

    done = repair_store(store, progress=True, echo=say, **options)
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
    help="Of the file.  [default: what its name ends in]",
)
@click.option("--layers", default="all", help="Which of the store's layers: names and sets, with commas.")
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), help="Only its images.  [default: all images]"
)
@OVERWRITE
@AS_JSON
def export(store: Path, output: Path, as_json: bool, **options: object) -> None:
    """Write the features and the table of images of STORE to a .npy, .csv, .parquet or .mat file.

    Features are the store's to the bit, rows in its order. Beside FILE.npy come FILE.images.csv and FILE.features.csv.
    """
    from dataclasses import asdict

    from featx.store.export import export_store

    done = export_store(store, output, progress=True, **options)
    if as_json:
        show_json(asdict(done))
    else:
        click.echo(
            f"{', '.join(done.paths)}: {done.n_images:,} images, {done.n_features:,} features, "
            f"{done.bytes / 1e6:.1f} MB"
        )
