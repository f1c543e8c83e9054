"""Check an experiment: every key and value, and what its entries say about each other."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from featx.errors import FeatxError
from featx.experiment.schema import (
    NAMED,
    OF_REPEATS,
    ChoiceSpec,
    Experiment,
    FinetuneSpec,
    FitSpec,
    ReportSpec,
    Source,
    Split,
    StoreSpec,
)
from featx.fit import AXES, MODELS, OF_ONE_SPLIT, plan_cells
from featx.system import Options, Problems, check_problems, close_names, read_record, show_value

SECTIONS = ("title", "output", "source", "split", *NAMED, "report")


Part = TypeVar("Part", bound=Options)


_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,59}")


# Endings of featx's own files next to a run that is being made.
_TAKEN_ENDINGS = (".training", ".jsonl")


def parse_experiment(path: Path, record: Mapping[str, object], problems: Problems) -> Experiment:
    """Make an experiment of its record; paths in it stay as they are.

    Parameters
    ----------
    path : Path
        The file, for messages.
    record : mapping of str to object
    problems : dict of str to str
        What is known to be wrong already, by dotted key.

    Raises
    ------
    FeatxError
        With every key and value that is wrong.
    """
    mistakes: Problems = {}
    for key in record:
        if key not in SECTIONS:
            mistakes[str(key)] = f"unknown key {close_names(str(key), SECTIONS)}"
    title = _take_text(mistakes, record, "title", None)
    output = _take_text(mistakes, record, "output", "output")
    source = _take(mistakes, Source, record["source"], "source") if "source" in record else None
    if "source" not in record:
        mistakes["source"] = "missing: {path: FOLDER_OR_CSV} or {dataset: elpv}"
    split = None
    if record.get("split") is not None:
        split = _take(mistakes, Split, record["split"], "split")
    report = record.get("report", True)
    if isinstance(report, bool):
        report = ReportSpec() if report else None
    elif isinstance(report, Mapping):
        report = _take(mistakes, ReportSpec, report, "report")
    else:
        mistakes["report"] = f"expected true, false, or a mapping of title and root, found {show_value(report)}"
    entries = {section: _take_entries(mistakes, record.get(section), section) for section in NAMED}
    if not record.get("stores"):
        mistakes["stores"] = "expected at least one, such as {conv: {backbone: vgg16, layers: conv}}"
    check_problems(str(path), mistakes | problems)
    return Experiment(path=path, title=title, output=Path(output), source=source, split=split, **entries, report=report)


def _take_text(mistakes: Problems, record: Mapping[str, object], key: str, default: str | None) -> str | None:
    value = record.get(key, default)
    if value is default:
        return default
    if not (isinstance(value, str) and value.strip()):
        mistakes[key] = f"expected text, found {show_value(value)}"
    elif "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        mistakes[key] = f"a character that no file can hold, in {show_value(value)}"
    else:
        return value
    return default


def _take_entries(mistakes: Problems, entries: object, section: str) -> dict[str, object]:
    """Return the entries of a section by name."""
    if entries is None:
        return {}
    if not isinstance(entries, Mapping):
        mistakes[section] = f"expected a mapping of names to what they are, found {show_value(entries)}"
        return {}
    taken: dict[str, object] = {}
    for name, entry in entries.items():
        key = f"{section}.{name}"
        if problem := _wrong_name(name):
            mistakes[key] = problem
        spec = _take(mistakes, NAMED[section], {} if entry is None else entry, key)
        if isinstance(spec, FitSpec):
            spec = _write_out_repeats(_take_grid(mistakes, key, spec))
        taken[str(name)] = spec
    return taken


def _wrong_name(name: object) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "a name is letters, digits, '.', '_' and '-', at most 60, and does not begin with a dot"
    if name.lower().endswith(_TAKEN_ENDINGS):
        return f"a name does not end with {' or '.join(_TAKEN_ENDINGS)}: featx's own files do"
    return None


def _take(mistakes: Problems, kind: type[Part], record: object, key: str) -> Part | None:
    """Make a part of its record, or note its mistakes."""
    part, problems = read_record(kind, record)
    for name, problem in problems.items():
        mistakes.setdefault(f"{key}.{name}" if name else key, problem)
    return part


def _write_out_repeats(fit: FitSpec) -> FitSpec:
    """Fill in what `featx.fit_repeats` takes by default."""
    if fit.repeats is None:
        return fit
    defaults: dict[str, object] = {"cv": 5}
    if fit.train_per_class is None:
        defaults |= {"test_share": 0.2, "stratify": ("label",)}
    return fit.change(**{key: value for key, value in defaults.items() if getattr(fit, key) is None})


def _take_grid(mistakes: Problems, key: str, fit: FitSpec) -> FitSpec:
    """Check a grid's axes and values as the command line does, and fill in what a model has by default."""
    axes, grid, is_right = AXES[fit.model], {}, True
    for name, values in fit.grid.items():
        where = f"{key}.grid.{name}"
        if name not in axes:
            mistakes[where] = f"{fit.model} has no such parameter {close_names(name, list(axes))}"
        elif not isinstance(values, list) or not values:
            mistakes[where] = f"expected a list of values, found {show_value(values)}"
        else:
            grid[name] = tuple(axes[name].take(value) for value in values)
            for number, value in enumerate(grid[name]):
                if value is None:
                    result = show_value(values[number])
                    mistakes[f"{where}[{number}]"] = f"expected {axes[name].expected}, found {result}"
            is_right &= None not in grid[name]
            continue
        is_right = False
    if not is_right:
        return fit
    written_out = {name: values for name, values in (MODELS[fit.model].grid | grid).items() if values}
    try:
        plan_cells(fit.model, written_out, fit.discretize)
    except FeatxError as error:
        mistakes[f"{key}.grid"] = str(error)
    return replace(fit, grid=written_out)


