"""How long fitting would take: cells on a few rows, then on twice as many, again and again, drawn out to all rows."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import skops.io

from featx.errors import FeatxError
from featx.fit.cells import FIT_ERRORS, convergence_noted, fit_estimator, score_cells
from featx.fit.models import CellPlan, make_estimator
from featx.store import Rows

# Tries grow until one takes so much longer than the first, or all together so long.
_MORE_SECONDS, _ALL_SECONDS = 0.5, 10.0


# Of a large grid, so many cells are tried.
_MOST_TRIED = 64


# Rows and bytes that tries may take.
_MOST_ROWS, _MOST_BYTES = 4096, 2**28


_FEWEST_ROWS = 128


# Beside what every size takes, seconds grow at least as the rows do; a solver that has much to do, as their cube.
_POWERS = (1.0, 3.0)


_N_LATENT = 16


@dataclass(frozen=True)
class FitWork:
    """How often, and on how many rows, cells are fitted.

    Attributes
    ----------
    n_folds : int
        Times that all cells are fitted and scored; 0 where there is nothing to choose.
    n_fit, n_score : int
        Rows of each of these.
    n_refits : int
        Times that the chosen cell is fitted again.
    n_known, n_test : int
        Rows of each of these.
    """

    n_folds: int
    n_fit: int
    n_score: int
    n_refits: int
    n_known: int
    n_test: int


@dataclass(frozen=True)
class FitForecast:
    """What fitting is expected to take.

    Attributes
    ----------
    seconds : float
        Of all cells on all folds, and of what is fitted again, by one process here; reading features, intervals and
        files left out.
    n_tried : int
        The most rows that were fitted on to say so.
    model_bytes : int
        Of the chosen cell's model on disk, at most.
    """

    seconds: float
    n_tried: int
    model_bytes: int


def choose_tried_rows(y: np.ndarray, n_features: int) -> np.ndarray:
    """Return rows to try: of every class, or of as many as there is room for, the first ones in the classes' shares.

    They lie together in a store, whether its images come class by class or in any order.

    Parameters
    ----------
    y : ndarray of shape (n_rows,), str
    n_features : int
        The more there are, the fewer rows.

    Returns
    -------
    ndarray of int, ascending
    """
    n_room = min(_MOST_ROWS, max(_FEWEST_ROWS, _MOST_BYTES // (4 * max(1, n_features))))
    n_wanted = min(len(y), n_room)
    labels = np.unique(y.astype(str))
    chosen = []
    for label in labels[_spread(len(labels), n_room // 2)]:
        rows = np.flatnonzero(y.astype(str) == label)
        chosen.append(rows[: max(2, round(n_wanted * len(rows) / len(y)))])
    return np.sort(np.concatenate(chosen))


def make_up_features(y: np.ndarray, n_features: int) -> np.ndarray:
    """Make features that tell classes apart as those of a network do: of few dimensions, never below 0.

    Forests and SVMs take half to twice as long on a network's features; linear-svm and logreg several times as long:
    those are harder to optimise on.

    Parameters
    ----------
    y : ndarray of shape (n_rows,), str
    n_features : int

    Returns
    -------
    ndarray of shape (n_rows, n_features), float32
    """
    random = np.random.default_rng(0)
    classes, places = np.unique(y.astype(str), return_inverse=True)
    means = random.normal(scale=0.5, size=(len(classes), _N_LATENT))
    latent = (means[places] + random.normal(size=(len(y), _N_LATENT))).astype(np.float32)
    features = latent @ random.standard_normal((_N_LATENT, n_features), dtype=np.float32) / math.sqrt(_N_LATENT)
    features += random.standard_normal(features.shape, dtype=np.float32)
    return np.maximum(features, 0, out=features)


def forecast_fit(
    model: str,
    cells: Sequence[CellPlan],
    X: np.ndarray,
    y: np.ndarray,
    work: FitWork,
    *,
    class_weight: str | None = None,
) -> FitForecast:
    """Say how long a grid would take, by its own cells on some rows.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cells : sequence of (discretization, parameters)
    X : ndarray of shape (n_rows, n_features), float32
        Of some rows; see `choose_tried_rows`.
    y : ndarray of shape (n_rows,), str
        Their labels.
    work : FitWork
    class_weight : {"balanced"}, optional

    Raises
    ------
    FeatxError
        If cells can't be fitted on these rows.
    """
    rows = Rows(X, y, np.full(len(y), "", dtype=object), np.arange(len(y)).astype(str))
    tried = [cells[number] for number in _spread(len(cells), _MOST_TRIED)] if work.n_folds else []
    options = {"class_weight": class_weight}
    most = min(len(y) - 1, work.n_fit)
    # Neighbours are found among as many rows at least.
    n_needed = max((int(params.get("n_neighbors", 0)) for _, params in cells), default=0)
    n_fit = min(most, max(_FEWEST_ROWS // 2, 2 * len(set(y)), n_needed))
    begun = time.monotonic()
    # The first try also pays for what is imported and started once.
    _try(model, tried, cells[-1], rows, n_fit, work, options)
    tries = [_try(model, tried, cells[-1], rows, n_fit, work, options)]
    while 2 * n_fit <= most and time.monotonic() - begun < _ALL_SECONDS:
        n_fit *= 2
        tries.append(_try(model, tried, cells[-1], rows, n_fit, work, options))
        if tries[-1].seconds > tries[0].seconds + max(_MORE_SECONDS, tries[0].seconds):
            break
    sizes = [each.n_fit for each in tries]
    fold_seconds = draw_out(sizes, [each.fold_seconds for each in tries], work.n_fit)
    refit_seconds = draw_out(sizes, [each.refit_seconds for each in tries], work.n_known)
    seconds = work.n_folds * len(cells) / max(1, len(tried)) * fold_seconds + work.n_refits * refit_seconds
    return FitForecast(
        seconds=round(seconds, 3), n_tried=n_fit, model_bytes=_draw_out_bytes(tries[0], tries[-1], work.n_known)
    )


def draw_out(sizes: Sequence[int], seconds: Sequence[float], size: int) -> float:
    """Say how long something takes at a larger size: a part that is always the same, and one that grows by a power.

    Parameters
    ----------
    sizes : sequence of int
        Each twice the one before. The last three say by which power, two by themselves as if nothing were always the
        same; one, as if it grew in proportion.
    seconds : sequence of float
        At these sizes.
    size : int

    Examples
    --------
    >>> draw_out([100, 200, 400], [6.0, 9.0, 21.0], 1000)    # 5 + (n / 100)²
    105.0
    """
    if len(sizes) == 1:
        return seconds[0] * size / sizes[0]
    smallest = max(-3, -len(sizes))
    grown = [seconds[-1], seconds[-2]]
    if smallest == -3:
        grown = [seconds[-1] - seconds[-2], seconds[-2] - seconds[-3]]
    lowest, highest = _POWERS
    power = lowest
    if grown[0] > 0:
        power = highest if grown[1] <= 0 else min(max(math.log2(grown[0] / grown[1]), lowest), highest)
    if smallest == -2:
        return seconds[-1] * (size / sizes[-1]) ** power
    a_row = max(0.0, seconds[-1] - seconds[-3]) / (sizes[-1] ** power - sizes[-3] ** power)
    return max(0.0, seconds[-1] - a_row * sizes[-1] ** power) + a_row * size**power


def _draw_out_bytes(first: "_Try", last: "_Try", size: int) -> int:
    """Return a model's bytes on disk: what it always takes, and support vectors, trees or neighbours by the row."""
    small, large = (len(skops.io.dumps(each.estimator)) for each in (first, last))
    if first.n_fit == last.n_fit:
        return math.ceil(large * max(1.0, size / last.n_fit))
    return math.ceil(large + max(0.0, (large - small) / (last.n_fit - first.n_fit)) * max(0, size - last.n_fit))


