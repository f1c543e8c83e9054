"""Verifying stores: damage of every kind is found, or leaves what is read as it was."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from damaged_stores import chunk_at, flip, invoke, seal, swap
from sample_parts import N_CHANNELS
from samples import SMALL, make_image

import featx
from featx import FeatxError
from featx.store import checks as probe

DATA = Path(__file__).parents[1] / "data"

# Each flip in a file of its own, by one process after another: HDF5 may crash on any of them.
FLIP = """
import random, sys
from pathlib import Path
import numpy as np
import featx
from featx.extract import verify

source, place, first = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
data = source.read_bytes()
rng = random.Random(5)
flips = [(rng.randrange(len(data)), rng.randrange(8)) for _ in range(150)]
verify.probe = lambda path: None

def content(path):
    with featx.open(path) as store:
        return store.matrix(), store.images, store.rejected, store.attributes

def is_same(one, other):
    X, images, rejected, attributes = one
    return (
        np.array_equal(X, other[0]) and images.equals(other[1]) and rejected.equals(other[2])
        and attributes == other[3]
    )

expected = content(source)
for number, (at, bit) in enumerate(flips[first:], first):
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    place.write_bytes(changed)
    print(number, end=" ", flush=True)
    try:
        found = "fine" if verify.verify_store(place).ok else "problem"
    except featx.FeatxError:
        found = "refused"
    if found == "fine" and not is_same(content(place), expected):
        found = f"missed:{at}:{bit}"
    print(found, flush=True)
