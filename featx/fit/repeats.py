"""Fit on repeated random splits of one store: choose within each one's train rows, score each once."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featx.errors import FeatxError
from featx.fit.cells import convergence_noted, fit_estimator, score_cells
from featx.fit.edges import format_edges
from featx.fit.journal import Key
from featx.fit.models import CellPlan, check_cells, make_estimator, plan_cells
from featx.fit.options import RepeatOptions
from featx.fit.refit import name_failing_cell
from featx.fit.scoring import choose_cell
from featx.fit.splits import digest_draws, draw_holdout, draw_per_class, make_folds, read_strata
from featx.fit.task import ScoredShare, Task, plan_for_memory, read_stored_rows, score_all, score_share
from featx.results import Repeat, RepeatedRun, check_free, predict_scores, score, summarize_repeats, write_repeats
from featx.store import Fold, Rows, describe_where, notes_on_identical, notes_on_weights
from featx.system import Shard

if TYPE_CHECKING:
    from featx.cluster import Cluster


# The largest that NumPy takes.
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class RepeatsTask(Task):
    """Random splits of one store; a unit is a split, under its number.

    Attributes
    ----------
    strata : ndarray of shape (n_rows,), str, or None
        See `featx.fit.read_strata`.
    """

    kind = "repeats"
    record = Repeat
    unit = "split"

    options: RepeatOptions
    strata: np.ndarray | None = None

    def all_keys(self) -> list[Key]:
        """Return the number of every split."""
        return [(number,) for number in range(self.options.n_repeats)]

    def share(self, shard: Shard) -> list[Key]:
        """Return the numbers of one share."""
        return self.all_keys()[slice(*shard.rows(self.options.n_repeats))]

    def groups(self, keys: Sequence[Key], n_wanted: int) -> list[list[Key]]:
        """Make one task of each split."""
        return [[key] for key in keys]

    def draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of a random split's train rows, and of its test rows with a weight over 0."""
        seed = self.options.seed + number
        if self.options.train_per_class is not None:
            train, test = draw_per_class(self.rows, self.options.train_per_class, seed)
        else:
            train, test = draw_holdout(self.rows, self.strata, self.options.test_share, seed)
        test = self.rows.with_weight(test)
        if not len(test):
            raise FeatxError(
                f"seed {seed}: the weights of all test rows of this random split are 0: give more rows a weight over 0"
            )
        return train, test

    def inner_folds(self, train: np.ndarray, number: int) -> list[Fold]:
        """Divide a split's train rows into folds; one cell needs none."""
        if len(self.cells) == 1:
            return []
        seed = self.options.seed + number
        return make_folds(self.rows, train, self.options.cv, seed=seed, of=f"the random split of seed {seed}")

    def check(self, keys: Sequence[Key]) -> None:
        """Raise an error for random splits that can't be drawn, fitted, chosen or scored, before any is fitted."""
        self.check_choice()
        for (number,) in keys:
            train, _ = self.draw(number)
            folds = self.inner_folds(train, number)
            fits = [fit for fit, _ in folds] or [train]
            check_cells(self.cells, min(len(self.rows.with_weight(fit)) for fit in fits))
            self.check_choice(folds)

    def score(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Repeat]]:
        """Choose, fit again and score on each random split."""
        for key in keys:
            yield key, self._fit(*key)

    def _fit(self, number: int) -> Repeat:
        started = time.monotonic()
        rows, seed = self.rows, self.options.seed + number
        train, test = self.draw(number)
        folds = self.inner_folds(train, number)
        chosen, validation_accuracy, validation_score = self._choose(folds, seed) if folds else (0, None, None)
        best = make_estimator(self.model, *self.cells[chosen], seed=seed, class_weight=self.options.class_weight)
        with name_failing_cell(self.cells[chosen], f"seed {seed}: "), convergence_noted() as noted:
            fit_estimator(best, rows, train)
            if self.model == "rf":
                # Several threads would add up a forest's trees in any order, and labels may depend on the last digit.
                best[-1].set_params(n_jobs=1)
            predicted = best.predict(rows.X[test])
        figures = {
            "classes": best.classes_,
            "majority": rows.most_frequent(train),
            **predict_scores(best, rows.X[test]),
            "seed": seed,
        }
        y, weights = rows.y[test].astype(str), rows.weights_of(test)
        discretize, params = self.cells[chosen]
        return Repeat(
            seed=seed,
            n_train=len(rows.with_weight(train)),
            n_test=len(test),
            discretize=discretize,
            params=params,
            validation_accuracy=validation_accuracy,
            test=score(y, predicted, **figures),
            test_weighted=None if weights is None else score(y, predicted, **figures, sample_weight=weights),
            seconds=round(time.monotonic() - started, 3),
            validation_score=validation_score,
            note=noted[0] if noted else None,
        )

    def _choose(self, folds: Sequence[Fold], seed: int) -> tuple[int, float, float]:
        """Return the best cell's index, and means over the folds: its accuracy, and its score to choose by."""
        means = np.zeros((2, len(self.cells)))
        errors = []
        options = {"seed": seed, "class_weight": self.options.class_weight, "choose_by": self.options.choose_by}
        for fold in folds:
            for cell, result in score_cells(self.model, self.cells, self.rows, fold, **options):
                errors += [] if result.error is None else [result.error]
                pair = (np.nan, np.nan) if result.error is not None else (result.accuracy, result.score)
                means[:, cell] += np.divide(pair, len(folds))
        scores = [None if np.isnan(mean) else mean for mean in means[1]]
        chosen = choose_cell(scores, self.options.choose_by, errors[0] if errors else None, f"seed {seed}: ")
        return chosen, *means[:, chosen].tolist()

    def protocol(self) -> dict[str, object]:
        """Return what a run records of how splits were drawn, and cells chosen and scored."""
        options = self.options
        drawn_by: dict[str, object] = {"test_share": options.test_share, "stratify": list(options.stratify)}
        if options.train_per_class is not None:
            drawn_by = {"train_per_class": options.train_per_class}
        return {
            "n_repeats": options.n_repeats,
            **drawn_by,
            "cv": options.cv,
            "seed": options.seed,
            **options.columns,
            "class_weight": options.class_weight,
            "classes": sorted(set(self.rows.y[self.rows.with_weight(np.arange(len(self.rows)))].tolist())),
            "choose_by": options.choose_by,
            "cells": [list(cell) for cell in self.cells],
        }