# Fits to choose among are of the same splits of the same rows: they agree in these.
_SAME_SPLITS = (*OF_REPEATS, "seed", "label", "where", "sample_weight", "drop_duplicates", "cv", "choose_by")


def list_broken_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield what is wrong across keys and entries, by dotted key."""
    yield from _broken_source_rules(experiment.source)
    if experiment.split is not None:
        yield from _broken_split_rules(experiment.split)
    yield from _broken_name_rules(experiment)
    for name, store in experiment.stores.items():
        yield from _broken_store_rules(experiment, f"stores.{name}", store)
    for name, finetune in experiment.finetunes.items():
        yield from _broken_finetune_rules(experiment, f"finetunes.{name}", finetune)
    for name, fit in experiment.fits.items():
        yield from _broken_fit_rules(experiment, f"fits.{name}", fit)
    for name, choice in experiment.choices.items():
        if texts := list(_broken_choice_rules(experiment, choice)):
            yield f"choices.{name}.among", "; ".join(texts)


def _broken_source_rules(source: Source) -> Iterator[tuple[str, str]]:
    if (source.path is None) == (source.dataset is None):
        yield "source", "expected either path or dataset"
    elif source.dataset is not None:
        for known in fields(Source):
            if known.name not in ("dataset", "n_images") and getattr(source, known.name) != known.default:
                yield f"source.{known.name}", f"of a path, and dataset is {source.dataset}: leave one of them out"
    elif source.n_images is not None:
        yield "source.n_images", "of a dataset alone: leave it out"


def _broken_split_rules(split: Split) -> Iterator[tuple[str, str]]:
    if (split.shares is None) == (split.train_per_class is None):
        yield "split", "expected either shares or train_per_class"
    elif split.shares is None:
        if split.stratify:
            yield "split.stratify", "of shares, and train_per_class is given: leave one of them out"
    elif split.validation_per_class:
        yield "split.validation_per_class", "of train_per_class, and shares are given: leave one of them out"
    elif len(split.shares) not in (2, 3) or abs(sum(split.shares) - 1) > 1e-8:
        yield "split.shares", "expected two (train, test) or three (train, validation, test) that add up to 1"
    elif split.shares[0] == 0:
        yield "split.shares[0]", "nothing can be fitted without train images: expected more than 0"
    elif split.shares[0] == 1:
        yield "split.shares", "nothing is left to test on: expected a share of train images under 1"


def _broken_name_rules(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield names that would share a folder; not every file system distinguishes capitals."""
    for sections in (("stores",), ("finetunes", "fits", "choices")):
        seen: dict[str, str] = {}
        for section in sections:
            for name in getattr(experiment, section):
                other = seen.setdefault(name.lower(), f"{section}.{name}")
                if other != f"{section}.{name}":
                    yield f"{section}.{name}", f"{other} is in the same folder: give another name"


