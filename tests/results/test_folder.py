"""Runs on disk: nothing half-written, nothing that runs."""

import csv
import json
import os
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import skops.io
from failing_moves import end_at, fail
from sklearn.base import BaseEstimator

from featx import FeatxError
from featx.images import list_sources
from featx.inference import write_predictions
from featx.inference.predict import Block
from featx.results import (
    Cell,
    Run,
    cells_table,
    check_free,
    format_table,
    format_test,
    load_model,
    read_repeats,
    read_run,
    write_run,
)


def run_of(**changes):
    fields = {
        "model": "svm",
        "store": {"path": "s.h5"},
        "protocol": {"n_test": 2, "choose_by": "accuracy"},
        "cells": (
            Cell("none", {"kernel": "linear", "C": 0.1}, 0.75, None, 0.5),
            Cell("ternary", {"kernel": "rbf", "C": 10.0, "gamma": "scale"}, 0.8125, None, 1.25),
        ),
        "chosen": 1,
        "test": {"accuracy": 0.5},
        "refit_seconds": 1.0,
        "peak_memory": None,
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Run(**(fields | changes))


def finetuned_run(**changes):
    """A fine-tuned network's record, of two stages."""
    fields = {
        "model": "finetune",
        "store": {"path": "s.h5", "backbone": "vgg16"},
        "cells": (
            Cell("none", {"recipe": "staged", "stage": "head", "n_trainable": 12_845_313}, 0.625, None, 30.5),
            Cell("none", {"recipe": "staged", "stage": "block5", "n_trainable": 19_924_737}, 0.875, None, 61.25),
        ),
        "refit_seconds": 0.0,
        "n_parameters": 19_924_737,
        "predict_seconds": 41.5,
        "baseline": {
            "recipe": {"name": "staged", "stages": ["head", "block5"]},
            "stages": [{"name": "head", "epochs": 3}, {"name": "block5", "epochs": 4}],
            "weights_sha256": "0" * 64,
        },
    }
    return run_of(**(fields | changes))


def write(path, estimator, **options):
    empty = pd.DataFrame()
    write_run(path, run_of(), predictions=empty, per_class=empty, confusion=empty, estimator=estimator, **options)


def write_finetuned(path, add_files, **options):
    empty = pd.DataFrame()
    tables = {"predictions": empty, "per_class": empty, "confusion": empty}
    write_run(path, finetuned_run(), **tables, add_files=add_files, **options)


def add_network(folder):
    for name in ("network.weights.h5", "curves.csv", "recipe.yaml"):
        (folder / name).write_text(name)


class Stranger(BaseEstimator):
    """A type that no model of featx holds."""


def test_only_the_chosen_cell_has_a_test_accuracy():
    table = cells_table(run_of())
    assert table["test"].isna().tolist() == [True, False]
    assert table["chosen"].tolist() == ["", "*"]
    assert "deviation" not in table
    text = format_table(table)
    assert "| svm     | ternary      | rbf      | 10  | scale   | 0.8125       | 0.5000 | 1.2       | *" in text


def test_a_model_of_other_types_is_refused_before_it_is_built(tmp_path):
    write(tmp_path / "run", Stranger())
    with pytest.raises(FeatxError, match=r"Stranger, which no model of featx has"):
        load_model(tmp_path / "run")


def test_a_run_that_fails_to_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(skops.io, "dump", fail)
    with pytest.raises(FeatxError, match="No space left on device"):
        write(tmp_path / "run", Stranger())
    assert list(tmp_path.iterdir()) == []


def test_only_a_runs_own_folder_is_replaced(tmp_path):
    write(tmp_path / "results" / "run", Stranger())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for path, what in ((tmp_path / "results", "'run'"), (tmp_path / "empty", "no run"), (tmp_path / "file", "'file'")):
        with pytest.raises(FeatxError, match=f"contains {what}, so it is not replaced"):
            write(path, Stranger(), overwrite=True)
    assert (tmp_path / "results" / "run" / "run.json").exists()
    (tmp_path / "results" / "run" / "thesis.tex").write_text("mine")
    with pytest.raises(FeatxError, match=r"thesis\.tex"):
        write(tmp_path / "results" / "run", Stranger(), overwrite=True)


def test_a_damaged_model_is_an_error_of_ours(tmp_path):
    write(tmp_path / "run", Stranger())
    model_path = tmp_path / "run" / "model.skops"
    model_path.write_bytes(model_path.read_bytes()[:100])
    with pytest.raises(FeatxError, match=r"model\.skops: damaged"):
        load_model(tmp_path / "run")


def test_an_old_run_stays_when_the_new_one_fails(tmp_path, monkeypatch):
    write(tmp_path / "run", Stranger())
    before = (tmp_path / "run" / "model.skops").read_bytes()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(skops.io, "dump", fail)
    with pytest.raises(FeatxError, match="No space left"):
        write(tmp_path / "run", Stranger(), overwrite=True)
    assert (tmp_path / "run" / "model.skops").read_bytes() == before


def accuracy_of(path):
    """The test accuracy of the run that is there, all of whose files are."""
    names = {"run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv"}
    assert {file.name for file in path.iterdir()} == names
    return read_run(path).test["accuracy"]


def write_accuracy(path, accuracy):
    tables = dict.fromkeys(("predictions", "per_class", "confusion"), pd.DataFrame())
    write_run(path, run_of(test={"accuracy": accuracy}), **tables, overwrite=True)


def test_the_old_run_stays_where_a_step_of_replacing_it_fails(tmp_path, monkeypatch):
    n_failed = 0
    for call in range(1, 60):
        write_accuracy(tmp_path / "run", 0.25)
        functions, count = end_at(call, fail)
        with monkeypatch.context() as patch:
            for name, function in functions.items():
                patch.setattr(os, name, function)
            try:
                write_accuracy(tmp_path / "run", 0.75)
                expected = 0.75
            except FeatxError as error:
                assert "Input/output error" in str(error)
                expected = 0.25
                n_failed += 1
            is_over = next(count) <= call
        assert accuracy_of(tmp_path / "run") == expected
        if is_over:
            break
    assert is_over
    assert n_failed == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("is_linked", [False, True])
def test_one_run_is_there_whole_after_a_kill_at_any_step(tmp_path, is_linked):
    path = tmp_path / "run"
    if is_linked:
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere" / "mine", target_is_directory=True)
    found = []
    for call in range(1, 60):
        write_accuracy(path, 0.25)
        if not (pid := os.fork()):
            functions, _ = end_at(call, lambda: os._exit(9))
            for name, function in functions.items():
                setattr(os, name, function)
            write_accuracy(path, 0.75)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found.append(accuracy_of(path) if path.exists() else None)
        with pytest.raises(FeatxError, match=r"exists\. Give another `output`"):
            check_free(path, overwrite=False)
        assert accuracy_of(path) == found[-1] or (accuracy_of(path), found[-1]) == (0.25, None)
        if code == 0:
            break
    assert found[:3] == [0.25, None, 0.75]
    assert set(found[3:]) == {0.75}
    assert path.is_symlink() == is_linked


def load_no_model(path):
    with pytest.raises(FeatxError, match="no such model"):
        load_model(path)


def test_every_command_finds_a_run_that_was_being_replaced(tmp_path):
    """A kill between the two moves: the run waits under a hidden name."""
    from click.testing import CliRunner

    from featx.cli import main
    from featx.report.data import _find_runs
    from featx.results import are_repeats, is_run

    path, waiting = tmp_path / "runs" / "mine", tmp_path / "runs" / ".mine.featx-old"
    write_accuracy(path, 0.25)
    for look in (
        lambda: CliRunner().invoke(main, ["compare", str(path), "--cells"]),
        lambda: are_repeats([path]),
        lambda: is_run(str(path)),
        lambda: load_no_model(path),
        lambda: _find_runs([path]),
        lambda: _find_runs([path.parent]),
    ):
        path.rename(waiting)
        look()
        assert not waiting.exists()
        assert accuracy_of(path) == 0.25
    path.rename(waiting)
    done = CliRunner().invoke(main, ["fit", "svm", str(tmp_path / "none.h5"), "-o", str(path)])
    assert done.exit_code == 1
    assert "exists. Give another --output" in done.output


def test_a_run_that_can_not_be_moved_back_is_named(tmp_path, monkeypatch):
    write_accuracy(tmp_path / "run", 0.25)
    (tmp_path / "run").rename(tmp_path / ".run.featx-old")
    monkeypatch.setattr(os, "rename", lambda *arguments: fail())
    message = r"run: featx was stopped while .* is called .*\.run\.featx-old now .* Rename it to run"
    with pytest.raises(FeatxError, match=message):
        read_run(tmp_path / "run")


def test_a_folder_that_is_being_written_is_no_run_of_a_report(tmp_path):
    from featx.report.data import _find_runs

    write_accuracy(tmp_path / "runs" / "mine", 0.25)
    write_accuracy(tmp_path / "runs" / ".featx-0.tmp", 0.25)
    assert _find_runs([tmp_path / "runs"])[0] == [tmp_path / "runs" / "mine"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_is_written_has_the_modes_of_any_other_file_and_the_umask_stays(tmp_path, monkeypatch):
    from featx.finetune import cache as row_files
    from featx.networks import weights
    from featx.system import files as whole_files

    if not (pid := os.fork()):
        # The umask is of the whole process.
        os.umask(0o027)
        monkeypatch.setattr(os, "umask", lambda mask: os._exit(9))
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").write_text("")
        write_accuracy(tmp_path / "run", 0.5)
        with whole_files.whole_file(tmp_path / "whole"):
            pass
        with whole_files.whole_files([tmp_path / "first", tmp_path / "second"]):
            pass
        row_files.RowFiles(tmp_path / "rows", 2, (1,), "float32", block_rows=2).write(0, np.zeros((2, 1)))
        weights._write_cached(tmp_path / "weights.npz", {"a": (np.zeros(1), np.zeros(1))})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    folders = {"folder", "run", "rows"}
    assert found == {name: 0o750 if name in folders else 0o640 for name in found}
    assert {"whole", "first", "second", "rows/0000000000.npy", "weights.npz", "run/run.json"} <= found.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such run"),
        ("not json", "not a record of a run"),
        ("[]", "not a record of a run"),
        ("{}", "not a record of a run"),
        (json.dumps({"featx_run": 99}), "a run of format 99"),
    ],
)
def test_folders_that_are_no_run(tmp_path, text, message):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(FeatxError, match=message):
        read_run(tmp_path)


