"""Run `featx extract` and `featx merge`: images to a feature store."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.from_records import ListOrWord, taking
from featx.cli.options import (
    AS_JSON,
    OVERWRITE,
    SEED,
    SHARD,
    Command,
    cluster_options,
    note_of_dry_run,
    opened,
    show_json,
)
from featx.cli.streams import say
from featx.errors import FeatxError
from featx.extract import ExtractOptions
from featx.images import SourceOptions
from featx.system import Range, Values

if TYPE_CHECKING:
    from featx.cluster import Address
    from featx.system import Shard


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="HDF5 store to make.")
@taking(ExtractOptions)
@click.option(
    "--split",
    type=ListOrWord(Values(float, range=Range(0)), is_list=True),
    help="Make splits: shares of train,validation,test or train,test.",
)
@click.option(
    "--split-per-class",
    type=ListOrWord(Values(int, range=Range(0)), is_list=True),
    help="Make splits: train,validation images per class, or train alone; all others are test images.",
)
@click.option("--stratify", default="", help="Further columns whose shares a split keeps, with commas.")
@click.option("--seed", type=SEED, default=0, help="Seed of the split.")
@taking(SourceOptions, "columns")
@click.option(
    "--shard",
    type=SHARD,
    metavar="NUMBER/COUNT",
    help="Make only this share of the store, such as 3/16, in a file of its own; featx merge joins all shares.",
)
@cluster_options
@click.option("--dry-run", is_flag=True, help="Try a few batches, predict time, disk and memory; write nothing.")
@OVERWRITE
@AS_JSON
def extract(
    source: Path,
    output: Path,
    options: ExtractOptions,
    split: tuple[float, ...] | None,
    split_per_class: tuple[int, ...] | None,
    stratify: str,
    seed: int,
    columns: SourceOptions,
    shard: "Shard | None",
    cluster: "Address | None",
    cluster_settings: Path | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Push the images of SOURCE through a frozen network and write its pooled activations to a feature store.

    SOURCE is a folder with one folder per class (below train, validation and test folders, if you like), or a CSV with
    path and label columns. A run that was stopped resumes when it is started again. An existing store is extended: only
    missing layers, poolings and images are computed.
    """
    from featx.extract import extract_features, forecast_extraction, format_forecast, take_shard
    from featx.images import make_count_splits, make_splits, read_source
    from featx.store import check_folder

    check_pairs(split=split, split_per_class=split_per_class, stratify=stratify, shard=shard, cluster=cluster)
    check_not_read(output, source, options.weights)
    manifest = read_source(source, **columns.keywords())
    for note in manifest.notes:
        say(note)
    n_notes = len(manifest.notes)
    if split is not None:
        strata = [name.strip() for name in stratify.split(",") if name.strip()]
        manifest = make_splits(manifest, split, seed=seed, stratify=strata)
    elif split_per_class is not None:
        train, validation = (*split_per_class, 0)[:2]
        manifest = make_count_splits(manifest, train=train, validation=validation, seed=seed)
    for note in manifest.notes[n_notes:]:
        say(note)
    if dry_run:
        note_of_dry_run(cluster, cluster_settings)
        if shard is not None:
            n_images = len(manifest)
            manifest, output = take_shard(manifest, shard), shard.path_of(output)
            if not len(manifest):
                raise FeatxError(f"shard {shard}: none of the {n_images:,} images is in it")
        forecast = forecast_extraction(manifest, output, options, echo=say)
        if as_json:
            show_json(asdict(forecast))
        else:
            click.echo(format_forecast(forecast))
        return
    if cluster is not None:
        # Before the command waits for a cluster.
        check_folder(output)
    with opened(cluster, cluster_settings) as workers:
        done = extract_features(
            *(manifest, output),
            shard=shard,
            cluster=workers,
            overwrite=overwrite,
            progress=True,
            echo=say,
            **options.keywords(),
        )
    if as_json:
        show_json(asdict(done))
        return
    identical = f" ({done.n_identical:,} identical to others)" if done.n_identical else ""
    speed = f"{done.images_per_second:.1f} images/s" if done.n_computed else "nothing to compute"
    click.echo(
        f"{done.store_path}: {done.n_images:,} images{identical}, {done.n_features:,} features, "
        f"{done.n_rejected:,} rejected; {done.seconds:.1f} s, {speed}"
    )
    if done.n_rejected:
        say(f"{done.n_rejected:,} images could not be read: featx info {done.store_path} lists them with their reasons")


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--keep", is_flag=True, help="Keep the shards after STORE is made.")
@OVERWRITE
@AS_JSON
def merge(store: Path, keep: bool, overwrite: bool, as_json: bool) -> None:
    """Make STORE of its shards, which featx extract --shard 1/16, 2/16 and so on have written next to it.

    The store is equal to one that was extracted whole. Shards that are missing, unfinished or made with other settings
    are named; the shards are deleted once the store exists.
    """
    from featx.extract import merge_shards

    done = merge_shards(store, keep=keep, overwrite=overwrite, progress=True, echo=say)
    if as_json:
        show_json(asdict(done))
        return
    identical = f" ({done.n_identical:,} identical to others)" if done.n_identical else ""
    click.echo(
        f"{done.store_path}: {done.n_images:,} images{identical} of {done.n_shards:,} shards, {done.n_features:,} "
        f"features, {done.n_rejected:,} rejected; {done.seconds:.1f} s"
    )


def check_pairs(
    *,
    split: tuple[float, ...] | None,
    split_per_class: tuple[int, ...] | None,
    stratify: str,
    shard: "Shard | None",
    cluster: "Address | None",
) -> None:
    """Check options that do not go together.

    Raises
    ------
    FeatxError
        With the option to leave out.
    """
    if split_per_class is not None and len(split_per_class) > 2:
        raise FeatxError("expected one or two numbers (train,validation)", parameter="split_per_class")
    if split_per_class is not None and (split is not None or stratify):
        raise FeatxError("not used with `split` or `stratify`: leave one of them out", parameter="split_per_class")
    if stratify and split is None:
        raise FeatxError("only for a split that is made: give `split` too, or leave it out", parameter="stratify")
    if shard is not None and cluster is not None:
        raise FeatxError("a cluster divides the work by itself: leave it out", parameter="shard")


def check_not_read(output: Path, source: Path, weights: str) -> None:
    """Check that the output is not one of the inputs: --overwrite would replace it.

    Raises
    ------
    FeatxError
        If it is the source or the weights.
    """
    from featx.system import is_file

    for what, path in (("the source", source), ("the file of weights", Path(weights))):
        if is_file(output) and is_file(path) and output.samefile(path):
            raise FeatxError(f"{output} is {what}; give another file", parameter="output")
