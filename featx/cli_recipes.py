"""featx recipes: which recipes for fine-tuning there are, and the file of one, to copy and change."""

import click

from featx.cli_options import AS_JSON, show_json


@click.command()
@click.argument("name", required=False)
@AS_JSON
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes for fine-tuning that come with featx; or print the YAML file of the recipe NAME.

    A printed file, copied and changed, is a recipe of your own. As JSON, every setting is written out.
    """
    from featx.recipes import read_recipe, recipe_record, recipe_text, shipped_recipes

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
