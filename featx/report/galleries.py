"""Choose the images that a report shows, and make their thumbnails within a budget."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from PIL import Image

from featx.errors import ImageError
from featx.images import read_unchanged, sort_labels
from featx.report.data import Report, ReportedRun
from featx.system import progress_bar

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
        As the store has it; see `featx.images.decode.decode`.
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
        See `featx.images.decode.decode`.

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


MOST_WRONG = 12
"""Images a run."""


MOST_EXAMPLES = 5
"""Images a class."""


MOST_CLASSES = 20
"""Classes with examples."""


@dataclass(frozen=True)
class Shown:
    """One image of a gallery.

    Attributes
    ----------
    path, label : str
    uri : str
        A data URI; "" where there is no picture, and `reason` tells why.
    reason : str
    predicted : str or None
    confidence : str or None
        Such as "97%" or "decision 1.32".
    """

    path: str
    label: str
    uri: str
    reason: str
    predicted: str | None = None
    confidence: str | None = None


@dataclass(frozen=True)
class Gallery:
    """Images side by side.

    Attributes
    ----------
    images : tuple of Shown
    heading, caption : str
    """

    images: tuple[Shown, ...]
    heading: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Galleries:
    """All images of a report.

    Attributes
    ----------
    wrong : dict of str to Gallery
        By the run's name.
    examples : tuple of (str, Gallery)
        Class and images, the most frequent classes first.
    notes : tuple of str
        What is not shown, and why.
    """

    wrong: dict[str, Gallery]
    examples: tuple[tuple[str, Gallery], ...]
    notes: tuple[str, ...]


def choose_galleries(
    report: Report, *, root: Path | None = None, budget: int = BUDGET, progress: bool = False
) -> Galleries:
    """Choose the images of a report and make their thumbnails.

    Parameters
    ----------
    report : Report
    root : path, optional
        Where the images are; default: where the store says.
    budget, progress
        See `featx.report.galleries.make_thumbnails`.

    Returns
    -------
    Galleries
        Without the store, whose digests tell which file is which, nothing is shown but names.
    """
    wrong = {run.name: most_wrong(run) for run in report.runs}
    examples = _choose_examples(report)
    found = Thumbnails({}, {}, 0)
    notes = []
    if report.store is not None:
        lists = [[run.predictions["path"][row] for row in wrong[run.name][0]] for run in report.runs]
        lists += [paths for _, paths in examples]
        # The first of every gallery before the second of any: where the budget ends, each has some.
        wanted = [path for rank in zip_longest(*lists) for path in rank if path is not None]
        digests = dict(zip(report.store.images["path"], report.store.images["sha256"], strict=True))
        found = make_thumbnails(
            wanted,
            digests,
            root if root is not None else report.store.root,
            budget=budget,
            icc=str(report.store.attributes.get("icc", "ignore")),
            progress=progress,
        )
        notes = list(_tell(found))
    return Galleries(
        wrong={run.name: _wrong_gallery(run, *wrong[run.name], found) for run in report.runs},
        examples=tuple(
            (label, Gallery(tuple(_show(path, label, found) for path in paths if path in found.uris)))
            for label, paths in examples
            if any(path in found.uris for path in paths)
        ),
        notes=tuple(notes),
    )


def most_wrong(run: ReportedRun) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the test rows that a run is wrong about, the most confident first.

    Parameters
    ----------
    run : ReportedRun

    Returns
    -------
    rows : ndarray of int
        At most `MOST_WRONG`; of equals the first.
    confidence : ndarray of shape (n_rows,), float, or None
        Of every test row: the probability, else the decision value, of the predicted class. None where the run has
        neither on record: the rows are then in their own order.
    """
    rows = np.flatnonzero(~run.correct)
    confidence = _confidence(run)
    if confidence is not None:
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
    return rows[:MOST_WRONG], confidence


def _confidence(run: ReportedRun) -> np.ndarray | None:
    place_of = {name: place for place, name in enumerate(run.classes)}
    places = np.array([place_of.get(name, -1) for name in run.predictions["predicted"]])
    told = run.scores.probabilities if run.scores.probabilities is not None else run.scores.decision
    if told is None or (places < 0).any():
        return None
    if told.ndim == 1:
        return np.where(places == 1, told, -told)
    return told[np.arange(len(told)), places]


def _wrong_gallery(run: ReportedRun, rows: np.ndarray, confidence: np.ndarray | None, found: Thumbnails) -> Gallery:
    n_wrong = int((~run.correct).sum())
    table = run.predictions
    images = []
    for row in rows:
        told = None
        if confidence is not None:
            is_share = run.scores.probabilities is not None
            told = f"{100 * confidence[row]:.0f}%" if is_share else f"decision {confidence[row]:.2f}"
        path, label = table["path"][row], table["label"][row]
        images.append(_show(path, label, found, predicted=table["predicted"][row], confidence=told))
    if confidence is None:
        heading = "Wrong test images"
        order = "in the order of the rows: the run keeps no probabilities or decision values"
    else:
        by = "probability" if run.scores.probabilities is not None else "decision value"
        heading = "Most confidently wrong"
        order = f"the most confident first, by the {by} of the predicted class"
    return Gallery(tuple(images), heading, f"{len(rows):,} of {n_wrong:,} test images that it gets wrong, {order}.")


def _show(
    path: str, label: str, found: Thumbnails, *, predicted: str | None = None, confidence: str | None = None
) -> Shown:
    uri = found.uris.get(path, "")
    reason = "" if uri else found.refused.get(path, "not shown")
    return Shown(path, label, uri, reason, predicted, confidence)


def _choose_examples(report: Report) -> list[tuple[str, list[str]]]:
    """Return some images of the most frequent classes, spread over the rows of each."""
    if report.store is None:
        return []
    images = report.store.images[report.store.images["label"] != ""]
    counts = images["label"].value_counts()
    classes = counts[sort_labels(counts.index)].sort_values(ascending=False, kind="stable").index
    chosen = []
    for label in classes[:MOST_CLASSES]:
        paths = images["path"][images["label"] == label].tolist()
        places = np.unique(np.linspace(0, len(paths) - 1, MOST_EXAMPLES).round().astype(int))
        chosen.append((label, [paths[place] for place in places]))
    return chosen


def _tell(found: Thumbnails) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for path, reason in found.refused.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        yield f"{_count(paths)} not shown: {reason} ({paths[0]}{', ...' if len(paths) > 1 else ''})"
    if found.n_over_budget:
        yield f"{found.n_over_budget:,} images are not shown, to keep the page small"


def _count(paths: Sequence[str]) -> str:
    return "1 image is" if len(paths) == 1 else f"{len(paths):,} images are"
