"""`featx finetune` as a user types it."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from click.testing import CliRunner
from samples import run_featx, small_recipe

from featx.cli import main
from featx.networks.recipes import Stage
from featx.networks.recipes.schema import AveragePool, Dense


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    return small_recipe(path, head=(AveragePool(), Dense(4)), stages=(Stage("head", epochs=3, batch_size=8),))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))


def invoke(*arguments):
    return CliRunner().invoke(main, ["finetune", *map(str, arguments)])


def test_help_shows_what_is_taken_by_default():
    text = re.sub(r"\s+", " ", invoke("--help").stdout)
    for default in (
        "[default: results/RECIPE-TIME]",
        "[default: where they were extracted from]",
        "[default: label]",
        "[default: split]",
        "[default: auto]",
        "[default: 20.0; x>0]",
        "[default: 0; 0<=x<=4294967295]",
        "[default: the recipe's]",
    ):
        assert default in text, default


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nfrom featx.cli import main\n"
        "try:\n    main(['finetune', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(f'loaded: {heavy}' if (heavy := {'keras', 'numpy', 'pydantic'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def test_a_table_for_people_in_a_process_of_its_own(tuned_store, recipe, tmp_path):
    """Standard output has the result alone; what is said meanwhile goes to standard error."""
    output = tmp_path / "run"
    arguments = ("--recipe", recipe, "-o", output, "--set", "head.epochs=2", "--set", "batch_size=5", "--no-cache")
    done = run_featx("finetune", tuned_store, *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "validation" in lines[0]
    assert lines[-1] == (
        f"{output}: run.json, cells.csv, curves.csv, predictions.csv, per_class.csv, confusion.csv, recipe.yaml, "
        "network.weights.h5"
    )
    assert any(line.startswith("test") for line in lines)
    assert len(lines) < 10
    assert "stage head: 2 epochs" in done.stderr
    # Neither TensorFlow nor Keras has anything to say.
    said = [line for line in done.stderr.splitlines() if not line.startswith("stage head")]
    assert said == []
    assert len(pd.read_csv(output / "curves.csv")) == 2
    assert not list((tmp_path / "cache").glob("activations/*"))


def test_json_and_changes(tuned_store, recipe, tmp_path):
    changes = ("--set", "epochs=1", "--from-layer", "block2_pool", "--precision", "mixed_bfloat16", "--compile")
    output = tmp_path / "run"
    done = invoke(tuned_store, "--recipe", recipe, "-o", output, *changes, "--json", "--where", "weight > 0.5")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["output"] == str(output)
    used = record["baseline"]["recipe"]
    chosen = {name: used[name] for name in ("from_layer", "precision", "compile")}
    assert chosen == {"from_layer": "block2_pool", "precision": "mixed_bfloat16", "compile": True}
    assert used["stages"][0]["epochs"] == 1
    assert record["protocol"]["where"] == "weight > 0.5"
    assert record["test"]["accuracy"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "solarr"], r"no such file, and no recipe of that name .*solar"),
        (["--recipe", "solar", "--set", "epochs"], r"change 'epochs': expected KEY=VALUE"),
        (["--recipe", "solar", "--set", "epochs=0"], r"epochs.*1 or more"),
        (["--recipe", "solar", "--set", "epocs=1"], r"no setting 'epocs' .*epochs"),
        (["--recipe", "solar", "--set", "tail.epochs=1"], r"no stage 'tail'"),
        (["--recipe", "solar", "--split-column", "unjudged"], "no validation rows"),
        (["--recipe", "solar", "--no-cache", "--keep-cache"], "--no-cache: leaves nothing to keep: leave it or --keep"),
        (["--recipe", "solar", "--compile", "--set", "compile=true"], "--set: --compile says compile too: leave one"),
        (["--recipe", "solar", "--cache-limit", "1e-12"], r"more than the cache may .*--cache-limit of 0\.0"),
        (
            ["--recipe", "flowers-5"],
            r"recipe 'flowers-5': its backbones are resnet50, and the store's is vgg16\.",
        ),
        (["--recipe", "solar", "--root", "nowhere"], r"no such file \(30 of 30 .*--root"),
    ],
)
def test_one_line_for_what_can_be_mended(arguments, message, tuned_store, tmp_path):
    done = invoke(tuned_store, *arguments, "-o", tmp_path / "run")
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert re.match(f"featx: .*{message}", done.stderr), done.stderr
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize(
    "arguments", [[], ["--recipe", "solar", "--cache-limit", "0"], ["--recipe", "solar", "--seed", "-1"]]
)
def test_what_can_not_be_meant(arguments, tuned_store):
    assert invoke(tuned_store, *arguments).exit_code == 2


def test_a_folder_that_is_taken(tuned_store, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("")
    for more, message in (([], "Give another --output, or --overwrite"), (["--overwrite"], "contains 'mine.txt'")):
        done = invoke(tuned_store, "--recipe", "solar", "-o", tmp_path / "run", *more)
        assert done.exit_code == 1
        assert message in done.stderr
    assert [path.name for path in tmp_path.glob("run*")] == ["run"]
