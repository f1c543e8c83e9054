"""The plan of an experiment's fine-tunings: figures before anything is there, and the problems that a run has."""

import shutil
from dataclasses import replace

import pytest
from samples import make_tree, small_recipe

import featx
from featx.experiment import describe_plan, plan_experiment, plan_table
from featx.experiment.plan import ExperimentPlan, PlannedStage

TEXT = """
source: {path: images}
split: {shares: [0.6, 0.2, 0.2]}
output: output
stores:
  plain: {layers: block1, weights: random, image_size: 32, batch_size: 4, engine: keras}
  tuned: {weights: "run:net", layers: "all,predictions", batch_size: 4, engine: keras}
finetunes:
  net: {store: plain, recipe: small.yaml, set: {epochs: 2}}
report: false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An experiment of which nothing is there, and a cache that nothing is in."""
    folder = tmp_path_factory.mktemp("foreseen")
    make_tree(folder / "images", {"ash": 12, "birch": 10, "cedar": 8})
    small_recipe(folder / "small.yaml")
    (folder / "experiment.yaml").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def done(folder):
    """The same experiment, of which the store and the fine-tuning are there."""
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-done"))
    featx.run_experiment(featx.read_experiment(copy / "experiment.yaml"), only=["stores.plain", "finetunes"])
    return copy


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plan(folder, changes=None, **options):
    experiment = featx.read_experiment(folder / "experiment.yaml", changes=changes)
    return plan_experiment(experiment, **options)


def plan_net(folder, changes=None, **options):
    stages = {stage.key: stage for stage in plan(folder, changes, **options).stages}
    return stages["finetunes.net"]


@pytest.fixture(scope="module")
def foreseen(folder):
    """The plan before anything is there, and what is there then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATX_CACHE", str(folder / "cache"))
        return plan(folder), sorted(path.name for path in folder.iterdir())


def test_a_first_dry_run_foresees_all_and_writes_nothing(foreseen):
    found, names = foreseen
    assert names == ["experiment.yaml", "images", "small.yaml"]
    assert found.is_possible
    assert not plan_table(found).isin(["?"]).to_numpy().any()
    net = next(stage for stage in found.stages if stage.key == "finetunes.net")
    assert net.what == "small: 2 stages, at most 4 epochs"
    assert min(net.seconds, net.disk_bytes, net.memory_bytes) > 0
    assert net.notes[0] == "at most, by a few batches"
    assert "(head)" in net.notes[1]
    assert net.notes[2].endswith("MB of the disk are the cache's, deleted at the end")
    tuned = next(stage for stage in found.stages if stage.key == "stores.tuned")
    # Convolutions of three blocks, the head's dense layer of 8, and three classes.
    assert "30 images, 1,163 features" in tuned.what


def test_where_store_and_run_are_there_they_tell(foreseen, done):
    first = next(stage for stage in foreseen[0].stages if stage.key == "finetunes.net")
    changes = {"finetunes.net.keep_cache": True, "finetunes.net.set": {"epochs": 100_000}}
    known = plan_net(done, changes, only=["finetunes"], overwrite=True)
    assert known.status == "other"
    assert known.disk_bytes == first.disk_bytes
    # What is computed once stays.
    assert known.passing_bytes < first.passing_bytes
    assert known.notes == ("at most, by the run that is there", known.notes[1])
    assert known.notes[1].endswith("the cache's, kept")
    record = featx.read_run(done / "output/runs/net")
    measured = sum(stage["seconds"] / stage["epochs"] for stage in record.baseline["stages"])
    assert known.seconds == pytest.approx(100_000 * measured, rel=0.01)


def test_what_the_cache_cannot_take_is_a_problem_in_the_words_of_the_run(folder, done):
    changes = {"finetunes.net.cache_limit": 1000, "finetunes.net.seed": 1}
    found = plan(folder, changes, only=["stores.plain", "finetunes"])
    assert not found.is_possible
    assert plan_table(found)["is"].tolist() == ["missing", "can't be done"]
    problem = found.stages[1].problem
    assert (
        "of 30 images take 0.00 GB, more than the cache may (0.00 GB). Give cache_limit: 10000000 or more, or cache_"
        in problem
    )
    assert f"finetunes.net: {problem}" in list(describe_plan(found))
    assert plan_net(done, changes, only=["finetunes"], overwrite=True).problem == problem
    experiment = featx.read_experiment(done / "experiment.yaml", changes=changes)
    with pytest.raises(featx.FeatxError) as met:
        featx.run_experiment(experiment, only=["finetunes"], overwrite=True)
    assert str(met.value) == f"finetunes.net: {problem}"


def test_images_that_are_not_there_are_a_problem(folder, done, tmp_path):
    changes = {"finetunes.net.root": str(tmp_path), "finetunes.net.seed": 1}
    known = plan_net(done, changes, only=["finetunes"], overwrite=True)
    assert "000.png: no such file (30 of 30 images are not there)" in known.problem
    foreseen = plan_net(folder, changes, only=["stores.plain", "finetunes"])
    assert "none of the 30 images tried could be read" in foreseen.problem
    assert (foreseen.seconds, foreseen.disk_bytes) == (None, None)


def test_without_its_store_and_its_images_nothing_is_tried(folder):
    (alone,) = plan(folder, only=["finetunes"]).stages
    assert alone.problem.startswith("needs stores.plain, which is not there")
    assert alone.seconds is None


def test_the_disk_in_all_is_the_most_at_once():
    stages = [
        PlannedStage("stores.a", "a", "missing", disk_bytes=3_000_000, passing_bytes=1_000_000),
        PlannedStage("finetunes.b", "b", "missing", disk_bytes=9_000_000, passing_bytes=8_000_000),
        PlannedStage("finetunes.c", "c", "missing", disk_bytes=5_000_000, passing_bytes=4_000_000),
    ]
    found = ExperimentPlan(None, "output", 30, tuple(stages), 10**9)
    assert "11.0 MB of disk in all" in list(describe_plan(found))
    unknown = replace(found, stages=(*stages, PlannedStage("report", "r", "missing")))
    assert "11.0 MB of disk in all, and 1 stage of which nothing tells" in list(describe_plan(unknown))
