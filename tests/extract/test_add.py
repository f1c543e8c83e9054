"""Adding to a store: only what is missing is computed, and what comes out is as if it had been made at once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from samples import SMALL, make_image, make_tree

import featx
from featx import FeatxError
from featx.cli import main
from featx.inference import PooledNetwork
from featx.store import PartialStore, Store

NCNN = SMALL | {"engine": "ncnn"}
DATA = Path(__file__).parents[1] / "data"


def extract(source, path, layers, *, lines=None, **options):
    manifest = source if isinstance(source, featx.Manifest) else featx.read_source(source)
    echo = lines.append if lines is not None else lambda line: None
    return featx.extract_features(manifest, path, layers=layers, echo=echo, **(NCNN | options))


def part_of(tree, rows):
    """Some rows of a folder's images."""
    manifest = featx.read_source(tree)
    return featx.Manifest(manifest.table.iloc[rows].reset_index(drop=True), manifest.root)


def contents(path):
    with featx.open(path) as store:
        return store.layers, store.matrix(), store.images, store.attributes["settings_sha256"]


def assert_same(path, other, exact=True):
    (layers, X, images, sha256), (layers_too, X_too, images_too, sha256_too) = contents(path), contents(other)
    assert layers == layers_too
    assert images.equals(images_too)
    assert sha256 == sha256_too
    if exact:
        assert np.array_equal(X, X_too)
    assert np.linalg.norm(X - X_too) <= 1e-6 * np.linalg.norm(X_too)


@pytest.fixture
def calls(monkeypatch):
    """What goes through networks: the features asked for, and how many images."""
    seen, plain = [], PooledNetwork.__call__

    def recording(self, pixels):
        seen.append((tuple(self.n_channels), len(pixels)))
        return plain(self, pixels)

    monkeypatch.setattr(PooledNetwork, "__call__", recording)
    return seen


def count(calls):
    totals = {}
    for names, n_images in calls:
        totals[names] = totals.get(names, 0) + n_images
    return totals


@pytest.fixture(scope="module")
def base(tree, tmp_path_factory):
    """A store of half of the tree."""
    path = tmp_path_factory.mktemp("base") / "base.h5"
    extract(part_of(tree, range(0, 30, 2)), path, "block1_conv2")
    return path


@pytest.fixture
def store(base, tmp_path):
    return Path(shutil.copy(base, tmp_path / "s.h5"))


@pytest.mark.parametrize("engine", ["ncnn", "keras"])
def test_layers_poolings_and_images_are_added_as_if_made_at_once(tree, tmp_path, engine):
    options = {"engine": engine}
    some = part_of(tree, [*range(0, 30, 3), 28])
    extract(some, tmp_path / "s.h5", "block1_conv2", **options)
    done = extract(tree, tmp_path / "s.h5", "block1_conv1,block2_conv1", pool="max,avg", **options)
    assert (done.n_images, done.n_computed, done.n_features) == (30, 30, 512)
    with featx.open(tmp_path / "s.h5") as store:
        assert store.images_per_second == done.images_per_second
    extract(tree, tmp_path / "fresh.h5", "block1,block2_conv1", pool="avg,max", **options)
    assert_same(tmp_path / "s.h5", tmp_path / "fresh.h5", exact=engine == "ncnn")
    assert not (tmp_path / "s.h5.parts").exists()


def test_only_the_new_layers_of_old_images_are_computed_and_no_deeper(tree, tmp_path, calls):
    some = part_of(tree, range(10))
    extract(some, tmp_path / "s.h5", "block3_conv1")
    calls.clear()
    extract(some, tmp_path / "s.h5", "block1_conv2")
    assert count(calls) == {("block1_conv2",): 10}
    extract(some, tmp_path / "fresh.h5", "block1_conv2,block3_conv1")
    assert_same(tmp_path / "s.h5", tmp_path / "fresh.h5")
    calls.clear()
    extract(some, tmp_path / "s.h5", "block1_conv2", pool="std")
    assert count(calls) == {("block1_conv2:std", "block3_conv1:std"): 10}


def test_a_fully_connected_layer_has_no_poolings_to_add(tree, tmp_path, calls):
    some = part_of(tree, range(4))
    extract(some, tmp_path / "s.h5", "fc1")
    calls.clear()
    extract(some, tmp_path / "s.h5", "fc1", pool="std")
    assert calls == []
    with featx.open(tmp_path / "s.h5") as store:
        assert store.layers == ["fc1"]


def test_where_nothing_is_missing_no_network_runs(tree, store, calls):
    lines, before = [], store.read_bytes()
    done = extract(part_of(tree, range(0, 30, 2)), store, "block1_conv2", lines=lines)
    assert (done.n_images, done.n_computed, calls) == (15, 0, [])
    assert any("nothing is missing" in line for line in lines)
    assert store.read_bytes() == before
    assert not Path(f"{store}.parts").exists()


