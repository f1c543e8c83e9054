"""JPEGs that are cut or damaged are rejected; those that only look odd are read as viewers read them."""

import io
import re
import warnings
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from mutants import jpeg_photographs
from PIL import Image
from stub_network import stand_in

import featx
from featx.cli import main
from featx.errors import ImageError
from featx.images import read_picture
from featx.images.decode import decode
from featx.images.jpeg import STRANGE_DATA

END = b"\xff\xd9"
N = 64

KINDS = {
    "baseline": {},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "444": {"subsampling": 0},
    "gray": {},
    "CMYK": {},
}


@pytest.fixture(scope="module")
def photograph():
    with Image.open(jpeg_photographs()[0]) as image:
        return image.convert("RGB").resize((320, 214))


@pytest.fixture(scope="module")
def files(photograph):
    modes = {"gray": "L", "CMYK": "CMYK"}
    return {kind: encode(photograph.convert(modes.get(kind, "RGB")), **options) for kind, options in KINDS.items()}


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, quality=85, **options)
    return file.getvalue()


def plainly(data, *, scaled=False):
    """Decode a whole file as Pillow does."""
    with Image.open(io.BytesIO(data)) as image:
        if scaled:
            image.draft(None, (N, N))
        return np.asarray(image.convert("RGB").resize((N, N), Image.Resampling.BILINEAR))


def notes_of(tmp_path, data):
    (tmp_path / "x.jpg").write_bytes(data)
    return read_picture(tmp_path / "x.jpg", image_size=N, resize="squash", interpolation="bilinear").notes


