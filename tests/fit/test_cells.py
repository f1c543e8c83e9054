"""What cells share gives each cell what it would get by itself."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, label_binarize
from sklearn.svm import SVC

from featx import FeatxError, TernaryDiscretizer
from featx.fit import CHOOSE_BY, MODELS, check_choice, make_estimator, plan_cells
from featx.fit.cells import fit_estimator, score_cells
from featx.fit.models import Model
from featx.store import Rows

FIT, SCORE = np.arange(90), np.arange(90, 150)


def make_rows(weights=None, seed=0, classes=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, 150)
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
    "rf": {"n_estimators": (9, 1, 5), "min_samples_leaf": (1, 5), "max_features": (0.5,)},
    "svm": {"kernel": ("rbf", "linear"), "C": (0.05, 1.0), "gamma": ("scale", 0.01)},
}


@pytest.mark.parametrize("model", ["rf", "svm", "linear-svm", "logreg"])
def test_balanced_classes_may_be_named_by_digits(model):
    weights = np.random.default_rng(1).choice([0.0, 0.5, 2.0], 150)
    rows = {names: make_rows(weights, classes=names) for names in [("a", "b", "c"), ("1", "2", "c")]}
    rows["1", "2", "c"] = replace(rows["1", "2", "c"], X=rows["a", "b", "c"].X)
    cells = plan_cells(model, GRIDS.get(model, {"C": (0.001,)}), "none")[:2]
    found, predicted = [], []
    for names, some in rows.items():
        scores = dict(score_cells(model, cells, some, (FIT, SCORE), seed=3, class_weight="balanced"))
        found.append([(score.accuracy, score.error) for _, score in sorted(scores.items())])
        estimator = make_estimator(model, *cells[0], seed=3, class_weight="balanced")
        fit_estimator(estimator, some, FIT)
        assert estimator.classes_.tolist() == list(names)
        predicted.append([names.index(label) for label in estimator.predict(some.X[SCORE])])
    assert found[0] == found[1]
    assert all(error is None for _, error in found[1])
    assert predicted[0] == predicted[1]


def sklearn_figure(name, fitted, X, y, weight):
    """Compute a score of a fitted plain pipeline by scikit-learn's own functions."""
    if name == "accuracy":
        return metrics.accuracy_score(y, fitted.predict(X), sample_weight=weight)
    if name == "balanced_accuracy":
        return metrics.balanced_accuracy_score(y, fitted.predict(X), sample_weight=weight)
    if name == "macro_f1":
        return metrics.f1_score(y, fitted.predict(X), average="macro", sample_weight=weight)
    if name == "log_loss":
        return metrics.log_loss(y, fitted.predict_proba(X), sample_weight=weight)
    if hasattr(fitted, "predict_proba"):
        scores = fitted.predict_proba(X)
        scores = scores[:, 1] if len(fitted.classes_) == 2 else scores
        return metrics.roc_auc_score(y, scores, multi_class="ovr", sample_weight=weight)
    truth = label_binarize(y, classes=fitted.classes_)
    return metrics.roc_auc_score(truth, fitted.decision_function(X), average="macro", sample_weight=weight)


@pytest.mark.parametrize(
    ("classes", "weighted", "class_weight"), [("abc", False, None), ("ab", True, "balanced"), ("abc", True, "balanced")]
)
@pytest.mark.parametrize("model", ["rf", "svm"])
def test_cells_have_the_scores_of_their_own_pipelines(model, classes, weighted, class_weight):
    # Some rows count nothing: they are as if they were not there.
    weights = np.maximum(np.random.default_rng(1).random(150) - 0.1, 0) if weighted else None
    rows = make_rows(weights, classes=list(classes))
    cells, y, weight = plan_cells(model, GRIDS[model], "both"), rows.y.astype(str), rows.weights_of(SCORE)
    choices = [name for name in CHOOSE_BY if (model, name) != ("svm", "log_loss")]
    fit = FIT if weights is None else FIT[weights[FIT] > 0]
    options = {"seed": 3, "class_weight": class_weight}
    found = {name: dict(score_cells(model, cells, rows, (FIT, SCORE), choose_by=name, **options)) for name in choices}
    for number, (discretize, params) in enumerate(cells):
        pipeline = plain(model, discretize, params, class_weight)
        options = {f"{pipeline.steps[-1][0]}__sample_weight": weights[fit]} if weighted else {}
        pipeline.fit(rows.X[fit], y[fit], **options)
        accuracy = pipeline.score(rows.X[SCORE], y[SCORE], weight)
        for name in choices:
            expected = sklearn_figure(name, pipeline, rows.X[SCORE], y[SCORE], weight)
            assert found[name][number].score == pytest.approx(expected, abs=1e-12), (name, discretize, params)
            assert found[name][number].accuracy == pytest.approx(accuracy, abs=1e-12)
    assert all(len({round(score.score, 9) for score in scores.values()}) > 1 for scores in found.values())


@pytest.mark.parametrize("choose_by", ["balanced_accuracy", "roc_auc", "log_loss"])
@pytest.mark.parametrize("model", ["linear-svm", "logreg", "knn", "lda"])
def test_other_models_have_the_same_scores(model, choose_by):
    rows = make_rows()
    cells = plan_cells(model, {}, "none")
    if (model, choose_by) == ("linear-svm", "log_loss"):
        with pytest.raises(FeatxError, match="LinearSVC, which has no probabilities"):
            next(score_cells(model, cells, rows, (FIT, SCORE), choose_by=choose_by))
        return
    found = dict(score_cells(model, cells, rows, (FIT, SCORE), choose_by=choose_by))
    y = rows.y.astype(str)
    for number, cell in enumerate(cells):
        fitted = make_estimator(model, *cell).fit(rows.X[FIT], y[FIT])
        expected = sklearn_figure(choose_by, fitted, rows.X[SCORE], y[SCORE], None)
        # Some tell probabilities of single precision, which scikit-learn's log loss adds up as they are.
        assert found[number].score == pytest.approx(expected, rel=1e-6 if choose_by == "log_loss" else 1e-12)


