"""Pixels and activations, computed once: in the rows' order, of the store's own files, resumed where they stopped."""

import hashlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from featx.errors import SourceError
from featx.finetune import read_task
from featx.finetune.cache import RowFiles
from featx.finetune.sources import PixelNetwork, compute_rows, make_network, time_images
from featx.finetune.stages import PIXELS
from featx.images import read_picture
from featx.networks import build_backbone


@pytest.fixture
def images(tuned_store, tree, tmp_path):
    """The images of a store, in a folder that a test may change."""
    return read_task(tuned_store, root=shutil.copytree(tree, tmp_path / "tree")).images


@pytest.fixture
def pixel_files(tmp_path):
    return {PIXELS: RowFiles(tmp_path / "pixels", 30, (32, 32, 3), "uint8", block_rows=12)}


def pictures_of(images):
    read = {"image_size": 32, "resize": "squash", "interpolation": "bilinear"}
    return np.stack([read_picture(images.root / path, **read).pixels for path in images.paths])


def test_pixels_from_files_and_from_the_cache(images, pixel_files):
    expected = pictures_of(images)
    assert compute_rows(PixelNetwork(32, batch_size=7), images, pixel_files) == 30
    rows = np.array([29, 3, 3, 0, 14])
    assert np.array_equal(pixel_files[PIXELS].take(rows), expected[rows])
    assert np.array_equal(images.take(rows), expected[rows])


@pytest.mark.parametrize("engine", ["keras", "ncnn"])
def test_activations_are_the_networks_own(engine, images, tmp_path):
    """A map and a vector at once, of every engine, as Keras gives them."""
    pytest.importorskip("ncnn" if engine == "ncnn" else "keras")
    frozen = build_backbone("vgg16", layers="block2_pool", weights="random", image_size=32)
    files = {"block2_pool": RowFiles(tmp_path / "maps", 30, (8, 8, 128), "float32", block_rows=11)}
    assert compute_rows(make_network(frozen, engine=engine), images, files) == 30
    from featx.networks import preprocess

    values = preprocess(np, pictures_of(images).astype(np.float32), "caffe")
    expected = np.asarray(frozen.model([values])["block2_pool"])
    found = files["block2_pool"].take(np.arange(30))
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)


def test_what_is_there_is_not_computed_again(images, pixel_files):
    files = pixel_files[PIXELS]
    compute_rows(PixelNetwork(32), images, pixel_files)
    files.close()
    (files.path / "0000000012.npy").unlink()
    (files.path / "rest.tmp").write_bytes(b"half")
    assert compute_rows(PixelNetwork(32, batch_size=5), images, pixel_files) == 12
    assert compute_rows(PixelNetwork(32), images, pixel_files) == 0
    assert np.array_equal(files.take(np.arange(30)), pictures_of(images))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: shutil.copy(path.with_name("000.png"), path), r"not the file that the store's .*extract again"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:400]),
            r"could be read when .*again without it, with `overwrite`$",
        ),
        (lambda path: path.write_bytes(b""), r"empty file; it could be read when the store was made"),
        (lambda path: path.unlink(), r"No such file.*; it could be read when the store was made"),
    ],
    ids=["changed", "cut", "empty", "gone"],
)
def test_a_file_that_is_another_one(damage, message, images, pixel_files):
    row = 17
    path = images.root / images.paths[row]
    damage(path)
    for read in (
        lambda: compute_rows(PixelNetwork(32), images, pixel_files),
        lambda: images.take(np.array([2, row])),
    ):
        with pytest.raises(SourceError, match=rf"{path.parent.name}/{path.name}: .*{message}"):
            read()
    # The blocks before it are kept.
    assert [pixel_files[PIXELS].has(start) for start in (0, 12, 24)] == [True, False, False]
    assert images.take(np.array([2])).shape == (1, 32, 32, 3)


def test_a_digest_of_all_that_decides_pixels(images):
    assert images.digest == replace(images, root=images.root.parent, paths=images.paths[::-1]).digest
    read = images.options
    others = [
        *(replace(images, options=replace(read, image_size=64)), replace(images, options=replace(read, resize="crop"))),
        replace(images, options=replace(read, interpolation="bicubic")),
        replace(images, options=replace(read, jpeg="scaled")),
        replace(images, options=replace(read, icc="ignore")),
        replace(images, sha256=images.sha256[::-1]),
        replace(images, sha256=images.sha256[1:]),
    ]
    assert len({each.digest for each in [images, *others]}) == 8
    path = images.root / images.paths[0]
    assert images.sha256[0] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_images_that_are_the_same_are_rows_of_their_own(images, pixel_files):
    twice = replace(images, paths=images.paths[[4] * 30], sha256=images.sha256[[4] * 30])
    assert compute_rows(PixelNetwork(32), twice, pixel_files) == 30
    assert np.array_equal(pixel_files[PIXELS].take(np.arange(30)), pictures_of(twice))


def test_the_clock_runs_over_the_images_asked_for(images):
    class Counted(PixelNetwork):
        n_seen = 0

        def __call__(self, pixels):
            self.n_seen += len(pixels)
            return super().__call__(pixels)

    network = Counted(32, batch_size=4)
    assert time_images(network, images, np.array([3, 9, 11, 20, 21])) > 0
    # One batch to begin with, which doesn't count.
    assert network.n_seen == 4 + 5
