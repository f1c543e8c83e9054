"""How large the images of a store are as files: width and height, from their headers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.images import ImageError, read_size

MOST_FILES = 2000
"""So many headers are read, spread over the rows."""


@dataclass(frozen=True)
class ImageSizes:
    """Sizes in pixels.

    Attributes
    ----------
    counts : tuple of (width, height, n_images)
        The most frequent first.
    n_files, n_unread : int
        Files that were looked at, and those of them that could not be read.
    n_images : int
        Of the store.
    """

    counts: tuple[tuple[int, int, int], ...]
    n_files: int
    n_unread: int
    n_images: int


def count_sizes(paths: Sequence[str], root: Path, *, most: int = MOST_FILES) -> ImageSizes:
    """Count the sizes of images.

    Parameters
    ----------
    paths : sequence of str
    root : Path
        Where they start.
    most : int, default 2000
        Look at so many files at most.

    Examples
    --------
    >>> count_sizes([], Path("."))
    ImageSizes(counts=(), n_files=0, n_unread=0, n_images=0)
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    found: Counter[tuple[int, int]] = Counter()
    for place in places:
        path = root / paths[place]
        try:
            # Whatever waits at the other end of a pipe is not waited for.
            if path.is_file():
                found[read_size(path)] += 1
        except (ImageError, OSError, ValueError):
            continue
    counts = sorted(((*size, n) for size, n in found.items()), key=lambda entry: (-entry[2], entry))
    return ImageSizes(tuple(counts), len(places), len(places) - found.total(), len(paths))


def describe_sizes(sizes: ImageSizes) -> str:
    """Return sizes in a line.

    Examples
    --------
    >>> describe_sizes(ImageSizes(counts=((300, 300, 40),), n_files=40, n_unread=0, n_images=40))
    '300 x 300 pixels'
    """
    if not sizes.counts:
        return "not known: the files can't be read"
    looked = "" if sizes.n_files == sizes.n_images else f", of {sizes.n_files:,} files looked at"
    unread = f", {sizes.n_unread:,} can't be read" if sizes.n_unread else ""
    (width, height, _), *others = sizes.counts
    if not others:
        return f"{width:,} x {height:,} pixels{looked}{unread}"
    widths, heights, _ = zip(*sizes.counts, strict=True)
    return (
        f"{min(widths):,} to {max(widths):,} wide, {min(heights):,} to {max(heights):,} high; most often {width:,} x "
        f"{height:,}{looked}{unread}"
    )
