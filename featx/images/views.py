"""Mirrored and rotated views of an image, whose features are averaged."""

from collections.abc import Iterator

import numpy as np

VIEWS = {
    "none": "the image alone",
    "flip": "the image and its mirror image",
    "dihedral": "the image turned by 0, 90, 180 and 270 degrees, each with its mirror image",
}

FLIPS = {
    "none": ("",),
    "horizontal": ("", "h"),
    "vertical": ("", "v"),
    "both": ("", "h", "v", "hv"),
}
"""The views that a random flip chooses from: left and right changed over (h), top and bottom (v), both, or neither."""


def n_views(views: str) -> int:
    """Return how many forward passes an image takes."""
    return {"none": 1, "flip": 2, "dihedral": 8}[views]


def make_views(pixels: np.ndarray, views: str) -> Iterator[np.ndarray]:
    """Yield the views of a batch.

    Parameters
    ----------
    pixels : ndarray of shape (n, side, side, 3)
    views : str
        One of `VIEWS`.

    Yields
    ------
    ndarray of shape (n, side, side, 3)

    Examples
    --------
    >>> pixels = np.arange(12).reshape(1, 2, 2, 3)
    >>> [view[0, :, :, 0].tolist() for view in make_views(pixels, "flip")]
    [[[0, 3], [6, 9]], [[3, 0], [9, 6]]]
    """
    for quarter_turns in range(4 if views == "dihedral" else 1):
        turned = np.rot90(pixels, quarter_turns, axes=(1, 2))
        yield turned
        if views != "none":
            yield turned[:, :, ::-1]


def flip(pixels: np.ndarray, view: str) -> np.ndarray:
    """Return a batch mirrored.

    Parameters
    ----------
    pixels : ndarray of shape (n, side, side, 3)
    view : str
        One of the views of `FLIPS`.

    Examples
    --------
    >>> flip(np.arange(4).reshape(1, 2, 2, 1), "h").ravel().tolist()
    [1, 0, 3, 2]
    """
    return pixels[:, :: -1 if "v" in view else 1, :: -1 if "h" in view else 1]
