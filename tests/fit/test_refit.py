"""The last fit: on train and validation rows, with its size and its speed."""

from types import SimpleNamespace

import numpy as np
import pytest

from featx import FeatxError
from featx.fit import make_estimator
from featx.fit.refit import count_parameters, refit
from featx.store import Rows


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = np.tile(np.array(["a", "b"], dtype=object), 30)
    split = np.repeat(np.array(["train", "validation", "test"], dtype=object), 20)
    X = (rng.random((60, 5)) + (y == "b")[:, None] * 0.5).astype(np.float32)
    return Rows(X, y, split, np.array([f"{row}.png" for row in range(60)], dtype=object))


@pytest.mark.parametrize(("model", "params"), [("logreg", {"C": 1.0}), ("rf", {"n_estimators": 5})])
def test_it_is_fitted_on_all_rows_but_the_test_rows(rows, model, params):
    found = refit(model, ("none", params), rows, seed=3)
    expected = make_estimator(model, "none", params, seed=3).fit(rows.X[:40], rows.y[:40].astype(str))
    assert found.predicted.tolist() == expected.predict(rows.X[40:]).tolist()
    assert found.test["accuracy"] == expected.score(rows.X[40:], rows.y[40:].astype(str))
    assert found.n_parameters == count_parameters(expected)


def test_seconds_are_of_a_thousand_rows(rows, monkeypatch):
    # Begun and ended twice: ten seconds to fit, one to label 20 rows.
    ticks = iter([100.0, 110.0, 200.0, 201.0])
    monkeypatch.setattr("featx.fit.refit.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    found = refit("lda", ("none", {"shrinkage": "auto"}), rows)
    assert (found.seconds, found.predict_seconds) == (10, 50)


def test_what_the_cell_fails_with_is_told(rows):
    # Where there was nothing to choose, it has not been tried before.
    cell = ("none", {"n_neighbors": 500, "weights": "uniform", "metric": "euclidean"})
    with pytest.raises(FeatxError, match=r"the cell to score, n_neighbors=500 .*, failed with ValueError: Expected"):
        refit("knn", cell, rows)


def test_without_test_rows_there_is_nothing_to_tell_of_them(rows):
    rows.split[40:] = "train"
    found = refit("lda", ("none", {"shrinkage": "auto"}), rows)
    assert (found.test, found.predict_seconds, len(found.predicted)) == (None, None, 0)
    assert found.n_parameters == 2 * 5 + 5 + 1
