"""`featx fit`: a command for each classifier; the options of each are the axes of its grid."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli.from_records import collecting, taking
from featx.cli.options import AS_JSON, OVERWRITE, SHARD, Group, check_first, cluster_options, opened, show_json
from featx.cli.streams import say
from featx.errors import FeatxError
from featx.fit import GRIDS, OF_ONE_SPLIT, OF_REPEATS, FitOptions, GridOptions, RepeatOptions
from featx.system import Options

if TYPE_CHECKING:
    from featx.cluster import Address
    from featx.system import Shard


@click.group(cls=Group)
def fit() -> None:
    """Fit a grid on a store: choose on validation rows, refit, score once on test rows.

    Lists with commas make a grid. With --output, a grid that is stopped resumes after its last finished cell.
    """


def add_command(model: str, grid: type[Options]) -> None:
    """Add the command of one classifier."""

    @fit.command(model, help=grid.__doc__)
    @click.argument("store", type=click.Path(path_type=Path))
    @click.option("-o", "--output", type=click.Path(path_type=Path), help="Run folder.  [default: results/MODEL-TIME]")
    @taking(GridOptions, without=["grid", "importance"])
    @click.option("--importance", is_flag=True, help="Measure the accuracy that is lost when a layer is shuffled.")
    @click.option(
        "--shuffles", type=click.IntRange(1), help="Number of shuffles of each layer, for --importance.  [default: 10]"
    )
    @collecting(RepeatOptions, "repeats", only=OF_REPEATS)
    @click.option(
        "--shard",
        type=SHARD,
        metavar="NUMBER/COUNT",
        help="Score only this share of the cells (or splits), such as 3/16; without it, all finished shares are used.",
    )
    @cluster_options
    @OVERWRITE
    @AS_JSON
    @collecting(grid, "axes")
    def command(
        store: Path,
        output: Path | None,
        options: GridOptions,
        importance: bool,
        shuffles: int | None,
        repeats: dict[str, Any],
        shard: "Shard | None",
        cluster: "Address | None",
        cluster_settings: Path | None,
        overwrite: bool,
        as_json: bool,
        axes: dict[str, tuple],
    ) -> None:
        if shuffles is not None and not importance:
            raise FeatxError("only for --importance: give that too", parameter="shuffles")
        if "gamma" in axes and "rbf" not in axes.get("kernel", ("rbf",)):
            raise FeatxError("only the RBF kernel has it: leave it out, or give --kernel linear,rbf", parameter="gamma")
        options = replace(options, grid=axes, importance=(shuffles or 10) if importance else 0)
        keywords = {"progress": True, **choose_options(options, repeats).keywords()}
        check_shard(shard, output, cluster, cluster_settings)
        output = output or Path("results", f"{model}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
        if shard is not None:
            score_share(store, model, output, shard, keywords, overwrite=overwrite, as_json=as_json)
            return
        columns = {name: getattr(options, name) for name in ("label", "where", "sample_weight", "drop_duplicates")}
        check_first(cluster, store, output, overwrite=overwrite, **columns)
        with opened(cluster, cluster_settings, uses_gpus=False) as workers:
            keywords |= {"cluster": workers, "overwrite": overwrite}
            (fit_repeatedly if repeats else fit_once)(store, model, output, keywords, as_json=as_json)


for name, axes_of_model in GRIDS.items():
    add_command(name, axes_of_model)


def choose_options(options: GridOptions, repeats: Mapping[str, Any]) -> GridOptions | RepeatOptions:
    """Return the options of `featx.fit_grid`, or of `featx.fit_repeats` where options of random splits are given.

    Raises
    ------
    FeatxError
        If options don't go together.
    """
    if not repeats:
        return options
    if "n_repeats" not in repeats:
        raise FeatxError("only for random splits: give `n_repeats` too", parameter=next(iter(repeats)))
    for name in OF_ONE_SPLIT:
        if getattr(options, name):
            raise FeatxError("only for one split: leave it or `n_repeats` out", parameter=name)
    if "train_per_class" in repeats and (others := {"test_share", "stratify"} & repeats.keys()):
        raise FeatxError("not used with `train_per_class`: leave one of them out", parameter=min(others))
    shared = options.keywords(FitOptions)
    if options.cv is None:
        # Random splits have a default of their own.
        del shared["cv"]
    return RepeatOptions(**shared, **repeats)


def check_shard(
    shard: "Shard | None", output: Path | None, cluster: "Address | None", cluster_settings: Path | None
) -> None:
    """Raise an error for a shard without an output, or next to a cluster."""
    if shard is not None and output is None:
        raise FeatxError(
            "its scores are kept next to the output: give `output`, the same for every shard", parameter="shard"
        )
    if shard is not None and (cluster is not None or cluster_settings is not None):
        raise FeatxError("a cluster divides the work by itself: leave it out", parameter="shard")


def fit_once(store: Path, model: str, output: Path, keywords: dict[str, Any], *, as_json: bool) -> None:
    """Fit a grid on the store's own split, and show its cells."""
    from featx.fit import fit_grid
    from featx.results import cells_table, format_table, format_test, layers_table

    run = fit_grid(store, model, output, **keywords)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(cells_table(run)))
    if run.layers:
        click.echo(f"\n{format_table(layers_table(run))}")
    click.echo(f"\n{format_test(run)}")
    layers = "layers.csv, " if run.layers else ""
    click.echo(f"{output}: run.json, cells.csv, {layers}predictions.csv, per_class.csv, confusion.csv, model.skops")


def fit_repeatedly(store: Path, model: str, output: Path, keywords: dict[str, Any], *, as_json: bool) -> None:
    """Fit a grid on random splits, and show how much its figures vary."""
    from featx.fit import fit_repeats
    from featx.results import format_repeats, format_table, repeats_table

    run = fit_repeats(store, model, output, **keywords)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(repeats_table(run)))
    click.echo(f"\n{format_repeats(run)}\n{output}: repeats.json, repeats.csv")


def score_share(
    store: Path,
    model: str,
    output: Path,
    shard: "Shard",
    keywords: dict[str, Any],
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score one share of a grid's cells, or of random splits, and say where the scores are."""
    from featx.fit import fit_share, repeat_share
    from featx.results import check_free

    check_free(output, overwrite=overwrite)
    score = repeat_share if "n_repeats" in keywords else fit_share
    # Questions about the chosen cell wait for the choice.
    keywords = {name: value for name, value in keywords.items() if name not in OF_ONE_SPLIT}
    share = score(store, model, output, shard=shard, **keywords)
    if as_json:
        show_json({"output": str(output)} | asdict(share))
        return
    for note in share.notes:
        say(note)
    click.echo(
        f"{share.journal_path}: {share.n_units:,} scores of shard {shard}, {share.n_scored:,} of them made now. Once "
        "all shards are done, the same command without --shard makes the run"
    )
