"""Runs side by side: McNemar's test by hand, and what can't be compared."""

import json
import math
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from featx import FeatxError
from featx.cli import main
from featx.results import (
    Cell,
    Run,
    accuracy_interval,
    cells_of_runs,
    compare_runs,
    comparison_table,
    format_table,
    write_run,
)
from featx.results.compare import mcnemar

PATHS = [f"images/{i:02d}.png" for i in range(10)]
LABELS = list("aaaaabbbbb")
# Wilson's 95% intervals of so many of ten.
WILSON = {8: [0.490162, 0.943318], 9: [0.595850, 0.982124], 10: [0.722467, 1]}


def write(folder, predicted, *, paths=PATHS, labels=LABELS, test=None, model="svm", add_files=None, **changes):
    """Write a run with these predictions."""
    run = Run(
        model=model,
        store={"path": "s.h5"},
        protocol={"n_test": len(paths)},
        cells=(Cell("none", {"C": 0.1}, 0.75, None, 0.5), Cell("ternary", {"C": 10.0}, 0.8, None, 0.5)),
        chosen=1,
        test=test,
        refit_seconds=1.0,
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )
    run = replace(run, **changes)
    predictions = pd.DataFrame({"path": paths, "label": labels, "predicted": list(predicted)})
    empty = pd.DataFrame()
    write_run(folder, run, predictions=predictions, per_class=empty, confusion=empty, add_files=add_files)
    return folder


STAGES = ("head", "block5", "block4")


def write_finetuned(folder, predicted, **changes):
    """Write what fine-tuning in three stages leaves, with these predictions."""
    cells = tuple(Cell("none", {"recipe": "staged", "stage": name}, 0.75, None, 100.25) for name in STAGES)
    return write(
        folder,
        predicted,
        model="finetune",
        add_files=lambda path: (path / "network.weights.h5").write_bytes(b"weights"),
        **{"store": {"path": "s.h5", "backbone": "vgg19"}, "cells": cells, "chosen": 2, "refit_seconds": 0.0}
        | {"baseline": {"recipe": {"name": "staged"}, "stages": [{"name": name} for name in STAGES]}}
        | {"n_parameters": 14_714_688, "predict_seconds": 40.0}
        | changes,
    )


def by_hand(first, second):
    """The exact p-value of McNemar's test: chances of splits that are as rare as this one, or rarer."""
    total = first + second
    chances = [Fraction(math.comb(total, k), 2**total) for k in range(total + 1)]
    return float(sum(chance for chance in chances if chance <= chances[first]))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (3, 3), (0, 6), (2, 9), (20, 4), (12, 12), (23, 1)])
def test_few_discordant_rows_are_tested_exactly(first, second):
    p_value, method = mcnemar(first, second)
    assert method == "exact"
    assert p_value == pytest.approx(by_hand(first, second))


@pytest.mark.parametrize(("first", "second"), [(5, 20), (20, 5), (12, 13), (40, 60), (0, 25)])
def test_many_discordant_rows_take_chi_square(first, second):
    p_value, method = mcnemar(first, second)
    assert method == "chi-square"
    # With one degree of freedom, chi-square is a squared normal variable.
    z = (abs(first - second) - 1) / math.sqrt(first + second)
    assert p_value == pytest.approx(math.erfc(z / math.sqrt(2)))


def test_equal_counts_are_no_difference():
    assert mcnemar(0, 0) == (1, "exact")
    assert mcnemar(30, 30) == (1, "chi-square")


def test_two_runs(tmp_path):
    one = write(tmp_path / "one", "aaaabbbbba")
    two = write(tmp_path / "two", "bbbbabbbbb", model="rf")
    found = compare_runs([one, two])
    assert found.n_rows == 10
    assert [run.accuracy for run in found.runs] == [0.8, 0.6]
    assert found.runs[0].accuracy_interval == accuracy_interval(np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 0]))
    assert (found.runs[1].name, found.runs[1].model) == ("two", "rf")
    assert (found.runs[1].discretize, found.runs[1].params) == ("ternary", {"C": 10.0})
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.n_first_only, pair.n_second_only) == ("one", "two", 4, 2)
    assert pair.difference == pytest.approx(-0.2)
    assert pair.p_value == pytest.approx(by_hand(4, 2))
    assert found.notes == ()
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["pairs"][0]["n_first_only"] == 4


def test_rows_may_be_in_another_order(tmp_path):
    one = write(tmp_path / "one", "aaaabbbbba")
    order = [3, 9, 0, 1, 2, 8, 7, 6, 5, 4]
    two = write(
        tmp_path / "two",
        ["aaaabbbbba"[i] for i in order],
        paths=[PATHS[i] for i in order],
        labels=[LABELS[i] for i in order],
    )
    pair = compare_runs([one, two]).pairs[0]
    assert (pair.n_first_only, pair.n_second_only, pair.p_value) == (0, 0, 1)


