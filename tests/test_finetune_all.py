"""Several recipes in one call: a run each, and one that fails leaves the others."""

import pytest
from conftest import small_recipe

from featx import FeatxError
from featx.finetune_all import fine_tune_all, name_runs
from featx.results import read_run


def test_runs_are_named_by_their_recipes(tmp_path):
    assert name_runs(["mame-i"], tmp_path / "run") == {tmp_path / "run": "mame-i"}
    assert name_runs(["mame-i", "own/b5.yaml"], tmp_path) == {
        tmp_path / "mame-i": "mame-i",
        tmp_path / "b5": "own/b5.yaml",
    }
    with pytest.raises(FeatxError, match="--recipe b5: given twice"):
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
    assert f"{tmp_path / 'runs' / 'good'}: there already" in lines
    with pytest.raises(FeatxError, match=r"runs/bad: .*\(0 of 2 recipes are done"):
        fine_tune_all(tuned_store, runs, seed=1, **options)
    # A recipe that can't be read: nothing is trained.
    with pytest.raises(FeatxError, match="no such file"):
        fine_tune_all(tuned_store, {tmp_path / "x": str(good), tmp_path / "y": "nowhere.yaml"}, **options)
    assert not (tmp_path / "x").exists()
