"""What the entries of an experiment may say together: names, splits, random splits, and choices among them."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from featx.classifiers import plan_cells
from featx.experiment_changes import OF_ONE_SPLIT, OF_REPEATS
from featx.experiment_parts import OF_RUN, ChoiceSpec, FinetuneSpec, FitSpec, Source, Split, StoreSpec
from featx.mistakes import close_names

if TYPE_CHECKING:
    from featx.experiment_checks import Parts

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
