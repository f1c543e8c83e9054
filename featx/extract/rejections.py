"""Count images that can't be read, and read them again when a run resumes."""

import contextlib
import heapq
import math
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path

from featx.errors import SourceError
from featx.images import Manifest, Picture
from featx.images.read_ahead import read_ahead
from featx.system import progress_bar

_N_SHOWN = 3


class Rejections:
    """Counts images that can't be read, and ends a run that has too many of them; see `count_allowed`."""

    def __init__(self, manifest: Manifest, max_rejected: int | float | None) -> None:
        self._manifest = manifest
        self._most = count_allowed(max_rejected, len(manifest))
        self._reasons: dict[int, str] = {}

    def begin(self, reasons: Mapping[int, str]) -> None:
        """Start with the known ones, by row; raise an error if they are too many."""
        self._reasons = dict(reasons)
        self._check()

    def add(self, row: int, reason: str) -> None:
        """Count another one; raise an error if it is one too many."""
        self._reasons[row] = reason
        self._check()

    def _check(self) -> None:
        n_images = len(self._manifest)
        if self._most is None or len(self._reasons) <= self._most:
            return
        paths = self._manifest.table["path"]
        first = heapq.nsmallest(_N_SHOWN, self._reasons)
        shown = "; ".join(f"{self._manifest.root / paths.iloc[row]}: {self._reasons[row]}" for row in first)
        raise SourceError(
            f"{len(self._reasons):,} of {n_images:,} images can't be read, and `max_rejected` allows {self._most:,}. "
            f"The first: {shown}. What is done is kept: fix the images, or allow more, and run the same command "
            "again; rejected images are then read again"
        )


def find_changed(
    manifest: Manifest,
    reasons: Mapping[int, str],
    read: Callable[[Path], Picture],
    *,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> list[int]:
    """Read rejected images again; return the rows of those that can be read now, or can't for another reason."""
    if not reasons:
        return []
    paths = manifest.table["path"].to_numpy()
    changed, n_readable = [], 0
    with (
        progress_bar(len(reasons), wanted=progress) as bar,
        contextlib.closing(read_ahead(manifest.root, paths, iter(sorted(reasons)), read)) as pictures,
    ):
        for row, picture in pictures:
            bar.update(1)
            if picture != reasons[row]:
                changed.append(row)
                n_readable += not isinstance(picture, str)
    if n_readable:
        echo(f"{n_readable:,} of {len(reasons):,} images that were rejected before can be read now")
    return changed


def none_readable(images: str, path: Path, reason: str) -> SourceError:
    """Return the error for images none of which can be read, with the path of the first and the reason."""
    # If the file exists, the paths are right.
    advice = (
        "Fix them, or use others"
        if os.path.lexists(path)
        else "Are the paths right? (`root` says which folder they start from)"
    )
    return SourceError(f"none of the {images} could be read; the first, {path}: {reason}. {advice}")


def count_allowed(max_rejected: int | float | None, n_images: int) -> int | None:
    """Return the number of images that may be rejected, None for any; `max_rejected` is a count, a share or None.

    Examples
    --------
    >>> count_allowed(0.29, 100), count_allowed(3, 100)
    (29, 3)
    """
    if max_rejected is None:
        return None
    if isinstance(max_rejected, Integral) and not isinstance(max_rejected, bool) and max_rejected >= 0:
        return int(max_rejected)
    is_share = isinstance(max_rejected, Real) and not isinstance(max_rejected, Integral)
    if is_share and 0 <= max_rejected <= 1:
        # As a decimal number: 0.29 of 100 images are 29, in binary a little less.
        return math.floor(Fraction(str(float(max_rejected))) * n_images)
    raise SourceError(
        f"expected a number of images (a whole number from 0) or a share of them (0.0 to 1.0), found {max_rejected!r}",
        parameter="max_rejected",
    )
