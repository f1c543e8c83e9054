"""Choose the images that a report shows, and make their thumbnails."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from featx.images import sort_labels
from featx.report.data import Report, ReportedRun
from featx.report.figures import read_pictures
from featx.system import progress_bar

MOST_IMAGES = 300
"""How many images a page shows: each gallery has an equal share of them."""


MOST_WRONG, MOST_EXAMPLES, MOST_CLASSES = 12, 5, 20
"""Images per run, images per class, and classes with examples, if there is room."""


_SIDE, _QUALITY = 96, 65


@dataclass(frozen=True)
class Shown:
    """One image of a gallery.

    Attributes
    ----------
    path, label : str
    uri : str
        A data URI; "" if there is no picture, for `reason`.
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
    """Images next to each other.

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
    examples: tuple[tuple[str, Gallery], ...] = ()
    notes: tuple[str, ...] = ()


def choose_galleries(report: Report, root: Path | None = None, *, progress: bool = False) -> Galleries:
    """Choose the images of a report and make their thumbnails.

    Parameters
    ----------
    report : Report
    root : path, optional
        Where the images are. Without a store, whose digests say which file is which, nothing is shown but names.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.
    """
    examples = _choose_examples(report)
    share = MOST_IMAGES // (len(report.runs) + len(examples))
    wrong = {run.name: most_wrong(run, share) for run in report.runs}
    examples = {label: paths[:share] for label, paths in examples.items()}
    thumbnails, notes = {}, ()
    if report.store is not None:
        paths = [path for run in report.runs for path in run.saved.predictions["path"].iloc[wrong[run.name][0]]]
        paths += [path for chosen in examples.values() for path in chosen]
        images = report.store.images[report.store.images["path"].isin(set(paths))]
        icc = str(report.store.attributes.get("icc", "convert"))
        thumbnails = make_thumbnails(images, root or report.store.root, icc=icc, progress=progress)
        unknown = dict.fromkeys(paths, Thumbnail("", "not an image of the store"))
        thumbnails = unknown | thumbnails
        notes = tuple(_count_reasons(thumbnails))
    return Galleries(
        wrong={run.name: _wrong_gallery(run, *wrong[run.name], thumbnails) for run in report.runs},
        examples=tuple(
            (label, Gallery(shown))
            for label, paths in examples.items()
            if (shown := tuple(_show(path, label, thumbnails) for path in paths if thumbnails[path].uri))
        ),
        notes=notes,
    )


@dataclass(frozen=True)
class Thumbnail:
    """A small picture for a page, as `data:image/jpeg;base64,...`, or the reason why there is none."""

    uri: str
    reason: str = ""


def make_thumbnails(
    images: pd.DataFrame, root: Path, *, icc: str = "convert", progress: bool = False
) -> dict[str, Thumbnail]:
    """Make thumbnails of images of a store by their paths; see `featx.report.figures.read_pictures`."""
    thumbnails = {}
    with progress_bar(len(images), wanted=progress) as bar:
        for path, picture in zip(images["path"], read_pictures(images, root, side=_SIDE, icc=icc), strict=True):
            bar.update()
            thumbnails[path] = Thumbnail("", picture) if isinstance(picture, str) else Thumbnail(_to_uri(picture))
    return thumbnails


def _to_uri(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def most_wrong(run: ReportedRun, most: int = MOST_WRONG) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the test rows that a run is wrong about, the most confident first.

    Parameters
    ----------
    run : ReportedRun
    most : int, default 12
        How many, at most; more than 12 are never returned.

    Returns
    -------
    rows : ndarray of int
        Of equal ones the first.
    confidence : ndarray of shape (n_rows,), float, or None
        Of every test row: the probability, else the decision value, of the predicted class. None if the run has
        neither; the rows are then in their own order.
    """
    rows = np.flatnonzero(~run.saved.correct)
    confidence = _confidence(run)
    if confidence is not None:
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
    return rows[: min(most, MOST_WRONG)], confidence


def _confidence(run: ReportedRun) -> np.ndarray | None:
    column_of = {name: column for column, name in enumerate(run.saved.classes)}
    columns = np.array([column_of.get(name, -1) for name in run.saved.predictions["predicted"]])
    values = run.scores.values
    if values is None or (columns < 0).any():
        return None
    if values.ndim == 1:
        return np.where(columns == 1, values, -values)
    return values[np.arange(len(values)), columns]


def _wrong_gallery(
    run: ReportedRun, rows: np.ndarray, confidence: np.ndarray | None, thumbnails: Mapping[str, Thumbnail]
) -> Gallery:
    n_wrong = int((~run.saved.correct).sum())
    is_probability = run.scores.probabilities is not None
    images = []
    for row, path, label, predicted in run.saved.predictions.iloc[rows].itertuples(name=None):
        text = None
        if confidence is not None:
            text = f"{100 * confidence[row]:.0f}%" if is_probability else f"decision {confidence[row]:.2f}"
        images.append(_show(path, label, thumbnails, predicted=predicted, confidence=text))
    if confidence is None:
        heading = "Wrong test images"
        order = "in the order of the rows: the run keeps no probabilities or decision values"
    else:
        heading = "Most confidently wrong"
        by = "probability" if is_probability else "decision value"
        order = f"the most confident first, by the {by} of the predicted class"
    return Gallery(tuple(images), heading, f"{len(rows):,} of {n_wrong:,} test images that it gets wrong, {order}.")


def _show(
    path: str,
    label: str,
    thumbnails: Mapping[str, Thumbnail],
    *,
    predicted: str | None = None,
    confidence: str | None = None,
) -> Shown:
    thumbnail = thumbnails.get(path, Thumbnail("", "not shown"))
    return Shown(path, label, thumbnail.uri, thumbnail.reason, predicted, confidence)


def _choose_examples(report: Report) -> dict[str, list[str]]:
    """Return some images of the most frequent classes, spread over the rows of each."""
    if report.store is None:
        return {}
    images = report.store.images[report.store.images["label"] != ""]
    counts = images["label"].value_counts()
    classes = counts[sort_labels(counts.index)].sort_values(ascending=False, kind="stable").index
    examples = {}
    for label in classes[:MOST_CLASSES]:
        paths = images["path"][images["label"] == label].tolist()
        rows = np.unique(np.linspace(0, len(paths) - 1, MOST_EXAMPLES).round().astype(int))
        examples[label] = [paths[row] for row in rows]
    return examples


def _count_reasons(thumbnails: Mapping[str, Thumbnail]) -> Sequence[str]:
    """Return a line for each reason why images are not shown."""
    by_reason: dict[str, list[str]] = {}
    for path, thumbnail in thumbnails.items():
        if thumbnail.reason:
            by_reason.setdefault(thumbnail.reason, []).append(path)
    return [
        f"{len(paths):,} image{' is' if len(paths) == 1 else 's are'} not shown: {reason} ({paths[0]}"
        f"{', ...' if len(paths) > 1 else ''})"
        for reason, paths in by_reason.items()
    ]