@pytest.mark.parametrize("jpeg", ["full", "scaled"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_give_the_very_pixels_of_pillow(files, kind, jpeg):
    found = decode(files[kind], image_size=N, jpeg=jpeg)
    assert np.array_equal(found, plainly(files[kind], scaled=jpeg == "scaled"))


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_that_fill_no_block_give_the_very_pixels_of_pillow(photograph, kind):
    for size in ((1, 1), (17, 33), (130, 9), (129, 257)):
        image = photograph.resize(size).convert({"gray": "L", "CMYK": "CMYK"}.get(kind, "RGB"))
        data = encode(image, **KINDS[kind])
        assert np.array_equal(decode(data, image_size=N), plainly(data))
        assert np.array_equal(decode(data, image_size=N, jpeg="scaled"), plainly(data, scaled=True))


@pytest.mark.parametrize("end", [b"", END])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_rejected_wherever_it_is_cut(files, kind, end):
    data = files[kind]
    for share in (0.1, 0.25, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99):
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode(data[: int(len(data) * share)] + end)
    # All but its last bytes.
    with pytest.raises(ImageError, match="cut or damaged JPEG data"):
        decode(data[:-8] + end)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_zeros_is_found(files, kind):
    data = files[kind]
    third = len(data) // 3
    for share in np.linspace(0.08, 0.63, 12):
        start = int(share * len(data))
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode(data[:start] + bytes(third) + data[start + third :])


@pytest.mark.parametrize("jpeg", ["full", "scaled"])
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_up_to_the_end_are_found(files, kind, jpeg):
    """However many: they may be enough for all of the picture, and for more."""
    data = files[kind]
    for share in np.linspace(0.1, 0.9, 7):
        start = int(share * len(data))
        for n_zeros in (len(data) - start - 2, len(data), 9 * len(data)):
            for end in (b"", END):
                with pytest.raises(ImageError, match="damaged JPEG data"):
                    decode(data[:start] + bytes(n_zeros) + end, image_size=N, jpeg=jpeg)


def test_zeros_from_the_first_picture_to_the_end_of_the_second_are_found(photograph):
    file = io.BytesIO()
    photograph.save(file, "MPO", save_all=True, append_images=[photograph.rotate(180)])
    data = file.getvalue()
    quarter = len(data) // 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for end in (b"", END):
            with pytest.raises(ImageError, match="cannot be decoded: cut or damaged JPEG data"):
                decode(data[:quarter] + bytes(3 * quarter) + end)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
def test_blank_areas_are_no_gaps(options, tmp_path):
    """Some encoders write a blank area as zeros."""
    page = np.full((1200, 1600, 3), 255, np.uint8)
    page[500:600, 700:800] = np.arange(100)[:, None]
    data = encode(Image.fromarray(page), **options)
    assert (bytes(256) in data) == bool(options)
    assert np.array_equal(decode(data, image_size=N), plainly(data))
    assert notes_of(tmp_path, data + bytes(999)) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_only_its_end_marker_is_whole(files, kind, tmp_path):
    data = files[kind]
    assert np.array_equal(decode(data[:-2], image_size=N), plainly(data))
    assert np.array_equal(decode(data[:-1], image_size=N), plainly(data))
    assert notes_of(tmp_path, data[:-2]) == ()


def odd_files(files, photograph):
    """Yield files that viewers show without a word, each with a whole one of the same picture."""
    plain, restarts, progressive = files["baseline"], files["restarts"], files["progressive"]
    yield plain + b"what a program has left here" * 99, plain
    # A film behind the picture, as telephones have it.
    yield plain + b"\0\0\0\x18ftypmp42" + bytes(5000), plain
    file = io.BytesIO()
    photograph.save(file, "MPO", save_all=True, append_images=[photograph.rotate(180)])
    yield file.getvalue(), file.getvalue()
    # Fill bytes before markers.
    yield plain[:-2] + b"\xff" * 9 + END, plain
    yield re.sub(rb"\xff[\xd0-\xd7]", lambda found: b"\xff\xff" + found[0], restarts), restarts
    # Between the segments of its head; a version that there never was; none of its own segments; a comment of markers.
    yield plain[:20] + b"\1\2\3" + plain[20:], plain
    yield plain[:11] + b"\7\0" + plain[13:], plain
    yield plain[:2] + plain[20:], plain
    yield plain[:2] + b"\xff\xfe\0\x08\xff\xda\xff\xd9\0\0" + plain[2:], plain
    exif = Image.Exif()
    exif[0x010E] = "x"
    thumbnail = encode(photograph.resize((160, 107)))
    yield plain[:2] + b"\xff\xe3" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + plain[2:], plain
    # Without the last scan, the finest: coarser, and what is asked of it is there.
    coarse = progressive[: progressive.rindex(b"\xff\xda")] + END
    yield coarse, coarse


def test_odd_files_are_read_as_viewers_read_them(files, photograph, tmp_path):
    for data, whole in odd_files(files, photograph):
        assert np.array_equal(decode(data, image_size=N), plainly(whole))
        assert notes_of(tmp_path, data) == ()
        # And are cut as others are.
    for data, _ in list(odd_files(files, photograph))[5:9]:
        with pytest.raises(ImageError, match="cut or damaged"):
            decode(data[: len(data) // 2] + END)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", END])
def test_zeros_behind_a_whole_picture_lose_nothing(files, kind, end, tmp_path):
    odd = files[kind][:-2] + bytes(2000) + end
    assert np.array_equal(decode(odd, image_size=N), plainly(files[kind]))
    assert notes_of(tmp_path, odd) == (STRANGE_DATA,)


def test_a_file_that_ends_between_two_scans_is_named(files, photograph, tmp_path):
    for data in (files["progressive"], encode(photograph.convert("CMYK"), progressive=True)):
        starts = [found.start() for found in re.finditer(b"\xff\xda", data)]
        # Before the tables of a scan, too.
        places = {*starts[1:], *(data.rfind(b"\xff\xc4", before, start) for before, start in pairwise(starts))} - {-1}
        assert len(places) > 10
        for place in places:
            assert np.array_equal(decode(data[:place], image_size=N), plainly(data[:place] + END))
            assert notes_of(tmp_path, data[:place]) == (STRANGE_DATA,)


@pytest.mark.parametrize("more", [b"junk" * 20, bytes(2000)])
def test_bytes_that_belong_to_nothing_are_read_over_and_named(files, more, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    data = files["baseline"]
    odd = data[:-2] + more + END
    assert np.array_equal(decode(odd, image_size=N), plainly(data))
    assert notes_of(tmp_path, odd) == (STRANGE_DATA,)
    (folder / "odd.jpg").write_bytes(odd)
    (folder / "cut.jpg").write_bytes(data[: len(data) // 2] + END)
    (folder / "whole.jpg").write_bytes(data)
    for patch in stand_in():
        monkeypatch.setattr(patch.getter(), patch.attribute, patch.new)
    arguments = ["extract", folder, "-o", tmp_path / "s.h5", "--weights", "random", "--image-size", 32]
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0
    assert f"images with {STRANGE_DATA}: 1 (odd.jpg)" in result.output
    with featx.open(tmp_path / "s.h5") as store:
        assert store.images["path"].tolist() == ["odd.jpg", "whole.jpg"]
        assert store.rejected["path"].tolist() == ["cut.jpg"]
        assert "premature end of data segment" in store.rejected["reason"][0]
