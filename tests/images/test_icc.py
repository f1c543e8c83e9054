"""Colours: an ICC profile is what decides them, where it can be used; where it can't, that is said."""

import io
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from icc_profiles import DISPLAY_P3, SRGB, cmyk_profile, gray_profile, rgb_profile, seen_as, srgb_of
from PIL import Image
from stub_network import StubNetwork, features_of, stand_in

import featx
from featx import FeatxError
from featx.cli import main
from featx.finetune import read_task
from featx.images import icc, read_picture
from featx.images.decode import UNUSED_PROFILE, decode
from featx.report.figures import draw_top_images

N = 32
X, Y = np.meshgrid(np.arange(N) * 8, np.arange(N) * 8)
RGB = np.stack([X, Y, np.full_like(X, 90)], axis=-1).astype(np.uint8)
GRAY = X.astype(np.uint8)
RAMP16 = (np.arange(N * N).reshape(N, N) * 64).astype(np.uint16)


def encode(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(data, **options):
    return decode(data, image_size=N, **options).astype(int)


def notes_of(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    return read_picture(tmp_path / "x", image_size=N, resize="squash", interpolation="bilinear").notes


LOSSLESS = [
    ("PNG", {}),
    ("TIFF", {}),
    ("WEBP", {"lossless": True}),
]


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, 2.2), (SRGB, 1.0), (SRGB[1:] + SRGB[:1], 1.8)])
@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_colours_are_what_the_profile_says(kind, options, primaries, gamma):
    data = encode(RGB, kind, icc_profile=rgb_profile(primaries, gamma), **options)
    assert np.abs(pixels_of(data) - seen_as(RGB, primaries, gamma)).max() <= 1.5
    assert np.array_equal(pixels_of(data, icc="ignore"), RGB)
    # It is no small matter.
    assert np.abs(seen_as(RGB, primaries, gamma) - RGB).max() > 10


def test_colours_of_jpegs_are_what_the_profile_says():
    smooth = np.repeat(np.repeat(RGB[::8, ::8], 8, 0), 8, 1)
    # It takes many segments of the file.
    profile = rgb_profile(DISPLAY_P3, 2.2, pad=300_000)
    for more in ({}, {"progressive": True}):
        data = encode(smooth, "JPEG", quality=100, subsampling=0, icc_profile=profile, **more)
        for jpeg in ("full", "scaled"):
            assert np.abs(pixels_of(data, jpeg=jpeg) - seen_as(smooth, DISPLAY_P3, 2.2)).max() <= 8


