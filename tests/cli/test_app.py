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
from featx.extract import plan as plans
from featx.fit import scoring as choosing
from featx.images import decode as images
from featx.images import icc, views
from featx.inference import batch_size
from featx.inference.engines import base as engines
from featx.networks import preprocessing
from featx.networks import registry as layers

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


def test_choices_are_the_librarys():
    options = {option.name: option for option in main.commands["extract"].params}
    assert tuple(options["resize"].type.choices) == images.RESIZES
    assert tuple(options["interpolation"].type.choices) == tuple(images.INTERPOLATIONS)
    assert tuple(options["preprocessing"].type.choices) == tuple(preprocessing.PREPROCESSINGS)
    assert tuple(options["engine"].type.choices) == tuple(engines.ENGINES)
    assert tuple(options["precision"].type.choices) == tuple(engines.PRECISIONS)
    assert tuple(options["jpeg"].type.choices) == tuple(images.JPEGS)
    assert tuple(options["icc"].type.choices) == tuple(icc.ICCS)
    assert options["batch_size"].type.max == batch_size.LARGEST
    assert options["batch_size"].default == batch_size.AUTO
    assert tuple(options["store_dtype"].type.choices) == plans.STORE_DTYPES
    assert tuple(options["views"].type.choices) == tuple(views.VIEWS)
    assert tuple(options["backbone"].type.choices) == tuple(layers.BACKBONES)
    assert options["image_size"].type.min == min(spec.min_image_size for spec in layers.BACKBONES.values())
    for command in main.commands["fit"].commands.values():
        (option,) = (option for option in command.params if option.name == "choose_by")
        assert tuple(option.type.choices) == choosing.CHOOSE_BY
        assert option.default == "accuracy"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "rf", "s.h5", "--n-estimators", "10,0"], "'0' is not a whole number from 1"),
        (["fit", "rf", "s.h5", "--min-samples-leaf", "2.5"], "'2.5' is not a whole number"),
        (["fit", "svm", "s.h5", "--C", "1,-1"], "'-1' is not a number over 0"),
        (["fit", "svm", "s.h5", "--C", "nan"], "'nan' is not a number over 0"),
        (["fit", "svm", "s.h5", "--C", "inf"], "'inf' is not a number over 0"),
        (["fit", "svm", "s.h5", "--kernel", "linear,poly"], "'poly' is none of linear, rbf"),
        (["fit", "svm", "s.h5", "--gamma", "big"], "or scale, auto"),
        (["fit", "svm", "s.h5", "--cv", "1"], "1 is not in the range"),
        (["fit", "rf", "s.h5", "--max-features", "0"], "'0' is not a number over 0 to 1, a count or sqrt, log2"),
        (["fit", "svm", "s.h5", "--choose-by", "auc"], "'auc' is not one of"),
        (["extract", "x", "-o", "s.h5", "--image-size", "8"], "not in the range"),
        (["extract", "x", "-o", "s.h5", "--resize", "stretch"], "'stretch' is not one of"),
        (["extract", "x", "-o", "s.h5", "--max-rejected", "0.01"], "neither a number of images (10) nor a share"),
        (["extract", "x", "-o", "s.h5", "--batch-size", "0"], "0 is not in the range"),
        (["extract", "x", "-o", "s.h5", "--batch-size", "many"], "'many' is not a valid auto or integer"),
        (["extract", "x", "-o", "s.h5", "--precision", "tf32"], "'tf32' is not one of"),
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
        (["fit", "svm", "--kernel", "linear", "--gamma", "1"], "--gamma is of the RBF kernel: leave it out, or give"),
        (["fit", "rf", "--shuffles", "3"], "--shuffles is of --importance: give that too"),
        (["fit", "rf", "--repeats", "2", "--each-layer"], "--importance are of one split: leave --repeats out"),
        (["fit", "rf", "--repeats", "2", "--each-layer", "--shard", "1/2", "-o", "x"], "leave --repeats out"),
        (["fit", "rf", "--stratify", ""], "are of random splits: give --repeats too"),
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
    assert re.fullmatch(r"featx: --choose-by log_loss: GramSVC tells no probabilities\. .*\n", result.stderr)


def test_a_message_with_a_line_break_is_still_one_line(monkeypatch):
    def fail(path):
        raise errors.StoreError("two\nlines")

    monkeypatch.setattr("featx.store.Store", fail)
    assert CliRunner().invoke(main, ["info", "x"]).stderr == "featx: two lines\n"


def test_python_dash_m_is_the_same():
    done = run_featx("--version")
    assert re.fullmatch(r"featx, version \d+\.\d+\.\d+\n", done.stdout)
