"""Repairing stores: damaged rows are extracted again, and nothing else changes."""

import hashlib
import json
import shutil

import h5py
import numpy as np
import pytest
from damaged_stores import chunk_at, flip, invoke, seal, swap
from samples import make_image

import featx
from featx import FeatxError
from featx.store import PartialStore, read_history
from featx.store.file import attributes_sha256, read_attributes
from featx.store.writer import DeferredErrorFile


@pytest.fixture(autouse=True)
def probed(monkeypatch):
    """Leave the probe out: HDF5 can read these files, and each probe takes a process."""
    monkeypatch.setattr("featx.extract.verify.probe", lambda path: None)


def read(path):
    with featx.open(path) as opened:
        return opened.matrix(), opened.images, opened.rejected, opened.attributes


def attributes_but_provenance(attributes):
    made = ("repaired", "history", "attributes_sha256", "device", "engine_version", "keras_version")
    return {name: value for name, value in attributes.items() if name not in made}


@pytest.fixture
def images(chunked, tmp_path):
    return shutil.copytree(chunked.parent / "images", tmp_path / "images")


@pytest.fixture
def damaged(store):
    """Rows 4 to 7 are damaged in one layer."""
    flip(store, chunk_at(store, "features/block1_conv2", 1) + 7)
    return store


def test_nothing_wrong_changes_nothing(store):
    before = (store.read_bytes(), store.stat())
    done = featx.repair_store(store, sample=3)
    assert (done.is_changed, done.n_images, done.n_repaired) == (False, 12, 0)
    assert (store.read_bytes(), store.stat().st_ino) == (before[0], before[1].st_ino)
    assert store.stat().st_mtime_ns == before[1].st_mtime_ns
    assert [path.name for path in store.parent.iterdir()] == ["store.h5"]
    result = invoke("repair", store)
    assert (result.exit_code, result.stdout) == (0, f"{store}: nothing is wrong, and nothing was changed\n")


def test_damaged_rows_are_made_again_and_others_stay(damaged, chunked):
    result = invoke("repair", damaged)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{damaged}: 12 images; 4 extracted again, 0 dropped\n"
    X, table, rejected, attributes = read(damaged)
    expected, *others, before = read(chunked)
    assert table.equals(others[0])
    assert rejected.equals(others[1])
    assert np.array_equal(np.delete(X, range(4, 8), axis=0), np.delete(expected, range(4, 8), axis=0))
    assert np.linalg.norm(X - expected) <= 1e-6 * np.linalg.norm(expected)
    assert attributes_but_provenance(attributes) == attributes_but_provenance(before)
    assert json.loads(attributes["repaired"]).items() >= {"rows": 4, "dropped": 0}.items()
    assert [run["n_computed"] for run in read_history(attributes)][-1] == 4
    assert featx.verify_store(damaged, sample=12).ok
    assert [path.name for path in damaged.parent.iterdir()] == ["store.h5"]


@pytest.mark.parametrize("how", ["gone", "other width", "digest"])
def test_a_layer_that_is_no_more_is_made_again(store, chunked, how):
    with h5py.File(store, "a") as file:
        if how == "digest":
            swap(file, "features/block1_conv1", 0, 3)
        else:
            del file["features/block1_conv1"]
        if how == "other width":
            file["features/block1_conv1"] = np.zeros((11, 3), "<f4")
        file.attrs["mine"] = [1.5, 2.5]
    with h5py.File(store, "a") as file:
        file.attrs["attributes_sha256"] = attributes_sha256(read_attributes(file, store))
    done = featx.repair_store(store)
    assert (done.n_images, done.n_repaired) == (12, 12)
    assert np.linalg.norm(read(store)[0] - read(chunked)[0]) <= 1e-6 * np.linalg.norm(read(chunked)[0])
    assert read(store)[3]["mine"] == [1.5, 2.5]


def test_rows_that_a_sample_finds_are_made_again(store, chunked):
    with h5py.File(store, "a") as file:
        for layer in file["features"]:
            swap(file, f"features/{layer}", 2, 9)
    seal(store)
    done = featx.repair_store(store, sample=12)
    assert done.n_repaired == 2
    assert np.allclose(read(store)[0], read(chunked)[0], rtol=1e-5)


def test_images_that_are_gone_or_others_are_refused_or_dropped(damaged, images, chunked):
    make_image(images / "ash" / "005.png", 99)
    (images / "birch" / "001.png").unlink()
    before = damaged.read_bytes()
    with pytest.raises(
        FeatxError, match=r"2 damaged rows can't be made again; the first, .*005\.png: .*or `drop` these"
    ):
        featx.repair_store(damaged, root=images)
    assert damaged.read_bytes() == before
    result = invoke("repair", damaged, "--root", images, "--drop", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) | {"n_repaired": 2, "n_dropped": 2, "n_images": 10} == json.loads(result.stdout)
    X, table, rejected, _ = read(chunked)
    now, kept, lost, attributes = read(damaged)
    places = [row for row in range(12) if table["path"][row] not in ("ash/005.png", "birch/001.png")]
    assert kept.equals(table.iloc[places].reset_index(drop=True))
    assert lost["path"].tolist() == [*rejected["path"], "ash/005.png", "birch/001.png"]
    assert lost["reason"].tolist()[1] == "features damaged, and its image is another file now (SHA-256)"
    assert lost["reason"].tolist()[2].startswith("features damaged, and its image cannot be opened: No such file")
    assert np.array_equal(now[[0, 1, 2, 3, 6, 7, 8, 9]], X[[0, 1, 2, 3, 8, 9, 10, 11]])
    assert json.loads(attributes["repaired"])["dropped"] == 2
    assert featx.verify_store(damaged).ok