"""


def test_a_whole_store(store):
    before = store.read_bytes()
    found = featx.verify_store(store, sample=4)
    assert found.ok
    assert (found.n_images, found.n_features, found.n_sampled, found.notes) == (12, 128, 4, ())
    assert found.bad_rows.tolist() == []
    done = invoke("verify", store)
    assert (done.exit_code, done.stdout) == (0, f"{store}: 12 images x 128 features; nothing is wrong\n")
    assert store.read_bytes() == before


def test_a_bad_chunk_is_named_by_its_rows(store):
    flip(store, chunk_at(store, "features/block1_conv2", 1) + 7)
    flip(store, chunk_at(store, "features/block1_conv1", 2) + 7)
    found = featx.verify_store(store)
    assert [(p.what, p.where, p.rows) for p in found.problems] == [
        ("checksum", "/features/block1_conv1", ((8, 12),)),
        ("checksum", "/features/block1_conv2", ((4, 8),)),
    ]
    assert found.bad_rows.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    done = invoke("verify", store)
    assert done.exit_code == 1
    assert "/features/block1_conv2: rows 4 to 7: a checksum fails" in done.stdout
    assert done.stderr == f"featx: {store}: 2 problems. featx repair {store} fixes what can be made again\n"
    record = json.loads(invoke("verify", store, "--json").stdout)
    assert record["ok"] is False
    assert record["bad_rows"] == found.bad_rows.tolist()
    assert record["problems"][0]["rows"] == [[8, 12]]


def test_what_only_digests_tell(store):
    with h5py.File(store, "a") as file:
        swap(file, "features/block1_conv1", 0, 3)
        swap(file, "images/label", 0, 11)
        file.attrs["root"] = "elsewhere"
    found = featx.verify_store(store)
    assert {(p.what, p.where) for p in found.problems} == {
        ("digest", "/features/block1_conv1"),
        ("digest", "/images/label"),
        ("attributes", "/"),
    }


def test_a_sample_tells_of_rows_in_each_others_place(store):
    with h5py.File(store, "a") as file:
        for layer in file["features"]:
            swap(file, f"features/{layer}", 2, 9)
    seal(store)
    assert featx.verify_store(store).ok
    found = featx.verify_store(store, sample=12)
    assert {p.where for p in found.problems} == {"/features/block1_conv1", "/features/block1_conv2"}
    assert {(p.what, p.rows) for p in found.problems} == {("features differ", ((2, 3), (9, 10)))}
    assert found.is_damaged


def test_a_sample_tells_of_images_that_are_others_or_gone(store, chunked, tmp_path):
    images = shutil.copytree(chunked.parent / "images", tmp_path / "images")
    make_image(images / "ash" / "004.png", 99)
    (images / "birch" / "005.png").unlink()
    found = featx.verify_store(store, sample=99, root=images)
    assert [(p.what, p.rows) for p in found.problems] == [("image gone", ((11, 12),)), ("image changed", ((4, 5),))]
    assert (found.n_sampled, found.ok, found.is_damaged) == (10, False, False)
    assert "(SHA-256; no damage of the store: the same featx extract adds it again)" in found.problems[1].detail
    done = invoke("verify", store, "--sample", 99, "--root", images)
    assert done.exit_code == 1
    assert "2 problems with the sample; the store itself is as it was written" in done.stderr


def test_a_sample_needs_the_stores_own_weights(store):
    found = featx.verify_store(store, sample=1, weights="random:3")
    assert [p.what for p in found.problems] == ["no sample"]
    assert "weights 'random:3': not those that made the features of" in found.problems[0].detail


@pytest.mark.parametrize("options", [["--weights", "random:3"], ["--root", "nowhere"]])
def test_what_a_sample_alone_needs_is_refused_without_one(store, options):
    done = invoke("verify", store, *options)
    assert done.exit_code == 1
    assert f"{options[0]}: only for rows that are extracted again: give --sample" in done.stderr


@pytest.mark.parametrize(
    ("name", "row", "value", "expected"),
    [
        ("images/split", 3, b"dev", r"/images/split: row 3: 'dev' is no split"),
        ("images/path", 2, b"ash/000.png", r"/images/path: rows 0, 2: 'ash/000.png' occurs more than once"),
        ("images/path", 2, b"ash/003a.png", r"/images/path: row 2: 'ash/003a.png' is among the rejected, too"),
        ("images/sha256", 5, b"z" * 64, r"/images/sha256: row 5: 'zz.*' is not 64 hexadecimal digits"),
        ("images/artist", 5, b"\xff", r"/images/artist: row 5: '\\\\xff' was no UTF-8"),
        ("features/block1_conv1", 5, np.nan, r"/features/block1_conv1: row 5: 64 values are not finite"),
    ],
)
def test_tables_and_values_that_make_no_sense(store, name, row, value, expected):
    with h5py.File(store, "a") as file:
        file[name][row] = value
    seal(store)
    (problem,) = featx.verify_store(store).problems
    assert re.search(expected, str(problem)), str(problem)


def test_the_order_of_the_paths_is_that_of_the_source(store):
    with h5py.File(store, "a") as file:
        for name in file["rejected"]:
            del file["rejected"][name]
            file["rejected"].create_dataset(name, data=np.array([], dtype=h5py.string_dtype("utf-8", 1)))
        paths = [path.decode() for path in file["images/path"]]
        file.attrs["paths_sha256"] = hashlib.sha256("\0".join(paths).encode()).hexdigest()
    seal(store)
    assert featx.verify_store(store).ok
    with h5py.File(store, "a") as file:
        swap(file, "images/path", 0, 1)
    seal(store)
    assert [p.what for p in featx.verify_store(store).problems] == ["order"]


def test_settings_columns_and_shapes(store):
    with h5py.File(store, "a") as file:
        file.attrs["image_size"] = 64
        del file["images/year"]
        del file["features/block1_conv2"]
        file["features/block1_conv2"] = np.zeros((11, 64), "<f4")
    found = featx.verify_store(store)
    assert [(p.what, p.where) for p in found.problems] == [
        ("attributes", "/"),
        ("settings", "/"),
        ("shape", "/features/block1_conv2"),
        ("table", "/images"),
    ]
    assert found.problems[3].detail.startswith("its columns were path (text), ")


def test_a_digest_that_is_missing(store):
    with h5py.File(store, "a") as file:
        del file["features/block1_conv1"].attrs["sha256"]
        del file.attrs["attributes_sha256"]
    found = featx.verify_store(store)
    assert [(p.what, p.where) for p in found.problems] == [("attributes", "/"), ("digest", "/features/block1_conv1")]


def test_many_problems_are_counted(store):
    with h5py.File(store, "a") as file:
        for number in range(25):
            file["images"].create_dataset(f"c{number}", data=np.zeros(3))
    done = invoke("verify", store)
    assert done.stdout.count("\n") == 21
    assert done.stdout.endswith("and 6 more: --json has all\n")


def test_a_store_cut_short_or_none(store, tmp_path):
    store.write_bytes(store.read_bytes()[:30000])
    for path, message in ((store, "cut or damaged"), (tmp_path / "no.h5", "no such store")):
        done = invoke("verify", path)
        assert done.exit_code == 1
        assert message in done.stderr


def test_a_flipped_bit_anywhere_is_found_or_harmless(chunked, tmp_path):
    found, first = [], 0
    while first < 150:
        command = [sys.executable, "-c", FLIP, chunked, tmp_path / "flipped.h5", str(first)]
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
        except subprocess.TimeoutExpired as error:
            text = error.stdout.decode()
        words = text.split()
        found += words[1::2]
        if len(words) % 2:
            # HDF5 crashed, or didn't come back: that is what the probe is for.
            with pytest.raises(FeatxError, match="so damaged that HDF5"):
                probe.probe(tmp_path / "flipped.h5", timeout=10)
            found.append("refused")
        assert words, "the script fails"
        first = len(found)
    assert [entry for entry in found if entry.startswith("missed")] == []
    assert found.count("problem") + found.count("refused") > 20


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "HDF5 crashes on it"),
        ("import time; time.sleep(60)", "HDF5 doesn't get through it in 1 s"),
    ],
)
def test_a_file_that_hdf5_does_not_survive_is_refused(chunked, script, message):
    with pytest.raises(FeatxError, match=f"so damaged that {message}"):
        probe.probe(chunked, timeout=1, script=script)


def test_a_stranger_s_module_in_the_working_folder_is_not_run(store, monkeypatch):
    (store.parent / "h5py.py").write_text("import pathlib; pathlib.Path('run').write_text('')")
    monkeypatch.chdir(store.parent)
    probe.probe(store)
    assert not (store.parent / "run").exists()


def test_parts_are_looked_at_and_left_alone(unfinished):
    assert featx.verify_store(unfinished.store_path).ok
    done = invoke("verify", unfinished.store_path)
    assert (done.exit_code, "21 images are done; nothing is wrong" in done.stdout) == (0, True)
    damaged = sorted(unfinished.path.glob("rows-*"))[1]
    flip(damaged, 300)
    before = {path: path.read_bytes() for path in unfinished.path.iterdir()}
    found = featx.verify_store(unfinished.store_path)
    assert [(p.what, p.where) for p in found.problems] == [("part", damaged.name)]
    assert (found.is_unfinished, found.n_images, found.n_features) == (True, 14, sum(N_CHANNELS.values()))
    done = invoke("verify", unfinished.store_path)
    assert done.exit_code == 1
    assert "run the same extraction again, which does just what is missing" in done.stderr
    assert "no row was sampled" in invoke("verify", unfinished.store_path, "--sample", 2).stderr
    (unfinished.path / "run.json").write_text("{")
    assert "record" in [p.what for p in featx.verify_store(unfinished.store_path).problems]
    done = invoke("verify", unfinished.store_path)
    assert "run the same extraction again, which starts from scratch" in done.stderr
    assert done.stderr.endswith("2 problems. Run the same extraction again (with --overwrite if it refuses)\n")
    before[unfinished.path / "run.json"] = b"{"
    assert {path: path.read_bytes() for path in unfinished.path.iterdir()} == before


def test_half_precision_and_its_tolerance(chunked, tmp_path):
    with featx.open(chunked) as store:
        root = Path(store.attributes["root"])
    path = tmp_path / "half.h5"
    featx.extract_features(featx.read_source(root), path, layers="block1_conv1", store_dtype="float16", **SMALL)
    assert featx.verify_store(path, sample=12).ok
