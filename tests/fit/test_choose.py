"""Choosing among runs on the same random splits: by train rows alone, and of the same rows only."""

import hashlib
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import write_overlapping_store
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx import FeatxError
from featx.cli import main
from featx.results import read_repeats, repeats_table

OPTIONS = {"n_repeats": 5, "cv": 3, "grid": {"kernel": ("linear",), "C": (0.01, 1.0)}, "stratify": ("label", "type")}
OPTIONS |= {"choose_by": "roc_auc"}
LAYERS = {"shallow": "block1", "deep": "block2", "rbf": "block2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on two layer sets, and with another classifier, of two classes that overlap."""
    folder = tmp_path_factory.mktemp("among")
    write_overlapping_store(folder / "s.h5")
    for name, layers in LAYERS.items():
        options = {**OPTIONS, "grid": {"kernel": ("rbf",), "C": (1.0, 10.0)}} if name == "rbf" else OPTIONS
        featx.fit_repeats(folder / "s.h5", "svm", folder / name, layers=layers, **options)
    return folder


def change(source, target, edit):
    """Copy a run with another record."""
    target.mkdir(parents=True)
    record = json.loads((source / "repeats.json").read_text())
    edit(record)
    (target / "repeats.json").write_text(json.dumps(record))
    return target


def test_each_split_takes_what_a_grid_search_over_all_features_takes(folder, tmp_path):
    run = featx.choose_among([folder / "shallow", folder / "deep"], tmp_path / "chosen")
    with featx.open(folder / "s.h5") as store:
        y, kinds = store.images["label"].to_numpy().astype(str), store.images["type"]
        features = {
            name: store.matrix([layer for layer in store.layers if layer.startswith(LAYERS[name])]) for name in LAYERS
        }
    n_decided = 0
    for repeat in run.repeats:
        train, test = train_test_split(np.arange(100), test_size=0.2, random_state=repeat.seed, stratify=y + kinds)
        searches = {}
        for name in ("shallow", "deep"):
            folds = StratifiedKFold(3, shuffle=True, random_state=repeat.seed)
            pipeline = make_pipeline(StandardScaler(), SVC(kernel="linear"))
            searches[name] = GridSearchCV(pipeline, {"svc__C": [0.01, 1.0]}, cv=folds, scoring="roc_auc").fit(
                features[name][train], y[train]
            )
        scores = {name: search.best_score_ for name, search in searches.items()}
        assert repeat.validation_score == pytest.approx(max(scores.values()))
        if abs(scores["shallow"] - scores["deep"]) > 1e-9:
            n_decided += 1
            assert repeat.run == max(scores, key=scores.get)
            assert repeat.test["accuracy"] == searches[repeat.run].best_estimator_.score(
                features[repeat.run][test], y[test]
            )
    assert n_decided >= 3
    assert {repeat.run for repeat in run.repeats} == {"shallow", "deep"}
    assert run.mean["accuracy"] == pytest.approx(np.mean([repeat.test["accuracy"] for repeat in run.repeats]))


def test_the_record_says_what_was_chosen_among(folder, tmp_path):
    names = ["shallow", "deep", "rbf"]
    runs = {name: read_repeats(folder / name) for name in names}
    run = featx.choose_among([folder / name for name in names], tmp_path / "chosen")
    assert read_repeats(tmp_path / "chosen") == run
    for number, repeat in enumerate(run.repeats):
        chosen = runs[repeat.run].repeats[number]
        assert (repeat.params, repeat.test, repeat.seed) == (chosen.params, chosen.test, chosen.seed)
        assert repeat.seconds == pytest.approx(sum(other.repeats[number].seconds for other in runs.values()))
    among = run.protocol["among"]
    assert [entry["run"] for entry in among] == names
    assert sum(entry["n_chosen"] for entry in among) == 5
    digest = hashlib.sha256((folder / "deep" / "repeats.json").read_bytes()).hexdigest()
    assert (among[1]["sha256"], among[1]["n_features"]) == (digest, runs["deep"].store["n_features"])
    assert "layers" not in run.store
    assert run.store["path"] == str(folder / "s.h5")
    assert run.rows_sha256 == runs["deep"].rows_sha256
    assert pd.read_csv(tmp_path / "chosen" / "repeats.csv")["run"].tolist() == [repeat.run for repeat in run.repeats]
    assert "run" not in repeats_table(runs["deep"])
    # What was chosen can be chosen among again.
    again = featx.choose_among([tmp_path / "chosen", folder / "shallow"], tmp_path / "again")
    assert {repeat.run for repeat in again.repeats} == {"chosen"}


@pytest.mark.parametrize(("choose_by", "best"), [("accuracy", "shallow"), ("log_loss", "deep")])
def test_the_first_of_equals_and_the_least_loss(folder, tmp_path, choose_by, best):
    def score(value):
        def edit(record):
            record["protocol"]["choose_by"] = choose_by
            for repeat in record["repeats"]:
                repeat["validation_score"] = value

        return edit

    paths = [change(folder / "shallow", tmp_path / "shallow", score(0.75))]
    paths += [change(folder / "deep", tmp_path / "deep", score(0.75 if choose_by == "accuracy" else 0.5))]
    run = featx.choose_among(paths, tmp_path / "chosen")
    assert {repeat.run for repeat in run.repeats} == {best}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, r"repeats\.json: seed is 1, and 0 in .*shallow"),
        ({"n_repeats": 2}, r"n_repeats is 2, and 5 in .*shallow; .* Fit it again with the same `n_repeats`$"),
        ({"train_per_class": 12}, "train_per_class is 12, .* Fit it again without `train_per_class`$"),
        ({"stratify": ("label",)}, r"stratify is \['label'\]"),
        ({"where": 'type == "poly"'}, "where is 'type == \"poly\"', and None in .*shallow; .* without `where`$"),
        ({"grid": {"kernel": ("linear",), "C": (1.0,)}}, "seed 0 has no score on inner folds: one cell"),
    ],
)
def test_what_differs_is_named(folder, tmp_path, options, message):
    featx.fit_repeats(folder / "s.h5", "svm", tmp_path / "other", **{**OPTIONS, **options}, layers="block1_conv1")
    with pytest.raises(FeatxError, match=message):
        featx.choose_among([folder / "shallow", tmp_path / "other"], tmp_path / "chosen")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_class_weights_and_the_stores_own_splits_may_differ(folder, tmp_path):
    write_overlapping_store(tmp_path / "s.h5", splits=["train", "test"] * 50)
    options = OPTIONS | {"class_weight": "balanced", "layers": "block1_conv2"}
    featx.fit_repeats(tmp_path / "s.h5", "svm", tmp_path / "other", **options)
    run = featx.choose_among([folder / "shallow", tmp_path / "other"], tmp_path / "chosen")
    assert "class_weight" not in run.protocol
    assert "path" not in run.store


