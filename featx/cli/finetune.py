"""Run `featx finetune`, and list recipes with `featx recipes`."""

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.from_records import taking
from featx.cli.options import AS_JSON, OVERWRITE, Command, check_first, cluster_options, opened, show_json
from featx.cli.streams import say
from featx.errors import FeatxError
from featx.finetune import TuneOptions

if TYPE_CHECKING:
    from featx.cluster import Address


@click.command(cls=Command)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--recipe",
    "recipes",
    required=True,
    multiple=True,
    help="Recipe: a name that featx recipes lists, or a YAML file. Repeat it for more recipes, one run each.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the run; of several recipes, the folder of all their runs.  [default: results/RECIPE-TIME]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the recipe: epochs=5, or head.epochs=5 for one stage. Repeat it for more changes.",
)
@click.option("--from-layer", help="Layer that the head is put on.  [default: the recipe's]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_float16", "mixed_bfloat16"]),
    help="Arithmetic of training; mixed: fast on a GPU, weights stay float32.  [default: the recipe's]",
)
@click.option(
    "--compile/--no-compile", "compiled", default=None, help="Compile the training by XLA.  [default: the recipe's]"
)
@taking(TuneOptions)
@click.option("--no-cache", is_flag=True, help="Read the images, and run the whole network, in every epoch.")
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
    options: TuneOptions,
    no_cache: bool,
    cluster: "Address | None",
    cluster_settings: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fine-tune the backbone of STORE on its train rows, and score it once on its test rows.

    The best epoch on the validation rows is kept. What a recipe leaves frozen runs once, and every epoch trains the
    rest. A training that was stopped resumes after its last finished epoch when it is started again.
    """
    from featx.finetune import fine_tune_all, name_runs
    from featx.networks.recipes import parse_changes
    from featx.results import cells_table, format_table, format_test

    named = {"from_layer": from_layer, "precision": precision, "compile": compiled}
    named = {name: value for name, value in named.items() if value is not None}
    wanted = parse_changes(changes)
    if twice := named.keys() & wanted.keys():
        name = min(twice)
        raise FeatxError(f"--{name.replace('_', '-')} says {name} too: leave one of them out", parameter="changes")
    if no_cache and options.keep_cache:
        raise FeatxError("leaves nothing to keep: leave it or `keep_cache` out", parameter="no_cache")
    if no_cache:
        options = replace(options, cache_limit=0)
    name = Path(recipes[0]).stem if len(recipes) == 1 else "recipes"
    output = output or Path("results", f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    folders = name_runs(recipes, output)
    names = ("label", "where", "sample_weight", "drop_duplicates", "split")
    # Existing runs may stay where there are several recipes.
    taken = output if len(recipes) == 1 else None
    check_first(cluster, store, taken, overwrite=overwrite, **{name: getattr(options, name) for name in names})
    with opened(cluster, cluster_settings) as workers:
        runs = fine_tune_all(
            *(store, folders, options),
            changes=wanted | named,
            cluster=workers,
            overwrite=overwrite,
            progress=True,
            echo=say,
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
