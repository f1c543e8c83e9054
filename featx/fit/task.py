"""What a grid is to be fitted on: cells, rows and how cells are compared, checked before anything is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import sklearn

import featx
from featx.errors import FeatxError
from featx.fit.cells import choose_model
from featx.fit.models import CellPlan, check_cells, make_estimator, plan_cells
from featx.fit.scoring import check_choice
from featx.fit.splits import make_folds
from featx.store import (
    Fold,
    Rows,
    Store,
    check_splits,
    choose_stored_layers,
    digest_rows,
    notes_on_choices,
    read_rows,
    store_record,
)
from featx.system import without_numpy


@dataclass(frozen=True)
class Protocol:
    """How cells are compared.

    Attributes
    ----------
    selection : str
        validation, cv, or none where there is one cell and nothing to choose.
    cv : int or None
    seed : int
        Of classifiers and folds.
    class_weight : str or None
    label, where, sample_weight : str or None
        See `featx.store.rows.read_rows`.
    choose_by : str
        One of `featx.fit.CHOOSE_BY`.
    drop_duplicates : bool
        See `featx.store.rows.read_rows`.
    """

    selection: str
    cv: int | None
    seed: int
    class_weight: str | None
    label: str
    where: str | None
    sample_weight: str | None
    choose_by: str
    drop_duplicates: bool


@dataclass(frozen=True)
class GridTask:
    """A grid on a store.

    Attributes
    ----------
    model : str
        The one that serves these rows; see `featx.fit.choose_model`.
    cells : list of (discretization, parameters)
    rows : Rows
    protocol : Protocol
    store : dict
        See `featx.store.store_record`.
    widths : dict of str to int
        Features a layer.
    images_per_second : float or None
        Of the store.
    notes : tuple of str
    """

    model: str
    cells: list[CellPlan]
    rows: Rows
    protocol: Protocol
    store: dict[str, object]
    widths: dict[str, int]
    images_per_second: float | None
    notes: tuple[str, ...]

    def folds(self) -> list[Fold]:
        """Return the rows to fit and to score, of each time that cells are compared."""
        return _list_folds(self.rows, self.protocol.selection, self.protocol.cv, self.protocol.seed)

    def options(self) -> dict[str, object]:
        """Return what every classifier of the grid is made with."""
        return {"seed": self.protocol.seed, "class_weight": self.protocol.class_weight}

    def identity(self) -> dict[str, object]:
        """Return everything that the cells' scores depend on, as JSON can hold it."""
        return {
            "model": self.model,
            "cells": self.cells,
            "store": {**self.store, "path": None},
            "rows": digest_rows(self.rows),
            "protocol": asdict(self.protocol),
            "versions": [featx.__version__, sklearn.__version__],
        }

    def check_choice(self) -> None:
        """Refuse a score to choose by that can't be had here."""
        estimator = make_estimator(self.model, *self.cells[0], **self.options())
        check_choice(self.protocol.choose_by, estimator, self.rows, self.folds())


def plan_grid(
    store_path: str | Path,
    model: str,
    *,
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int | None = None,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
    drop_duplicates: bool = False,
    seed: int = 0,
    worker_memory: int | None = None,
) -> GridTask:
    """Read what a grid needs of a store; see `featx.fit_grid` for the arguments, `choose_model` for `worker_memory`.

    Raises
    ------
    FeatxError
        If the store has nothing to fit or to choose on.
    """
    cv, seed = without_numpy((cv, seed))
    cells = plan_cells(model, grid or {}, discretize)
    with Store(store_path) as store:
        chosen_layers = choose_stored_layers(store, layers)
        options = {"label": label, "where": where, "sample_weight": sample_weight, "drop_duplicates": drop_duplicates}
        rows, notes = read_rows(store, chosen_layers, **options)
        described = store_record(store, chosen_layers)
        widths = {layer: store.n_channels[layer] for layer in chosen_layers}
        images_per_second = store.images_per_second
    selection = check_grid(
        *(store_path, rows, model, cells),
        where=where,
        cv=cv,
        choose_by=choose_by,
        class_weight=class_weight,
        seed=seed,
    )
    n_known, *n_scored = (
        len(rows.with_weight(rows.of(*splits))) for splits in (("train", "validation"), ("test",), ("validation",))
    )
    model, model_notes = choose_model(model, rows, n_known, max(n_scored), worker_memory=worker_memory)
    cells = plan_cells(model, grid or {}, discretize)
    if selection == "validation":
        notes += notes_on_choices(rows)
    return GridTask(
        model=model,
        cells=cells,
        rows=rows,
        protocol=Protocol(selection, cv, seed, class_weight, choose_by=choose_by, **options),
        store=described,
        widths=widths,
        images_per_second=images_per_second,
        notes=(*notes, *model_notes),
    )


def check_grid(
    store_path: str | Path,
    rows: Rows,
    model: str,
    cells: list[CellPlan],
    *,
    where: str | None,
    cv: int | None,
    choose_by: str,
    class_weight: str | None,
    seed: int,
) -> str:
    """Refuse what can't be fitted, chosen or scored, before anything is computed, and return how cells are compared.

    Parameters
    ----------
    store_path : path
        What a message begins with.
    rows : Rows
        With features or without.
    model, where, cv, choose_by, class_weight, seed
        See `featx.fit_grid`.
    cells : list of (discretization, parameters)

    Raises
    ------
    FeatxError
        With the first thing that doesn't do.
    """
    check_splits(store_path, rows, where)
    selection = _choose_selection(store_path, rows, cells, cv)
    folds = _list_folds(rows, selection, cv, seed)
    fits = [fit for fit, _ in folds] or [rows.of("train", "validation")]
    check_cells(cells, min(len(rows.with_weight(fit)) for fit in fits))
    check_choice(choose_by, make_estimator(model, *cells[0], class_weight=class_weight), rows, folds)
    return selection


def _list_folds(rows: Rows, selection: str, cv: int | None, seed: int) -> list[Fold]:
    if selection == "cv":
        return make_folds(rows, rows.of("train", "validation"), cv, seed=seed)
    return [(rows.of("train"), rows.of("validation"))] if selection == "validation" else []


def _choose_selection(store_path: str | Path, rows: Rows, cells: list[CellPlan], cv: int | None) -> str:
    """Return how cells are compared; test rows are never used for it."""
    if cv is not None:
        counts = pd.Series(rows.y[rows.of("train", "validation")]).value_counts()
        if counts.min() < cv:
            fewest, label = counts.min(), counts.idxmin()
            mend = f"Use --cv {fewest}, add images," if fewest > 1 else "Add images,"
            raise FeatxError(
                f"--cv {cv}: the class {label!r} has {fewest} row{'' if fewest == 1 else 's'} outside test, fewer than "
                f"folds. {mend} or leave the class out with --where"
            )
        return "cv"
    if len(rows.of("validation")):
        return "validation"
    if len(cells) > 1:
        lack, remedy = "no validation rows", "extract with --split 0.6,0.2,0.2"
        if "validation" in rows.emptied:
            lack, remedy = f"{lack}: --drop-duplicates has left them all out", "leave --drop-duplicates out"
        raise FeatxError(
            f"{store_path}: {len(cells)} cells to choose from and {lack}. Use --cv 5, or {remedy}; test rows are never "
            "used to choose"
        )
    return "none"
