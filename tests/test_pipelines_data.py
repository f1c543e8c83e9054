"""The experiments in pipelines/ whose data can't be fetched: read, and run on small generated data in their layouts."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import small_datasets
from click.testing import CliRunner
from conftest import small_recipe

import featx
from featx.cli import main
from featx.experiment import read_experiment
from featx.recipes import AveragePool, Stage

PIPELINES = Path(__file__).parents[1] / "pipelines"
GENERATED = ("activities", "caltech256", "flowers", "mame", "scenes")

# What every README says, below these headings.
SECTIONS = ("What it follows", "Data", "Run it", "Time and disk", "What it gave")

# So small that a test has time for it: random weights, small images, few cells, one epoch.
SMALL = (
    *("stores.*.weights=random", "stores.*.image_size=32", "stores.*.engine=keras", "stores.*.batch_size=16"),
    *("fits.*.grid.n_estimators=[3]", "fits.*.grid.min_samples_leaf=[2]", "fits.*.grid.kernel=[linear]"),
    *("fits.*.grid.C=[0.1]", "finetunes.*.set.epochs=1", "finetunes.*.set.batch_size=16"),
)


def set_up(name, folder):
    """Copy a pipeline, and generate its data where it expects them."""
    shutil.copytree(PIPELINES / name, folder / name, ignore=shutil.ignore_patterns("data", "output"))
    made = getattr(small_datasets, f"make_{name}")(folder / name / "data")
    if name == "activities":
        make_csv(folder / name, made)
    return folder / name


def make_csv(folder, annotations, *arguments):
    command = [sys.executable, folder / "make_csv.py", annotations, "-o", folder / "data" / "activities.csv", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def run(folder, *changes):
    """Run a pipeline's experiment, cut down."""
    options = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    done = CliRunner().invoke(main, ["run", str(folder / "experiment.yaml"), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "output"


def names_of(experiment, section):
    return set(getattr(experiment, section))


def runs_of(output):
    """Return the records of all runs, by name."""
    records = {}
    for path in sorted((output / "runs").glob("*/*.json")):
        if path.name in ("run.json", "repeats.json"):
            records[path.parent.name] = json.loads(path.read_text(encoding="utf-8"))
    return records
