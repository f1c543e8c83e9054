"""Files with the same bytes are computed once, whatever comes between."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from interrupted_runs import features_of, interrupt_after, same_store
from samples import SMALL, make_image, make_tree

import featx
from featx import FeatxError
from featx.cli import main
from featx.inference import PooledNetwork
from featx.store import PartialStore

LAYERS = "block1_conv1"


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """400 images: 300 files of their own, then every third of them again, some of it nearby, some far away."""
    root = make_tree(tmp_path_factory.mktemp("twins"), {"ash": 150, "birch": 150})
    for number in range(0, 150, 3):
        # Beside its twin, in the same batch or the next one; and many parts later.
        shutil.copy(root / "ash" / f"{number:03d}.png", root / "ash" / f"{number:03d}a.png")
        (root / "cedar").mkdir(exist_ok=True)
        shutil.copy(root / "ash" / f"{number:03d}.png", root / "cedar" / f"{number:03d}.png")
    (root / "ash" / "001a.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def undisturbed(twins, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store.h5"
    featx.extract_features(featx.read_source(twins), path, layers=LAYERS, **SMALL)
    return path


def extract(source, path, **options):
    return featx.extract_features(featx.read_source(source), path, **({"layers": LAYERS} | SMALL | options))


@pytest.mark.parametrize("engine", ["keras", "ncnn"])
def test_each_file_is_computed_once_in_full_batches_and_every_row_is_its_image(twins, tmp_path, monkeypatch, engine):
    sizes, plain = [], PooledNetwork.__call__
    monkeypatch.setattr(
        PooledNetwork, "__call__", lambda self, pixels: sizes.append(len(pixels)) or plain(self, pixels)
    )
    done = extract(twins, tmp_path / "s.h5", engine=engine)
    assert (done.n_images, done.n_identical, done.n_computed, done.n_rejected) == (400, 100, 300, 1)
    # Neither the twins nor the unreadable file took a place.
    assert sizes == [4] * 75
    X, images = features_of(tmp_path / "s.h5")
    for number, rows in images.groupby("sha256").indices.items():
        assert (X[rows] == X[rows[0]]).all(), number
    # The plain way: the files of their own alone, the very same batches.
    alone = shutil.copytree(twins, tmp_path / "alone", ignore=shutil.ignore_patterns("*a.png"))
    shutil.rmtree(alone / "cedar")
    extract(alone, tmp_path / "alone.h5", engine=engine)
    X_alone, images_alone = features_of(tmp_path / "alone.h5")
    where = {sha256: row for row, sha256 in enumerate(images_alone["sha256"])}
    assert np.array_equal(X, X_alone[[where[sha256] for sha256 in images["sha256"]]])


def test_a_stopped_run_goes_on_to_the_same_bytes(twins, undisturbed, tmp_path, monkeypatch):
    path = tmp_path / "s.h5"
    for n_images in (60, 130):
        with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
            interrupt_after(n_images, patch)
            extract(twins, path)
    done = extract(twins, path)
    # 60 and 130 are whole batches, or nearly.
    assert (done.n_resumed, done.n_computed) == (188, 112)
    assert same_store(path, undisturbed)


@pytest.mark.parametrize("damage", [lambda part: part.unlink(), lambda part: part.write_bytes(part.read_bytes()[:-9])])
def test_a_lost_part_whose_features_others_share_is_computed_again(twins, undisturbed, tmp_path, monkeypatch, damage):
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        patch.setattr(PartialStore, "publish", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        extract(twins, path)
    parts = sorted((tmp_path / "s.h5.parts").glob("rows-*.npz"))
    damage(parts[0])
    damage(parts[1])
    done = extract(twins, path)
    assert done.n_computed == 256
    assert same_store(path, undisturbed)


def test_a_file_edited_meanwhile_never_leaves_its_features_to_others(twins, tmp_path, monkeypatch):
    """The owner's part is lost, and its file is another now: its twins are computed after all."""
    images = shutil.copytree(twins, tmp_path / "images")
    path = tmp_path / "s.h5"
    with monkeypatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        patch.setattr(PartialStore, "publish", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        extract(images, path)
    sorted((tmp_path / "s.h5.parts").glob("rows-*.npz"))[0].unlink()
    make_image(images / "ash" / "000.png", 999)
    make_image(images / "ash" / "000a.png", 999)
    extract(images, path)
    extract(images, tmp_path / "fresh.h5")
    (X, table), (X_fresh, table_fresh) = features_of(path), features_of(tmp_path / "fresh.h5")
    assert table.equals(table_fresh)
    assert np.linalg.norm(X - X_fresh) < 1e-6 * np.linalg.norm(X_fresh)
    assert not np.array_equal(X[0], X[table["path"].tolist().index("cedar/000.png")])


def test_the_command_tells_of_identical_files(tmp_path):
    images = make_tree(tmp_path / "images", {"ash": 3, "birch": 3})
    shutil.copy(images / "ash" / "000.png", images / "birch" / "copy.png")
    options = ["--layers", "block1_conv1", "--weights", "random", "--image-size", "32"]
    done = CliRunner().invoke(main, ["extract", str(images), "-o", str(tmp_path / "s.h5"), *options])
    assert "7 images (1 identical to others), 64 features" in done.stdout


def test_identical_files_are_not_even_decoded(tmp_path, monkeypatch):
    """All that can be known when a file is read; what is read at the same moment as its twin may be."""
    import featx.images.decode

    images = make_tree(tmp_path / "images", {"ash": 2, "birch": 2})
    for number in range(60):
        shutil.copy(images / "ash" / "000.png", images / "birch" / f"copy {number:02d}.png")
    n_decoded, plain = [0], featx.images.decode.decode

    def counting(data, **options):
        n_decoded[0] += 1
        return plain(data, **options)

    monkeypatch.setattr(featx.images, "decode", counting)
    done = extract(images, tmp_path / "s.h5")
    assert (done.n_computed, done.n_identical) == (4, 60)
    assert n_decoded[0] < 40
