"""Run `featx finetune`, and list recipes with `featx recipes`."""

from pathlib import Path

import click

from featx.cli.options import (
    AS_JSON,
    DROP_DUPLICATES,
    OVERWRITE,
    SEED,
    Command,
    check_first,
    cluster_options,
    opened,
    say,
    show_json,
)
from featx.errors import FeatxError


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    "recipes",
    required=True,
    multiple=True,
    help="One of those that featx recipes lists, or a YAML file. Again for more: a run each.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder; of several recipes, one with a run each.  [default: results/RECIPE-TIME]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="What is to be other than in the recipe: epochs=5, or head.epochs=5 of one stage. Again for more.",
)
@click.option("--from-layer", help="The layer that the head is put on.  [default: the recipe's]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_float16", "mixed_bfloat16"]),
    help="Arithmetic of training; mixed: fast on a GPU, weights stay float32.  [default: the recipe's]",
)
@click.option("--compile/--no-compile", "compiled", default=None, help="By XLA.  [default: the recipe's]")
@click.option("--weights", help="Those that made the store's features, where they came from a file.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the images are.  [default: where they were]")
@click.option("--label", default="label", help="The column that holds the labels.")
@click.option("--where", help="Which rows take part, such as 'type == \"mono\"'.")
@click.option("--split-column", default="split", help="The column that says which split each image is in.")
@click.option("--sample-weight", help="The column that says what each row counts.")
@DROP_DUPLICATES
@click.option(
    "--engine", type=click.Choice(["auto", "keras", "ncnn"]), default="auto", help="What runs the frozen part."
)
@click.option(
    "--cache-limit",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    help="GB of disk that activations may take, in the folder that FEATX_CACHE names.",
)
@click.option("--no-cache", is_flag=True, help="Read the images, and run the whole network, in every epoch.")
@click.option("--keep-cache", is_flag=True, help="Keep the activations for the next training on the same images.")
@click.option("--seed", type=SEED, default=0, help="Of the head, dropout, the order of rows and augmentation.")
@cluster_options
@OVERWRITE
@AS_JSON
def finetune(
    store: Path,
    recipes: tuple[str, ...],
    output: Path | None,
    changes: tuple[str, ...],
    from_layer: str | None,
    precision: str | None,
    compiled: bool | None,
    split_column: str,
    cache_limit: float,
    no_cache: bool,
    cluster: object,
    cluster_settings: Path | None,
    as_json: bool,
    **options: object,
) -> None:
    """Fine-tune the backbone of STORE on its train rows, and score it once on its test rows.

    The best epoch on the validation rows is kept. What a recipe leaves frozen runs once, and every epoch trains the
    rest. A training that is stopped goes on from its last finished epoch when it is started again.
    """
    from dataclasses import asdict
    from datetime import datetime

    from featx.finetune import fine_tune_all, name_runs
    from featx.networks.recipes import parse_changes
    from featx.results import cells_table, format_table, format_test

    named = {"from_layer": from_layer, "precision": precision, "compile": compiled}
    given = {name: value for name, value in named.items() if value is not None}
    wanted = parse_changes(changes)
    if twice := given.keys() & wanted.keys():
        name = min(twice)
        raise FeatxError(f"--set {name}: --{name.replace('_', '-')} says it too: leave one of them out")
    wanted |= given
    if no_cache and options["keep_cache"]:
        raise FeatxError("--no-cache leaves nothing to keep: leave it or --keep-cache out")
    name = Path(recipes[0]).stem if len(recipes) == 1 else "recipes"
    output = output or Path("results", f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    folders = name_runs(recipes, output)
    columns = {name: options[name] for name in ("label", "where", "sample_weight", "drop_duplicates")}
    columns["split"] = split_column
    # Of several runs, those that are there may stay.
    taken = output if len(recipes) == 1 else None
    check_first(cluster, store, taken, overwrite=options["overwrite"], **columns)
    with opened(cluster, cluster_settings) as workers:
        runs = fine_tune_all(
            *(store, folders),
            changes=wanted,
            split=split_column,
            # However small a limit is, it is one.
            cache_limit=0 if no_cache else max(1, round(cache_limit * 1e9)),
            cluster=workers,
            progress=True,
            echo=say,
            **options,
        )
    if as_json:
        records = [{"output": str(path)} | asdict(run) for path, run in runs.items()]
        show_json(records[0] if len(recipes) == 1 else records)
        return
    files = "run.json, cells.csv, curves.csv, predictions.csv, per_class.csv, confusion.csv, recipe.yaml"
    for path, run in runs.items():
        click.echo(format_table(cells_table(run)))
        click.echo(f"\n{format_test(run)}")
        click.echo(f"{path}: {files}, network.weights.h5")


@click.command(cls=Command)
@click.argument("name", required=False)
@AS_JSON
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes for fine-tuning that come with featx; or print the YAML file of the recipe NAME.

    A printed file, copied and changed, is a recipe of your own. As JSON, every setting is written out.
    """
    from featx.networks.recipes import read_recipe, recipe_record, recipe_text, shipped_recipes

    if name is not None:
        text = recipe_text(name)
        show_json(recipe_record(read_recipe(name))) if as_json else click.echo(text, nl=False)
        return
    rows = [read_recipe(each) for each in shipped_recipes()]
    if as_json:
        show_json([{"name": row.name, "backbones": row.backbones, "description": row.description} for row in rows])
        return
    wide = max(len(row.name) for row in rows)
    for row in rows:
        click.echo(f"{row.name:<{wide}}  {', '.join(row.backbones)}: {row.description}")
    click.echo("featx recipes NAME prints one")
