"""Fit on repeated random splits of one store: choose within each one's train rows, score each once."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.errors import FeatxError
from featx.fit.cells import choose_model, convergence_noted, fit_estimator, score_cells
from featx.fit.edges import describe_edges
from featx.fit.grid import ScoredShare
from featx.fit.journal import Journal, journal_of_shard, take_up_shards
from featx.fit.models import CellPlan, check_cells, make_estimator, plan_cells
from featx.fit.refit import failures_told
from featx.fit.scoring import check_choice
from featx.fit.splits import digest_draws, draw_per_class, draw_split, make_folds, read_strata
from featx.results import (
    Repeat,
    RepeatedRun,
    check_free,
    predict_scores,
    score,
    signed_score,
    summarize_repeats,
    write_repeats,
)
from featx.store import (
    Fold,
    Rows,
    Store,
    choose_stored_layers,
    digest_rows,
    notes_on_identical,
    notes_on_weights,
    read_rows,
    store_record,
    told_with,
)
from featx.system import Shard, progress_bar, without_numpy

if TYPE_CHECKING:
    from featx.cluster import Cluster


# What NumPy takes for one.
_LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class RepeatsTask:
    """Random splits of one store.

    Attributes
    ----------
    model : str
        The one that serves these rows; see `featx.fit.choose_model`.
    cells : list of (discretization, parameters)
    rows : Rows
    strata : object
        See `featx.fit.read_strata`.
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

    def digest_draws(self) -> str:
        """Digest what splits are drawn from, beside shares and seeds; see `featx.fit.splits.digest_draws`."""
        return digest_draws(self.rows, self.strata)

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of a random split's train rows, and of those test rows that weigh something."""
        if "train_per_class" in self.protocol:
            train, test = draw_per_class(self.rows, self.protocol["train_per_class"], seed)
        else:
            train, test = draw_split(self.rows, self.strata, self.protocol["test_share"], seed)
        test = self.rows.with_weight(test)
        if not len(test):
            raise FeatxError(
                f"seed {seed}: the weights of all test rows of this random split are 0: give more rows a weight over 0"
            )
        return train, test

    def check(self, numbers: Iterable[int]) -> None:
        """Refuse what random splits of these numbers can't be fitted, chosen or scored by, before any is.

        Raises
        ------
        FeatxError
            With the first thing that doesn't do.
        """
        protocol = self.protocol
        estimator = make_estimator(self.model, *self.cells[0], class_weight=protocol["class_weight"])
        check_choice(protocol["choose_by"], estimator, self.rows)
        for number in numbers:
            seed = protocol["seed"] + number
            train, _ = self.draw(seed)
            folds = _make_inner_folds(self.rows, train, protocol["cv"], seed) if len(self.cells) > 1 else []
            fits = [fit for fit, _ in folds] or [train]
            check_cells(self.cells, min(len(self.rows.with_weight(fit)) for fit in fits))
            check_choice(protocol["choose_by"], estimator, self.rows, folds)

    def fit(self, number: int) -> Repeat:
        """Choose, refit and score on the random split of this number."""
        protocol = self.protocol
        seed = protocol["seed"] + number
        train, test = self.draw(seed)
        options = (protocol["cv"], seed, protocol["class_weight"], protocol["choose_by"])
        return _fit_once(self.model, self.cells, self.rows, train, test, *options)


def plan_repeats(
    store_path: str | Path,
    model: str,
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
    worker_memory: int | None = None,
) -> RepeatsTask:
    """Read what random splits need of a store; see `featx.fit_repeats`, and `choose_model` for `worker_memory`.

    Raises
    ------
    FeatxError
        If the store has nothing to fit, or the score to choose by can't be had of it; or a number is out of its range.
    """
    n_repeats, test_share, train_per_class, cv, seed = without_numpy((n_repeats, test_share, train_per_class, cv, seed))
    stratify = [stratify] if isinstance(stratify, str) else list(stratify)
    for name, number in (("repeats", n_repeats), ("train-per-class", train_per_class)):
        if number is not None and number < 1:
            raise FeatxError(f"--{name} {number}: expected 1 or more")
    if seed + n_repeats - 1 > _LARGEST_SEED:
        raise FeatxError(
            f"--seed {seed}: split {n_repeats} would have the seed {seed + n_repeats - 1}; expected {_LARGEST_SEED} or "
            "less. Give a smaller one"
        )
    cells = plan_cells(model, grid or {}, discretize)
    with Store(store_path) as store:
        chosen_layers = choose_stored_layers(store, layers)
        options = {"label": label, "where": where, "sample_weight": sample_weight, "drop_duplicates": drop_duplicates}
        rows, notes = read_rows(store, chosen_layers, **options, needs_split=False)
        strata = read_strata(store, rows, stratify, label) if train_per_class is None else None
        described = store_record(store, chosen_layers)
    if len(set(rows.y)) < 2:
        so, other_rows = told_with(where)
        raise FeatxError(
            f"{store_path}: one class only ({rows.y[0]!r}){so}; a classifier needs two: name the column that holds the "
            f"labels with --label{other_rows}"
        )
    drawn_by: dict[str, object] = {"test_share": test_share, "stratify": stratify}
    if train_per_class is not None:
        drawn_by = {"train_per_class": train_per_class}
    protocol = {"n_repeats": n_repeats, **drawn_by, "cv": cv, "seed": seed}
    protocol |= {
        **options,
        "class_weight": class_weight,
        "classes": sorted(set(rows.y[rows.with_weight(np.arange(len(rows)))].tolist())),
    }
    protocol |= {"choose_by": choose_by, "cells": [list(cell) for cell in cells]}
    task = RepeatsTask(model, cells, rows, strata, protocol, described, tuple(notes))
    train, test = task.draw(seed)
    model, model_notes = choose_model(model, rows, len(rows.with_weight(train)), len(test), worker_memory=worker_memory)
    check_choice(choose_by, make_estimator(model, *cells[0], class_weight=class_weight), rows)
    weights = [*notes_on_weights(rows), *_notes_on_lost_classes(task)]
    # What stands for an SVM where memory is short has fewer values by default.
    cells = plan_cells(model, grid or {}, discretize)
    task.protocol["cells"] = [list(cell) for cell in cells]
    return replace(task, model=model, cells=cells, notes=(*notes, *notes_on_identical(rows), *weights, *model_notes))


