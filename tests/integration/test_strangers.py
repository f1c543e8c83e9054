"""Images from strangers: whatever lies there, each ends as a row or with a reason, and nothing hangs or is lost."""

import io
import os
import shutil
import struct
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mutants import crops, encode, jpeg_photographs, mutate, png_photographs
from PIL import Image
from samples import SMALL, make_image, make_tree, relative_error

import featx
from featx import FeatxError
from featx.cli import main
from featx.errors import ImageError
from featx.images import decode as images, read_picture
from featx.images.decode import decode
from featx.images.files import MAX_BYTES, read_file

READ = {"image_size": 32, "resize": "squash", "interpolation": "bilinear"}
BLOCK1 = {"layers": "block1", **SMALL}
NCNN = BLOCK1 | {"engine": "ncnn"}

is_posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and such links are of POSIX")


def save(path, kind="PNG", size=(40, 30), color="red", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, kind, **options)
    return path


def features_of(path):
    with featx.open(path) as store:
        return store.matrix(), store.images, store.rejected.set_index("path")["reason"].to_dict()


# What a folder may hold


def readable_strangers(folder):
    """Write images that look odd and are fine."""
    frames = [Image.new("RGB", (40, 30), (0, 0, shade)) for shade in (50, 150, 250)]
    for kind in ("gif", "webp"):
        frames[0].save(folder / f"animated.{kind}", save_all=True, append_images=frames[1:])
    save(folder / "1x1.png", size=(1, 1))
    save(folder / "1x30000.png", size=(1, 30_000), color="green")
    save(folder / "30000x1.png", size=(30_000, 1), color="blue")
    save(folder / "a PNG.jpg", "PNG", color="yellow")
    names = ("new\nline.png", 'it\'s "quoted" & so on.png', "-rf.png", "x" * 251 + ".png", "album.jpg/one.png")
    for seed, name in enumerate(names):
        make_image(folder / name, seed)


def unreadable_strangers(folder):
    """Write what is no image; return the reasons expected, by name."""
    photograph = encode(Image.new("RGB", (64, 48), "red"), "JPEG")
    (folder / "truncated.jpg").write_bytes(photograph[: len(photograph) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.jpg").write_text("these are words")
    bomb = bytearray(encode(Image.new("L", (8, 8)), "PNG"))
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (folder / "bomb.png").write_bytes(bomb)
    values = np.zeros((8, 8), np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(folder / "nan.tif")
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder / "folder.jpg" / "empty").mkdir(parents=True)
    for name, target in {
        "nowhere.png": "nothing.png",
        "a.jpg": "b.jpg",
        "b.jpg": "a.jpg",
        "device.jpg": "/dev/zero",
    }.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.jpg")
    reasons = {
        "truncated.jpg": "cannot be decoded: ",
        "zero.png": "empty file",
        "text.jpg": "not a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF, HEIC, PBM, PGM or PPM image",
        "bomb.png": "cannot be decoded: Image size (3600000000 pixels)",
        "nan.tif": "holds values that are not finite",
        "large.jpg": "1,073,741,825 bytes, more than 1,073,741,824",
        "folder.jpg": "a folder, not an image file",
        "nowhere.png": "cannot be opened: No such file",
        "a.jpg": "cannot be opened: Too many levels",
        "b.jpg": "cannot be opened: Too many levels",
        "device.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
    }
    if sys.platform == "linux":
        make_image(folder / os.fsdecode(b"raw\xff.png"), 9)
        reasons["raw\\udcff.png"] = "its name is not UTF-8: rename it"
    if os.geteuid() != 0:
        make_image(folder / "secret.png", 9).chmod(0)
        reasons["secret.png"] = "cannot be read: Permission denied"
    return reasons


@is_posix
def test_a_folder_of_all_of_them(tmp_path):
    clean = make_tree(tmp_path / "clean", {"ash": 3, "birch": 3})
    (clean / "odd").mkdir()
    readable_strangers(clean / "odd")
    mixed = shutil.copytree(clean, tmp_path / "mixed")
    expected = unreadable_strangers(mixed / "odd")
    (mixed / "odd" / "up").symlink_to("..")
    (mixed / "all").symlink_to(".")

    manifest = featx.read_source(mixed)
    assert manifest.notes == ("2 links to folders not followed; first 'all'",)
    done = featx.extract_features(manifest, tmp_path / "s.h5", **BLOCK1)
    X, table, reasons = features_of(tmp_path / "s.h5")
    assert done.n_rejected == len(reasons) == len(expected)
    for name, reason in expected.items():
        assert reasons[f"odd/{name}"].startswith(reason), name
    assert len(table) + len(reasons) == len(manifest)

    featx.extract_features(featx.read_source(clean), tmp_path / "clean.h5", **BLOCK1)
    X_clean, table_clean, _ = features_of(tmp_path / "clean.h5")
    assert table.equals(table_clean)
    assert np.array_equal(X, X_clean)
    assert len(table) == 6 + 11


# Reading


@is_posix
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "a folder, not an image file"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
        (lambda path: path.symlink_to(path.name), "cannot be opened: Too many levels of symbolic links"),
    ],
)
def test_only_regular_files_are_read(tmp_path, make, reason):
    make(tmp_path / "x.jpg")
    with pytest.raises(ImageError) as found:
        read_picture(tmp_path / "x.jpg", **READ)
    assert str(found.value) == reason