def test_figures_of_one_row_are_of_one_measure(tmp_path):
    """Whatever a record's figures are weighted by, and however an older featx computed its interval."""
    one = write(tmp_path / "one", "aaaabbbbba", test={"accuracy": 0.8, "accuracy_interval": [0.5, 0.95]})
    protocol = {"n_test": 10, "sample_weight": "sure"}
    recorded = {"accuracy": 0.3, "accuracy_interval": [0.1, 0.5], "log_loss": 1.5}
    weighted = write(tmp_path / "weighted", "aaaabbbbbb", test=recorded, protocol=protocol)
    found = compare_runs([one, weighted])
    assert [run.accuracy for run in found.runs] == [0.8, 0.9]
    assert [run.accuracy_interval for run in found.runs] == [
        pytest.approx(WILSON[8], abs=1e-6),
        pytest.approx(WILSON[9], abs=1e-6),
    ]
    assert found.pairs[0].difference == pytest.approx(0.1)
    assert found.runs[1].test_loss is None
    assert found.notes == (
        "weighted: the test accuracy in its run.json is 0.3000, weighted by sure; here every row counts the same, "
        "which gives 0.9000",
    )
    shown = json.loads(CliRunner().invoke(main, ["compare", str(one), str(weighted), "--json"]).stdout)
    assert [run["accuracy"] for run in shown["runs"]] == [0.8, 0.9]
    shown = CliRunner().invoke(main, ["compare", str(one), str(weighted)])
    assert "0.3000, weighted by sure" in shown.stderr
    assert "0.3" not in shown.stdout


def test_runs_that_can_answer_other_classes_are_not_compared(tmp_path):
    """One that knows a class more has more ways to be wrong; one that doesn't know a test row's class is just wrong."""
    one = write(tmp_path / "one", "aaaabbbbba", protocol={"classes": ["a", "b"]})
    more = write(tmp_path / "more", "aaaabbbbba", protocol={"classes": ["a", "b", "c"]})
    fewer = write(tmp_path / "fewer", "aaaaaaaaaa", protocol={"classes": ["a"]})
    assert compare_runs([one, fewer]).pairs[0].difference == pytest.approx(-0.3)
    message = r"not the same classes; 'c', which no test row is of, can only be predicted by .*more\. Compare runs that"
    for pair in ([one, more], [more, one]):
        with pytest.raises(FeatxError, match=message):
            compare_runs(pair)


def test_the_table_for_the_screen(tmp_path):
    folders = [write(tmp_path / name, row) for name, row in {"one": "aaaabbbbba", "two": "aaaaabbbbb"}.items()]
    table = comparison_table(compare_runs(folders))
    assert table["run"].tolist() == ["one", "two"]
    assert table["params"].tolist() == ["C=10", "C=10"]
    assert table["difference"].tolist() == ["", "+0.2000"]
    assert table["only this right"].tolist() == ["", "2"]
    assert table["only first right"].tolist() == ["", "0"]
    assert table["p (McNemar)"].tolist() == ["", "0.5"]
    assert "| 0.7225 to 1.0000 | +0.2000" in format_table(table)


def test_a_fine_tuned_network_next_to_classifiers(tmp_path):
    forest = write(
        tmp_path / "forest",
        "aaaabbbbba",
        model="rf",
        test={"accuracy": 0.8, "log_loss": 0.51234},
        n_parameters=123_456,
        predict_seconds=25.04,
    )
    network = write_finetuned(tmp_path / "network", "aaaaabbbbb", test={"accuracy": 1.0, "log_loss": 0.1})
    found = compare_runs([forest, network])
    assert [run.model for run in found.runs] == ["rf", "fine-tuned vgg19"]
    assert found.runs[1].params == {"recipe": "staged", "stages": "head,block5,block4"}
    assert [run.test_loss for run in found.runs] == [0.51234, 0.1]
    assert [run.training_seconds for run in found.runs] == [2.0, 300.75]
    assert [run.predict_seconds for run in found.runs] == [25.04, 40.0]
    assert [run.n_parameters for run in found.runs] == [123_456, 14_714_688]
    assert (found.pairs[0].n_first_only, found.pairs[0].n_second_only) == (0, 2)
    assert json.loads(json.dumps(asdict(found)))["runs"][1]["n_parameters"] == 14_714_688
    head, _, *rows = format_table(comparison_table(found)).splitlines()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]
    forest_row, network_row = (dict(zip(lines[0], line, strict=True)) for line in lines[1:])
    assert forest_row == {
        "run": "forest",
        "model": "rf",
        "discretize": "ternary",
        "params": "C=10",
        "test loss": "0.5123",
        "test accuracy": "0.8000",
        "95% interval": "0.4902 to 0.9433",
        "difference": "",
        "only this right": "",
        "only first right": "",
        "p (McNemar)": "",
        "training seconds": "2.0",
        "seconds / 1,000 images": "25.0",
        "parameters": "123,456",
    }
    assert network_row["model"] == "fine-tuned vgg19"
    assert network_row["params"] == "recipe=staged stages=head,block5,block4"
    assert network_row["parameters"] == "14,714,688"


