"""What a fine-tuning takes is foreseen: to the byte on the disk, before its store is there, and nothing written."""

import logging
import shutil
from dataclasses import replace

import pytest
from samples import make_tree, small_recipe

import featx
from featx import FeatxError
from featx.errors import SourceError
from featx.finetune import StoreToBe, checkpoints, fine_tune, forecast_training, foresee_task, read_task
from featx.finetune import forecast as training_probe
from featx.networks.recipes import Augmentation, Stage, read_recipe

HEADER_BYTES = 128
"""What NumPy writes before the numbers of a file."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own for every test."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    """Three stages: on activations of two views, on the pixels, and on activations of a third layer."""
    stages = (
        Stage("head", epochs=2, batch_size=4, augmentation=Augmentation(flip="horizontal")),
        Stage("turned", epochs=1, batch_size=64, augmentation=Augmentation(rotation=10), class_weight="balanced"),
        Stage("block3", unfreeze=("block3",), epochs=3, batch_size=4, learning_rate=1e-5),
    )
    return small_recipe(tmp_path_factory.mktemp("recipe") / "small.yaml", stages=stages)


def foresee(tuned_store, tree, **columns):
    """The task of the store as its images and settings tell before it is made."""
    settings = read_task(tuned_store).settings
    manifest = featx.read_source(tuned_store.parent / "images.csv", root=tree)
    store = StoreToBe(tuned_store.with_name("other.h5"), manifest.table)
    return foresee_task(store, replace(settings, weights_sha256="", layers=()), root=tree, **columns)


def forecast(task, recipe_path, *, changes=None, cache_limit=10**9, **options):
    recipe = read_recipe(recipe_path, changes=changes)
    return forecast_training(task, recipe, weights="random", engine="keras", cache_limit=cache_limit, **options)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_rows_are_foreseen_as_the_store_will_have_them(tuned_store, tree):
    columns = {"where": "label != 'birch'", "split": "untested", "sample_weight": "weight"}
    known, foreseen = read_task(tuned_store, **columns), foresee(tuned_store, tree, **columns)
    for name in ("y", "split", "paths", "weights"):
        assert getattr(foreseen.rows, name).tolist() == getattr(known.rows, name).tolist()
    assert (foreseen.classes, foreseen.notes) == (known.classes, known.notes)
    assert foreseen.images.paths.tolist() == known.images.paths.tolist()
    assert foreseen.images.root == known.images.root
    with pytest.raises(FeatxError, match=r"other\.h5: no validation rows"):
        foresee(tuned_store, tree, split="unjudged")


@pytest.fixture(scope="module")
def foreseen(tuned_store, tree, recipe_path, tmp_path_factory):
    """What is foreseen before the store is there; beside it, that nothing was written."""
    folder = tmp_path_factory.mktemp("foreseen")
    before = {path: path.stat().st_mtime_ns for path in tuned_store.parent.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATX_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        found = forecast(foresee(tuned_store, tree, sample_weight="weight"), recipe_path)
    is_untouched = before == {path: path.stat().st_mtime_ns for path in tuned_store.parent.iterdir()}
    return found, is_untouched and not list(folder.iterdir())


def test_nothing_is_written(foreseen):
    assert foreseen[1]


def test_figures_agree_with_one_another(foreseen):
    found = foreseen[0]
    assert (found.n_train, found.n_validation, found.n_test) == (20, 5, 5)
    assert (found.n_tried, found.n_rejected) == (30, 0)
    assert [(stage.name, stage.epochs) for stage in found.stages] == [("head", 2), ("turned", 1), ("block3", 3)]
    # What the head's pool gives doesn't change either.
    assert [stage.computed_once for stage in found.stages] == ["head_pool1", "pixels", "block2_pool"]
    epochs = [stage.epochs * stage.seconds_per_epoch for stage in found.stages]
    parts = (found.startup_seconds, found.once_seconds, found.test_seconds, *epochs)
    assert min(parts) > 0
    assert found.seconds == pytest.approx(sum(parts), abs=0.1)
    assert found.disk_bytes == found.cache_bytes + found.training_bytes
    assert 50e6 < found.memory_bytes < 50e9
    assert found.device


def test_the_disk_is_foreseen(foreseen, tuned_store, recipe_path, cache, tmp_path, monkeypatch):
    found, lain = foreseen[0], []
    keep_epoch = checkpoints.StageFolder.keep_epoch

    def look(self):
        lain.append(size_of(self.path.parent))
        keep_epoch(self)

    monkeypatch.setattr(checkpoints.StageFolder, "keep_epoch", look)
    fine_tune(tuned_store, recipe_path, tmp_path / "run", engine="keras", keep_cache=True)
    files = list((cache / "activations").rglob("*.npy"))
    # Two views for the head, pixels, and block2_pool.
    assert len(files) == 4
    assert size_of(cache / "activations") == found.cache_bytes + HEADER_BYTES * len(files)
    # Where the second epoch is no better than the first, there is one best epoch, not two.
    assert 0.7 * found.training_bytes < max(lain) < 1.01 * found.training_bytes
    weights = (tmp_path / "run" / "network.weights.h5").stat().st_size
    assert found.run_bytes <= weights < 1.02 * found.run_bytes


def test_without_a_cache_images_are_read_in_every_epoch(tuned_store, tree, tmp_path, cache):
    recipe = small_recipe(tmp_path / "small.yaml", stages=(Stage("head", epochs=2, batch_size=4),))
    found = forecast(foresee(tuned_store, tree), recipe, cache_limit=0)
    assert [stage.computed_once for stage in found.stages] == ["pixels"]
    assert (found.cache_bytes, found.once_seconds) == (0, 0)
    assert found.disk_bytes == found.training_bytes
    assert found.stages[0].seconds_per_epoch > 0
    assert not cache.exists()


def test_what_the_cache_cannot_take_is_refused_in_the_words_of_the_run(
    tuned_store, recipe_path, cache, tmp_path, monkeypatch
):
    def refuse(**limit):
        with pytest.raises(FeatxError) as foreseen:
            forecast(read_task(tuned_store), recipe_path, **limit)
        assert not cache.exists()
        with pytest.raises(FeatxError) as met:
            fine_tune(tuned_store, recipe_path, tmp_path / "run", engine="keras", **limit)
        shutil.rmtree(cache, ignore_errors=True)
        return str(foreseen.value), str(met.value)

    foreseen, met = refuse(cache_limit=1000)
    assert foreseen == met
    assert "pixels of 30 images take 0.00 GB, more than the cache may (0.00 GB). Give --cache-limit" in met
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**28 + 1000))
    foreseen, met = refuse()
    assert foreseen == met
    assert "and 0.00 GB are left to use at" in met


def test_images_that_cannot_be_read_are_left_out(tuned_store, recipe_path, tmp_path):
    root = make_tree(tmp_path / "images", {"ash": 12, "birch": 10, "cedar": 8})
    (root / "ash" / "000.png").write_bytes(b"no image")
    task = foresee(tuned_store, root)
    sample, n_tried = training_probe.read_sample(task.images)
    assert (len(sample), n_tried) == (29, 30)
    assert "ash/000.png" not in sample.paths
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"none of the 30 images tried could be read; the first, .*: not a JPEG"):
        forecast(task, recipe_path)


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("RESOURCE_EXHAUSTED: allocating 3GiB", FeatxError, r"stage 'head': a batch of 4 images doesn't fit into the"),
        ("shapes differ", RuntimeError, "shapes differ"),
    ],
)
def test_a_batch_that_is_too_large_is_said(text, expected, message, tuned_store, tree, tmp_path, monkeypatch, caplog):
    level = logging.getLogger("tensorflow").level

    def fail(*args, **options):
        logging.getLogger("tensorflow").warning("5 out of the last 24 calls triggered retracing")
        raise RuntimeError(text)

    monkeypatch.setattr("keras.Model.fit", fail)
    recipe = small_recipe(tmp_path / "small.yaml", stages=(Stage("head", batch_size=4),))
    with pytest.raises(expected, match=message):
        forecast(foresee(tuned_store, tree), recipe)
    # Of models that are compiled for a few batches each, TensorFlow warns; that is meant so here, and only here.
    assert not [record for record in caplog.records if "retracing" in record.message]
    assert logging.getLogger("tensorflow").level == level
