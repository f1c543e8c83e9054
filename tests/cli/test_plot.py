"""`featx plot` as a user types it: a run's folder or a store in, one figure out."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sample_parts import SETTINGS, part_of
from scipy.stats import binomtest

import featx
from featx import FeatxError
from featx.cli import main
from featx.report.figures import read_accuracies, read_confusion, read_curves, read_grid, read_scores
from featx.results import Cell, Run, write_run
from featx.store import write_store

N_ROWS = 90
N_CHANNELS = {"block1_conv1": 6, "block1_conv2": 4}
CLASSES = ["<script>", "$oil$", "tempera"]


def make_store(path, seed=0):
    """Write a store of three classes that overlap; the features are made of the labels, not by a network."""
    rng = np.random.default_rng(seed)
    y = np.arange(N_ROWS) % 3
    X = rng.normal(size=(N_ROWS, 10)) + 1.5 * (y[:, None] == np.arange(10) % 3)
    table = pd.DataFrame(
        {
            "path": [f"{row:03d}.png" for row in range(N_ROWS)],
            "label": np.array(CLASSES, dtype=object)[y],
            "split": [("train", "train", "train", "validation", "test")[row // 3 % 5] for row in range(N_ROWS)],
            "medium": ["wood" if row % 2 else "canvas" for row in range(N_ROWS)],
            "weight": rng.choice([0.2, 1.0, 3.0], N_ROWS),
        }
    )
    features = {"block1_conv1": X[:, :6].astype(np.float32), "block1_conv2": X[:, 6:].astype(np.float32)}
    write_store(
        path,
        settings=SETTINGS,
        table=table,
        root=Path("images"),
        parts=[replace(part_of(0, N_ROWS), features=features)],
        n_channels=N_CHANNELS,
        provenance={"keras_version": "3"},
    )
    return path


def write_tuned(folder, *, keep=True):
    """Write what fine-tuning leaves, with these answers."""
    rng = np.random.default_rng(0)
    probabilities = np.round(rng.dirichlet(np.ones(3), 18), 4)
    predicted = np.array(CLASSES, dtype=object)[probabilities.argmax(axis=1)]
    # The store's test rows.
    paths = [f"{row:03d}.png" for row in range(N_ROWS) if row // 3 % 5 == 4]
    answers = pd.DataFrame({"path": paths, "label": CLASSES * 6, "predicted": predicted})
    if keep:
        answers = answers.assign(**{f"probability_{n}": p for n, p in zip(CLASSES, probabilities.T, strict=True)})
    curves = pd.DataFrame(
        {
            "stage": ["head", "head", "block5"],
            "epoch": [1, 2, 1],
            "loss": [0.9, 0.6, 0.5],
            "accuracy": [0.4, 0.6, 0.7],
            "val_loss": [0.9, 0.6, 0.5],
            "val_accuracy": [0.4, 0.6, 0.7],
            "learning_rate": [1e-3, 1e-3, 1e-5],
            "seconds": 1.0,
        }
    )
    run = Run(
        model="finetune",
        store={"path": "s.h5", "backbone": "vgg16"},
        protocol={"n_test": 18, "classes": CLASSES},
        cells=(Cell("none", {"stage": "head"}, 0.6, None, 1.0), Cell("none", {"stage": "block5"}, 0.7, None, 1.0)),
        chosen=1,
        test={"accuracy": 0.5, "accuracy_interval": [0.3, 0.7], "majority_class_rate": 1 / 3},
        refit_seconds=0.0,
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )
    empty = pd.DataFrame()
    write_run(
        folder,
        run,
        predictions=answers,
        per_class=empty,
        confusion=empty,
        add_files=lambda path: curves.to_csv(path / "curves.csv", index=False),
    )
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store, runs of a forest (a grid, figures by layer), an SVM and a fine-tuned network."""
    folder = tmp_path_factory.mktemp("plots")
    store = make_store(folder / "store.h5")
    forest = {"n_estimators": (3, 5), "min_samples_leaf": (1, 4, 9)}
    featx.fit_grid(store, "rf", folder / "rf", grid=forest, each_layer=True, importance=2)
    featx.fit_grid(store, "svm", folder / "svm", grid={"kernel": ("linear",), "C": (1.0,)})
    write_tuned(folder / "tuned")
    return folder


