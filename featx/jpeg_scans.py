"""How many passes over its pixels a JPEG asks for: a small file may ask for any number of them."""

import re

from featx.errors import ImageError

MAX_SCANS = 100
"""Most scans of a JPEG: libtiff's limit, too, for those in TIFFs. Encoders make about ten, from coarse to fine."""

_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = 0xD9

# Markers other than those within a scan's data (escaped bytes, restarts) and those that stand alone.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


def check_scans(data: bytes) -> None:
    """Refuse a JPEG of more than `MAX_SCANS` scans: each goes over all of its pixels, even if it holds nothing.

    Parameters
    ----------
    data : bytes
        The file.

    Raises
    ------
    ImageError

    Examples
    --------
    >>> empty_scan = bytes.fromhex("ffda000801010000003f00")
    >>> check_scans(bytes.fromhex("ffd8") + 100 * empty_scan + bytes.fromhex("ffd9"))
    """
    # Quick, and enough for nearly all files; it also counts what stands in thumbnails and behind the picture.
    if data.count(_START_OF_SCAN) > MAX_SCANS and (n_scans := _count_scans(data)) > MAX_SCANS:
        raise ImageError(f"a JPEG of {n_scans:,} scans, more than {MAX_SCANS}")


def _count_scans(data: bytes) -> int:
    n_scans = place = 0
    while found := _MARKER.search(data, place):
        marker = data[found.start() + 1]
        if marker == _END_OF_IMAGE:
            break
        n_scans += found.group() == _START_OF_SCAN
        # What the marker's segment holds, a thumbnail say, is passed over.
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return n_scans
