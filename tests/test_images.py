"""Decoding: whatever a file holds, the picture a person would see."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from featx import flatten, images
from featx.images import RESIZES, ImageError, decode, read_picture


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


def test_values_that_are_not_finite_are_refused():
    values = np.zeros((32, 32), dtype=np.float32)
    values[3, 4] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        decode(encode(Image.fromarray(values), "TIFF"))


def plainly_scaled(image):
    """Bring deep gray to 8 bits in one piece, as it is defined."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I" and tags.get(339) == (1,):
        values = values.view(np.uint32)
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    usual = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
    fitting = [white for white in usual if low >= 0 and high <= white]
    low, high = (0.0, fitting[0]) if fitting else (low, high)
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    scaled = np.rint((values - low) / ((high - low) or 1.0) * 255.0)
    if tags.get(262) == 0:
        scaled = 255 - scaled
    if "transparency" in image.info:
        scaled[values == image.info["transparency"]] = 255
    return scaled.astype(np.uint8)


def deep_grays():
    """Yield files of every kind of deep gray, with every kind of range."""
    rng = np.random.default_rng(5)
    shape = (23, 37)
    for dtype, ranges in {
        np.uint16: [(0, 65536), (300, 5000)],
        np.int32: [(0, 256), (0, 65536), (-70_000, 2**31), (5, 6)],
        np.float32: [(0, 1), (0, 255), (-3, 4), (1e30, 3e38)],
    }.items():
        for low, high in ranges:
            values = (rng.random(shape) * (high - low) + low).astype(dtype)
            yield encode(Image.fromarray(values), "TIFF", compression="tiff_adobe_deflate")
            if dtype != np.int32:
                # Of 32 bits, Pillow reads none whose white is zero.
                yield encode(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    yield encode(Image.fromarray(rng.integers(0, 9, shape).astype(np.uint16)), "PNG", transparency=5)
    # 32 bits without a sign: the same bytes, declared otherwise.
    signed = encode(Image.fromarray(rng.integers(-(2**31), 2**31, shape).astype(np.int32)), "TIFF")
    sample_format = (339).to_bytes(2, "little") + b"\3\0\1\0\0\0"
    assert sample_format + b"\2" in signed
    yield signed.replace(sample_format + b"\2", sample_format + b"\1")


@pytest.mark.parametrize("band", [1, 10, 37, 100, 2**19])
def test_bands_give_the_very_bytes_of_the_plain_way(monkeypatch, band):
    monkeypatch.setattr(flatten, "_BAND_PIXELS", band)
    n_unsigned = 0
    for data in deep_grays():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            n_unsigned += image.mode == "I" and image.tag_v2.get(339) == (1,)
            assert np.array_equal(flatten.flatten_to_8_bits(image), plainly_scaled(image))
    assert n_unsigned == 1


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


def test_flattening_needs_little_more_than_the_result():
    image = Image.new("F", (2000, 1500), 0.5)
    tracemalloc.start()
    flatten.flatten_to_8_bits(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A band, a few times over; all of it is 12 MB, and as float64 24 MB.
    assert 2**20 < peak < 20 * 2**20


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
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        original = encode(scene((32, 24)), kind)
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
