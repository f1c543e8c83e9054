"""Whether a record is an experiment: every key and value, and whatever one entry says of another."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from featx.classifiers import MODELS, plan_cells
from featx.errors import FeatxError
from featx.experiment_changes import NAMED
from featx.experiment_parts import ChoiceSpec, FinetuneSpec, FitSpec, ReportSpec, Source, Split, StoreSpec
from featx.experiment_rules import broken_rules
from featx.grid_axes import AXES
from featx.mistakes import Problems, close_names, describe_mistake, join_location, show_value

SECTIONS = ("title", "output", "source", "split", *NAMED, "report")

Part = TypeVar("Part")

# What has no default, so that the rest of an entry can be looked at without it.
_STAND_INS = {"store": "", "recipe": "", "model": "rf"}

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,59}")
# What stands beside a run while it is made.
_TAKEN_ENDINGS = (".training", ".jsonl")


@dataclass
class Parts:
    """What of a record is as it should be, and what is wrong with the rest.

    Attributes
    ----------
    record : mapping of str to object
        As it was read.
    problems : dict of str to str
        By dotted key.
    title, output : str or None
    source : Source or None
    split : Split or None
    report : ReportSpec or None
    stores, finetunes, fits, choices : dict
        Entries without a mistake of their own.
    doubtful : dict of str to (part, frozenset of str)
        By key, such as `fits.rf` or `split`: what is left of a part without the keys that have a mistake, which are
        told beside it. It may have others, and these are to be named at once too.
    """

    record: Mapping[str, object]
    problems: Problems = field(default_factory=dict)
    title: str | None = None
    output: str = "output"
    source: Source | None = None
    split: Split | None = None
    report: ReportSpec | None = None
    stores: dict[str, StoreSpec] = field(default_factory=dict)
    finetunes: dict[str, FinetuneSpec] = field(default_factory=dict)
    fits: dict[str, FitSpec] = field(default_factory=dict)
    choices: dict[str, ChoiceSpec] = field(default_factory=dict)
    doubtful: dict[str, tuple[object, frozenset[str]]] = field(default_factory=dict)

    def names(self, section: str) -> list[str]:
        """List all entries of a section, those with mistakes too."""
        entries = self.record.get(section)
        return [str(name) for name in entries] if isinstance(entries, Mapping) else []

    def entries(self, section: str, *deciding: str) -> Iterator[tuple[str, object]]:
        """Yield names and entries to look for further mistakes in: those without any, and what is left of others.

        Parameters
        ----------
        section : str
        *deciding : str
            Keys that what is looked for hangs on; entries with a mistake in one of them are left out.
        """
        yield from getattr(self, section).items()
        for key, (part, wrong) in self.doubtful.items():
            within, _, name = key.partition(".")
            if within == section and name and wrong.isdisjoint(deciding):
                yield name, part

    def either(self, key: str, *deciding: str) -> object | None:
        """Return `source`, `split` or `report`, or what is left of it, as `entries` does."""
        part, wrong = self.doubtful.get(key, (getattr(self, key), frozenset()))
        return part if wrong.isdisjoint(deciding) else None

    def note(self, key: str, problem: str) -> None:
        """Keep what is wrong with a key; the first thing said of it stays."""
        self.problems.setdefault(key, problem)


def check_record(record: Mapping[str, object]) -> Parts:
    """Check an experiment's record without a look at any file.

    Parameters
    ----------
    record : mapping of str to object
        With any mistake.
    """
    parts = Parts(record)
    for key in record:
        if key not in SECTIONS:
            parts.note(str(key), f"unknown key {close_names(str(key), SECTIONS)}")
    _take_texts(parts)
    parts.source = _take(parts, Source, record.get("source"), "source") if "source" in record else None
    if "source" not in record:
        parts.note("source", "missing: {path: FOLDER_OR_CSV} or {dataset: elpv}")
    if record.get("split") is not None:
        parts.split = _take(parts, Split, record["split"], "split")
    report = record.get("report", True)
    if report is not False and report is not True and not isinstance(report, Mapping):
        parts.note("report", f"expected true, false, or a mapping of title and root, found {show_value(report)}")
    elif report is not False:
        parts.report = _take(parts, ReportSpec, {} if report is True else report, "report")
    for section, kind in NAMED.items():
        _take_entries(parts, section, kind)
    if not parts.names("stores"):
        parts.note("stores", "expected at least one, such as {conv: {backbone: vgg16, layers: conv}}")
    for key, problem in broken_rules(parts):
        parts.note(key, problem)
    return parts


def _take_texts(parts: Parts) -> None:
    for key, default in (("title", None), ("output", "output")):
        value = parts.record.get(key, default)
        if value is not default and not (isinstance(value, str) and value.strip()):
            parts.note(key, f"expected text, found {show_value(value)}")
            value = default
        elif value is not None and not _is_writable(value):
            parts.note(key, f"a character that no file can hold, in {show_value(value)}")
            value = default
        setattr(parts, key, value)


def _is_writable(text: str) -> bool:
    """Whether text is free of NUL and of halves of surrogate pairs."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _take_entries(parts: Parts, section: str, kind: type) -> None:
    entries = parts.record.get(section)
    if entries is None:
        return
    if not isinstance(entries, Mapping):
        parts.note(section, f"expected a mapping of names to what they are, found {show_value(entries)}")
        return
    for name, entry in entries.items():
        key = f"{section}.{name}"
        if problem := _wrong_name(name):
            parts.note(key, problem)
        spec = _take(parts, kind, {} if entry is None else entry, key)
        left, wrong = (spec, frozenset()) if spec is not None else parts.doubtful.get(key, (None, frozenset()))
        if isinstance(left, FitSpec):
            left = _write_out_repeats(left)
            taken = None if "model" in wrong else _take_grid(parts, key, left)
            if taken is None:
                left, wrong = replace(left, grid={}), wrong | {"grid"}
            else:
                left = taken
        if left is not None and wrong:
            parts.doubtful[key] = left, wrong
        elif left is not None:
            getattr(parts, section)[name] = left