def _unknown_store(experiment: Experiment, key: str, store: str) -> Iterator[tuple[str, str]]:
    if store not in experiment.stores:
        yield f"{key}.store", f"no store {store!r} in stores {close_names(store, list(experiment.stores))}"


def _broken_store_rules(experiment: Experiment, key: str, store: StoreSpec) -> Iterator[tuple[str, str]]:
    if store.of_run is None:
        return
    run = experiment.finetunes.get(store.of_run)
    if run is None:
        close = close_names(store.of_run, list(experiment.finetunes))
        yield f"{key}.weights", f"no fine-tuned run {store.of_run!r} in finetunes {close}"
    elif run.store in experiment.stores and experiment.stores[run.store].backbone != store.backbone:
        backbone = experiment.stores[run.store].backbone
        yield f"{key}.backbone", f"{store.backbone}, and the run {store.of_run!r} is of {backbone}: expected the same"


def _broken_finetune_rules(experiment: Experiment, key: str, finetune: FinetuneSpec) -> Iterator[tuple[str, str]]:
    yield from _unknown_store(experiment, key, finetune.store)
    store = experiment.stores.get(finetune.store)
    if store is not None and store.of_run is not None:
        yield f"{key}.store", f"{finetune.store} is of a fine-tuned network, and only a backbone can be fine-tuned"
    if finetune.keep_cache and finetune.cache_limit == 0:
        yield f"{key}.keep_cache", "a cache_limit of 0 leaves nothing to keep: leave one of them out"


def _broken_fit_rules(experiment: Experiment, key: str, fit: FitSpec) -> Iterator[tuple[str, str]]:
    yield from _unknown_store(experiment, key, fit.store)
    if fit.repeats is None:
        for name in OF_REPEATS:
            if getattr(fit, name) is not None:
                yield f"{key}.{name}", "of random splits: give repeats too, or leave it out"
        return
    for name in OF_ONE_SPLIT:
        if getattr(fit, name):
            yield f"{key}.{name}", "of one split, and repeats is given: leave one of them out"
    for name in ("test_share", "stratify"):
        if fit.train_per_class is not None and getattr(fit, name) is not None:
            yield f"{key}.{name}", "has no effect with train_per_class: leave one of them out"


def _broken_choice_rules(experiment: Experiment, choice: ChoiceSpec) -> Iterator[str]:
    if len(set(choice.among)) < 2 or len(set(choice.among)) < len(choice.among):
        yield "expected two fits or more, each named once"
    fits = {name: experiment.fits[name] for name in choice.among if name in experiment.fits}
    for name in choice.among:
        if name not in fits:
            yield f"no fit {name!r} in fits {close_names(name, list(experiment.fits))}"
        elif fits[name].repeats is None:
            yield f"{name} has no repeats: a choice is among random splits"
        elif len(plan_cells(fits[name].model, fits[name].grid, fits[name].discretize)) < 2:
            yield f"the grid of {name} has one cell, and so no score to choose by: expected two or more"
    first = next(iter(fits), "")
    for name, fit in fits.items():
        for key in _SAME_SPLITS:
            if None not in (fit.repeats, fits[first].repeats) and getattr(fit, key) != getattr(fits[first], key):
                yield f"{name} and {first} have other {key}: expected the same splits of the same rows"