def test_a_run_of_random_splits_is_not_taken_for_none(tmp_path):
    (tmp_path / "repeats.json").write_text("{}")
    with pytest.raises(FeatxError, match=r"a run of random splits, .* no model .* without `repeats`"):
        read_run(tmp_path)


@pytest.mark.parametrize(("read", "message"), [(read_run, "no such run"), (read_repeats, "no such file")])
def test_a_file_is_no_run(tmp_path, read, message):
    path = tmp_path / "s.h5"
    path.write_bytes(b"")
    with pytest.raises(FeatxError, match=f"{message}; expected a folder that featx"):
        read(path)


def test_models_come_back_as_they_went(tmp_path):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    from featx import TernaryDiscretizer

    X = np.random.default_rng(0).random((30, 4)).astype(np.float32)
    y = np.array(["a", "b", "c"] * 10, dtype=object)
    fitted = make_pipeline(TernaryDiscretizer(), RandomForestClassifier(5, random_state=0)).fit(X, y)
    write(tmp_path / "run", fitted)
    assert load_model(tmp_path / "run").predict_proba(X) == pytest.approx(fitted.predict_proba(X))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"created": [1]}, r"run\.json: created: "),
        ({"cells": [{"discretize": "none"}]}, r"run\.json: cells\.0\.params: "),
        ({"chosen": 17}, "chosen is 17, of 2 cells"),
        ({"test": {"accuracy": 17.0}}, r"17\.0 is no accuracy"),
        ({"test": {"accuracy": "high"}}, "test.accuracy"),
        ({"test": {"accuracy": float("nan")}}, "nan is no accuracy"),
        ({"test": {"accuracy": 0.5, "accuracy_interval": [0.5]}}, r"\[0\.5\] is no accuracy"),
        ({"test": {"accuracy": 0.5, "majority_class_rate": []}}, r"\[\] is no accuracy"),
        ({"test": {}}, "None is no accuracy"),
        ({"model": "finetune"}, "a fine-tuned run without recipe or stages"),
        ({"created": "\ud800"}, "contains what is no text"),
    ],
)
def test_a_record_with_a_wrong_value_is_an_error(tmp_path, changes, message):
    write(tmp_path / "run", None)
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FeatxError, match=message):
        read_run(tmp_path / "run")


