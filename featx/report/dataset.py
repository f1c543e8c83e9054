"""Summarize the data of a report: class counts per split, rejected files, image sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, ImageError
from featx.images import SPLITS, as_labels, read_size, sort_labels
from featx.results import Run
from featx.store import Store
from featx.system import is_file


@dataclass(frozen=True)
class StoreData:
    """What a store says of its images.

    Attributes
    ----------
    path : Path
    root : Path
        Where the images' paths start.
    images : DataFrame
        Columns path, label, split and sha256, a row an image; label and split as the runs took them.
    columns : tuple of str
        All columns of the store's table.
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
    counts: pd.DataFrame
    rejected: pd.DataFrame
    attributes: dict[str, object]
    n_features: int


def read_store(first: Run, folders: Sequence[Path], runs: Sequence[Run]) -> tuple[StoreData | None, tuple[str, ...]]:
    """Read the store that runs name, wherever it is from here.

    Parameters
    ----------
    first : Run
        Says which columns hold labels and splits.
    folders : sequence of Path
        Of the runs; a store that was named from another folder is looked for beside them.
    runs : sequence of Run

    Returns
    -------
    StoreData or None
        Of the first run's store that can be read.
    notes : tuple of str
        What is missing, and what else the reader should know.
    """
    reasons: dict[str, None] = {}
    for run, folder in zip(runs, folders, strict=True):
        named = run.store.get("path")
        if not isinstance(named, str) or not named:
            reasons["the runs don't name their store"] = None
            continue
        path = _find(named, folder)
        if path is None:
            reasons[f"{named}: the store isn't there"] = None
            continue
        try:
            found = _read(path, run, first)
        except FeatxError as error:
            reasons[str(error)] = None
            continue
        others = list(dict.fromkeys(str(other.store.get("path")) for other in runs if not _is_same(other, run)))
        also = (f"other runs are of other stores: {', '.join(others)}",) if others else ()
        return found, also
    return None, tuple(f"{reason}; the report is without what it says of the data" for reason in reasons)


def _find(named: str, folder: Path) -> Path | None:
    """Return where the store is: as it was named, or below one of the folders above the run."""
    path = Path(named)
    above = folder.resolve().parents[:4]
    places = [path, *(parent / path for parent in above), *(parent / path.name for parent in above)]
    return next((place for place in places if is_file(place)), None)


def _is_same(one: Run, other: Run) -> bool:
    """Whether two runs are of one store, wherever it was named from; older ones tell their store by its path alone."""
    name = "run_id" if one.store.get("run_id") and other.store.get("run_id") else "path"
    return one.store.get(name) == other.store.get(name)


def _read(path: Path, run: Run, first: Run) -> StoreData:
    with Store(path) as store:
        attributes = store.attributes
        known = run.store.get("run_id")
        if known is not None and attributes.get("run_id") != known:
            raise FeatxError(f"{path}: another store than the run's, which had the run_id {known}")
        table, rejected = store.images, store.rejected
        n_features = sum(store.n_channels.values())
    label, split = (str(first.protocol.get(name) or name) for name in ("label", "split"))
    images = pd.DataFrame(
        {
            "path": table["path"],
            "label": as_labels(table[label if label in table else "label"]),
            "split": as_labels(table[split if split in table else "split"]),
            "sha256": table["sha256"],
        }
    )
    return StoreData(
        path=path,
        root=Path(str(attributes.get("root", ""))),
        images=images,
        columns=tuple(map(str, table.columns)),
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
