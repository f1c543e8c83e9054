"""Random splits of one store: what is to be fitted, checked before, and one split's choice, refit and score."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.choosing import check_choice, rank, tell_scores
from featx.classifiers import CellPlan, make_estimator, plan_cells
from featx.errors import FeatxError
from featx.fitting import choose_model, fit_estimator, score_cells
from featx.metrics import score
from featx.random_splits import draw_split, read_strata
from featx.rows import Fold, Rows, choose_stored_layers, describe_store, digest_rows, make_folds, read_rows
from featx.store import Store


@dataclass(frozen=True)
class Repeat:
    """One random split.

    Attributes
    ----------
    seed : int
        Of the split, its folds and its classifiers.
    n_train, n_test : int
    discretize : str
    params : dict
        Of the chosen cell.
    validation_accuracy : float or None
        Its mean over the folds of the train rows; None where there is one cell and nothing to choose.
    test : dict
        See `featx.metrics.score`; every row counts the same, weights or not.
    test_weighted : dict or None
        The same with the rows' weights.
    seconds : float
    validation_score : float or None
        What the cell was chosen by, as validation_accuracy.
    """

    seed: int
    n_train: int
    n_test: int
    discretize: str
    params: dict[str, object]
    validation_accuracy: float | None
    test: dict[str, object]
    test_weighted: dict[str, object] | None
    seconds: float
    validation_score: float | None = None


@dataclass(frozen=True)
class RepeatsTask:
    """Random splits of one store.

    Attributes
    ----------
    model : str
        The one that serves these rows; see `featx.fitting.choose_model`.
    cells : list of (discretization, parameters)
    rows : Rows
    strata : object
        See `featx.random_splits.read_strata`.
    protocol, store : dict
    notes : tuple of str
    """

    model: str
    cells: list[CellPlan]
    rows: Rows
    strata: object
    protocol: dict[str, object]
    store: dict[str, object]
    notes: tuple[str, ...]

    def identity(self) -> dict[str, object]:
        """Return everything that a split's figures depend on but its number, as JSON can hold it."""
        return {
            "model": self.model,
            "cells": self.cells,
            "store": {**self.store, "path": None},
            "rows": digest_rows(self.rows),
            "protocol": {**self.protocol, "n_repeats": None},
            "versions": [featx.__version__, sklearn.__version__],
        }

    def fit(self, number: int) -> Repeat:
        """Choose, refit and score on the random split of this number."""
        protocol = self.protocol
        seed = protocol["seed"] + number
        train, test = draw_split(self.rows, self.strata, protocol["test_share"], seed)
        options = (protocol["cv"], seed, protocol["class_weight"], protocol["choose_by"])
        return _fit_once(self.model, self.cells, self.rows, train, test, *options)


def plan_repeats(
    store_path: str | Path,
    model: str,
    *,
    n_repeats: int,
    test_share: float = 0.2,
    stratify: Sequence[str] = ("label",),
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int = 5,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
    seed: int = 0,
) -> RepeatsTask:
    """Read what random splits need of a store; see `featx.fit_repeats` for the arguments.

    Raises
    ------
    FeatxError
        If the store has nothing to fit, or the score to choose by can't be had of it.
    """
    cells = plan_cells(model, grid or {}, discretize)
    with Store(store_path) as store:
        chosen_layers = choose_stored_layers(store, layers)
        options = {"label": label, "where": where, "sample_weight": sample_weight}
        rows, notes = read_rows(store, chosen_layers, **options, needs_split=False)
        strata = read_strata(store, rows, stratify, label)
        described = describe_store(store, chosen_layers)
    if len(set(rows.y)) < 2:
        raise FeatxError(f"{store_path}: one class only ({rows.y[0]!r}); a classifier needs two")
    n_test = round(len(rows) * test_share)
    model, model_notes = choose_model(model, rows, len(rows) - n_test, n_test)
    check_choice(choose_by, make_estimator(model, *cells[0], class_weight=class_weight), rows)
    protocol = {"n_repeats": n_repeats, "test_share": test_share, "stratify": list(stratify), "cv": cv, "seed": seed}
    protocol |= {**options, "class_weight": class_weight, "classes": sorted(set(rows.y.tolist()))}
    protocol |= {"choose_by": choose_by, "cells": [list(cell) for cell in cells]}
    return RepeatsTask(model, cells, rows, strata, protocol, described, (*notes, *model_notes))


def _fit_once(
    model: str,
    cells: list[CellPlan],
    rows: Rows,
    train: np.ndarray,
    test: np.ndarray,
    cv: int,
    seed: int,
    class_weight: str | None,
    choose_by: str,
) -> Repeat:
    """Choose, refit and score on one split."""
    begun = time.monotonic()
    options = {"seed": seed, "class_weight": class_weight}
    chosen, validation_accuracy, validation_score = 0, None, None
    if len(cells) > 1:
        folds = _make_inner_folds(rows, train, cv, seed)
        chosen, validation_accuracy, validation_score = _choose(model, cells, rows, folds, options, choose_by)
    best = make_estimator(model, *cells[chosen], **options)
    fit_estimator(best, rows, train)
    if model == "rf":
        # Several threads add up a forest's trees in the order they come, and ranks of rows hang on the last digit.
        best[-1].set_params(n_jobs=1)
    figures = {
        "classes": best.classes_,
        "majority": pd.Series(rows.y[train]).value_counts().index[0],
        **tell_scores(best, rows.X[test]),
        "seed": seed,
    }
    y, predicted, weights = rows.y[test].astype(str), best.predict(rows.X[test]), rows.weights_of(test)
    return Repeat(
        seed=seed,
        n_train=len(train),
        n_test=len(test),
        discretize=cells[chosen][0],
        params=cells[chosen][1],
        validation_accuracy=validation_accuracy,
        test=score(y, predicted, **figures),
        test_weighted=None if weights is None else score(y, predicted, **figures, sample_weight=weights),
        seconds=round(time.monotonic() - begun, 3),
        validation_score=validation_score,
    )


def _make_inner_folds(rows: Rows, train: np.ndarray, cv: int, seed: int) -> list[Fold]:
    """Divide one split's train rows into folds."""
    counts = pd.Series(rows.y[train]).value_counts()
    if counts.min() < cv:
        raise FeatxError(
            f"seed {seed}: the class {counts.idxmin()!r} has {counts.min()} train rows, fewer than {cv} folds. Use a "
            "smaller --cv"
        )
    return make_folds(rows, train, cv, seed=seed)


def _choose(
    model: str, cells: list[CellPlan], rows: Rows, folds: list[Fold], options: Mapping[str, object], choose_by: str
) -> tuple[int, float, float]:
    """Return the best cell's number, the first of equals, and means over the folds: its accuracy, and what chose it."""
    check_choice(choose_by, make_estimator(model, *cells[0], **options), rows, folds)
    means = np.zeros((2, len(cells)))
    for fold in folds:
        for number, found in score_cells(model, cells, rows, fold, **options, choose_by=choose_by):
            pair = (np.nan, np.nan) if found.error is not None else (found.accuracy, found.score)
            means[:, number] += np.divide(pair, len(folds))
    if np.isnan(means).all():
        raise FeatxError(f"seed {options['seed']}: every cell failed")
    chosen = int(np.nanargmax(rank(means[1], choose_by)))
    return chosen, *means[:, chosen].tolist()
