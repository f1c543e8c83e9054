"""Figures of runs from their folders: of which rows and scores they are, and what can't be drawn."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_runs import CLASSES, make_results, make_run, make_table
from scipy.stats import binomtest

from featx import FeatxError
from featx.report.figures import (
    draw_accuracies,
    draw_confusion,
    draw_curves,
    draw_grid,
    draw_layers,
    draw_reliability,
    draw_roc,
)
from featx.results import SavedRun, read_run

N_TEST = 24


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("report"))


@pytest.fixture
def copied(results, tmp_path):
    return shutil.copytree(results, tmp_path / "results")


def change(folder, **changes):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | changes))


def lines_of(panel):
    return {line.get_label(): line for line in panel.figure.axes[0].get_lines()}


def test_accuracies_of_a_figure_are_of_one_measure(copied):
    """Every row counts the same, whatever the run's own scores are weighted by."""
    record = read_run(copied / "svm")
    weighted = {"accuracy": 0.25, "accuracy_interval": [0.2, 0.3], "majority_class_rate": 0.9}
    change(copied / "svm", test=record.test | weighted, protocol=record.protocol | {"sample_weight": "certainty"})
    said = []
    runs = [SavedRun(copied / "svm"), SavedRun(copied / "logreg")]
    panel = draw_accuracies(runs, echo=said.append)
    answers = pd.read_csv(copied / "svm" / "predictions.csv")
    n_right = int((answers["label"] == answers["predicted"]).sum())
    (dots, *bars, majority) = panel.figure.axes[0].get_lines()
    assert dots.get_xydata()[0].tolist() == [n_right / N_TEST, 0]
    bounds = binomtest(n_right, N_TEST).proportion_ci(method="wilson")
    assert bars[0].get_xdata() == pytest.approx([bounds.low, bounds.high])
    # The weighted run's own rate is of weighted rows.
    assert majority.get_xdata()[0] == read_run(copied / "logreg").test["majority_class_rate"] != 0.9
    (note,) = said
    assert "run.json is 0.2500, weighted by certainty" in note
    said.clear()
    assert "always the majority class" not in lines_of(draw_accuracies(runs[:1], echo=said.append))
    assert said == [note]


def test_runs_of_other_rows_have_no_majority_in_common(copied):
    path = copied / "tuned" / "predictions.csv"
    path.write_text(path.read_text().replace("img0004.png", "other.png"))
    said = []
    panel = draw_accuracies([SavedRun(copied / "svm"), SavedRun(copied / "tuned")], echo=said.append)
    assert said == ["the runs are of different test rows: their accuracies say little of which is better"]
    assert panel.caption.startswith("On each run's own test images")
    lines = lines_of(panel)
    assert "always the majority class" not in lines
    assert {"classifier on frozen features", "fine-tuned network"} <= set(lines)


def test_a_run_whose_rates_differ_has_no_line(copied):
    change(copied / "tuned", test=read_run(copied / "tuned").test | {"majority_class_rate": 0.123})
    said = []
    panel = draw_accuracies([SavedRun(copied / "svm"), SavedRun(copied / "tuned")], echo=said.append)
    assert "always the majority class" not in lines_of(panel)
    assert "the runs differ in the accuracy of always answering the majority class" in said[-1]


def test_confusion_reliability_and_roc_are_of_the_runs_rows(results):
    run = SavedRun(results / "logreg")
    counts = draw_confusion(run).figure.axes[0].images[0].get_array()
    assert counts.sum() == N_TEST
    assert np.trace(counts) == run.correct.sum()
    shares = draw_confusion(run, shares=True).figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    rows = draw_reliability(run).figure.axes[1]
    assert sum(bar.get_height() for bar in rows.patches) == N_TEST
    # The mean area of the curves is the score on record.
    for name in ("logreg", "svm", "tuned"):
        curves = [label for label in lines_of(draw_roc(SavedRun(results / name))) if "by chance" not in label]
        areas = [float(label.rpartition(" ")[2]) for label in curves]
        assert len(areas) == len(CLASSES)
        assert np.mean(areas) == pytest.approx(read_run(results / name).test["roc_auc"], abs=1e-3)


def test_a_grid_is_drawn_by_what_it_was_chosen_by(copied):
    record = read_run(copied / "svm")
    cells = [vars(replace(cell, validation_score=0.1 * number)) for number, cell in enumerate(record.cells)]
    change(copied / "svm", protocol=record.protocol | {"choose_by": "log_loss"}, cells=cells)
    panel = draw_grid(SavedRun(copied / "svm"))
    assert panel.figure.axes[-1].get_ylabel() == "validation log loss (less is better)"
    np.testing.assert_allclose(panel.figure.axes[0].images[0].get_array().ravel(), 0.1 * np.arange(6))
    assert panel.caption == "Validation log loss of every cell; test rows are not used."


def test_layers_and_curves(tmp_path, results):
    layers = ({"layer": "block1", "n_features": 8, "alone": 0.5}, {"layer": "block2", "n_features": 8, "alone": None})
    run = make_run(tmp_path / "run", make_table(40), store_path="gone.h5", layers=layers)
    assert lines_of(draw_layers(SavedRun(run)))["this layer alone"].get_ydata()[0] == 0.5
    curves = lines_of(draw_curves(SavedRun(results / "tuned")))
    assert curves["train"].get_ydata().tolist() == [1.2, 0.9, 0.7]


@pytest.mark.parametrize(
    ("draw", "name", "message"),
    [
        (draw_reliability, "svm", r"svm: its model gives no probabilities.* featx plot roc"),
        (draw_reliability, "bare", "bare: its model gives no probabilities"),
        (draw_roc, "bare", "bare: its model gives neither probabilities nor decision values"),
        (draw_grid, "tuned", "tuned: a fine-tuned network has stages, no grid: featx plot curves"),
        (draw_layers, "tuned", "tuned: a fine-tuned network has no scores by layer"),
        (draw_layers, "svm", r"svm: no scores by layer\. Fit again with `each_layer`"),
        (draw_curves, "svm", "svm: a run of svm, which has no training curves"),
        (draw_confusion, "none", r"none.run\.json: no such run"),
    ],
)
def test_what_a_run_has_no_data_for(results, draw, name, message):
    with pytest.raises(FeatxError, match=message):
        draw(SavedRun(results / name))


def test_a_grid_of_one_cell(copied):
    change(copied / "svm", cells=[vars(read_run(copied / "svm").cells[0])])
    with pytest.raises(FeatxError, match="svm: one cell, so there is no grid"):
        draw_grid(SavedRun(copied / "svm"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("1.2", "soon"), r"curves\.csv: not as featx finetune writes it: .*soon"),
        (lambda text: text.replace("val_loss", "lost"), r"curves\.csv: not as featx finetune writes it: .*val_loss"),
        (lambda text: text.splitlines()[0] + "\n", r"curves\.csv: no epoch"),
        (None, r"curves\.csv: no such file"),
    ],
)
def test_curves_that_are_not_as_featx_writes_them(copied, spoil, message):
    path = copied / "tuned" / "curves.csv"
    path.write_text(spoil(path.read_text())) if spoil else path.unlink()
    with pytest.raises(FeatxError, match=message):
        draw_curves(SavedRun(copied / "tuned"))