def _notes_on_lost_classes(task: RepeatsTask) -> list[str]:
    """Name the classes whose train rows all weigh 0, and say in how many random splits."""
    rows, n_repeats = task.rows, task.protocol["n_repeats"]
    if rows.weights is None or rows.weights.all():
        return []
    lost: Counter[str] = Counter()
    tested: set[str] = set()
    for number in range(n_repeats):
        train, test = task.draw(task.protocol["seed"] + number)
        labels = set(rows.y[train]) - set(rows.y[rows.with_weight(train)])
        lost.update(labels)
        tested |= labels & set(rows.y[test])
    return [
        f"in {n_splits:,} of {n_repeats:,} random splits all train images of the class {label!r} have the weight 0: "
        f"it can't be predicted there{', and its test images count as wrong' if label in tested else ''}"
        for label, n_splits in sorted(lost.items())
    ]


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
    with failures_told(cells[chosen], f"seed {seed}: "), convergence_noted() as noted:
        fit_estimator(best, rows, train)
        if model == "rf":
            # Several threads add up a forest's trees in the order they come, and answers hang on the last digit.
            best[-1].set_params(n_jobs=1)
        predicted = best.predict(rows.X[test])
    figures = {
        "classes": best.classes_,
        "majority": rows.most_frequent(train),
        **predict_scores(best, rows.X[test]),
        "seed": seed,
    }
    y, weights = rows.y[test].astype(str), rows.weights_of(test)
    return Repeat(
        seed=seed,
        n_train=len(rows.with_weight(train)),
        n_test=len(test),
        discretize=cells[chosen][0],
        params=cells[chosen][1],
        validation_accuracy=validation_accuracy,
        test=score(y, predicted, **figures),
        test_weighted=None if weights is None else score(y, predicted, **figures, sample_weight=weights),
        seconds=round(time.monotonic() - begun, 3),
        validation_score=validation_score,
        note=noted[0] if noted else None,
    )


def _make_inner_folds(rows: Rows, train: np.ndarray, cv: int, seed: int) -> list[Fold]:
    """Divide one split's train rows into folds."""
    counts = pd.Series(rows.y[train]).value_counts()
    if counts.min() < cv:
        fewest = counts.min()
        mend = f"Use --cv {fewest}" if fewest > 1 else "Give every class more train rows, or leave it out with --where"
        raise FeatxError(
            f"seed {seed}: the class {counts.idxmin()!r} has {fewest} train row{'' if fewest == 1 else 's'}, fewer "
            f"than {cv} folds. {mend}; a grid of one cell needs no folds"
        )
    return make_folds(rows, train, cv, seed=seed)


