"""What a report says: the runs on the same rows, the answer, the data; and what is left out, with its reason."""

import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from report_runs import BAD_FILE, CLASSES, make_results, make_run, make_store, make_table

from featx import FeatxError
from featx.report import gather
from featx.report.answer import answer_question, format_p
from featx.report.data import most_confused
from featx.report.galleries import Galleries, Gallery
from featx.report.page import render_page
from featx.report.panels import Drawings
from featx.results import compare_runs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("report"))


@pytest.fixture
def copied(results, tmp_path):
    return shutil.copytree(results, tmp_path / "results")


def change(folder, **changes):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | changes))


def test_runs_of_a_folder_are_found_once(results):
    report = gather([results, results / "svm", results])
    assert [run.name for run in report.runs] == ["bare", "logreg", "svm", "tuned"]
    assert report.left_out == ()
    assert report.n_rows == 24
    assert report.classes == tuple(CLASSES)


def test_the_answer_is_of_the_best_on_validation_rows_whatever_the_test_rows_say(results):
    report = gather(results)
    answer = report.answer
    # logreg is better on the test rows.
    accuracies = {run.name: run.compared.accuracy for run in report.runs}
    assert accuracies["logreg"] > accuracies["svm"]
    assert (answer.classical, answer.finetuned) == ("svm", "tuned")
    (pair,) = compare_runs([results / "svm", results / "tuned"]).pairs
    assert answer.pair == pair
    assert answer.is_significant == (pair.p_value < 0.05)
    svm = next(run for run in report.runs if run.name == "svm")
    low, high = svm.compared.accuracy_interval
    begun = (
        f"SVM on frozen features {100 * accuracies['svm']:.1f}% [{100 * low:.1f}, {100 * high:.1f}], fine-tuned VGG16 "
    )
    assert answer.sentence.startswith(begun)
    assert answer.sentence.endswith(f"the difference is not significant, {format_p(pair.p_value)}.")
    assert "svm (80.0% on validation rows)" in answer.basis
    assert "tuned (78.0% on validation rows)" in answer.basis


def change_protocol(folder, **changes):
    change(folder, protocol=json.loads((folder / "run.json").read_text())["protocol"] | changes)


def test_a_sentence_is_of_one_measure_where_runs_are_weighted(copied):
    """The record's weighted accuracies have the other order than the rows, which McNemar's test counts."""
    for name, test in {"svm": {"accuracy": 0.262}, "tuned": {"accuracy": 0.403}}.items():
        change_protocol(copied / name, sample_weight="certainty")
        change(copied / name, test=test | {"majority_class_rate": 0.9, "accuracy_interval": [0.0, 0.1], "mcc": 0.125})
        table = pd.read_csv(copied / name / "predictions.csv")
        # 24 rows: the SVM is wrong in the first only, the network is right in every fourth only.
        is_right = table.index > 0 if name == "svm" else table.index % 4 == 0
        other = {label: CLASSES[place - 1] for place, label in enumerate(CLASSES)}
        table["predicted"] = table["label"].where(is_right, table["label"].map(other))
        table.to_csv(copied / name / "predictions.csv", index=False)
    report = gather([copied / "svm", copied / "tuned"])
    answer = report.answer
    assert answer.sentence == (
        "SVM on frozen features 95.8% [79.8, 99.3], fine-tuned VGG16 25.0% [12.0, 44.9]; the difference is "
        "significant, p < 0.001: the frozen features did better."
    )
    assert answer.pair.difference == pytest.approx((6 - 23) / 24)
    assert "svm (80.0% on validation rows, weighted by certainty)" in answer.basis
    assert answer.measure.startswith(
        "Every test image counts the same. In brackets: Wilson's 95% intervals; p: McNemar"
    )
    # The rate on record is of weighted rows.
    assert report.majority is None
    assert any("run.json is 0.2620, weighted by certainty" in note for note in report.runs[0].notes)
    galleries = Galleries(dict.fromkeys(("svm", "tuned"), Gallery(())))
    page = render_page(report, Drawings(), galleries, None, title="T")
    text = " ".join(re.sub("<[^>]*>", " ", page).split())
    assert "Test accuracy 95.8% [79.8, 99.3]" in text
    assert "Test accuracy, weighted by certainty 26.2%" in text
    assert "Matthews&#39;s correlation, weighted by certainty 0.125" in text
    assert "80.0% (weighted by certainty)" in text