def test_no_row_would_be_left(store, tmp_path):
    with h5py.File(store, "a") as file:
        del file["features/block1_conv1"]
    with pytest.raises(FeatxError, match="no row would be left of 12"):
        featx.repair_store(store, root=tmp_path, drop=True)


def test_rows_with_a_damaged_digest_are_extracted_again(store, images, chunked):
    with h5py.File(store, "a") as file:
        file["images/sha256"][3] = b"?" * 64
    assert featx.repair_store(store, root=images).n_repaired == 1
    assert read(store)[1].equals(read(chunked)[1])
    assert np.allclose(read(store)[0], read(chunked)[0], rtol=1e-5)
    flip(store, chunk_at(store, "images/sha256", 0) + 9)
    changed = make_image(images / "ash" / "003.png", 99)
    assert featx.repair_store(store, root=images).n_repaired == 12
    assert read(store)[1]["sha256"][3] == hashlib.sha256(changed.read_bytes()).hexdigest()
    assert featx.verify_store(store, sample=12, root=images).ok


def test_a_digest_of_the_column_alone_needs_no_network(store, chunked, monkeypatch):
    with h5py.File(store, "a") as file:
        del file["images/sha256"].attrs["sha256"]
    monkeypatch.setattr("featx.extract.repair.build_reextractor", None)
    done = featx.repair_store(store)
    assert (done.is_changed, done.n_repaired) == (True, 0)
    assert np.array_equal(read(store)[0], read(chunked)[0])
    assert featx.verify_store(store).ok


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: swap(file, "images/label", 0, 11), "/images/label: rows 0 to 11: its content is not what"),
        (lambda file: swap(file, "images/path", 0, 11), "/images/path: "),
        (lambda file: file.attrs.__setitem__("root", "elsewhere"), "/: the attributes are not what was written"),
        (lambda file: file.attrs.__setitem__("image_size", 64), "/: the settings are not those"),
    ],
)
def test_what_can_not_be_made_again_is_refused(store, damage, message):
    with h5py.File(store, "a") as file:
        damage(file)
    before = store.read_bytes()
    # Verifying, one is not sent here.
    assert "not all of which featx repair can fix: restore a copy, or extract" in invoke("verify", store).stderr
    result = invoke("repair", store)
    assert result.exit_code == 1
    assert "can't be repaired: " in result.stderr
    assert message in result.stderr
    assert "restore a copy of the store, or extract it from scratch" in result.stderr
    assert store.read_bytes() == before


def test_other_weights_are_refused(damaged):
    with pytest.raises(FeatxError, match="weights 'random:3': not those that made the features of"):
        featx.repair_store(damaged, weights="random:3")
    assert not featx.verify_store(damaged).ok


def test_a_store_that_is_being_written_is_left_alone(damaged):
    with PartialStore(damaged).lock(), pytest.raises(FeatxError, match="another featx is writing this store"):
        featx.repair_store(damaged)


def test_a_repair_that_is_interrupted_leaves_the_store_as_it_was(damaged, monkeypatch):
    before = damaged.read_bytes()

    def interrupt(*arguments, **options):
        yield from ()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featx.inference.pipeline.compute_parts", interrupt)
        assert invoke("repair", damaged).exit_code == 130
    with monkeypatch.context() as patch:
        patch.setattr(DeferredErrorFile, "error", OSError(28, "No space left on device"), raising=False)
        patch.setattr(
            DeferredErrorFile, "__init__", lambda self, path: super(DeferredErrorFile, self).__init__(path, "w+")
        )
        result = invoke("repair", damaged)
    assert result.exit_code == 1
    assert "writing failed (No space left on device). Nothing was changed" in result.stderr
    assert damaged.read_bytes() == before
    assert [path.name for path in damaged.parent.iterdir()] == ["store.h5"]


def test_an_unfinished_store_is_left_to_its_extraction(unfinished):
    result = invoke("repair", unfinished.store_path)
    assert result.exit_code == 1
    assert "store.h5.parts exists, so run the extraction again to finish it" in result.stderr


def test_no_store_is_left_without_a_folder(tmp_path):
    (tmp_path / "text.h5").write_text("words")
    for name, message in (("text.h5", "not an HDF5 file"), ("no.h5", "no such store")):
        result = invoke("repair", tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.h5"]
