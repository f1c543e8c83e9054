"""Decode image files to pixel arrays: turn upright, convert colours, flatten to RGB, resize.

Whatever a file holds (gray, palette, transparency, CMYK, 16 bits a channel), the result is the 8-bit RGB picture that
a person would see in a viewer on a white page.
"""

import io
import struct
import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from featx.errors import ImageError, one_line
from featx.images.files import LARGE_BYTES, read_file, size_of, take_turns
from featx.images.flatten import flatten_to_8_bits
from featx.images.icc import MAX_PROFILE_BYTES, ProfileError, convert_to_srgb
from featx.images.jpeg import START, STRANGE_DATA, check_scans, end_jpeg, load_jpeg
from featx.images.pillow_formats import HEIF, NETPBM
from featx.images.png import SIGNATURE, keep_pixel_chunks, unpack_profile
from featx.images.tiff import SIGNATURES, TiffPicture, is_simple
from featx.system import sha256_of

EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif"),
        *(".avif", ".heic", ".heif", ".hif", ".pbm", ".pgm", ".ppm", ".pnm"),
    )
)

RESIZES = ("squash", "crop", "pad")

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

JPEGS = {
    "full": "every pixel is decoded",
    "scaled": "JPEGs at least twice as large as needed are decoded at a half, a quarter or an eighth of their size: "
    "faster, and pixels differ a little",
}

MAX_PIXELS = 178_956_970
"""Most pixels an image may declare: Pillow's own limit for a decompression bomb."""

LARGE_PIXELS = 2**25
"""Images that declare more pixels are decoded one at a time."""

# Decoders that untrusted files may reach. Others (EPS starts Ghostscript) are never tried.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", NETPBM, HEIF)
_NO_IMAGE = "not a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF, HEIC, PBM, PGM or PPM image"

# What Pillow's decoders are known to raise on damaged files; warnings, where Python raises them (-W error).
_DECODING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EXIF_ORIENTATION = 0x0112

# MPO: Pillow's word for a JPEG with further pictures behind the first.
_JPEG_FORMATS = ("JPEG", "MPO")
_BMP_FORMATS = ("BMP", "DIB")

# Pillow's words for gray of 2 and 4 bits, and the largest value of each. Pixels are scaled to 8 bits, the gray that is
# transparent isn't.
_PNG_GRAYS = {"L;2": 3, "L;4": 15}

# Up to a PNG's width and height, with which each begins.
_PNG_HEAD = 24
_TIFF_TILE_SIDES = (322, 323)

# XMP, as Pillow calls it: it would take an orientation from there, which viewers don't.
_XMP = ("xmp", "XML:com.adobe.xmp")

UNUSED_PROFILE = "an ICC profile that can't be used (broken, or for other colours)"
"""The note on images whose profile is ignored for that."""

_LONGEST_REASON = 200


@dataclass(frozen=True)
class Picture:
    """One image, ready for a network.

    Attributes
    ----------
    pixels : ndarray of shape (image_size, image_size, 3), uint8, or None
        RGB; None of a file that was not to be decoded.
    sha256 : str
        Digest of the file's bytes, 64 hexadecimal digits.
    notes : tuple of str
        What a user should know of it: `UNUSED_PROFILE`, `featx.images.jpeg.STRANGE_DATA`.
    """

    pixels: np.ndarray | None
    sha256: str
    notes: tuple[str, ...] = ()


def read_picture(
    path: Path,
    *,
    image_size: int,
    resize: str,
    interpolation: str,
    jpeg: str = "full",
    icc: str = "convert",
    known: Container[str] = frozenset(),
) -> Picture:
    """Read one image file; the file's bytes are read once, for the digest and the pixels.

    Parameters
    ----------
    path : Path
    image_size, resize, interpolation, jpeg, icc
        See `decode`.
    known : container of str, optional
        Digests of files that need no decoding: their features exist.

    Raises
    ------
    ImageError
        If the file can't be read or decoded.
    """
    with take_turns(size_of(path) > LARGE_BYTES):
        data = read_file(path)
        sha256 = sha256_of(data)
        if sha256 in known:
            return Picture(pixels=None, sha256=sha256)
        pixels, notes = _decode(data, image_size, resize, interpolation, jpeg, icc)
        return Picture(pixels=pixels, sha256=sha256, notes=notes)


