"""Decode JPEGs strictly: cut or damaged data and too many scans are errors."""

import itertools
import re
from collections.abc import Iterable, Iterator

import numpy as np
import simplejpeg
from PIL import Image

from featx.errors import ImageError

START, END = b"\xff\xd8", b"\xff\xd9"

STRANGE_DATA = "odd JPEG data, which may be damaged"
"""The note on images with bytes between scans, scans in an odd order, or maybe cut between two: viewers show
them, whole or not.
"""

# By Pillow's mode: what simplejpeg calls it, how its bytes lie, and how many a pixel has.
_MODES = {"L": ("GRAY", "L", 1), "RGB": ("RGB", "RGB", 3), "CMYK": ("CMYK", "CMYK;I", 4)}

# How libjpeg's messages on damage begin.
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file")
_STRANGE = re.compile("extraneous bytes before marker|Inconsistent progression sequence")
_GAP = "cannot be decoded: damaged JPEG data (a part of it is empty)"

# A disk or a transfer leaves this much empty.
_EMPTY = bytes(256)
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = 0xC2
_TABLES = 0xC4
_START_OF_SCAN = 0xDA

# They say nothing of the data: comments, and what applications add.
_PASSED_OVER = frozenset((*range(0xE0, 0xF0), 0xFE))
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))


def load_jpeg(image: Image.Image, data: bytes) -> tuple[Image.Image, bool]:
    """Decode a JPEG opened from `end_jpeg(data)` to Pillow's own pixels; return also whether its data is strange."""
    whole = end_jpeg(data)
    colours, layout, n_bytes = _MODES[image.mode]
    (width, height), scale = image.size, image.decoderconfig[0] if image.decoderconfig else 1
    pixels = np.empty((height, width, n_bytes), dtype=np.uint8)
    if _EMPTY in data and _has_gap(data):
        raise ImageError(_GAP)
    try:
        found = simplejpeg.decode_jpeg(
            whole, colours, min_height=height, min_width=width, min_factor=scale, buffer=pixels
        )
    except ValueError:
        is_strange = _find_damage(whole, colours, len(whole) > len(data))
        image.load()
        return image, is_strange or _may_lack_scans(data)
    if found.shape[:2] != (height, width):
        image.load()
        return image, _may_lack_scans(data)
    return Image.frombuffer(image.mode, image.size, pixels, "raw", layout, 0, 1), _may_lack_scans(data)


def end_jpeg(data: bytes) -> bytes:
    """Return a JPEG with an end marker: alone, a missing one is no reason to lose a picture."""
    return data if data.endswith(END) else data + END


def _find_damage(data: bytes, colours: str, is_ended: bool) -> bool:
    """Raise an error for damaged data; return whether it is strange."""
    # Of all that libjpeg has to say of a file it gives the first; what it says of comments may hide what it says of
    # data.
    plain = [segment for marker, segment in _segments(data) if marker not in _PASSED_OVER]
    reason = _ask_libjpeg(plain, colours)
    if reason is None:
        return False
    if _STRANGE.search(reason):
        picture = _first_picture(data)
        # Zeros up to the end can be decoded to more than the picture: without them, it is whole or cut. One stays, as
        # it may belong to its last byte.
        reason = _ask_libjpeg([*plain[:-1], picture + b"\0" + END], colours) or reason
        if _STRANGE.search(reason):
            if _EMPTY in picture:
                raise ImageError(_GAP)
            return True
    if reason.startswith(_DAMAGE):
        raise ImageError(f"cannot be decoded: cut or damaged JPEG data ({reason})")
    if is_ended:
        raise ImageError("cannot be decoded: cut JPEG data (its end marker is missing)")
    # A kind of JPEG that only Pillow knows.
    return False