def _wrong_name(name: object) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a name is letters, digits, '.', '_' and '-', at most 60, and does not begin with a dot"
    if name.lower().endswith(_TAKEN_ENDINGS):
        return f"a name does not end with {' or '.join(_TAKEN_ENDINGS)}: featx's own files do"
    return None


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)


def _take(parts: Parts, kind: type[Part], record: object, key: str) -> Part | None:
    """Make a part of its record, or note its mistakes and keep what is left."""
    try:
        return _adapter(kind).validate_python(record)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    names = [known.name for known in fields(kind)]
    wrong: set[str] = set()
    for mistake in mistakes:
        where = join_location((key, *mistake["loc"]))
        wrong |= {str(step) for step in mistake["loc"][:1]}
        if mistake["type"] == "unexpected_keyword_argument":
            unknown = str(mistake["loc"][-1])
            parts.note(where, f"unknown key {close_names(unknown, names)}")
            # Whichever key was meant, what stands in its place now is its default.
            wrong |= {*(get_close_matches(unknown, names) or {*names} - {*record})}
        else:
            parts.note(where, describe_mistake(mistake))
    if isinstance(record, Mapping):
        rest = {name: value for name, value in record.items() if name not in wrong}
        rest |= {name: value for name, value in _STAND_INS.items() if name in wrong and name in names}
        with contextlib.suppress(ValidationError):
            parts.doubtful[key] = (_adapter(kind).validate_python(rest), frozenset(wrong))
    return None


def _write_out_repeats(fit: FitSpec) -> FitSpec:
    """Fill in what `featx.fit_repeats` takes by default."""
    if fit.repeats is None:
        return fit
    defaults = {"cv": 5}
    if fit.train_per_class is None:
        defaults |= {"test_share": 0.2, "stratify": ("label",)}
    return replace(fit, **{key: value for key, value in defaults.items() if getattr(fit, key) is None})


def _take_grid(parts: Parts, key: str, fit: FitSpec) -> FitSpec | None:
    """Check a grid's axes and values as the command line does, and fill in what a model has by default."""
    axes, grid, is_right = AXES[fit.model], {}, True
    for name, values in fit.grid.items():
        where = f"{key}.grid.{name}"
        if name not in axes:
            parts.note(where, f"{fit.model} has no such parameter {close_names(name, list(axes))}")
        elif not isinstance(values, list) or not values:
            parts.note(where, f"expected a list of values, found {show_value(values)}")
        else:
            taken = [axes[name].take(value) for value in values]
            for number, value in enumerate(taken):
                if value is None:
                    found = show_value(values[number])
                    parts.note(f"{where}[{number}]", f"expected {axes[name].expected}, found {found}")
            grid[name] = tuple(taken)
            is_right &= None not in taken
            continue
        is_right = False
    written_out = {name: values for name, values in (MODELS[fit.model].grid | grid).items() if values}
    if is_right:
        try:
            plan_cells(fit.model, written_out, fit.discretize)
        except FeatxError as error:
            parts.note(f"{key}.grid", str(error))
            is_right = False
    return replace(fit, grid=written_out) if is_right else None
