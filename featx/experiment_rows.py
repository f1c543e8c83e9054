"""Whether an experiment's images have what its runs ask of them: columns, splits, rows to choose on."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from featx.classifiers import plan_cells
from featx.errors import FeatxError
from featx.experiment_parts import Experiment, FinetuneSpec, FitSpec
from featx.manifest import Manifest
from featx.mistakes import Problems, close_names, refuse
from featx.rows import as_label
from featx.where import select_rows


def check_images(experiment: Experiment, manifest: Manifest) -> None:
    """Refuse an experiment whose images lack something, before anything is computed of them.

    Raises
    ------
    FeatxError
        All that they lack, by dotted key.
    """
    problems: Problems = {}
    for section in ("finetunes", "fits"):
        for name, spec in getattr(experiment, section).items():
            images = manifest if manifest.has_splits else with_stored_splits(experiment, spec.store, manifest)
            for key, text in _list_problems(spec, images):
                problems.setdefault(f"{section}.{name}{key}", text)
    refuse(str(experiment.path), problems)


def with_stored_splits(experiment: Experiment, store: str, manifest: Manifest) -> Manifest:
    """Take the splits of a store that is there, which are kept where the source has none."""
    from featx.store import Store

    path = experiment.store_path(store)
    if not path.is_file():
        return manifest
    try:
        with Store(path) as opened:
            splits = opened.images.set_index("path")["split"]
    except FeatxError:
        # What is wrong with it is said where it is looked for.
        return manifest
    return replace(manifest, table=manifest.table.assign(split=manifest.table["path"].map(splits).fillna("")))


def _list_problems(spec: FitSpec | FinetuneSpec, manifest: Manifest) -> Iterator[tuple[str, str]]:
    table = manifest.table
    columns = {"label": spec.label, "sample_weight": spec.sample_weight}
    if isinstance(spec, FinetuneSpec):
        columns["split"] = spec.split
    for key, column in columns.items():
        if column is not None and column not in table:
            yield f".{key}", f"no column {column!r} {close_names(column, list(table.columns))}"
    for column in (spec.stratify or ()) if isinstance(spec, FitSpec) else ():
        if column not in table:
            yield ".stratify", f"no column {column!r} {close_names(column, list(table.columns))}"
    if spec.where is not None:
        try:
            table = table[select_rows(table, spec.where)]
        except FeatxError as error:
            yield ".where", str(error).removeprefix(f"--where {spec.where!r}: ")
            return
    has_folds = isinstance(spec, FitSpec) and spec.cv is not None and spec.label in table
    if has_folds and (problem := _folds_problem(spec, table)):
        yield ".cv", problem
    if isinstance(spec, FitSpec) and spec.repeats is not None:
        return
    splits = set(table[spec.split if isinstance(spec, FinetuneSpec) and spec.split in table else "split"])
    if "train" not in splits:
        yield "", "no image is in the train split: give split, a source with a split column, or (of a fit) repeats"
    elif "validation" not in splits:
        if isinstance(spec, FinetuneSpec):
            yield "", "no validation images, by which an epoch is chosen: give three shares, or validation_per_class"
        elif spec.cv is None and len(plan_cells(spec.model, spec.grid, spec.discretize)) > 1:
            yield ".cv", "several cells, and no validation images to choose on: give cv: 5, or three shares"


def _folds_problem(spec: FitSpec, table: pd.DataFrame) -> str | None:
    """Say which class can't be in every fold; of random splits, only what is so for every one of them."""
    labels = table[spec.label].map(as_label)
    if spec.repeats is None:
        labels = labels[table["split"].isin(("train", "validation"))]
    counts = labels[labels != ""].value_counts()
    if spec.train_per_class is not None:
        counts = counts.clip(upper=spec.train_per_class)
    if not len(counts) or counts.min() >= spec.cv:
        return None
    return f"{spec.cv} folds, and the class {counts.idxmin()!r} has {counts.min()} images to divide: give fewer"