@pytest.mark.parametrize("profile", [rgb_profile(SRGB, "sRGB"), rgb_profile(curve="sRGB", pad=4000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_a_profile_that_means_srgb_changes_no_pixel(profile, mode, tmp_path):
    image = Image.fromarray(RGB).convert(mode)
    data = encode(image, icc_profile=profile)
    assert np.array_equal(pixels_of(data), pixels_of(encode(image)))
    # Gray numbers are the same in sRGB: the profile is none that can't be used.
    assert notes_of(tmp_path, data) == ()


def test_colours_are_converted_before_they_are_laid_on_white():
    alpha = np.where(X < 128, 255, 128).astype(np.uint8)
    data = encode(np.dstack([RGB, alpha]), icc_profile=rgb_profile(DISPLAY_P3, 2.2))
    part = alpha[..., None] / 255
    expected = seen_as(RGB, DISPLAY_P3, 2.2) * part + 255 * (1 - part)
    assert np.abs(pixels_of(data) - expected).max() <= 2


def test_palettes_and_their_transparent_colour():
    image = Image.new("P", (N, N), 0)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(1, (16, 0, N, N))
    pixels = pixels_of(encode(image, transparency=0, icc_profile=rgb_profile(SRGB, 1.0)))
    assert (pixels[:, :15] == 255).all()
    assert np.abs(pixels[:, 17:] - seen_as((200, 100, 50), SRGB, 1.0)).max() <= 1


def test_a_transparent_rgb_colour_stays_transparent():
    pixels = RGB.copy()
    pixels[:, :16] = (1, 2, 3)
    found = pixels_of(encode(pixels, transparency=(1, 2, 3), icc_profile=rgb_profile(SRGB, 1.0)))
    assert (found[:, :15] == 255).all()
    assert np.abs(found[:, 17:] - seen_as(pixels[:, 17:], SRGB, 1.0)).max() <= 1


def test_gray_has_profiles_of_its_own():
    expected = srgb_of(GRAY / 255)[..., None]
    for image, kind in ((GRAY, "PNG"), (GRAY, "TIFF"), (Image.fromarray(GRAY).convert("LA"), "PNG")):
        data = encode(image, kind, icc_profile=gray_profile(1.0))
        assert np.abs(pixels_of(data) - expected).max() <= 1
    with_alpha = np.dstack([GRAY, np.full_like(GRAY, 0)])
    assert (pixels_of(encode(with_alpha, icc_profile=gray_profile(1.0))) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_keeps_its_dark_steps(kind):
    # The first of these steps is 12 in sRGB, and none at all in 8 bits.
    found = pixels_of(encode(RAMP16, kind, icc_profile=gray_profile(1.0)))[..., 0]
    assert np.abs(found - srgb_of(RAMP16 / 65535)).max() <= 1
    assert len(np.unique(found[0])) > 10


def test_16_bit_gray_with_a_transparent_level_or_white_at_zero():
    found = pixels_of(encode(RAMP16, transparency=0, icc_profile=gray_profile(1.0)))
    assert found[0, 0, 0] == 255
    assert found[0, 1, 0] < 50
    found = pixels_of(encode(RAMP16, "TIFF", tiffinfo={262: 0}, icc_profile=gray_profile(1.0)))[..., 0]
    assert np.abs(found - srgb_of(1 - RAMP16 / 65535)).max() <= 1


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_are_what_their_profile_says(kind):
    inks = np.zeros((N, N, 4), np.uint8)
    inks[:, 8:16, 1] = 255
    inks[:, 16:24, 3] = 255
    # What leaves paper here is cyan without a profile.
    inks[:, 24:, 0] = 255
    data = encode(Image.fromarray(inks, "CMYK"), kind, icc_profile=cmyk_profile((50, 70, 0)))
    found = pixels_of(data)[16]
    # Lab 50, 70, 0 in sRGB.
    for column, colour in ((3, 255), (11, (214, 36, 118)), (19, 0), (28, 255)):
        assert np.abs(found[column] - colour).max() <= 8
    assert np.abs(pixels_of(data, icc="ignore")[16, 28] - (0, 255, 255)).max() <= 8


@pytest.mark.parametrize(
    ("pixels", "profile"),
    [
        (RGB, b"this is no profile"),
        (RGB, rgb_profile(DISPLAY_P3)[:300]),
        (RGB, gray_profile(1.0)),
        (RGB, cmyk_profile()),
        (GRAY, rgb_profile(SRGB, 1.0)),
        (RAMP16, rgb_profile(SRGB, 1.0)),
        (GRAY, cmyk_profile()),
        (Image.new("CMYK", (N, N), (9, 99, 199, 9)), rgb_profile(SRGB, "sRGB")),
    ],
)
def test_a_profile_that_cannot_be_used_is_ignored_and_said(pixels, profile, tmp_path):
    for kind in ("TIFF",) if isinstance(pixels, Image.Image) else ("PNG", "TIFF"):
        data = encode(pixels, kind, icc_profile=profile)
        assert np.array_equal(pixels_of(data), pixels_of(encode(pixels, kind)))
        assert notes_of(tmp_path, data) == (UNUSED_PROFILE,)


def test_a_jpeg_whose_profile_is_not_all_there_says_so(tmp_path):
    data = encode(RGB, "JPEG", icc_profile=rgb_profile(DISPLAY_P3, pad=100_000))
    second = data.index(b"ICC_PROFILE\0\2\2") - 4
    length = int.from_bytes(data[second + 2 : second + 4], "big")
    data = data[:second] + data[second + 2 + length :]
    assert np.array_equal(pixels_of(data), pixels_of(encode(RGB, "JPEG")))
    assert notes_of(tmp_path, data) == (UNUSED_PROFILE,)


def test_profiles_over_the_limit_are_not_used(monkeypatch, tmp_path):
    data = encode(RGB, "TIFF", icc_profile=rgb_profile(SRGB, 1.0))
    monkeypatch.setattr(icc, "MAX_PROFILE_BYTES", 300)
    assert notes_of(tmp_path, data) == (UNUSED_PROFILE,)


# Commands


@pytest.fixture(autouse=True)
def _no_network():
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        yield


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "p3.png").write_bytes(encode(RGB, icc_profile=rgb_profile(DISPLAY_P3, 2.2)))
    (folder / "plain.png").write_bytes(encode(RGB))
    (folder / "broken.png").write_bytes(encode(RGB[::-1], icc_profile=b"broken"))
    return folder


def extract(photos, path, *options):
    arguments = ["extract", photos, "-o", path, "--weights", "random", "--image-size", N, *options]
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def features_by_name(path):
    with featx.open(path) as store:
        return dict(zip(store.images["path"], store.matrix(["block1_conv1"]), strict=True)), store.attributes


def test_a_store_is_made_of_the_colours_that_viewers_show(photos, tmp_path):
    said = extract(photos, tmp_path / "s.h5")
    assert f"images with {UNUSED_PROFILE}: 1 (broken.png)" in said
    found, attributes = features_by_name(tmp_path / "s.h5")
    assert attributes["icc"] == "convert"
    expected = np.rint(seen_as(RGB, DISPLAY_P3, 2.2)).astype(np.uint8)
    for name, pixels, most in (("p3", expected, 1), ("plain", RGB, 0), ("broken", RGB[::-1], 0)):
        truth = features_of(pixels[None])["block1_conv1"][0]
        assert np.abs(found[f"{name}.png"] - truth).max() <= most


def test_ignoring_profiles_is_recorded_and_kept(photos, tmp_path):
    path = tmp_path / "s.h5"
    assert "ICC" not in extract(photos, path, "--icc", "ignore", "--layers", "block1_conv1")
    found, attributes = features_by_name(path)
    assert attributes["icc"] == "ignore"
    assert np.array_equal(found["p3.png"], found["plain.png"])
    # Its features are not mixed with others.
    with pytest.raises(FeatxError, match="made with icc 'ignore', now 'convert'"):
        featx.extract_features(featx.read_source(photos), path, weights="random", image_size=N)
    extract(photos, path, "--icc", "ignore")
    again, attributes = features_by_name(path)
    assert attributes["icc"] == "ignore"
    assert np.array_equal(found["p3.png"], again["p3.png"])


def test_pages_show_what_the_network_saw(photos, tmp_path):
    expected = {"convert": seen_as(RGB, DISPLAY_P3, 2.2), "ignore": RGB}
    for choice, pixels in expected.items():
        path = tmp_path / f"{choice}.h5"
        extract(photos, path, "--icc", choice)
        with featx.open(path) as store:
            figure = draw_top_images(store, None, 0, side=N).figure
        (axes,) = (axes for axes in figure.axes if "p3.png" in axes.get_title())
        assert np.abs(np.asarray(axes.images[0].get_array()) - pixels).max() <= 1.5


@pytest.mark.parametrize("choice", ["convert", "ignore"])
def test_whatever_reads_the_images_again_does_it_as_the_store_did(choice, tmp_path, monkeypatch):
    keras = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "stub"), __version__="0")
    frozen = SimpleNamespace(weights_sha256=StubNetwork.weights_sha256)
    monkeypatch.setattr("featx.inference.rebuild.build_frozen", lambda *arguments, **options: frozen)
    monkeypatch.setattr(
        "featx.inference.rebuild.run_frozen",
        lambda *arguments, batch_size, **options: StubNetwork(layers="all", batch_size=batch_size),
    )
    for module in ("inference.rebuild", "extract.recompute"):
        monkeypatch.setattr(f"featx.{module}.load_keras", lambda: keras)
    rows = ["path,label,split"]
    for number in range(12):
        name, label = f"{number}.png", "ab"[number % 2]
        pixels = np.roll(RGB, number, axis=number % 2)
        (tmp_path / name).write_bytes(encode(pixels, icc_profile=rgb_profile(DISPLAY_P3, 2.2)))
        rows.append(f"{name},{label},{'train' if number < 6 else 'validation' if number < 9 else 'test'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    path = tmp_path / "s.h5"
    extract(tmp_path / "t.csv", path, "--icc", choice)
    assert featx.verify_store(path, sample=12).problems == ()
    featx.fit_grid(path, "logreg", tmp_path / "run", grid={"C": (1.0,)})
    expected = pd.read_csv(tmp_path / "run" / "predictions.csv").set_index("path")
    (tmp_path / "broken.png").write_bytes(encode(RGB, icc_profile=b"broken"))
    lines = []
    images = [tmp_path / name for name in (*expected.index, "broken.png")]
    found = featx.predict_images(tmp_path / "run", images, echo=lines.append).table
    assert np.allclose(found["probability_a"][:-1], expected["probability_a"], atol=1e-9)
    is_said = f"images with {UNUSED_PROFILE}: 1 ({tmp_path / 'broken.png'})" in lines
    assert is_said == (choice == "convert")
    assert read_task(path).images.options.icc == choice