def test_a_fine_tuned_run_is_written_whole_and_read_again(tmp_path):
    write_finetuned(tmp_path / "run", add_network)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv"),
        *("network.weights.h5", "curves.csv", "recipe.yaml"),
    }
    run = read_run(tmp_path / "run")
    assert run == finetuned_run()
    assert run.is_finetuned
    assert not run_of().is_finetuned
    with pytest.raises(FeatxError, match=r"fine-tuned network\. Use featx predict .*run, or featx extract --weights"):
        load_model(tmp_path / "run")
    write(tmp_path / "run", Stranger(), overwrite=True)
    assert not (tmp_path / "run" / "network.weights.h5").exists()


def test_a_run_whose_files_can_not_be_added_leaves_nothing(tmp_path):
    def fail(folder):
        add_network(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(FeatxError, match="No space left on device"):
        write_finetuned(tmp_path / "run", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_model_says_so(tmp_path):
    write_finetuned(tmp_path / "run", None)
    with pytest.raises(FeatxError, match=r"model\.skops: no such model; was the run's folder copied whole\?$"):
        load_model(tmp_path / "run")


def test_the_table_of_a_fine_tuned_run_has_a_row_a_stage():
    table = cells_table(finetuned_run())
    assert table["stage"].tolist() == ["head", "block5"]
    assert "discretize" not in table
    text = format_table(table)
    assert "| finetune | staged   | block5  | 19924737      | 0.8750       | 0.5000 | 61.2" in text
    assert format_test(finetuned_run(test={"accuracy": 0.5, "majority_class_rate": 0.25})).startswith(
        "test accuracy 0.5000 on 2 images (always the majority class: 0.2500)"
    )
    weighted = finetuned_run(
        test={"accuracy": 0.5, "accuracy_interval": [0.1, 0.9], "majority_class_rate": 0.25},
        protocol={"n_test": 2, "sample_weight": "sure"},
    )
    assert format_test(weighted).startswith("test accuracy 0.5000 [0.1000, 0.9000] on 2 images, weighted by sure (")
    assert json.loads(json.dumps(asdict(finetuned_run())))["baseline"]["stages"][1]["epochs"] == 4


ODD = ["a\rb", "\r", "a\r\nb", "a\nb", 'a"b', "a,b", "a;b", " a ", "plain", "\u2028\x0b\x85"]


def read_with_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    return pd.DataFrame(rows, columns=header, dtype=object)


def read_with_pandas(path):
    return pd.read_csv(path, dtype=object, keep_default_na=False)


@pytest.mark.parametrize("read", [read_with_csv, read_with_pandas])
def test_what_is_written_is_read_back(tmp_path, read):
    """Line breaks of all kinds among them, in names of files, of classes, of layers and of columns."""
    run = run_of(
        cells=(Cell("none", {"kernel": "a\rb", "C": 0.1}, 0.75, None, 0.5),),
        chosen=0,
        layers=({"layer": "a\rb", "n_features": 3, "alone": 0.5},),
    )
    scores = {f"probability_{name}": np.full(len(ODD), 0.1) for name in ODD}
    predictions = pd.DataFrame({"path": ODD, "label": ODD, "predicted": ODD[::-1], **scores})
    counts = pd.DataFrame(np.eye(len(ODD), dtype=int), index=pd.Index(ODD, name="label"), columns=ODD)
    write_run(tmp_path / "run", run, predictions=predictions, per_class=counts, confusion=counts)
    found = read(tmp_path / "run" / "predictions.csv")
    assert found.columns.tolist() == predictions.columns.tolist()
    assert found[["path", "label", "predicted"]].to_numpy().tolist() == predictions.iloc[:, :3].to_numpy().tolist()
    assert (found.iloc[:, 3:].astype(float) == 0.1).all(axis=None)
    for name in ("per_class.csv", "confusion.csv"):
        found = read(tmp_path / "run" / name)
        assert found.columns.tolist() == ["label", *ODD]
        assert found["label"].tolist() == ODD
        assert (found[ODD].astype(int).to_numpy() == np.eye(len(ODD))).all()
    assert read(tmp_path / "run" / "cells.csv")["kernel"].tolist() == ["a\rb"]
    assert read(tmp_path / "run" / "layers.csv")["layer"].tolist() == ["a\rb"]

    block = Block(predictions.assign(score=1 / 3), pd.DataFrame())
    plain = Block(block.table.iloc[8:9], pd.DataFrame())
    with (tmp_path / "p.csv").open("wb") as file:
        write_predictions([plain, block], file)
    found = read(tmp_path / "p.csv")
    assert found.columns.tolist() == block.table.columns.tolist()
    assert found["path"].tolist() == ["plain", *ODD]
    assert found["score"].tolist() == ["0.333333"] * 11


def test_paths_with_line_breaks_are_read_as_they_were_written(tmp_path):
    """As where images that were classified once are classified again."""
    blocks = [Block(pd.DataFrame({"path": [f"{name}.png" for name in ODD], "predicted": "x"}), pd.DataFrame())]
    with (tmp_path / "p.csv").open("wb") as file:
        write_predictions(blocks, file)
    # Blanks at the ends of a path are no part of it.
    expected = [tmp_path / f"{name}.png".strip() for name in ODD]
    assert list_sources([tmp_path / "p.csv"]) == expected