def test_a_table_that_changed_is_written_without_a_network(tree, store, calls):
    manifest = part_of(tree, range(0, 30, 2))
    manifest.table.loc[:2, "label"] = "elm"
    manifest.table.loc[:1, "split"] = "test"
    manifest.table["year"] = np.arange(15.0)
    manifest.table.loc[3, "year"] = np.nan
    with featx.open(store) as opened:
        speed = opened.images_per_second
    lines = []
    before = contents(store)
    extract(manifest, store, "block1_conv2", lines=lines)
    assert calls == []
    assert lines == [f"{store}: 3 labels, 2 splits, 1 new columns"]
    with featx.open(store) as opened:
        assert opened.images_per_second == speed > 0
    _, X, images, _ = contents(store)
    assert np.array_equal(X, before[1])
    assert images["label"].tolist() == manifest.table["label"].tolist()
    assert images["year"].equals(manifest.table["year"])
    extract(manifest, store, "block1_conv2", lines=lines)
    assert "nothing is missing" in lines[-1]
    extract(
        featx.Manifest(manifest.table[::-1].reset_index(drop=True), manifest.root), store, "block1_conv2", lines=lines
    )
    assert "another order" in lines[-1]
    assert np.array_equal(contents(store)[1], X[::-1])


def test_splits_are_kept_where_the_source_has_none_to_give(tree, tmp_path):
    path = tmp_path / "s.h5"
    first = featx.make_splits(part_of(tree, range(0, 30, 2)), (0.6, 0.4))
    extract(first, path, "block1_conv1")
    lines = []
    extract(tree, path, "block1_conv2", lines=lines)
    assert f"{path}: its splits are kept, since the source has none; 15 images have none" in lines
    images = contents(path)[2].set_index("path")["split"]
    assert images[first.table["path"]].tolist() == first.table["split"].tolist()
    assert images.value_counts()[""] == 15
    extract(tree, path, "block1_conv2", lines=lines)
    assert "nothing is missing" in lines[-1]
    extract(featx.make_splits(featx.read_source(tree), (0.5, 0.5)), path, "block1_conv2", lines=lines)
    assert "splits" in lines[-1]
    assert set(contents(path)[2]["split"]) == {"train", "test"}


def test_files_that_changed_are_computed_and_identical_ones_are_not(tree, tmp_path, calls):
    images = shutil.copytree(tree, tmp_path / "images")
    extract(images, tmp_path / "s.h5", "block1_conv2")
    make_image(images / "ash" / "003.png", 99)
    shutil.copy(images / "cedar" / "001.png", images / "ash" / "copy of cedar.png")
    calls.clear()
    lines = []
    done = extract(images, tmp_path / "s.h5", "block1_conv2", lines=lines)
    assert (done.n_images, done.n_computed, done.n_identical) == (31, 1, 1)
    assert sum(n for _, n in calls) == 1
    assert "1 new images, 1 images whose file changed" in lines[-1]
    extract(images, tmp_path / "fresh.h5", "block1_conv2")
    assert_same(tmp_path / "s.h5", tmp_path / "fresh.h5")
    calls.clear()
    extract(images, tmp_path / "s.h5", "block1_conv1")
    assert count(calls) == {("block1_conv1",): 30}


def test_images_that_are_not_listed_any_more_are_refused(tree, store):
    before = store.read_bytes()
    with pytest.raises(FeatxError, match=r"14 of its 15 images are missing in the source.* 'ash/002.png'.*`overwrite`"):
        extract(part_of(tree, [0, 1]), store, "block1_conv1")
    assert store.read_bytes() == before
    assert not Path(f"{store}.parts").exists()


def test_stored_images_that_cannot_be_read_any_more_are_refused(tree, tmp_path, calls):
    images = shutil.copytree(tree, tmp_path / "images")
    manifest = featx.read_source(images)
    path = tmp_path / "s.h5"
    extract(manifest, path, "block1_conv2")
    moved = shutil.move(images / "ash" / "003.png", tmp_path / "away.png")
    with pytest.raises(
        FeatxError, match=r"1 images of .* can't be read any more; the first, .*003\.png: .*No such file"
    ):
        extract(manifest, path, "block1_conv1")
    shutil.move(moved, images / "ash" / "003.png")
    extract(manifest, path, "block1_conv1")
    extract(manifest, tmp_path / "fresh.h5", "block1")
    assert_same(path, tmp_path / "fresh.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 48}, "image_size 32, now 48"),
        ({"resize": "crop", "interpolation": "lanczos"}, "resize 'squash', now 'crop'; interpolation .* now 'lanczos'"),
        ({"preprocessing": "torch"}, "preprocessing 'caffe', now 'torch'"),
        ({"views": "flip"}, "views 'none', now 'flip'"),
        ({"store_dtype": "float16"}, "store_dtype 'float32', now 'float16'"),
        ({"engine": "keras"}, "engine 'ncnn', now 'keras'"),
        ({"weights": "random:1"}, r"weights 'random:0' \(SHA-256 \w+\.\.\.\), now 'random:1'"),
    ],
)
def test_other_settings_are_refused_by_name(tree, store, options, message):
    before = store.read_bytes()
    with pytest.raises(FeatxError, match=f"exists, and was made with {message}.*`overwrite`"):
        extract(part_of(tree, range(0, 30, 2)), store, "block1", **options)
    assert store.read_bytes() == before
    assert not Path(f"{store}.parts").exists()


