"""What cells share gives each cell what it would get by itself."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featx import FeatxError, TernaryDiscretizer
from featx.classifiers import plan_cells
from featx.fitting import score_cells
from featx.rows import Rows

FIT, SCORE = np.arange(90), np.arange(90, 150)


def make_rows(weights=None, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(["a", "b", "c"], 150)
    X = rng.gamma(0.6, 1.0, (150, 80)).astype(np.float32)
    X[:, :10] += (y == "a")[:, None] * 0.8
    split = np.where(np.arange(150) < 90, "train", "validation").astype(object)
    paths = np.array([f"{row}.png" for row in range(150)], dtype=object)
    return Rows(X=X, y=y.astype(object), split=split, paths=paths, weights=weights)


def plain(model, discretize, params, class_weight):
    if model == "rf":
        classifier = RandomForestClassifier(**params, class_weight=class_weight, random_state=3)
        return make_pipeline(TernaryDiscretizer(), classifier) if discretize == "ternary" else make_pipeline(classifier)
    scaler = TernaryDiscretizer() if discretize == "ternary" else StandardScaler()
    return make_pipeline(scaler, SVC(**params, class_weight=class_weight))


GRIDS = {
    "rf": {"n_estimators": (20, 1, 7), "min_samples_leaf": (1, 5), "max_features": ("sqrt", 0.5)},
    "svm": {"kernel": ("rbf", "linear"), "C": (0.05, 1.0), "gamma": ("scale", "auto", 0.01)},
}


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", ["rf", "svm"])
def test_cells_score_as_their_own_pipelines_do(model, weighted, class_weight):
    weights = np.random.default_rng(1).random(150) + 0.1 if weighted else None
    rows = make_rows(weights)
    cells = plan_cells(model, GRIDS[model], "both")
    found = dict(score_cells(model, cells, rows, (FIT, SCORE), seed=3, class_weight=class_weight))
    assert sorted(found) == list(range(len(cells)))
    y = rows.y.astype(str)
    for number, (discretize, params) in enumerate(cells):
        pipeline = plain(model, discretize, params, class_weight)
        last = pipeline.steps[-1][0]
        options = {f"{last}__sample_weight": weights[FIT]} if weighted else {}
        pipeline.fit(rows.X[FIT], y[FIT], **options)
        expected = pipeline.score(rows.X[SCORE], y[SCORE], weights[SCORE] if weighted else None)
        assert found[number].accuracy == pytest.approx(expected, abs=1e-12), (discretize, params)
    assert len({score.accuracy for score in found.values()}) > 3


@pytest.mark.parametrize("model", ["linear-svm", "logreg", "knn", "lda"])
def test_other_models_are_scored_one_by_one(model):
    rows = make_rows()
    cells = plan_cells(model, {}, "ternary")
    found = dict(score_cells(model, cells, rows, (FIT, SCORE)))
    assert all(score.error is None and 0 < score.accuracy < 1 for score in found.values())


@pytest.mark.parametrize(
    ("model", "grid"), [("knn", {"n_neighbors": (3, 500)}), ("rf", {"max_features": ("sqrt", -1.0)})]
)
def test_a_cell_that_fails_does_not_take_the_others(model, grid):
    found = dict(score_cells(model, plan_cells(model, grid, "none"), make_rows(), (FIT, SCORE)))
    assert found[0].error is None
    assert found[1].accuracy is None
    assert "Error: " in found[1].error


def test_an_svm_that_fails_does_not_take_the_others():
    found = dict(score_cells("svm", plan_cells("svm", {"C": (1.0, -1.0)}, "none"), make_rows(), (FIT, SCORE)))
    assert [score.error is None for score in (found[number] for number in range(4))] == [True, False, True, False]


def test_gram_matrices_that_do_not_fit_are_refused_with_another_way(monkeypatch):
    import psutil

    memory = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(FeatxError, match=r"need .* GB, the limit is .* featx fit linear-svm"):
        list(score_cells("svm", plan_cells("svm", {}, "none"), make_rows(), (FIT, SCORE)))


def test_weights_where_a_classifier_takes_none():
    rows = make_rows(np.ones(150))
    with pytest.raises(FeatxError, match="KNeighborsClassifier takes no sample weights"):
        list(score_cells("knn", plan_cells("knn", {}, "none"), rows, (FIT, SCORE)))
