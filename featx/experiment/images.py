"""Read the images of an experiment, and check that its fits and fine-tunings can be done on them."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from featx.errors import FeatxError, SourceError
from featx.experiment.existing import Existing
from featx.experiment.option_names import dotted_key, explain
from featx.experiment.schema import Experiment, FinetuneSpec, FitSpec, Source, Split
from featx.finetune import PlannedStore, check_task
from featx.fit import OF_ONE_SPLIT, FitOptions, check_grid, check_repeats, plan_cells, read_strata
from featx.images import Manifest, make_count_splits, make_splits, read_elpv, read_source
from featx.store import Rows, Store, read_rows
from featx.system import Problems, check_problems, close_names


def read_divided_images(experiment: Experiment, *, echo: Callable[[str], None] = lambda line: None) -> Manifest:
    """Read an experiment's images and divide them as it says.

    Raises
    ------
    FeatxError
        If they can't be read or divided.
    """
    path, split = experiment.path, experiment.split
    try:
        undivided = _read_images(experiment.source)
    except SourceError as error:
        raise FeatxError(f"{path}: source: {explain(error)}") from error
    manifest = undivided
    for column in () if split is None else split.stratify:
        if column not in undivided.table:
            raise FeatxError(f"{path}: split.stratify: {_no_column(column, undivided.table)}")
    if split is not None:
        try:
            manifest = _divide_images(undivided, split)
        except SourceError as error:
            raise FeatxError(f"{path}: split: {explain(error)}") from error
    for note in manifest.notes:
        echo(note)
    return manifest


def _read_images(source: Source) -> Manifest:
    """List the images of a source, not divided yet."""
    if source.dataset is not None:
        return read_elpv(source.n_images)
    return read_source(
        source.path,
        path_column=source.path_column,
        label_column=source.label_column,
        split_column=source.split_column,
        group_column=source.group_column,
        root=source.root,
    )


def _divide_images(manifest: Manifest, split: Split) -> Manifest:
    if split.shares is not None:
        return make_splits(manifest, split.shares, seed=split.seed, stratify=split.stratify)
    return make_count_splits(
        manifest, train=split.train_per_class, validation=split.validation_per_class, seed=split.seed
    )


def check_images(experiment: Experiment, manifest: Manifest | None, existing: Mapping[str, Existing]) -> None:
    """Check that the images serve the fits and fine-tunings that are to be done, before anything is computed.

    Parameters
    ----------
    experiment : Experiment
    manifest : Manifest or None
        The images; None: those of the stores that exist.
    existing : mapping of str to Existing
        Existing results by the stages' keys.

    Raises
    ------
    FeatxError
        With one problem for each of them.
    """
    problems: Problems = {}
    for section in ("finetunes", "fits"):
        for name, spec in getattr(experiment, section).items():
            key = f"{section}.{name}"
            if (key in existing and existing[key].status == "exists") or (manifest is None and key not in existing):
                continue
            table = _table_of(experiment, spec.store, manifest, existing)
            if table is None:
                continue
            try:
                _check_stage(experiment, spec, table)
            except FeatxError as error:
                problems[dotted_key(error, key)] = explain(FeatxError(error.text))
    check_problems(str(experiment.path), problems)


def _table_of(
    experiment: Experiment, store: str, manifest: Manifest | None, existing: Mapping[str, Existing]
) -> pd.DataFrame | None:
    """Return the table of images that a store has, or will have; None where neither is known."""
    key = f"stores.{store}"
    if key in existing and existing[key].status == "exists":
        with Store(experiment.store_path(store)) as opened:
            return opened.images
    if manifest is None:
        return None
    return (manifest if manifest.has_splits else _with_stored_splits(experiment, store, manifest)).table


def _with_stored_splits(experiment: Experiment, store: str, manifest: Manifest) -> Manifest:
    """Take the splits of a store that exists: they are kept where the source has none."""
    path = experiment.store_path(store)
    if not path.is_file():
        return manifest
    try:
        with Store(path) as opened:
            splits = opened.images.set_index("path")["split"]
    except FeatxError:
        # The comparison of stores reports this.
        return manifest
    return replace(manifest, table=manifest.table.assign(split=manifest.table["path"].map(splits).fillna("")))


def _check_stage(experiment: Experiment, spec: FitSpec | FinetuneSpec, table: pd.DataFrame) -> None:
    """Run the stage's own check on the table of images, without features."""
    store = PlannedStore(experiment.store_path(spec.store), table)
    columns = {"label": spec.label, "sample_weight": spec.sample_weight}
    columns |= {"split": spec.split} if isinstance(spec, FinetuneSpec) else {}
    for key, column in columns.items():
        if column is not None and column not in table:
            raise FeatxError(_no_column(column, table), parameter=key)
    if isinstance(spec, FinetuneSpec):
        rows, _ = read_rows(store, [], where=spec.where, **columns)
        check_task(store.path, rows, spec.where)
        return
    rows, _ = read_rows(store, [], where=spec.where, **columns, needs_split=spec.repeats is None)
    if spec.repeats is None:
        _check_fit(store, spec, rows)
    else:
        _check_repeats(store, spec, rows)


def _check_fit(store: PlannedStore, spec: FitSpec, rows: Rows) -> None:
    cells = plan_cells(spec.model, spec.grid, spec.discretize)
    selection = check_grid(store.path, rows, spec.model, cells, FitOptions(**spec.keywords(FitOptions)))
    for key in OF_ONE_SPLIT:
        if getattr(spec, key) and selection == "none":
            raise FeatxError("scored on validation rows, and there are none; give `cv`, or three shares", parameter=key)


def _check_repeats(store: PlannedStore, spec: FitSpec, rows: Rows) -> None:
    cells = plan_cells(spec.model, spec.grid, spec.discretize)
    options = spec.repeat_options()
    strata = read_strata(store, rows, options.stratify, spec.label) if options.train_per_class is None else None
    check_repeats(rows, spec.model, cells, strata, options)


def _no_column(column: str, table: pd.DataFrame) -> str:
    return f"no column {column!r} {close_names(column, list(table.columns))}"