@dataclass(frozen=True)
class _Try:
    """Cells on some rows, and the last of them fitted again."""

    n_fit: int
    fold_seconds: float
    refit_seconds: float
    estimator: object

    @property
    def seconds(self) -> float:
        return self.fold_seconds + self.refit_seconds


def _spread(n_all: int, n_wanted: int) -> list[int]:
    """Return some of the numbers below n_all, evenly from all of them."""
    return np.unique(np.linspace(0, n_all - 1, min(n_all, n_wanted)).astype(int)).tolist()


def _try(
    model: str,
    cells: Sequence[CellPlan],
    last: CellPlan,
    rows: Rows,
    n_fit: int,
    work: FitWork,
    options: dict[str, object],
) -> _Try:
    """Fit and score cells on so many rows, fit the last one and label with it."""
    n_score = max(1, min(len(rows) - n_fit, round(n_fit * work.n_score / max(1, work.n_fit))))
    n_test = max(1, min(len(rows) - n_fit, round(n_fit * work.n_test / max(1, work.n_known))))
    fit, others = _divide(rows.y.astype(str), n_fit)
    begun = time.monotonic()
    if cells:
        failed = [found.error for _, found in score_cells(model, cells, rows, (fit, others[:n_score]), **options)]
        if all(error is not None for error in failed):
            raise FeatxError(f"every cell failed; the first with {failed[0]}")
    scored = time.monotonic()
    estimator = make_estimator(model, *last, **options)
    try:
        with convergence_noted():
            fitted = fit_estimator(estimator, rows, fit)
        fitted.predict(rows.X[others[:n_test]])
    except FIT_ERRORS as error:
        raise FeatxError(f"{model} failed: {type(error).__name__}: {error}") from error
    return _Try(n_fit, scored - begun if cells else 0.0, time.monotonic() - scored, fitted)


def _divide(y: np.ndarray, n_fit: int) -> tuple[np.ndarray, np.ndarray]:
    """Return so many rows to fit, all classes among them, and the others; both in random order."""
    _, firsts = np.unique(y, return_index=True)
    others = np.setdiff1d(np.random.default_rng(0).permutation(len(y)), firsts, assume_unique=True)
    return tuple(np.split(np.concatenate([firsts, others]), [n_fit]))
