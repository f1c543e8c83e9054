"""TIFFs beyond what Pillow reads rightly: samples of more than 8 bits, with a sign, or that are no colours."""

import logging
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import tifffile
from PIL import Image, ImageFile

from featx.errors import ImageError
from featx.images.flatten import find_range, scale_to_8_bits

# Without a handler, warnings about untrusted files would be written to the screen.
for _name_of_logger in ("tifffile", "PIL.TiffImagePlugin"):
    logging.getLogger(_name_of_logger).addHandler(logging.NullHandler())


SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFFs and BigTIFFs."""

_BITS_PER_SAMPLE = 258
_COMPRESSION = 259
_PHOTOMETRIC = 262
_STRIP_OFFSETS = 273
_ORIENTATION = 274
_PLANAR_CONFIGURATION = 284
_COLOR_MAP = 320
_TILE_OFFSETS = 324
_EXTRA_SAMPLES = 338
_SAMPLE_FORMAT = 339
_SUBSAMPLING = 530
_ICC_PROFILE = 34675
_PLANAR = 2
_UNCOMPRESSED = 1
_FAX_COMPRESSIONS = (2, 3, 4)
_DEFLATES = (8, 32946)

# Extra samples that are transparency: the colours are multiplied by it already, or are not.
_ASSOCIATED, _UNASSOCIATED = 1, 2

# How many samples are colours: of gray (white is zero, black is zero), RGB, palettes and CMYK.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5
_N_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}

# None, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard: their decoders give no more bytes than are asked for,
# while pictures within a TIFF (JPEG, JPEG 2000, WebP) may be of any size.
_COMPRESSIONS = (_UNCOMPRESSED, 5, *_DEFLATES, 32773, 34925, 50000)

# In unsigned samples of up to this many bits, the largest value is white.
_MOST_BITS = 16
_BUFFER_BYTES = 2**24

# Most programs write it behind the pixels.
_NO_TAGS = "a TIFF that is cut or damaged: its directory of tags is not there"
_NO_DATA = "a TIFF with a strip or tile without data"


def is_simple(image: Image.Image) -> bool:
    """Return whether Pillow reads a TIFF correctly that it has opened.

    It does where samples have up to 8 bits, no sign, and are colours or marked as what else they are. But it takes for
    something else: extra samples in planes of their own, uncompressed colours that several pixels share, a palette of
    8-bit colours, samples without a photometric interpretation, strips or tiles that the file leaves out, and damaged
    Deflate data.
    """
    tags = image.tag_v2
    # GDAL's mark of a part that isn't stored: Pillow would draw the file's first bytes there.
    if any(0 in tags.get(offsets, ()) for offsets in (_STRIP_OFFSETS, _TILE_OFFSETS)):
        return False
    if max(tags.get(_BITS_PER_SAMPLE, (1,))) > 8 or set(tags.get(_SAMPLE_FORMAT, (1,))) != {1}:
        return False
    # Libtiff doesn't compare Deflate's checksum.
    if tags.get(_COMPRESSION) in _DEFLATES and tags.get(_PHOTOMETRIC) in _N_COLOURS:
        return False
    if _EXTRA_SAMPLES in tags:
        return tags.get(_PLANAR_CONFIGURATION) != _PLANAR
    if _PHOTOMETRIC not in tags:
        return tags.get(_COMPRESSION) in _FAX_COMPRESSIONS
    if image.mode == "YCbCr" and tags.get(_COMPRESSION) == _UNCOMPRESSED:
        return tags.get(_SUBSAMPLING) == (1, 1)
    return image.mode != "RGBA" and not (image.mode == "P" and max(tags.get(_COLOR_MAP, (0,))) < 256)


class TiffPicture(ImageFile.ImageFile):
    """The first page of a TIFF as an 8-bit picture, decoded by tifffile.

    Opening it reads the tags and checks that pictures of this kind are decoded rightly; loading it decodes the samples,
    into mode L, LA, I;16, RGB, RGBA or CMYK. Unsigned samples of up to 16 bits use the whole range of their type; for
    all others, see `find_range`. Samples after the colours are ignored, but for transparency.

    Attributes
    ----------
    tile_size : (int, int)
        Width and height of what is decoded at once.
    pixel_bytes : int
        Bytes that all samples of a pixel take while they are decoded.

    Raises
    ------
    ImageError
        If it is of a kind that isn't decoded rightly.
    """

    format: ClassVar[str] = "TIFF"
    format_description: ClassVar[str] = "TIFF"

    def _open(self) -> None:
        self.fp.seek(0)
        # Programs' own kinds of TIFF, in which tags mean something else: other pages would be looked at.
        file = tifffile.TiffFile(self.fp, is_lsm=False, is_ndpi=False, is_scanimage=False)
        try:
            page = file.pages[0]
        except IndexError as error:
            raise ImageError(_NO_TAGS) from error
        _check_kind(page)
        self._page: tifffile.TiffPage | None = page
        self._size = page.imagewidth, page.imagelength
        self._mode = {1: "L", 3: "RGB", 4: "CMYK"}[_N_COLOURS[page.photometric]]
        self.tile_size = (page.tilewidth, page.tilelength) if page.is_tiled else self._size
        self.pixel_bytes = page.samplesperpixel * page.dtype.itemsize
        if isinstance(profile := page.tags.valueof(_ICC_PROFILE), bytes):
            self.info["icc_profile"] = profile
        if (orientation := page.tags.valueof(_ORIENTATION)) is not None:
            self.getexif()[_ORIENTATION] = orientation

    def load(self) -> object:
        """Decode the samples, the first time."""
        if self._page is not None:
            picture = _to_picture(self._page)
            self._page, self.im, self._mode = None, picture.im, picture.mode
        return super().load()


def _check_kind(page: tifffile.TiffPage) -> None:
    n_samples, kind = page.samplesperpixel, f"a TIFF of {page.bitspersample}-bit samples"
    if not page.tags:
        raise ImageError(_NO_TAGS)
    if 0 in page.dataoffsets:
        raise ImageError(_NO_DATA)
    if page.dtype is None or page.dtype.kind not in "buif":
        raise ImageError(f"{kind} of a format that can't be read: {_name(page.sampleformat)}")
    if page.compression not in _COMPRESSIONS:
        raise ImageError(f"{kind} in a compression that can't be read: {_name(page.compression)}")
    if _PHOTOMETRIC not in page.tags:
        raise ImageError("a TIFF that does not say whether it is gray or RGB (tag PhotometricInterpretation)")
    if page.photometric not in _N_COLOURS or (page.photometric == _PALETTE and not _has_white(page)):
        raise ImageError(f"{kind} that mean something that can't be read: {_name(page.photometric)}")
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise ImageError(f"a TIFF of a volume {page.imagedepth} layers deep, not of a picture")
    n_colours = _N_COLOURS[page.photometric]
    if n_samples < n_colours:
        raise ImageError(f"a TIFF of {_name(page.photometric)} with {n_samples} samples per pixel, not {n_colours}")
    if n_colours == 1 and n_samples > 2 and _find_alpha(page) is None:
        raise ImageError(f"a TIFF of {n_samples} samples per pixel that names no colours: save it as RGB or as gray")
    n_parts = math.prod(page.chunked)
    if not n_parts == len(page.dataoffsets) == len(page.databytecounts):
        raise ImageError(
            f"a TIFF that is cut or damaged: it does not say where each of its {n_parts} strips or tiles is"
        )
    # The same bytes many times over would take very long to read; some programs count the last strip as a full one.
    if sum(page.databytecounts) > 2 * page.parent.filehandle.size:
        raise ImageError("a TIFF whose strips or tiles have more bytes than the file")


def _name(number: int) -> str:
    return getattr(number, "name", str(number))


def _has_white(page: tifffile.TiffPage) -> bool:
    """Return whether the largest value of the samples' type is white."""
    return page.dtype.kind in "bu" and page.bitspersample <= _MOST_BITS