@pytest.mark.parametrize(
    "changes",
    [{"sample_weight": "certainty"}, {"choose_by": "roc_auc"}, {"cv": 5}, {"where": "x > 1"}, {"n_validation": 7}],
)
def test_runs_chosen_otherwise_are_not_ranked(copied, changes):
    """svm, of which 80% of the validation rows were right, was chosen by another measure than logreg and the forest."""
    change_protocol(copied / "svm", **changes)
    cells = json.loads((copied / "svm" / "run.json").read_text())["cells"]
    change(copied / "svm", cells=[cell | {"validation_score": 0.9125} for cell in cells])
    report = gather(copied)
    answer = report.answer
    accuracies = [run.compared.accuracy for run in report.runs if not run.run.is_finetuned]
    tuned = next(run for run in report.runs if run.name == "tuned").compared
    low, high = tuned.accuracy_interval
    assert answer.sentence == (
        f"3 classifiers on frozen features {100 * min(accuracies):.1f}% to {100 * max(accuracies):.1f}%, fine-tuned "
        f"VGG16 {100 * tuned.accuracy:.1f}% [{100 * low:.1f}, {100 * high:.1f}]; no difference is tested, as "
        "validation scores don't rank the classifiers on frozen features."
    )
    assert (answer.classical, answer.finetuned, answer.pair, answer.is_significant) == (None, "tuned", None, None)
    assert "The classifiers on frozen features were not chosen on the same rows by the same measure" in answer.basis
    # The best of each measure; logreg and the forest share one.
    assert "logreg (70.0% on validation rows), svm (" in answer.basis
    if "choose_by" in changes:
        assert "svm (roc_auc 0.912 on validation rows)." in answer.basis
    if "cv" in changes:
        assert "svm (80.0% as the mean over 5 folds)." in answer.basis
    assert most_confused(report, 2)


@pytest.mark.parametrize(("choose_by", "scores", "best"), [("roc_auc", (0.8, 0.9), 1), ("log_loss", (0.8, 0.9), 0)])
def test_runs_that_were_all_chosen_by_another_score_are_ranked_by_it(copied, choose_by, scores, best):
    names = ("logreg", "svm")
    for name, score in zip(names, scores, strict=True):
        change_protocol(copied / name, choose_by=choose_by)
        cells = json.loads((copied / name / "run.json").read_text())["cells"]
        change(copied / name, cells=[cell | {"validation_score": score} for cell in cells])
    answer = gather([copied / name for name in (*names, "tuned")]).answer
    assert answer.classical == names[best]
    assert f"{names[best]} ({choose_by} {scores[best]:.3f} on validation rows)" in answer.basis


def test_networks_chosen_by_the_loss_of_their_training_are_ranked_by_accuracy(copied):
    """A recipe's loss is no other recipe's: with L2, with smoothed labels."""
    shutil.copytree(copied / "tuned", copied / "worse")
    for name, accuracy, loss in (("tuned", 0.78, 3.0), ("worse", 0.5, 0.1)):
        change_protocol(copied / name, choose_by="loss")
        cells = json.loads((copied / name / "run.json").read_text())["cells"]
        scores = {"validation_accuracy": accuracy, "validation_score": loss}
        change(copied / name, cells=[cell | scores for cell in cells])
    answer = gather(copied).answer
    assert answer.finetuned == "tuned"
    assert "tuned (78.0% on validation rows; its stage was chosen by the loss of its training)" in answer.basis


