"""All cells of a grid on one fold: what they share is computed once, and what one fails with stays its own."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning

from featx.errors import FeatxError
from featx.fit.estimators.forest import PrefixForestClassifier, fit_forest
from featx.fit.estimators.gram import FoldGram, SharedGram
from featx.fit.estimators.svm import iter_cells
from featx.fit.models import CellPlan, Params, make_estimator
from featx.fit.scoring import check_choice, measure_accuracy, measure_choice
from featx.results import predict_scores
from featx.store import Fold, Rows
from featx.system import available_memory

# What a classifier may have against its data or its parameters; scikit-learn 1.9's LDA without shrinkage meets constant
# features with an IndexError.
FIT_ERRORS = (ValueError, ArithmeticError, MemoryError, IndexError)


NOT_CONVERGED = "did not converge"
"""The note on a fit that ended at its most steps."""


# Which warnings were passed on: each is shown once, as by Python itself.
_WARNED: dict[object, object] = {}


# The share of the free memory that Gram matrices may take.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class CellScore:
    """How one cell did on one fold.

    Attributes
    ----------
    accuracy : float or None
        On the rows to score, weighted where rows have weights; None if the cell failed.
    seconds : float
        To fit and to score; of a Gram matrix or a forest that serves several cells, a share.
    error : str or None
        What the cell failed with.
    score : float or None
        What cells are chosen by, measured and weighted as the accuracy is; None if the cell failed.
    note : str or None
        `NOT_CONVERGED`, where that is so.
    """

    accuracy: float | None
    seconds: float
    error: str | None = None
    score: float | None = None
    note: str | None = None


def score_cells(
    model: str,
    cells: Sequence[CellPlan],
    rows: Rows,
    fold: Fold,
    *,
    seed: int = 0,
    class_weight: str | None = None,
    choose_by: str = "accuracy",
) -> Iterator[tuple[int, CellScore]]:
    """Fit cells on a fold's rows, score them on its others, and yield each one's number as soon as it is done.

    SVMs that differ in C and gamma only share a Gram matrix (`featx.fit.estimators.gram`), forests that differ in
    n_estimators only share their trees (`featx.fit.estimators.forest`); both predict what each cell's own scikit-learn
    pipeline would.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cells : sequence of (discretization, parameters)
    rows : Rows
    fold : (rows to fit, rows to score)
        Of the rows to fit, those of weight 0 are left out.
    seed : int, default 0
    class_weight : {"balanced"}, optional
    choose_by : str, default "accuracy"
        One of `featx.fit.CHOOSE_BY`.

    Raises
    ------
    FeatxError
        If the score to choose by can't be had of this model or on these rows.
    """
    serve = {"svm": _score_svms, "rf": _score_forests}.get(model, _score_one_by_one)
    options = {"seed": seed, "class_weight": class_weight, "choose_by": choose_by}
    fold = rows.with_weight(fold[0]), rows.with_weight(fold[1])
    if cells:
        check_choice(choose_by, make_estimator(model, *cells[0], class_weight=class_weight), rows, [fold])
    for numbers in _group_by_discretization(cells).values():
        yield from serve(model, {number: cells[number] for number in numbers}, rows, fold, **options)


def _group_by_discretization(cells: Sequence[CellPlan]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for number, (discretize, _) in enumerate(cells):
        groups.setdefault(discretize, []).append(number)
    return groups


def _score_svms(
    model: str,
    cells: Mapping[int, CellPlan],
    rows: Rows,
    fold: Fold,
    *,
    seed: int,
    class_weight: str | None,
    choose_by: str,
) -> Iterator[tuple[int, CellScore]]:
    discretize = next(iter(cells.values()))[0]
    begun = time.monotonic()
    try:
        gram = SharedGram(rows.X, discretize=discretize, memory_limit=gram_memory()).fold(*fold)
    except FeatxError as error:
        raise FeatxError(f"{error}, or featx fit linear-svm, which needs no Gram matrix") from error
    gram_seconds = (time.monotonic() - begun) / len(cells)
    plans = {number: params for number, (_, params) in cells.items()}
    options = {"class_weight": class_weight, "choose_by": choose_by}
    yield from score_svms(gram, plans, rows, fold, **options, gram_seconds=gram_seconds)


def choose_model(
    model: str, rows: Rows, n_fit: int, n_score: int, *, worker_memory: int | None = None
) -> tuple[str, list[str]]:
    """Return the model that serves these rows, and what to say of it: Gram matrices must fit into memory.

    Parameters
    ----------
    model : str
    rows : Rows
    n_fit, n_score : int
        The most rows that one fit takes, and the most that are scored at once.
    worker_memory : int, optional
        The bytes that each of a cluster's workers has, the features that it is yet to be sent included.
    """
    if model != "svm":
        return model, []
    needed, free = SharedGram(rows.X).predict_memory(n_fit, n_score), gram_memory()
    if worker_memory is not None:
        free = min(free, int(max(0, worker_memory - rows.X.nbytes) * _MEMORY_SHARE))
    if needed <= free:
        return model, []
    return "svm-large", [
        f"Gram matrices of {n_fit:,} rows need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: linear kernels "
        "through LinearSVC, RBF through its approximation by Nystroem; not the same as SVC"
    ]


def gram_memory() -> int:
    """Return how many bytes Gram matrices may take here.

    Workers that share a machine have had their part counted by `choose_model`; what one of them takes is no longer
    available to the next.
    """
    return int(available_memory() * _MEMORY_SHARE)


def score_svms(
    gram: FoldGram,
    cells: Mapping[int, Params],
    rows: Rows,
    fold: Fold,
    *,
    class_weight: str | None = None,
    choose_by: str = "accuracy",
    gram_seconds: float = 0.0,
) -> Iterator[tuple[int, CellScore]]:
    """Fit SVMs on a fold's Gram matrices, and yield each one's number and score as soon as it is done.

    Parameters
    ----------
    gram : FoldGram
    cells : mapping of int to dict
        Parameters of each one, under its number.
    rows : Rows
    fold : (rows to fit, rows to score)
        Those that `gram` was made of.
    class_weight : {"balanced"}, optional
    choose_by : str, default "accuracy"
        One of `featx.fit.CHOOSE_BY`.
    gram_seconds : float, default 0.0
        Each one's share of the time that `gram` took.
    """
    fit, score = fold
    plans = [{**params, "class_weight": class_weight} for params in cells.values()]
    numbers = list(cells)
    fitted = iter_cells(gram, rows.y[fit].astype(str), plans, sample_weight=rows.weights_of(fit), n_jobs=-1)
    for place, prediction in fitted:
        if isinstance(prediction, Exception):
            yield numbers[place], _failed(prediction, gram_seconds)
        else:
            told = {"predicted": prediction.predicted, "classes": prediction.classes, "decision": prediction.decision}
            yield numbers[place], _measure(rows, score, choose_by, gram_seconds + prediction.seconds, **told)


def _score_forests(
    model: str,
    cells: Mapping[int, CellPlan],
    rows: Rows,
    fold: Fold,
    *,
    seed: int,
    class_weight: str | None,
    choose_by: str,
) -> Iterator[tuple[int, CellScore]]:
    """Grow one forest for all cells that differ in n_estimators only."""
    groups: dict[tuple, dict[int, int]] = {}
    for number, (_, params) in cells.items():
        others = tuple(sorted((name, value) for name, value in params.items() if name != "n_estimators"))
        groups.setdefault(others, {})[number] = params["n_estimators"]
    fit, score = fold
    X_fit, X_score = _discretize(next(iter(cells.values()))[0], rows, fold)
    for others, sizes in groups.items():
        begun = time.monotonic()
        ascending = sorted(set(sizes.values()))
        forest = PrefixForestClassifier(
            n_estimators=ascending[-1], **dict(others), class_weight=class_weight, random_state=seed, n_jobs=-1
        )
        try:
            forest.fit(X_fit, rows.y[fit].astype(str), rows.weights_of(fit))
            staged = dict(zip(ascending, forest.staged_predict_proba(X_score, ascending), strict=True))
        except FIT_ERRORS as error:
            yield from ((number, _failed(error, time.monotonic() - begun)) for number in sizes)
            continue
        seconds_a_tree = (time.monotonic() - begun) / ascending[-1]
        for number, n_trees in sizes.items():
            told = {"classes": forest.classes_, "probabilities": staged[n_trees]}
            predicted = forest.classes_.take(staged[n_trees].argmax(axis=1))
            yield number, _measure(rows, score, choose_by, seconds_a_tree * n_trees, predicted, **told)


def _discretize(discretize: str, rows: Rows, fold: Fold) -> tuple[np.ndarray, np.ndarray]:
    """Return a forest's features of the rows to fit and to score."""
    from featx.fit.estimators.ternary import TernaryDiscretizer

    fit, score = fold
    if discretize == "none":
        return rows.X[fit], rows.X[score]
    discretizer = TernaryDiscretizer().fit(rows.X[fit])
    return discretizer.transform(rows.X[fit]), discretizer.transform(rows.X[score])


