"""What is fitted on a store: the rows, the cells, and the units in which they are scored, here or on a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import sklearn

import featx
from featx.errors import FeatxError
from featx.fit.cells import choose_model
from featx.fit.journal import Journal, Key, journal_of_shard, take_up_shards
from featx.fit.models import CellPlan, make_estimator, plan_cells
from featx.fit.options import FitOptions
from featx.fit.scoring import check_choice
from featx.store import Fold, Rows, Store, choose_stored_layers, digest_rows, read_rows, store_record
from featx.system import Shard, progress_bar

if TYPE_CHECKING:
    from featx.cluster import Cluster
    from featx.fit.cells import CellScore
    from featx.results import Repeat

# Tasks for each worker, so that all end at about the same time.
_TASKS_PER_WORKER = 2


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Cells on a store's rows, in units that are scored one by one, each under a key.

    Attributes
    ----------
    model : str
        The one that is used for these rows; see `featx.fit.choose_model`.
    cells : list of (discretization, parameters)
    rows : Rows
    options : FitOptions
    store : dict
        See `featx.store.store_record`.
    notes : tuple of str
    """

    # The ending of the journal's name, the dataclass of a unit's record, and the progress bar's word for a unit.
    kind: ClassVar[str]
    record: ClassVar[type]
    unit: ClassVar[str]

    model: str
    cells: list[CellPlan]
    rows: Rows
    options: FitOptions
    store: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def classifier_options(self) -> dict[str, int | str | None]:
        """Return what every classifier is made with."""
        return {"seed": self.options.seed, "class_weight": self.options.class_weight}

    def identity(self) -> dict[str, object]:
        """Return everything that the records depend on, as JSON can hold it."""
        return {
            "model": self.model,
            "cells": self.cells,
            "store": {**self.store, "path": None},
            "rows": digest_rows(self.rows),
            "protocol": {**self.protocol(), "n_repeats": None},
            "versions": [featx.__version__, sklearn.__version__],
        }

    def check_choice(self, folds: Sequence[Fold] = ()) -> None:
        """Raise an error if the score to choose by is not defined for this model or on these folds."""
        check_choice(
            self.options.choose_by,
            make_estimator(self.model, *self.cells[0], **self.classifier_options),
            self.rows,
            folds,
        )

    @abstractmethod
    def all_keys(self) -> list[Key]:
        """Return the key of every unit."""

    @abstractmethod
    def share(self, shard: Shard) -> list[Key]:
        """Return the keys of one share."""

    @abstractmethod
    def groups(self, keys: Sequence[Key], n_wanted: int) -> list[list[Key]]:
        """Divide units into tasks for workers; `n_wanted` would keep all workers busy."""

    def check(self, keys: Sequence[Key]) -> None:  # noqa: B027 (a grid is checked when it is planned)
        """Raise an error for units that can't be fitted, chosen or scored, before any is."""

    @abstractmethod
    def score(self, keys: Sequence[Key]) -> "Iterator[tuple[Key, CellScore | Repeat]]":
        """Fit units here, and yield each one's key and record as soon as it is done."""

    @abstractmethod
    def protocol(self) -> dict[str, object]:
        """Return what a run records of how its cells were chosen and scored."""

    def journal_path(self, output: Path) -> Path:
        """Return where the records are kept until the run is written."""
        return output.with_name(f"{output.name}.{self.kind}.jsonl")


@dataclass(frozen=True)
class StoredRows:
    """The rows of a store, notes on them, and what a run records of the store."""

    rows: Rows
    notes: list[str]
    strata: np.ndarray | None
    record: dict[str, object]
    widths: dict[str, int]
    images_per_second: float | None


def read_stored_rows(
    store_path: str | Path,
    options: FitOptions,
    *,
    needs_split: bool = True,
    read_strata: Callable[[Store, Rows], np.ndarray | None] = lambda store, rows: None,
) -> StoredRows:
    """Read the rows of a store that the options name."""
    with Store(store_path) as store:
        layers = choose_stored_layers(store, options.layers)
        rows, notes = read_rows(store, layers, **options.columns, needs_split=needs_split)
        strata = read_strata(store, rows)
        widths = {layer: store.n_channels[layer] for layer in layers}
        return StoredRows(rows, notes, strata, store_record(store, layers), widths, store.images_per_second)


def plan_for_memory(
    model: str, options: FitOptions, rows: Rows, n_fit: int, n_score: int, *, worker_memory: int | None
) -> tuple[str, list[CellPlan], list[str]]:
    """Return the model whose matrices fit into memory, its cells, and notes; see `choose_model`."""
    model, notes = choose_model(model, rows, n_fit, n_score, worker_memory=worker_memory)
    return model, plan_cells(model, options.grid or {}, options.discretize), notes


@dataclass(frozen=True)
class ScoredShare:
    """What a share of a grid, or of random splits, has been scored.

    Attributes
    ----------
    journal_path : str
        Where the scores are; the run without a shard takes them up.
    n_units, n_scored : int
        Cells times folds (or random splits) of this share, and how many of them this call has scored.
    notes : tuple of str
        What the run will have to say.
    """

    journal_path: str
    n_units: int
    n_scored: int
    notes: tuple[str, ...] = ()


def score_all(
    task: Task, output: Path, *, cluster: "Cluster | None" = None, progress: bool = False
) -> tuple[Journal, list[str]]:
    """Score every unit that no earlier, stopped call and no share has; return all records, and notes on shares."""
    journal = Journal(task.journal_path(output), task.identity(), task.record)
    notes = take_up_shards(journal)
    _score_missing(task, journal, task.all_keys(), cluster=cluster, progress=progress)
    return journal, notes


def score_share(task: Task, output: Path, shard: Shard, *, progress: bool = False) -> ScoredShare:
    """Score one share, and leave its records in a journal next to the output."""
    path = journal_of_shard(task.journal_path(output), shard)
    journal = Journal(path, task.identity(), task.record)
    keys = task.share(shard)
    n_before = len(journal.records)
    _score_missing(task, journal, keys, progress=progress)
    return ScoredShare(str(path), len(keys), len(journal.records) - n_before, task.notes)


def _score_missing(
    task: Task, journal: Journal, keys: Sequence[Key], *, progress: bool, cluster: "Cluster | None" = None
) -> None:
    task.check(keys)
    missing = [key for key in keys if key not in journal.records]
    with progress_bar(len(keys), initial=len(keys) - len(missing), wanted=progress, unit=task.unit) as bar, journal:
        for key, record in task.score(missing) if cluster is None else _score_on(cluster, task, missing):
            journal.add(key, record)
            bar.update()


def _score_on(cluster: "Cluster", task: Task, keys: Sequence[Key]) -> "Iterator[tuple[Key, CellScore | Repeat]]":
    """Score units by a cluster's workers; each of them receives the rows once."""
    # Imported here: dask is an extra.
    from featx.cluster import KilledError

    groups = task.groups(keys, _TASKS_PER_WORKER * cluster.n_workers)
    for _, outcome in cluster.run(
        score_group, [(str(number), (group,)) for number, group in enumerate(groups)], shared=task
    ):
        if isinstance(outcome, KilledError):
            raise FeatxError(
                f"{outcome}; a task may need more memory than workers have. What is done is kept: run the same command "
                "again",
                parameter="cluster",
            ) from outcome
        if isinstance(outcome, FeatxError):
            raise outcome
        yield from outcome.result


def score_group(
    task: Task, keys: Sequence[Key], *, echo: Callable[[str], None]
) -> "list[tuple[Key, CellScore | Repeat]]":
    """Score some units on a worker."""
    return list(task.score(keys))
