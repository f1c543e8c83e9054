"""Recipes for fine-tuning: small YAML files with a head, stages and training settings; those that ship, and a user's.

The records that they are read to are those of `featx.networks.recipes.schema`; all of them can be imported from here.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

from featx.errors import FeatxError
from featx.networks.recipes.changes import resolve_stages
from featx.networks.recipes.checks import check_recipe
from featx.networks.recipes.schema import Recipe
from featx.system import close_names, parse_yaml, read_yaml, to_yaml, whole_file, without_numpy

_FOLDER = files(__package__)


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with featx.

    Examples
    --------
    >>> shipped_recipes()[:3]
    ['activities', 'caltech', 'flowers-5']
    """
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """Return the YAML of a recipe that comes with featx.

    Raises
    ------
    FeatxError
        If there is none of that name.
    """
    shipped = shipped_recipes()
    if name not in shipped:
        raise FeatxError(f"no recipe {name!r} {close_names(name, shipped)}. 'featx recipes' describes them")
    return _FOLDER.joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def read_recipe(source: str | Path, *, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read a recipe and check it.

    Parameters
    ----------
    source : str or path
        The name of one that comes with featx, or a YAML file.
    changes : mapping of str to object, optional
        What to take instead of the file's values: `epochs` for every stage, `head.epochs` for the stage named head,
        `precision` and `from_layer` for the whole recipe. A stage's own change goes before that for all of them.

    Raises
    ------
    FeatxError
        If there is none, or if anything in it is wrong; the message names every mistake by its key.

    Examples
    --------
    >>> recipe = read_recipe("mame-i", changes={"head.epochs": 5})
    >>> recipe.backbones, recipe.stages[0].epochs, recipe.stages[0].patience
    (('vgg16',), 5, 20)
    """
    if source in shipped_recipes():
        label = f"recipe {source}"
        record = parse_yaml(recipe_text(source), source=label)
    else:
        label = str(source)
        record = _read_file(Path(source))
    if not isinstance(record, dict):
        keys = ", ".join(field.name for field in fields(Recipe)[:6])
        raise FeatxError(f"{label}: expected a mapping with the keys {keys}; 'featx recipes NAME' prints an example")
    resolved = resolve_stages(record, without_numpy(changes or {}))
    return check_recipe(resolved.record, source=label, origins=resolved.origins, problems=resolved.problems)


def recipe_record(recipe: Recipe) -> dict[str, object]:
    """Return a recipe as JSON and YAML can hold it, every value written out.

    Examples
    --------
    >>> recipe_record(read_recipe("caltech"))["head"]
    [{'layer': 'flatten'}]
    """
    return _with_lists(asdict(recipe))


def recipe_from_record(record: Mapping[str, object]) -> Recipe:
    """Make a recipe of a record, checked as a file is.

    Raises
    ------
    FeatxError
        If anything in it is wrong; the message names every mistake by its key.
    """
    name = record.get("name") if isinstance(record, Mapping) else None
    return check_recipe(record, source=f"recipe {name}" if isinstance(name, str) else "recipe")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, every value written out; `read_recipe` reads it back equal.

    Raises
    ------
    FeatxError
        If it can't be written, or if the recipe isn't one that can be read.
    """
    record = recipe_record(recipe)
    recipe_from_record(record)
    with whole_file(Path(path)) as file:
        file.write(to_yaml(record).encode())


def _read_file(path: Path) -> object:
    # A name without a folder and without an ending may be a misspelt one of a recipe that ships.
    if not os.path.lexists(path):
        shipped = shipped_recipes()
        raise FeatxError(
            f"{path}: no such file, and no recipe of that name {close_names(path.name, shipped)}. "
            "'featx recipes' describes them"
        )
    return read_yaml(path)


def _with_lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