def test_runs_without_validation_figures_are_not_ranked(copied):
    for name in ("bare", "logreg"):
        cells = json.loads((copied / name / "run.json").read_text())["cells"]
        change(copied / name, cells=[cell | {"validation_accuracy": None} for cell in cells])
    answer = gather(copied).answer
    assert answer.classical == "svm"
    assert "2 of the classifiers on frozen features have no validation score." in answer.basis
    answer = gather([copied / "bare", copied / "logreg"]).answer
    assert answer.classical is None
    assert "have no validation scores, so they are not ranked: bare (none on record), logreg (none on" in answer.basis


def test_runs_that_can_answer_other_classes_are_left_out(copied):
    change_protocol(copied / "svm", classes=[*CLASSES, "zebra"])
    report = gather(copied)
    assert [run.name for run in report.runs] == ["bare", "logreg", "tuned"]
    (left,) = report.left_out
    assert "not the same classes; 'zebra', which no test row is of, can only be predicted by" in left.reason


@pytest.mark.parametrize(
    ("names", "missing"),
    [(("svm", "logreg"), "no fine-tuned run to"), (("tuned",), "no classifier on frozen features to")],
)
def test_where_there_is_one_kind_the_sentence_says_so(results, names, missing):
    answer = gather([results / name for name in names]).answer
    assert missing in answer.sentence
    assert answer.pair is None
    assert answer.is_significant is None


def test_a_significant_difference_has_its_direction(results):
    svm, tuned = (gather(results / name).runs[0] for name in ("svm", "tuned"))
    n_rows = 40
    wrong, right = np.zeros(n_rows, bool), np.ones(n_rows, bool)
    better = answer_question([(svm.run, svm.compared, wrong), (tuned.run, tuned.compared, right)])
    assert better.is_significant
    assert "is significant, p < 0.001: the fine-tuned network did better." in better.sentence
    worse = answer_question([(svm.run, svm.compared, right), (tuned.run, tuned.compared, wrong)])
    assert "the frozen features did better." in worse.sentence


def test_runs_are_compared_by_their_rows_whatever_the_order_of_their_files(results, copied):
    table = pd.read_csv(copied / "svm" / "predictions.csv")
    table.iloc[::-1].to_csv(copied / "svm" / "predictions.csv", index=False)
    assert gather(copied).answer == gather(results).answer


def test_scores_by_class_are_those_of_the_runs_own_files(results):
    for run in gather(results).runs:
        written = pd.read_csv(run.saved.folder / "per_class.csv", index_col=0)
        assert np.allclose(run.per_class.to_numpy(float), written.to_numpy(float))
        confusion = pd.read_csv(run.saved.folder / "confusion.csv", index_col=0)
        assert run.saved.confusion.to_numpy().tolist() == confusion.to_numpy().tolist()


def test_what_the_store_says(results):
    store = gather(results).store
    assert store.images["path"].tolist().count(BAD_FILE) == 1
    assert store.counts.to_numpy().sum() == 59
    assert list(store.counts.columns) == ["train", "validation", "test"]
    assert store.counts["test"].sum() == 24
    assert store.rejected.to_numpy().tolist() == [["img0007.png", "broken"]]


def test_a_store_that_moved_with_its_runs_is_found(results, tmp_path, monkeypatch):
    folder = shutil.copytree(results.parent, tmp_path / "moved")
    for path in (folder / "results").iterdir():
        record = json.loads((path / "run.json").read_text())
        change(path, store=record["store"] | {"path": 'demo/it\'s a "store" <b>.h5'})
    monkeypatch.chdir(tmp_path)
    assert gather(folder / "results").store.path.parent == folder


def test_another_store_under_the_name_is_not_taken(copied):
    for path in copied.iterdir():
        record = json.loads((path / "run.json").read_text())
        change(path, store=record["store"] | {"run_id": "b" * 32})
    report = gather(copied)
    assert report.store is None
    assert "another store than the run's" in report.notes[0]