def plot(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


def texts_of(path):
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


NAMED = {"&lt;script&gt;", "$oil$", "tempera"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            ["accuracies", "rf", "svm", "tuned"],
            {"rf", "svm", "fine-tuned network", "always the majority class"},
        ),
        (["confusion", "rf"], NAMED | {"true class", "predicted class", "images"}),
        (["confusion", "tuned", "--shares"], NAMED | {"share of the true class"}),
        (["reliability", "rf"], {"probability of the predicted class"}),
        (["reliability", "tuned"], {"probability of the predicted class"}),
        (["roc", "svm"], {"by chance, AUC 0.500"}),
        (["roc", "tuned"], {"by chance, AUC 0.500"}),
        (["grid", "rf"], {"n_estimators", "min_samples_leaf", "validation accuracy", "chosen cell"}),
        (["layers", "rf"], {"block1_conv1", "block1_conv2", "this layer alone", "layer, in network order"}),
        (["curves", "tuned"], {"head", "block5", "loss", "accuracy", "learning rate"}),
        (["classes", "store.h5"], NAMED | {"train, 54 images", "test, 18 images"}),
        (["classes", "store.h5", "--label", "medium"], {"wood", "canvas"}),
    ],
)
def test_every_figure(made, tmp_path, monkeypatch, arguments, shown):
    monkeypatch.chdir(made)
    result = plot(*arguments, "-o", tmp_path / "f.svg")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'f.svg'}\n"
    assert shown <= set(texts_of(tmp_path / "f.svg"))
    assert "<script" not in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")])
def test_the_ending_says_the_format(made, tmp_path, ending, begins):
    output = tmp_path / f"f.{ending}"
    assert plot("confusion", made / "rf", "-o", output).exit_code == 0
    assert output.read_bytes().startswith(begins)
    again = plot("confusion", made / "rf", "-o", output)
    assert (again.exit_code, "--overwrite" in again.stderr) == (1, True)
    assert plot("confusion", made / "rf", "-o", output, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["confusion", "rf", "-o", "f.jpg"], r"f\.jpg: ends in '\.jpg'; expected \.png, \.svg, \.pdf"),
        (["confusion", "rf", "-o", "nowhere/f.png"], r"the folder nowhere doesn't exist"),
        (["confusion", "none", "-o", "f.png"], r"none/run\.json: no such run"),
        (["classes", "rf", "-o", "f.png"], r"rf: a folder, not a store"),
        (["classes", "store.h5", "--split", "label", "-o", "f.png"], r"expected train, .* Name another with --split"),
        (["classes", "store.h5", "--label", "year", "-o", "f.png"], r"no column 'year' .* label, split"),
        (["reliability", "svm", "-o", "f.png"], r"svm: its model tells no probabilities.* featx plot roc"),
        (["grid", "svm", "-o", "f.png"], r"svm: one cell, so there is no grid"),
        (["grid", "tuned", "-o", "f.png"], r"tuned: a fine-tuned network has stages, no grid: featx plot curves"),
        (["layers", "tuned", "-o", "f.png"], r"tuned: a fine-tuned network has no figures by layer"),
        (["layers", "svm", "-o", "f.png"], r"svm: no figures by layer\. Fit again with --each-layer"),
        (["curves", "rf", "-o", "f.png"], r"rf: a run of rf, which has no training curves"),
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


def test_scores_are_those_that_the_record_was_made_of(made):
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    for name in ("rf", "svm"):
        scores = read_scores(made / name)
        record = json.loads((made / name / "run.json").read_text())["test"]
        told = scores.probabilities if name == "rf" else scores.decision
        predicted = np.array(scores.classes)[told.argmax(axis=1)]
        assert accuracy_score(scores.y, predicted) == record["accuracy"]
        areas = [roc_auc_score(scores.y == c, told[:, place]) for place, c in enumerate(scores.classes)]
        assert np.mean(areas) == pytest.approx(record["roc_auc"])
        if name == "rf":
            loss = log_loss(scores.y, scores.probabilities, labels=scores.classes)
            assert loss == pytest.approx(record["log_loss"])
    assert scores.probabilities is None
    tuned = read_scores(made / "tuned")
    assert tuned.probabilities.shape == (18, 3)
    assert read_confusion(made / "tuned").to_numpy().sum() == 18


@pytest.mark.parametrize(("name", "kind"), [("rf", "probabilities"), ("svm", "decision")])
def test_scores_that_an_older_run_did_not_keep_are_computed_again(made, tmp_path, name, kind):
    older = older_run(made, tmp_path, name)
    kept, computed = getattr(read_scores(made / name), kind), getattr(read_scores(older), kind)
    assert kept.shape == computed.shape
    # Nine digits are kept.
    np.testing.assert_allclose(kept, computed, rtol=1e-8, atol=0)


def test_a_store_that_moved_or_is_another(made, tmp_path):
    older = older_run(made, tmp_path, "rf")
    moved = make_store(tmp_path / "moved.h5")
    expected = read_scores(older).probabilities
    np.testing.assert_array_equal(read_scores(older, store=moved).probabilities, expected)
    with pytest.raises(FeatxError, match=r"gone\.h5: no such store; .*rf was fitted on it\. .*--store"):
        read_scores(older, store=tmp_path / "gone.h5")
    other = make_store(tmp_path / "other.h5", seed=1)
    with pytest.raises(FeatxError, match=r"other\.h5: not the store that .*rf was fitted on: '\d+\.png' is answered"):
        read_scores(older, store=other)


