"""The experiments in pipelines/ run, on small generated data in their own layout."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from samples import SMALL, make_tree, small_recipe

import featx
from featx.fit import read_strata
from featx.fit.splits import draw_holdout
from featx.networks.recipes import Stage
from featx.results import read_repeats
from featx.store import read_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elpv_folder(tmp_path_factory):
    """A store with the columns that the experiment reads, of generated images."""
    folder = tmp_path_factory.mktemp("elpv")
    table = featx.read_source(make_tree(folder / "images", {"defective": 64, "functional": 64})).table
    n = np.arange(128)
    table["probability"] = np.where(
        table["label"] == "defective", np.array([2 / 3, 1.0])[n % 2], np.array([0, 1 / 3])[n % 2]
    )
    table["type"] = np.where(n % 4 < 2, "mono", "poly")
    table["weight"] = np.where(table["probability"].isin([0, 1]), 1.0, 0.33)
    featx.extract_features(featx.Manifest(table, folder / "images"), folder / "elpv.h5", layers="block1", **SMALL)
    return folder


def run_elpv(*arguments):
    """Run run.py in this process, which has loaded all that it needs."""
    script = ROOT / "pipelines" / "elpv" / "run.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize(
    ("protocol", "head", "choose_by"),
    [("binary", "ROC AUC", "roc_auc"), ("four-classes", "mono, accuracy %", "accuracy")],
)
def test_elpv_runs_both_protocols(elpv_folder, protocol, head, choose_by, capsys):
    run_elpv(protocol, "-o", elpv_folder, "--repeats", 2, "--small")
    table = (elpv_folder / f"{protocol}.md").read_text(encoding="utf-8")
    assert head in table
    assert table.count("featx, ") == 2
    assert "published: fine-tuned VGG19" in table
    assert table in capsys.readouterr().out
    records = [json.loads(path.read_text()) for path in elpv_folder.glob(f"{protocol}-*/repeats.json")]
    assert {record["protocol"]["choose_by"] for record in records} == {choose_by}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "svm,knn"], "expected svm or rf, found 'knn'"),
        (["--repeats", "0"], "expected a whole number from 1 up, found '0'"),
        (
            ["--images", "100"],
            "run.py: {store}: is there with 128 images, not 100: leave --images out, or give another",
        ),
    ],
)
def test_elpv_s_options_that_can_not_be_meant_are_refused_in_a_line(elpv_folder, options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run_elpv("binary", "-o", elpv_folder, *options)
    # argparse has its own line, and exits by a number.
    line = capsys.readouterr().err.splitlines()[-1] if caught.value.code == 2 else caught.value.code
    assert message.format(store=elpv_folder / "elpv.h5") in line


def test_elpv_fine_tunes_on_the_splits_of_the_binary_protocol(elpv_folder, capsys):
    stages = (Stage("head", epochs=1, batch_size=16),)
    recipe = small_recipe(elpv_folder / "small.yaml", from_layer="block1_pool", stages=stages)
    run_elpv("fine-tuned", "-o", elpv_folder, "--repeats", 1, "--small", "--recipe", recipe)
    assert f"featx, fine-tuned VGG16 ({recipe})" in capsys.readouterr().out
    network = pd.read_csv(elpv_folder / "fine-tuned-0" / "predictions.csv")
    with featx.open(elpv_folder / "elpv.h5") as store:
        table = store.images
        rows, _ = read_rows(store, [], needs_split=False)
        strata = read_strata(store, rows, ("label", "type"), "label")
    _, test = draw_holdout(rows, strata, 0.25, 0)
    assert network["path"].tolist() == rows.paths[np.sort(test)].tolist()
    assert set(table["split_0"]) == {"train", "validation", "test"}
    assert (table["weight_0"][table["split_0"] != "train"] == 1).all()
    svm = json.loads((elpv_folder / "fine-tuned-svm" / "repeats.json").read_text())
    assert [repeat["n_test"] for repeat in svm["repeats"]] == [len(test)]


# Of each choice two fits, and none of the store of eight views, which takes longest. Poly is as mono.
LEFT_OUT = ("plain-deep", "plain-mean-std", "rotated")
ALL_OF_POLY = ("plain-mean", "plain", "mirrored")


def test_elpv_s_study_runs_from_its_file(tmp_path):
    changes = {"output": str(tmp_path), "source.n_images": 120, "stores.*.image_size": 32, "stores.*.weights": "random"}
    kinds = ("mono", "poly", "binary")
    changes |= {"stores.rotated": None}
    changes |= {f"fits.{kind}-{name}": None for kind in kinds for name in LEFT_OUT}
    changes |= {f"choices.{kind}-of-five": None for kind in kinds}
    changes |= {f"choices.{kind}.among": [f"{kind}-plain", f"{kind}-mirrored"] for kind in ("mono", "binary")}
    changes |= {"choices.poly": None, **{f"fits.poly-{name}": None for name in ALL_OF_POLY}}
    changes |= {"fits.*.repeats": 1, "fits.*.cv": 2, "fits.*.grid.kernel": ["linear"], "fits.*.grid.C": [0.001, 1.0]}
    experiment = featx.read_experiment(ROOT / "pipelines" / "elpv" / "experiment.yaml", changes=changes)
    run = featx.run_experiment(experiment)
    assert {stage.was for stage in run.stages} == {"missing"}
    with featx.open(tmp_path / "stores" / "mirrored.h5") as store:
        assert sum(store.n_channels.values()) == 12_672
        assert store.attributes["views"] == "flip"
        assert set(store.images["weight"]) == {0.33, 0.67, 1.0}
    for name, n_classes, choose_by in (("mono", 4, "accuracy"), ("binary", 2, "roc_auc")):
        chosen = read_repeats(tmp_path / "runs" / name)
        assert len(chosen.protocol["classes"]) == n_classes
        assert chosen.protocol["choose_by"] == choose_by
        fits = {entry["run"]: read_repeats(tmp_path / "runs" / entry["run"]) for entry in chosen.protocol["among"]}
        assert f"{name}-plain-mean" not in fits
        for number, repeat in enumerate(chosen.repeats):
            scores = {fit: run.repeats[number].validation_score for fit, run in fits.items()}
            assert repeat.validation_score == max(scores.values()) == scores[repeat.run]
    binary = read_repeats(tmp_path / "runs" / "binary")
    assert (binary.repeats[0].n_train, binary.repeats[0].n_test) == (90, 30)
    assert binary.repeats[0].test_weighted is not None
    with featx.open(tmp_path / "stores" / "plain.h5") as store:
        n_mono = int((store.images["type"] == "mono").sum())
    mono = read_repeats(tmp_path / "runs" / "mono-plain-mean")
    assert mono.repeats[0].n_train + mono.repeats[0].n_test == n_mono
    assert mono.store["n_features"] == 4224


@pytest.mark.parametrize(
    ("options", "expected"), [(None, "--split 0.6,0.2,0.2"), ("", ""), ("--layers fc", "--layers fc")]
)
def test_batch_jobs_are_given_the_options_that_are_asked_for_and_none_where_none_is(tmp_path, options, expected):
    """Images that are divided already are refused with --split."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/submitted\necho 1\n')
    sbatch.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SOURCE": "photos", "STORE": "s.h5"}
    environment |= {} if options is None else {"EXTRACT_OPTIONS": options, "FIT_OPTIONS": options}
    script = ROOT / "pipelines" / "slurm" / "submit.sh"
    subprocess.run(["bash", script], env=environment, check=True, capture_output=True, cwd=tmp_path)  # noqa: S607
    extract, _, cells, _ = (tmp_path / "submitted").read_text().splitlines()
    assert extract.partition("extract-array.sh ")[2] == f"photos -o s.h5 {expected}".rstrip()
    fit = "--discretize both" if options is None else options
    assert cells.partition("fit-array.sh ")[2] == f"svm s.h5 -o results/svm {fit}".rstrip()
