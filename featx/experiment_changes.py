"""What is changed of an experiment for one run: dotted keys, and patterns that stand for many names."""

import copy
from collections.abc import Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import partial

from featx.experiment_parts import OF_RUN, ChoiceSpec, FinetuneSpec, FitSpec, StoreSpec
from featx.grid_axes import AXES
from featx.mistakes import Problems, close_names
from featx.strict_yaml import without_numpy

NAMED = {"stores": StoreSpec, "finetunes": FinetuneSpec, "fits": FitSpec, "choices": ChoiceSpec}
"""The sections that hold entries by name, and what each entry is."""

EXAMPLE = "split.seed=1 or fits.*.grid.C=[1]"

OF_REPEATS = ("repeats", "test_share", "train_per_class", "stratify")
OF_ONE_SPLIT = ("each_layer", "leave_one_layer_out", "importance")
"""Keys of a fit that mean something only with random splits, and only without."""

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
        What is wrong with the others, by key: those that name an entry that isn't there, or nothing to change.

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
    """Change a section, or a key of one that has no names; what no section has is found when it is checked."""
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
    """Whether a pattern means this entry too: not where the key has nothing to say."""
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
        # What is typed for all stages goes before what the file says of one.
        values = {name: old for name, old in values.items() if name.rpartition(".")[2] != rest}
    entry[inner] = {**values, rest: copy.deepcopy(value)}