def test_the_stores_own_engine_adds_to_it(tree, tmp_path):
    some = part_of(tree, range(6))
    extract(some, tmp_path / "s.h5", "block1_conv1", engine="keras")
    lines = []
    extract(some, tmp_path / "s.h5", "block1_conv2", engine="auto", lines=lines)
    assert any("by keras" in line for line in lines)
    with featx.open(tmp_path / "s.h5") as store:
        assert store.attributes["engine"] == "keras"
        assert store.attributes["engine_version"].count("keras") == 0
        assert ", " not in store.attributes["engine_version"]


def test_rejected_images_are_tried_again(tree, tmp_path):
    images = shutil.copytree(tree, tmp_path / "images")
    (images / "ash" / "bad.png").write_bytes(b"")
    (images / "birch" / "bad.png").write_bytes(b"")
    path = tmp_path / "s.h5"
    assert extract(images, path, "block1_conv1").n_rejected == 2
    lines = []
    assert extract(images, path, "block1_conv1", lines=lines).n_computed == 0
    assert "nothing is missing" in lines[-1]
    make_image(images / "birch" / "bad.png", 77)
    done = extract(images, path, "block1_conv1")
    assert (done.n_images, done.n_rejected, done.n_computed) == (31, 1, 1)
    extract(images, tmp_path / "fresh.h5", "block1_conv1")
    assert_same(path, tmp_path / "fresh.h5")


def test_additions_follow_one_another_under_odd_names(tree, tmp_path):
    images = shutil.copytree(tree, tmp_path / "ünï côde")
    make_image(images / "ash" / "a b,'\"\n.png", 50)
    path = tmp_path / "my störe.h5"
    extract(part_of(images, range(5)), path, "block1_conv1")
    extract(part_of(images, range(20)), path, "block1_conv1")
    extract(part_of(images, range(20)), path, "block2_conv2")
    extract(images, path, "block1_conv2", pool="max")
    extract(images, tmp_path / "fresh.h5", "block1,block2_conv2", pool="avg,max")
    assert_same(path, tmp_path / "fresh.h5")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fresh.h5", "my störe.h5", "ünï côde"]


def test_a_store_of_version_1_is_added_to(tmp_path):
    path = Path(shutil.copy(DATA / "store_v1.h5", tmp_path / "s.h5"))
    before = contents(path)[1]
    images = make_tree(tmp_path / "images", {"ash": 2, "birch": 2, "cedar": 2})
    done = extract(images, path, "block2_conv1", engine="auto")
    assert (done.n_images, done.n_computed) == (6, 6)
    layers, X, table, _ = contents(path)
    assert layers == ["block1_conv1", "block1_conv2", "block2_conv1"]
    assert np.array_equal(X[:, :128], before)
    assert table["label"].tolist() == ["ash", "ash", "birch", "birch", "cedar", "cedar"]


def test_a_folder_that_was_moved_is_known_by_its_files_and_another_is_refused(tree, tmp_path, store, calls):
    moved = shutil.copytree(tree, tmp_path / "moved")
    extract(part_of(moved, range(0, 30, 2)), store, "block1_conv2")
    assert calls == []
    with featx.open(store) as opened:
        assert opened.attributes["root"] == str(moved)
    other = make_tree(tmp_path / "other", {"ash": 12, "birch": 10, "cedar": 8}, seed=7)
    with pytest.raises(FeatxError, match="same names, but differ"):
        extract(other, store, "block1_conv2")


def test_a_float16_store_is_added_to(tree, tmp_path):
    some = part_of(tree, range(10))
    extract(some, tmp_path / "s.h5", "block1_conv1", store_dtype="float16")
    extract(tree, tmp_path / "s.h5", "block1_conv2", store_dtype="float16")
    extract(tree, tmp_path / "fresh.h5", "block1", store_dtype="float16")
    assert_same(tmp_path / "s.h5", tmp_path / "fresh.h5")