@pytest.mark.parametrize("column", ["label", "type", "path"])
def test_other_rows_are_refused(folder, tmp_path, column):
    path = write_overlapping_store(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        values = file["images"][column][:]
        first, other = (0, int(np.flatnonzero(values != values[0])[0]))
        values[[first, other]] = values[[other, first]]
        file["images"][column][:] = values
    featx.fit_repeats(path, "svm", tmp_path / "other", **OPTIONS)
    with pytest.raises(FeatxError, match=r"its splits are of other rows than those of .*shallow"):
        featx.choose_among([folder / "shallow", tmp_path / "other"], tmp_path / "chosen")


def test_records_without_a_digest_are_refused(folder, tmp_path):
    old = change(folder / "deep", tmp_path / "old", lambda record: record.pop("rows_sha256"))
    with pytest.raises(FeatxError, match="of other rows"):
        featx.choose_among([folder / "shallow", old], tmp_path / "chosen")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; expected a folder that featx fit --repeats or featx choose has written"),
        ("{", "not a record of random splits"),
        ('{"featx_repeats": 2}', "a run of format 2; this featx reads up to 1"),
        ('{"featx_repeats": 1, "protocol": 3}', "not a record of random splits"),
        ('{"featx_repeats": 1, "protocol": {}, "repeats": [], "notes": []}', "not a record of random splits"),
    ],
)
def test_what_is_no_record_is_said(folder, tmp_path, content, message):
    (tmp_path / "bad").mkdir()
    if content is not None:
        (tmp_path / "bad" / "repeats.json").write_text(content)
    with pytest.raises(FeatxError, match=message):
        featx.choose_among([folder / "shallow", tmp_path / "bad"], tmp_path / "chosen")


def test_fewer_than_two_runs_are_refused(folder, tmp_path):
    with pytest.raises(FeatxError, match="expected two runs or more, found 1"):
        featx.choose_among([folder / "deep"], tmp_path / "chosen")
    for again in (folder / "deep", folder / "rbf" / ".." / "deep"):
        with pytest.raises(FeatxError, match="this run is given twice"):
            featx.choose_among([folder / "deep", again], tmp_path / "chosen")
    with pytest.raises(FeatxError, match="is one of the runs"):
        featx.choose_among([folder / "deep", folder / "rbf"], folder / "deep", overwrite=True)


def test_the_command_says_which_run_each_split_chose(folder, tmp_path):
    runs = [str(folder / "shallow"), str(folder / "deep")]
    done = CliRunner().invoke(main, ["choose", *runs, "-o", str(tmp_path / "chosen")])
    assert done.exit_code == 0, done.output
    run = read_repeats(tmp_path / "chosen")
    counts = [sum(repeat.run == name for repeat in run.repeats) for name in ("shallow", "deep")]
    assert f"chosen: shallow {counts[0]}, deep {counts[1]} of 5 splits" in done.output
    refused = CliRunner().invoke(main, ["choose", *runs, "-o", str(tmp_path / "chosen")])
    assert (refused.exit_code, "exists. Give another --output" in refused.output) == (1, True)
    again = CliRunner().invoke(main, ["choose", *runs, "-o", str(tmp_path / "chosen"), "--overwrite", "--json"])
    assert json.loads(again.output)["mean"] == run.mean
