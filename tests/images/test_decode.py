"""Decoding: whatever a file holds, the picture a person would see."""

import io
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from featx.errors import ImageError
from featx.images import RESIZES, decode as images, flatten, read_picture, read_size
from featx.images.decode import decode


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scene(size=(64, 48)):
    """A picture without symmetry: red grows rightwards, green downwards, blue constant."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 90)], axis=-1).astype(np.uint8))


def gray_of(image):
    return np.asarray(image.convert("L")).astype(int)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95, "subsampling": 0}, 6),
    ],
)
def test_formats_give_the_same_picture(kind, options, tolerance):
    image = scene((32, 32))
    pixels = decode(encode(image, kind, **options), image_size=32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(image)).max() <= tolerance


def test_gif_gives_its_first_frame():
    first, second = Image.new("RGB", (32, 32), (200, 30, 30)), Image.new("RGB", (32, 32), (0, 0, 250))
    data = encode(first, "GIF", save_all=True, append_images=[second])
    assert np.abs(decode(data, image_size=32).astype(int) - (200, 30, 30)).max() <= 3


def as_netpbm(pixels, white):
    """Binary PGM or PPM."""
    head = f"P{5 if pixels.ndim == 2 else 6}\n# by hand\n{pixels.shape[1]} {pixels.shape[0]}\n{white}\n"
    return head.encode() + pixels.astype(">u2" if white > 255 else "u1").tobytes()


def as_heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **{"quality": -1, "chroma": 444, **options})
    return file.getvalue()


def as_avif(image, **options):
    return encode(image, "AVIF", quality=100, subsampling="4:4:4", **options)


@pytest.mark.parametrize("white", [1, 100, 255, 256, 1023, 65535])
@pytest.mark.parametrize("bands", [(), (3,)])
def test_netpbm_of_any_depth(white, bands):
    pixels = np.random.default_rng(white).integers(0, white + 1, (32, 32, *bands))
    found = decode(as_netpbm(pixels, white), image_size=32)
    expected = np.rint(pixels / white * 255)
    assert np.abs(found - (expected if bands else expected[..., np.newaxis])).max() <= (1 if white > 255 else 0)
    text = as_netpbm(pixels, white)[:2].replace(b"5", b"2").replace(b"6", b"3")
    text += f"\n32 32\n{white}\n{' '.join(map(str, pixels.ravel()))}\n".encode()
    assert np.array_equal(decode(text, image_size=32), found)


def test_dark_netpbm_of_16_bits_stays_dark():
    pixels = np.arange(1024).reshape(32, 32) % 256
    assert decode(as_netpbm(pixels, 65535), image_size=32).max() == 1
    assert decode(as_netpbm(pixels // 16, 4095), image_size=32).max() == 1


def test_netpbm_of_black_and_white():
    pixels = np.random.default_rng(0).integers(0, 2, (32, 32)).astype(bool)
    for data in (
        encode(Image.fromarray(pixels), "PPM"),
        b"P1 32 32\n" + b"".join(b"01"[1 - p : 2 - p] for p in pixels.ravel()),
    ):
        assert np.array_equal(decode(data, image_size=32), np.repeat(pixels[..., np.newaxis] * 255, 3, axis=-1))


@pytest.mark.parametrize("white", [100, 255, 1023, 65535])
@pytest.mark.parametrize("bands", [(), (3,)])
def test_netpbm_that_ends_early(white, bands):
    with pytest.raises(ImageError, match=r"cannot be decoded: (its pixels end|image file is truncated)"):
        decode(as_netpbm(np.ones((32, 32, *bands), int), white)[:-1])


def test_netpbm_of_other_kinds_is_no_image():
    for data in (encode(Image.new("F", (4, 4)), "PPM"), b"PF\n2 2\n-1.0\n" + bytes(48), b"P7\nWIDTH 2\n"):
        with pytest.raises(ImageError, match="not a JPEG"):
            decode(data)


@pytest.mark.parametrize(("encoded", "tolerance"), [(as_heic, 1), (as_avif, 3)])
def test_heif_gives_the_same_picture(encoded, tolerance):
    from PIL import ImageOps

    image = scene((64, 48))
    rgba = image.copy()
    rgba.putalpha(Image.fromarray((np.arange(48 * 64).reshape(48, 64) // 1024 * 100).astype(np.uint8)))
    for picture in (image, image.convert("L"), rgba):
        expected = decode(encode(picture, "PNG"), image_size=64).astype(int)
        assert np.abs(decode(encoded(picture), image_size=64) - expected).max() <= tolerance
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(image, exif=exif.tobytes())
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encode(image, "PNG", exif=exif))))
        expected = decode(encode(upright, "PNG"), image_size=64).astype(int)
        assert np.abs(decode(data, image_size=64) - expected).max() <= tolerance


def test_heic_is_decoded_from_the_picture_and_not_from_its_thumbnail():
    pillow_heif = pytest.importorskip("pillow_heif")
    image = scene((256, 192))
    image.info["thumbnails"] = [64]
    data = as_heic(image)
    assert pillow_heif.HeifImageFile(io.BytesIO(data)).draft(None, (16, 16)) is not None
    assert np.array_equal(decode(data, image_size=16, jpeg="scaled"), decode(data, image_size=16))


@pytest.mark.parametrize("encoded", [as_heic, as_avif])
def test_damaged_heif_is_called_damaged(encoded):
    data = encoded(scene((64, 48)))
    for damaged in (
        data[: len(data) // 2],
        data[:40],
        data[:-9],
        data.replace(b"hvcC", b"xxxx").replace(b"av1C", b"xxxx"),
    ):
        with pytest.raises(ImageError, match="cannot be decoded: "):
            decode(damaged)
    place = data.index(b"ispe") + 8
    sides = (14_000).to_bytes(4, "big") * 2
    with pytest.raises(
        ImageError, match=r"14000 x 14000 pixels, more than 178,956,970|Image size \(196000000 pixels\)"
    ):
        decode(data[:place] + sides + data[place + 8 :])


def test_heic_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(
        ImageError, match=r"^a HEIC image, which needs the package pillow-heif: pip install 'featx\[heic\]'$"
    ):
        decode(data)
    (tmp_path / "a.heic").write_bytes(data)
    with pytest.raises(ImageError, match=r"pip install 'featx\[heic\]'"):
        read_size(tmp_path / "a.heic")
    # A container of an open brand: AVIF needs nothing.
    avif = as_avif(scene())
    assert decode(avif.replace(b"ftypavif", b"ftypmif1", 1)).shape == (224, 224, 3)


def test_pillow_reads_elsewhere_what_it_read_before():
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)))
    assert Image.open(io.BytesIO(as_netpbm(np.ones((2, 2)), 65535))).mode == "I"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation, kind):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene((40, 32)), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    # PNG's way is the reference: its pixels lie in the file as they were given.
    with Image.open(io.BytesIO(encode(scene((40, 32)), "PNG", exif=exif))) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(data, image_size=32), expected)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_an_orientation_in_xmp_alone_turns_nothing(kind):
    """As in viewers: they ask EXIF."""
    options = {
        "PNG": {"pnginfo": PngInfo()},
        "TIFF": {"tiffinfo": {700: XMP}},
        "WEBP": {"lossless": True, "xmp": XMP},
        "JPEG": {"xmp": XMP},
    }[kind]
    if kind == "PNG":
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    data = encode(scene((40, 32)), kind, **options)
    with Image.open(io.BytesIO(data)) as stored:
        # Pillow would turn it.
        assert stored.getexif()[0x0112] == 6
    plain = encode(scene((40, 32)), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(data, image_size=32), decode(plain, image_size=32))
    # It is EXIF that counts where both are there.
    exif = Image.Exif()
    exif[0x0112] = 3
    both = encode(scene((40, 32)), kind, exif=exif, **{k: v for k, v in options.items() if k != "tiffinfo"})
    turned = decode(encode(scene((40, 32)).rotate(180), "PNG"), image_size=32)
    assert np.abs(decode(both, image_size=32).astype(int) - turned).max() <= 12


def test_damaged_exif_data_does_not_lose_the_picture():
    data = encode(scene((32, 32)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode(data, image_size=32).shape == (32, 32, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_over_white(mode):
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((10, 10, 10, 255), (0, 0, 16, 32))
    kind = "TIFF" if mode == "PA" else "PNG"
    pixels = decode(encode(image.convert(mode), kind), image_size=32)
    assert np.abs(pixels[:, :15].astype(int) - 10).max() <= 1
    assert (pixels[:, 17:] == 255).all()


def test_a_transparent_palette_colour_is_over_white():
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(1, (16, 0, 32, 32))
    pixels = decode(encode(image, "PNG", transparency=0), image_size=32)
    assert (pixels[:, :15] == 255).all()
    assert (pixels[:, 17:] == (200, 100, 50)).all()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gray_and_palette_pictures(mode):
    image = scene((32, 32)).convert(mode)
    assert np.array_equal(decode(encode(image, "PNG"), image_size=32), np.asarray(image.convert("RGB")))


def test_cmyk_keeps_its_colours():
    image = Image.new("RGB", (32, 32), (220, 40, 40)).convert("CMYK")
    for kind in ("TIFF", "JPEG"):
        pixels = decode(encode(image, kind), image_size=32).astype(int)
        assert np.abs(pixels - (220, 40, 40)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_the_8_bit_picture(kind):
    gray = gray_of(scene((32, 32)))
    deep = Image.fromarray((gray * 257).astype(np.uint16))
    pixels = decode(encode(deep, kind), image_size=32)
    assert np.array_equal(pixels[..., 0], gray)


def test_float_and_32_bit_tiffs_are_scaled():
    gray = gray_of(scene((32, 32)))
    # Black and white don't depend on single pixels.
    gray[0, :3], gray[-1, -3:] = gray.min(), gray.max()
    within_1 = decode(encode(Image.fromarray((gray / 255).astype(np.float32)), "TIFF"), image_size=32)
    assert np.abs(within_1[..., 0].astype(int) - gray).max() <= 1
    wide = decode(encode(Image.fromarray((gray * 1000 - 7).astype(np.int32)), "TIFF"), image_size=32)
    stretched = (gray - gray.min()) / (gray.max() - gray.min()) * 255
    assert np.abs(wide[..., 0] - stretched).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_tiffs_whose_white_is_zero_are_turned_round(dtype):
    gray = gray_of(scene((32, 32)))
    deep = (gray * 257).astype(dtype) if dtype == np.uint16 else gray.astype(dtype)
    data = encode(Image.fromarray(deep), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(decode(data, image_size=32)[..., 0], 255 - gray)


def test_floats_up_to_255_are_taken_as_they_are():
    values = np.full((32, 32), 81.0, dtype=np.float32)
    values[0, 0] = 200
    assert decode(encode(Image.fromarray(values), "TIFF"), image_size=32)[5, 5, 0] == 81


def test_the_transparent_gray_of_a_16_bit_png_is_over_white():
    deep = np.full((32, 32), 20_000, dtype=np.uint16)
    deep[:, :16] = 5
    pixels = decode(encode(Image.fromarray(deep), "PNG", transparency=5), image_size=32)
    assert (pixels[:, :15] == 255).all()
    assert (pixels[:, 17:] == round(20_000 / 257)).all()


def png_of(values, bits, transparent=None, colour=0):
    """Write a PNG by hand: gray of any number of bits, or RGB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = [int("".join(f"{value:0{bits}b}" for value in row.ravel()), 2) for row in values]
    n_bytes = values[0].size * bits // 8
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    level = b"" if transparent is None else chunk(b"tRNS", np.array(transparent, ">u2").tobytes())
    data = zlib.compress(b"".join(b"\0" + row.to_bytes(n_bytes, "big") for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + level + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_gray_of_a_png_is_over_white(bits):
    values = np.arange(32 * 32).reshape(32, 32) * 7 % 2**bits
    gray = np.rint(values / (2**bits - 1) * 255)
    assert np.array_equal(decode(png_of(values, bits), image_size=32)[..., 0], gray)
    for level in {0, 1, 2**bits // 3, 2**bits - 1}:
        expected = np.where(values == level, 255, gray)
        # Bits beyond those of the picture say nothing.
        for written in (level, level + 2**bits) if bits in (2, 4, 8) else (level,):
            pixels = decode(png_of(values, bits, written), image_size=32)
            assert np.array_equal(pixels, np.repeat(expected[..., np.newaxis], 3, axis=-1))


def test_the_transparent_colour_of_a_png_is_over_white_or_refused():
    values = np.arange(32 * 32 * 3).reshape(32, 32, 3) % 256
    expected = values.copy()
    expected[3, 4] = 255
    expected[(values == values[3, 4]).all(axis=-1)] = 255
    assert np.array_equal(decode(png_of(values, 8, values[3, 4], colour=2), image_size=32), expected)
    # Of 16 bits, colours that look like it are not told from it.
    deep = values * 256 + 3
    assert np.array_equal(decode(png_of(deep, 16, colour=2), image_size=32), values)
    with pytest.raises(ImageError, match="16-bit RGB with one transparent colour"):
        decode(png_of(deep, 16, deep[3, 4], colour=2))


def bmp_of(rgb, alpha, header_size):
    """Write a BMP of 32 bits per pixel by hand."""
    height, width = alpha.shape
    pixels = np.dstack([rgb[..., ::-1], alpha])[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", header_size, width, height, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    start = 14 + header_size
    return (
        struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
        + (head + masks).ljust(header_size, b"\0")
        + pixels
    )


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque(header_size):
    rgb = np.asarray(scene((32, 32)))
    alpha = np.zeros((32, 32), np.uint8)
    assert np.array_equal(decode(bmp_of(rgb, alpha, header_size), image_size=32), rgb)
    # One that says something is transparency.
    alpha[:16] = 255
    pixels = decode(bmp_of(rgb, alpha, header_size), image_size=32)
    assert np.array_equal(pixels[:16], rgb[:16])
    assert (pixels[16:] == 255).all()


@pytest.mark.parametrize("transparent", [None, 3])
@pytest.mark.parametrize(("left", "top"), [(0, 0), (5, 3), (16, 12)])
def test_a_gif_whose_first_frame_is_smaller_is_white_around_it(left, top, transparent):
    colours = np.random.default_rng(2).integers(0, 256, (16, 3)).astype(np.uint8)
    values = np.arange(20 * 16).reshape(20, 16) % 16
    frame = Image.fromarray(values.astype(np.uint8))
    frame.putpalette(colours.tobytes())
    data = bytearray(
        encode(frame, "GIF", optimize=False, **({} if transparent is None else {"transparency": transparent}))
    )
    # The sizes of the canvas, and of the frame on it.
    place = data.index(b",\0\0\0\0\x10\0\x14\0") + 1
    data[6:10] = struct.pack("<HH", 32, 32)
    data[place : place + 4] = struct.pack("<HH", left, top)
    expected = np.full((32, 32, 3), 255, np.uint8)
    expected[top : top + 20, left : left + 16] = colours[values]
    if transparent is not None:
        expected[top : top + 20, left : left + 16][values == transparent] = 255
    assert np.array_equal(decode(bytes(data), image_size=32), expected)


def test_values_that_are_not_finite_are_refused():
    values = np.zeros((32, 32), dtype=np.float32)
    values[3, 4] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        decode(encode(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("band", [1, 10, 37, 100, 2**19])
@pytest.mark.parametrize("largest", [65535, 5000, 9])
def test_bands_give_the_very_bytes_of_the_plain_way(monkeypatch, largest, band):
    monkeypatch.setattr(flatten, "_BAND_PIXELS", band)
    values = np.random.default_rng(5).integers(0, largest + 1, (23, 37)).astype(np.uint16)
    image = Image.fromarray(values)
    expected = np.rint(values / 65535 * 255)
    assert np.array_equal(flatten.flatten_to_8_bits(image), expected)
    image.info["transparency"] = 5
    expected[values == 5] = 255
    assert np.array_equal(flatten.flatten_to_8_bits(image), expected)


@pytest.mark.parametrize("band", [1, 10, 37, 100, 2**19])
@pytest.mark.parametrize("n_samples", [1, 3])
def test_bands_give_the_range_of_the_whole(monkeypatch, n_samples, band):
    monkeypatch.setattr(flatten, "_BAND_PIXELS", band)
    # 3 of 3,000 pixels, as many values of each sample, are left out at either end.
    samples = np.random.default_rng(6).normal(-500, 100, (60, 50, n_samples)).astype(np.float32)
    smallest_first = np.sort(samples, axis=None)
    low, high = map(float, smallest_first[[3 * n_samples, -1 - 3 * n_samples]])
    assert flatten.find_range(samples) == (low, high)
    expected = np.rint(((samples.astype(float) - low) / (high - low)).clip(0, 1) * 255)
    assert np.array_equal(flatten.scale_to_8_bits(samples, low, high), expected)


@pytest.mark.parametrize("band", [1, 10, 37, 100, 2**19])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
def test_bands_on_white_give_the_very_bytes_of_the_plain_way(monkeypatch, mode, band):
    monkeypatch.setattr(flatten, "_BAND_PIXELS", band)
    pixels = np.random.default_rng(6).integers(0, 256, (23, 37, 4)).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    transparent = {"P": bytes(range(0, 256, 2)), "L": 77, "RGB": tuple(pixels[3, 4, :3].tolist())}
    if mode in transparent:
        image.info["transparency"] = transparent[mode]
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    assert np.array_equal(flatten.flatten_to_8_bits(image), page.convert("RGB"))


def peak_of(work):
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_flattening_needs_little_more_than_the_result():
    image = Image.new("I;16", (2000, 1500), 500)
    # A band, a few times over; all of it is 6 MB, and as float64 24 MB.
    assert 2**20 < peak_of(lambda: flatten.flatten_to_8_bits(image)) < 20 * 2**20
    samples = np.full((1500, 2000, 1), 0.5)
    assert 2**20 < peak_of(lambda: flatten.scale_to_8_bits(samples, *flatten.find_range(samples))) < 20 * 2**20


def test_resizes_keep_what_they_promise():
    wide = Image.new("RGB", (128, 32), (255, 255, 255))
    wide.paste((255, 0, 0), (0, 0, 32, 32))
    data = encode(wide, "PNG")
    squashed = decode(data, image_size=64, resize="squash")
    assert (squashed[:, :14] == (255, 0, 0)).all()
    assert (squashed[:, 18:] == 255).all()
    assert (decode(data, image_size=64, resize="crop") == 255).all()
    padded = decode(data, image_size=64, resize="pad")
    assert (padded[:23] == 0).all()
    assert (padded[41:] == 0).all()
    assert (padded[25:39, 20:] == 255).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((256, 256), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encode(Image.fromarray(stripes), "PNG"), image_size=32)
    assert np.abs(pixels.astype(int) - 127).max() <= 6
    assert np.abs(pixels[:, 1:-1].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_shapes_give_a_picture(size, resize):
    assert decode(encode(Image.new("RGB", size, "red"), "PNG"), image_size=32, resize=resize).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"these are words, not pixels", "not a JPEG, PNG"),
        (encode(scene(), "PNG")[:-60], "cannot be decoded"),
        (encode(scene(), "JPEG")[:400], "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a JPEG, PNG"),
    ],
)
def test_unreadable_data_gives_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data)


def test_a_decompression_bomb_is_refused_before_it_unfolds():
    data = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        decode(bytes(data))


def test_mutated_files_end_as_pictures_or_reasons():
    rng = np.random.default_rng(0)
    n_errors = 0
    originals = [encode(scene((32, 24)), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "PPM")]
    originals += [as_netpbm(np.asarray(scene((32, 24))).astype(int), 1023), as_heic(scene((32, 24)))]
    for original in originals:
        for _ in range(60):
            data = bytearray(original)
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(256)
            try:
                assert decode(bytes(data), image_size=32).shape == (32, 32, 3)
            except ImageError as error:
                assert str(error)
                n_errors += 1
    assert n_errors > 0


def test_a_file_that_is_missing_says_so(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_picture(tmp_path / "nothing.png", image_size=32, resize="squash", interpolation="bilinear")


def photograph(size, **options):
    """Return the JPEG of a smooth picture without symmetry."""
    return encode(scene(size), "JPEG", quality=95, **options)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(640, 400), (400, 640), (1000, 130), (64, 64), (63, 200)])
def test_scaled_decoding_gives_nearly_the_same_pixels(size, orientation, resize):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = photograph(size, exif=exif)
    full = decode(data, image_size=32, resize=resize)
    scaled = decode(data, image_size=32, resize=resize, jpeg="scaled")
    assert scaled.shape == full.shape
    # Black borders, which may begin a pixel earlier or later, are the largest part of it.
    assert np.abs(scaled.astype(int) - full).mean() < (6 if resize == "pad" else 2)
    if resize == "pad" and size == (640, 400) and orientation == 1:
        assert (scaled[:5] == 0).all()
        assert (scaled[6:26] > 0).any(axis=(1, 2)).all()


@pytest.mark.parametrize("resize", RESIZES)
def test_scaled_decoding_never_goes_below_the_size_that_is_needed(resize, monkeypatch):
    loaded = []
    flatten = images.flatten_to_8_bits
    monkeypatch.setattr(images, "flatten_to_8_bits", lambda image: loaded.append(image.size) or flatten(image))
    for size in [(640, 400), (64, 64), (127, 63), (63, 64), (32, 32), (20, 500), (1000, 130)]:
        decode(photograph(size), image_size=32, resize=resize, jpeg="scaled")
        needed = (32 * size[0] / max(size), 32 * size[1] / max(size)) if resize == "pad" else (32, 32)
        for full, found, least in zip(size, loaded[-1], needed, strict=True):
            assert found >= min(full, round(least))
    # An eighth, and a half: it is done where it can be.
    assert loaded[:2] == [(80, 50), (32, 32)]


def test_scaled_decoding_is_for_jpegs_alone():
    for kind in ("PNG", "TIFF", "WEBP", "BMP", "GIF"):
        data = encode(scene((200, 160)), kind)
        assert np.array_equal(decode(data, image_size=32), decode(data, image_size=32, jpeg="scaled"))
    small = photograph((60, 50))
    assert np.array_equal(decode(small, image_size=32), decode(small, image_size=32, jpeg="scaled"))
