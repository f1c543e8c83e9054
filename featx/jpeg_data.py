"""JPEGs, decoded strictly: Pillow fills up what is cut or damaged, and does not say so."""

import re

import numpy as np
import simplejpeg
from PIL import Image

from featx.errors import ImageError

START, END = b"\xff\xd8", b"\xff\xd9"

STRANGE_DATA = "JPEG data that is not quite as it should be, so that they may be damaged"
"""What is to say of images with bytes between scans, or scans in an odd order: viewers show them, whole or not."""

# By Pillow's mode: what simplejpeg calls it, how its bytes lie, and how many a pixel has.
_MODES = {"L": ("GRAY", "L", 1), "RGB": ("RGB", "RGB", 3), "CMYK": ("CMYK", "CMYK;I", 4)}

# How libjpeg begins to tell of damage.
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file")
_STRANGE = re.compile("extraneous bytes before marker|Inconsistent progression sequence")

# A disk or a transfer leaves this much empty, an encoder doesn't.
_EMPTY = bytes(256)

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_START_OF_SCAN = 0xDA
# They say nothing of the data: comments, and what applications add.
_PASSED_OVER = frozenset((*range(0xE0, 0xF0), 0xFE))
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))


def load_jpeg(image: Image.Image, data: bytes) -> tuple[Image.Image, bool]:
    """Decode a JPEG, or find that it is cut or damaged.

    Parameters
    ----------
    image : PIL.Image.Image
        Opened from `end_jpeg(data)`, not yet loaded; with the size that it is to be decoded to.
    data : bytes
        The file.

    Returns
    -------
    PIL.Image.Image
        What Pillow itself gives.
    bool
        Whether its data is strange: `STRANGE_DATA`. It may be whole all the same.

    Raises
    ------
    ImageError
        If data is missing or damaged.
    """
    whole = end_jpeg(data)
    colours, layout, n_bytes = _MODES[image.mode]
    (width, height), scale = image.size, image.decoderconfig[0] if image.decoderconfig else 1
    pixels = np.empty((height, width, n_bytes), dtype=np.uint8)
    try:
        found = simplejpeg.decode_jpeg(
            whole, colours, min_height=height, min_width=width, min_factor=scale, buffer=pixels
        )
    except ValueError:
        is_strange = _find_damage(whole, colours, len(whole) > len(data))
        image.load()
        return image, is_strange
    if found.shape[:2] != (height, width):
        image.load()
        return image, False
    return Image.frombuffer(image.mode, image.size, pixels, "raw", layout, 0, 1), False


def end_jpeg(data: bytes) -> bytes:
    """Return a JPEG with an end marker: alone, a missing one is no reason to lose a picture."""
    return data if data.endswith(END) else data + END


def _find_damage(data: bytes, colours: str, is_ended: bool) -> bool:
    """Raise an error for damaged data; return whether it is strange."""
    scans = _drop_comments(data)
    try:
        simplejpeg.decode_jpeg(scans, "CMYK" if colours == "CMYK" else "GRAY", min_factor=8)
    except ValueError as error:
        reason = str(error)
    else:
        return False
    if _STRANGE.search(reason):
        start = scans.find(bytes((0xFF, _START_OF_SCAN)))
        if _EMPTY not in scans[start : scans.find(END, start)].rstrip(b"\0"):
            return True
        raise ImageError("cannot be decoded: damaged JPEG data (a part of it is empty)")
    if reason.startswith(_DAMAGE):
        raise ImageError(f"cannot be decoded: cut or damaged JPEG data ({reason})")
    if is_ended:
        raise ImageError("cannot be decoded: cut JPEG data (its end marker is missing)")
    # A kind of JPEG that only Pillow knows.
    return False


def _drop_comments(data: bytes) -> bytes:
    """Return a JPEG without what stands before its first scan and says nothing of its data.

    Of all that libjpeg has to say of a file it gives the first; what it says of comments may hide what it says of data.
    """
    kept, place = [START], len(START)
    while found := _MARKER.search(data, place):
        start, marker = found.start(), data[found.end() - 1]
        if marker == _START_OF_SCAN:
            return b"".join([*kept, data[start:]])
        length = 0 if marker in _ALONE else int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + length
        if marker not in _PASSED_OVER and marker not in _ALONE:
            kept.append(data[start:place])
    return b"".join(kept)
