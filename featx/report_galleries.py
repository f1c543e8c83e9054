"""Which images a report shows: those that a run is most confidently wrong about, and some of each class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from featx.labels import sort_labels
from featx.report_data import Report, ReportedRun
from featx.thumbnails import BUDGET, Thumbnails, make_thumbnails

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
        See `featx.thumbnails.make_thumbnails`.

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
