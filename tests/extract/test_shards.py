"""Shards: shares of an extraction, each a store of its own, and the whole store that is made of them."""

import json
import os
import shutil
from contextlib import ExitStack
from itertools import pairwise

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from samples import make_image, make_tree
from stub_network import stand_in

import featx
from featx import FeatxError
from featx.cli import main
from featx.extract import take_shard, verify_store
from featx.store import PartialStore, Settings
from featx.system import Shard, parse_shard

N_SHARDS = 4
OPTIONS = {"weights": "random", "image_size": 32, "batch_size": 4}


@pytest.fixture(autouse=True)
def stub(request):
    """Put a stand-in where the network would be, but for tests that ask for the real one."""
    with ExitStack() as stack:
        if "real_network" not in request.node.name:
            for patch in stand_in():
                stack.enter_context(patch)
        yield


@pytest.fixture
def photos(tmp_path):
    """23 images of two classes, with a damaged one, two that are the same in different shards, and a link."""
    root = make_tree(tmp_path / "photos", {"oak": 12, "pine": 11})
    (root / "oak" / "005.png").write_bytes(b"no image")
    shutil.copy(root / "oak" / "001.png", root / "pine" / "009.png")
    shutil.copy(root / "oak" / "001.png", root / "oak" / "002.png")
    return root


def read(root):
    return featx.make_splits(featx.read_source(root), (0.6, 0.2, 0.2))


def extract(manifest, path, shard=None, **options):
    return featx.extract_features(manifest, path, shard=shard, **(OPTIONS | options))


def extract_all(manifest, path, count=N_SHARDS, **options):
    for number in range(1, count + 1):
        extract(manifest, path, Shard(number, count), **options)