def read_unchanged(
    path: Path,
    *,
    sha256: str,
    image_size: int,
    resize: str,
    interpolation: str,
    jpeg: str = "full",
    icc: str = "convert",
) -> np.ndarray:
    """Read one image file, if it is still the one that a store's features were made of; no other is decoded.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the bytes that the file must have.
    image_size, resize, interpolation, jpeg, icc
        See `decode`.

    Returns
    -------
    ndarray of shape (image_size, image_size, 3), uint8

    Raises
    ------
    ImageError
        If the file is gone, is another, or can't be read or decoded.
    """
    with take_turns(size_of(path) > LARGE_BYTES):
        data = read_file(path)
        if sha256_of(data) != sha256:
            raise ImageError("not the file that the store's features were made of")
        return _decode(data, image_size, resize, interpolation, jpeg, icc)[0]


def read_size(path: Path) -> tuple[int, int]:
    """Read an image's width and height, pixels, of its header alone and as they are stored: nothing is decoded.

    Raises
    ------
    ImageError
        If the file can't be read, or is no image.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD)
        if head.startswith(SIGNATURE) and len(head) == _PNG_HEAD:
            # Pillow would read texts and profiles first, and fail at those that it finds too large.
            return struct.unpack_from(">II", head, 16)
        with path.open("rb") as file, _open(file) as image:
            return image.size
    except Image.UnidentifiedImageError as error:
        raise ImageError(_NO_IMAGE) from error
    except _DECODING_ERRORS as error:
        raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def decode(
    data: bytes,
    *,
    image_size: int = 224,
    resize: str = "squash",
    interpolation: str = "bilinear",
    jpeg: str = "full",
    icc: str = "convert",
) -> np.ndarray:
    """Turn the bytes of an image file into RGB pixels of one size.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF, HEIC (with pillow-heif), PBM, PGM or PPM file (an animation gives its
        first frame).
    image_size : int, default 224
        Height and width of the result, pixels.
    resize : {"squash", "crop", "pad"}, default "squash"
        Ignore the shape; keep it and cut the long side, centred; or keep it and fill the short side with black.
    interpolation : {"bilinear", "bicubic", "lanczos"}, default "bilinear"
        Antialiased when the image shrinks.
    jpeg : {"full", "scaled"}, default "full"
        See `JPEGS`.
    icc : {"convert", "ignore"}, default "convert"
        See `featx.images.ICCS`.

    Returns
    -------
    ndarray of shape (image_size, image_size, 3), uint8

    Raises
    ------
    ImageError
        If the bytes can't be decoded.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (40, 20), 200).save(file, "PNG")
    >>> decode(file.getvalue(), image_size=32).shape
    (32, 32, 3)
    """
    return _decode(data, image_size, resize, interpolation, jpeg, icc)[0]


def _decode(
    data: bytes, image_size: int, resize: str, interpolation: str, jpeg: str, icc: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Do what `decode` does, and return what is to say of the image, too."""
    if not data:
        raise ImageError("empty file")
    opened, packed = data, None
    try:
        if data.startswith(SIGNATURE):
            opened, packed = keep_pixel_chunks(data)
        elif data.startswith(START):
            opened = end_jpeg(data)
        with _open(io.BytesIO(opened)) as image:
            declared = [image.size, *_tile_sizes(image)]
            # Pillow decodes to 4 bytes per pixel at most.
            most = 4 * MAX_PIXELS // max(4, getattr(image, "pixel_bytes", 4))
            for width, height in declared:
                if width * height > most:
                    raise ImageError(f"{width} x {height} pixels, more than {most:,}")
            if image.format in _JPEG_FORMATS:
                check_scans(data)
            if packed is not None and icc == "convert":
                image.info["icc_profile"] = unpack_profile(packed, MAX_PROFILE_BYTES)
            with take_turns(any(_is_large(sides, most) for sides in declared)):
                return _to_pixels(image, data, image_size, resize, interpolation, jpeg, icc)
    except Image.UnidentifiedImageError as error:
        raise ImageError(_NO_IMAGE) from error
    except _DECODING_ERRORS as error:
        # Some of what Pillow says holds pieces of the file.
        reason = one_line(str(error) or type(error).__name__)
        raise ImageError(f"cannot be decoded: {reason[:_LONGEST_REASON]}") from error


def _open(file: BinaryIO) -> Image.Image:
    """Open an image by what reads its kind rightly; nothing is decoded."""
    signature = file.read(4)
    file.seek(0)
    try:
        # Pillow takes the tags of a big-endian BigTIFF for damaged ones.
        if signature != SIGNATURES[-1]:
            image = Image.open(file, formats=_FORMATS)
            if image.format != "TIFF" or is_simple(image):
                return image
    except Image.UnidentifiedImageError:
        if signature not in SIGNATURES:
            raise
    return TiffPicture(file)