def test_the_accuracy_is_what_cells_are_chosen_by_unless_another_score_is():
    found = dict(score_cells("svm", plan_cells("svm", {}, "none"), make_rows(), (FIT, SCORE)))
    assert all(score.score == score.accuracy for score in found.values())


def relabel(rows, row, label):
    rows.y[row] = label
    return rows


@pytest.mark.parametrize(
    ("model", "choose_by", "rows", "message"),
    [
        ("svm", "auc", make_rows(), "choose_by: expected one of accuracy, .*, found 'auc'"),
        ("svm", "log_loss", make_rows(), r"GramSVC, which has no probabilities\. Choose by accuracy, .*, roc_auc$"),
        ("rf", "roc_auc", relabel(make_rows(classes=["a", "b"]), SCORE, "a"), "no row to score has the class 'b'"),
        ("rf", "roc_auc", relabel(make_rows(), 149, "d"), "the class 'd', which no row to fit has"),
        ("rf", "log_loss", relabel(make_rows(), 149, "d"), "no row to fit has. Choose by balanced_accuracy, give"),
        (
            *("rf", "roc_auc"),
            make_rows(((make_rows().y != "c") | (np.arange(150) < 90)).astype(float)),
            "no row to score has the class 'c'",
        ),
        (
            *("rf", "roc_auc"),
            make_rows(((make_rows().y != "c") | (np.arange(150) >= 90)).astype(float)),
            "the class 'c', which no row to fit has",
        ),
        ("rf", "macro_f1", make_rows(np.arange(150) < 90), "the weights of all rows to score are 0"),
    ],
)
def test_scores_that_can_not_be_had_are_refused_before_a_fit(monkeypatch, model, choose_by, rows, message):
    monkeypatch.setattr("featx.fit.estimators.forest.PrefixForestClassifier.fit", None)
    with pytest.raises(FeatxError, match=message):
        next(score_cells(model, plan_cells(model, {}, "none"), rows, (FIT, SCORE), choose_by=choose_by))


def test_the_fold_that_leaves_a_score_undefined_is_named():
    rows = make_rows(classes=["a", "b"])
    folds = [(FIT, SCORE), (FIT, SCORE[rows.y[SCORE] == "a"])]
    svm = make_estimator("svm", "none", {})
    check_choice("balanced_accuracy", svm, rows, folds)
    with pytest.raises(FeatxError, match=r"choose_by: fold 2 of 2: roc_auc is not .* the class 'b'"):
        check_choice("roc_auc", svm, rows, folds)


def test_a_classifier_that_tells_labels_alone_has_no_roc_auc(monkeypatch):
    def build(params, **options):
        return VotingClassifier([("only", LogisticRegression())], voting="hard")

    monkeypatch.setitem(MODELS, "knn", Model(grid={}, build=build))
    cells, rows = plan_cells("knn", {}, "none"), make_rows()
    with pytest.raises(FeatxError, match="VotingClassifier, which has no probabilities and no decision values"):
        next(score_cells("knn", cells, rows, (FIT, SCORE), choose_by="roc_auc"))
    ((_, found),) = score_cells("knn", cells, rows, (FIT, SCORE), choose_by="macro_f1")
    assert 0 < found.score < 1


def test_a_cell_whose_scores_are_not_numbers_fails(monkeypatch):
    class Overflowing(LogisticRegression):
        def predict_proba(self, X):
            return super().predict_proba(X) * np.nan

    monkeypatch.setitem(MODELS, "logreg", Model(grid={"C": (1.0,)}, build=lambda params, **options: Overflowing()))
    ((_, found),) = score_cells(
        "logreg", plan_cells("logreg", {}, "none"), make_rows(), (FIT, SCORE), choose_by="log_loss"
    )
    assert (found.accuracy, found.score) == (None, None)
    assert "log_loss is not defined" in found.error


@pytest.mark.parametrize("model", ["linear-svm", "logreg", "knn", "lda"])
def test_other_models_are_scored_one_by_one(model):
    rows = make_rows()
    cells = plan_cells(model, {}, "ternary")
    found = dict(score_cells(model, cells, rows, (FIT, SCORE)))
    assert all(score.error is None and 0 < score.accuracy < 1 for score in found.values())


def with_a_failing(model, grid, **params):
    """Return cells of which the last one's parameters, which no grid may have, make it fail."""
    cells = plan_cells(model, grid, "none")
    return [*cells, ("none", cells[-1][1] | params)]


@pytest.mark.parametrize(
    ("model", "grid", "failing"),
    [("knn", {"n_neighbors": (3,)}, {"n_neighbors": 500}), ("rf", {"max_features": ("sqrt",)}, {"max_features": -1.0})],
)
def test_a_cell_that_fails_does_not_take_the_others(model, grid, failing):
    cells = with_a_failing(model, grid | {"min_samples_leaf": (2,)} if model == "rf" else grid, **failing)
    found = dict(score_cells(model, cells, make_rows(), (FIT, SCORE)))
    assert found[0].error is None
    assert found[1].accuracy is None
    assert "Error: " in found[1].error


def test_an_svm_that_fails_does_not_take_the_others():
    found = dict(score_cells("svm", with_a_failing("svm", {"C": (1.0,)}, C=-1.0), make_rows(), (FIT, SCORE)))
    assert [found[number].error is None for number in range(3)] == [True, True, False]


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
