"""TIFFs of every kind that people have: the picture that was meant, or a reason."""

import io
import struct
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
import tifffile
from mutants import mutate
from PIL import Image, ImageCms

from featx.errors import ImageError
from featx.images import decode as images, read_size
from featx.images.decode import decode

SIDE = 64
Y, X = np.mgrid[0:SIDE, 0:SIDE]
GRAY = (X * 4).astype(np.uint8)
RGB = np.stack([X * 4, Y * 4, 255 - X - Y], axis=-1).astype(np.uint8)
RGB[4:20, 4:12] = (220, 30, 40)
ALPHA = (X * 2 + Y * 2).astype(np.uint8)
for part in (GRAY, RGB, ALPHA):
    part[0, :8], part[-1, :8] = 255, 0

DEEP = {
    "uint16": lambda values: values.astype(np.uint16) * 257,
    "int16": lambda values: values.astype(np.int16),
    "uint32": lambda values: values.astype(np.uint32) * 2**24,
    "int32": lambda values: values.astype(np.int32) * 257,
    "uint64": lambda values: values.astype(np.uint64),
    "float16": lambda values: values.astype(np.float16),
    "float32": lambda values: (values / 255).astype(np.float32),
    "float64": lambda values: values / 255,
}

LAYOUTS = {
    "one strip": {},
    "strips, LZW": {"rowsperstrip": 7, "compression": "lzw"},
    "strips, LZW, differences": {"rowsperstrip": 7, "compression": "lzw", "predictor": True},
    "strips, Deflate": {"rowsperstrip": 7, "compression": "deflate"},
    "tiles, PackBits": {"tile": (32, 48), "compression": "packbits"},
    "tiles, Deflate, differences": {"tile": (32, 48), "compression": "deflate", "predictor": True},
    "tiles, Zstandard": {"tile": (48, 32), "compression": "zstd"},
    "a large tile": {"tile": (80, 96)},
}


def write(values, photometric="minisblack", **options):
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric=photometric, metadata=None, **options)
    return file.getvalue()