def _to_pixels(
    image: Image.Image, data: bytes, image_size: int, resize: str, interpolation: str, jpeg: str, icc: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    if jpeg == "scaled":
        # Never to less than this; the decoders of other formats take no notice.
        image.draft(None, _fit_within(image.size, image_size) if resize == "pad" else (image_size, image_size))
    loaded, notes = _load(image, data)
    if icc == "convert":
        loaded, more = _convert(loaded, image.info)
        notes += more
    flat = flatten_to_8_bits(_turn_upright(loaded, image))
    return np.asarray(_resize(flat, image_size, resize, INTERPOLATIONS[interpolation]).convert("RGB")), notes


def _load(image: Image.Image, data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode all of an image that was opened; return what is to say of it, too."""
    for name in _XMP:
        image.info.pop(name, None)
    if image.format in _JPEG_FORMATS:
        loaded, is_strange = load_jpeg(image, data)
        return loaded, (STRANGE_DATA,) if is_strange else ()
    return _load_as_shown(image), ()


def _convert(image: Image.Image, info: Mapping[str, object]) -> tuple[Image.Image, tuple[str, ...]]:
    """Return an image in sRGB, by the profile in its file, if any."""
    if "icc_profile" not in info:
        return image, ()
    try:
        return convert_to_srgb(image, info["icc_profile"] or b""), ()
    except ProfileError:
        return image, (UNUSED_PROFILE,)


def _load_as_shown(image: Image.Image) -> Image.Image:
    """Decode a picture, and give it the transparency that viewers give it where Pillow gives it another."""
    stored = next(iter(getattr(image, "tile", ())), None)
    if image.format == "PNG" and stored and "transparency" in image.info:
        if stored.args == "RGB;16B":
            # Pillow keeps the upper 8 bits, by which another colour may look like it.
            raise ImageError(
                "a PNG of 16-bit RGB with one transparent colour can't be read: save it with an alpha channel"
            )
        if largest := _PNG_GRAYS.get(stored.args):
            image.info["transparency"] = (image.info["transparency"] & largest) * 255 // largest
    image.load()
    if image.format == "GIF" and stored and stored.extents != (0, 0, *image.size):
        # Around a frame that is smaller than the picture, there is nothing yet.
        canvas = Image.new("RGBA", image.size)
        canvas.paste(image.crop(stored.extents).convert("RGBA"), stored.extents)
        return canvas
    if image.format in _BMP_FORMATS and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        # Many programs leave the byte empty that the header calls alpha.
        return image.convert("RGB")
    return image


def _tile_sizes(image: Image.Image) -> list[tuple[int, int]]:
    """Return the size of a TIFF's tiles: one may be far larger than the picture, and is decoded whole."""
    if isinstance(image, TiffPicture):
        return [image.tile_size]
    tags = getattr(image, "tag_v2", {})
    sides = tuple(tags.get(tag) for tag in _TIFF_TILE_SIDES)
    return [sides] if all(isinstance(side, int) for side in sides) else []


def _is_large(sides: tuple[int, int], most: int) -> bool:
    """Return whether a picture needs much memory: it has many pixels, or a very long side."""
    return max(sides[0] * sides[1] * MAX_PIXELS // most, 32 * max(sides)) > LARGE_PIXELS


def _turn_upright(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Apply the EXIF orientation of an opened file; damaged EXIF data is no reason to lose a picture."""
    # Asked once it is loaded: loading a TIFF turns it upright, and says so.
    try:
        orientation = opened.getexif().get(_EXIF_ORIENTATION, 1)
    except _DECODING_ERRORS:
        orientation = 1
    method = _TRANSPOSES.get(orientation if isinstance(orientation, int) else 1)
    return image if method is None else image.transpose(method)


def _resize(image: Image.Image, size: int, resize: str, method: Image.Resampling) -> Image.Image:
    if resize == "crop":
        return ImageOps.fit(image, (size, size), method)
    if resize == "pad":
        inner = _fit_within(image.size, size)
        page = Image.new(image.mode, (size, size))
        page.paste(image.resize(inner, method), ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return page
    return image.resize((size, size), method)


def _fit_within(sides: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the sides of a picture whose long side shrinks or grows to a size."""
    scale = size / max(sides)
    width, height = (max(1, round(side * scale)) for side in sides)
    return width, height
