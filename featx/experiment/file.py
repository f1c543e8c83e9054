"""Read an experiment file, apply changes to it, and write it out again as the record of a run."""

import copy
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment.checks import list_broken_rules, parse_experiment
from featx.experiment.references import list_missing
from featx.experiment.schema import (
    MAX_BYTES,
    NAMED,
    OF_REPEATS,
    OF_RUN,
    Experiment,
    StoreSpec,
)
from featx.fit import AXES, OF_ONE_SPLIT
from featx.networks import is_source
from featx.networks.recipes import shipped_recipes
from featx.system import Problems, check_problems, close_names, read_yaml, without_numpy


def read_experiment(path: str | Path, *, changes: Mapping[str, object] | None = None) -> Experiment:
    """Read an experiment file and check it: first every key and value, then what its entries name.

    Parameters
    ----------
    path : path
        A YAML file; docs/experiments.md describes its keys. Paths in it start from its folder.
    changes : mapping of str to object, optional
        Other values than in the file, by dotted key: `split.seed`, `fits.rf.grid.C`. In place of a name `*`, or
        a pattern such as `svm-*`, stands for every entry that the key has a meaning for: a grid's axis only where the
        fit's model has it, `weights` only of stores whose network isn't a fine-tuned one's, `repeats` only where there
        are some. `fits.NAME` alone is a whole entry; null takes it out. Later changes go before earlier ones.

    Raises
    ------
    FeatxError
        If it can't be read, or if anything in it is wrong. The message names by their dotted keys all keys and values
        that are wrong or, where these are right, everything that is named and does not exist.

    Examples
    --------
    >>> experiment = read_experiment("experiment.yaml", changes={"stores.*.weights": "random"})   # doctest: +SKIP
    """
    path = Path(path)
    record = read_yaml(path, max_bytes=MAX_BYTES)
    if not isinstance(record, dict):
        raise FeatxError(f"{path}: expected a mapping with the keys source, stores and fits; see docs/experiments.md")
    changed, problems = change_record(record, changes or {})
    unchanged = {key: f"can't be changed: {problem}" for key, problem in problems.items()}
    experiment = parse_experiment(path, changed, unchanged)
    # As the system takes `..`: from where a link leads, not from where it stands.
    experiment = _resolve_paths(experiment, Path(os.path.realpath(path.absolute().parent)))
    broken: Problems = {}
    for key, problem in (*list_broken_rules(experiment), *list_missing(experiment)):
        broken.setdefault(key, problem)
    check_problems(str(path), broken)
    return experiment


def experiment_record(experiment: Experiment) -> dict[str, object]:
    """Return an experiment as YAML can hold it, every value written out, to stand in a file in its output folder.

    `read_experiment` returns the same experiment for that file.
    """
    return {
        "title": experiment.title,
        "output": ".",
        "source": _plain(experiment.source),
        "split": None if experiment.split is None else _plain(experiment.split),
        **{
            section: {name: _plain(entry) for name, entry in getattr(experiment, section).items()}
            for section in ("stores", "finetunes", "fits", "choices")
        },
        "report": False if experiment.report is None else _plain(experiment.report),
    }


def _resolve_paths(experiment: Experiment, folder: Path) -> Experiment:
    """Let every path start from the file's folder."""

    def resolve(text: str | None) -> str | None:
        return None if text is None else _join(folder, text)

    def resolve_weights(weights: str | None) -> str | None:
        is_word = weights is None or is_source(weights) or weights.startswith(OF_RUN)
        return weights if is_word else resolve(weights)

    source, report = experiment.source, experiment.report
    stores = {name: replace(store, weights=resolve_weights(store.weights)) for name, store in experiment.stores.items()}
    return replace(
        experiment,
        output=Path(_join(folder, str(experiment.output))),
        source=replace(source, path=resolve(source.path), root=resolve(source.root)),
        report=None if report is None else replace(report, root=resolve(report.root)),
        stores=stores,
        finetunes={
            name: replace(
                finetune,
                recipe=_resolve_recipe(finetune.recipe, folder),
                weights=resolve_weights(finetune.weights) or _file_of(stores.get(finetune.store)),
                root=resolve(finetune.root),
            )
            for name, finetune in experiment.finetunes.items()
        },
    )


def _join(folder: Path, text: str) -> str:
    # Path.expanduser fails for unknown users; here such a name is a file's like any other.
    path = folder / os.path.expanduser(text)  # noqa: PTH111
    if ".." in path.parts:
        path = Path(os.path.realpath(path))
    return os.path.normpath(path)


def _file_of(store: StoreSpec | None) -> str | None:
    """Return the file of a store's weights, which fine-tuning needs too; None where they are a word."""
    is_word = store is None or store.of_run is not None or is_source(store.weights)
    return None if is_word else store.weights


def _resolve_recipe(recipe: str, folder: Path) -> str:
    """Return the name of a recipe that ships, or a file's path; a word that is neither stays as it is, to be named."""
    if recipe in shipped_recipes():
        return recipe
    path = _join(folder, recipe)
    return path if os.path.lexists(path) else recipe