def _score_one_by_one(
    model: str,
    cells: Mapping[int, CellPlan],
    rows: Rows,
    fold: Fold,
    *,
    seed: int,
    class_weight: str | None,
    choose_by: str,
) -> Iterator[tuple[int, CellScore]]:
    fit, score = fold
    for number, (discretize, params) in cells.items():
        begun = time.monotonic()
        estimator = make_estimator(model, discretize, params, seed=seed, class_weight=class_weight)
        try:
            with convergence_noted() as noted:
                fit_estimator(estimator, rows, fit)
            told = {"predicted": estimator.predict(rows.X[score]), "classes": estimator.classes_}
            told |= {} if choose_by == "accuracy" else predict_scores(estimator, rows.X[score])
        except FIT_ERRORS as error:
            yield number, _failed(error, time.monotonic() - begun)
        else:
            found = _measure(rows, score, choose_by, time.monotonic() - begun, **told)
            yield number, replace(found, note=noted[0]) if noted else found


@contextmanager
def convergence_noted() -> Iterator[list[str]]:
    """Yield a list, and put a note into it if a fit ends before it converges; other warnings go on their way."""
    noted: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        yield noted
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            place = warning.filename, warning.lineno
            warnings.warn_explicit(warning.message, warning.category, *place, registry=_WARNED)
        elif not noted:
            noted.append(NOT_CONVERGED)


