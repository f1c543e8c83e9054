"""What a fit of an experiment would take: its cells, its matrices, and seconds and disk by a few of its rows."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.experiment.existing_runs import read_journal
from featx.experiment.images import with_stored_splits
from featx.experiment.option_names import explain
from featx.experiment.run import Prepared
from featx.experiment.schema import Experiment, FitSpec
from featx.experiment.stages import Stage
from featx.extract import Forecast
from featx.fit import FitWork, choose_model, choose_tried_rows, forecast_fit, make_up_features, plan_cells
from featx.fit.estimators import SharedGram
from featx.images import as_labels
from featx.store import Rows, Store, choose_features, choose_stored_layers, select_rows

# More columns than these make no difference to what Gram matrices take; see
# `featx.fit.estimators.SharedGram.predict_memory`.
_WIDE = 1 << 13


RECORD_BYTES = 1000
"""What is kept of a random split."""


# Of a test row.
_ROW_BYTES = 200


def plan_fit(
    experiment: Experiment, prepared: Prepared, stage: Stage, forecasts: Mapping[str, Forecast]
) -> dict[str, object]:
    """Say what a fit would take.

    Parameters
    ----------
    experiment : Experiment
    prepared : Prepared
    stage : Stage
        Of fits.
    forecasts : mapping of str to Forecast
        Of the stores that are yet to be made, by name.

    Returns
    -------
    dict of str to object
        Of `featx.experiment.plan.PlannedStage`: what there is to do, figures and notes.
    """
    spec = stage.spec
    cells = plan_cells(spec.model, spec.grid, spec.discretize)
    times = f" x {spec.cv} folds" if spec.cv is not None else ""
    times += f" x {spec.repeats} splits" if spec.repeats is not None else ""
    what = [f"{len(cells):,} cell{'s' if len(cells) > 1 else ''}{times}"]
    try:
        table = _images_of(experiment, prepared, spec)
        n_features = _count_features(experiment, prepared, spec, forecasts)
    except FeatxError as error:
        return {"what": ", ".join(what), "problem": explain(error)}
    if table is None or n_features is None:
        return {"what": ", ".join(what)}
    work = _count_work(spec, table, len(cells))
    if work.n_fit < 1 or work.n_known < 1:
        return {"what": ", ".join(what), "problem": "no labelled train rows"}
    n_rows = work.n_known + work.n_test
    memory = matrix = 4 * n_features * n_rows
    what.append(f"a matrix of {n_rows:,} x {n_features:,} ({matrix / 1e6:,.1f} MB)")
    if spec.model == "svm":
        most = work.n_known, max(work.n_test, work.n_score)
        gram = SharedGram(np.zeros((1, min(n_features, _WIDE)), np.float32)).predict_memory(*most)
        what.append(f"Gram matrices and a cell on them {gram / 1e6:,.1f} MB")
        memory += gram
    planned = {"what": ", ".join(what), "memory_bytes": memory}
    planned |= _try_fit(experiment, prepared, spec, table, n_features, work)
    if scored := _time_fit(stage, len(cells)):
        planned |= {"seconds": scored[0], "notes": scored[1:]}
    return planned


def _images_of(experiment: Experiment, prepared: Prepared, spec: FitSpec) -> pd.DataFrame | None:
    """Return the labelled rows that a fit takes, of its store where that is there, else of the source."""
    if _is_there(prepared, spec):
        with Store(experiment.store_path(spec.store)) as store:
            table = store.images
    elif prepared.manifest is not None:
        manifest = prepared.manifest
        table = (manifest if manifest.has_splits else with_stored_splits(experiment, spec.store, manifest)).table
    else:
        return None
    if spec.label not in table:
        raise FeatxError(f"no column {spec.label!r}; there are {', '.join(table.columns)}")
    takes_part = (as_labels(table[spec.label]) != "").to_numpy()
    return table[takes_part if spec.where is None else takes_part & select_rows(table, spec.where)]


def _is_there(prepared: Prepared, spec: FitSpec) -> bool:
    return prepared.found[f"stores.{spec.store}"].status == "there"


def _count_work(spec: FitSpec, table: pd.DataFrame, n_cells: int) -> FitWork:
    """Return how often cells are fitted, and on how many rows."""
    if spec.repeats is None:
        counts = table["split"].value_counts()
        n_train, n_validation, n_test = (int(counts.get(split, 0)) for split in ("train", "validation", "test"))
        n_known = n_train + n_validation
        if spec.cv is None:
            return FitWork(int(n_validation > 0), n_train, n_validation, 1, n_known, n_test)
    elif spec.train_per_class is not None:
        n_known = min(spec.train_per_class * as_labels(table[spec.label]).nunique(), len(table))
        n_test = len(table) - n_known
    else:
        n_test = round(len(table) * spec.test_share)
        n_known = len(table) - n_test
    n_splits = spec.repeats or 1
    n_folds = n_splits * spec.cv if n_cells > 1 or spec.repeats is None else 0
    return FitWork(n_folds, n_known - n_known // spec.cv, n_known // spec.cv, n_splits, n_known, n_test)


def _try_fit(
    experiment: Experiment, prepared: Prepared, spec: FitSpec, table: pd.DataFrame, n_features: int, work: FitWork
) -> dict[str, object]:
    """Return seconds and disk by cells on a few rows, and what they are by."""
    y = as_labels(table[spec.label]).to_numpy(dtype=object)
    tried = choose_tried_rows(y, n_features)
    if _is_there(prepared, spec):
        with Store(experiment.store_path(spec.store)) as store:
            layers = choose_stored_layers(store, spec.layers)
            X = np.concatenate([*store.take(table.index.to_numpy()[tried], layers).values()], axis=1)
        if not np.isfinite(X.sum(axis=1, dtype=np.float64)).all():
            path = experiment.store_path(spec.store)
            return {"problem": f"{path}: features are not finite: featx repair {path} makes them again"}
        X, by = X.astype(np.float32, copy=False), "rows of the store"
    else:
        X, by = (
            make_up_features(y[tried], n_features),
            "rows of made-up features; real ones may take several times that",
        )
    rows = Rows(X, y[tried], np.full(len(tried), "", dtype=object), tried.astype(str))
    try:
        model, notes = choose_model(spec.model, rows, work.n_known, max(work.n_test, work.n_score))
        cells = plan_cells(model, spec.grid, spec.discretize)
        forecast = forecast_fit(model, cells, X, y[tried], work, class_weight=spec.class_weight)
    except FeatxError as error:
        return {"notes": (f"no time is known: {explain(error)}",)}
    layers = spec.each_layer or spec.leave_one_layer_out or spec.importance
    beside = "; figures of layers not counted" if layers else ""
    # Of random splits no model is kept.
    kept = RECORD_BYTES * spec.repeats if spec.repeats else forecast.model_bytes + _ROW_BYTES * work.n_test
    return {
        "seconds": forecast.seconds,
        "disk_bytes": kept,
        "notes": (*notes, f"by {forecast.n_tried:,} {by}{beside}"),
    }


def _count_features(
    experiment: Experiment, prepared: Prepared, spec: FitSpec, forecasts: Mapping[str, Forecast]
) -> int | None:
    if _is_there(prepared, spec):
        with Store(experiment.store_path(spec.store)) as store:
            return sum(store.n_channels[layer] for layer in choose_stored_layers(store, spec.layers))
    forecast = forecasts.get(spec.store)
    if forecast is None:
        return None
    options = {"backbone": experiment.stores[spec.store].backbone, "path": experiment.store_path(spec.store)}
    try:
        names = choose_features(list(forecast.n_channels), spec.layers, **options)
    except FeatxError:
        # The store is added to, and the forecast is of what is new.
        return None
    return sum(forecast.n_channels[name] for name in names)


def _time_fit(stage: Stage, n_cells: int) -> tuple[float, str] | None:
    """Return seconds, and what they are by: scores of the same fit that was stopped, if any are there."""
    spec = stage.spec
    n_wanted = spec.repeats if spec.repeats is not None else n_cells * (spec.cv or 1)
    scored = [entry["seconds"] for entry in read_journal(stage) if isinstance(entry.get("seconds"), float | int)]
    n_left = max(0, n_wanted - len(scored))
    if not scored:
        return None
    what = "splits" if spec.repeats is not None else "cells and folds"
    seconds = n_left * math.fsum(scored) / len(scored)
    refit = "" if spec.repeats is not None else "; the last fit not counted"
    return round(seconds, 1), f"by the {len(scored):,} of {n_wanted:,} {what} that are scored{refit}"
