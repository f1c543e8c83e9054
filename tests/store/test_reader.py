"""The store's contract, as its readers see it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from samples import SMALL, make_tree

import featx
from featx import FeatxError

DATA = Path(__file__).parents[1] / "data"


def test_plain_h5py_reads_the_same(small_store):
    with h5py.File(small_store) as file:
        X = file["features/block5_conv3"][:]
        y = file["images/label"].asstr()[:]
        splits = file["images/split"].asstr()[:]
    with featx.open(small_store) as store:
        assert np.array_equal(X, store.matrix(layers=["block5_conv3"]))
        assert y.tolist() == store.images["label"].tolist()
        assert splits.tolist() == store.images["split"].tolist()


def test_the_file_is_laid_out_as_promised(small_store):
    with h5py.File(small_store) as file:
        assert set(file) == {"features", "images", "rejected"}
        assert set(file.attrs) >= {
            *("featx_format", "featx_version", "backbone", "weights", "weights_sha256", "layers", "pooling"),
            *("image_size", "resize", "interpolation", "preprocessing", "precision", "keras_backend"),
            *("keras_version", "created", "settings_sha256", "root"),
        }
        assert file.attrs["featx_format"] == 1
        for layer, dataset in file["features"].items():
            assert dataset.dtype == np.dtype("<f4"), layer
            assert dataset.fletcher32
            assert dataset.chunks[1] == dataset.shape[1]
            assert dataset.chunks[0] * dataset.shape[1] * 4 <= 2**20
        for name in ("path", "label", "split", "sha256"):
            assert h5py.check_string_dtype(file["images"][name].dtype).encoding == "utf-8"
        # Only filters that every HDF5 library has.
        kinds = {dataset.compression for dataset in file["images"].values()}
        assert kinds <= {"gzip", None}


@pytest.mark.parametrize(
    ("told", "expected"), [(41.5, 41.5), (None, None), (0.0, None), (np.nan, None), (np.inf, None), ("fast", None)]
)
def test_a_speed_is_told_or_not(tmp_path, told, expected):
    path = tmp_path / "s.h5"
    path.write_bytes((DATA / "store_v1.h5").read_bytes())
    with h5py.File(path, "a") as file:
        del file.attrs["images_per_second"]
        if told is not None:
            file.attrs["images_per_second"] = told
    with featx.open(path) as store:
        assert store.images_per_second == expected


def test_matrix_frame_and_names_agree(small_store):
    with featx.open(small_store) as store:
        assert store.layers[0] == "block1_conv1"
        assert store.layers[-2:] == ["fc1", "fc2"]
        whole = store.matrix()
        assert whole.shape == (30, 12416)
        assert whole.dtype == np.float32
        assert whole.flags.c_contiguous
        assert len(store.feature_names) == 12416
        assert store.feature_names[64] == "block1_conv2/0"
        frame = store.frame(layers=["block1_conv2"], split="test")
        assert frame.columns.tolist()[:2] == [("block1_conv2", 0), ("block1_conv2", 1)]
        in_test = (store.images["split"] == "test").to_numpy()
        assert np.array_equal(frame.to_numpy(), whole[in_test, 64:128])
        assert frame.index.tolist() == store.images["path"][in_test].tolist()
        swapped = store.matrix(layers=["block2_conv1", "block1_conv1"])
        assert np.array_equal(swapped[:, 128:], whole[:, :64])
        assert sum(len(store.matrix(["fc2"], split=name)) for name in ("train", "validation", "test")) == 30


def test_rows_are_read_in_blocks(small_store, monkeypatch):
    with featx.open(small_store) as store:
        whole = store.matrix(["block1_conv1"])
        monkeypatch.setattr(h5py.Dataset, "chunks", property(lambda self: (1, self.shape[1])))
        assert np.array_equal(store.matrix(["block1_conv1"]), whole)


@pytest.mark.parametrize(("layers", "split"), [(None, None), (["fc1", "block1_conv1"], None), (["fc2"], "test")])
def test_blocks_are_the_matrix_in_parts(small_store, layers, split):
    with featx.open(small_store) as store:
        whole = store.matrix(layers, split)
        for n_rows in (1, 7, 30, 1000):
            blocks = list(store.blocks(layers, split, n_bytes=n_rows * whole.shape[1] * 4))
            assert np.array_equal(np.concatenate(blocks), whole)
            assert all(0 < len(block) <= n_rows and block.dtype == np.float32 for block in blocks)
        assert len(next(store.blocks(layers, split, n_bytes=1))) == 1
        assert store.rows_of("test").tolist() == np.flatnonzero(store.images["split"] == "test").tolist()
        with pytest.raises(FeatxError, match="no layer 'block9'"):
            next(store.blocks(["block9"]))


def test_a_store_without_splits_says_how_to_get_some(tmp_path):
    images = make_tree(tmp_path / "images", {"ash": 3, "birch": 3})
    manifest, path = featx.read_source(images), tmp_path / "s.h5"
    featx.extract_features(manifest, path, layers="block1_conv1", **SMALL)
    with featx.open(path) as store, pytest.raises(FeatxError, match=r"none has a split: .* with --split makes some"):
        store.matrix(split="test")
    done = featx.extract_features(featx.make_splits(manifest, (0.6, 0.4)), path, layers="block1_conv1", **SMALL)
    assert done.n_computed == 0
    with featx.open(path) as store:
        assert len(store.matrix(split="test")) == sum(store.images["split"] == "test") > 0


def test_unknown_layers_and_splits_are_answered_with_those_there(small_store):
    with featx.open(small_store) as store:
        with pytest.raises(FeatxError, match=r"no layer 'block9'.*it has block1_conv1"):
            store.matrix(layers=["block9"])
        with pytest.raises(FeatxError, match=r"layers 'fc1': expected a list of names, such as \['fc1'\]"):
            store.matrix(layers="fc1")
        with pytest.raises(FeatxError, match="in the split 'dev'; there are 'test', 'train', 'validation'"):
            store.matrix(split="dev")


def test_any_number_of_readers(small_store):
    with featx.open(small_store) as one, featx.open(small_store) as two:
        assert np.array_equal(one.matrix(["fc1"]), two.matrix(["fc1"]))


def test_files_that_are_no_store(tmp_path, small_store):
    with pytest.raises(FeatxError, match="no such store"):
        featx.open(tmp_path / "nothing.h5")
    (tmp_path / "nothing.h5.parts").mkdir()
    with pytest.raises(FeatxError, match="run the extraction again to finish it"):
        featx.open(tmp_path / "nothing.h5")
    with pytest.raises(FeatxError, match="a folder, not a store"):
        featx.open(tmp_path)
    (tmp_path / "text.h5").write_text("words")
    with pytest.raises(FeatxError, match="not an HDF5 file"):
        featx.open(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FeatxError, match="no featx store"):
        featx.open(tmp_path / "other.h5")


@pytest.mark.parametrize("share", [0.001, 0.2, 0.9])
def test_a_truncated_store_is_refused(tmp_path, small_store, share):
    data = small_store.read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FeatxError, match=r"cut\.h5: .*(cut or damaged|not an HDF5)"):
        featx.open(tmp_path / "cut.h5")


def test_a_store_of_a_newer_format_is_refused(tmp_path, small_store):
    path = shutil.copy(small_store, tmp_path / "newer.h5")
    with h5py.File(path, "a") as file:
        file.attrs["featx_format"] = 2
    with pytest.raises(FeatxError, match=r"a store of format 2, and this featx .* reads up to 1"):
        featx.open(path)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("images/label", np.arange(30), r"/images/label is int64 \(30,\)"),
        ("features/fc1", np.zeros((30, 2, 2), "<f4"), r"/features/fc1 is float32 \(30, 2, 2\)"),
        ("features/fc1", np.zeros((29, 2), "<f4"), r"/features/fc1 has 29 rows, /images/path 30"),
    ],
)
def test_stores_with_parts_of_other_kinds_are_refused(tmp_path, small_store, name, values, message):
    path = shutil.copy(small_store, tmp_path / "other.h5")
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = values
    with pytest.raises(FeatxError, match=message):
        featx.open(path)
    with h5py.File(path, "a") as file:
        file.attrs["featx_format"] = "abc"
    with pytest.raises(FeatxError, match="featx_format is 'abc'"):
        featx.open(path)


def test_a_store_with_a_part_missing_is_refused(tmp_path, small_store):
    path = shutil.copy(small_store, tmp_path / "less.h5")
    with h5py.File(path, "a") as file:
        del file["features/fc1"]
    with pytest.raises(FeatxError, match="part missing"):
        featx.open(path)


def test_a_damaged_chunk_is_named(tmp_path, small_store):
    path = shutil.copy(small_store, tmp_path / "damaged.h5")
    with h5py.File(path) as file:
        offset = file["features/fc2"].id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(offset + 100)
        byte = file.read(1)
        file.seek(offset + 100)
        file.write(bytes([byte[0] ^ 1]))
    with featx.open(path) as store:
        assert store.matrix(["fc1"]).shape == (30, 4096)
        with pytest.raises(FeatxError, match="/features/fc2 is damaged"):
            store.matrix(["fc2"])


def test_a_store_of_version_1_is_read():
    """The file was written by featx 0.1.0: three classes, block1 with random weights, one rejected file."""
    with featx.open(DATA / "store_v1.h5") as store:
        assert store.layers == ["block1_conv1", "block1_conv2"]
        assert store.matrix().shape == (6, 128)
        assert store.images["label"].tolist() == ["ash", "ash", "birch", "birch", "cedar", "cedar"]
        assert store.images["year"].tolist() == [1620, 1621, 1622, 1623, 1624, 1625]
        assert store.rejected["reason"].tolist() == ["empty file"]
        assert store.matrix(["block1_conv1"])[0, :3] == pytest.approx(np.load(DATA / "store_v1_first.npy"))


def test_a_reader_of_stores_needs_no_network_library(small_store):
    script = (
        "import sys, featx; store = featx.open(sys.argv[1]); store.matrix(); "
        "print([name for name in ('keras', 'tensorflow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, small_store], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_images_hold_numbers_and_text(tmp_path, tree):
    table = featx.read_source(tree).table.assign(year=1600.5, n=3, artist="Zoë")
    path = tmp_path / "s.h5"
    manifest = featx.Manifest(table, tree)
    featx.extract_features(manifest, path, layers="block1_conv1", weights="random", image_size=32)
    with featx.open(path) as store:
        images = store.images
    assert images.columns.tolist() == ["path", "label", "split", "sha256", "year", "n", "artist"]
    assert images["artist"].tolist() == ["Zoë"] * 30
    assert pd.api.types.is_float_dtype(images["year"])
    assert images["n"].dtype == np.float64


def test_a_store_that_points_into_other_files_is_refused(tmp_path, small_store):
    path = shutil.copy(small_store, tmp_path / "link.h5")
    with h5py.File(path, "a") as file:
        del file["features/fc1"]
        file["features/fc1"] = h5py.ExternalLink(str(small_store), "/features/fc1")
    with pytest.raises(FeatxError, match="/features/fc1 points into another file"):
        featx.open(path)
    path = shutil.copy(small_store, tmp_path / "raw.h5")
    with h5py.File(path, "a") as file:
        del file["features/fc1"]
        file["features"].create_dataset("fc1", (30, 4096), "<f4", external=[(__file__, 0, 30 * 4096 * 4)])
    with pytest.raises(FeatxError, match="/features/fc1 points into another file"):
        featx.open(path)


def test_a_store_that_claims_more_than_it_holds_is_refused(tmp_path, small_store):
    path = shutil.copy(small_store, tmp_path / "claims.h5")
    with h5py.File(path, "a") as file:
        del file["features/fc1"]
        file["features"].create_dataset("fc1", (30, 10**9), "<f4", chunks=(1, 1024))
    with pytest.raises(FeatxError, match=r"only 0 bytes of it are stored"):
        featx.open(path)


def test_digests_are_of_the_content(small_store):
    with h5py.File(small_store) as file:
        for name in ("features/fc1", "images/path", "images/sha256"):
            content = file[name][:].tobytes()
            assert file[name].attrs["sha256"] == hashlib.sha256(content).hexdigest()
        others = {name: value for name, value in file.attrs.items() if name != "attributes_sha256"}
        text = json.dumps(others, sort_keys=True, default=lambda value: value.item())
        assert file.attrs["attributes_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert json.loads(file.attrs["columns"]) == dict.fromkeys(("path", "label", "split", "sha256"), "text")


def test_a_lock_on_the_file_keeps_no_reader_out(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = shutil.copy(DATA / "store_v1.h5", tmp_path / "s.h5")
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with featx.open(path) as store:
            assert store.matrix().shape == (6, 128)


def test_h5py_may_have_the_file_open_too(tmp_path):
    path = shutil.copy(DATA / "store_v1.h5", tmp_path / "s.h5")
    with h5py.File(path), featx.open(path) as store, h5py.File(path) as file:
        assert np.array_equal(store.matrix(["block1_conv1"]), file["features/block1_conv1"][:])


TEXT = h5py.string_dtype("utf-8", 5)


def replace(name, *arguments, **options):
    def change(file):
        if name in file:
            del file[name]
        file.create_dataset(name, *arguments, **options)

    return change


def set_attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


def many_rows(file):
    """10^9 equal rows, of which nothing is stored, in every table and layer."""
    for name in ("features/block1_conv1", "features/block1_conv2"):
        replace(name, (10**9, 64), "<f4", chunks=(512, 64))(file)
    for name in ("path", "label", "split", "sha256", "year"):
        replace(f"images/{name}", (10**9,), TEXT, chunks=(4096,), compression="gzip")(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("images/note", (6,), h5py.ref_dtype), r"/images/note is object \(6,\)"),
        (replace("images/note", (6,), [("a", "<i4"), ("b", "<f4")]), r"/images/note is \[\('a', '<i4'\)"),
        (replace("images/label", (6,), h5py.string_dtype()), r"/images/label is object \(6,\)"),
        (replace("images/note", (6, 2), "<i4"), r"/images/note is int32 \(6, 2\)"),
        (replace("features/block1_conv1", (6, 64), "<c8"), r"/features/block1_conv1 is complex64"),
        (replace("features/block1_conv1", (6, 0), "<f4"), r"/features/block1_conv1 is float32 \(6, 0\)"),
        (many_rows, r"only 0 bytes of it are stored"),
        (set_attribute("layers", "fc1"), "layers is no JSON"),
        (set_attribute("layers", "[" * 100_000), "layers is no JSON|attributes are damaged"),
        (set_attribute("layers", json.dumps({"fc1": 1})), "layers is no JSON list of different names"),
        (set_attribute("layers", json.dumps([])), "layers is no JSON list of different names"),
        (set_attribute("layers", json.dumps(["block1_conv1", 5])), "layers is no JSON list of different names"),
        (set_attribute("layers", json.dumps(["block1_conv1"] * 2)), "layers is no JSON list of different names"),
        (set_attribute("layers", json.dumps(["/images/year"])), "part missing: /features//images/year"),
        (set_attribute("layers", 5), "layers is no JSON"),
        (set_attribute("featx_format", np.nan), "featx_format is .*nan"),
    ],
)
def test_what_a_stranger_may_have_made_is_refused(tmp_path, change, message):
    path = tmp_path / "s.h5"
    path.write_bytes((DATA / "store_v1.h5").read_bytes())
    with h5py.File(path, "a") as file:
        try:
            change(file)
        except RuntimeError:
            pytest.skip("this HDF5 doesn't write such a thing")
    with pytest.raises(FeatxError, match=message):
        featx.open(path)


def test_links_within_the_file_are_refused(tmp_path):
    path = Path(shutil.copy(DATA / "store_v1.h5", tmp_path / "s.h5"))
    with h5py.File(path, "a") as file:
        file["features/other"] = h5py.SoftLink("/features/block1_conv2")
        file.attrs["layers"] = json.dumps(["block1_conv1", "other"])
    with pytest.raises(FeatxError, match="/features/other points into another file"):
        featx.open(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_an_open_store_is_read_by_forked_processes_at_once():
    script = (
        "import os, sys, featx, numpy as np\n"
        "store = featx.open(sys.argv[1])\n"
        "expected, wrong, children = store.matrix(), 0, []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    children.append(pid)\n"
        "    if pid == 0:\n"
        "        children = []\n"
        "        break\n"
        "for _ in range(300):\n"
        "    wrong += not np.array_equal(store.matrix(), expected)\n"
        "if not children:\n"
        "    os._exit(bool(wrong))\n"
        "sys.exit(wrong + sum(os.waitpid(pid, 0)[1] for pid in children))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, DATA / "store_v1.h5"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
