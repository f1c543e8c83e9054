"""The command line: documented, quick to answer, one line for what a user can mend."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from samples import run_featx

from featx import errors
from featx.cli import main

README = Path(__file__).parents[2] / "README.md"


def commands(group=main, prefix="featx"):
    """Yield (command line, command) of every command, below groups too."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


@pytest.mark.parametrize(("line", "command"), list(commands()))
def test_every_command_is_documented(line, command):
    assert line in README.read_text(encoding="utf-8"), f"README.md doesn't show {line}"
    assert command.help
    undocumented = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    plain = {"interpolation", "backbone", "discretize", "kernel", "max_features"}
    assert set(undocumented) <= plain


@pytest.mark.parametrize(("line", "command"), [("featx", main), *commands()])
def test_help_answers(line, command):
    result = CliRunner().invoke(main, [*line.split()[1:], "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom featx.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'keras', 'tensorflow', 'sklearn', 'numpy', 'pandas', 'h5py', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fit", "rf", "s.h5", "--n-estimators", "10,0"],
            "expected a whole number from 1, found '0' (several",
        ),
        (["fit", "svm", "s.h5", "--kernel", "linear,poly"], "expected linear or rbf, found 'poly'"),
        (["fit", "svm", "s.h5", "--cv", "1"], "1 is not in the range"),
        (["fit", "svm", "s.h5", "--choose-by", "auc"], "'auc' is not one of"),
        (["extract", "x", "-o", "s.h5", "--max-rejected", "0.01"], "expected a number from 0 to 1 or a count, found"),
        (["extract", "x", "-o", "s.h5", "--batch-size", "0"], "expected a whole number from 1 to 4096 or auto, found"),
        (["finetune", "s.h5", "--recipe", "a", "--cache-limit", "0"], "0 is not in the range"),
    ],
)
def test_values_out_of_range_are_refused_at_once(arguments, message):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "nowhere", "-o", "s.h5"],
        ["fit", "rf", "nowhere.h5"],
        ["info", "nowhere.h5"],
        ["weights", "verify", "nowhere.onnx"],
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_1(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert re.fullmatch(r"featx: .*nowhere.*\n", result.stderr)
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fit", "svm", "--kernel", "linear", "--gamma", "1"],
            "--gamma: only the RBF kernel has it: leave it",
        ),
        (["fit", "rf", "--shuffles", "3"], "--shuffles: only for --importance: give that too"),
        (
            ["fit", "rf", "--repeats", "2", "--each-layer"],
            "--each-layer: only for one split: leave it or",
        ),
        (["fit", "rf", "--repeats", "2", "--each-layer", "--shard", "1/2", "-o", "x"], "leave it or --repeats out"),
        (["fit", "rf", "--stratify", ""], "--stratify: only for random splits: give --repeats too"),
        (["predict", "--root", "."], "none of the images is a CSV: leave --root out"),
        (["predict", "--path-column", "file"], "none of the images is a CSV: leave --path-column out"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(arguments, message, small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = ["photo.png"] if arguments[0] == "predict" else []
    result = CliRunner().invoke(main, [*arguments, str(small_store), *images])
    assert result.exit_code == 1
    assert re.fullmatch(rf"featx: .*{re.escape(message)}.*\n", result.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "rf", "STORE", "-o", "LONG"],
        ["choose", "a", "b", "-o", "LONG"],
        ["predict", "a", "b.png", "-o", "LONG"],
        ["predict", "a", "LONG"],
        ["report", "a", "-o", "LONG"],
        ["report", "LONG"],
        ["compare", "LONG", "LONG"],
        ["choose", "LONG", "LONG/b", "-o", "c"],
        ["plot", "classes", "STORE", "-o", "LONG.svg"],
        ["export", "STORE", "-o", "LONG.csv"],
    ],
)
def test_names_that_a_file_system_does_not_take_are_one_line(arguments, small_store, tmp_path, monkeypatch):
    # As what lies in a folder that may not be looked into, they are not just missing: Path.exists raises.
    monkeypatch.chdir(tmp_path)
    names = {"LONG": "x" * 300, "STORE": str(small_store)}
    result = CliRunner().invoke(main, [re.sub("LONG|STORE", lambda found: names[found[0]], part) for part in arguments])
    assert result.exit_code == 1
    assert re.fullmatch(r"featx: .*\n", result.stderr)
    assert isinstance(result.exception, SystemExit)


def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    result = CliRunner().invoke(main, ["report", "a", "--overwrite", "-o", str(tmp_path / "pipe")])
    assert "pipe: not a regular file; give another --output" in result.stderr
    assert (tmp_path / "pipe").is_fifo()


def test_the_score_that_cells_are_chosen_by_is_shown(small_store, tmp_path):
    options = ("--layers", "block1", "--cv", 3, "--n-estimators", "2,5", "--choose-by", "roc_auc")
    for extra in ((), ("--repeats", 2)):
        command = ["fit", "rf", small_store, "-o", tmp_path / f"run{len(extra)}", *options, *extra]
        result = CliRunner().invoke(main, [str(part) for part in command])
        assert result.exit_code == 0, result.output
        assert re.match(r"\| .*\| validation +\|.* validation roc_auc +\|", result.stdout)
        record = json.loads(next((tmp_path / f"run{len(extra)}").glob("*.json")).read_text())
        assert record["protocol"]["choose_by"] == "roc_auc"
    command = ["fit", "svm", small_store, "-o", tmp_path / "svm", "--choose-by", "log_loss"]
    result = CliRunner().invoke(main, [str(part) for part in command])
    assert result.exit_code == 1
    assert re.fullmatch(
        r"featx: --choose-by: log_loss is not defined for GramSVC, which has no probabilities\. .*\n", result.stderr
    )


def test_a_message_with_a_line_break_is_still_one_line(monkeypatch):
    def fail(path):
        raise errors.StoreError("two\nlines")

    monkeypatch.setattr("featx.store.Store", fail)
    assert CliRunner().invoke(main, ["info", "x"]).stderr == "featx: two lines\n"


def test_python_dash_m_is_the_same():
    done = run_featx("--version")
    assert re.fullmatch(r"featx, version \d+\.\d+\.\d+\n", done.stdout)
