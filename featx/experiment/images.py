"""Whether an experiment's images have what its runs ask of them: columns, splits, rows to choose on."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pandas as pd

from featx.errors import FeatxError, SourceError
from featx.experiment.option_names import in_keys
from featx.experiment.schema import OF_ONE_SPLIT, Experiment, FinetuneSpec, FitSpec
from featx.experiment.stages import divide_images, read_images
from featx.finetune import StoreToBe, check_task
from featx.fit import RepeatsTask, check_grid, plan_cells, read_strata
from featx.images import SPLITS, Manifest, as_labels, as_number, group_of_each
from featx.store import read_rows, select_rows
from featx.system import Problems, check_problems, close_names

# What a message begins with that is about one option.
_OPTION = re.compile(r"--([a-z-]+) [^:]*: ")


def read_and_check_images(experiment: Experiment, *, echo: Callable[[str], None] = lambda line: None) -> Manifest:
    """Read an experiment's images, and refuse what can't be done with them before anything is computed.

    Returns
    -------
    Manifest
        Divided as the experiment says.

    Raises
    ------
    FeatxError
        All that is wrong with the source and the split, and all that the images lack, by dotted key.
    """
    problems: Problems = {}
    manifest = undivided = None
    try:
        undivided = read_images(experiment, echo=echo)
    except SourceError as error:
        problems["source"] = str(error)
    else:
        absent = [name for name in _stratify_of(experiment) if name not in undivided.table]
        try:
            manifest = divide_images(experiment, undivided)
            for note in manifest.notes[len(undivided.notes) :]:
                echo(note)
        except SourceError as error:
            if absent:
                problems["split.stratify"] = _no_column(absent[0], undivided.table)
            # It may be that column, or something else.
            if not absent or f"no column {absent[0]!r}" not in str(error):
                problems["split"] = str(error).removeprefix("split: ")
    for section in ("finetunes", "fits") if undivided is not None else ():
        for name, spec in getattr(experiment, section).items():
            for key, text in _list_all(experiment, spec, undivided, manifest):
                problems.setdefault(f"{section}.{name}{key}", text)
    check_problems(str(experiment.path), problems)
    return manifest


def _list_all(
    experiment: Experiment, spec: FitSpec | FinetuneSpec, undivided: Manifest, manifest: Manifest | None
) -> Iterator[tuple[str, str]]:
    """Yield what the images lack; of images that couldn't be divided, what doesn't hang on their splits."""
    if manifest is None:
        yield from _column_problems(spec, undivided.table)
        return
    images = manifest if manifest.has_splits else with_stored_splits(experiment, spec.store, manifest)
    problems = [*_column_problems(spec, images.table), *_split_problems(spec, images.table)]
    yield from problems or _row_problems(StoreToBe(experiment.store_path(spec.store), images.table), spec)


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


def _stratify_of(experiment: Experiment) -> tuple[str, ...]:
    return () if experiment.split is None else experiment.split.stratify


def _no_column(column: str, table: pd.DataFrame) -> str:
    return f"no column {column!r} {close_names(column, list(table.columns))}"


def _column_problems(spec: FitSpec | FinetuneSpec, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    columns = {"label": spec.label, "sample_weight": spec.sample_weight}
    if isinstance(spec, FinetuneSpec):
        columns["split"] = spec.split
    for key, column in columns.items():
        if column is not None and column not in table:
            yield f".{key}", _no_column(column, table)
    if spec.sample_weight in table:
        texts = as_labels(table[spec.sample_weight])
        wrong = [text for text in texts.unique() if text and as_number(text) is None]
        if wrong:
            yield (
                ".sample_weight",
                f"the column {spec.sample_weight!r} holds text ({wrong[0]!r}); weights are numbers from 0 up",
            )
    for column in (spec.stratify or ()) if isinstance(spec, FitSpec) else ():
        if column == "group":
            yield ".stratify", "the column 'group' can't be stratified by, a group is on one side only: name others"
        elif column not in table:
            yield ".stratify", _no_column(column, table)
    if spec.where is not None:
        try:
            select_rows(table, spec.where)
        except FeatxError as error:
            yield ".where", str(error).removeprefix(f"--where {spec.where!r}: ")


def _split_problems(spec: FitSpec | FinetuneSpec, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    if spec.where is not None:
        try:
            table = table[select_rows(table, spec.where)]
        except FeatxError:
            # What is wrong with it is said already.
            return
    split = spec.split if isinstance(spec, FinetuneSpec) else "split"
    if spec.label not in table or split not in table:
        return
    table = table[(as_labels(table[spec.label]) != "").to_numpy()]
    table = table.assign(**{split: as_labels(table[split])})
    if not len(table):
        yield ".label", "no image that takes part has a label"
        return
    if unknown := sorted({*table[split]} - {*SPLITS, ""}):
        yield ".split", f"the column {split!r} has {unknown[0]!r}; expected {', '.join(SPLITS)} or ''"
        return
    n_cells = len(plan_cells(spec.model, spec.grid, spec.discretize)) if isinstance(spec, FitSpec) else 0
    if isinstance(spec, FitSpec) and spec.repeats is not None:
        if n_cells > 1 and (problem := _folds_problem(spec, table)):
            yield ".cv", problem
        yield from _classes_problem(spec, table)
        yield from _per_class_problem(spec, table)
        return
    if isinstance(spec, FitSpec) and spec.cv is not None and (problem := _folds_problem(spec, table)):
        yield ".cv", problem
    splits = set(table[split])
    if "train" in splits:
        yield from _classes_problem(spec, table[(table[split] == "train").to_numpy()])
    if "train" not in splits:
        yield "", "no image is in the train split: give split, a source with a split column, or (of a fit) repeats"
    elif "validation" not in splits:
        if isinstance(spec, FinetuneSpec):
            yield "", "no validation images, by which an epoch is chosen: give three shares, or validation_per_class"
        elif spec.cv is None and n_cells > 1:
            yield ".cv", "several cells, and no validation images to choose on: give cv: 5, or three shares"
        elif spec.cv is None and (asked := [name for name in OF_ONE_SPLIT if getattr(spec, name)]):
            yield f".{asked[0]}", "it is scored on validation images, and there are none: give cv: 5, or three shares"
    elif isinstance(spec, FinetuneSpec):
        yield from _untrained_problem(spec, table[(table[split] != "").to_numpy()], split)


def _row_problems(store: StoreToBe, spec: FitSpec | FinetuneSpec) -> Iterator[tuple[str, str]]:
    """Yield what a fit or a fine-tuning would refuse of these rows, once columns and splits are as they should be."""
    names = ("label", "where", "sample_weight")
    columns = {name: getattr(spec, name) for name in (*names, *(["split"] if isinstance(spec, FinetuneSpec) else []))}
    repeats = getattr(spec, "repeats", None)
    try:
        rows, _ = read_rows(store, [], **columns, needs_split=repeats is None)
    except FeatxError as error:
        # All else that it looks at has been looked at.
        yield ".sample_weight", in_keys(str(error).removeprefix(f"{store.path}: "))
        return
    try:
        if isinstance(spec, FinetuneSpec):
            check_task(store.path, rows, spec.where)
            return
        cells = plan_cells(spec.model, spec.grid, spec.discretize)
        chosen_by = {name: getattr(spec, name) for name in ("cv", "choose_by", "class_weight", "seed")}
        if repeats is None:
            check_grid(store.path, rows, spec.model, cells, where=spec.where, **chosen_by)
            return
        strata = None if spec.stratify is None else read_strata(store, rows, spec.stratify, spec.label)
        drawn_by = {"train_per_class": spec.train_per_class}
        if spec.train_per_class is None:
            drawn_by = {"test_share": spec.test_share}
        task = RepeatsTask(spec.model, cells, rows, strata, chosen_by | drawn_by, {}, ())
        task.check(range(repeats))
    except FeatxError as error:
        text = str(error).removeprefix(f"{store.path}: ")
        option = _OPTION.match(text)
        if option is None:
            yield "", in_keys(text)
            return
        key = option[1].replace("-", "_")
        yield f".grid.{key}" if key in spec.grid else f".{key}", in_keys(text[option.end() :])


def _classes_problem(spec: FitSpec | FinetuneSpec, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    classes = set(as_labels(table[spec.label]))
    if len(classes) < 2:
        yield ".label", f"one class only ({classes.pop()!r}) to learn from; a classifier needs two"


def _untrained_problem(spec: FinetuneSpec, table: pd.DataFrame, split: str) -> Iterator[tuple[str, str]]:
    labels = as_labels(table[spec.label])
    absent = sorted(set(labels) - set(labels[(table[split] == "train").to_numpy()]))
    if absent:
        yield (
            ".label",
            f"the class {absent[0]!r} ({int((labels == absent[0]).sum()):,} images) has none in train, so that no "
            "network can learn it: divide the images otherwise, or leave the class out with where",
        )


def _per_class_problem(spec: FitSpec, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    if spec.train_per_class is None:
        return
    counts = as_labels(table[spec.label]).value_counts()
    if "group" in table and group_of_each(table).duplicated().any():
        yield ".train_per_class", "the images have groups, which stay together: give test_share instead"
    elif counts.min() <= spec.train_per_class:
        yield (
            ".train_per_class",
            f"the class {counts.idxmin()!r} has {counts.min()} images, and {spec.train_per_class} train images a class "
            "leave none of it to test on: leave it out with where, or take fewer",
        )


def _folds_problem(spec: FitSpec, table: pd.DataFrame) -> str | None:
    """Say which class can't be in every fold; of random splits, only what is so for every one of them."""
    labels = as_labels(table[spec.label])
    if spec.repeats is None:
        labels = labels[table["split"].isin(("train", "validation"))]
    counts = labels[labels != ""].value_counts()
    if spec.train_per_class is not None:
        counts = counts.clip(upper=spec.train_per_class)
    if not len(counts) or counts.min() >= spec.cv:
        return None
    mend = "give fewer" if counts.min() > 1 else "add images to it, or leave it out with where"
    return f"{spec.cv} folds, and the class {counts.idxmin()!r} has {counts.min()} images to divide: {mend}"