def plan_repeats(
    store_path: str | Path, model: str, options: RepeatOptions, *, worker_memory: int | None = None
) -> RepeatsTask:
    """Read what random splits need from a store; see `featx.fit_repeats`, and `choose_model` for `worker_memory`."""
    last_seed = options.seed + options.n_repeats - 1
    if last_seed > _LARGEST_SEED:
        raise FeatxError(
            f"split {options.n_repeats} would have the seed {last_seed}; expected {_LARGEST_SEED} or less. Give a "
            "smaller one",
            parameter="seed",
        )
    cells = plan_cells(model, options.grid or {}, options.discretize)
    stored = read_stored_rows(
        store_path,
        options,
        needs_split=False,
        read_strata=lambda store, rows: (
            read_strata(store, rows, options.stratify, options.label) if options.train_per_class is None else None
        ),
    )
    rows = stored.rows
    if len(set(rows.y)) < 2:
        so, other_rows = describe_where(options.where)
        raise FeatxError(
            f"{store_path}: one class only ({rows.y[0]!r}){so}; a classifier needs two: name the column that holds the "
            f"labels as `label`{other_rows}"
        )
    task = RepeatsTask(model=model, cells=cells, rows=rows, options=options, store=stored.record, strata=stored.strata)
    train, test = task.draw(0)
    task.check_choice()
    n_fit = len(rows.with_weight(train))
    model, cells, notes = plan_for_memory(model, options, rows, n_fit, len(test), worker_memory=worker_memory)
    of_rows = (*stored.notes, *notes_on_identical(rows), *notes_on_weights(rows), *_notes_on_lost_classes(task))
    return replace(task, model=model, cells=cells, notes=(*of_rows, *notes))


def check_repeats(
    rows: Rows, model: str, cells: list[CellPlan], strata: np.ndarray | None, options: RepeatOptions
) -> None:
    """Raise an error for random splits that can't be drawn, fitted, chosen or scored, before anything is computed.

    Parameters
    ----------
    rows : Rows
        With features or without.
    model : str
    cells : list of (discretization, parameters)
    strata : ndarray of shape (n_rows,), str, or None
        See `read_strata`.
    options : RepeatOptions
    """
    task = RepeatsTask(model=model, cells=cells, rows=rows, options=options, strata=strata)
    task.check(task.all_keys())


def _notes_on_lost_classes(task: RepeatsTask) -> list[str]:
    """Name the classes whose train rows all have the weight 0, and count the random splits where that is so."""
    rows, n_repeats = task.rows, task.options.n_repeats
    if rows.weights is None or rows.weights.all():
        return []
    lost: Counter[str] = Counter()
    tested: set[str] = set()
    for (number,) in task.all_keys():
        train, test = task.draw(number)
        labels = set(rows.y[train]) - set(rows.y[rows.with_weight(train)])
        lost.update(labels)
        tested |= labels & set(rows.y[test])
    return [
        f"in {n_splits:,} of {n_repeats:,} random splits all train images of the class {label!r} have the weight 0: "
        f"it can't be predicted there{', and its test images count as wrong' if label in tested else ''}"
        for label, n_splits in sorted(lost.items())
    ]


