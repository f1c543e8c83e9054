"""`featx run --cluster`: the same study as by one process, and recipes that differ in nothing else go together."""

from types import SimpleNamespace

import dask
import numpy as np
import pytest
from samples import make_tree, small_recipe
from stub_network import stand_in

import featx
from featx.cluster import open_cluster
from featx.experiment import stages as experiment_work
from featx.results import read_repeats

pytestmark = pytest.mark.cluster

TEXT = """
source: {path: images}
split: {shares: [0.6, 0.2, 0.2]}
stores:
  plain: {layers: "block1_conv1,block1_conv2", weights: random, image_size: 32, batch_size: 4}
finetunes:
  one: {store: plain, recipe: small.yaml}
  two: {store: plain, recipe: other.yaml}
  seeded: {store: plain, recipe: small.yaml, seed: 1}
fits:
  rf: {store: plain, model: rf, grid: {n_estimators: [5, 10]}}
  again: {store: plain, model: svm, grid: {C: [0.1, 1], kernel: [linear]}, repeats: 2, cv: 2}
report: false
"""


@pytest.fixture
def path(tmp_path):
    make_tree(tmp_path / "images", {"ash": 12, "birch": 10, "cedar": 8})
    small_recipe(tmp_path / "small.yaml")
    small_recipe(tmp_path / "other.yaml", name="other")
    (tmp_path / "experiment.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "experiment.yaml"


@pytest.fixture
def cluster():
    with dask.config.set({"distributed.worker.preload": ["stub_worker"]}), open_cluster("local:2") as cluster:
        yield cluster


@pytest.fixture
def stub():
    patches = stand_in()
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


def test_a_study_on_a_cluster_is_that_of_one_process(path, stub, cluster, monkeypatch):
    calls = []

    def train(store, recipes, tuning, **options):
        """Stand in for training, which tests of featx.finetune.sweep do on clusters."""
        calls.append(([run.name for run in recipes], tuning.seed, options["cluster"]))
        for run in recipes:
            run.mkdir(parents=True)
        return {run: SimpleNamespace(name=run.name) for run in recipes}

    monkeypatch.setattr(experiment_work, "fine_tune_all", train)
    plain = experiment_work.format_test
    monkeypatch.setattr(
        *(experiment_work, "format_test"), lambda run: f"test of {run.name}" if hasattr(run, "name") else plain(run)
    )
    # Of two that go together, one was begun before.
    begun = path.parent / "output/runs/two.training"
    begun.mkdir(parents=True)
    (begun / "training.json").write_text("{}", encoding="utf-8")
    lines = []
    done = featx.run_experiment(featx.read_experiment(path), cluster=cluster, echo=lines.append)
    assert calls == [(["one", "two"], 0, cluster), (["seeded"], 1, cluster)]
    assert {stage.key: (stage.was, stage.summary) for stage in done.stages if stage.key.startswith("finetunes")} == {
        "finetunes.one": ("missing", "test of one"),
        "finetunes.two": ("unfinished", "test of two"),
        "finetunes.seeded": ("missing", "test of seeded"),
    }
    assert "finetunes.one: starts" in lines
    assert "finetunes.two: resumes" in lines

    changes = {"output": "alone", "finetunes": {}}
    featx.run_experiment(featx.read_experiment(path, changes=changes))
    shared, alone = (path.parent / name for name in ("output", "alone"))
    with featx.open(shared / "stores/plain.h5") as one, featx.open(alone / "stores/plain.h5") as other:
        assert np.array_equal(one.matrix(), other.matrix())
        assert one.images.equals(other.images)
    assert featx.read_run(shared / "runs/rf").test == featx.read_run(alone / "runs/rf").test
    one, other = (read_repeats(folder / "runs/again") for folder in (shared, alone))
    assert [repeat.test for repeat in one.repeats] == [repeat.test for repeat in other.repeats]

    again = featx.run_experiment(featx.read_experiment(path, changes={"finetunes": {}}), cluster=cluster)
    assert {stage.was for stage in again.stages} == {"exists"}
