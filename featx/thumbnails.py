"""Small pictures of images that stand in a page: read safely, checked against the store's digests, within a budget."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from featx.images import ImageError, read_unchanged
from featx.progress import progress_bar

SIDE = 96
"""Pixels of a thumbnail's sides."""

BUDGET = 1_200_000
"""Characters that all thumbnails of a page may take."""

_QUALITY = 65


@dataclass(frozen=True)
class Thumbnails:
    """Pictures for a page.

    Attributes
    ----------
    uris : dict of str to str
        By path: `data:image/jpeg;base64,...`.
    refused : dict of str to str
        By path: why there is none.
    n_over_budget : int
        Images that are left out because the page would be too large.
    """

    uris: dict[str, str]
    refused: dict[str, str]
    n_over_budget: int


def make_thumbnails(
    wanted: Sequence[str],
    digests: Mapping[str, str],
    root: Path,
    *,
    side: int = SIDE,
    budget: int = BUDGET,
    icc: str = "convert",
    progress: bool = False,
) -> Thumbnails:
    """Make thumbnails of images, the first first, until the budget is spent.

    A file is shown only if its bytes are those that the store was made of: one that has changed is no example of
    anything, and a stranger's store that names a reader's own files, whose digests it can't know, shows none of them.

    Parameters
    ----------
    wanted : sequence of str
        Paths as the store has them; one that stands there twice takes its room twice.
    digests : mapping of str to str
        SHA-256 by path.
    root : Path
        Where the paths start.
    side : int, default 96
        Pixels; the shape is kept, on black.
    budget : int, default 1,200,000
        Characters of all data URIs together.
    icc : str, default "convert"
        As the store has it; see `featx.images.decode`.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Thumbnails
    """
    n_uses = Counter(wanted)
    uris: dict[str, str] = {}
    refused: dict[str, str] = {}
    spent = n_over = 0
    with progress_bar(len(n_uses), wanted=progress) as bar:
        for path, n_times in n_uses.items():
            bar.update()
            if spent >= budget:
                n_over += 1
                continue
            try:
                uri = thumbnail(root / path, sha256=digests.get(path, ""), side=side, icc=icc)
            except ImageError as error:
                refused[path] = str(error)
                continue
            if spent + n_times * len(uri) > budget:
                n_over += 1
                continue
            uris[path] = uri
            spent += n_times * len(uri)
    return Thumbnails(uris, refused, n_over)


def thumbnail(path: Path, *, sha256: str, side: int = SIDE, icc: str = "convert") -> str:
    """Make a JPEG of one image as a data URI.

    Parameters
    ----------
    path : Path
    sha256 : str
        Of the bytes that the file must have.
    side : int, default 96
        Pixels.
    icc : str, default "convert"
        See `featx.images.decode`.

    Returns
    -------
    str

    Raises
    ------
    ImageError
        If the file is gone, has changed, or can't be read.
    """
    shape = {"image_size": side, "resize": "pad", "interpolation": "bilinear"}
    pixels = read_unchanged(path, sha256=sha256, jpeg="scaled", icc=icc, **shape)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
