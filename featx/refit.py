"""The chosen cell once more: fitted on all rows but the test rows, and scored there once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from sklearn.pipeline import Pipeline

from featx.choosing import tell_scores
from featx.classifiers import CellPlan, make_estimator
from featx.errors import FeatxError
from featx.fitted_size import count_parameters
from featx.fitting import FIT_ERRORS, fit_estimator
from featx.metrics import score
from featx.rows import Rows
from featx.run_tables import describe_params


@dataclass(frozen=True)
class Refit:
    """A cell that was fitted for good.

    Attributes
    ----------
    estimator : Pipeline
    predicted : ndarray of shape (n_test,), str
        Labels of the test rows.
    test : dict or None
        See `featx.metrics.score`; None without test rows.
    seconds : float
        To fit.
    predict_seconds : float or None
        To label a thousand rows of features; None without test rows.
    n_parameters : int
        See `featx.fitted_size.count_parameters`.
    scores : dict
        Probabilities and decision values of the test rows, those of the two that it tells: see
        `featx.choosing.tell_scores`. Empty without test rows.
    """

    estimator: Pipeline
    predicted: np.ndarray
    test: dict[str, float | list[float] | None] | None
    seconds: float
    predict_seconds: float | None
    n_parameters: int
    scores: dict[str, np.ndarray] = field(default_factory=dict)


@contextmanager
def failures_told(cell: CellPlan, where: str = "") -> Iterator[None]:
    """Turn what the cell to score fails with into one line: there is no other cell to take in its place.

    Parameters
    ----------
    cell : (discretization, parameters)
    where : str, optional
        What the line begins with.

    Raises
    ------
    FeatxError
    """
    try:
        yield
    except FIT_ERRORS as error:
        raise FeatxError(
            f"{where}the cell to score, {describe_params(cell[1])}, failed with {type(error).__name__}: "
            f"{str(error).rstrip('.')}. Give other values"
        ) from error


def refit(model: str, cell: CellPlan, rows: Rows, *, seed: int = 0, class_weight: str | None = None) -> Refit:
    """Fit a cell on train and validation rows together, and label the test rows that weigh something.

    Parameters
    ----------
    model : str
        One of `featx.classifiers.MODELS`.
    cell : (discretization, parameters)
    rows : Rows
    seed : int, default 0
        Of the classifier, and of the interval's resamples.
    class_weight : {"balanced"}, optional

    Raises
    ------
    FeatxError
        If the cell fails: where there was nothing to choose, nobody has tried it before.
    """
    known, test = rows.of("train", "validation"), rows.with_weight(rows.of("test"))
    begun = time.monotonic()
    best = make_estimator(model, *cell, seed=seed, class_weight=class_weight)
    with failures_told(cell):
        fit_estimator(best, rows, known)
    seconds = time.monotonic() - begun
    if model == "rf":
        # Several threads add up a forest's trees in the order they come; predictions are to be the same every time.
        best[-1].set_params(n_jobs=1)
    n_parameters = count_parameters(best)
    if not len(test):
        return Refit(best, np.array([], dtype=str), None, seconds, None, n_parameters)
    X = rows.X[test]
    begun = time.monotonic()
    with failures_told(cell):
        predicted = best.predict(X)
    predict_seconds = (time.monotonic() - begun) * 1000 / len(test)
    scores = tell_scores(best, X)
    figures = score(
        rows.y[test].astype(str),
        predicted,
        classes=best.classes_,
        majority=rows.most_frequent(known),
        **scores,
        sample_weight=rows.weights_of(test),
        seed=seed,
    )
    return Refit(best, predicted, figures, seconds, predict_seconds, n_parameters, scores)
