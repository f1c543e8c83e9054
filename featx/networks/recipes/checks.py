"""Check that a record is a recipe: every mistake at once, each with its key, the expected and the actual value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from featx.networks.recipes.schema import Augmentation, HeadLayer, Plateau, Recipe, Schedule, Stage
from featx.networks.registry import BACKBONES
from featx.system import Location, Problems, check_problems, close_names, format_mistake, join_location, show_value

_LAYERS = {kind.layer: kind for kind in get_args(get_args(HeadLayer)[0])}
_SCHEDULES = {kind.kind: kind for kind in get_args(get_args(Schedule)[0])}

# The records by what stands before their keys in pydantic's locations.
_RECORDS = {
    "": Recipe,
    "stages": Stage,
    "plateau": Plateau,
    "augmentation": Augmentation,
    **_LAYERS,
    **_SCHEDULES,
}

# Records of several kinds: the key that distinguishes them, and its values.
_KINDS = {"head": ("layer", tuple(_LAYERS)), "schedule": ("kind", tuple(_SCHEDULES))}
_TO_VECTOR = ("flatten", "average_pool", "max_pool")

# What a key wants, where that says more.
_EXPECTED_OF = {
    "unfreeze": "all, or a list of names such as [block5]",
    "name": "a word of letters, digits, '_' and '-', at most 60",
    "description": "one line of text",
}

_RECIPE_NAME = "a word of letters, digits, '.', '_' and '-', at most 60, that begins with a letter or a digit"


def check_recipe(
    record: object,
    *,
    source: str,
    origins: Mapping[tuple[int, str], str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> Recipe:
    """Make a recipe of a record."""
    found: Problems = dict(problems or {})
    recipe = None
    try:
        recipe = _adapter().validate_python(record)
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            location = _plain_location(mistake["loc"])
            if mistake["type"].startswith("union_tag"):
                location += _KINDS[_last_word(location)][:1]
            found.setdefault(_key(location, record, origins or {}), _what_is_wrong(mistake, location))
    if isinstance(record, Mapping):
        for location, text in _broken_rules(record):
            # Not where the values stood: it is within the stage that they don't go together.
            found.setdefault(_key(location, record, {}), text)
    check_problems(source, found)
    return recipe


@cache
def _adapter() -> TypeAdapter:
    return TypeAdapter(Recipe)


def _plain_location(location: Location) -> Location:
    """Leave out what pydantic adds to distinguish the members of a union."""
    return tuple(step for place, step in enumerate(location) if not _is_before_kind(location[:place]))


def _is_before_kind(location: Location) -> bool:
    return (len(location) == 2 and location[0] == "head") or location[-1:] in (("schedule",), ("unfreeze",))


def _last_word(location: Location) -> str:
    return next((step for step in reversed(location) if isinstance(step, str)), "")


def _key(location: Location, record: object, origins: Mapping[tuple[int, str], str]) -> str:
    """Write a location as `stages[1].learning_rate (head)`, or as where its value stood."""
    origin = origins.get(location[1:3]) if location[:1] == ("stages",) else None
    text = join_location((origin, *location[3:]) if origin else location)
    if location[:1] == ("stages",) and len(location) > 1 and not origin:
        stage = dict(enumerate(_items(record, "stages"))).get(location[1])
        name = stage.get("name") if isinstance(stage, Mapping) else None
        text += f" ({name})" if isinstance(name, str) else ""
    return text


def _what_is_wrong(mistake: Mapping, location: Location) -> str:
    kind = mistake["type"]
    if kind == "unexpected_keyword_argument":
        *before, key = mistake["loc"]
        names = [field.name for field in fields(_RECORDS[_last_word(tuple(before))])]
        # Of a file alone; it is divided among the stages before anything is checked.
        names += [] if before or key == "training" else ["training"]
        return f"unknown key {close_names(key, names)}"
    if kind == "union_tag_not_found":
        return f"missing: expected one of {', '.join(_KINDS[_last_word(location[:-1])][1])}"
    if kind == "union_tag_invalid":
        kinds = _KINDS[_last_word(location[:-1])][1]
        return f"expected one of {', '.join(kinds)}, found {show_value(mistake['ctx']['tag'])}"
    expected = _RECIPE_NAME if location == ("name",) else _EXPECTED_OF.get(_last_word(location))
    return format_mistake(mistake, expected=expected)


def _broken_rules(record: Mapping) -> Iterator[tuple[Location, str]]:
    """Yield what is wrong across keys. The record may have any other mistake."""
    for i, name in enumerate(_items(record, "backbones")):
        if isinstance(name, str) and name not in BACKBONES:
            yield ("backbones", i), f"expected a backbone, found {name!r} {close_names(name, list(BACKBONES))}"
    for key in ("backbones", "stages"):
        if not _items(record, key, default=(None,)):
            yield (key,), "expected at least one"
    yield from _broken_head_rules(record)
    names: list[object] = []
    for i, stage in enumerate(_items(record, "stages")):
        if isinstance(stage, Mapping):
            if "name" in stage and stage["name"] in names:
                yield ("stages", i, "name"), "another stage has that name"
            names.append(stage.get("name"))
            yield from ((("stages", i, key), text) for key, text in _broken_stage_rules(stage))


def _broken_stage_rules(stage: Mapping) -> Iterator[tuple[str, str]]:
    if stage.get("schedule") is not None and stage.get("plateau") is not None:
        yield "plateau", "schedule is given too: expected one of them (the other null)"
    if stage.get("momentum", 0) != 0 and (optimizer := stage.get("optimizer", "adam")) != "sgd":
        yield "momentum", f"of sgd alone, and the optimizer is {optimizer}: expected 0, or no such key"
    if stage.get("unfreeze") == "all" and stage.get("unfreeze_last"):
        yield "unfreeze_last", "unfreeze is all, so there are no more layers: expected one of the two"
    elif "all" in _items(stage, "unfreeze"):
        yield "unfreeze", "all is no layer: expected 'unfreeze: all', without a list"


def _broken_head_rules(record: Mapping) -> Iterator[tuple[Location, str]]:
    layers = [layer.get("layer") if isinstance(layer, Mapping) else None for layer in _items(record, "head")]
    # What the layers before have made of a map: the first of them that gives a vector.
    vector = None
    for i, layer in enumerate(layers):
        if layer in _TO_VECTOR and vector:
            yield ("head", i), f"{layer} has nothing to do: {vector} before it gives a vector"
        elif layer == "bottleneck" and vector:
            yield ("head", i), f"a bottleneck needs height and width, and {vector} before it gives a vector"
        elif layer == "dense" and not vector and not record.get("from_layer"):
            yield ("head", i), f"expected one of {', '.join(_TO_VECTOR)} before the first dense layer"
        if layer in (*_TO_VECTOR, "dense"):
            vector = vector or layer
    if not vector and not record.get("from_layer") and isinstance(record.get("head"), (list, tuple)):
        yield ("head",), f"expected one of {', '.join(_TO_VECTOR)}: the softmax needs a vector"


def _items(record: Mapping, key: str, *, default: Sequence = ()) -> Sequence:
    items = record.get(key)
    return items if isinstance(items, (list, tuple)) else default
