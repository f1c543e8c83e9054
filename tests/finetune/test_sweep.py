"""Several recipes in one call: a run each, and one that fails leaves the others."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from samples import small_recipe

from featx import FeatxError
from featx.errors import StoppedError, TakenError
from featx.finetune import TuneOptions, fine_tune, fine_tune_all, name_runs
from featx.finetune.sweep import Request, digest_run, tune, tune_on
from featx.results import read_run


def test_runs_are_named_by_their_recipes(tmp_path):
    assert name_runs(["mame-i"], tmp_path / "run") == {tmp_path / "run": "mame-i"}
    assert name_runs(["mame-i", "own/b5.yaml"], tmp_path) == {
        tmp_path / "mame-i": "mame-i",
        tmp_path / "b5": "own/b5.yaml",
    }
    with pytest.raises(FeatxError, match=r"^recipe: own/b5\.yaml and b5 have the same name, b5, .*leave one out"):
        name_runs(["own/b5.yaml", "b5"], tmp_path)


def test_a_recipe_that_fails_leaves_the_others(tuned_store, tmp_path):
    bad = small_recipe(tmp_path / "bad.yaml", name="bad", backbones=("resnet50",))
    good = small_recipe(tmp_path / "good.yaml", name="good")
    runs = name_runs([str(bad), str(good)], tmp_path / "runs")
    lines, options = [], {"changes": {"epochs": 1}}
    with pytest.raises(FeatxError, match=r"runs/bad: .*resnet50.* \(1 of 2 recipes are done and kept\)$"):
        fine_tune_all(tuned_store, runs, echo=lines.append, **options)
    assert [line for line in lines if line.endswith(": training")] == [f"{path}: training" for path in runs]
    assert read_run(tmp_path / "runs" / "good").baseline["recipe"]["name"] == "good"
    # What is there stays, and only where nothing differs.
    lines.clear()
    with pytest.raises(FeatxError, match="resnet50"):
        fine_tune_all(tuned_store, runs, echo=lines.append, **options)
    assert f"{tmp_path / 'runs' / 'good'}: exists" in lines
    with pytest.raises(FeatxError, match=r"runs/bad: .*\(0 of 2 recipes are done"):
        fine_tune_all(tuned_store, runs, TuneOptions(seed=1), **options)
    # A recipe that can't be read: nothing is trained.
    with pytest.raises(FeatxError, match="no such file"):
        fine_tune_all(tuned_store, {tmp_path / "x": str(good), tmp_path / "y": "nowhere.yaml"}, **options)
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def trained(tuned_store, tmp_path_factory):
    """A recipe and its run."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = small_recipe(folder / "a.yaml")
    fine_tune(tuned_store, recipe, folder / "a", changes={"epochs": 1})
    return recipe, folder / "a"


class Trainings:
    """Stand in for training: a copy of a run, of another time."""

    def __init__(self, source, ends=()):
        self.source, self.ends, self.made = source, dict(ends), []

    def __call__(self, store_path, recipe, output, *, overwrite=False, **options):
        if output.exists() and not overwrite:
            raise FeatxError(f"{output}: exists")
        if (error := self.ends.get(output.name)) is not None:
            raise error
        shutil.copytree(self.source, output, dirs_exist_ok=True)
        record = json.loads((output / "run.json").read_text())
        self.made.append(output.name)
        (output / "run.json").write_text(json.dumps(record | {"created": f"{len(self.made)} {self.made}"}))
        return read_run(output)


def test_overwriting_several_goes_on_where_it_was_stopped(tuned_store, trained, tmp_path, monkeypatch):
    recipe, source = trained
    runs = {tmp_path / name: recipe for name in "abc"}
    for path in list(runs)[:2]:
        shutil.copytree(source, path)
    options = {"changes": {"epochs": 1}, "overwrite": True}

    def train(**ends):
        trainings, lines = Trainings(source, ends), []
        monkeypatch.setattr("featx.finetune.tune.fine_tune", trainings)
        try:
            fine_tune_all(tuned_store, runs, echo=lines.append, **options)
        except FeatxError as error:
            lines.append(str(error))
        return trainings.made, lines

    assert train(c=StoppedError("stopped"))[0] == ["a", "b"]
    made, lines = train(c=FeatxError("too little memory"))
    assert made == []
    assert lines[:2] == [f"{tmp_path / name}: exists" for name in "ab"]
    assert "2 of 3 recipes are done" in lines[-1]
    # Of another protocol they are made anew.
    options["options"] = TuneOptions(seed=1)
    assert train(c=StoppedError("stopped"))[0] == ["a", "b"]
    del options["options"]
    assert train()[0] == ["c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    # That one is over.
    assert train()[0] == ["a", "b", "c"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_task_is_done_once(tuned_store, trained, tmp_path, monkeypatch, overwrite):
    recipe, source = trained
    path = tmp_path / "run"
    if overwrite:
        shutil.copytree(source, path)
    trainings = Trainings(source)

    def by_another(*arguments, **options):
        trainings(*arguments, **options)
        raise TakenError("another featx trains this run")

    monkeypatch.setattr("featx.finetune.tune.fine_tune", by_another)
    monkeypatch.setattr("featx.cluster.worker._LOOK_SECONDS", 0)
    request = Request({"epochs": 1}, TuneOptions(), overwrite)
    run = tune(tuned_store, recipe, path, request, digest_run(path), echo=list)
    assert trainings.made == ["run"]
    assert run == read_run(path)
    # What was there before, and is not to be replaced, is no task's work.
    monkeypatch.setattr("featx.finetune.tune.fine_tune", trainings)
    with pytest.raises(FeatxError, match="exists"):
        tune(tuned_store, recipe, path, replace(request, overwrite=False), digest_run(path), echo=list)


def test_workers_are_told_where_files_are(tuned_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.weights.h5").touch()
    (tmp_path / "photos").mkdir()
    sent = []

    def run(function, tasks, *, paths):
        sent.append((tasks, paths))
        return []

    def tasks_of(**options):
        request = Request(None, TuneOptions(**options), False)
        assert list(tune_on(SimpleNamespace(run=run), tuned_store, {tmp_path / "a": "mame-i"}, request)) == []
        return sent.pop()

    for weights, expected in (("own.weights.h5", str(tmp_path / "own.weights.h5")), ("random", "random")):
        tasks, paths = tasks_of(weights=weights, root="photos", seed=3)
        assert tasks[0][1][3].options == TuneOptions(weights=expected, root=str(tmp_path / "photos"), seed=3)
        assert tmp_path / "photos" in paths
        assert (tmp_path / "own.weights.h5" in paths) == (weights != "random")
    # A folder that doesn't exist here either is not about workers.
    assert tmp_path / "photoz" not in tasks_of(root="photoz")[1]