def test_the_command_shows_the_table_or_json(tmp_path):
    runs = [write(tmp_path / "svm", "aaaabbbbba"), write_finetuned(tmp_path / "network", "aaaaabbbbb")]
    shown = CliRunner().invoke(main, ["compare", *map(str, runs)])
    assert shown.output == format_table(comparison_table(compare_runs(runs))) + "\n"
    shown = json.loads(CliRunner().invoke(main, ["compare", *map(str, runs), "--json"]).output)
    assert shown == json.loads(json.dumps(asdict(compare_runs(runs))))


def test_every_cell_of_every_run_in_one_table(tmp_path):
    """Runs of other features, other grids and other rows; stages of a network are cells too."""
    forest = {
        "model": "rf",
        "store": {"path": "s.h5", "n_features": 512},
        "cells": (
            Cell("none", {"n_estimators": 12}, 0.5, None, 1.5),
            Cell("none", {"n_estimators": 50}, None, None, 1.0, "no"),
        ),
        "chosen": 0,
    }
    runs = [
        write(tmp_path / "svm", "aaaabbbbba", test={"accuracy": 0.8}),
        write(tmp_path / "rf", "aaaa", paths=PATHS[:4], labels=LABELS[:4], **forest),
        write_finetuned(tmp_path / "network", "aaaaabbbbb"),
    ]
    table = cells_of_runs(runs)
    assert table["run"].tolist() == ["svm"] * 2 + ["rf"] * 2 + ["network"] * 3
    assert table["features"].tolist()[2:4] == [512, 512]
    assert table["features"].isna().sum() == 5
    assert table["validation"].tolist()[:3] == [0.75, 0.8, 0.5]
    assert table["test"].dropna().to_dict() == {1: 0.8}
    assert table["n_estimators"].dropna().to_dict() == {2: 12, 3: 50}
    assert table["stage"].dropna().tolist() == list(STAGES)
    assert table["error"].dropna().to_dict() == {3: "no"}
    assert [name for name, chosen in zip(table["run"], table["chosen"], strict=True) if chosen] == [
        "svm",
        "rf",
        "network",
    ]
    assert list(table.columns)[-1] == "chosen"


def test_cells_say_which_measure_their_figures_are_of(tmp_path):
    runs = [
        write(tmp_path / "plain", "aaaabbbbba"),
        write(tmp_path / "folds", "aaaabbbbba", protocol={"cv": 5}),
        write(tmp_path / "weighted", "aaaabbbbba", protocol={"sample_weight": "sure"}),
    ]
    table = cells_of_runs(runs)
    assert table["folds"].dropna().to_dict() == {2: 5, 3: 5}
    assert table["weighted by"].dropna().to_dict() == {4: "sure", 5: "sure"}
    assert not {"folds", "weighted by"} & set(cells_of_runs(runs[:1]))


def test_the_command_shows_cells(tmp_path):
    runs = [write(tmp_path / "svm", "aaaabbbbba"), write_finetuned(tmp_path / "network", "aaaaabbbbb")]
    shown = CliRunner().invoke(main, ["compare", "--cells", *map(str, runs)])
    assert shown.output == format_table(cells_of_runs(runs)) + "\n"
    shown = json.loads(CliRunner().invoke(main, ["compare", "--cells", str(runs[0]), "--json"]).output)
    assert shown == [
        {
            "run": "svm",
            "model": "svm",
            "discretize": "none",
            "C": 0.1,
            "validation": 0.75,
            "seconds": 0.5,
            "chosen": "",
        },
        {
            "run": "svm",
            "model": "svm",
            "discretize": "ternary",
            "C": 10.0,
            "validation": 0.8,
            "seconds": 0.5,
            "chosen": "*",
        },
    ]


def test_another_stage_than_the_last_is_named(tmp_path):
    one = write_finetuned(tmp_path / "one", "aaaaabbbbb", chosen=0)
    two = write_finetuned(tmp_path / "two", "aaaaabbbbb")
    found = compare_runs([one, two])
    assert found.runs[0].params == {"recipe": "staged", "stages": "head,block5,block4", "kept": "head"}
    assert "kept" not in found.runs[1].params
    # No run is discretized, and none tells a loss.
    assert not {"discretize", "test loss"} & set(comparison_table(found))


