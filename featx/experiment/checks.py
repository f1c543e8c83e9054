"""Check an experiment: every key and value, and what its entries say about each other."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from featx.errors import FeatxError
from featx.experiment.schema import (
    NAMED,
    OF_ONE_SPLIT,
    OF_REPEATS,
    OF_RUN,
    ChoiceSpec,
    FinetuneSpec,
    FitSpec,
    ReportSpec,
    Source,
    Split,
    StoreSpec,
)
from featx.fit import AXES, MODELS, plan_cells
from featx.system import Problems, close_names, format_mistake, join_location, show_value

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
            parts.note(where, format_mistake(mistake))
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


# Fits to choose among are of the same splits of the same rows: they agree in these.
_SAME_SPLITS = (*OF_REPEATS, "seed", "label", "where", "sample_weight", "drop_duplicates", "cv", "choose_by")


def broken_rules(parts: "Parts") -> Iterator[tuple[str, str]]:
    """Yield what is wrong across keys and entries."""
    yield from _broken_source_rules(parts)
    yield from _broken_name_rules(parts)
    yield from _broken_references(parts)
    for name, store in parts.entries("stores", "backbone", "weights"):
        yield from ((f"stores.{name}.{key}", text) for key, text in _broken_store_rules(parts, store))
    for name, finetune in parts.entries("finetunes"):
        yield from ((f"finetunes.{name}.{key}", text) for key, text in _broken_finetune_rules(parts, finetune))
    for name, fit in parts.entries("fits", "repeats", "train_per_class"):
        yield from ((f"fits.{name}.{key}", text) for key, text in _broken_fit_rules(parts, fit))
    for name, choice in parts.entries("choices"):
        if texts := list(_broken_choice_rules(parts, choice)):
            yield f"choices.{name}.among", "; ".join(texts)


def _broken_source_rules(parts: "Parts") -> Iterator[tuple[str, str]]:
    source = parts.either("source", "path", "dataset", "n_images")
    split = parts.either("split", "shares", "train_per_class")
    if source is not None and (source.path is None) == (source.dataset is None):
        yield "source", "expected either path or dataset"
    elif source is not None and source.dataset is not None:
        others = [known for known in fields(Source) if known.name not in ("dataset", "n_images")]
        for name in [known.name for known in others if getattr(source, known.name) != known.default]:
            yield f"source.{name}", f"of a path, and dataset is {source.dataset}: leave one of them out"
    elif source is not None and source.n_images is not None:
        yield "source.n_images", "of a dataset alone: leave it out"
    if split is not None:
        yield from ((f"split{key}", text) for key, text in _broken_split_rules(split))


def _broken_split_rules(split: Split) -> Iterator[tuple[str, str]]:
    if (split.shares is None) == (split.train_per_class is None):
        yield "", "expected either shares or train_per_class"
    elif split.shares is None:
        if split.stratify:
            yield ".stratify", "of shares, and train_per_class is given: leave one of them out"
    elif split.validation_per_class:
        yield ".validation_per_class", "of train_per_class, and shares are given: leave one of them out"
    elif len(split.shares) not in (2, 3) or abs(sum(split.shares) - 1) > 1e-8:
        yield ".shares", "expected two (train, test) or three (train, validation, test) that add up to 1"
    elif split.shares[0] == 0:
        yield ".shares[0]", "nothing can be fitted without train images: expected more than 0"
    elif split.shares[0] == 1:
        yield ".shares", "nothing is left to test on: expected a share of train images under 1"


def _broken_name_rules(parts: "Parts") -> Iterator[tuple[str, str]]:
    """Find names that would share a folder: that of the stores, or of all runs; capitals are not told apart by all."""
    for sections in (("stores",), ("finetunes", "fits", "choices")):
        seen: dict[str, str] = {}
        for section in sections:
            for name in parts.names(section):
                other = seen.setdefault(name.lower(), f"{section}.{name}")
                if other != f"{section}.{name}":
                    yield f"{section}.{name}", f"{other} is in the same folder: give another name"


def _broken_references(parts: "Parts") -> Iterator[tuple[str, str]]:
    """Find names that no entry has; entries with other mistakes name some too."""
    stores, runs = parts.names("stores"), parts.names("finetunes")
    for section in ("finetunes", "fits"):
        for name, entry in _entries(parts, section):
            store = entry.get("store")
            if isinstance(store, str) and store not in stores:
                yield f"{section}.{name}.store", f"no store {store!r} in stores {close_names(store, stores)}"
    for name, entry in _entries(parts, "stores"):
        weights = entry.get("weights")
        run = weights.removeprefix(OF_RUN) if isinstance(weights, str) and weights.startswith(OF_RUN) else None
        if run is not None and run not in runs:
            yield f"stores.{name}.weights", f"no fine-tuned run {run!r} in finetunes {close_names(run, runs)}"


def _entries(parts: "Parts", section: str) -> Iterator[tuple[object, Mapping]]:
    for name in parts.names(section):
        entry = parts.record[section].get(name)
        if isinstance(entry, Mapping):
            yield name, entry


def _broken_store_rules(parts: "Parts", store: StoreSpec) -> Iterator[tuple[str, str]]:
    run = parts.finetunes.get(store.of_run)
    tuned = None if run is None else parts.stores.get(run.store)
    if tuned is not None and tuned.backbone != store.backbone:
        yield "backbone", f"{store.backbone}, and the run {store.of_run!r} is of {tuned.backbone}: expected the same"


def _broken_finetune_rules(parts: "Parts", finetune: FinetuneSpec) -> Iterator[tuple[str, str]]:
    store = parts.stores.get(finetune.store)
    if store is not None and store.of_run is not None:
        yield "store", f"{finetune.store} is of a fine-tuned network, and only a backbone can be fine-tuned"
    if finetune.keep_cache and finetune.cache_limit == 0:
        yield "keep_cache", "a cache_limit of 0 leaves nothing to keep: leave one of them out"


def _broken_fit_rules(parts: "Parts", fit: FitSpec) -> Iterator[tuple[str, str]]:
    if fit.repeats is None:
        for key in OF_REPEATS:
            if getattr(fit, key) is not None:
                yield key, "of random splits: give repeats too, or leave it out"
        return
    for key in OF_ONE_SPLIT:
        if getattr(fit, key):
            yield key, "of one split, and repeats is given: leave one of them out"
    for key in ("test_share", "stratify"):
        if fit.train_per_class is not None and getattr(fit, key) is not None:
            yield key, "of no account with train_per_class: leave one of them out"


def _broken_choice_rules(parts: "Parts", choice: ChoiceSpec) -> Iterator[str]:
    if len(set(choice.among)) < 2 or len(set(choice.among)) < len(choice.among):
        yield "expected two fits or more, each named once"
    fits = {name: parts.fits[name] for name in choice.among if name in parts.fits}
    for name in choice.among:
        if name not in parts.names("fits"):
            yield f"no fit {name!r} in fits {close_names(name, parts.names('fits'))}"
        elif name in fits and fits[name].repeats is None:
            yield f"{name} has no repeats: a choice is among random splits"
        elif name in fits and len(plan_cells(fits[name].model, fits[name].grid, fits[name].discretize)) < 2:
            yield f"the grid of {name} has one cell, and so no score to choose by: expected two or more"
    first = next(iter(fits), "")
    for name, fit in fits.items():
        for key in _SAME_SPLITS:
            if None not in (fit.repeats, fits[first].repeats) and getattr(fit, key) != getattr(fits[first], key):
                yield f"{name} and {first} have other {key}: expected the same splits of the same rows"
