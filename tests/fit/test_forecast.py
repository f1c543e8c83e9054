"""How long fitting would take: what is tried, and how it is drawn out to all rows."""

import numpy as np
import pytest
import skops.io
from sklearn.dummy import DummyClassifier

import featx
from featx.fit import MODELS, FitWork, choose_tried_rows, forecast_fit, make_estimator, make_up_features, plan_cells
from featx.fit import forecast as fit_forecast
from featx.fit.cells import CellScore
from featx.fit.forecast import draw_out


def labels(n_rows, n_classes=3):
    return np.array([f"class {number % n_classes}" for number in range(n_rows)], dtype=object)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_tried_on_no_more_rows_than_it_would_be_fitted_on(model):
    y = labels(200)
    work = FitWork(n_folds=2, n_fit=80, n_score=40, n_refits=1, n_known=120, n_test=40)
    forecast = forecast_fit(model, plan_cells(model, {}, "none"), make_up_features(y, 24), y, work)
    assert forecast.seconds > 0
    assert 64 <= forecast.n_tried <= 80


@pytest.mark.parametrize("model", ["rf", "svm", "knn"])
def test_a_model_takes_the_disk_that_was_told(model, monkeypatch):
    # How many rows are tried hangs on nothing but their number.
    monkeypatch.setattr(fit_forecast, "_MORE_SECONDS", 1e9)
    monkeypatch.setattr(fit_forecast, "_ALL_SECONDS", 1e9)
    y = labels(400)
    X, cells = make_up_features(y, 256), plan_cells(model, {}, "none")
    work = FitWork(n_folds=0, n_fit=300, n_score=100, n_refits=1, n_known=300, n_test=100)
    told = forecast_fit(model, cells, X, y, work).model_bytes
    estimator = make_estimator(model, *cells[-1]).fit(X[:300], y[:300].astype(str))
    assert 0.7 < told / len(skops.io.dumps(estimator)) < 1.4
    larger = FitWork(n_folds=0, n_fit=300, n_score=100, n_refits=1, n_known=600, n_test=100)
    assert told < forecast_fit(model, cells, X, y, larger).model_bytes < 2.2 * told


@pytest.fixture
def clock(monkeypatch):
    """Cells of known cost, by a clock of their own: a scored cell takes what `costs` says of the rows to fit."""
    now, tries = [0.0], []

    def score_cells(model, cells, rows, fold, **options):
        fit, score = fold
        tries.append((len(cells), len(fit), len(score), set(rows.y[fit]) == set(rows.y)))
        for number in range(len(cells)):
            now[0] += clock.costs(len(fit))
            yield number, CellScore(1.0, 0.0, score=1.0)

    def fit_estimator(estimator, rows, known):
        now[0] += clock.costs(len(known))
        return DummyClassifier().fit(rows.X[known], rows.y[known])

    clock = type("Clock", (), {"costs": staticmethod(lambda n_fit: 0.0), "tries": tries})()
    monkeypatch.setattr(fit_forecast, "score_cells", score_cells)
    monkeypatch.setattr(fit_forecast, "fit_estimator", fit_estimator)
    monkeypatch.setattr(fit_forecast.time, "monotonic", lambda: now[0])
    return clock


@pytest.mark.parametrize("always", [0, 0.05])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_what_grows_by_a_power_of_the_rows_is_told_exactly(clock, power, always):
    clock.costs = lambda n_fit: always + 1e-3 * (n_fit / 100) ** power
    y = labels(3000)
    work = FitWork(n_folds=5, n_fit=100_000, n_score=25_000, n_refits=2, n_known=125_000, n_test=10_000)
    cells = plan_cells("linear-svm", {"C": [1, 2, 3]}, "none")
    forecast = forecast_fit("linear-svm", cells, np.zeros((3000, 2), np.float32), y, work)
    assert forecast.seconds == pytest.approx(5 * 3 * clock.costs(100_000) + 2 * clock.costs(125_000), rel=1e-3)
    # Rows to score keep their share of the rows to fit.
    assert {(n_fit, n_score) for _, n_fit, n_score, _ in clock.tries if n_fit == 256} == {(256, 64)}
    assert all(n_cells == 3 and has_all for n_cells, _, _, has_all in clock.tries)


