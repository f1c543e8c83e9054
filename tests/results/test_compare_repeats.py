"""Runs of random splits side by side."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from featx import FeatxError
from featx.cli import main
from featx.results import (
    Repeat,
    RepeatedRun,
    are_repeats,
    compare_repeats,
    compared_repeats_table,
    format_repeats,
    read_repeats,
    summarize_repeats,
    write_repeats,
)


def make_run(folder, accuracies, **changes):
    """Write a run of splits with these test accuracies; 0.8 + seed / 100 is what its cells were chosen by."""
    others = dict.fromkeys(("balanced_accuracy", "macro_f1", "mcc", "roc_auc", "log_loss"))
    repeats = tuple(
        Repeat(seed, 8, 2, "none", {"C": 1.0}, 0.7, {**others, "accuracy": accuracy}, None, 1.0, 0.8 + seed / 100)
        for seed, accuracy in enumerate(accuracies)
    )
    run = RepeatedRun(
        "svm", {"n_features": 1024}, {"choose_by": "roc_auc"}, repeats, *summarize_repeats(repeats), (), "digest"
    )
    write_repeats(folder, replace(run, **changes))
    return folder


def test_differences_are_split_by_split(tmp_path):
    paths = [make_run(tmp_path / "one", [0.5, 0.6, 0.9]), make_run(tmp_path / "two", [0.6, 0.5, 0.9])]
    paths += [make_run(tmp_path / "three", [0.9, 0.7, 1.0])]
    one, two, three = compare_repeats(paths)
    assert (one.difference, one.n_better) == (None, None)
    assert (two.difference, two.n_better, two.n_worse) == (pytest.approx(0), 1, 1)
    assert (three.difference, three.n_better, three.n_worse) == (pytest.approx(0.2), 3, 0)
    assert one.mean["accuracy"] == pytest.approx(2 / 3)
    assert one.deviation["accuracy"] == pytest.approx(0.2081666)
    assert one.validation == pytest.approx(0.81)


@pytest.mark.parametrize("changes", [{"rows_sha256": "other"}, {"rows_sha256": None}])
def test_other_splits_have_no_difference(tmp_path, changes):
    first = make_run(tmp_path / "one", [0.5, 0.6], **({} if changes["rows_sha256"] else changes))
    _, other = compare_repeats([first, make_run(tmp_path / "two", [0.5, 0.7], **changes)])
    assert (other.difference, other.n_better, other.mean["accuracy"]) == (None, None, pytest.approx(0.6))
    _, shorter = compare_repeats([first, make_run(tmp_path / "three", [0.5])])
    assert shorter.difference is None


def test_the_measure_that_cells_were_chosen_by_is_said(tmp_path):
    protocol = {"choose_by": "accuracy", "sample_weight": "sure"}
    paths = [make_run(tmp_path / "one", [0.5, 0.6]), make_run(tmp_path / "two", [0.5, 0.7], protocol=protocol)]
    table = compared_repeats_table(compare_repeats(paths))
    assert table["validation"].tolist() == ["0.8050 (roc_auc)", "0.8050 (accuracy, weighted by sure)"]


def test_one_split_has_no_deviation(tmp_path):
    path = make_run(tmp_path / "one", [0.75])
    assert read_repeats(path).deviation == {}
    assert format_repeats(read_repeats(path)) == "1 random split, test accuracy 0.7500"
    assert compared_repeats_table(compare_repeats([path, path]))["test accuracy"].tolist() == ["0.7500", "0.7500"]


def test_the_command_takes_either_kind_of_run_not_both(tmp_path):
    one = make_run(tmp_path / "one", [0.5, 0.6])
    two = make_run(tmp_path / "two", [0.6, 0.8], store={})
    done = CliRunner().invoke(main, ["compare", str(one), str(two)])
    assert done.exit_code == 0, done.output
    assert "0.5500 ± 0.0707" in done.output
    assert "+0.1500" in done.output
    assert "2 of 2" in done.output
    assert "0.8050 (roc_auc)" in done.output
    shown = json.loads(CliRunner().invoke(main, ["compare", str(one), str(two), "--json"]).output)
    assert [run["n_features"] for run in shown["runs"]] == [1024, None]
    with pytest.raises(FeatxError, match=r"is a run of random splits, .*none is none; compare them separately"):
        are_repeats([one, tmp_path / "none"])
    assert are_repeats([tmp_path / "none"]) is False
