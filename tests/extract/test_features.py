"""Images to store: what comes out, and that nothing stops it from coming out."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import stub_network
from click.testing import CliRunner
from interrupted_runs import disk_that_takes, features_of, interrupt_after, same_store
from samples import SMALL, make_image, make_tree
from stub_network import StubNetwork, stand_in

import featx
from featx import FeatxError
from featx.cli import main
from featx.extract import ExtractOptions, forecast_extraction
from featx.images import read_picture
from featx.inference import build_network
from featx.networks import BACKBONES
from featx.store import PartialStore
from featx.system import options_of

LAYERS = "block1_conv1,block2_conv1"
STUB = {"weights": "random", "layers": "all", "image_size": 32, "batch_size": 4}
READ = {"image_size": 32, "resize": "squash", "interpolation": "bilinear"}
COMMAND = ("--layers", LAYERS, "--weights", "random", "--image-size", 32, "--batch-size", 4, "--engine", "keras")


def extract_here(images, path, *further):
    """Run the command line in this process, which has Keras already."""
    return CliRunner().invoke(main, ["extract", *map(str, (images, "-o", path, *COMMAND, *further))])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Three classes of 400 images in all: enough parts to be interrupted between them."""
    return make_tree(tmp_path_factory.mktemp("many"), {"ash": 150, "birch": 130, "cedar": 120})


