"""Any decoded picture as 8-bit gray or RGB, as a person would see it on a white page.

Pictures may be as large as memory allows, so what is done pixel by pixel is done in bands of them: all of a picture is
there twice at most, before and after.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from featx.errors import ImageError

# A few MB of float64.
_BAND_PIXELS = 2**19

_TIFF_PHOTOMETRIC = 262
_TIFF_SAMPLE_FORMAT = 339


def flatten_to_8_bits(image: Image.Image) -> Image.Image:
    """Return a picture in mode L or RGB.

    16-bit gray uses its type's whole range, 32-bit and floating-point gray within the usual ranges those; anything else
    has no agreed white, so its own smallest and largest values become black and white.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded, of any mode.

    Returns
    -------
    PIL.Image.Image
        The picture itself where it is L or RGB, without transparency.

    Raises
    ------
    ImageError
        If it holds values that are not finite.

    Examples
    --------
    >>> flatten_to_8_bits(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bits(image)
    if image.has_transparency_data:
        return _lay_on_white(image)
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size)
    for box in _bands(image.size):
        over = image.crop(box).convert("RGBA")
        page = Image.new("RGBA", over.size, "white")
        flat.paste(Image.alpha_composite(page, over).convert("RGB"), box)
    return flat


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and floating-point gray to 0..255."""
    tags = getattr(image, "tag_v2", {})
    is_unsigned = image.mode == "I" and tags.get(_TIFF_SAMPLE_FORMAT) == (1,)
    # White is zero: Pillow knows it of 8 bits only.
    is_inverted = tags.get(_TIFF_PHOTOMETRIC) == 0
    transparent = image.info.get("transparency")
    low, high = _range_of(image, is_unsigned)
    flat = Image.new("L", image.size)
    for box in _bands(image.size):
        values = _values(image, box, is_unsigned)
        scaled = np.rint((values - low) / ((high - low) or 1.0) * 255.0)
        if is_inverted:
            scaled = 255 - scaled
        if isinstance(transparent, int):
            scaled[values == transparent] = 255
        flat.paste(Image.fromarray(scaled.astype(np.uint8)), box)
    return flat


def _range_of(image: Image.Image, is_unsigned: bool) -> tuple[float, float]:
    """Return the values of black and white."""
    if image.mode.startswith("I;16"):
        return 0.0, 65535.0
    low, high = np.inf, -np.inf
    for box in _bands(image.size):
        values = _values(image, box, is_unsigned)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    usual = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
    fitting = [white for white in usual if low >= 0 and high <= white]
    return (0.0, fitting[0]) if fitting else (low, high)


def _values(image: Image.Image, box: tuple[int, int, int, int], is_unsigned: bool) -> np.ndarray:
    values = np.asarray(image.crop(box))
    if is_unsigned:
        values = values.view(np.uint32)
    if not np.isfinite(values).all():
        raise ImageError("holds values that are not finite")
    return values.astype(np.float64)


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes that cover a picture: some whole rows, or a piece of one where rows are very long."""
    width, height = size
    columns = min(width, _BAND_PIXELS)
    rows = max(1, _BAND_PIXELS // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)
