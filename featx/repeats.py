"""Stage 2 again and again: random splits, a choice within each one's train rows, and the spread of the test figures."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.choosing import check_choice, rank, tell_scores
from featx.classifiers import CellPlan, make_estimator, plan_cells
from featx.errors import FeatxError
from featx.fitting import choose_model, fit_estimator, score_cells
from featx.journal import Journal
from featx.metrics import score
from featx.random_splits import digest_draws, draw_per_class, draw_split, read_strata
from featx.repeated import Repeat, RepeatedRun, summarise, write_repeats
from featx.results import check_free
from featx.rows import Fold, Rows, choose_stored_layers, describe_store, digest_rows, make_folds, read_rows
from featx.store import Store


def fit_repeats(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    n_repeats: int,
    test_share: float = 0.2,
    train_per_class: int | None = None,
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
    overwrite: bool = False,
    progress: bool = False,
) -> RepeatedRun:
    """Split at random, choose a cell by cross-validation within the train rows, score it once; and again.

    The store's own splits play no part. Split r is drawn with the seed `seed` + r: scikit-learn's `train_test_split`,
    or whole groups where the store has a group column. A call that was stopped goes on from its last finished split.

    Parameters
    ----------
    store_path, model, output, grid, layers, discretize, label, where, sample_weight, class_weight, overwrite, progress
        As of `featx.fit_grid`.
    n_repeats : int
    test_share : float, default 0.2
    train_per_class : int, optional
        So many train rows of every class, all others to test on; test_share and stratify are then of no account.
    stratify : sequence of str, default ("label",)
        Columns whose shares every split keeps; empty for none. Whole groups keep them as closely as they can.
    cv : int, default 5
        Folds that the choice is made by.
    choose_by : str, default "accuracy"
        As of `featx.fit_grid`: a mean over these folds.
    seed : int, default 0
        Of the first split.

    Returns
    -------
    RepeatedRun
        As written to `output`: repeats.json, and repeats.csv with a line a split.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    cells = plan_cells(model, grid or {}, discretize)
    with Store(store_path) as store:
        chosen_layers = choose_stored_layers(store, layers)
        options = {"label": label, "where": where, "sample_weight": sample_weight}
        rows, notes = read_rows(store, chosen_layers, **options, needs_split=False)
        strata = None
        if train_per_class is None:
            strata = read_strata(store, rows, stratify, label)
            draw = partial(draw_split, rows, strata, test_share)
            drawn_by = {"test_share": test_share, "stratify": list(stratify)}
        else:
            draw = partial(draw_per_class, rows, train_per_class)
            drawn_by = {"train_per_class": train_per_class}
        described = describe_store(store, chosen_layers)
    if len(set(rows.y)) < 2:
        raise FeatxError(f"{store_path}: one class only ({rows.y[0]!r}); a classifier needs two")
    model, model_notes = choose_model(model, rows, *map(len, draw(seed)))
    check_choice(choose_by, make_estimator(model, *cells[0], class_weight=class_weight), rows)
    protocol = {"n_repeats": n_repeats, **drawn_by, "cv": cv, "seed": seed}
    protocol |= {**options, "class_weight": class_weight, "classes": sorted(set(rows.y.tolist()))}
    protocol |= {"choose_by": choose_by, "cells": [list(cell) for cell in cells]}
    identity = {"model": model, "cells": cells, "store": {**described, "path": None}, "rows": digest_rows(rows)}
    identity |= {"protocol": {**protocol, "n_repeats": None}, "versions": [featx.__version__, sklearn.__version__]}
    journal = Journal(output.with_name(f"{output.name}.repeats.jsonl"), identity, Repeat)
    with journal:
        for number in _missing(n_repeats, journal, progress):
            train, test = draw(seed + number)
            repeat = _fit_once(model, cells, rows, train, test, cv, seed + number, class_weight, choose_by)
            journal.add((number,), repeat)
    repeats = tuple(journal.records[number,] for number in range(n_repeats))
    notes = (*notes, *model_notes)
    run = RepeatedRun(model, described, protocol, repeats, *summarise(repeats), notes, digest_draws(rows, strata))
    write_repeats(output, run)
    journal.remove()
    return run


def _missing(n_repeats: int, journal: Journal, progress: bool) -> Iterator[int]:
    """Yield the splits that no earlier call has finished."""
    from tqdm import tqdm

    # disable=None: only where standard error is a terminal.
    with tqdm(total=n_repeats, unit="split", disable=None if progress else True) as bar:
        for number in range(n_repeats):
            if (number,) not in journal.records:
                yield number
            bar.update()


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
