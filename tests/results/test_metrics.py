"""Metrics against plain loops, against scikit-learn's other entries, and exactly where cases are tiny."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import label_binarize

from featx import FeatxError
from featx.results import accuracy_interval, count_confusion, report_classes, score
from featx.system import peak_memory

# 97.5% of a standard normal variable are below it.
Z = 1.959963984540054


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def strings(*labels):
    return np.array(labels, dtype=object)


def fitted(n_classes, n_rows=240):
    """A classifier, its features and labels that are not quite those it was fitted on."""
    X, codes = make_classification(n_rows, 8, n_informative=5, n_classes=n_classes, flip_y=0.2, random_state=1)
    y = np.array(["ash", "birch", "cedar", "fir"], dtype=object)[codes]
    half = n_rows // 2
    model = LogisticRegression().fit(X[:half], y[:half])
    return model, X[half:], y[half:], np.random.default_rng(2).uniform(0.2, 3, n_rows - half)


def test_exact_values_of_a_tiny_case():
    found = score(
        strings("a", "a", "a", "b"),
        strings("a", "a", "b", "b"),
        classes=["a", "b"],
        majority="a",
        probabilities=np.array([[0.5, 0.5], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]]),
    )
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["mcc"] == pytest.approx((2 * 1 - 1 * 0) / math.sqrt(2 * 3 * 1 * 2))
    # Of the three pairs of a b and an a, one is ranked right, one is tied, one is wrong.
    assert found["roc_auc"] == pytest.approx(1.5 / 3)
    assert found["log_loss"] == pytest.approx(-math.log(0.5 * 0.8 * 0.4 * 0.5) / 4)
    assert found["majority_class_rate"] == 0.75
    low, high = found["accuracy_interval"]
    assert low < 0.75 < high <= 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_all_metrics_equal_those_of_scikit_learn(n_classes, weighted):
    model, X, y, weight = fitted(n_classes)
    weight = weight if weighted else None
    predicted, probabilities = model.predict(X), model.predict_proba(X)
    found = score(
        y, predicted, classes=model.classes_, majority="ash", probabilities=probabilities, sample_weight=weight
    )
    auc_scores = probabilities[:, 1] if n_classes == 2 else probabilities
    expected = {
        "accuracy": reference.accuracy_score(y, predicted, sample_weight=weight),
        "balanced_accuracy": reference.balanced_accuracy_score(y, predicted, sample_weight=weight),
        "macro_f1": reference.f1_score(y, predicted, average="macro", sample_weight=weight),
        "mcc": reference.matthews_corrcoef(y, predicted, sample_weight=weight),
        "roc_auc": reference.roc_auc_score(y, auc_scores, multi_class="ovr", sample_weight=weight),
        "log_loss": reference.log_loss(y, probabilities, sample_weight=weight),
        "majority_class_rate": np.average(y == "ash", weights=weight),
    }
    interval = found.pop("accuracy_interval")
    assert found == pytest.approx(expected, rel=1e-12)
    assert interval[0] < found["accuracy"] < interval[1]
    assert all(type(figure) is float for figure in [*found.values(), *interval])
    json.dumps(found | {"accuracy_interval": interval}, allow_nan=False)


def test_whole_weights_are_repeated_rows():
    model, X, y, _ = fitted(3)
    weight = np.arange(len(y)) % 3
    rows = np.repeat(np.arange(len(y)), weight)
    options = {"classes": model.classes_, "majority": "ash"}
    once = score(
        y, model.predict(X), probabilities=model.predict_proba(X), sample_weight=weight, n_resamples=10, **options
    )
    again = score(
        y[rows], model.predict(X[rows]), probabilities=model.predict_proba(X[rows]), n_resamples=10, **options
    )
    del once["accuracy_interval"], again["accuracy_interval"]
    assert once == pytest.approx(again, rel=1e-12)


def test_the_columns_may_be_in_any_order_of_classes():
    model, X, y, _ = fitted(3)
    order = [2, 0, 1]
    one = score(y, model.predict(X), classes=model.classes_, majority="ash", probabilities=model.predict_proba(X))
    other = score(
        y,
        model.predict(X),
        classes=model.classes_[order],
        majority="ash",
        probabilities=model.predict_proba(X)[:, order],
    )
    assert one.pop("accuracy_interval") == other.pop("accuracy_interval")
    assert one == pytest.approx(other, rel=1e-12)


def test_roc_auc_from_decision_values():
    model, X, y, _ = fitted(2)
    options = {"classes": model.classes_, "majority": "ash"}
    values = model.decision_function(X)
    expected = reference.roc_auc_score(y, values)
    for decision in (values, values[:, None], np.column_stack([-values, values])):
        assert score(y, model.predict(X), decision=decision, **options)["roc_auc"] == pytest.approx(expected)
    # Of two classes, decision values come first.
    found = score(y, model.predict(X), decision=-values, probabilities=model.predict_proba(X), **options)
    assert found["roc_auc"] == pytest.approx(1 - expected)
    assert found["log_loss"] is not None

    model, X, y, weight = fitted(4)
    options = {"classes": model.classes_, "majority": "ash"}
    values, truth = model.decision_function(X), label_binarize(y, classes=model.classes_)
    found = score(y, model.predict(X), decision=values, sample_weight=weight, **options)
    each = [reference.roc_auc_score(truth[:, i], values[:, i], sample_weight=weight) for i in range(4)]
    assert found["roc_auc"] == pytest.approx(np.mean(each))
    assert found["log_loss"] is None
    # Of more, probabilities do.
    found = score(y, model.predict(X), decision=-values, probabilities=model.predict_proba(X), **options)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(y, model.predict_proba(X), multi_class="ovr"))


def test_single_precision_probabilities_are_scored_as_they_are():
    model, X, y, _ = fitted(4)
    single = model.predict_proba(X).astype(np.float32)
    found = score(y, model.predict(X), classes=model.classes_, majority="ash", probabilities=single)
    assert found["log_loss"] == pytest.approx(reference.log_loss(y, model.predict_proba(X)), rel=1e-5)


def test_a_probability_of_0_costs_the_same_in_any_precision():
    probabilities = np.array([[1, 0], [0.25, 0.75], [1e-9, 1]])
    options = {"classes": ["a", "b"], "majority": "a"}
    y, predicted = strings("b", "b", "a"), strings("a", "b", "b")
    cost = -math.log(np.finfo(np.float64).eps) - math.log(0.75) + math.log(1e9)
    for dtype in (np.float64, np.float32):
        found = score(y, predicted, probabilities=probabilities.astype(dtype), **options)
        assert found["log_loss"] == pytest.approx(cost / 3, rel=1e-6)


def test_one_class_in_test():
    found = score(
        strings("a", "a", "a"),
        strings("a", "a", "b"),
        classes=["a", "b"],
        majority="b",
        probabilities=np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]),
    )
    assert found["roc_auc"] is None
    assert found["mcc"] is None
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-math.log(0.9 * 0.8 * 0.5) / 3)
    assert found["majority_class_rate"] == 0
    everything_right = score(strings("a", "a"), strings("a", "a"), classes=["a", "b"], majority="a")
    assert everything_right["accuracy"] == everything_right["macro_f1"] == 1
    assert everything_right["accuracy_interval"] == pytest.approx([2 / (2 + Z**2), 1])


def test_without_scores():
    found = score(strings("a", "b"), strings("a", "a"), classes=["a", "b"], majority="a")
    assert found["roc_auc"] is None
    assert found["log_loss"] is None
    assert found["mcc"] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_none(bad):
    probabilities = np.array([[0.9, 0.1], [bad, 0.2]])
    found = score(strings("a", "b"), strings("a", "a"), classes=["a", "b"], majority="a", probabilities=probabilities)
    assert found["roc_auc"] is None
    assert found["log_loss"] is None


def test_labels_never_seen_count_as_wrong():
    found = score(
        strings("a", "b", "zebra", "a"),
        strings("a", "b", "a", "a"),
        classes=["a", "b"],
        majority="a",
        probabilities=np.full((4, 2), 0.5),
    )
    assert found["accuracy"] == 0.75
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)
    assert found["roc_auc"] is None
    assert found["log_loss"] is None


def test_a_class_missing_from_test_leaves_the_log_loss():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    found = score(
        strings("a", "b"), strings("a", "b"), classes=["a", "b", "c"], majority="a", probabilities=probabilities
    )
    assert found["roc_auc"] is None
    assert found["log_loss"] == pytest.approx(math.log(2))


def test_rows_of_weight_0_take_no_part():
    found = score(
        strings("a", "b", "zebra"),
        strings("a", "b", "a"),
        classes=["a", "b"],
        majority="a",
        probabilities=np.array([[0.75, 0.25], [0.25, 0.75], [np.nan, np.nan]]),
        sample_weight=[1, 1, 0],
    )
    assert found["accuracy"] == found["roc_auc"] == found["mcc"] == 1
    assert found["log_loss"] == pytest.approx(-math.log(0.75))


def test_what_can_not_be_scored_is_refused():
    options = {"classes": ["a", "b"], "majority": "a"}
    with pytest.raises(FeatxError, match="no test rows to score"):
        score(strings(), strings(), **options)
    with pytest.raises(FeatxError, match="a sample weight is -1;"):
        score(strings("a", "b"), strings("a", "b"), sample_weight=[1, -1], **options)
    with pytest.raises(FeatxError, match="a sample weight is nan;"):
        score(strings("a", "b"), strings("a", "b"), sample_weight=[1, np.nan], **options)
    with pytest.raises(FeatxError, match="all test rows have the sample weight 0"):
        score(strings("a", "b"), strings("a", "b"), sample_weight=[0, 0], **options)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        score(strings("a", "b"), strings("a"), **options)
    with pytest.raises(ValueError, match=r"shape \(3, 2\), not \(3, 3\)"):
        score(strings("a", "b", "c"), strings("a", "b", "c"), classes="abc", majority="a", decision=np.zeros((3, 2)))


def wilson_by_hand(share, n_rows):
    """The shares that a test of each would not reject: where (share - p)^2 = z^2 p (1 - p) / n."""
    return np.sort(np.roots([1 + Z**2 / n_rows, -(2 * share + Z**2 / n_rows), share**2]))


@pytest.mark.parametrize(("n_right", "n_rows"), [(0, 5), (1, 1), (9, 10), (18, 18), (1403, 2011)])
def test_the_interval_of_rows_that_weigh_the_same_is_wilsons(n_right, n_rows):
    correct = np.arange(n_rows) < n_right
    found = accuracy_interval(correct)
    assert found == pytest.approx(wilson_by_hand(n_right / n_rows, n_rows), abs=1e-12)
    # No resample is drawn, whatever the weight that all have; rows of weight 0 are none.
    assert accuracy_interval(correct, sample_weight=np.full(n_rows, 0.3), seed=1) == found
    assert accuracy_interval(np.append(correct, False), sample_weight=[2] * n_rows + [0]) == found


def test_all_right_is_no_certainty():
    assert accuracy_interval(np.ones(18, bool)) == pytest.approx([0.8241, 1], abs=1e-4)
    assert accuracy_interval(np.zeros(18, bool)) == pytest.approx([0, 0.1759], abs=1e-4)
    # The weights 3, 3, 1, 1, 1 are worth 81 / 21 rows.
    found = accuracy_interval(np.ones(5, bool), sample_weight=[3, 3, 1, 1, 1])
    assert found == pytest.approx([1 / (1 + Z**2 * 21 / 81), 1])
    # One row that is wrong and weighs next to nothing tells hardly more.
    low, high = accuracy_interval(np.arange(6) < 5, sample_weight=[3, 3, 1, 1, 1, 1e-9])
    assert (low, high) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
def test_the_interval_holds_the_true_accuracy_about_95_times_of_100(share):
    """Exactly, over all numbers of 18 rows that may be right; percentiles of resamples held 0.95 six times of ten."""
    held = 0
    for n_right in range(19):
        low, high = accuracy_interval(np.arange(18) < n_right)
        held += math.comb(18, n_right) * share**n_right * (1 - share) ** (18 - n_right) * (low <= share <= high)
    assert 0.9 <= held <= 1


def test_the_interval_of_weighted_rows_holds_resamples_and_wilsons_of_the_effective_rows():
    rng = np.random.default_rng(3)
    correct, weight = rng.random(37) < 0.7, rng.uniform(0.1, 2, 37)
    draws = np.random.default_rng(11).integers(0, 37, size=(500, 37))
    accuracies = []
    for draw in draws:
        right = total = 0.0
        for row in draw:
            total += weight[row]
            right += weight[row] * correct[row]
        accuracies.append(right / total)
    low, high = np.percentile(accuracies, [2.5, 97.5])
    wilson_low, wilson_high = wilson_by_hand((correct @ weight) / weight.sum(), weight.sum() ** 2 / (weight @ weight))
    found = accuracy_interval(correct, sample_weight=weight, seed=11, n_resamples=500)
    assert found == pytest.approx([min(low, wilson_low), max(high, wilson_high)], rel=1e-12)
    # Each of the two gives one end.
    assert wilson_low < low
    assert wilson_high < high


def test_batches_and_seeds_of_the_resamples(monkeypatch):
    rng = np.random.default_rng(4)
    # Half of the weight is of two rows, one right and one wrong: resamples reach farther than Wilson's interval.
    correct, weight = rng.random(50) < 0.6, np.where(np.arange(50) < 2, 24, 1)
    correct[:2] = True, False
    whole = accuracy_interval(correct, sample_weight=weight, seed=5)
    assert accuracy_interval(correct, sample_weight=weight, seed=6) != whole
    assert accuracy_interval(correct, sample_weight=weight, seed=5, n_resamples=50) != whole
    monkeypatch.setattr("featx.results.metrics._BATCH_ROWS", 333)
    assert accuracy_interval(correct, sample_weight=weight, seed=5) == whole


def test_figures_of_each_class():
    table = report_classes(strings("a", "a", "b"), strings("a", "c", "b"))
    assert table.index.name == "class"
    assert table.loc["a"].tolist() == [1, 0.5, pytest.approx(2 / 3), 2]
    assert table.loc["b"].tolist() == [1, 1, 1, 1]
    assert table.loc["c"].tolist() == [0, 0, 0, 0]
    weighted = report_classes(strings("a", "a", "b"), strings("a", "c", "b"), sample_weight=[3, 1, 1])
    assert weighted.loc["a", ["recall", "support"]].tolist() == [0.75, 4]


def test_confusion_counts_true_classes_in_rows():
    table = count_confusion(strings("a", "a", "b"), strings("a", "c", "b"))
    assert table.index.name == "label"
    assert table.index.tolist() == table.columns.tolist() == ["a", "b", "c"]
    assert table.to_numpy().tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    weighted = count_confusion(strings("a", "a", "b"), strings("a", "c", "b"), sample_weight=[3, 0.5, 1])
    assert weighted.loc["a"].tolist() == [3, 0, 0.5]


def test_tables_without_rows_are_empty():
    assert report_classes(strings(), strings()).columns.tolist() == ["precision", "recall", "f1", "support"]
    assert report_classes(strings(), strings()).empty
    assert count_confusion(strings(), strings()).shape == (0, 0)


def test_peak_memory_holds_what_was_allocated():
    block = np.ones(8_000_000)
    assert block.nbytes < peak_memory() < 2**44


def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux's /proc")
    block = np.ones(60_000_000)
    code = "from featx.system import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) < block.nbytes


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_without_proc(monkeypatch, platform, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(Path, "read_text", lambda *arguments, **options: "Name: python\n")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3000))
    monkeypatch.setattr(sys, "platform", platform)
    assert peak_memory() == 3000 * unit


def test_peak_memory_where_there_is_no_telling(monkeypatch):
    def fail(*arguments, **options):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None