def test_a_run_without_costs_on_record(tmp_path):
    runs = [write(tmp_path / name, "aaaabbbbba", test={"accuracy": 0.8}) for name in ("one", "two")]
    found = compare_runs(runs)
    assert (found.runs[0].n_parameters, found.runs[0].predict_seconds, found.runs[0].test_loss) == (None, None, None)
    table = comparison_table(found)
    assert not {"seconds / 1,000 images", "parameters"} & set(table)
    assert table["training seconds"].tolist() == [2.0, 2.0]
    table = comparison_table(compare_runs([runs[0], write_finetuned(tmp_path / "network", "aaaaabbbbb")]))
    assert [line.split("|")[-2].strip() for line in format_table(table).splitlines()[2:]] == ["", "14,714,688"]


def test_a_weighted_network_is_compared_row_by_row(tmp_path):
    recorded = {"accuracy": 0.9, "accuracy_interval": [0.6, 1.0], "log_loss": 0.3}
    plain = write(tmp_path / "plain", "aaaabbbbba")
    weighted = write_finetuned(tmp_path / "weighted", "aaaabbbbbb", test=recorded | {"accuracy": 0.95})
    found = compare_runs([plain, weighted])
    assert (found.runs[1].accuracy, found.runs[1].test_loss) == (0.9, None)
    assert found.pairs[0].difference == pytest.approx(0.1)
    assert found.notes[0].startswith("weighted: the test accuracy in its run.json is 0.9500; here every row counts")


def test_runs_of_one_name_have_their_paths(tmp_path):
    folders = [write(tmp_path / seed / "run", "aaaabbbbba") for seed in ("0", "1")]
    assert [run.name for run in compare_runs(folders).runs] == [str(folder) for folder in folders]


def test_text_that_looks_like_something_else(tmp_path):
    paths = ["NaN", "1", "01", "a,b.png", "café.png"]
    labels = ["NA", "null", "007", "7", "1.0"]
    one = write(tmp_path / "one", ["NA", "NA", "7", "7", "1.0"], paths=paths, labels=labels)
    two = write(tmp_path / "two", ["NA", "null", "007", "7", "1"], paths=paths, labels=labels)
    assert [run.accuracy for run in compare_runs([one, two]).runs] == [0.6, 0.8]


@pytest.mark.parametrize("paths", [[], ["one"]])
def test_one_run_is_no_comparison(tmp_path, paths):
    with pytest.raises(FeatxError, match="expected two runs or more"):
        compare_runs([tmp_path / path for path in paths])


def test_other_rows_are_an_error_that_names_one(tmp_path):
    one = write(tmp_path / "one", "aaaaabbbbb")
    other = write(tmp_path / "other", "aaaaabbbbb", paths=[*PATHS[:7], "x.png", *PATHS[8:]])
    with pytest.raises(FeatxError, match=r"one and .*other: not the same test rows.*'images/07.png' is only in .*one"):
        compare_runs([one, other])
    fewer = write(tmp_path / "fewer", "aaaaabbbb", paths=PATHS[:9], labels=LABELS[:9])
    with pytest.raises(FeatxError, match=r"\(9 and 10\); 'images/09.png' is only in .*one\. Compare runs of one store"):
        compare_runs([fewer, one])


def test_other_labels_are_an_error_that_names_one(tmp_path):
    one = write(tmp_path / "one", "aaaaabbbbb")
    other = write(tmp_path / "other", "aaaaabbbbb", labels=list("aaaacbbbbd"))
    with pytest.raises(FeatxError, match=r"not the same labels; 'images/04.png' is 'a' in .*one and 'c' in .*other"):
        compare_runs([one, other])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "read as CSV"),
        ("path,label,predicted\na,b,c\na,b,c,d\n", "read as CSV"),
        ("path,label\na,b\n", "no column 'predicted'; expected path, label, predicted, found path, label"),
        ("path,label,predicted\n", "no test rows"),
        ("path,label,predicted\nx,a,a\ny,b\n", "row 2 has an empty field"),
        ("path,label,predicted\nx,a,a\nx,a,b\n", "'x' is there twice"),
    ],
)
def test_predictions_that_are_none(tmp_path, text, message):
    one = write(tmp_path / "one", "aaaaabbbbb")
    bad = write(tmp_path / "bad", "aaaaabbbbb")
    (bad / "predictions.csv").unlink()
    if text is not None:
        (bad / "predictions.csv").write_text(text)
    with pytest.raises(FeatxError, match=message):
        compare_runs([one, bad])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FeatxError, match="no such run"):
        compare_runs([tmp_path / "one", tmp_path / "two"])