def stop_after(n_images, patch):
    """Let the network be interrupted once it has seen so many images."""
    seen, plain = [0], PooledNetwork.__call__

    def counting(self, pixels):
        seen[0] += len(pixels)
        if seen[0] > n_images:
            raise KeyboardInterrupt
        return plain(self, pixels)

    patch.setattr(PooledNetwork, "__call__", counting)


def test_a_stopped_addition_goes_on_and_the_store_is_whole_meanwhile(tree, store, tmp_path, monkeypatch):
    undisturbed = Path(shutil.copy(store, tmp_path / "undisturbed.h5"))
    extract(tree, undisturbed, "block1_conv1")
    before = store.read_bytes()
    # 15 new images for the first pass, 15 of the store for the second.
    for n_images in (8, 12, 8):
        with monkeypatch.context() as patch, pytest.raises(FeatxError, match=r"stopped: .* of (30|15) images"):
            stop_after(n_images, patch)
            extract(tree, store, "block1_conv1")
        assert store.read_bytes() == before
    with pytest.raises(FeatxError, match=r"was started with .*layers .*delete this folder to keep the store"):
        extract(tree, store, "block2_conv1")
    with pytest.raises(FeatxError, match=r"was started with .*layers"):
        extract(part_of(tree, range(0, 30, 2)), store, "block1_conv2")
    with monkeypatch.context() as patch:
        patch.setattr(PartialStore, "publish", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(FeatxError, match="stopped"):
            extract(tree, store, "block1_conv1")
    assert store.read_bytes() == before
    done = extract(tree, store, "block1_conv1")
    assert (done.n_resumed, done.n_computed) == (30, 0)
    assert_same(store, undisturbed)
    with featx.open(store) as opened:
        assert opened.attributes["engine_version"]


def test_an_unfinished_addition_belongs_to_its_store(tree, store, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        stop_after(8, patch)
        extract(tree, store, "block1_conv1")
    whole = store.read_bytes()
    store.unlink()
    with pytest.raises(FeatxError, match=r"started with store \w+ to add to, now no store"):
        extract(tree, store, "block1")
    store.write_bytes(whole)
    assert extract(tree, store, "block1_conv1", overwrite=True).n_computed == 30
    assert contents(store)[0] == ["block1_conv1"]


def test_a_disk_too_small_for_an_addition_is_refused_first(tree, store, calls, monkeypatch):
    usage = shutil.disk_usage(store.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FeatxError, match=r"MB needed .*0 MB free"):
        extract(tree, store, "block1_conv1")
    assert calls == []


def test_a_file_that_changes_meanwhile_is_told_and_done_again(tree, tmp_path, monkeypatch):
    images = shutil.copytree(tree, tmp_path / "images")
    path = tmp_path / "s.h5"
    extract(images, path, "block1_conv1")
    plain = PartialStore.further

    def changing(self, name):
        files = plain(self, name)
        read = files.read

        def late(*arguments):
            make_image(images / "ash" / "005.png", 55)
            return read(*arguments)

        files.read = late
        return files

    with monkeypatch.context() as patch:
        patch.setattr(PartialStore, "further", changing)
        with pytest.raises(FeatxError, match=r"ash/005\.png: changed while featx was at work"):
            extract(images, path, "block1_conv2")
    extract(images, path, "block1_conv2")
    extract(images, tmp_path / "fresh.h5", "block1")
    assert_same(path, tmp_path / "fresh.h5")


def test_the_store_is_read_in_blocks(tree, store, monkeypatch):
    """Of features that are copied, no more than a block is in memory."""
    monkeypatch.setattr("featx.store.combine._BLOCK_BYTES", 4 * 128 * 4)
    taken, plain = [], Store.take
    monkeypatch.setattr(Store, "take", lambda self, rows: taken.append(len(rows)) or plain(self, rows))
    extract(tree, store, "block1_conv1")
    assert sum(taken) == 15
    assert max(taken) <= 4


def test_rows_of_a_store_are_taken_in_any_order(small_store):
    with featx.open(small_store) as store:
        X = store.matrix(["block5_conv3"])
        rows = np.array([29, 3, 4, 5, 3, 0])
        assert np.array_equal(store.take(rows)["block5_conv3"], X[rows])
        assert store.take(np.array([], dtype=int))["block5_conv3"].shape == (0, 512)


def test_the_command_adds(tree, store):
    def command(layers):
        options = ["--layers", layers, "--weights", "random", "--image-size", "32", "--batch-size", "4"]
        return CliRunner().invoke(main, ["extract", str(tree), "-o", str(store), *options])

    done = command("block1_conv1")
    assert done.exit_code == 0, done.output
    assert "15 new images" in done.stderr
    assert "30 images, 128 features" in done.stdout
    again = command("block1")
    assert again.exit_code == 0
    assert "nothing is missing" in again.stderr
    assert "nothing to compute" in again.stdout
