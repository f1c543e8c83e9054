"""Small pictures of a store's images, from the very files that its features were made of."""

from pathlib import Path

import numpy as np
import pandas as pd

from featx.images import ImageError, read_unchanged
from featx.store import Store


def read_pictures(
    store: Store, table: pd.DataFrame, *, side: int, root: str | Path | None = None
) -> tuple[list[np.ndarray | None], list[str]]:
    """Read images as the network saw them, but smaller.

    Parameters
    ----------
    store : Store
        Says how images are brought to one shape, and where they were.
    table : DataFrame
        Rows of `Store.images`: columns path and sha256.
    side : int
        Height and width, pixels.
    root : path, optional
        Where the paths start; default: where they did when they were extracted.

    Returns
    -------
    list of ndarray of shape (side, side, 3), uint8, or None
        None where the file is gone, can't be read, or is not the one that the features were made of.
    list of str
        Why, a line each: the file and the reason.
    """
    attributes = store.attributes
    folder = Path(str(attributes.get("root", "")) if root is None else root)
    options = {name: attributes.get(name) for name in ("resize", "interpolation")}
    # Older stores did not ask for profiles.
    options |= {"jpeg": "scaled", "icc": attributes.get("icc", "ignore")}
    pictures: list[np.ndarray | None] = []
    reasons = []
    for path, sha256 in zip(table["path"], table["sha256"], strict=True):
        try:
            pictures.append(read_unchanged(folder / path, sha256=sha256, image_size=side, **options))
        except ImageError as error:
            pictures.append(None)
            reasons.append(f"{folder / path}: {error}")
    return pictures, reasons
