"""Summarize the data of a report: class counts per split, rejected files, image sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, ImageError
from featx.images import SPLITS, as_labels, read_size, sort_labels
from featx.results import Run, SavedRun
from featx.store import Store
from featx.system import is_file


@dataclass(frozen=True)
class StoreData:
    """What a store knows of its images.

    Attributes
    ----------
    path : Path
    root : Path
        Where the images' paths start.
    images : DataFrame
        Columns path, label, split and sha256, one row per image; label and split as the runs took them.
    columns : tuple of str
        All columns of the store's table.
    label_column, split_column : str
        Those that the runs took as label and split.
    counts : DataFrame
        Images of each class (rows) in each split (columns); "" is named (no label), (no split).
    rejected : DataFrame
        Columns path and reason.
    attributes : dict of str to object
        The store's settings and versions.
    n_features : int
    """

    path: Path
    root: Path
    images: pd.DataFrame
    columns: tuple[str, ...]
    label_column: str
    split_column: str
    counts: pd.DataFrame
    rejected: pd.DataFrame
    attributes: dict[str, object]
    n_features: int


def read_store(runs: Sequence[SavedRun]) -> tuple[StoreData | None, tuple[str, ...]]:
    """Read the first store that runs name and that can be read, wherever it is from here.

    Parameters
    ----------
    runs : sequence of SavedRun
        The first says which columns hold labels and splits. A store that was named from another folder is searched for
        next to the runs.

    Returns
    -------
    StoreData or None
    notes : tuple of str
        What is missing, and what else the reader should know.
    """
    reasons: dict[str, None] = {}
    for saved in runs:
        run, path = saved.run, saved.run.store.get("path")
        if not isinstance(path, str) or not path:
            reasons["the runs don't name their store"] = None
            continue
        store_path = _find(path, saved.folder)
        if store_path is None:
            reasons[f"{path}: the store isn't there"] = None
            continue
        try:
            data = _read(store_path, run, runs[0].run)
        except FeatxError as error:
            reasons[str(error)] = None
            continue
        stores = {
            str(other.run.store.get("path")): None
            for other in runs
            if other.run.store.get("run_id") != run.store.get("run_id")
        }
        return data, (f"other runs are of other stores: {', '.join(stores)}",) if stores else ()
    return None, tuple(f"{reason}; the report is without what it says of the data" for reason in reasons)


def _find(named: str, folder: Path) -> Path | None:
    """Return where the store is: as it was named, or below one of the folders above the run."""
    path = Path(named)
    above = folder.resolve().parents[:4]
    paths = [path, *(parent / path for parent in above), *(parent / path.name for parent in above)]
    return next((path for path in paths if is_file(path)), None)


def _read(path: Path, run: Run, first: Run) -> StoreData:
    with Store(path) as store:
        attributes = store.attributes
        known = run.store.get("run_id")
        if known is not None and attributes.get("run_id") != known:
            raise FeatxError(f"{path}: another store than the run's, which had the run_id {known}")
        table, rejected = store.images, store.rejected
        n_features = sum(store.n_channels.values())
    columns = {name: str(first.protocol.get(name) or name) for name in ("label", "split")}
    columns = {name: column if column in table else name for name, column in columns.items()}
    images = pd.DataFrame(
        {
            "path": table["path"],
            "label": as_labels(table[columns["label"]]),
            "split": as_labels(table[columns["split"]]),
            "sha256": table["sha256"],
        }
    )
    return StoreData(
        path=path,
        root=Path(str(attributes.get("root", ""))),
        images=images,
        columns=tuple(map(str, table.columns)),
        label_column=columns["label"],
        split_column=columns["split"],
        counts=_count(images),
        rejected=rejected,
        attributes=attributes,
        n_features=n_features,
    )


def _count(images: pd.DataFrame) -> pd.DataFrame:
    counts = pd.crosstab(images["label"], images["split"])
    order = [name for name in SPLITS if name in counts] + [name for name in counts if name not in SPLITS]
    counts = counts.loc[sort_labels(counts.index), order].rename(index={"": "(no label)"}, columns={"": "(no split)"})
    return counts.rename_axis(index="label", columns=None)


MOST_FILES = 2000
"""How many files are opened to read their size, spread over the rows."""


@dataclass(frozen=True)
class ImageSizes:
    """Sizes in pixels.

    Attributes
    ----------
    counts : tuple of (width, height, n_images)
        The most frequent first.
    n_files, n_unread : int
        Files that were opened, and those of them that could not be read.
    n_images : int
        Of the store.
    """

    counts: tuple[tuple[int, int, int], ...]
    n_files: int
    n_unread: int
    n_images: int


def count_sizes(paths: Sequence[str], root: Path, *, most: int = MOST_FILES) -> ImageSizes:
    """Count the sizes of images, of at most `most` files.

    Examples
    --------
    >>> count_sizes([], Path("."))
    ImageSizes(counts=(), n_files=0, n_unread=0, n_images=0)
    """
    rows = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    sizes: Counter[tuple[int, int]] = Counter()
    for row in rows:
        path = root / paths[row]
        try:
            # A pipe would be waited for.
            if path.is_file():
                sizes[read_size(path)] += 1
        except (ImageError, OSError, ValueError):
            continue
    counts = sorted(((*size, n) for size, n in sizes.items()), key=lambda entry: (-entry[2], entry))
    return ImageSizes(tuple(counts), len(rows), len(rows) - sizes.total(), len(paths))


def format_sizes(sizes: ImageSizes) -> str:
    """Return sizes as a line of text.

    Examples
    --------
    >>> format_sizes(ImageSizes(counts=((300, 300, 40),), n_files=40, n_unread=0, n_images=40))
    '300 x 300 pixels'
    """
    if not sizes.counts:
        return "not known: the files can't be read"
    opened = "" if sizes.n_files == sizes.n_images else f", of {sizes.n_files:,} files"
    unread = f", {sizes.n_unread:,} can't be read" if sizes.n_unread else ""
    (width, height, _), *others = sizes.counts
    if not others:
        return f"{width:,} x {height:,} pixels{opened}{unread}"
    widths, heights, _ = zip(*sizes.counts, strict=True)
    return (
        f"{min(widths):,} to {max(widths):,} wide, {min(heights):,} to {max(heights):,} high; most often {width:,} x "
        f"{height:,}{opened}{unread}"
    )