@pytest.fixture(scope="module")
def undisturbed(many, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store.h5"
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        featx.extract_features(featx.read_source(many), path, **STUB)
    return path


@pytest.fixture
def stub():
    """Put the stand-in where the network would be."""
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        yield


def test_every_row_is_its_image(tree, small_store):
    network = build_network(layers="all", weights="random", image_size=32, batch_size=4)
    with featx.open(small_store) as store:
        images, X = store.images, store.matrix()
    for row in (0, 13, 29):
        picture = read_picture(tree / images["path"][row], **READ)
        expected = np.concatenate([values[0] for values in network(picture.pixels[None]).values()])
        assert np.linalg.norm(X[row] - expected) < 1e-5 * np.linalg.norm(expected)
        assert images["sha256"][row] == picture.sha256
        assert images["path"][row].startswith(images["label"][row])


def test_what_it_returns_and_leaves(tree, tmp_path):
    lines = []
    done = featx.extract_features(
        featx.read_source(tree), tmp_path / "s.h5", layers="block1", echo=lines.append, **SMALL
    )
    assert (done.n_images, done.n_features, done.n_rejected, done.n_resumed) == (30, 128, 0, 0)
    assert done.images_per_second > 0
    with featx.open(tmp_path / "s.h5") as store:
        assert store.images_per_second == store.attributes["images_per_second"] == done.images_per_second
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert any("vgg16, 2 layers, on" in line for line in lines)


def test_unreadable_images_never_shift_a_row(tree, tmp_path, small_store):
    mixed = shutil.copytree(tree, tmp_path / "mixed")
    (mixed / "ash" / "003a.png").write_bytes(b"")
    (mixed / "birch" / "000a.jpg").write_text("words")
    data = (tree / "cedar" / "001.png").read_bytes()
    (mixed / "cedar" / "zzz.png").write_bytes(data[: len(data) // 2])
    (mixed / "ash" / "link.png").symlink_to("nowhere.png")
    (mixed / "ash" / "folder.png").mkdir()
    done = featx.extract_features(featx.read_source(mixed), tmp_path / "s.h5", layers="all", **SMALL)
    assert (done.n_images, done.n_rejected) == (30, 5)
    with featx.open(tmp_path / "s.h5") as store, featx.open(small_store) as clean:
        X, expected = store.matrix(["block2_conv1"]), clean.matrix(["block2_conv1"])
        assert store.images["path"].tolist() == clean.images["path"].tolist()
        reasons = store.rejected.set_index("path")["reason"]
    assert np.linalg.norm(X - expected) < 1e-6 * np.linalg.norm(expected)
    assert reasons["ash/003a.png"] == "empty file"
    assert "not a JPEG" in reasons["birch/000a.jpg"]
    assert "cannot be decoded" in reasons["cedar/zzz.png"]
    assert "No such file" in reasons["ash/link.png"]
    assert reasons["ash/folder.png"] == "a folder, not an image file"


def test_when_no_image_can_be_read_nothing_is_left(tmp_path):
    csv = tmp_path / "m.csv"
    csv.write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(FeatxError, match=r"none of the 2 images could be read; the first, .*a\.png: .*`root`"):
        featx.extract_features(featx.read_source(csv), tmp_path / "s.h5", layers="block1", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]
    # Where the files are there, other paths are of no help.
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(FeatxError, match=r"a\.png: not a JPEG, .*\. Fix them, or use others$"):
        featx.extract_features(featx.read_source(csv), tmp_path / "s.h5", layers="block1", **SMALL)


def test_odd_names_are_kept(tmp_path):
    names = ["a b.png", "it's.png", 'q"uote.png', "new\nline.png", "ünï.png", "x" * 246 + ".png"]
    for row, name in enumerate(names):
        make_image(tmp_path / "images" / f"c{row % 2}" / name, row)
    manifest = featx.read_source(tmp_path / "images")
    featx.extract_features(manifest, tmp_path / "s.h5", layers="block1", **SMALL)
    with featx.open(tmp_path / "s.h5") as store:
        assert store.images["path"].tolist() == manifest.table["path"].tolist()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file names are text")
def test_a_name_that_is_not_text_is_rejected_and_the_store_stays_readable(tmp_path):
    make_tree(tmp_path / "images", {"a": 2, "b": 2})
    make_image(tmp_path / "images" / "a" / os.fsdecode(b"raw\xff.png"), 9)
    featx.extract_features(featx.read_source(tmp_path / "images"), tmp_path / "s.h5", layers="block1", **SMALL)
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["images/path"].asstr()[:].tolist() == ["a/000.png", "a/001.png", "b/000.png", "b/001.png"]
        assert file["rejected/path"].asstr()[:].tolist() == ["a/raw\\udcff.png"]
        assert file["rejected/reason"].asstr()[:].tolist() == ["its name is not UTF-8: rename it"]


def test_images_of_another_folder_never_mix(many, tmp_path, monkeypatch, stub):
    other = make_tree(tmp_path / "other", {"ash": 150, "birch": 130, "cedar": 120}, seed=7)
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        interrupt_after(100, patch, network=StubNetwork)
        featx.extract_features(featx.read_source(many), path, **STUB)
    with pytest.raises(FeatxError, match=r"started with root '.*many.*', now '.*other'"):
        featx.extract_features(featx.read_source(other), path, **STUB)


def test_overwriting_begins_anew_and_an_overwriting_run_goes_on(many, undisturbed, tmp_path, monkeypatch, stub):
    path = tmp_path / "s.h5"
    path.write_bytes(undisturbed.read_bytes())
    options = {"overwrite": True, **STUB}
    for n_before in (0, 100):
        with monkeypatch.context() as patch, pytest.raises(FeatxError, match=f"stopped: {n_before + 100} of 400"):
            interrupt_after(100, patch, network=StubNetwork)
            featx.extract_features(featx.read_source(many), path, **options)
        assert same_store(path, undisturbed)
    with pytest.raises(FeatxError, match=r"started with `overwrite`, now without.*or delete this folder"):
        featx.extract_features(featx.read_source(many), path, **STUB)
    done = featx.extract_features(featx.read_source(many), path, **options)
    assert done.n_resumed == 200
    assert same_store(path, undisturbed)
    assert featx.extract_features(featx.read_source(many), path, **options).n_resumed == 0


def test_a_finished_store_beside_an_empty_folder_is_of_its_own_images(tree, tmp_path):
    path = tmp_path / "s.h5"
    featx.extract_features(featx.read_source(tree), path, layers="block1", **SMALL)
    (tmp_path / "s.h5.parts").mkdir()
    other = make_tree(tmp_path / "other", {"ash": 12, "birch": 10, "cedar": 8}, seed=7)
    with pytest.raises(FeatxError, match=r"exists, and was made of images in .*, but differ"):
        featx.extract_features(featx.read_source(other), path, layers="block1", **SMALL)
    shutil.rmtree(other)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.h5"]
    (tmp_path / "s.h5.parts").mkdir()
    assert featx.extract_features(featx.read_source(tree), path, layers="block1", **SMALL).n_images == 30
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.h5"]


def test_an_output_that_exists_is_refused_or_replaced(tree, tmp_path):
    manifest = featx.read_source(tree)
    path = tmp_path / "s.h5"
    path.write_text("no store")
    with pytest.raises(FeatxError, match=r"s\.h5: not an .*can't be added to: .*`overwrite` to replace"):
        featx.extract_features(manifest, path, layers="block1_conv2", **SMALL)
    assert path.read_text() == "no store"
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.h5"]
    featx.extract_features(manifest, path, layers="block1_conv2", overwrite=True, **SMALL)
    with featx.open(path) as store:
        assert store.layers == ["block1_conv2"]


def test_a_store_never_says_what_it_is_not(tree, tmp_path):
    names = [name for name, each in options_of(ExtractOptions).items() if each.values.words or each.values.range.high]
    assert {"backbone", "resize", "preprocessing", "jpeg", "icc", "store_dtype", "batch_size", "image_size"} <= {*names}
    for name in names:
        with pytest.raises(FeatxError, match=f"^{name}: expected .*, found 'none of them'$"):
            featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", **SMALL | {name: "none of them"})
    assert list(tmp_path.iterdir()) == []


def test_where_no_store_can_be_is_one_line(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in (["extract", tree, "-o", ".", *COMMAND], ["extract", tree, "-o", ".", *COMMAND, "--shard", "1/2"]):
        done = CliRunner().invoke(main, [*map(str, line)])
        assert done.stderr == "featx: .: a folder; give the name of the HDF5 file to make\n"
    for store in (".", ""):
        assert CliRunner().invoke(main, ["merge", store]).stderr.startswith("featx: .: a folder; give the name of")
    too_long = f"{'x' * 300}.h5"
    for line in (["extract", tree, "-o", too_long, *COMMAND], ["merge", too_long]):
        done = CliRunner().invoke(main, [*map(str, line)])
        assert done.stderr == f"featx: {too_long}: can't be written: File name too long; give another name\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
def test_what_is_no_file_is_never_replaced(tree, tmp_path):
    os.mkfifo(tmp_path / "s.h5")
    with pytest.raises(FeatxError, match=r"s\.h5: not a regular file; give another name"):
        featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", layers="block1", overwrite=True, **SMALL)
    assert (tmp_path / "s.h5").is_fifo()


@pytest.mark.parametrize(("output", "message"), [("", "a folder"), ("no/s.h5", "doesn't exist")])
def test_outputs_that_cannot_be_made(tree, tmp_path, output, message):
    with pytest.raises(FeatxError, match=message):
        featx.extract_features(featx.read_source(tree), tmp_path / output, layers="block1", **SMALL)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(many, undisturbed, tmp_path, monkeypatch, stub):
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch:
        interrupt_after(200, patch, network=StubNetwork)
        with pytest.raises(FeatxError, match=r"stopped: 200 of 400 images are done.*same command again") as stopped:
            featx.extract_features(featx.read_source(many), path, **STUB)
    assert stopped.value.exit_code == 130
    assert not path.exists()
    done = featx.extract_features(featx.read_source(many), path, **STUB)
    assert done.n_resumed == 200
    assert same_store(path, undisturbed)
    with featx.open(path) as store:
        assert store.images_per_second == done.images_per_second


def test_a_run_that_only_makes_the_file_does_not_tell_a_speed(many, undisturbed, tmp_path, monkeypatch, stub):
    from featx.extract.run import ExtractionRun

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped: 400 of 400"):
        patch.setattr(ExtractionRun, "publish", stop)
        featx.extract_features(featx.read_source(many), path, **STUB)
    done = featx.extract_features(featx.read_source(many), path, **STUB)
    assert (done.n_computed, done.n_resumed) == (0, 400)
    assert same_store(path, undisturbed)
    with featx.open(path) as store:
        assert "images_per_second" not in store.attributes
        assert store.images_per_second is None


def test_a_resumed_run_refuses_other_settings_by_name(many, tmp_path, monkeypatch, stub):
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        interrupt_after(100, patch, network=StubNetwork)
        featx.extract_features(featx.read_source(many), path, **STUB)
    with pytest.raises(FeatxError, match="resize 'squash', now 'crop'"):
        featx.extract_features(featx.read_source(many), path, resize="crop", **STUB)
    done = featx.extract_features(featx.read_source(many), path, resize="crop", overwrite=True, **STUB)
    assert (done.n_resumed, done.n_images) == (0, 400)


def test_damaged_parts_are_done_again(many, undisturbed, tmp_path, monkeypatch, stub):
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        interrupt_after(390, patch, network=StubNetwork)
        featx.extract_features(featx.read_source(many), path, **STUB)
    first, second, *_ = sorted((tmp_path / "s.h5.parts").glob("rows-*.npz"))
    data = bytearray(first.read_bytes())
    data[len(data) // 3] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:1000])
    done = featx.extract_features(featx.read_source(many), path, **STUB)
    assert done.n_resumed < 390 - 128
    assert same_store(path, undisturbed)


def test_a_kill_between_the_store_and_the_end_is_cleaned_up(many, undisturbed, tmp_path, monkeypatch, stub):
    from featx.store import PartialStore

    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch:
        patch.setattr(PartialStore, "remove", lambda self: None)
        featx.extract_features(featx.read_source(many), path, **STUB)
    assert (tmp_path / "s.h5.parts").exists()
    done = featx.extract_features(featx.read_source(many), path, **STUB)
    assert done.n_images == 400
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.h5"]
    assert same_store(path, undisturbed)


@pytest.mark.parametrize(
    ("n_bytes", "message", "n_kept"),
    [
        (100_000, r"writing failed .*128 images are done and kept.*same command again", 128),
        (300_000, r"writing failed .*All features are kept in the parts.*same command again", 400),
    ],
)
def test_a_full_disk_keeps_what_is_done(many, undisturbed, tmp_path, monkeypatch, n_bytes, message, n_kept, stub):
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        interrupt_after(128, patch, network=StubNetwork)
        featx.extract_features(featx.read_source(many), path, **STUB)
    with disk_that_takes(n_bytes), pytest.raises(FeatxError, match=message):
        featx.extract_features(featx.read_source(many), path, **STUB)
    assert not path.exists()
    done = featx.extract_features(featx.read_source(many), path, **STUB)
    assert done.n_resumed == n_kept
    assert same_store(path, undisturbed)


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_ctrl_c_on_the_command_line(many, undisturbed, tmp_path, stub):
    path = tmp_path / "s.h5"
    options = ["--weights", "random", "--image-size", "32", "--batch-size", "4"]
    process = subprocess.Popen(
        [sys.executable, Path(stub_network.__file__), "extract", many, "-o", path, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {stub_network.DELAY: "0.02"},
        # Where the tests run in the background, a shell may have made them ignore what Ctrl-C sends.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(tmp_path.glob("s.h5.parts/rows-*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("featx: stopped: ")
    featx.extract_features(featx.read_source(many), path, **STUB)
    assert same_store(path, undisturbed)


def test_a_disk_too_small_is_refused_before_the_first_image(many, tmp_path, monkeypatch, stub):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(FeatxError, match=r"MB needed .*0 MB free"):
        featx.extract_features(featx.read_source(many), tmp_path / "s.h5", **STUB)


def test_values_that_are_not_finite_name_the_image(tree, tmp_path):
    import keras

    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    kernel, bias = network.get_layer("block1_conv1").get_weights()
    network.get_layer("block1_conv1").set_weights([kernel, np.full_like(bias, np.inf)])
    network.save_weights(tmp_path / "inf.weights.h5")
    options = SMALL | {"weights": str(tmp_path / "inf.weights.h5")}
    with pytest.raises(FeatxError, match=r"ash/000\.png: block1_conv1 gave values that are not finite"):
        featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", layers="block1", **options)


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    """Weights whose first layer gives 70,000 and more."""
    import keras

    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    kernel, bias = network.get_layer("block1_conv1").get_weights()
    network.get_layer("block1_conv1").set_weights([kernel, np.full_like(bias, 7e4)])
    path = tmp_path_factory.mktemp("bright") / "bright.weights.h5"
    network.save_weights(path)
    return path


def refuse_once_begun(folder):
    if (folder.path / "run.json").exists():
        raise PermissionError


def test_values_beyond_float16_are_told_at_the_first_batch(tree, tmp_path, bright, monkeypatch):
    options = SMALL | {"weights": str(bright), "layers": "block1_conv1"}
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        message = (
            r"ash/000\.png: block1_conv1 gave the value 7\d,\d+, and float16 ends at 65,504\. .*`store_dtype` float32"
        )
        with pytest.raises(FeatxError, match=message):
            featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", store_dtype="float16", **options)
        assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        # A disk that has become one to be read alone.
        patch.setattr(PartialStore, "clear", refuse_once_begun)
        with pytest.raises(FeatxError, match="`store_dtype` float32"):
            featx.extract_features(featx.read_source(tree), tmp_path / "t.h5", store_dtype="float16", **options)
    # As it says.
    featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", **options)
    assert features_of(tmp_path / "s.h5")[0].max() > 7e4
    with pytest.raises(FeatxError, match="store_dtype: expected float32 or float16, found 'float64'"):
        featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", store_dtype="float64", **options)


def test_a_float16_store_holds_rounded_features_and_gives_float32(tree, tmp_path):
    for dtype in ("float16", "float32"):
        featx.extract_features(
            featx.read_source(tree),
            tmp_path / f"{dtype}.h5",
            layers="block1",
            pool="avg,max",
            store_dtype=dtype,
            **SMALL,
        )
    with h5py.File(tmp_path / "float16.h5") as file:
        assert file["features/block1_conv2:max"].dtype == np.dtype("<f2")
        assert file.attrs["store_dtype"] == "float16"
    with featx.open(tmp_path / "float16.h5") as half, featx.open(tmp_path / "float32.h5") as single:
        X = half.matrix()
        assert X.dtype == np.float32
        assert np.array_equal(X, single.matrix().astype(np.float16))
        assert half.frame().to_numpy().dtype == np.float32
        assert np.array_equal(half.frame(split="").to_numpy(), X)
        assert half.layers == ["block1_conv1", "block1_conv1:max", "block1_conv2", "block1_conv2:max"]


def test_the_command_extracts_and_describes(tree, tmp_path):
    path = tmp_path / "s.h5"
    done = extract_here(tree, path, "--split", "0.6,0.2,0.2", "--seed", 1)
    assert done.exit_code == 0, done.stderr
    assert "30 images, 192 features, 0 rejected" in done.stdout
    described = CliRunner().invoke(main, ["info", str(path)])
    assert "30 images x 192 features" in described.stdout
    assert "train      18 images: ash" in described.stdout
    again = extract_here(tree, path, "--resize", "crop")
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-1].startswith("featx: ")


def test_the_command_splits_by_images_a_class(tree, tmp_path):
    done = extract_here(tree, tmp_path / "s.h5", "--split-per-class", "3,2", "--seed", 1)
    assert done.exit_code == 0, done.stderr
    with featx.open(tmp_path / "s.h5") as store:
        counts = store.images.groupby(["label", "split"]).size().unstack()
    assert counts["train"].tolist() == [3, 3, 3]
    assert counts["validation"].tolist() == [2, 2, 2]
    assert counts["test"].tolist() == [7, 5, 3]
    for further in (("--split", "0.5,0.5"), ("--stratify", "label")):
        refused = extract_here(tree, tmp_path / "t.h5", "--split-per-class", "3", *further)
        assert "not used with --split or --stratify: leave one" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stratify", "label"], "--stratify: only for a split that is made: give --split too"),
        (["--cluster", "local:2", "--shard", "1/2", "--dry-run"], "--shard: a cluster divides the work by itself"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message, tree, tmp_path):
    refused = extract_here(tree, tmp_path / "s.h5", *options)
    assert refused.exit_code == 1
    assert message in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_store_is_made_of_is_never_overwritten(tree, tmp_path):
    csv = tmp_path / "m.csv"
    csv.write_text("path,label\n" + "".join(f"{tree / name / '000.png'},{name}\n" for name in ("ash", "birch")))
    before = csv.read_bytes()
    refused = extract_here(csv, csv, "--overwrite")
    assert refused.stderr == f"featx: --output: {csv} is the source; give another file\n"
    refused = extract_here(tree, csv, "--overwrite", "--weights", csv)
    assert refused.stderr == f"featx: --output: {csv} is the file of weights; give another file\n"
    assert csv.read_bytes() == before


@pytest.mark.parametrize(
    ("backbone", "layer", "options", "size", "n_features"),
    [
        # A layer that the network itself has to tell.
        ("inception_v3", "conv2d_1", {}, 75, 32),
        ("vgg19", "block1_conv1", {"image_size": 48}, 48, 64),
    ],
)
def test_the_image_size_is_the_backbones_own(backbone, layer, options, size, n_features, tree, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, backbone, replace(BACKBONES[backbone], image_size=75))
    network = {"backbone": backbone, "layers": layer, "weights": "random"}
    featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", **network, **options)
    with featx.open(tmp_path / "s.h5") as store:
        assert store.attributes["image_size"] == size
    forecast = forecast_extraction(featx.read_source(tree), tmp_path / "t.h5", ExtractOptions(**network, **options))
    assert forecast.n_features == n_features
