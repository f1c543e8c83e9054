"""Resolve the settings of stages: their own, those of `training`, and changes for one run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from featx.errors import FeatxError
from featx.networks.recipes.schema import Stage
from featx.system import close_names, parse_yaml, show_value

# A stage's name alone is always its own.
_OF_STAGES = tuple(entry.name for entry in fields(Stage) if entry.name != "name")
_OF_RECIPE = ("from_layer", "batch_norm", "precision", "compile")


@dataclass
class Resolved:
    """A file's record without `training`.

    Attributes
    ----------
    record : dict of str to object
    origins : dict of (int, str) to str
        By a stage's number and key: what gave the value, where that isn't the stage.
    problems : dict of str to str
        What is wrong with `training` itself, and with changes, by key.
    """

    record: dict[str, object]
    origins: dict[tuple[int, str], str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def resolve_stages(record: Mapping[str, object], changes: Mapping[str, object]) -> Resolved:
    """Add the settings of `training` to every stage that doesn't have them, then make the changes.

    Examples
    --------
    >>> stages = [{"name": "head"}, {"name": "all", "epochs": 30}]
    >>> resolve_stages({"training": {"epochs": 20}, "stages": stages}, {}).record
    {'stages': [{'name': 'head', 'epochs': 20}, {'name': 'all', 'epochs': 30}]}
    """
    resolved = Resolved(dict(record))
    training = resolved.record.pop("training", {})
    if not isinstance(training, Mapping):
        resolved.problems["training"] = f"expected a mapping of settings for all stages, found {show_value(training)}"
        training = {}
    if "name" in training:
        resolved.problems["training.name"] = "each stage has a name of its own"
    stages = resolved.record.get("stages")
    if isinstance(stages, list):
        resolved.record["stages"] = stages = [dict(stage) if isinstance(stage, dict) else stage for stage in stages]
        for i, stage in enumerate(stages):
            if isinstance(stage, dict):
                missing = {key: value for key, value in training.items() if key not in stage and key != "name"}
                stage.update(missing)
                resolved.origins.update({(i, key): f"training.{key}" for key in missing})
    _make_changes(resolved, changes)
    return resolved


def parse_changes(texts: Sequence[str], *, example: str = "epochs=5 or head.epochs=5") -> dict[str, object]:
    """Read changes as they are typed on a command line.

    Parameters
    ----------
    texts : sequence of str
    example : str
        For messages.

    Raises
    ------
    FeatxError
        If one isn't KEY=VALUE, or a key occurs twice.

    Examples
    --------
    >>> parse_changes(["head.epochs=5", "learning_rate=1e-4", "unfreeze=[block5]"])
    {'head.epochs': 5, 'learning_rate': 0.0001, 'unfreeze': ['block5']}
    """
    changes: dict[str, object] = {}
    for text in texts:
        key, _, value = (part.strip() for part in text.partition("="))
        if not key or not value:
            # A shell removes the quotes of KEY=''.
            empty = f"""; empty text, in a shell: "{key}=''\"""" if key and "=" in text else ""
            raise FeatxError(f"change {text!r}: expected KEY=VALUE, such as {example}{empty}")
        if key in changes:
            raise FeatxError(f"change {text!r}: {key} is changed twice")
        changes[key] = parse_yaml(value, source=f"change {text!r}")
    return changes


def _make_changes(resolved: Resolved, changes: Mapping[str, object]) -> None:
    found = resolved.record.get("stages")
    stages = [stage for stage in found if isinstance(stage, dict)] if isinstance(found, list) else []
    names = [str(stage.get("name")) for stage in stages]
    # Those of one stage last, so that they win.
    for key in sorted(changes, key=lambda key: "." in key):
        name, dot, setting = key.rpartition(".")
        if not dot and setting in _OF_RECIPE:
            resolved.record[setting] = changes[key]
        elif setting not in _OF_STAGES:
            settings = (*_OF_STAGES, *_OF_RECIPE)
            resolved.problems[f"change {key}"] = f"no setting {setting!r} {close_names(setting, settings)}"
        elif dot and name not in names:
            resolved.problems[f"change {key}"] = f"no stage {name!r} {close_names(name, names)}"
        else:
            for i, stage in enumerate(found if stages else ()):
                if isinstance(stage, dict) and name in ("", str(stage.get("name"))):
                    stage[setting] = changes[key]
                    resolved.origins[i, setting] = f"change {key}"