def fit_estimator(estimator: object, rows: Rows, known: np.ndarray) -> object:
    """Fit a cell's pipeline on some rows, with their weights where rows have weights; those of weight 0 are left out.

    Raises
    ------
    FeatxError
        If rows have weights and the classifier takes none.
    One of FIT_ERRORS
        What the classifier has against the rows or its parameters.
    """
    known = rows.with_weight(known)
    X, y, weights = rows.X[known], rows.y[known].astype(str), rows.weights_of(known)
    if isinstance(estimator[-1], RandomForestClassifier):
        fit_forest(estimator[-1], estimator[:-1].fit_transform(X) if len(estimator) > 1 else X, y, weights)
        return estimator
    if weights is None:
        return estimator.fit(X, y)
    from sklearn.utils.validation import has_fit_parameter

    if not has_fit_parameter(estimator[-1], "sample_weight"):
        raise FeatxError(f"{type(estimator[-1]).__name__} takes no sample weights: leave --sample-weight out")
    return estimator.fit(X, y, classifier__sample_weight=weights)


def _measure(
    rows: Rows, score: np.ndarray, choose_by: str, seconds: float, predicted: np.ndarray, **told: np.ndarray
) -> CellScore:
    """Make a cell's record of what it tells of the rows to score."""
    found = accuracy = measure_accuracy(rows, score, predicted)
    if choose_by != "accuracy":
        found = measure_choice(choose_by, rows, score, predicted, **told)
    if found is None:
        error = f"{choose_by} is not defined: what the cell tells is not finite, or lacks classes"
        return CellScore(None, round(seconds, 4), error)
    return CellScore(accuracy, round(seconds, 4), score=found)


def _failed(error: Exception, seconds: float) -> CellScore:
    return CellScore(None, round(seconds, 4), f"{type(error).__name__}: {error}")