def assert_equal(path, other):
    with featx.open(path) as one, featx.open(other) as two:
        assert one.layers == two.layers
        assert np.array_equal(one.matrix(), two.matrix())
        assert one.images.equals(two.images)
        assert one.rejected.equals(two.rejected)
        own = {"created", "run_id", "history", "images_per_second", "attributes_sha256"}
        assert {k: v for k, v in one.attributes.items() if k not in own} == {
            k: v for k, v in two.attributes.items() if k not in own
        }


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 40, 1000])
@pytest.mark.parametrize("n_rows", [0, 1, 5, 23, 1000, 100_003])
def test_shards_cover_every_row_once_and_are_about_equal(count, n_rows):
    rows = [Shard(number, count).rows(n_rows) for number in range(1, count + 1)]
    assert rows[0][0] == 0
    assert rows[-1][1] == n_rows
    assert all(end == start for (_, end), (start, _) in pairwise(rows))
    sizes = [end - start for start, end in rows]
    assert min(sizes) >= 0
    assert max(sizes) - min(sizes) <= max(1, -(-n_rows // count) // 4 + 1)


def test_large_shards_begin_where_batches_do():
    starts = [Shard(number, 16).rows(100_000)[0] for number in range(1, 17)]
    assert not any(start % 128 for start in starts)


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2", "", "1/9999999"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(FeatxError, match=r"expected NUMBER/COUNT"):
        parse_shard(text)


@pytest.mark.parametrize("count", [1, N_SHARDS])
def test_shards_make_the_store_that_one_run_makes(photos, tmp_path, count):
    manifest = read(photos)
    extract(manifest, tmp_path / "whole.h5")
    extract_all(manifest, tmp_path / "store.h5", count)
    merged = featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")
    assert (merged.n_images, merged.n_rejected, merged.n_identical) == (22, 1, 2)
    assert not list(tmp_path.glob("*.shard-*"))
    assert not list(tmp_path.glob("*.parts"))
    assert verify_store(tmp_path / "store.h5").problems == ()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_are_copied_bit_for_bit(photos, tmp_path, dtype):
    manifest = read(photos)
    extract(manifest, tmp_path / "whole.h5", store_dtype=dtype)
    extract_all(manifest, tmp_path / "store.h5", store_dtype=dtype)
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_shards_of_the_real_network_make_the_store_that_one_run_makes(tree, tmp_path):
    manifest = read(tree)
    # 30 rows in two shards: 4 images a batch in both ways.
    extract(manifest, tmp_path / "whole.h5", layers="block1_conv1,block2_conv2", engine="ncnn")
    extract_all(manifest, tmp_path / "store.h5", 2, layers="block1_conv1,block2_conv2", engine="ncnn")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_further_columns_and_their_types_are_kept(photos, tmp_path):
    table = read(photos).table
    table["weight"] = np.linspace(0, 1, len(table))
    table["site"] = ["älter" if row > 12 else "b" for row in range(len(table))]
    table["year"] = np.arange(len(table)) + 1990
    manifest = featx.Manifest(table, photos)
    extract(manifest, tmp_path / "whole.h5")
    extract_all(manifest, tmp_path / "store.h5")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_a_shard_without_an_image_that_can_be_read_is_one(photos, tmp_path):
    manifest = read(photos)
    start, end = Shard(2, N_SHARDS).rows(len(manifest))
    for path in manifest.table["path"].iloc[start:end]:
        (photos / path).write_bytes(b"no image")
    extract(manifest, tmp_path / "whole.h5")
    extract_all(manifest, tmp_path / "store.h5")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_images_that_can_none_be_read_make_no_store(photos, tmp_path):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    extract_all(featx.read_source(photos), tmp_path / "store.h5")
    with pytest.raises(FeatxError, match=r"none of the 23 images could be read; the first, .*\. Fix them and"):
        featx.merge_shards(tmp_path / "store.h5")
    assert not (tmp_path / "store.h5").exists()
    assert len(list(tmp_path.glob("*.shard-*.h5"))) == N_SHARDS
    # As it says.
    make_image(photos / "oak" / "003.png", seed=1)
    extract_all(featx.read_source(photos), tmp_path / "store.h5")
    assert featx.merge_shards(tmp_path / "store.h5").n_images == 1


def test_more_shards_than_images(tmp_path):
    root = tmp_path / "few"
    for number in range(3):
        make_image(root / "ab"[number % 2] / f"{number}.png", seed=number)
    manifest, lines = featx.read_source(root), []
    extract(manifest, tmp_path / "whole.h5")
    extract_all(manifest, tmp_path / "store.h5", 8, echo=lines.append)
    assert "shard 1/8: none of the 3 images is in it" in lines
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_a_finished_shard_stays_as_it_is(photos, tmp_path):
    manifest, lines, shard = read(photos), [], Shard(2, 2)
    extract(manifest, tmp_path / "store.h5", shard)
    path = shard.path_of(tmp_path / "store.h5")
    before = path.stat()
    shutil.rmtree(photos / "pine")
    done = extract(manifest, tmp_path / "store.h5", shard, echo=lines.append)
    assert lines == [f"{path}: exists"]
    assert (done.n_computed, done.store_path) == (0, str(path))
    assert path.stat() == before


def test_rejected_images_of_a_finished_shard_are_read_again(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    make_image(photos / "oak" / "005.png", seed=99)
    assert extract(manifest, tmp_path / "store.h5", Shard(1, 2)).n_rejected == 0
    extract(manifest, tmp_path / "whole.h5")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_labels_that_change_are_written_into_finished_shards(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    other = featx.Manifest(manifest.table.assign(label="x" + manifest.table["label"], split=""), manifest.root)
    for number in (1, 2):
        assert extract(other, tmp_path / "store.h5", Shard(number, 2)).n_computed == 0
    extract(other, tmp_path / "whole.h5")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: (m, {"layers": "block1_conv1"}), r"layers 'all', now 'block1_conv1'"),
        (lambda m: (m, {"store_dtype": "float16"}), r"store_dtype 'float32', now 'float16'"),
        (lambda m: (featx.Manifest(m.table.iloc[:-1], m.root), {}), r"another list of images \(23 of them, now 22\)"),
    ],
)
def test_a_shard_of_other_settings_is_refused_before_any_work(photos, tmp_path, change, message):
    manifest, shard = read(photos), Shard(1, 2)
    extract(manifest, tmp_path / "store.h5", shard)
    before = shard.path_of(tmp_path / "store.h5").read_bytes()
    other, options = change(manifest)
    with pytest.raises(FeatxError, match=rf"was made with .*{message}\. Delete it, or use `overwrite`"):
        extract(other, tmp_path / "store.h5", shard, **options)
    assert shard.path_of(tmp_path / "store.h5").read_bytes() == before


def test_weights_that_became_others_under_their_name_make_another_shard(photos, tmp_path):
    manifest, weights = read(photos), tmp_path / "own.weights.h5"
    weights.write_bytes(b"one")
    extract(manifest, tmp_path / "store.h5", Shard(2, 2), weights=str(weights))
    lines = []
    extract(manifest, tmp_path / "store.h5", Shard(2, 2), weights=str(weights), echo=lines.append)
    assert lines[-1].endswith(": exists")
    weights.write_bytes(b"two")
    with pytest.raises(FeatxError, match=r"was made with weights_sha256"):
        extract(manifest, tmp_path / "store.h5", Shard(2, 2), weights=str(weights))


def test_overwrite_makes_a_shard_anew(photos, tmp_path):
    manifest, shard = read(photos), Shard(1, 2)
    extract(manifest, tmp_path / "store.h5", shard)
    assert extract(manifest, tmp_path / "store.h5", shard, overwrite=True).n_computed > 0


def test_shards_can_be_extracted_at_the_same_time(photos, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    manifest = read(photos)
    with ThreadPoolExecutor(N_SHARDS) as pool:
        list(pool.map(lambda n: extract(manifest, tmp_path / "store.h5", Shard(n, N_SHARDS)), range(1, N_SHARDS + 1)))
    extract(manifest, tmp_path / "whole.h5")
    featx.merge_shards(tmp_path / "store.h5")
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def test_missing_shards_are_named(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5")
    for number in (2, 4):
        Shard(number, N_SHARDS).path_of(tmp_path / "store.h5").unlink()
    with pytest.raises(FeatxError, match=r"2 of 4 shards are missing: 2, 4\. Run featx extract \.\.\. --shard 2/4"):
        featx.merge_shards(tmp_path / "store.h5")
    assert not (tmp_path / "store.h5").exists()


def test_an_unfinished_shard_is_named(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5")
    Shard(3, 4).path_of(tmp_path / "store.h5").with_name("store.shard-0003-of-0004.h5.parts").mkdir()
    with pytest.raises(FeatxError, match=r"store\.shard-0003-of-0004\.h5\.parts: this shard is being written.*3/4"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_finished_shard_with_parts_left_beside_it_is_merged_as_the_advice_says(photos, tmp_path):
    manifest, shard = read(photos), Shard(2, 2)
    extract_all(manifest, tmp_path / "store.h5", 2)
    folder = PartialStore(shard.path_of(tmp_path / "store.h5"))
    folder.path.mkdir()
    with pytest.raises(FeatxError, match=r"Run featx extract \.\.\. --shard 2/2 \(again\), then featx merge"):
        featx.merge_shards(tmp_path / "store.h5")
    extract(manifest, tmp_path / "store.h5", shard)
    assert not folder.path.exists()
    assert featx.merge_shards(tmp_path / "store.h5").n_shards == 2


def test_a_shard_that_was_being_made_anew_says_how_to_go_on(photos, tmp_path):
    manifest, shard = read(photos), Shard(2, 2)
    extract_all(manifest, tmp_path / "store.h5", 2)
    folder = PartialStore(shard.path_of(tmp_path / "store.h5"))
    with folder.lock(), featx.open(folder.store_path) as store:
        folder.begin(Settings.from_record(store.attributes), {"root": "", "paths_sha256": ""}, replaces=True)
    with pytest.raises(FeatxError, match="Use the same settings and `overwrite` to resume"):
        extract(manifest, tmp_path / "store.h5", shard)
    extract(manifest, tmp_path / "store.h5", shard, overwrite=True)
    assert featx.merge_shards(tmp_path / "store.h5").n_shards == 2


def test_a_file_that_is_no_store_in_a_shards_place_says_how_to_make_it_anew(photos, tmp_path):
    manifest, shard = read(photos), Shard(2, 2)
    extract_all(manifest, tmp_path / "store.h5", 2)
    path = shard.path_of(tmp_path / "store.h5")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FeatxError, match=r"not an HDF5 file .*Run featx extract \.\.\. --shard 2/2 --overwrite"):
        featx.merge_shards(tmp_path / "store.h5")
    with pytest.raises(FeatxError, match=r"not an HDF5 file .*\. Delete it, or use `overwrite` to make it again"):
        extract(manifest, tmp_path / "store.h5", shard)
    shutil.copy(Shard(1, 2).path_of(tmp_path / "store.h5"), path)
    with h5py.File(path, "r+") as file:
        del file.attrs["shard"]
    with pytest.raises(FeatxError, match=r"no shard of a store .*Move it away\. Run featx extract \.\.\. --shard 2/2"):
        featx.merge_shards(tmp_path / "store.h5")
    with pytest.raises(FeatxError, match=r"no shard of a store .*\. Delete it, or use `overwrite`"):
        extract(manifest, tmp_path / "store.h5", shard)
    extract(manifest, tmp_path / "store.h5", shard, overwrite=True)
    assert featx.merge_shards(tmp_path / "store.h5").n_shards == 2


def test_nothing_to_merge(tmp_path):
    with pytest.raises(FeatxError, match=r"no shards of it lie next to it \(store\.shard-0001-of-0016\.h5, say\)"):
        featx.merge_shards(tmp_path / "store.h5")


def test_shards_of_two_divisions_are_refused(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    extract(manifest, tmp_path / "store.h5", Shard(1, 3))
    with pytest.raises(FeatxError, match=r"shards of 2 and of 3 lie next to it"):
        featx.merge_shards(tmp_path / "store.h5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: (m, {"store_dtype": "float16"}), "store_dtype 'float16' and 'float32'"),
        (lambda m: (featx.Manifest(m.table.assign(label="x" + m.table["label"]), m.root), {}), "other labels, splits"),
        (lambda m: (featx.Manifest(m.table.iloc[:-1], m.root), {}), r"other lists of images \(22 and 23\)"),
    ],
)
def test_shards_of_different_wholes_are_refused(photos, tmp_path, change, message):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    other, options = change(manifest)
    Shard(2, 2).path_of(tmp_path / "store.h5").unlink()
    extract(other, tmp_path / "store.h5", Shard(2, 2), **options)
    with pytest.raises(FeatxError, match=rf"are no shards of one store: .*{message}"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_shard_under_another_name_is_refused(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    one, two = (Shard(number, 2).path_of(tmp_path / "store.h5") for number in (1, 2))
    shutil.copy(one, two)
    with pytest.raises(FeatxError, match=r"is shard 1/2 by its contents; give it its name back"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_store_that_is_no_shard_is_refused(photos, tmp_path):
    manifest = read(photos)
    extract(manifest, Shard(1, 1).path_of(tmp_path / "store.h5"))
    with pytest.raises(FeatxError, match=r"no shard of a store"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_damaged_shard_leaves_everything_as_it_was(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    path = Shard(2, 2).path_of(tmp_path / "store.h5")
    content = bytearray(path.read_bytes())
    with featx.open(path) as store:
        values = store.matrix(["block1_conv2"])[3, :50].tobytes()
    content[content.index(values)] ^= 1
    path.write_bytes(content)
    with pytest.raises(FeatxError, match=r"shard-0002-of-0002\.h5: /features/block1_conv2 is damaged"):
        featx.merge_shards(tmp_path / "store.h5")
    assert not (tmp_path / "store.h5").exists()
    assert len(list(tmp_path.glob("*.shard-*.h5"))) == 2
    extract(manifest, tmp_path / "store.h5", Shard(2, 2), overwrite=True)
    featx.merge_shards(tmp_path / "store.h5")


def test_a_merge_that_was_killed_is_done_again(photos, tmp_path, monkeypatch):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    with monkeypatch.context() as patch:
        patch.setattr("featx.store.partial.PartialStore.publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            featx.merge_shards(tmp_path / "store.h5")
    assert not (tmp_path / "store.h5").exists()
    featx.merge_shards(tmp_path / "store.h5")
    assert verify_store(tmp_path / "store.h5").problems == ()


def test_a_merge_that_was_killed_before_it_deleted_all_shards_is_finished(photos, tmp_path, monkeypatch):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 3)
    with monkeypatch.context() as patch:
        patch.setattr("featx.extract.merge._delete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            featx.merge_shards(tmp_path / "store.h5")
    before = (tmp_path / "store.h5").read_bytes()
    Shard(1, 3).path_of(tmp_path / "store.h5").unlink()
    merged = featx.merge_shards(tmp_path / "store.h5")
    assert (merged.n_shards, merged.n_images) == (3, 22)
    assert (tmp_path / "store.h5").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "store.h5"]


def test_shards_are_opened_a_few_at_a_time(photos, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 20)
    extract(manifest, tmp_path / "whole.h5")
    monkeypatch.setattr("featx.extract.merge._MOST_OPEN", 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else soft  # noqa: PTH112, PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, n_open + 12), hard))
    try:
        featx.merge_shards(tmp_path / "store.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_equal(tmp_path / "store.h5", tmp_path / "whole.h5")


def rewrite(path, **attributes):
    with h5py.File(path, "r+") as file:
        for name, value in attributes.items():
            file.attrs[name] = value


@pytest.mark.parametrize("n_images", [9, -5, "23", 23.0, None, [23], 10**400, True], ids=lambda value: str(value)[:8])
def test_a_shard_that_claims_other_numbers_of_images_is_refused(photos, tmp_path, n_images):
    extract_all(read(photos), tmp_path / "store.h5", 2)
    for number in (1, 2):
        path = Shard(number, 2).path_of(tmp_path / "store.h5")
        with featx.open(path) as store:
            origin = json.loads(store.attributes["shard_of"])
        rewrite(path, shard_of=json.dumps(origin | {"n_images": n_images}))
    with pytest.raises(FeatxError, match=r"no shard of a store|differ from its attributes"):
        featx.merge_shards(tmp_path / "store.h5")


@pytest.mark.parametrize("attributes", [{"store_dtype": "O"}, {"store_dtype": "S9"}, {"image_size": 64}])
def test_a_shard_whose_settings_are_not_those_of_its_digest_is_refused(photos, tmp_path, attributes):
    extract_all(read(photos), tmp_path / "store.h5", 2)
    rewrite(Shard(2, 2).path_of(tmp_path / "store.h5"), **attributes)
    with pytest.raises(FeatxError, match=r"shard-0002-of-0002\.h5: its contents differ from its attributes"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_history_of_a_strangers_does_not_end_a_merge(photos, tmp_path):
    extract_all(read(photos), tmp_path / "store.h5", 2)
    rewrite(Shard(1, 2).path_of(tmp_path / "store.h5"), history="[" * 60_000)
    assert featx.merge_shards(tmp_path / "store.h5").n_images == 22


@pytest.mark.parametrize("name", ["store.shard-0005-of-0002.h5", "store.shard-1-of-2.h5"])
def test_files_with_impossible_names_are_named(photos, tmp_path, name):
    extract_all(read(photos), tmp_path / "store.h5", 2)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(FeatxError, match=rf"{name}: looks like a shard's name, but no shard"):
        featx.merge_shards(tmp_path / "store.h5")


def test_a_store_that_is_there_is_replaced_only_when_asked(photos, tmp_path):
    manifest = read(photos)
    extract(manifest, tmp_path / "store.h5")
    with pytest.raises(FeatxError, match=r"store\.h5: exists, and shards make a new store"):
        extract(manifest, tmp_path / "store.h5", Shard(1, 2))
    extract_all(manifest, tmp_path / "store.h5", 2, overwrite=True)
    with pytest.raises(FeatxError, match=r"exists\. Use `overwrite`"):
        featx.merge_shards(tmp_path / "store.h5")
    featx.merge_shards(tmp_path / "store.h5", overwrite=True, keep=True)
    assert len(list(tmp_path.glob("*.shard-*.h5"))) == 2
    with pytest.raises(FeatxError, match=r"of-0002\.h5: exists, and no shards of it .*, not a shard's"):
        featx.merge_shards(Shard(1, 2).path_of(tmp_path / "store.h5"))


def test_an_extraction_of_the_whole_that_was_begun_is_not_lost(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    folder = tmp_path / "store.h5.parts"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    with pytest.raises(FeatxError, match=r"an extraction of the whole store was started here"):
        featx.merge_shards(tmp_path / "store.h5")
    assert (folder / "run.json").exists()


def test_shards_are_refused_at_once_where_the_whole_was_begun(photos, tmp_path):
    manifest, folder = read(photos), tmp_path / "store.h5.parts"
    folder.mkdir()
    (folder / "rows-0000000000-0000000004.npz").write_bytes(b"")
    with pytest.raises(FeatxError, match=r"an extraction of the whole store was started here"):
        extract(manifest, tmp_path / "store.h5", Shard(1, 2))


def test_a_merged_store_can_be_added_to(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2, layers="block1_conv1")
    featx.merge_shards(tmp_path / "store.h5")
    extract(manifest, tmp_path / "store.h5", layers="block1_conv1,block1_conv2")
    extract(manifest, tmp_path / "whole.h5", layers="block1_conv1,block1_conv2")
    with featx.open(tmp_path / "store.h5") as store, featx.open(tmp_path / "whole.h5") as whole:
        assert np.array_equal(store.matrix(), whole.matrix())


def test_the_history_tells_of_every_shard(photos, tmp_path):
    manifest = read(photos)
    extract_all(manifest, tmp_path / "store.h5", 2)
    featx.merge_shards(tmp_path / "store.h5")
    with featx.open(tmp_path / "store.h5") as store:
        history = json.loads(store.attributes["history"])
    assert [run["n_computed"] for run in history] == [history[0]["n_computed"], history[1]["n_computed"], 0]
    assert sum(run["n_images"] for run in history[:2]) == history[2]["n_images"] == 22


def test_too_many_rejected_images_end_their_shard(photos, tmp_path):
    manifest = read(photos)
    with pytest.raises(FeatxError, match=r"005\.png"):
        extract_all(manifest, tmp_path / "store.h5", max_rejected=0)


def test_the_command_line(photos, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(main, list(map(str, arguments)))

    store = tmp_path / "store.h5"
    options = ["--weights", "random", "--image-size", 32, "--split", "0.6,0.2,0.2", "-o", store]
    for number in (1, 2):
        done = run("extract", photos, *options, "--shard", f"{number}/2")
        assert done.exit_code == 0, done.output
        assert f"store.shard-000{number}-of-0002.h5: " in done.stdout
    done = run("merge", store, "--json")
    assert json.loads(done.stdout)["n_shards"] == 2
    failed = run("merge", store)
    assert failed.exit_code == 1
    assert "exists" in failed.stderr
    wrong = run("extract", photos, *options, "--shard", "3/2")
    assert wrong.exit_code == 2
    assert "expected NUMBER/COUNT with 1 <= NUMBER <= COUNT" in wrong.stderr


def test_a_shard_is_a_manifest_of_its_rows(photos):
    manifest = read(photos)
    tables = [take_shard(manifest, Shard(number, 3)).table for number in (1, 2, 3)]
    assert sum(map(len, tables)) == len(manifest)
    assert [path for table in tables for path in table["path"]] == manifest.table["path"].tolist()