def _may_lack_scans(data: bytes) -> bool:
    """Return whether a progressive JPEG ends after a scan, without an end marker, before all values are exact."""
    segments = dict(_segments(data))
    scans = segments.get(_START_OF_SCAN, b"")
    if _PROGRESSIVE not in segments or END in scans:
        return False
    exact = set()
    for found in re.finditer(rb"\xff\xda", scans):
        # How many components, two bytes for each, the first and last of their 64 values, and which bit these end at.
        place = found.end() + 3
        behind = place + 2 * scans[place - 1]
        first, last, bits = scans[behind : behind + 3]
        if bits % 16 == 0:
            exact.update(itertools.product(scans[place:behind:2], range(first, last + 1)))
    n_components = segments[_PROGRESSIVE][9]
    return len(exact) < 64 * n_components


def _ask_libjpeg(segments: Iterable[bytes], colours: str) -> str | None:
    """Return the first that libjpeg has to say of a file, decoded as small as it can be."""
    try:
        simplejpeg.decode_jpeg(START + b"".join(segments), "CMYK" if colours == "CMYK" else "GRAY", min_factor=8)
    except ValueError as error:
        return str(error)
    return None


def _has_gap(data: bytes) -> bool:
    """Return whether zeros are where no encoder writes them, even if by chance a decoder ends well.

    Zeros mean the first code of each table. Where that ends a block, they are a plain area, as in a blank margin; else
    they are noise of one and the same pattern.
    """
    picture = _first_picture(data)
    if _EMPTY not in picture or picture.count(bytes((0xFF, _START_OF_SCAN))) > 1:
        return False
    segments = list(_segments(data))
    tables = [segment for marker, segment in segments if marker == _TABLES]
    return any(marker in _SEQUENTIAL for marker, _ in segments) and any(_first_codes(tables))


def _first_codes(tables: Iterable[bytes]) -> Iterator[int]:
    """Yield what the first code means in each table of what isn't the blocks' means (AC); 0 ends a block."""
    for table in tables:
        # Behind the marker and the length: tables of a kind, 16 counts of codes, and what these mean.
        place = 4
        while place + 17 < len(table):
            if table[place] >> 4:
                yield table[place + 17]
            place += 17 + sum(table[place + 1 : place + 17])


def _first_picture(data: bytes) -> bytes:
    """Return the data of a file's first picture, without zeros at its end: programs leave some there."""
    scans = next((segment for marker, segment in _segments(data) if marker == _START_OF_SCAN), b"")
    return scans[: scans.find(END)].rstrip(b"\0")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker of each segment up to the first scan, and the segment; the scan's is all of the rest."""
    place = len(START)
    while found := _MARKER.search(data, place):
        start, marker = found.start(), data[found.end() - 1]
        if marker == _START_OF_SCAN:
            yield marker, data[start:]
            return
        length = 0 if marker in _ALONE else int.from_bytes(data[found.end() : found.end() + 2], "big")
        place = found.end() + length
        if marker not in _ALONE:
            yield marker, data[start:place]


MAX_SCANS = 100
"""Most scans of a JPEG: libtiff's limit, too, for those in TIFFs. Encoders make about ten, from coarse to fine."""

_SCAN_MARKER = b"\xff\xda"
_END_OF_IMAGE = 0xD9

# Markers other than those within a scan's data (escaped bytes, restarts) and those that stand alone.
_ANY_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


def check_scans(data: bytes) -> None:
    """Raise an error for a JPEG of more than `MAX_SCANS` scans: each goes over all pixels, even an empty one.

    Examples
    --------
    >>> empty_scan = bytes.fromhex("ffda000801010000003f00")
    >>> check_scans(bytes.fromhex("ffd8") + 100 * empty_scan + bytes.fromhex("ffd9"))
    """
    # Quick, and enough for nearly all files; it also counts what stands in thumbnails and behind the picture.
    if data.count(_SCAN_MARKER) > MAX_SCANS and (n_scans := _count_scans(data)) > MAX_SCANS:
        raise ImageError(f"a JPEG of {n_scans:,} scans, more than {MAX_SCANS}")


def _count_scans(data: bytes) -> int:
    n_scans = place = 0
    while found := _ANY_MARKER.search(data, place):
        marker = data[found.start() + 1]
        if marker == _END_OF_IMAGE:
            break
        n_scans += found.group() == _SCAN_MARKER
        # What the marker's segment holds, a thumbnail say, is passed over.
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return n_scans
