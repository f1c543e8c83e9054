"""Any decoded picture as 8-bit gray or RGB, as a person would see it on a white page.

Pictures may be as large as memory allows, so what is done pixel by pixel is done in bands of them: all of a picture is
there twice at most, before and after.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageCms

from featx.errors import ImageError

_LAB, _SRGB = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")

# A few MB of float64.
_BAND_PIXELS = 2**19

# The share of values, at either end, that has no say in a picture's range.
_OUTLIERS = 1000

# Resampling overshoots black and white by so much of the range.
_OVERSHOOT = 0.05


def flatten_to_8_bits(image: Image.Image) -> Image.Image:
    """Return a picture in mode L or RGB.

    16-bit gray uses its type's whole range; for floating-point gray see `find_range`.

    Examples
    --------
    >>> flatten_to_8_bits(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode.startswith("I"):
        return _scale_to_8_bits(image)
    if image.mode == "F":
        raise ImageError("floating-point samples are read of TIFFs only")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return _lay_on_white(image)
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, _LAB, _SRGB, outputMode="RGB")
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
    """Bring 16-bit gray to 0..255."""
    transparent = image.info.get("transparency")
    flat = Image.new("L", image.size)
    for box in _bands(image.size):
        values = np.asarray(image.crop(box))
        scaled = scale_to_8_bits(values, 0, 65535)
        if isinstance(transparent, int):
            scaled[values == transparent] = 255
        flat.paste(Image.fromarray(scaled), box)
    return flat


def find_range(samples: np.ndarray) -> tuple[float, float]:
    """Find the values that mean black and white, of floating-point samples and of integers without an agreed white.

    No single pixel decides: a thousandth of the values at either end, and one pixel at least, is left out. If the
    others lie within 0..1 (floating-point) or 0..255 (integers), these are black and white; else, if they lie within
    0..255 or 0..65535 and fill more than a sixteenth of it, these are. An overshoot of 5% is allowed for. In all other
    cases, the smallest and the largest of the others are black and white.

    Parameters
    ----------
    samples : ndarray of shape (height, width, n_samples)

    Raises
    ------
    ImageError
        If it holds values that are not finite.

    Examples
    --------
    >>> samples = np.linspace(0, 1, 2500).reshape(50, 50, 1)
    >>> samples[3, 4] = -7
    >>> find_range(samples)
    (0.0, 1.0)
    >>> find_range(samples.round(2) * 50 - 20)
    (-20.0, 30.0)
    """
    n_pixels, n_samples = samples.shape[0] * samples.shape[1], samples.shape[2]
    n_outliers = min(max(1, n_pixels // _OUTLIERS) * n_samples, (samples.size - 1) // 2)
    low, high = _find_ends(samples.reshape(-1), n_outliers)
    whites = (1.0, 255.0) if samples.dtype.kind == "f" else (255.0, 65535.0)
    for white in whites:
        is_filled = white == whites[0] or high > white / 16
        if is_filled and low >= -_OVERSHOOT * max(high, 1.0) and high <= (1 + _OVERSHOOT) * white:
            return 0.0, white
    return low, high


def _find_ends(values: np.ndarray, n_outliers: int) -> tuple[float, float]:
    """Return the smallest and the largest value without this many values at either end."""
    n_kept = n_outliers + 1
    lowest = highest = values[:0]
    for start in range(0, len(values), _BAND_PIXELS):
        band = values[start : start + _BAND_PIXELS]
        if not np.isfinite(band).all():
            raise ImageError("holds values that are not finite")
        lowest, highest = np.concatenate([lowest, band]), np.concatenate([highest, band])
        if len(lowest) > n_kept:
            lowest = np.partition(lowest, n_kept - 1)[:n_kept]
            highest = np.partition(highest, -n_kept)[-n_kept:]
    return float(lowest.max()), float(highest.min())


def scale_to_8_bits(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as 0..255; what lies outside of `low` and `high` is black or white."""
    convert = partial(_scale, low=low, high=high)
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        # So few values are possible that it is faster to look them up.
        convert = convert(np.arange(2 ** (8 * values.dtype.itemsize))).take
    values, flat = values.reshape(-1), np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BAND_PIXELS):
        band = slice(start, start + _BAND_PIXELS)
        flat.reshape(-1)[band] = convert(values[band])
    return flat


def _scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    shares = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(shares.clip(0, 1) * 255.0).astype(np.uint8)


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes that cover a picture: some whole rows, or a piece of one where rows are very long."""
    width, height = size
    columns = min(width, _BAND_PIXELS)
    rows = max(1, _BAND_PIXELS // columns)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)