def test_a_file_is_read_up_to_a_limit(tmp_path):
    (tmp_path / "x.jpg").write_bytes(bytes(range(200)))
    assert read_file(tmp_path / "x.jpg", max_bytes=200) == bytes(range(200))
    with pytest.raises(ImageError, match=r"^200 bytes, more than 199$"):
        read_file(tmp_path / "x.jpg", max_bytes=199)


def test_files_that_the_system_does_not_give_say_so(tmp_path, monkeypatch):
    make_image(tmp_path / "x.png", 1)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(ImageError, match="cannot be read: Permission denied"):
        patch.setattr(Path, "open", refuse)
        read_picture(tmp_path / "x.png", **READ)


def most_at_once(work, n_threads=4):
    """Return how many of some threads were at the same time where `work`'s argument is called."""
    lock, inside, most = threading.Lock(), 0, 0

    def visit():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1

    threads = [threading.Thread(target=work, args=(visit,)) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


@pytest.mark.parametrize(
    ("size", "limit", "together"),
    [((64, 64), 64 * 64, True), ((64, 64), 64 * 64 - 1, False), ((200, 1), 32 * 200 - 1, False)],
)
def test_large_pictures_are_decoded_one_at_a_time(monkeypatch, size, limit, together):
    data = encode(Image.new("RGB", size), "PNG")
    monkeypatch.setattr(images, "LARGE_PIXELS", limit)
    plain, visits = images._to_pixels, {}

    def visited(*arguments):
        visits[threading.get_ident()]()
        return plain(*arguments)

    def work(visit):
        visits[threading.get_ident()] = visit
        decode(data, image_size=32)

    monkeypatch.setattr(images, "_to_pixels", visited)
    assert (most_at_once(work) > 1) == together


@pytest.mark.parametrize("together", [True, False])
def test_large_files_are_read_and_decoded_one_at_a_time(tmp_path, monkeypatch, together):
    path = make_image(tmp_path / "x.png", 1)
    monkeypatch.setattr(images, "LARGE_BYTES", path.stat().st_size - (not together))
    # The same lock is asked for twice, by the file and by its picture.
    monkeypatch.setattr(images, "LARGE_PIXELS", 10**9 if together else 10)
    plain, visits = images.read_file, {}

    def visited(path):
        visits[threading.get_ident()]()
        return plain(path)

    def work(visit):
        visits[threading.get_ident()] = visit
        read_picture(path, **READ)

    monkeypatch.setattr(images, "read_file", visited)
    assert (most_at_once(work) > 1) == together


def test_a_tile_far_larger_than_its_picture_is_refused_before_it_unfolds():
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 284: 1, 322: 40_000, 323: 40_000, 324: 200, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    data = data.ljust(200, b"\0") + zlib.compress(bytes(10_000))
    with pytest.raises(ImageError, match="40000 x 40000 pixels, more than 178,956,970"):
        decode(data)


def test_a_jpeg_of_very_many_scans_is_refused_before_the_first():
    data = encode(Image.new("L", (64, 48), 80), "progressive JPEG")
    start = data.rindex(b"\xff\xda")
    last = data[start:-2]
    for n_more, is_refused in ((94, False), (95, True), (500, True)):
        many = data[:-2] + n_more * last + data[-2:]
        if is_refused:
            with pytest.raises(ImageError, match=f"a JPEG of {n_more + 6} scans, more than 100"):
                decode(many)
        else:
            assert np.array_equal(decode(many), decode(data))
    # What is in a segment, or behind the picture's end, is no scan of it.
    thumbnail = b"\xff\xe5" + (2 + 400).to_bytes(2, "big") + 200 * b"\xff\xda"
    assert np.array_equal(decode(data[:2] + thumbnail + data[2:] + 300 * last), decode(data))


def test_reasons_stay_short_and_on_one_line(monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("piece of\n\x1b[31m a file " * 10_000)

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(ImageError) as found:
        decode(b"x")
    assert len(str(found.value)) < 250
    assert str(found.value).isprintable()


# Photographs, damaged


def check_mutants(files, n, seed):
    """Decode mutants; return how many were still pictures."""
    n_pictures = 0
    for number, data in enumerate(mutate(files, n, seed)):
        try:
            resize = images.RESIZES[number % 3]
            pixels = decode(data, image_size=32, resize=resize, jpeg=("full", "scaled")[number % 2])
        except ImageError as error:
            assert 0 < len(str(error)) < 300
            assert str(error).isprintable()
        else:
            assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
            n_pictures += 1
    return n_pictures


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_damaged_photographs_end_as_pictures_or_reasons(action):
    # Also where Python is told to raise warnings: none gets out of the decoder.
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        files = [data for path in jpeg_photographs() for data in crops(path)]
        assert 0 < check_mutants(files, 1200, seed=7) < 1200


def test_damaged_photographs_of_full_size_end_as_pictures_or_reasons():
    files = [path.read_bytes() for path in jpeg_photographs()]
    assert 0 < check_mutants(files, 60, seed=8) < 60


def test_damaged_pngs_end_as_pictures_or_reasons():
    paths = png_photographs(4)
    if not paths:
        pytest.skip("the photographs of the package elpv-dataset are not installed")
    assert 0 < check_mutants([path.read_bytes() for path in paths], 120, seed=9) < 120


def test_damaged_files_on_disk_end_as_rows_or_reasons_and_nothing_is_said(tmp_path, capfd):
    files = [data for path in jpeg_photographs() for data in crops(path)[:5]]
    for number, data in enumerate(mutate(files, 60, seed=10)):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    manifest = featx.read_source(tmp_path / "images")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", module="(keras|tensorflow)")
        done = featx.extract_features(manifest, tmp_path / "s.h5", **NCNN)
    assert (done.n_images > 5, done.n_rejected > 5) == (True, True)
    assert done.n_images + done.n_rejected == 60
    assert capfd.readouterr() == ("", "")


# A run that goes wrong


def spoil(tree, folder, rows):
    """Copy a tree, with empty files at some rows; return it and their paths."""
    copy = shutil.copytree(tree, folder)
    paths = [copy / featx.read_source(tree).table["path"][row] for row in rows]
    for path in paths:
        path.write_bytes(b"")
    return copy, paths


@pytest.mark.parametrize("most", [2, 0.07])
def test_too_many_rejections_end_the_run_and_name_the_first(tree, tmp_path, most):
    source, paths = spoil(tree, tmp_path / "images", [1, 5, 9, 28])
    manifest = featx.read_source(source)
    with pytest.raises(FeatxError) as found:
        featx.extract_features(manifest, tmp_path / "s.h5", max_rejected=most, **BLOCK1)
    message = str(found.value)
    assert message.startswith("3 of 30 images can't be read, and `max_rejected` allows 2. The first: ")
    for path in paths[:3]:
        assert f"{path}: empty file" in message
    assert "run the same command again" in message
    assert not (tmp_path / "s.h5").exists()
    # One batch was full.
    assert [path.name for path in (tmp_path / "s.h5.parts").glob("rows-*")] == ["rows-0000000000-0000000005.npz"]
    # Enough are allowed now; what was computed stays.
    done = featx.extract_features(manifest, tmp_path / "s.h5", max_rejected=4, **BLOCK1)
    assert (done.n_images, done.n_rejected, done.n_resumed) == (26, 4, 4)


def test_a_run_that_goes_on_counts_what_was_rejected_before(tree, tmp_path):
    source, _ = spoil(tree, tmp_path / "images", [1, 5, 20])
    manifest = featx.read_source(source)
    for most, n_found in ((2, 3), (1, 2), (0, 1)):
        with pytest.raises(FeatxError, match=f"^{n_found} of 30 images can't be read, and .* allows {most}"):
            featx.extract_features(manifest, tmp_path / f"{most}.h5", max_rejected=most, **BLOCK1)
    # At once, without a single image more.
    with pytest.raises(FeatxError, match=r"^2 of 30 images can't be read, and .* allows 1"):
        featx.extract_features(manifest, tmp_path / "2.h5", max_rejected=1, **BLOCK1)
    assert featx.extract_features(manifest, tmp_path / "2.h5", max_rejected=3, **BLOCK1).n_rejected == 3


@pytest.mark.parametrize("options", [NCNN, BLOCK1])
def test_images_that_were_mended_are_read_again_when_the_run_goes_on(tree, tmp_path, options):
    source, paths = spoil(tree, tmp_path / "images", [1, 5, 6, 20])
    manifest, path = featx.read_source(source), tmp_path / "s.h5"
    with pytest.raises(FeatxError, match="4 of 30"):
        featx.extract_features(manifest, path, max_rejected=3, **options)
    shutil.copy(tree / "ash" / "001.png", paths[0])
    # Of the same bytes as another, and one that can't be read for another reason now.
    shutil.copy(tree / "ash" / "000.png", paths[1])
    paths[2].write_text("words")
    lines = []
    done = featx.extract_features(manifest, path, max_rejected=2, echo=lines.append, **options)
    assert "2 of 3 images that were rejected before can be read now" in lines
    assert (done.n_images, done.n_rejected, done.n_identical) == (28, 2, 1)
    X, table, reasons = features_of(path)
    assert reasons["ash/006.png"].startswith("not a JPEG")
    assert list(reasons) == ["ash/006.png", "birch/008.png"]

    fresh = tmp_path / "fresh.h5"
    featx.extract_features(manifest, fresh, **options)
    X_fresh, table_fresh, _ = features_of(fresh)
    assert table.equals(table_fresh)
    if options is NCNN:
        assert np.array_equal(X, X_fresh)
    else:
        # In other batches, which Keras lets change the last bits.
        assert relative_error(X, X_fresh) < 1e-6


def test_a_run_that_goes_on_with_the_same_bad_images_keeps_its_parts(tree, tmp_path):
    source, _ = spoil(tree, tmp_path / "images", [1, 5, 20])
    manifest, path = featx.read_source(source), tmp_path / "s.h5"
    with pytest.raises(FeatxError):
        featx.extract_features(manifest, path, max_rejected=2, **BLOCK1)
    (part,) = (tmp_path / "s.h5.parts").glob("rows-*")
    before = part.stat().st_mtime_ns
    with pytest.raises(FeatxError):
        featx.extract_features(manifest, path, max_rejected=2, **BLOCK1)
    assert part.stat().st_mtime_ns == before
    featx.extract_features(manifest, path, **BLOCK1)
    featx.extract_features(manifest, tmp_path / "fresh.h5", **BLOCK1)
    assert np.array_equal(features_of(path)[0], features_of(tmp_path / "fresh.h5")[0])


def test_the_command_stops_with_one_line(tree, tmp_path):
    source, _ = spoil(tree, tmp_path / "images", [1, 5])
    (source / "ash" / "001.png").rename(source / "ash" / "00\n1.png")
    options = ["--layers", "block1", "--weights", "random", "--image-size", "32", "--batch-size", "4"]
    command = ["extract", str(source), "-o", str(tmp_path / "s.h5"), *options, "--max-rejected"]
    done = CliRunner().invoke(main, [*command, "5%"])
    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("featx: 2 of 30 images can't be read, and --max-rejected allows 1. The first: ")
    assert "00 1.png: empty file" in line
    assert CliRunner().invoke(main, [*command, "2"]).exit_code == 0
    assert len(io.StringIO(done.stderr).readlines()) == 2
