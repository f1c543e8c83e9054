"""SVMs in the primal: near to SVC, and only where they have to be."""

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import featx
from featx.fit.estimators import LargeSVC
from featx.results import load_model


@parametrize_with_checks(
    [LargeSVC(n_components=50), LargeSVC(kernel="linear")],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "LinearSVC and Nystroem draw rows at random",
    },
)
def test_scikit_learn_is_content(estimator, check):
    check(estimator)


def test_the_linear_kernel_is_linear_svc():
    X, y = load_digits(return_X_y=True)
    large = LargeSVC(kernel="linear", C=0.01, random_state=0).fit(X[:400] / 16, y[:400])
    plain = LinearSVC(C=0.01, random_state=0, max_iter=10_000).fit(X[:400] / 16, y[:400])
    assert np.array_equal(large.predict(X[400:] / 16), plain.predict(X[400:] / 16))
    assert np.array_equal(large.decision_function(X[400:] / 16), plain.decision_function(X[400:] / 16))


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.3])
def test_the_rbf_kernel_is_near_svc(gamma):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    large = LargeSVC(C=1.0, gamma=gamma, n_components=400, random_state=0).fit(X[:600], y[:600])
    plain = SVC(C=1.0, gamma=gamma).fit(X[:600], y[:600])
    assert abs(large.score(X[600:], y[600:]) - plain.score(X[600:], y[600:])) < 0.02


def test_a_grid_past_the_memory_goes_another_way_and_says_so(small_store, tmp_path, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=100_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    run = featx.fit_grid(small_store, "svm", tmp_path / "run", layers="block1,block2", grid={"C": (0.1, 1.0)})
    assert run.model == "svm-large"
    assert any("linear kernels through LinearSVC, RBF through" in note for note in run.notes)
    assert len(run.cells) == 4
    assert isinstance(load_model(tmp_path / "run")[-1], LargeSVC)