def fit_repeats(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    n_repeats: int,
    test_share: float = 0.2,
    train_per_class: int | None = None,
    stratify: str | Sequence[str] = ("label",),
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int = 5,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
    drop_duplicates: bool = False,
    seed: int = 0,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
) -> RepeatedRun:
    """Split at random, choose a cell by cross-validation within the train rows, score it once; repeat.

    The store's own splits are not used. Split r is drawn with the seed `seed` + r: by scikit-learn's
    `train_test_split`, or in whole groups where the store has a group column. A call that was stopped resumes after its
    last finished split.

    Parameters
    ----------
    store_path, model, output, grid
        As of `featx.fit_grid`.
    {options}
    cluster : Cluster, optional
        Workers that fit the splits, each one's cells on one worker; default: this process.
    overwrite, progress
        As of `featx.fit_grid`.

    Returns
    -------
    RepeatedRun
        As written to `output`: repeats.json, and repeats.csv with one line per split.

    Raises
    ------
    FeatxError
        If the store has nothing to fit, its rows can't be split like this, the chosen cell fails, the score to choose
        by is not defined for the rows or the model, or the output exists.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    options = RepeatOptions.make(
        n_repeats=n_repeats,
        test_share=test_share,
        train_per_class=train_per_class,
        stratify=stratify,
        grid=grid,
        layers=layers,
        discretize=discretize,
        cv=cv,
        choose_by=choose_by,
        label=label,
        where=where,
        sample_weight=sample_weight,
        class_weight=class_weight,
        drop_duplicates=drop_duplicates,
        seed=seed,
    )
    task = plan_repeats(store_path, model, options, worker_memory=None if cluster is None else cluster.memory_each())
    journal, share_notes = score_all(task, output, cluster=cluster, progress=progress)
    repeats = tuple(journal.records[key] for key in task.all_keys())
    mean, deviation = summarize_repeats(repeats)
    run = RepeatedRun(
        model=task.model,
        store=task.store,
        protocol=task.protocol(),
        repeats=repeats,
        mean=mean,
        deviation=deviation,
        notes=(*task.notes, *share_notes, *_notes_on_shares(task, repeats), *_notes_on_choices(task, repeats)),
        rows_sha256=digest_draws(task.rows, task.strata),
    )
    write_repeats(output, run)
    journal.remove()
    return run


def repeat_share(
    store_path: str | Path, model: str, output: str | Path, *, shard: Shard, progress: bool = False, **options: Any
) -> ScoredShare:
    """Fit one share of the random splits, and leave their figures in a journal next to the output.

    Parameters
    ----------
    store_path, model, output, progress, **options
        As of `fit_repeats`, which reads the figures of all shares: how splits are drawn, and what is fitted.
    shard : Shard
    """
    task = plan_repeats(store_path, model, RepeatOptions(**options))
    return score_share(task, Path(output), shard, progress=progress)


def _notes_on_choices(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Note the edge of the grid where most choices are, and how often the chosen cell did not converge."""
    edges: Counter[str] = Counter()
    for repeat in repeats:
        chosen = task.cells.index((repeat.discretize, repeat.params))
        most = {"n_neighbors": repeat.n_train - repeat.n_train // task.options.cv}
        edges.update(format_edges(task.model, task.cells, chosen, most | {"max_features": task.rows.X.shape[1]}))
    notes = [(count, edge) for edge, count in edges.items() if 2 * count > len(repeats)]
    notes += [
        (count, f"the chosen cell {note}") for note, count in Counter(repeat.note for repeat in repeats).items() if note
    ]
    return [f"in {count:,} of {len(repeats):,} random splits {note}" for count, note in notes]


def _notes_on_shares(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Note how far whole groups miss the test share, if by more than 2% of the rows and more than one row."""
    if task.rows.groups is None or task.options.train_per_class is not None:
        return []
    share = task.options.test_share
    n_rows = repeats[0].n_train + repeats[0].n_test
    n_test = [repeat.n_test for repeat in repeats]
    if max(abs(n - share * n_rows) for n in n_test) <= max(1, 0.02 * n_rows):
        return []
    return [
        f"whole groups miss the test share of {share:.0%}: random splits test on {min(n_test) / n_rows:.1%} to "
        f"{max(n_test) / n_rows:.1%} of the rows"
    ]
