"""SVMs on BLAS kernel matrices predict what scikit-learn's SVC predicts."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from featx import FeatxError, TernaryDiscretizer
from featx.fit.estimators import GramSVC, SharedGram
from featx.fit.estimators.svm import fit_cells, ovo_vote, ovr_decision, row_blocks

# As of scikit-learn's own SVC, for the same reason: the solver stops within a tolerance.
XFAIL = {"check_sample_weight_equivalence_on_dense_data": "as of SVC, weights equal repeats only within tolerance"}

CELLS = [
    {"kernel": kernel, "C": C, "gamma": gamma}
    for kernel, C, gamma in product(("linear", "rbf"), (0.001, 0.1, 10.0), ("scale", "auto", 1e-2))
]


def make_deep_features(n_rows, n_features, n_classes):
    """Make features like those of a network: half of them 0, scales far apart, classes that overlap."""
    rng = np.random.default_rng(n_classes)
    y = rng.integers(0, n_classes, n_rows)
    hidden = 2.5 * rng.normal(size=(n_rows, 40)) + rng.normal(size=(n_classes, 40))[y]
    X = hidden @ rng.normal(size=(40, n_features)) + 3 * rng.normal(size=(n_rows, n_features))
    X *= np.exp(rng.normal(size=n_features))
    X[:, 0] = 3.25
    return np.maximum(X, 0).astype(np.float32), np.array([f"class {label}" for label in y], dtype=object)


def load(name):
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X[:800].astype(np.float32), y[:800]
    if name == "cancer":
        X, y = load_breast_cancer(return_X_y=True)
        return X.astype(np.float32), y
    return make_deep_features(300, 1500, int(name))


def compare(shared, plain, X):
    """Check labels and decision values against a fitted scikit-learn estimator."""
    assert np.array_equal(shared.predicted, plain.predict(X))
    assert shared.predicted.dtype == plain.predict(X).dtype
    decision = plain.decision_function(X)
    assert shared.decision.shape == decision.shape
    np.testing.assert_allclose(shared.decision, decision, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "discretize"),
    [("digits", "none"), ("cancer", "none"), ("cancer", "ternary"), ("2", "ternary"), ("3", "none"), ("9", "ternary")],
)
def test_every_cell_predicts_as_its_pipeline(name, discretize):
    X, y = load(name)
    rows = np.random.default_rng(0).permutation(len(X))
    fit_rows, score_rows = np.split(rows, [len(X) * 2 // 3])
    fold = SharedGram(X, discretize=discretize).fold(fit_rows, score_rows)
    predictions = fit_cells(fold, y[fit_rows], CELLS)
    transformer = StandardScaler() if discretize == "none" else TernaryDiscretizer()
    n_labels = []
    for cell, prediction in zip(CELLS, predictions, strict=True):
        if cell["kernel"] == "linear" and cell["gamma"] != "scale":
            assert np.array_equal(prediction.predicted, n_labels[-1])
            continue
        plain = make_pipeline(clone(transformer), SVC(**cell)).fit(X[fit_rows], y[fit_rows])
        compare(prediction, plain, X[score_rows])
        n_labels.append(prediction.predicted)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_ties_break_as_in_scikit_learn(kernel, n_classes):
    # Corners of a square, and points as far from one class as from another: decision values of exactly 0.
    X = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]][:n_classes] * 2 + [[0, 0], [0, 1], [1, 0], [0, -1]], dtype=float)
    y = np.tile(np.arange(n_classes), 2)
    fit_rows, score_rows = np.split(np.arange(len(X)), [len(y)])
    params = {"kernel": kernel, "C": 1.0, "gamma": 0.5}
    discrete = TernaryDiscretizer().fit(X[fit_rows]).transform(X)
    plain = SVC(**params).fit(discrete[fit_rows], y)
    by_pairs = SVC(**params, decision_function_shape="ovo").fit(discrete[fit_rows], y)
    assert (by_pairs.decision_function(discrete[score_rows]) == 0).any()
    fold = SharedGram(X, discretize="ternary").fold(fit_rows, score_rows)
    compare(fit_cells(fold, y, [params])[0], plain, discrete[score_rows])
    alone = GramSVC(**params).fit(discrete[fit_rows], y)
    assert np.array_equal(alone.predict(discrete[score_rows]), plain.predict(discrete[score_rows]))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("lightest", [0.5, 0.0])
def test_weights_count_as_in_a_pipeline_without_the_rows_of_weight_0(class_weight, lightest):
    X, y = make_deep_features(240, 300, 3)
    rng = np.random.default_rng(0)
    weights = rng.choice([lightest, 0.67, 1.0], 160)
    fit_rows, score_rows = np.arange(160), np.arange(160, 240)
    fold = SharedGram(X).fold(fit_rows, score_rows)
    cells = [{"kernel": kernel, "C": 0.01, "class_weight": class_weight} for kernel in ("linear", "rbf")]
    for cell, prediction in zip(cells, fit_cells(fold, y[fit_rows], cells, sample_weight=weights), strict=True):
        scaler, kept = StandardScaler().fit(X[fit_rows]), fit_rows[weights > 0]
        svc = SVC(**{"gamma": fold.gamma("scale"), **cell})
        svc.fit(scaler.transform(X[kept]), y[kept], sample_weight=weights[kept])
        compare(prediction, make_pipeline(scaler, svc), X[score_rows])


def test_threads_change_nothing():
    X, y = make_deep_features(240, 300, 5)
    fold = SharedGram(X).fold(np.arange(160), np.arange(160, 240))
    for one, two in zip(fit_cells(fold, y[:160], CELLS), fit_cells(fold, y[:160], CELLS, n_jobs=2), strict=True):
        assert np.array_equal(one.predicted, two.predicted)
        assert np.array_equal(one.decision, two.decision)


def test_cells_stand_at_the_defaults_of_svc():
    X, y = make_deep_features(150, 100, 2)
    (prediction,) = fit_cells(SharedGram(X).fold(np.arange(100), np.arange(100, 150)), y[:100], [{}])
    compare(prediction, make_pipeline(StandardScaler(), SVC()).fit(X[:100], y[:100]), X[100:])
    assert prediction.seconds >= 0


@pytest.mark.parametrize("cell", [{"kernel": "poly"}, {"degree": 2}])
def test_cells_that_inner_products_do_not_serve_are_refused(cell):
    X, y = make_deep_features(30, 10, 2)
    fold = SharedGram(X).fold(np.arange(20), np.arange(20, 30))
    with pytest.raises(FeatxError, match=r"linear|kernel, C, gamma"):
        fit_cells(fold, y[:20], [cell])


@parametrize_with_checks([GramSVC(), GramSVC(kernel="linear")], expected_failed_checks=lambda estimator: XFAIL)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("name", "dtype"), [("digits", np.float32), ("cancer", np.float64), ("2", np.float32), ("5", np.float64)]
)
@pytest.mark.parametrize(
    "params",
    [
        {"kernel": "linear", "C": 0.01},
        {"kernel": "rbf", "C": 10.0},
        {"kernel": "rbf", "gamma": "auto", "class_weight": "balanced"},
        {"kernel": "rbf", "gamma": 1e-3},
    ],
)
def test_one_svm_is_that_of_scikit_learn(name, params, dtype):
    X, y = load(name)
    X = StandardScaler().fit_transform(X).astype(dtype)
    # More rows to fit and to predict than are multiplied at once, for digits.
    n_fit = len(X) * 3 // 4
    fitted = GramSVC(**params).fit(X[:n_fit], y[:n_fit])
    plain = SVC(**params).fit(X[:n_fit], y[:n_fit])
    repeated = np.concatenate([X[n_fit:], X])
    assert np.array_equal(fitted.predict(repeated), plain.predict(repeated))
    np.testing.assert_allclose(
        fitted.decision_function(repeated), plain.decision_function(repeated), rtol=1e-7, atol=1e-8
    )
    for learned in ("classes_", "support_", "n_support_"):
        assert np.array_equal(getattr(fitted, learned), getattr(plain, learned)), learned
    np.testing.assert_allclose(fitted.dual_coef_, plain.dual_coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fitted.intercept_, plain.intercept_, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(fitted.support_vectors_, plain.support_vectors_)
    assert fitted.support_vectors_.dtype == dtype
    assert fitted.gamma_ == pytest.approx(plain._gamma, rel=1e-12)


def test_one_svm_keeps_its_support_vectors_only():
    X, y = make_deep_features(150, 100, 2)
    fitted = GramSVC(kernel="linear").fit(X, y)
    assert len(fitted.support_vectors_) == len(fitted.support_) == fitted.n_support_.sum() < len(X)
    assert np.array_equal(fitted.support_vectors_, X[fitted.support_])
    kept = {name: np.shape(value) for name, value in vars(fitted).items()}
    assert not [name for name, shape in kept.items() if len(X) in shape]


def peak_memory(compute):
    """Return what a call gives, and how many bytes it held at most."""
    tracemalloc.start()
    try:
        return compute(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_classes_take_little_memory_and_answer_as_in_scikit_learn():
    """A value for every pair of classes and every row, class or support vector would be 160 MB."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 200
    places = rng.normal(size=(200, 20))
    X = places[y] + 0.4 * rng.normal(size=(400, 20))
    new = places[np.arange(100)] + 0.4 * rng.normal(size=(100, 20))
    alone = GramSVC(kernel="linear").fit(X, y)
    plain = SVC(kernel="linear").fit(X, y)
    predicted, peak = peak_memory(lambda: alone.predict(new))
    decision, other_peak = peak_memory(lambda: alone.decision_function(new))
    assert max(peak, other_peak) < 80e6
    assert np.array_equal(predicted, plain.predict(new))
    np.testing.assert_allclose(decision, plain.decision_function(new), atol=1e-9)
    fold = SharedGram(np.concatenate([X, new])).fold(np.arange(400), np.arange(400, 500))
    (cell,), peak = peak_memory(lambda: fit_cells(fold, y, [{"kernel": "linear"}]))
    assert peak < 80e6
    precomputed = SVC(kernel="precomputed").fit(fold.fit, y)
    assert np.array_equal(cell.predicted, precomputed.predict(fold.score))
    assert np.array_equal(cell.decision, precomputed.decision_function(fold.score))


def test_a_thousand_classes_take_as_much_as_a_few_copies_of_their_pairs():
    pairs = np.random.default_rng(0).normal(size=(2, 499_500))
    for decide in (ovo_vote, ovr_decision):
        _, peak = peak_memory(lambda decide=decide: decide(pairs, 1000))
        assert peak < 5 * pairs.nbytes
    assert max(block.stop - block.start for block in row_blocks(100, 1000)) * 499_500 * 8 < 50e6


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel": "poly"}, "kernel: expected one of linear, rbf"),
        ({"gamma": "wide"}, "gamma: expected"),
        ({"gamma": -1.0}, "gamma: expected"),
        ({"C": 0.0}, "'C'"),
    ],
)
def test_parameters_out_of_range_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        GramSVC(**params).fit([[0.0], [1.0]], [0, 1])