def test_tries_end_with_all_rows_or_when_one_takes_long(clock):
    cells, y = plan_cells("knn", {}, "none"), labels(3000)
    X = np.zeros((3000, 2), np.float32)
    work = FitWork(n_folds=1, n_fit=700, n_score=70, n_refits=0, n_known=770, n_test=0)
    clock.costs = lambda n_fit: 1e-6 * n_fit
    assert forecast_fit("knn", cells, X, y, work).n_tried == 512
    clock.costs = lambda n_fit: 5.0
    clock.tries.clear()
    forecast = forecast_fit("knn", cells, X, y, work)
    assert len(clock.tries) == 2
    # One size alone can't tell how seconds grow: at least as the rows do.
    assert forecast.seconds == pytest.approx(3 * 5 * 700 / 64, abs=0.1)


def test_of_a_large_grid_some_cells_stand_for_all(clock):
    clock.costs = lambda n_fit: 1e-5 * n_fit
    cells = plan_cells("logreg", {"C": [*range(1, 1001)]}, "none")
    work = FitWork(n_folds=1, n_fit=500, n_score=100, n_refits=0, n_known=600, n_test=0)
    y = labels(1000)
    forecast = forecast_fit("logreg", cells, np.zeros((1000, 2), np.float32), y, work)
    assert {n_cells for n_cells, *_ in clock.tries} == {64}
    assert forecast.seconds == pytest.approx(1000 * clock.costs(500), abs=0.1)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0], 10.0),
        ([1.0, 4.0], 4.0 * 25),
        # No power under 1 or over 3, and nothing below what was seen, whatever the clock said.
        ([2.0, 2.1], 2.1 * 5),
        ([1.0, 1.0, 9.0], 1.0 + 8.0 / 63 * 999),
        ([3.0, 2.0, 1.0], 1.0),
        # A last try that took no longer than the one before says that rows count little.
        ([1.0, 1.2, 1.2], 1.0 + 0.2 / 300 * 900 + 0.2 / 300 * 100 - 0.2 / 3),
    ],
)
def test_seconds_are_drawn_out(seconds, expected):
    sizes = [100, 200, 400][: len(seconds)]
    assert draw_out(sizes, seconds, 1000) == pytest.approx(expected)


def test_a_single_cell_without_a_choice_is_only_fitted_again(clock):
    clock.costs = lambda n_fit: 1e-3 * n_fit
    work = FitWork(n_folds=0, n_fit=80, n_score=20, n_refits=10, n_known=100, n_test=25)
    cells = plan_cells("lda", {}, "none")
    y = labels(200)
    forecast = forecast_fit("lda", cells, np.zeros((200, 2), np.float32), y, work)
    assert clock.tries == []
    assert forecast.seconds == pytest.approx(10 * clock.costs(100), abs=0.1)


def test_cells_that_can_not_be_fitted_are_an_error():
    y = labels(200)
    work = FitWork(n_folds=1, n_fit=100, n_score=50, n_refits=1, n_known=150, n_test=50)
    cells = plan_cells("knn", {"n_neighbors": [5000]}, "none")
    with pytest.raises(featx.FeatxError, match="every cell failed; the first with ValueError"):
        forecast_fit("knn", cells, make_up_features(y, 8), y, work)
    with pytest.raises(featx.FeatxError, match="knn failed: ValueError"):
        forecast_fit("knn", cells, make_up_features(y, 8), y, FitWork(0, 100, 50, 1, 150, 50))


def test_rows_to_try_are_the_first_of_every_class():
    y = np.array(["a"] * 90_000 + ["b"] * 9_990 + ["c"] * 10, dtype=object)
    rows = choose_tried_rows(y, 64)
    assert (np.diff(rows) > 0).all()
    counts = {label: int((y[rows] == label).sum()) for label in "abc"}
    assert counts["a"] == pytest.approx(9 * counts["b"], rel=0.01)
    assert counts["c"] == 2
    assert 4090 <= len(rows) <= 4100
    assert rows[-1] == 99_991
    # A gigabyte is not read to say how long a gigabyte takes.
    assert 600 < len(choose_tried_rows(y, 100_000)) < 700
    assert choose_tried_rows(labels(5), 64).tolist() == [0, 1, 2, 3, 4]
    # Nor where there are more classes than room for rows.
    many = choose_tried_rows(labels(20_000, n_classes=1000), 500_000)
    assert len(many) < 300
    assert len(set(many % 1000)) > 60


def test_made_up_features_are_of_the_classes():
    y = labels(400)
    X = make_up_features(y, 300)
    assert (X.shape, X.dtype, X.min()) == ((400, 300), np.float32, 0)
    assert np.array_equal(X, make_up_features(y, 300))
    centres = {label: X[:200][y[:200] == label].mean(axis=0) for label in set(y)}
    found = [min(centres, key=lambda label: np.square(row - centres[label]).sum()) for row in X[200:]]
    assert np.mean(np.array(found) == y[200:]) > 0.5
