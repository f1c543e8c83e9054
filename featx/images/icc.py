"""Convert colours by the ICC profile in an image file to sRGB, as viewers show them."""

import io
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from featx.system import sha256_of

ICCS = {
    "convert": "colours are converted to sRGB, as viewers do",
    "ignore": "the numbers in the file are taken as sRGB",
}

MAX_PROFILE_BYTES = 2**24
"""Larger profiles are not used. Those of printers take up to a few MB."""

_SAME = 2
_MOST_TRANSFORMS = 16

# What the colours of a mode are to a profile. Numbers of other modes (32 bits, Lab) have no profile that fits.
_COLOURS = {
    **dict.fromkeys(("RGB", "RGBA", "RGBX", "P", "PA", "YCbCr"), "RGB"),
    **dict.fromkeys(("L", "LA"), "L"),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "I;16"),
    "CMYK": "CMYK",
}


class ProfileError(Exception):
    """A profile that is broken, or does not fit its image."""


@dataclass(frozen=True)
class _Profile:
    """A profile that is compared by its digest."""

    digest: str
    data: bytes = field(compare=False, repr=False)


def convert_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert an image's colours to sRGB; transparency stays as it is.

    The intent is relative colorimetric with black point compensation: colours that sRGB has stay exact, and black is
    black. A profile that moves no colour by more than 2 of 255 is one of the many that mean sRGB, and leaves the pixels
    as they are.
    """
    if image.mode == "1":
        return image
    if len(profile) > MAX_PROFILE_BYTES:
        raise ProfileError(f"{len(profile):,} bytes, more than {MAX_PROFILE_BYTES:,}")
    colours = _COLOURS.get(image.mode, image.mode)
    try:
        change = _find_change(_Profile(sha256_of(profile), profile), colours)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError(str(error)) from error
    if change is None:
        return image
    if colours == "I;16":
        return _convert_16_bits(image, change)
    plain = image if image.mode == colours else image.convert(colours)
    converted = plain.point(change.tolist()) if isinstance(change, np.ndarray) else change.apply(plain)
    converted.info.pop("transparency", None)
    if image.has_transparency_data:
        alpha = image if "A" in image.getbands() else image.convert("RGBA")
        converted.putalpha(alpha.getchannel("A"))
    return converted


@lru_cache(maxsize=_MOST_TRANSFORMS)
def _find_change(profile: _Profile, colours: str) -> ImageCms.ImageCmsTransform | np.ndarray | None:
    """Return what converts colours: a transform, or for gray a table; None where they are sRGB already."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile.data))
    space = source.profile.xcolor_space.strip()
    if space == "RGB":
        transform = _build(source, "RGB")
        steps = np.arange(0, 256, 15, dtype=np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
        if colours != "CMYK" and _is_same(np.asarray(transform.apply(Image.fromarray(grid))), grid):
            # Gray numbers mean the same in sRGB.
            return None
        if colours == "RGB":
            return transform
    elif space == "GRAY" and colours in ("L", "I;16"):
        ramp = np.arange(2**16, dtype=np.uint16) if colours == "I;16" else np.arange(2**8, dtype=np.uint8)
        # What makes other transforms fast puts gray off by up to 10 of 255; the table is made once.
        transform = _build(source, colours, ImageCms.Flags.NOOPTIMIZE)
        table = np.asarray(transform.apply(Image.fromarray(ramp[None])))[0, :, 1]
        return None if _is_same(table, ramp / ramp[-1] * 255) else table
    elif space == "CMYK" and colours == "CMYK":
        return _build(source, "CMYK")
    raise ImageCms.PyCMSError(f"a profile for {space}, and the image is {colours}")


def _build(source: ImageCms.ImageCmsProfile, mode: str, flags: int = 0) -> ImageCms.ImageCmsTransform:
    return ImageCms.ImageCmsTransform(
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags(flags) | ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _is_same(found: np.ndarray, given: np.ndarray) -> bool:
    return bool(np.abs(found - given.astype(float)).max() <= _SAME)


def _convert_16_bits(image: Image.Image, table: np.ndarray) -> Image.Image:
    """Look 16-bit gray up in a table of 8-bit gray."""
    values = np.asarray(image)
    converted = Image.fromarray(table[values])
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        converted.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return converted