def older_run(made, tmp_path, name):
    """Copy a run without the scores that featx keeps now."""
    return copy_run(made, tmp_path, name, predictions_csv=keep_answers)


def keep_answers(text):
    return pd.read_csv(io.StringIO(text))[["path", "label", "predicted"]].to_csv(index=False)


def copy_run(made, tmp_path, name, **files):
    import shutil

    folder = shutil.copytree(made / name, tmp_path / name)
    for file, change in files.items():
        path = folder / file.replace("_", ".")
        path.write_text(change(path.read_text()))
    return folder


def test_an_older_fine_tuned_run_kept_no_probabilities(tmp_path):
    with pytest.raises(FeatxError, match=r"predictions\.csv: no probabilities; an older featx"):
        read_scores(write_tuned(tmp_path / "old", keep=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("0.6", "soon"), r"curves\.csv: .*soon.*expected numbers in loss"),
        (lambda text: text.replace("val_loss", "lost"), r"curves\.csv: no column 'val_loss'"),
        (lambda text: text.splitlines()[0] + "\n", r"curves\.csv: no epoch"),
    ],
)
def test_curves_that_are_not_as_featx_writes_them(made, tmp_path, change, message):
    with pytest.raises(FeatxError, match=message):
        read_curves(copy_run(made, tmp_path, "tuned", curves_csv=change))


def test_runs_of_other_rows_have_no_majority_in_common(made, tmp_path):
    changed = copy_run(made, tmp_path, "tuned", predictions_csv=lambda text: text.replace("012.png", "other.png"))
    found = read_accuracies([made / "rf", changed])
    assert found.majority is None
    assert found.is_finetuned == [False, True]
    result = plot("accuracies", made / "rf", changed, "-o", tmp_path / "f.svg")
    assert "different test rows" in result.stderr
    assert "always the majority class" not in texts_of(tmp_path / "f.svg")
    assert read_accuracies([made / "rf", made / "tuned"]).majority == pytest.approx(1 / 3)


def test_accuracies_of_a_figure_are_of_one_measure(made, tmp_path):
    """Every row counts the same, whatever the run's own figures are weighted by."""
    featx.fit_grid(made / "store.h5", "rf", tmp_path / "weighted", grid={"n_estimators": (3,)}, sample_weight="weight")
    runs = [tmp_path / "weighted", made / "rf"]
    found = read_accuracies(runs)
    answers = pd.read_csv(tmp_path / "weighted" / "predictions.csv")
    n_right = int((answers["label"] == answers["predicted"]).sum())
    recorded = featx.read_run(tmp_path / "weighted").test
    assert abs(recorded["accuracy"] - n_right / 18) > 0.01
    assert found.accuracies[0] == n_right / 18
    bounds = binomtest(n_right, 18).proportion_ci(method="wilson")
    assert found.intervals[0] == pytest.approx([bounds.low, bounds.high])
    # The weighted run's own rate is of weighted rows.
    assert recorded["majority_class_rate"] != pytest.approx(1 / 3)
    assert found.majority == pytest.approx(1 / 3)
    assert read_accuracies(runs[:1]).majority is None
    (note,) = found.notes
    assert f"run.json is {recorded['accuracy']:.4f}, weighted by weight" in note
    assert note in plot("accuracies", *runs, "-o", tmp_path / "f.svg").stderr


def test_a_run_whose_rates_differ_has_no_line(made, tmp_path):
    changed = copy_run(made, tmp_path, "tuned", run_json=lambda text: text.replace(str(1 / 3), "0.5"))
    found = read_accuracies([made / "rf", changed])
    assert found.majority is None
    assert "differ in what always answering the majority class gets" in found.notes[-1]


@pytest.mark.parametrize("wrong", ['"high"', "1.5", "NaN"])
def test_an_accuracy_that_is_none_is_refused(made, tmp_path, wrong):
    changed = copy_run(
        made, tmp_path, "tuned", run_json=lambda text: text.replace('"accuracy": 0.5', f'"accuracy": {wrong}')
    )
    with pytest.raises(FeatxError, match=r"run\.json: test: expected an accuracy"):
        read_accuracies([changed])


def test_a_grid_is_told_by_what_it_was_chosen_by(made, tmp_path):
    grid = {"n_estimators": (2, 4)}
    featx.fit_grid(made / "store.h5", "rf", tmp_path / "rf", grid=grid, choose_by="log_loss")
    cells, score = read_grid(tmp_path / "rf")
    assert score == "validation log_loss"
    assert len(cells) == 2
    assert plot("grid", tmp_path / "rf", "-o", tmp_path / "f.svg").exit_code == 0
    assert "validation log loss (less is better)" in texts_of(tmp_path / "f.svg")