def _find_alpha(page: tifffile.TiffPage) -> int | None:
    """Return the index of the sample that is marked as transparency, if there is one."""
    indices = range(_N_COLOURS[page.photometric], page.samplesperpixel)
    marked = zip(indices, page.extrasamples, strict=False)
    return next((index for index, mark in marked if mark in (_ASSOCIATED, _UNASSOCIATED)), None)


def _to_picture(page: tifffile.TiffPage) -> Image.Image:
    n_colours, alpha = _N_COLOURS[page.photometric], _find_alpha(page)
    samples = _decode(page, [*range(n_colours), *([] if alpha is None else [alpha])])
    is_gray = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    if alpha is None and is_gray and page.dtype.kind == "u" and page.bitspersample == _MOST_BITS:
        # In full, as those of a PNG: a profile may distinguish what is one level of 8 bits.
        gray = samples[..., 0].astype(np.uint16)
        return Image.fromarray(65535 - gray if page.photometric == _WHITE_IS_ZERO else gray)
    picture = _draw_colours(page, samples[..., :n_colours])
    if alpha is None:
        return picture
    picture = picture.convert("RGB") if picture.mode == "CMYK" else picture
    transparency = Image.fromarray(_scale_alpha(page, samples[..., n_colours]))
    if page.extrasamples[alpha - n_colours] == _UNASSOCIATED:
        picture.putalpha(transparency)
        return picture
    return Image.merge(f"{picture.mode}a", (*picture.split(), transparency)).convert(f"{picture.mode}A")


