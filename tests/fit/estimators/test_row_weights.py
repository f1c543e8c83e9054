"""Rows of weight 0: every fit is exactly the one without them, and a class that has no other rows is named."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import grouped_features, write_plain_store
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import featx
from featx import FeatxError
from featx.cli import main
from featx.fit import MODELS, make_estimator, plan_cells
from featx.fit.cells import fit_estimator, score_cells
from featx.fit.estimators import GramSVC, LargeSVC, PrefixForestClassifier
from featx.fit.layerwise import LayerAblations, ablate_layers
from featx.fit.refit import refit
from featx.fit.splits import make_folds
from featx.results import read_repeats
from featx.store import Rows

WEIGHTED = ("rf", "svm", "svm-large", "linear-svm", "logreg")
N = 150


def make_rows(lost_class=None):
    """Three classes that overlap; every fourth row weighs 0 and is of another kind, and so do all of a class."""
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], N, p=[0.5, 0.3, 0.2])
    X = rng.gamma(0.6, 1.0, (N, 40)).astype(np.float32)
    X[:, :8] += (y == "a")[:, None] * 1.2 + (y == "b")[:, None] * 0.6
    weights = rng.choice([0.5, 1.0, 2.0], N)
    weights[::4] = 0
    X[::4] = 9 - 3 * X[::4]
    weights[y == lost_class] = 0
    split = np.array(["train", "train", "validation", "test", "train"] * (N // 5), dtype=object)
    paths = np.array([f"{row:03d}.png" for row in range(N)], dtype=object)
    return Rows(X, y.astype(object), split, paths, weights=weights)


def without_weightless(rows):
    kept = np.flatnonzero(rows.weights)
    columns = {name: getattr(rows, name)[kept] for name in ("X", "y", "split", "paths", "weights")}
    return replace(rows, **columns)


def answers_of(estimator, X):
    if "n_jobs" in estimator[-1].get_params():
        # Several threads add up a forest's trees in the order they come.
        estimator[-1].set_params(n_jobs=1)
    methods = ("predict", "predict_proba", "decision_function")
    return [getattr(estimator, method)(X) for method in methods if hasattr(estimator, method)]


def small_grid(model):
    return {"rf": {"n_estimators": (7, 3), "min_samples_leaf": (2,)}}.get(model, {"C": (0.001, 0.03)})


@pytest.mark.parametrize("lost_class", [None, "b"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("discretize", ["none", "ternary"])
@pytest.mark.parametrize("model", WEIGHTED)
def test_a_fit_is_the_one_without_them(model, discretize, class_weight, lost_class):
    rows = make_rows(lost_class)
    less, options = without_weightless(rows), {"seed": 3, "class_weight": class_weight}
    for cell in plan_cells(model, small_grid(model), discretize):
        fitted, expected = (
            fit_estimator(make_estimator(model, *cell, **options), some, some.of("train")) for some in (rows, less)
        )
        assert fitted.classes_.tolist() == [name for name in "abc" if name != lost_class]
        for found, wanted in zip(answers_of(fitted, rows.X), answers_of(expected, rows.X), strict=True):
            assert np.array_equal(found, wanted)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("model", WEIGHTED)
def test_cells_and_the_refit_are_those_without_them(model, class_weight):
    rows = make_rows()
    less, cells = without_weightless(rows), plan_cells(model, small_grid(model), "ternary")
    options = {"seed": 3, "class_weight": class_weight}
    for choose_by in ("accuracy", "roc_auc"):
        figures = []
        for some in (rows, less):
            fold = some.of("train"), some.of("validation")
            found = dict(score_cells(model, cells, some, fold, choose_by=choose_by, **options))
            figures.append([(found[number].accuracy, found[number].score) for number in range(len(cells))])
        np.testing.assert_allclose(*figures, rtol=1e-12)
    found, wanted = (refit(model, cells[0], some, **options) for some in (rows, less))
    assert np.array_equal(found.predicted, wanted.predicted)
    assert found.n_parameters == wanted.n_parameters
    for name, figure in wanted.test.items():
        assert found.test[name] == (figure if figure is None else pytest.approx(figure, rel=1e-12)), name


@pytest.mark.parametrize("model", ["rf", "svm", "logreg"])
def test_figures_of_layers_are_those_without_them(model):
    rows, widths = make_rows(), {"one": 25, "two": 15}
    less, cell = without_weightless(rows), plan_cells(model, small_grid(model), "none")[-1]
    figures = []
    for some in (rows, less):
        folds = [(some.of("train"), some.of("validation"))]
        questions = LayerAblations(each_layer=True, leave_one_layer_out=True, importance=3)
        figures.append(ablate_layers(model, cell, some, folds, widths, questions, class_weight="balanced")[0])
    pd.testing.assert_frame_equal(*(pd.DataFrame(list(each)) for each in figures), rtol=1e-12)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize(
    "estimator",
    [
        GramSVC(kernel="linear", C=0.1),
        GramSVC(C=3.0),
        LargeSVC(kernel="linear", C=0.01, random_state=0),
        LargeSVC(n_components=30, random_state=0),
        PrefixForestClassifier(n_estimators=9, random_state=0),
    ],
    ids=lambda estimator: f"{type(estimator).__name__}-{getattr(estimator, 'kernel', '')}",
)
def test_the_estimators_fit_without_them(estimator, class_weight):
    rows = make_rows("b")
    less = without_weightless(rows)
    fitted, expected = (make_pipeline(clone(estimator).set_params(class_weight=class_weight)) for _ in range(2))
    for one, some in ((fitted, rows), (expected, less)):
        one[-1].fit(some.X, some.y.astype(str), sample_weight=some.weights)
    assert fitted.classes_.tolist() == ["a", "c"]
    for found, wanted in zip(answers_of(fitted, rows.X), answers_of(expected, rows.X), strict=True):
        assert np.array_equal(found, wanted)
    if isinstance(estimator, GramSVC):
        assert np.array_equal(fitted[-1].support_, np.flatnonzero(rows.weights)[expected[-1].support_])


@pytest.mark.parametrize("estimator", [GramSVC(), LargeSVC(), PrefixForestClassifier()])
@pytest.mark.parametrize(
    ("weights", "message"),
    [([0, 0, 0, 0], "all weights are zero"), ([1, 1, -1, 1], "-1.0 for row 2"), ([1, np.nan, 1, 1], "nan for row 1")],
)
def test_weights_that_are_none(estimator, weights, message):
    with pytest.raises(ValueError, match=f"sample_weight: .*{message}"):
        clone(estimator).fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"], sample_weight=weights)


def test_folds_that_leave_a_class_no_row_of_weight():
    rows = make_rows()
    known = np.arange(N)
    rows.weights[(rows.y == "c") & (np.arange(N) != np.flatnonzero(rows.y == "c")[0])] = 0
    rows.weights[np.flatnonzero(rows.y == "c")[0]] = 1
    with pytest.raises(
        FeatxError, match=r"cv: one fold of 3 has no row of the class 'c' .*its rows with a weight over 0 are"
    ):
        make_folds(rows, known, 3, seed=0)
    # A class that weighs nothing at all is in no fold's fit; which rows are in which fold, weights don't say.
    rows.weights[rows.y == "c"] = 0
    folds = make_folds(rows, known, 3, seed=0)
    plain = make_folds(replace(rows, weights=None), known, 3, seed=0)
    assert all(
        np.array_equal(a, b) for one, two in zip(folds, plain, strict=True) for a, b in zip(one, two, strict=True)
    )


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    """Images of three classes; in `no_b` all of the class b weigh 0, in `no_train_b` its train images."""
    folder = tmp_path_factory.mktemp("weighted")
    labels = ["a"] * 40 + ["b"] * 30 + ["c"] * 30
    splits = ["train", "train", "validation", "test", "train"] * 20
    weights = {"no_b": [0.0 if label == "b" else 1.0 for label in labels]}
    weights["ones"] = [1.0] * 100
    weights["uneven"] = [float(1 + row % 7) for row in range(100)]
    weights["no_train_b"] = [
        0.0 if (label, split) == ("b", "train") else 1.0 for label, split in zip(labels, splits, strict=True)
    ]
    features = {"fc1": grouped_features(labels, 6), "fc2": grouped_features(labels, 5, seed=1)}
    return write_plain_store(folder / "s.h5", features, labels, splits=splits, columns=weights)


def fit(store, model, output, *options):
    done = CliRunner().invoke(
        main, ["fit", model, str(store), "-o", str(output), *map(str, options)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output, pd.read_csv(output / "predictions.csv", keep_default_na=False)


@pytest.mark.parametrize("options", [(), ("--class-weight", "balanced")])
@pytest.mark.parametrize("model", ["rf", "svm", "linear-svm", "logreg"])
def test_a_class_without_weight_is_named_and_the_others_are_as_without_it(store_path, tmp_path, model, options):
    said, found = fit(store_path, model, tmp_path / "run", "--sample-weight", "no_b", *options)
    assert "30 of 100 images have the weight 0" in said
    assert said.count("the class 'b'") == 1
    assert "all images of the class 'b' to fit on have the weight 0: it can't be predicted\n" in said
    options = ("--where", "label != 'b'", "--sample-weight", "ones", *options)
    _, wanted = fit(store_path, model, tmp_path / "other", *options)
    pd.testing.assert_frame_equal(found, wanted)
    assert (found["predicted"] == wanted["label"]).all()
    for table in ("per_class.csv", "confusion.csv"):
        assert (tmp_path / "run" / table).read_text() == (tmp_path / "other" / table).read_text()
    assert "on 14 images, weighted by no_b" in said
    run, other = featx.read_run(tmp_path / "run"), featx.read_run(tmp_path / "other")
    assert run.test["accuracy"] == other.test["accuracy"] == 1.0
    for name in ("classes", "n_train", "n_validation", "n_test"):
        assert run.protocol[name] == other.protocol[name]
    assert [cell.validation_accuracy for cell in run.cells] == [cell.validation_accuracy for cell in other.cells]


def test_test_images_of_a_class_without_weight_in_train_count_as_wrong(store_path, tmp_path):
    said, found = fit(store_path, "svm", tmp_path / "run", "--sample-weight", "no_train_b", "--kernel", "linear")
    assert said.count("the class 'b'") == 1
    assert (
        "all train images of the class 'b' have the weight 0: while cells are compared, fitted on train images, it "
        "can't be predicted, and its 6 validation images count as wrong" in said
    )
    run = featx.read_run(tmp_path / "run")
    # The cells are fitted on train rows alone; the validation rows of b serve the last fit.
    assert max(cell.validation_accuracy for cell in run.cells) == pytest.approx(14 / 20)
    assert run.test["accuracy"] == 1.0
    assert found["predicted"].tolist() == found["label"].tolist()


def test_runs_on_other_test_rows_by_weight_are_not_compared(store_path, tmp_path):
    grid = ("--kernel", "linear", "--C", "0.1")
    fit(store_path, "svm", tmp_path / "plain", *grid)
    fit(store_path, "svm", tmp_path / "weighted", "--sample-weight", "no_b", *grid)
    fit(store_path, "logreg", tmp_path / "other", "--sample-weight", "no_b", "--C", "0.1")
    with pytest.raises(FeatxError, match="not the same test rows"):
        featx.compare_runs([tmp_path / "plain", tmp_path / "weighted"])
    compared = featx.compare_runs([tmp_path / "weighted", tmp_path / "other"])
    assert compared.n_rows == 14


@pytest.mark.parametrize("choose_by", ["roc_auc", "log_loss"])
def test_a_score_that_is_not_defined_for_lack_of_weight_says_so(store_path, tmp_path, choose_by):
    args = ["fit", "logreg", str(store_path), "--sample-weight", "no_train_b", "--choose-by", choose_by]
    done = CliRunner().invoke(main, [*args, "-o", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert (
        "rows to score have the class 'b', whose rows to fit all have the weight 0. Choose by balanced_accuracy, give "
        "some of them a weight over 0, or leave the class out" in done.output
    )


def test_random_splits_show_weighted_figures_next_to_plain_ones(store_path, tmp_path):
    args = ["fit", "knn", str(store_path), "--repeats", "2", "--n-neighbors", "1"]
    done = CliRunner().invoke(main, [*args, "-o", str(tmp_path / "plain")])
    assert done.exit_code == 0, done.output
    assert "weighted by" not in done.output
    args = ["fit", "rf", str(store_path), "--repeats", "2", "--n-estimators", "1", "--sample-weight", "uneven"]
    done = CliRunner().invoke(main, [*args, "--max-features", "1", "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    repeats = read_repeats(tmp_path / "run").repeats
    plain, weighted = (
        pd.Series([figures["accuracy"] for figures in tests])
        for tests in ([repeat.test for repeat in repeats], [repeat.test_weighted for repeat in repeats])
    )
    assert plain.mean() != weighted.mean()
    assert f"2 random splits, test accuracy {plain.mean():.4f} ± {plain.std():.4f}, " in done.output
    assert f"; weighted by uneven: accuracy {weighted.mean():.4f} ± {weighted.std():.4f}, " in done.output


def test_a_random_split_without_a_test_row_of_weight(tmp_path):
    labels = [*"ab"] * 20
    weights = {"w": [1.0] * 4 + [0.0] * 36}
    path = write_plain_store(tmp_path / "s.h5", {"fc1": grouped_features(labels)}, labels, columns=weights)
    with pytest.raises(FeatxError, match="seed 1: the weights of all test rows of this random split are 0: give more"):
        featx.fit_repeats(path, "rf", tmp_path / "run", n_repeats=3, sample_weight="w", grid={"n_estimators": (3,)})


@pytest.mark.parametrize("options", [("--cv", 3), ("--repeats", 2, "--cv", 3)])
def test_folds_and_random_splits_fit_without_them(store_path, tmp_path, options):
    args = ["fit", "svm", str(store_path), "--C", "0.1,1", *map(str, options)]
    done = CliRunner().invoke(main, [*args, "--sample-weight", "no_b", "-o", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "30 of 100 images have the weight 0" in done.output
    assert "the class 'b'" in done.output
    if "--repeats" in options:
        assert (
            "in 2 of 2 random splits all train images of the class 'b' have the weight 0: it can't be predicted there\n"
            in done.output
        )
        run = read_repeats(tmp_path / "run")
        assert [repeat.test_weighted["accuracy"] for repeat in run.repeats] == [1.0, 1.0]
        assert [repeat.test["accuracy"] for repeat in run.repeats] == [1.0, 1.0]
        assert [(repeat.n_train, repeat.n_test) for repeat in run.repeats] == [(56, 14), (56, 14)]
        assert [repeat.validation_accuracy for repeat in run.repeats] == [1.0, 1.0]
    else:
        assert max(cell.validation_accuracy for cell in featx.read_run(tmp_path / "run").cells) == 1.0


def test_one_class_of_weight_is_refused(store_path, tmp_path):
    for options in ([], ["--repeats", "2"]):
        where = ["--where", "label != 'c'", "--sample-weight", "no_b", "-o", str(tmp_path / "run")]
        done = CliRunner().invoke(main, ["fit", "svm", str(store_path), *where, *options])
        assert done.exit_code == 1
        assert "weight over 0" in done.output
        assert "('a')" in done.output
        assert not (tmp_path / "run").exists()


def test_every_model_is_tested():
    assert {*WEIGHTED, "knn", "lda"} == set(MODELS)