def _plain(part: object) -> dict[str, object]:
    values = {entry.name: getattr(part, entry.name) for entry in fields(part)}
    return {name: _with_lists(value) for name, value in values.items()}


def _with_lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


EXAMPLE = "split.seed=1 or fits.*.grid.C=[1]"


Record = dict[str, object]


def change_record(record: Mapping[str, object], changes: Mapping[str, object]) -> tuple[Record, Problems]:
    """Make changes to an experiment's record, not yet checked.

    Parameters
    ----------
    record : mapping of str to object
    changes : mapping of str to object
        See `featx.read_experiment`.

    Returns
    -------
    dict
        The record with all changes that can be made.
    dict of str to str
        Problems of the others, by key: those that name a missing entry, or nothing to change.

    Examples
    --------
    >>> stores = {"avg": {"pool": "avg"}, "max": {"pool": "max"}}
    >>> change_record({"stores": stores}, {"stores.*.weights": "random"})[0]["stores"]["max"]
    {'pool': 'max', 'weights': 'random'}
    """
    changed = copy.deepcopy(dict(record))
    problems: Problems = {}
    for key, value in without_numpy(changes).items():
        section, _, rest = key.partition(".")
        change = partial(_change_entries if section in NAMED and rest else _change_plain, changed, section, rest)
        if problem := change(value):
            problems[key] = problem
    return changed, problems


def _change_plain(record: Record, section: str, key: str, value: object) -> str | None:
    """Change a section, or a key of one without names."""
    if not key:
        record[section] = copy.deepcopy(value)
        return None
    part = record.get(section)
    if section == "report" and isinstance(part, bool | None):
        part = {}
    if part is None:
        part = {}
    if not isinstance(part, dict):
        return f"{section} is no mapping"
    record[section] = {**part, key: copy.deepcopy(value)}
    return None


def _change_entries(record: Record, section: str, rest: str, value: object) -> str | None:
    # A section that has nothing below its name is null.
    entries = record[section] if record.get(section) is not None else {}
    if not isinstance(entries, dict):
        return f"{section} is no mapping"
    if rest in entries or "." not in rest:
        return _change_whole(record, section, rest, value, entries)
    pattern, key = _split_key(rest, entries, section)
    names = [name for name in entries if fnmatchcase(name, pattern)]
    if not names:
        return f"no entry {pattern!r} in {section} {close_names(pattern, list(entries))}"
    if pattern not in entries:
        names = [name for name in names if _is_meant(section, entries[name], key)]
    if not names:
        return f"none of these has {key!r} to change"
    for name in names:
        if not isinstance(entries[name], dict):
            return f"{section}.{name} is no mapping"
        _set(entries[name], section, key, value)
    return None


def _change_whole(record: Record, section: str, pattern: str, value: object, entries: Record) -> str | None:
    """Put an entry in, or in the place of those that a pattern stands for; null takes them out."""
    names = [name for name in entries if fnmatchcase(name, pattern)]
    if not names and (value is None or "*" in pattern):
        return f"no entry {pattern!r} in {section} {close_names(pattern, list(entries))}"
    changed = {name: entry for name, entry in entries.items() if value is not None or name not in names}
    if value is not None:
        changed |= {name: copy.deepcopy(value) for name in names or [pattern]}
    record[section] = changed
    return None


def _split_key(rest: str, entries: Mapping[str, object], section: str) -> tuple[str, str]:
    """Divide NAME.KEY where the name, or a pattern, is of an entry; names may have dots, and keys too."""
    known = {field.name for field in fields(NAMED[section])}
    words = rest.split(".")
    divided = [(".".join(words[:n]), ".".join(words[n:])) for n in range(1, len(words))]
    matching = [(name, key) for name, key in divided if any(fnmatchcase(entry, name) for entry in entries)]
    for name, key in matching:
        if key.partition(".")[0] in known:
            return name, key
    return (matching or divided)[0]


def _is_meant(section: str, entry: object, key: str) -> bool:
    """Check whether a pattern includes this entry: only where the key has a meaning."""
    if not isinstance(entry, dict):
        return True
    if section == "stores" and key == "weights":
        # A fine-tuned network is what such a store is for.
        return not str(entry.get("weights")).startswith(OF_RUN)
    if section == "fits" and key.startswith("grid."):
        return key.removeprefix("grid.") in AXES.get(str(entry.get("model")), ())
    if section == "fits" and key in (*OF_REPEATS, *OF_ONE_SPLIT):
        return (entry.get("repeats") is not None) == (key in OF_REPEATS)
    return True


def _set(entry: Record, section: str, key: str, value: object) -> None:
    inner, _, rest = key.partition(".")
    if not rest or inner not in ("grid", "set"):
        entry[key] = copy.deepcopy(value)
        return
    values = entry.get(inner)
    values = dict(values) if isinstance(values, dict) else {}
    if inner == "set" and "." not in rest:
        # A change for all stages replaces what the file says of one.
        values = {name: old for name, old in values.items() if name.rpartition(".")[2] != rest}
    entry[inner] = {**values, rest: copy.deepcopy(value)}