def _decode(page: tifffile.TiffPage, indices: Sequence[int]) -> np.ndarray:
    """Return some samples of every pixel, (height, width, n_samples), in the file's own type."""
    height, width = page.imagelength, page.imagewidth
    samples = np.empty((height, width, len(indices)), page.dtype)
    for part, (plane, _, top, left, _), _ in page.segments(maxworkers=1, buffersize=_BUFFER_BYTES):
        if part is None:
            raise ImageError(_NO_DATA)
        inside = part[0, : height - top, : width - left]
        target = samples[top : top + inside.shape[0], left : left + inside.shape[1]]
        for number, sample in enumerate(indices):
            if plane <= sample < plane + inside.shape[-1]:
                target[..., number] = inside[..., sample - plane]
    return samples


def _draw_colours(page: tifffile.TiffPage, samples: np.ndarray) -> Image.Image:
    if page.photometric == _PALETTE:
        palette = np.asarray(page.tags.valueof(_COLOR_MAP)).reshape(3, -1)
        # Of 16 bits; some programs write 8.
        return Image.fromarray(
            (palette >> (8 if palette.max() > 255 else 0)).astype(np.uint8).T[samples[..., 0].astype(int)]
        )
    low, high = (0, 2**page.bitspersample - 1) if _has_white(page) else _range_of_data(page, samples)
    colours = scale_to_8_bits(samples, low, high)
    if page.photometric == _WHITE_IS_ZERO:
        colours = 255 - colours
    if page.photometric == _CMYK:
        return Image.frombytes("CMYK", (page.imagewidth, page.imagelength), colours)
    return Image.fromarray(colours[..., 0] if colours.shape[-1] == 1 else colours)


def _range_of_data(page: tifffile.TiffPage, samples: np.ndarray) -> tuple[float, float]:
    # Such a value is far off all others, so that little would be left of them between black and white; it is 0 where a
    # file names none.
    if page.nodata != 0 and (samples == page.nodata).any():
        raise ImageError(f"holds pixels without data ({page.nodata}, by tag GDAL_NODATA)")
    return find_range(samples)


def _scale_alpha(page: tifffile.TiffPage, samples: np.ndarray) -> np.ndarray:
    high = 2**page.bitspersample - 1 if _has_white(page) else find_range(samples[..., np.newaxis])[1]
    return scale_to_8_bits(samples, 0, high)
