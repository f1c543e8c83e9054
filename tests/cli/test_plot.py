"""`featx plot`: every kind of figure has a command, which writes one file and says what is in it."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")

from plain_stores import grouped_features, write_plain_store
from report_runs import make_results

from featx.cli import main
from featx.report.figures import FIGURES, filters, maps, store_figures

LABELS = [("ash", "birch", "cedar")[row % 3] for row in range(24)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of known features, and runs: svm, logreg, bare (without scores) and tuned."""
    folder = tmp_path_factory.mktemp("plots")
    make_results(folder)
    features = {"block1_conv1": grouped_features(LABELS, 6, seed=1), "block5_conv3": grouped_features(LABELS, 9)}
    splits = [("train", "train", "validation", "test")[row // 3 % 4] for row in range(24)]
    write_plain_store(folder / "s.h5", features, LABELS, splits=splits, weights="imagenet-conv")
    return folder / "results"


def plot(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


COMMANDS = [
    (["accuracies", "svm", "logreg", "tuned"], "always the majority class", "On the same 24 test images"),
    (["confusion", "tuned", "--shares"], "share of the true class", "the diagonal is the recall"),
    (["reliability", "logreg"], "probability of the predicted class", "How often the predicted class is right"),
    (["roc", "svm"], "by chance, AUC 0.500", "Each class against the rest"),
    (["grid", "svm"], "validation accuracy", "Validation accuracy of every cell"),
    (["curves", "tuned"], "block5", "Train and validation rows"),
    (["classes", "../s.h5", "--label", "label"], "birch", "Counts, and the share of each class"),
    (
        ["covariance", "../s.h5", "--layer", "block1_conv1", "--kind", "covariance", "--features", "stored"],
        "Covariance of two images",
        "6 features of block1_conv1, as they are stored; 24 images",
    ),
    (["covariance", "../s.h5", "--classes", "1:2", "--classes", "cedar"], "16 images", "standardised"),
    (["embedding", "../s.h5", "--layers", "block5_conv3", "--images", "12"], "of the variance", "12 of 24 images"),
    (["embedding", "../s.h5", "--where", 'label != "ash"'], "birch (8)", "16 images"),
    (["dead", "../s.h5"], "block5_conv3", "Of 15 features"),
    (["top-images", "../s.h5", "--channel", "2", "--images", "3"], "feature", "channel 2 of block5_conv3"),
]


@pytest.mark.parametrize(("arguments", "text", "caption"), COMMANDS, ids=lambda value: None)
def test_a_figure_is_written_and_its_caption_is_said(made, tmp_path, monkeypatch, arguments, text, caption):
    monkeypatch.chdir(made)
    output = tmp_path / "f.svg"
    result = plot(*arguments, "-o", output)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{output}\n"
    assert caption in result.stderr
    assert text in output.read_text(encoding="utf-8")
    assert "<script" not in output.read_text(encoding="utf-8")


def test_every_kind_has_a_command_and_is_tried_here():
    kinds = {kind.name for kind in FIGURES}
    assert set(main.commands["plot"].commands) == kinds
    # Figures by layer need a run that has them; filters have a test of their own.
    assert {arguments[0] for arguments, *_ in COMMANDS} == kinds - {"layers", "filters"}


@pytest.mark.parametrize("ending", ["png", "PDF"])
def test_the_ending_says_the_format_and_a_file_that_is_there_is_kept(made, tmp_path, ending):
    output = tmp_path / f"f.{ending}"
    output.write_text("mine")
    result = plot("confusion", made / "svm", "-o", output)
    assert (result.exit_code, "--overwrite" in result.stderr) == (1, True)
    assert output.read_text() == "mine"
    assert plot("confusion", made / "svm", "-o", output, "--overwrite").exit_code == 0
    assert output.read_bytes().startswith({"png": b"\x89PNG", "PDF": b"%PDF"}[ending])


def test_filters_of_the_packaged_weights(made, tmp_path):
    pytest.importorskip("onnx")
    result = plot("filters", made.parent / "s.h5", "--scale", "shared", "-o", tmp_path / "filters.png")
    assert result.exit_code == 0, result.output
    assert filters.SCALES["shared"] in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["confusion", "svm", "-o", "f.jpg"], r"f\.jpg: ends in '\.jpg'; expected \.png, .*: give another --output"),
        (["confusion", "svm", "-o", "nowhere/f.png"], "the folder nowhere doesn't exist"),
        (["confusion", "none", "-o", "f.png"], r"none.run\.json: no such run"),
        (["classes", "svm", "-o", "f.png"], "svm: a folder, not a store"),
        (["classes", "../s.h5", "--split", "label", "-o", "f.png"], "expected train, .* Name another with --split"),
        (["covariance", "../s.h5", "--layer", "conv9", "-o", "f.png"], "no layer 'conv9' in this store"),
        (["covariance", "../s.h5", "--classes", "oak", "-o", "f.png"], "--classes: no class 'oak'; expected a range"),
        (["top-images", "../s.h5", "--channel", "9", "-o", "f.png"], "--channel: .*block5_conv3 has no channel 9"),
        (["top-images", "../s.h5", "--channel", "1", "--root", "no", "-o", "f.png"], "No such file.* with --root"),
    ],
)
def test_what_can_not_be_drawn_is_one_line_and_no_file(made, monkeypatch, arguments, message):
    monkeypatch.chdir(made)
    result = plot(*arguments)
    assert result.exit_code == 1
    assert re.fullmatch(rf"featx: .*{message}.*\n", result.stderr), result.stderr
    assert not (made / "f.png").exists()


def test_a_missing_library_is_named_before_any_work(made, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = plot("confusion", made / "none", "-o", tmp_path / "f.png")
    assert result.exit_code == 1
    assert "pip install 'featx[report]'" in result.stderr


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom featx.cli import main\n"
        "try:\n    main(['plot', 'roc', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(f'loaded: {heavy}' if (heavy := {'matplotlib', 'numpy', 'pandas'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_choices_are_the_librarys():
    commands = main.commands["plot"].commands
    options = {name: {option.name: option for option in commands[name].params} for name in commands}
    assert tuple(options["covariance"]["kind"].type.choices) == maps.KINDS
    assert tuple(options["covariance"]["features"].type.choices) == store_figures.FEATURES
    assert tuple(options["embedding"]["method"].type.choices) == maps.METHODS
    assert tuple(options["filters"]["scale"].type.choices) == tuple(filters.SCALES)
