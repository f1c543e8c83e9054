"""Scores of test rows in files: what is written is read back, and the row of a wrong value is named."""

import numpy as np
import pandas as pd
import pytest
from report_runs import make_store, make_table

import featx
from featx import FeatxError
from featx.results import Scores, load_model, read_run, read_scores, score_columns

CLASSES = ["ash", "birch", "cedar"]


def write(folder, **scores):
    folder.mkdir(exist_ok=True)
    table = pd.DataFrame({"path": ["x", "y"], "label": ["ash", "birch"], "predicted": ["ash", "ash"]} | scores)
    table.to_csv(folder / "predictions.csv", index=False)
    return folder


def test_probabilities_come_back_to_the_bit_of_float32(tmp_path):
    scores = np.random.default_rng(0).dirichlet([1, 1, 1], 2).astype(np.float32)
    found = read_scores(write(tmp_path, **score_columns(CLASSES, probabilities=scores)), CLASSES)
    assert (found.probabilities.astype(np.float32) == scores).all()
    assert found.decision is None


def test_probabilities_come_before_decision_values():
    scores = {"probabilities": np.full((1, 3), 1 / 3), "decision": np.ones((1, 3))}
    assert list(score_columns(CLASSES, **scores)) == ["probability_ash", "probability_birch", "probability_cedar"]


def test_of_two_classes_one_decision_value(tmp_path):
    found = read_scores(write(tmp_path, **score_columns(CLASSES[:2], decision=np.array([0.5, -2.0]))), CLASSES[:2])
    assert found.decision.tolist() == [0.5, -2.0]


def test_classes_may_be_called_anything(tmp_path):
    names = ["a,b", 'quo"te', "<script>"]
    scores = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    found = read_scores(write(tmp_path, **score_columns(names, probabilities=scores)), names)
    assert (found.probabilities == scores).all()


def test_no_scores_are_no_scores(tmp_path):
    assert score_columns(CLASSES) == {}
    assert score_columns(CLASSES, probabilities=np.empty((0, 3))) == {}
    # One a pair of classes, for four classes: none of any class.
    assert score_columns([*CLASSES, "elm"], decision=np.ones((2, 6))) == {}
    assert read_scores(write(tmp_path), CLASSES) == Scores()
    assert read_scores(write(tmp_path, probability_ash=[0.5, 0.5]), CLASSES) == Scores()


@pytest.mark.parametrize(("value", "message"), [("nan", "row 2, decision_birch"), ("inf", "row 2"), ("x", "can't be")])
def test_what_is_no_number_is_refused(tmp_path, value, message):
    with pytest.raises(FeatxError, match=message):
        read_scores(write(tmp_path, decision_birch=["0.5", value]), CLASSES[:2])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FeatxError, match="no such file"):
        read_scores(tmp_path, CLASSES)


@pytest.mark.parametrize("model", ["logreg", "svm"])
def test_a_run_keeps_what_its_model_says(tmp_path, model):
    store_path = make_store(tmp_path, make_table(60))
    featx.fit_grid(store_path, model, tmp_path / "run", grid={"C": (0.1,)})
    classes = read_run(tmp_path / "run").protocol["classes"]
    found = read_scores(tmp_path / "run", classes)
    with featx.open(store_path) as store:
        X = store.matrix(split="test")
    fitted = load_model(tmp_path / "run")
    if model == "logreg":
        assert found.probabilities == pytest.approx(fitted.predict_proba(X), rel=1e-6)
    else:
        assert found.decision == pytest.approx(fitted.decision_function(X), rel=1e-6)
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert table["predicted"].tolist() == [classes[column] for column in found.values.argmax(axis=1)]