def _choose(
    model: str, cells: list[CellPlan], rows: Rows, folds: list[Fold], options: Mapping[str, object], choose_by: str
) -> tuple[int, float, float]:
    """Return the best cell's number, the first of equals, and means over the folds: its accuracy, and what chose it."""
    check_choice(choose_by, make_estimator(model, *cells[0], **options), rows, folds)
    means = np.zeros((2, len(cells)))
    errors = []
    for fold in folds:
        for number, found in score_cells(model, cells, rows, fold, **options, choose_by=choose_by):
            errors += [] if found.error is None else [found.error]
            pair = (np.nan, np.nan) if found.error is not None else (found.accuracy, found.score)
            means[:, number] += np.divide(pair, len(folds))
    if np.isnan(means).all():
        raise FeatxError(f"seed {options['seed']}: every cell failed; the first with {errors[0]}. Give other values")
    chosen = int(np.nanargmax(signed_score(means[1], choose_by)))
    return chosen, *means[:, chosen].tolist()


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
    """Split at random, choose a cell by cross-validation within the train rows, score it once; and again.

    The store's own splits play no part. Split r is drawn with the seed `seed` + r: scikit-learn's `train_test_split`,
    or whole groups where the store has a group column. A call that was stopped goes on from its last finished split.

    Parameters
    ----------
    store_path, model, output, grid, layers, discretize, label, where, sample_weight, class_weight, drop_duplicates
        As of `featx.fit_grid`.
    n_repeats : int
    test_share : float, default 0.2
    train_per_class : int, optional
        So many train rows of every class, all others to test on; test_share and stratify are then of no account.
    stratify : str or sequence of str, default ("label",)
        Columns whose shares every split keeps; empty for none. Whole groups keep them as closely as they can.
    cv : int, default 5
        Folds that the choice is made by.
    choose_by : str, default "accuracy"
        As of `featx.fit_grid`: a mean over these folds.
    seed : int, default 0
        Of the first split.
    cluster : Cluster, optional
        Workers that fit the splits, each one's cells on one worker; default: this process.
    overwrite, progress
        As of `featx.fit_grid`.

    Returns
    -------
    RepeatedRun
        As written to `output`: repeats.json, and repeats.csv with a line a split.

    Raises
    ------
    FeatxError
        If the store has nothing to fit, its rows can't be split so, the cell to score fails, the score to choose by
        can't be had of the store or the model, or the output is taken.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    task = plan_repeats(
        *(store_path, model),
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
        worker_memory=None if cluster is None else cluster.memory_each(),
    )
    n_repeats = task.protocol["n_repeats"]
    task.check(range(n_repeats))
    journal = Journal(_journal_path(output), task.identity(), Repeat)
    share_notes = take_up_shards(journal)
    _fit_splits(task, journal, range(n_repeats), cluster=cluster, progress=progress)
    repeats = tuple(journal.records[number,] for number in range(n_repeats))
    notes = (*task.notes, *share_notes, *_notes_on_shares(task, repeats), *_notes_on_choices(task, repeats))
    figures = summarize_repeats(repeats)
    run = RepeatedRun(task.model, task.store, task.protocol, repeats, *figures, notes, task.digest_draws())
    write_repeats(output, run)
    journal.remove()
    return run


def _notes_on_choices(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Say which edge of the grid most choices are at, so that it may have to reach further, and what else is noted."""
    edges: Counter[str] = Counter()
    for repeat in repeats:
        chosen = task.cells.index((repeat.discretize, repeat.params))
        most = {"n_neighbors": repeat.n_train - repeat.n_train // task.protocol["cv"]}
        edges.update(describe_edges(task.model, task.cells, chosen, most | {"max_features": task.rows.X.shape[1]}))
    notes = [(count, edge) for edge, count in edges.items() if 2 * count > len(repeats)]
    notes += [
        (count, f"the chosen cell {note}") for note, count in Counter(repeat.note for repeat in repeats).items() if note
    ]
    return [f"in {count:,} of {len(repeats):,} random splits {note}" for count, note in notes]


def repeat_share(
    store_path: str | Path, model: str, output: str | Path, *, shard: Shard, progress: bool = False, **options: object
) -> ScoredShare:
    """Fit one share of the random splits, and leave their figures in a journal beside the output.

    Parameters
    ----------
    store_path, model, output, progress, **options
        As of `fit_repeats`, which takes the figures up.
    shard : Shard
    """
    task = plan_repeats(store_path, model, **options)
    numbers = range(*shard.rows(task.protocol["n_repeats"]))
    task.check(numbers)
    path = journal_of_shard(_journal_path(Path(output)), shard)
    journal = Journal(path, task.identity(), Repeat)
    n_before = len(journal.records)
    _fit_splits(task, journal, numbers, progress=progress)
    return ScoredShare(str(path), len(numbers), len(journal.records) - n_before, task.notes)


def _fit_splits(
    task: RepeatsTask, journal: Journal, numbers: range, *, progress: bool, cluster: "Cluster | None" = None
) -> None:
    """Fit the splits that no earlier call has finished."""
    missing = [number for number in numbers if (number,) not in journal.records]
    initial = len(numbers) - len(missing)
    fitted = ((number, task.fit(number)) for number in missing)
    if cluster is not None:
        # Imported here: dask is an extra.
        from featx.fit.distributed import fit_splits_on

        fitted = fit_splits_on(cluster, task, missing)
    with progress_bar(len(numbers), initial=initial, wanted=progress, unit="split") as bar, journal:
        for number, repeat in fitted:
            journal.add((number,), repeat)
            bar.update()


def _notes_on_shares(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Say how far whole groups miss the test share, if by more than 2% of the rows, and more than one row."""
    if task.rows.groups is None:
        return []
    wanted = task.protocol["test_share"]
    n_rows = repeats[0].n_train + repeats[0].n_test
    n_test = [repeat.n_test for repeat in repeats]
    if max(abs(n - wanted * n_rows) for n in n_test) <= max(1, 0.02 * n_rows):
        return []
    return [
        f"whole groups miss the test share of {wanted:.0%}: random splits test on {min(n_test) / n_rows:.1%} to "
        f"{max(n_test) / n_rows:.1%} of the rows"
    ]


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.repeats.jsonl")
