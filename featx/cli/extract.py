"""featx extract: images to a feature store."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.options import (
    AS_JSON,
    OVERWRITE,
    SEED,
    SHARD,
    BatchSize,
    Command,
    CountOrShare,
    Numbers,
    cluster_options,
    note_of_dry_run,
    opened,
    say,
    show_json,
)
from featx.errors import FeatxError
from featx.networks import BACKBONES

if TYPE_CHECKING:
    from featx.system import Shard


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The HDF5 store to make.")
@click.option("--backbone", type=click.Choice(list(BACKBONES)), default="vgg16", help="The network.")
@click.option(
    "--layers",
    default="all",
    help="all, last, predictions, further sets and names with commas: featx backbones NAME lists them.",
)
@click.option(
    "--weights",
    default="imagenet",
    help="imagenet, imagenet-conv, random[:SEED], a .weights.h5, .h5, .keras or .onnx, or a fine-tuned run's folder.",
)
@click.option(
    "--image-size", type=click.IntRange(32, 4096), help="Height and width, pixels.  [default: the network's own]"
)
@click.option(
    "--resize", type=click.Choice(["squash", "crop", "pad"]), default="squash", help="What becomes of other shapes."
)
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic", "lanczos"]), default="bilinear")
@click.option(
    "--preprocessing",
    type=click.Choice(["caffe", "torch", "tf", "none", "caffe-googlenet"]),
    help="What the weights expect.  [default: the network's own]",
)
@click.option(
    "--pool", default="avg", help="avg, max, std, or several with commas: what is made of a layer's activations."
)
@click.option(
    "--views",
    type=click.Choice(["none", "flip", "dihedral"]),
    default="none",
    help="Average the features over an image and its mirror image, or its eight turned and mirrored views.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "keras", "ncnn"]),
    default="auto",
    help="What runs the network; auto: the fastest float32 engine here.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    help="The network's arithmetic; pooling is float32 always.",
)
@click.option(
    "--jpeg",
    type=click.Choice(["full", "scaled"]),
    default="full",
    help="scaled: decode JPEGs at least twice as large as needed at a part of their size.",
)
@click.option(
    "--icc",
    type=click.Choice(["convert", "ignore"]),
    default="convert",
    help="convert: show colours as an image's ICC profile says, in sRGB.",
)
@click.option(
    "--store-dtype", type=click.Choice(["float32", "float16"]), default="float32", help="How features are stored."
)
@click.option(
    "--batch-size",
    type=BatchSize(1, 4096),
    default="auto",
    help="Images a forward pass; auto: found by trying on a GPU, 8 or an image a core on a CPU.",
)
@click.option("--split", type=Numbers(float, 0), help="Make splits: shares of train,validation,test or train,test.")
@click.option(
    "--split-per-class",
    type=Numbers(int, 0),
    help="Make splits: train,validation images of every class, or train alone; all others are test images.",
)
@click.option("--stratify", default="", help="Further columns whose shares a split keeps, with commas.")
@click.option("--seed", type=SEED, default=0, help="Of the split.")
@click.option("--path-column", default="path", help="Of a CSV.")
@click.option("--label-column", default="label", help="Of a CSV; '' for images without labels.")
@click.option("--split-column", help="Of a CSV; '' for none.  [default: split, if it is there]")
@click.option(
    "--group-column",
    help="Of a CSV: images of one group stay together; '' for none.  [default: group, if it is there]",
)
@click.option("--root", type=click.Path(path_type=Path), help="Where a CSV's paths start.  [default: its folder]")
@click.option(
    "--max-rejected",
    type=CountOrShare(),
    help="Stop as soon as more images than this can't be read: 10, or 1% of them.  [default: any number]",
)
@click.option(
    "--shard",
    type=SHARD,
    metavar="NUMBER/COUNT",
    help="Make this share of the store only, such as 3/16, in a file of its own; featx merge makes the store of all.",
)
@cluster_options
@click.option("--dry-run", is_flag=True, help="Try a few batches, predict time, disk and memory, write nothing.")
@OVERWRITE
@AS_JSON
def extract(
    source: Path,
    output: Path,
    split: tuple[float, ...] | None,
    split_per_class: tuple[int, ...] | None,
    stratify: str,
    seed: int,
    path_column: str,
    label_column: str,
    split_column: str | None,
    group_column: str | None,
    root: Path | None,
    max_rejected: int | float | None,
    shard: "Shard | None",
    cluster: object,
    cluster_settings: Path | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Push the images of SOURCE through a frozen network and write its pooled activations to a feature store.

    SOURCE is a folder with one folder a class (below train, validation and test folders, if you like), or a CSV with
    path and label columns. A run that is stopped goes on where it was when it is started again. A store that is there
    is added to: layers, poolings and images that it lacks are computed, and nothing else.
    """
    from dataclasses import asdict

    from featx.extract import extract_features, forecast_extraction, format_forecast, take_shard
    from featx.images import make_count_splits, make_splits, read_source
    from featx.store import check_folder

    check_pairs(split=split, split_per_class=split_per_class, stratify=stratify, shard=shard, cluster=cluster)
    check_not_read(output, source, options["weights"])
    manifest = read_source(
        source,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        root=root,
    )
    for note in manifest.notes:
        say(note)
    n_notes = len(manifest.notes)
    if split is not None:
        columns = [name.strip() for name in stratify.split(",") if name.strip()]
        manifest = make_splits(manifest, split, seed=seed, stratify=columns)
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
        forecast = forecast_extraction(manifest, output, echo=say, **options)
        if as_json:
            show_json(asdict(forecast))
        else:
            click.echo(format_forecast(forecast))
        return
    if cluster is not None:
        # Before a cluster is waited for.
        check_folder(output)
    with opened(cluster, cluster_settings) as workers:
        done = extract_features(
            *(manifest, output),
            max_rejected=max_rejected,
            shard=shard,
            cluster=workers,
            overwrite=overwrite,
            progress=True,
            echo=say,
            **options,
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
@click.option("--keep", is_flag=True, help="Keep the shards once STORE is there.")
@OVERWRITE
@AS_JSON
def merge(store: Path, keep: bool, overwrite: bool, as_json: bool) -> None:
    """Make STORE of its shards, that featx extract --shard 1/16, 2/16 and so on have written beside its place.

    The store is equal to one that was extracted whole. Shards that are missing, unfinished or of other settings are
    named; the shards are deleted once the store is there.
    """
    from dataclasses import asdict

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
    *, split: object, split_per_class: Sequence[int] | None, stratify: str, shard: object, cluster: object
) -> None:
    """Refuse options that don't go together.

    Raises
    ------
    FeatxError
        With which ones to leave out.
    """
    if split_per_class is not None and (split is not None or stratify or len(split_per_class) > 2):
        raise FeatxError(
            "--split-per-class takes one or two numbers (train,validation), and neither --split nor --stratify beside "
            "it"
        )
    if stratify and split is None:
        raise FeatxError(f"--stratify {stratify}: of a split that --split makes; give --split too, or leave it out")
    if shard is not None and cluster is not None:
        raise FeatxError("--cluster divides the work by itself: leave --shard out")


def check_not_read(output: Path, source: Path, weights: object) -> None:
    """Refuse an output that is what is read: --overwrite would replace it.

    Raises
    ------
    FeatxError
        With what it is.
    """
    from featx.system import is_file

    for what, path in (("the source itself", source), ("the weights themselves", Path(str(weights)))):
        if is_file(output) and is_file(path) and output.samefile(path):
            raise FeatxError(f"{output}: {what}; give another --output")
