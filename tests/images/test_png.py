"""PNGs: what has nothing to do with the pixels loses no picture, and what has is never passed over."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from icc_profiles import SRGB, rgb_profile, seen_as
from PIL import Image

from featx.errors import ImageError
from featx.images import read_picture, read_size
from featx.images.decode import UNUSED_PROFILE, decode

N = 32
X, Y = np.meshgrid(np.arange(N) * 8, np.arange(N) * 8)
RGB = np.stack([X, Y, np.full_like(X, 90)], axis=-1).astype(np.uint8)
ROWS = zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB))


def chunk(kind, content, *, damage=0):
    checksum = zlib.crc32(kind + content) ^ damage
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


HEAD = chunk(b"IHDR", struct.pack(">IIBBBBB", N, N, 8, 2, 0, 0, 0))
DATA, END = chunk(b"IDAT", ROWS), chunk(b"IEND", b"")


def png(*before, data=DATA, after=()):
    return b"\x89PNG\r\n\x1a\n" + HEAD + b"".join(before) + data + b"".join(after) + END


def profile_chunk(profile, **options):
    return chunk(b"iCCP", b"x\0\0" + zlib.compress(profile), **options)


def notes_of(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    return read_picture(tmp_path / "x.png", image_size=N, resize="squash", interpolation="bilinear").notes


LARGE = b"node " * 420_000

HARMLESS = {
    "zTXt": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(LARGE)),
    "iTXt": chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(LARGE)),
    "tEXt": 4 * chunk(b"tEXt", b"prompt\0" + LARGE),
    "text of a wrong checksum": chunk(b"tEXt", b"a\0b", damage=1),
    "text that can't be unpacked": chunk(b"zTXt", b"a\0\0" + b"no zlib"),
    "pHYs of a wrong checksum": chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1), damage=1),
    "pHYs that is too short": chunk(b"pHYs", b"\0"),
    "gAMA that is too short": chunk(b"gAMA", b"\0"),
    "tRNS of a wrong checksum": chunk(b"tRNS", struct.pack(">HHH", 0, 0, 90), damage=1),
    "animation that can't be": chunk(b"acTL", b"\0\0"),
    "a kind that nobody knows": chunk(b"abCd", b"x" * 999),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_has_nothing_to_do_with_pixels_loses_no_picture(name, tmp_path):
    for data in (png(HARMLESS[name]), png(after=[HARMLESS[name]])):
        assert np.array_equal(decode(data, image_size=N), RGB)
        assert notes_of(tmp_path, data) == ()
        assert read_size(tmp_path / "x.png") == (N, N)


def test_a_file_without_its_end_is_whole():
    for end in (b"", chunk(b"IEND", b"", damage=1)):
        assert np.array_equal(decode(png().removesuffix(END) + end, image_size=N), RGB)


def test_what_pixels_depend_on_is_kept():
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in (X // 128).astype(np.uint8)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", N, N, 8, 3, 0, 0, 0))
    palette, clear = chunk(b"PLTE", bytes((0, 0, 0, 200, 100, 50))), chunk(b"tRNS", b"\0")
    data = b"\x89PNG\r\n\x1a\n" + head + palette + clear + chunk(b"IDAT", rows) + END
    expected = np.where(X[..., None] < 128, 255, (200, 100, 50))
    assert np.array_equal(decode(data, image_size=N), expected)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(RGB, -1)
    raw = exif.tobytes()
    assert np.array_equal(decode(png(chunk(b"eXIf", raw.removeprefix(b"Exif\0\0"))), image_size=N), turned)
    text = b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n"
    # As ImageMagick writes it.
    assert np.array_equal(
        decode(png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))), image_size=N), turned
    )


def test_an_animation_gives_its_first_picture():
    file = io.BytesIO()
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(file.getvalue(), image_size=N), RGB)
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert np.array_equal(decode(file.getvalue(), image_size=N), RGB)


@pytest.mark.parametrize(
    "data",
    [
        png(data=chunk(b"IDAT", ROWS, damage=1)),
        png(chunk(b"PLTE", bytes(3), damage=1)),
        png().replace(HEAD, HEAD[:-1] + b"x"),
    ],
)
def test_a_wrong_checksum_of_what_pixels_need_is_a_reason(data):
    with pytest.raises(ImageError, match="cannot be decoded: damaged data"):
        decode(data)


def test_a_cut_file_is_rejected():
    for size in (20, 40, 60, len(png()) // 2, len(png()) - 40):
        with pytest.raises(ImageError):
            decode(png()[:size])


def test_large_profiles_are_used():
    data = png(profile_chunk(rgb_profile(SRGB, 1.0, pad=2_000_000)))
    assert np.abs(decode(data, image_size=N) - seen_as(RGB, SRGB, 1.0)).max() <= 1.5
    assert np.array_equal(decode(data, image_size=N, icc="ignore"), RGB)


@pytest.mark.parametrize(
    "damaged",
    [
        profile_chunk(rgb_profile(SRGB, 1.0), damage=1),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(rgb_profile(SRGB, 1.0))[:-9]),
        chunk(b"iCCP", b"x\0\7" + zlib.compress(rgb_profile(SRGB, 1.0))),
        chunk(b"iCCP", b"x"),
    ],
)
def test_a_damaged_profile_is_ignored_and_said(damaged, tmp_path):
    assert np.array_equal(decode(png(damaged), image_size=N), RGB)
    assert notes_of(tmp_path, png(damaged)) == (UNUSED_PROFILE,)


def test_a_profile_that_unfolds_to_very_much_is_not_unfolded(tmp_path):
    data = png(profile_chunk(bytes(2**27)))
    tracemalloc.start()
    assert np.array_equal(decode(data, image_size=N), RGB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26
    assert notes_of(tmp_path, data) == (UNUSED_PROFILE,)
