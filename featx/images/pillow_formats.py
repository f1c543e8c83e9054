"""Formats that Pillow reads with another package, or slowly, under names of featx's own in its table of formats.

Only `Image.open(..., formats=...)` that names them reads them: what else a program does with Pillow stays as it is.
"""

import re
import struct
from typing import BinaryIO

import numpy as np
from PIL import AvifImagePlugin, Image, PpmImagePlugin

from featx.errors import ImageError

HEIF = "FEATX-HEIF"
NETPBM = "FEATX-NETPBM"

# AV1 in a HEIF container, HEVC in one, and containers that name their contents later.
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_OPEN_BRANDS = {b"mif1", b"msf1"}
_MOST_BRANDS = 64

# Where a HEIF container says how large one of its pictures is.
_SIDES = re.compile(rb"ispe\0\0\0\0(.{8})", re.DOTALL)
_NETPBM_BEGINNINGS = {b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"}


class _NetpbmImageFile(PpmImagePlugin.PpmImageFile):
    """A PBM, PGM or PPM; gray of more than 8 bits is I;16, whose white is 65,535.

    Pillow decodes binary files whose white is neither 255 nor 65,535, and all colours of 16 bits, by a loop in Python,
    which takes seconds per megapixel.
    """

    def load(self) -> object:
        if self.tile and self.tile[0].codec_name == "ppm":
            self._decode_with_numpy()
        else:
            super().load()
        if self.mode == "I":
            self.im = self.im.convert("I;16")
            self._mode = "I;16"
        return super().load()

    def _decode_with_numpy(self) -> None:
        tile = self.tile[0]
        n_samples = self.width * self.height * len(self.getbands())
        white = tile.args[1]
        kind = np.dtype(">u2" if white > 255 else "u1")
        self.fp.seek(tile.offset)
        data = self.fp.read(n_samples * kind.itemsize)
        if len(data) < n_samples * kind.itemsize:
            raise ImageError(f"cannot be decoded: its pixels end after {len(data):,} bytes")
        target = np.dtype(np.uint16 if self.mode == "I" else np.uint8)
        largest = np.iinfo(target).max
        values = np.rint(np.arange(2 ** (8 * kind.itemsize)) / white * largest).clip(max=largest).astype(target)
        shape = (self.height, self.width, 3) if self.mode == "RGB" else (self.height, self.width)
        decoded = Image.fromarray(values[np.frombuffer(data, kind)].reshape(shape))
        self.im, self._mode, self.tile = decoded.im, decoded.mode, []


def _open_heif(file: BinaryIO, name: str) -> Image.Image:
    """Open an AVIF or a HEIC; an error says what is wrong, where Pillow would only see no image."""
    n_bytes = int.from_bytes(file.read(4), "big")
    head = file.read(min(n_bytes - 4, 4 * _MOST_BRANDS))
    file.seek(0)
    try:
        if _AVIF_BRANDS & {head[place : place + 4] for place in range(4, len(head), 4)}:
            return AvifImagePlugin.AvifImageFile(file, name)
        return _open_heic(file, name)
    except SyntaxError as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def _open_heic(file: BinaryIO, name: str) -> Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageError("a HEIC image, which needs the package pillow-heif: pip install 'featx[heic]'") from error
    _check_size(file)
    image = pillow_heif.HeifImageFile(file, name)
    # It would decode a thumbnail in place of the picture.
    image.draft = lambda mode, size: None
    return image


def _check_size(file: BinaryIO) -> None:
    """Raise an error for a HEIC with a picture too large to be decoded, even if only a small part of it is shown."""
    # Here, since that one imports this module.
    from featx.images.decode import MAX_PIXELS

    for sides in _SIDES.findall(file.read()):
        width, height = struct.unpack(">II", sides)
        if width * height > MAX_PIXELS:
            raise ImageError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
    file.seek(0)


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in _AVIF_BRANDS | _HEIC_BRANDS | _OPEN_BRANDS


Image.OPEN[HEIF] = (_open_heif, _is_heif)
Image.OPEN[NETPBM] = (_NetpbmImageFile, lambda prefix: prefix[:2] in _NETPBM_BEGINNINGS)
