"""The parts of a PNG file that decide its pixels: others may be damaged, or larger than Pillow allows."""

import struct
import zlib

from featx.errors import ImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND"

# Viewers read no more of a file that is shown for its first picture. Those in capitals are needed to decode it, but for
# the end.
_KEPT = (b"tRNS", b"eXIf", _END)

# Where ImageMagick puts an orientation.
_EXIF_TEXT = b"Raw profile type exif\0"
_LONGEST_TEXT = 2**16


def keep_pixel_chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """Leave out of a PNG file what its pixels don't depend on, such as text, and what is damaged but not needed.

    Return the file without that and its ICC profile, and the profile's chunk (empty if damaged, None without one).

    Examples
    --------
    >>> keep_pixel_chunks(SIGNATURE)[1] is None
    True
    """
    view = memoryview(data)
    kept, profile, place = [view[: len(SIGNATURE)]], None, len(SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        start, end = place + 8, place + 12 + length
        if end > len(data):
            break
        content = view[start : end - 4]
        is_whole = zlib.crc32(view[place + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        # By the case of its first letter.
        is_needed = not kind[0] & 0x20 and kind != _END
        if is_needed and not is_whole:
            raise ImageError(f"cannot be decoded: damaged data (the checksum of {kind!r} is another)")
        if kind == b"iCCP" and profile is None:
            profile = bytes(content) if is_whole else b""
        elif is_needed or (is_whole and (kind in _KEPT or _holds_exif(kind, content))):
            kept.append(view[place:end])
        place = end
        if kind == _END:
            return b"".join(kept), profile
    # It is cut: Pillow sees that by the rest that exists.
    return b"".join([*kept, view[place:]]), profile


def unpack_profile(content: bytes, most: int) -> bytes:
    """Return the ICC profile that a chunk holds: of `most` bytes at most, empty if it can't be unpacked."""
    _, _, packed = content.partition(b"\0")
    if not packed.startswith(b"\0"):
        return b""
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], most)
    except zlib.error:
        return b""
    return profile if unpacker.eof else b""


def _holds_exif(kind: bytes, content: memoryview) -> bool:
    return kind in (b"tEXt", b"zTXt") and len(content) <= _LONGEST_TEXT and bytes(content[:22]) == _EXIF_TEXT