def test_a_store_that_is_gone_is_named(copied):
    for path in copied.iterdir():
        change(path, store={"path": "gone.h5"})
    report = gather(copied)
    assert report.store is None
    assert report.notes == ("gone.h5: the store isn't there; the report is without what it says of the data",)


def test_runs_on_other_rows_are_named_and_left_out(results, tmp_path):
    table = make_table(40)
    other = make_run(tmp_path / "other", table, store_path="gone.h5")
    report = gather([other, results])
    assert [run.name for run in report.runs] == ["bare", "logreg", "svm", "tuned"]
    (left,) = report.left_out
    assert left.path == str(other)
    assert "not the same test rows (24 and 16)" in left.reason


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "run.json").write_text("{"), "not a record of a run"),
        (lambda folder: change(folder, protocol={}), "no list of classes"),
        (lambda folder: (folder / "predictions.csv").unlink(), "no such file"),
        (lambda folder: os.truncate(folder / "run.json", 2**26 + 1), "no run of featx has more than 67,108,864"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_left_out(copied, spoil, reason):
    spoil(copied / "svm")
    report = gather(copied)
    assert [run.name for run in report.runs] == ["bare", "logreg", "tuned"]
    (left,) = report.left_out
    assert left.path == str(copied / "svm")
    assert reason in left.reason


def test_scores_and_curves_that_cannot_be_read_are_notes(copied):
    table = pd.read_csv(copied / "logreg" / "predictions.csv")
    table.iloc[3, 3] = np.nan
    table.to_csv(copied / "logreg" / "predictions.csv", index=False)
    (copied / "tuned" / "curves.csv").write_text("stage,epoch\nhead,x\n")
    change(copied / "svm", layers=[{"name": "block1", "alone": 0.5}])
    runs = {run.name: run for run in gather(copied).runs}
    assert runs["logreg"].scores.probabilities is None
    assert any("row 4" in note for note in runs["logreg"].notes)
    assert any("layers: not as featx writes them" in note for note in runs["svm"].notes)
    assert any("curves.csv: not as featx finetune writes it" in note for note in runs["tuned"].notes)


def test_random_splits_and_missing_folders_are_named(results, tmp_path):
    (tmp_path / "some" / "repeated").mkdir(parents=True)
    (tmp_path / "some" / "repeated" / "repeats.json").write_text("{}")
    report = gather([results, tmp_path / "some", tmp_path / "nowhere"])
    assert [(left.path, left.reason) for left in report.left_out] == [
        (
            str(tmp_path / "some" / "repeated"),
            "a run of random splits: a report is of one split; featx compare shows them",
        ),
        (str(tmp_path / "nowhere"), "no such folder"),
    ]


def test_no_run_left_is_an_error(tmp_path):
    with pytest.raises(FeatxError, match=r"no run to report on; the first, .*nowhere: no such folder\. Give folders"):
        gather(tmp_path / "nowhere")


def test_labels_of_another_column_are_counted(tmp_path):
    table = make_table(30).assign(grade=[str(row % 2) for row in range(30)])
    store_path = make_store(tmp_path, table)
    run = make_run(
        tmp_path / "run",
        table.assign(label=table["grade"]),
        store_path=store_path,
        protocol={"label": "grade", "classes": ["0", "1"]},
    )
    assert gather(run).store.counts.index.tolist() == ["0", "1"]


def test_labels_that_are_numbers_are_named_as_the_runs_name_them(tmp_path):
    table = make_table(30).assign(grade=[np.nan if row % 5 == 0 else float(row % 2) for row in range(30)])
    protocol = {"label": "grade", "classes": ["0", "1"]}
    named = table.assign(label=[f"{grade:g}" for grade in table["grade"]])
    run = make_run(tmp_path / "run", named, store_path=make_store(tmp_path, table), protocol=protocol)
    assert gather(run).store.counts.index.tolist() == ["(no label)", "0", "1"]
