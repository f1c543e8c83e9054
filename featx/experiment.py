"""Experiments: a whole study in one YAML file, read and checked, and written out again as the record of a run."""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment_changes import change_record
from featx.experiment_checks import Parts, check_record
from featx.experiment_parts import (
    MAX_BYTES,
    OF_RUN,
    ChoiceSpec,
    Experiment,
    FinetuneSpec,
    FitSpec,
    ReportSpec,
    Source,
    Split,
    StoreSpec,
)
from featx.experiment_references import check_references
from featx.mistakes import refuse
from featx.recipes import shipped_recipes
from featx.strict_yaml import read_yaml
from featx.weights import is_source

__all__ = [
    "ChoiceSpec",
    "Experiment",
    "FinetuneSpec",
    "FitSpec",
    "ReportSpec",
    "Source",
    "Split",
    "StoreSpec",
    "experiment_record",
    "read_experiment",
]


def read_experiment(path: str | Path, *, changes: Mapping[str, object] | None = None) -> Experiment:
    """Read an experiment file and check it: every mistake in it, and whatever it names that isn't there.

    Parameters
    ----------
    path : path
        A YAML file; docs/experiments.md describes its keys. Paths in it start from its folder.
    changes : mapping of str to object, optional
        What is to be other than in the file, by dotted key: `split.seed`, `fits.rf.grid.C`. In place of a name `*`, or
        a pattern such as `svm-*`, stands for every entry that the key has a meaning for: a grid's axis only where the
        fit's model has it, `weights` only of stores whose network isn't a fine-tuned one's, `repeats` only where there
        are some. `fits.NAME` alone is a whole entry; null takes it out. Later changes go before earlier ones.

    Raises
    ------
    FeatxError
        If it can't be read, or if anything in it is wrong; the message names every mistake by its dotted key.

    Examples
    --------
    >>> experiment = read_experiment("experiment.yaml", changes={"stores.*.weights": "random"})   # doctest: +SKIP
    """
    path = Path(path)
    record = read_yaml(path, max_bytes=MAX_BYTES)
    if not isinstance(record, dict):
        raise FeatxError(f"{path}: expected a mapping with the keys source, stores and fits; see docs/experiments.md")
    changed, problems = change_record(record, changes or {})
    parts = check_record(changed)
    for key, problem in problems.items():
        parts.note(key, f"can't be changed: {problem}")
    # As the system takes `..`: from where a link leads, not from where it stands.
    _resolve_paths(parts, Path(os.path.realpath(path.absolute().parent)))
    check_references(parts)
    refuse(str(path), parts.problems)
    return Experiment(
        path=path,
        title=parts.title,
        output=Path(parts.output),
        source=parts.source,
        split=parts.split,
        stores=parts.stores,
        finetunes=parts.finetunes,
        fits=parts.fits,
        choices=parts.choices,
        report=parts.report,
    )


def experiment_record(experiment: Experiment) -> dict[str, object]:
    """Return an experiment as YAML can hold it, every value written out, to stand in a file in its output folder.

    What `read_experiment` makes of that file is the same experiment.
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


def _resolve_paths(parts: Parts, folder: Path) -> None:
    """Let every path start from the file's folder."""

    def resolve(text: str | None) -> str | None:
        return None if text is None else _join(folder, text)

    def resolve_weights(weights: str | None) -> str | None:
        is_word = weights is None or is_source(weights) or weights.startswith(OF_RUN)
        return weights if is_word else resolve(weights)

    def resolve_all(part: object) -> object:
        match part:
            case Source():
                return replace(part, path=resolve(part.path), root=resolve(part.root))
            case ReportSpec():
                return replace(part, root=resolve(part.root))
            case StoreSpec():
                return replace(part, weights=resolve_weights(part.weights))
            case FinetuneSpec():
                weights = resolve_weights(part.weights) or _file_of(parts.stores.get(part.store))
                recipe = _resolve_recipe(part.recipe, folder)
                return replace(part, recipe=recipe, weights=weights, root=resolve(part.root))
        return part

    parts.output = resolve(parts.output)
    parts.source, parts.report = resolve_all(parts.source), resolve_all(parts.report)
    parts.stores = {name: resolve_all(store) for name, store in parts.stores.items()}
    parts.finetunes = {name: resolve_all(finetune) for name, finetune in parts.finetunes.items()}
    parts.doubtful = {key: (resolve_all(part), wrong) for key, (part, wrong) in parts.doubtful.items()}


def _join(folder: Path, text: str) -> str:
    # Path.expanduser refuses a user that there is not; here such a name is a file's like any other.
    path = folder / os.path.expanduser(text)  # noqa: PTH111
    if ".." in path.parts:
        path = Path(os.path.realpath(path))
    return os.path.normpath(path)


def _file_of(store: StoreSpec | None) -> str | None:
    """Return the file that a store's weights come from; fine-tuning must be told where it is."""
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
