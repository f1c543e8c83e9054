"""Random splits of one store: what is to be fitted, checked before, and one split's choice, refit and score."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.choosing import check_choice, rank, tell_scores
from featx.classifiers import CellPlan, check_cells, make_estimator, plan_cells
from featx.errors import FeatxError
from featx.fitting import choose_model, convergence_noted, fit_estimator, score_cells
from featx.metrics import score
from featx.random_splits import digest_draws, draw_per_class, draw_split, read_strata
from featx.refit import failures_told
from featx.repeated import Repeat
from featx.rows import Fold, Rows, choose_stored_layers, describe_store, digest_rows, make_folds, read_rows
from featx.split_checks import notes_on_identical, notes_on_weights
from featx.store import Store
from featx.strict_yaml import without_numpy
from featx.where import told_with

# What NumPy takes for one.
_LARGEST_SEED = 2**32 - 1


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

    def digest_draws(self) -> str:
        """Digest what splits are drawn from, beside shares and seeds; see `featx.random_splits.digest_draws`."""
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
        described = describe_store(store, chosen_layers)
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
        **tell_scores(best, rows.X[test]),
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
    chosen = int(np.nanargmax(rank(means[1], choose_by)))
    return chosen, *means[:, chosen].tolist()
