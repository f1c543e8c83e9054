"""What a fit of an experiment would take: its cells, its matrix and Gram matrices, and seconds where scores tell."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from featx.classifiers import plan_cells
from featx.dry_run import Forecast
from featx.errors import FeatxError
from featx.experiment_found import read_journal
from featx.experiment_parts import Experiment, FitSpec
from featx.experiment_run import Prepared
from featx.experiment_stages import Stage
from featx.gram import SharedGram
from featx.rows import choose_features, choose_stored_layers
from featx.store import Store
from featx.where import select_rows

# More columns than these make no difference to what Gram matrices take; see `featx.gram.SharedGram.predict_memory`.
_WIDE = 1 << 13


def plan_fit(
    experiment: Experiment, prepared: Prepared, stage: Stage, forecasts: Mapping[str, Forecast]
) -> tuple[str, float | None, int | None, tuple[str, ...]]:
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
    str
        How much there is to do.
    float or None
        Seconds, where scores of a fit that was stopped tell.
    int or None
        Bytes of memory, where that is known by the rows and features alone.
    tuple of str
        What these are by.
    """
    spec = stage.spec
    n_cells = len(plan_cells(spec.model, spec.grid, spec.discretize))
    times = f" x {spec.cv} folds" if spec.cv is not None else ""
    times += f" x {spec.repeats} splits" if spec.repeats is not None else ""
    what = [f"{n_cells:,} cell{'s' if n_cells > 1 else ''}{times}"]
    table = _images_of(experiment, prepared, spec)
    n_features = _count_features(experiment, prepared, spec, forecasts)
    memory = None
    if table is not None and n_features is not None:
        n_rows, n_fit, n_score = _count_rows(spec, table)
        matrix = 4 * n_features * n_rows
        what.append(f"a matrix of {n_rows:,} x {n_features:,} ({matrix / 1e6:,.1f} MB)")
        memory = matrix
        if spec.model == "svm":
            gram = SharedGram(np.zeros((1, min(n_features, _WIDE)), np.float32)).predict_memory(n_fit, n_score)
            what.append(f"Gram matrices and a cell on them {gram / 1e6:,.1f} MB")
            memory = matrix + gram
    seconds, by = _time_fit(stage, n_cells)
    return ", ".join(what), seconds, memory, (by,) if by else ()


def _images_of(experiment: Experiment, prepared: Prepared, spec: FitSpec) -> pd.DataFrame | None:
    """Return the rows that a fit takes, of the source, or of its store where no source was read."""
    if prepared.manifest is not None:
        table = prepared.manifest.table
    elif prepared.found[f"stores.{spec.store}"].status == "there":
        with Store(experiment.store_path(spec.store)) as store:
            table = store.images
    else:
        return None
    return table if spec.where is None else table[select_rows(table, spec.where)]


def _count_rows(spec: FitSpec, table: pd.DataFrame) -> tuple[int, int, int]:
    """Return how many rows take part, the most that one fit takes, and the most that are scored at once."""
    if spec.repeats is None:
        counts = table["split"].value_counts()
        n_known = int(counts.get("train", 0) + counts.get("validation", 0))
        n_test, n_validation = int(counts.get("test", 0)), int(counts.get("validation", 0))
        return n_known + n_test, n_known, max(n_test, n_validation)
    if spec.train_per_class is not None:
        n_train = min(spec.train_per_class * table[spec.label].nunique(), len(table))
        return len(table), n_train, len(table) - n_train
    n_test = round(len(table) * spec.test_share)
    return len(table), len(table) - n_test, n_test


def _count_features(
    experiment: Experiment, prepared: Prepared, spec: FitSpec, forecasts: Mapping[str, Forecast]
) -> int | None:
    if prepared.found[f"stores.{spec.store}"].status == "there":
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


def _time_fit(stage: Stage, n_cells: int) -> tuple[float | None, str]:
    """Return seconds, and what they are by: scores of the same fit that was stopped."""
    spec = stage.spec
    n_wanted = spec.repeats if spec.repeats is not None else n_cells * (spec.cv or 1)
    scored = [entry["seconds"] for entry in read_journal(stage) if isinstance(entry.get("seconds"), float | int)]
    n_left = max(0, n_wanted - len(scored))
    if not scored:
        return None, ""
    what = "splits" if spec.repeats is not None else "cells and folds"
    seconds = n_left * math.fsum(scored) / len(scored)
    refit = "" if spec.repeats is not None else "; the last fit not counted"
    return round(seconds, 1), f"by the {len(scored):,} of {n_wanted:,} {what} that are scored{refit}"