def planes(values):
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def take_tag(data, name):
    """Take a tag from a little-endian file, by giving it a number that nobody knows."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags[name].offset
    return data[:place] + struct.pack("<H", 65000) + data[place + 2 :]


def picture_of(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decode(data, image_size=SIDE)


def in_colour(gray):
    return np.repeat(np.asarray(gray, np.uint8)[..., np.newaxis], 3, axis=-1)


def on_white(colours, alpha):
    share = alpha[..., np.newaxis] / 255
    return np.rint(colours * share + 255 * (1 - share))


def difference(data, expected):
    return np.abs(picture_of(data).astype(int) - expected).max()


def kinds():
    """Yield (name, the true picture, samples, options) of pictures of one kind each; options not for planes last."""
    rgba = np.dstack([RGB, ALPHA])
    yield "gray", in_colour(GRAY), GRAY, {}
    yield "white is zero", in_colour(255 - GRAY), GRAY, {"photometric": "miniswhite"}
    for layout, form in {"contig": lambda values: values, "separate": planes}.items():
        options = {"planarconfig": layout}
        rgb = options | {"photometric": "rgb"}
        yield f"RGB, {layout}", RGB, form(RGB), rgb
        yield f"RGBA, {layout}", on_white(RGB, ALPHA), form(rgba), rgb | {"extrasamples": ["unassalpha"]}
        yield f"RGB and one, {layout}", RGB, form(rgba), rgb | {"extrasamples": ["unspecified"]}
        yield (
            f"RGB, another, alpha and others, {layout}",
            on_white(RGB, ALPHA),
            form(np.dstack([RGB, GRAY, ALPHA, GRAY, GRAY])),
            rgb | {"extrasamples": ["unspecified", "unassalpha", "unspecified", "unspecified"]},
        )
        yield (
            f"gray and alpha, {layout}",
            on_white(in_colour(GRAY), ALPHA),
            form(np.dstack([GRAY, ALPHA])),
            options | {"extrasamples": ["unassalpha"]},
        )
        yield (
            f"gray and another, {layout}",
            in_colour(GRAY),
            form(np.dstack([GRAY, ALPHA])),
            options | {"extrasamples": ["unspecified"]},
        )
        cmyk = Image.frombytes("CMYK", (SIDE, SIDE), rgba.tobytes()).convert("RGB")
        yield f"CMYK, {layout}", np.asarray(cmyk), form(rgba), options | {"photometric": "separated"}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("depth", ["uint8", *DEEP])
def test_every_kind_of_tiff_is_the_8_bit_picture(depth, byteorder):
    deepen = DEEP.get(depth, np.asarray)
    # Each kind in one of the layouts, in others for other depths and byte orders.
    first = list(("uint8", *DEEP)).index(depth) + 3 * (byteorder == ">")
    for number, (name, expected, samples, of_kind) in enumerate(kinds(), first):
        layout = list(LAYOUTS)[number % len(LAYOUTS)]
        options = {"byteorder": byteorder, **LAYOUTS[layout]}
        if depth == "uint64":
            # No program writes it with differences.
            options.pop("predictor", None)
        assert difference(write(deepen(samples), **of_kind, **options), expected) == 0, (name, layout)


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("form", [lambda values: values, planes])
def test_colours_that_are_multiplied_by_alpha_are_over_white(form, depth):
    layout = {"planarconfig": "contig" if form is not planes else "separate", "extrasamples": ["assocalpha"]}
    for colours, photometric in ((RGB, "rgb"), (GRAY[..., np.newaxis], "minisblack")):
        multiplied = np.rint(colours * (ALPHA[..., np.newaxis] / 255)).astype(np.uint8)
        samples = form(DEEP.get(depth, np.asarray)(np.dstack([multiplied, ALPHA])))
        data = write(samples, photometric, **layout)
        assert difference(data, multiplied.astype(int) + 255 - ALPHA[..., np.newaxis]) <= 1


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 15])
def test_samples_of_odd_numbers_of_bits_use_their_whole_range(bits):
    values = (GRAY.astype(np.uint16) * 257) >> (16 - bits)
    values = values > 0 if bits == 1 else values.astype(np.uint8 if bits <= 8 else np.uint16)
    gray = np.rint(values.astype(int) * 255 / (2**bits - 1))
    assert difference(write(values, bitspersample=bits), in_colour(gray)) == 0
    assert difference(write(values, "miniswhite", bitspersample=bits), in_colour(255 - gray)) == 0


def test_integers_without_a_sample_format_have_no_sign():
    for depth in ("uint16", "uint32"):
        data = write(DEEP[depth](GRAY))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            assert "SampleFormat" not in file.pages[0].tags
        assert difference(data, in_colour(GRAY)) == 0


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
def test_a_fourth_sample_that_is_not_marked_is_no_transparency(layout, depth):
    samples = DEEP.get(depth, np.asarray)(np.dstack([RGB, ALPHA]))
    data = write(
        planes(samples) if layout == "separate" else samples,
        "rgb",
        planarconfig=layout,
        extrasamples=["unspecified"],
    )
    assert difference(take_tag(data, "ExtraSamples"), RGB) == 0


def test_palettes():
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    expected = colours.T[GRAY]
    assert difference(write(GRAY, "palette", colormap=colours * 257), expected) == 0
    # Some programs write the 8 bits of a colour as they are.
    assert difference(write(GRAY, "palette", colormap=colours), expected) == 0
    wide = np.repeat(colours, 256, axis=1)
    assert difference(write(DEEP["uint16"](GRAY), "palette", colormap=wide * 257), expected) == 0


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_compressed_tiffs_are_what_their_decoder_gives(subsampling):
    smooth = np.stack([X * 3, Y * 3, 255 - X - Y], axis=-1).astype(np.uint8)
    data = write(
        smooth, "rgb", compression="jpeg", compressionargs={"level": 98}, subsampling=subsampling, tile=(32, 32)
    )
    assert difference(data, smooth) <= 6


def test_lab_is_the_rgb_picture():
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    file = io.BytesIO()
    pastel = RGB // 4 + 130
    ImageCms.profileToProfile(Image.fromarray(pastel), srgb, lab, outputMode="LAB").save(file, "TIFF")
    assert difference(file.getvalue(), pastel) <= 4


def test_big_tiffs_and_further_pages():
    for byteorder in "<>":
        for depth in (np.asarray, DEEP["uint16"]):
            values = depth(RGB)
            options = {"photometric": "rgb", "byteorder": byteorder, "bigtiff": True}
            assert difference(write(values, **options), RGB) == 0
            assert difference(write(np.stack([values, values[::-1]]), **options), RGB) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiffs_are_turned_upright(orientation):
    tag = [(274, "H", 1, orientation, True)]
    shallow, deep = (write(values, "rgb", extratags=tag) for values in (RGB, DEEP["uint16"](RGB)))
    assert np.array_equal(picture_of(deep), picture_of(shallow))


def test_the_size_is_that_of_the_header(tmp_path):
    files = {
        "planes.tif": write(planes(DEEP["uint16"](RGB[:, :40])), "rgb", planarconfig="separate"),
        "seven.tif": write(np.zeros((64, 40, 7), np.uint8), "rgb", planarconfig="contig"),
        "big.tif": write(RGB[:, :40], "rgb", bigtiff=True, byteorder=">"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert read_size(tmp_path / name) == (40, 64)


# The scale of samples without an agreed white


def scaled(values, **options):
    return picture_of(write(values, **options))[..., 0]


@pytest.mark.parametrize("outlier", [1.02, -0.02, 7, -7, 1e30, -1e30, 200])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_pixel_that_is_far_off_changes_no_other(dtype, outlier):
    plain = (GRAY / 255).astype(dtype)
    values = plain.copy()
    values[5, 7] = np.clip(outlier, np.finfo(dtype).min, np.finfo(dtype).max)
    expected = GRAY.copy()
    expected[5, 7] = 255 if outlier > 0 else 0
    assert np.array_equal(scaled(values), expected)
    # Of RGB, a pixel is three values.
    colours = np.repeat(values[..., np.newaxis], 3, axis=-1)
    assert np.array_equal(scaled(colours, photometric="rgb"), expected)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        # Dark and light pictures in 0..1, with the overshoot of resampling: black and white stay where they are.
        (X / SIDE * 0.2, 0, 1),
        (X / SIDE * 1.08 - 0.04, 0, 1),
        (X / SIDE * 0.2 - 0.04, 0, 1),
        (X / SIDE * 200.0, 0, 255),
        (X * 4.2 - 6, 0, 255),
        (X / SIDE * 50.0, 0, 255),
        # Neither: highlights, depths, heights, temperatures, logarithms.
        (X / 63 * 1.4, 0, 1.4),
        (X / 63 * 9.0, 0, 9),
        (X / 63 * 8000, 0, 8000),
        (X / 63 * 50.0 - 20, -20, 30),
        (X / 63 * 60 + 250, 250, 310),
        (X / 63 * -40.0, -40, 0),
    ],
)
def test_floating_point_pictures_have_one_scale(values, low, high):
    expected = np.rint(((values - low) / (high - low)).clip(0, 1) * 255)
    # As float32 has it.
    assert np.abs(scaled(values.astype(np.float32)).astype(int) - expected).max() <= 1
    assert np.array_equal(scaled(values.astype(np.float64)), expected)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (X * 2, 0, 255),
        (X * 1000, 0, 65535),
        (X * 50, 0, 3150),
        (X * 60_000, 0, 63 * 60_000),
        (X * 50 - 1000, -1000, 2150),
    ],
)
def test_deep_integers_have_one_scale(values, low, high):
    values = values.astype(np.int32)
    expected = np.rint((values - low) / (high - low) * 255)
    assert np.array_equal(scaled(values), expected)
    values[5, 7] = 2**31 - 1
    expected[5, 7] = 255
    assert np.array_equal(scaled(values), expected)


def test_a_picture_of_one_value_is_black_or_what_that_is_in_a_known_range():
    for value, gray in ((0.0, 0), (0.5, 128), (1.0, 255), (100.0, 100), (300.0, 0)):
        assert (scaled(np.full((SIDE, SIDE), value, np.float32)) == gray).all()
    assert (picture_of(write(np.full((1, 1), 0.5, np.float32))) == 128).all()


# Reasons


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            partial(write, np.zeros((8, 8), np.complex64)),
            "a TIFF of 64-bit samples of a format that can't be read: COMPLEXIEEEFP",
        ),
        (
            partial(write, np.zeros((8, 8, 5), np.uint16), planarconfig="contig"),
            "5 samples per pixel that names no colours",
        ),
        (partial(write, np.zeros((4, 16, 16), np.uint16), volumetric=True), "a volume 4 layers deep"),
        (partial(write, DEEP["uint16"](RGB), "rgb", compression="jpegxl"), "a compression that can't be read: JPEGXL"),
        (partial(write, DEEP["uint16"](GRAY), "cfa"), "mean something that can't be read: CFA"),
        (
            lambda: take_tag(write(DEEP["uint16"](GRAY)), "PhotometricInterpretation"),
            "does not say whether it is gray or RGB",
        ),
        # Of every two pixels, in both directions, the colour is stored once.
        (lambda: declare(write(RGB, "rgb"), PhotometricInterpretation=6), "mean something that can't be read: YCBCR"),
        (lambda: take_tag(write(GRAY), "PhotometricInterpretation"), "does not say whether it is gray or RGB"),
        (lambda: write(DEEP["uint16"](RGB), "rgb")[:-1], "cannot be decoded"),
        (lambda: write(DEEP["uint16"](RGB), "rgb", compression="lzw")[:-100], "cannot be decoded"),
        (partial(write, np.full((8, 8), np.nan, np.float32)), "not finite"),
        (
            partial(write, np.eye(8, dtype=np.float32) * -9999, extratags=[(42113, "s", 6, "-9999", True)]),
            "without data",
        ),
    ],
)
def test_what_is_not_decoded_rightly_has_a_reason(data, reason):
    with pytest.raises(ImageError, match=reason):
        decode(data())


def test_strips_without_data_and_overlapping_ones_are_no_picture():
    data = write(DEEP["uint16"](RGB), "rgb", rowsperstrip=8)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        counts = file.pages[0].tags["StripByteCounts"]
    empty, huge = bytearray(data), bytearray(data)
    assert (counts.dtype, counts.count) == (3, 8)
    empty[counts.valueoffset : counts.valueoffset + 2] = bytes(2)
    huge[counts.valueoffset : counts.valueoffset + 16] = struct.pack("<H", 60_000) * 8
    with pytest.raises(ImageError, match="without data"):
        decode(bytes(empty))
    with pytest.raises(ImageError, match="more bytes than the file"):
        decode(bytes(huge))


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 32}, {"tile": (32, 64)}])
def test_a_part_that_is_not_stored_is_no_picture(layout, compression):
    """GDAL leaves parts without data out (SPARSE_OK): their place in the file and their size are 0."""
    data = write(RGB, "rgb", compression=compression, **layout)
    assert picture_of(data).shape == RGB.shape
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = [tag for tag in file.pages[0].tags if tag.name.endswith(("Offsets", "ByteCounts"))]
    sparse = bytearray(data)
    for tag in tags:
        assert tag.count == 2
        size = tag.valuebytecount // 2
        sparse[tag.valueoffset : tag.valueoffset + size] = bytes(size)
    with pytest.raises(ImageError, match="a TIFF with a strip or tile without data"):
        decode(bytes(sparse))


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 16}, {"tile": (32, 32), "predictor": True}])
def test_damaged_deflate_data_is_a_reason(options):
    noise = np.random.default_rng(0).integers(0, 60, RGB.shape).astype(np.uint8)
    data = write(RGB // 2 + noise, "rgb", compression="deflate", **options)
    assert difference(data, RGB // 2 + noise) == 0
    for share in (0.3, 0.5, 0.8):
        place = int(len(data) * share)
        for hole in (1, 99, 999):
            with pytest.raises(ImageError, match="cannot be decoded"):
                decode(data[:place] + bytes(hole) + data[place + hole :])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_cut_file_is_called_cut(compression):
    file = io.BytesIO()
    # Of several strips, and with the directory at its end.
    Image.fromarray(np.tile(RGB, (8, 8, 1))).save(file, "TIFF", compression=compression)
    data = file.getvalue()
    half = len(data) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for damaged in (data[:half], data[:half] + bytes(len(data) - half)):
            with pytest.raises(ImageError, match="cut or damaged: its directory of tags is not there"):
                decode(damaged)
        if compression != "jpeg":
            with pytest.raises(
                ImageError, match=r"cut or damaged: it does not say where each of its [0-9]+ strips or tiles is"
            ):
                decode(data[:-1])


def declare(data, **tags):
    """Change numbers in the directory of a little-endian file."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        found = {name: file.pages[0].tags[name] for name in tags}
    changed = bytearray(data)
    for name, value in tags.items():
        changed[found[name].offset : found[name].offset + 12] = struct.pack("<HHII", found[name].code, 4, 1, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # Pillow counts it as 141 million, and warns.
        (
            declare(write(DEEP["uint16"](RGB), "rgb"), ImageWidth=2_200_000),
            "2200000 x 64 pixels, more than 119,304,646",
        ),
        (
            declare(
                write(DEEP["float64"](GRAY), tile=(64, 64), compression="deflate"), TileWidth=65_536, TileLength=65_536
            ),
            "65536 x 65536 pixels, more than 89,478,485",
        ),
        (
            declare(write(np.zeros((128, 128, 7), np.uint8), "rgb", planarconfig="contig"), SamplesPerPixel=60_000),
            "128 x 128 pixels, more than 11,930",
        ),
    ],
)
def test_declared_sizes_are_checked_before_memory_is_taken(data, reason):
    tracemalloc.start()
    with warnings.catch_warnings(), pytest.raises(ImageError, match=reason):
        warnings.simplefilter("ignore")
        decode(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_deep_pictures_take_turns_by_the_memory_they_need(monkeypatch):
    asked = []
    take_turns = images.take_turns
    monkeypatch.setattr(images, "take_turns", lambda is_large: asked.append(is_large) or take_turns(is_large))
    monkeypatch.setattr(images, "LARGE_PIXELS", SIDE * SIDE)
    for values, is_large in ((GRAY, False), (DEEP["uint16"](RGB), True), (DEEP["float32"](GRAY), False)):
        decode(write(values, "rgb" if values.ndim == 3 else "minisblack"))
        assert asked.pop() == is_large


def test_damaged_deep_tiffs_end_as_pictures_or_reasons(capfd):
    files = []
    for number, (_, _, samples, of_kind) in enumerate(kinds()):
        layout = list(LAYOUTS.values())[number % len(LAYOUTS)]
        depth = list(DEEP.values())[number % 4]
        files.append(
            write(depth(samples[..., :48]) if samples.shape[-1] == SIDE else depth(samples), **of_kind, **layout)
        )
    n_pictures = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in mutate(files, 200, seed=11):
            try:
                assert decode(data, image_size=32).shape == (32, 32, 3)
                n_pictures += 1
            except ImageError as error:
                assert 0 < len(str(error)) < 300
                assert str(error).isprintable()
    assert 0 < n_pictures < 200
    assert capfd.readouterr() == ("", "")
