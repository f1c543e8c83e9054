"""Labels as text: how a cell becomes a label, in which order people read labels, and which of them look alike."""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

# Python refuses to read whole numbers of several thousand digits, and a float holds none of more than 309.
_MOST_DIGITS = 300

# What shows as nothing and is not of Unicode's category Cf: variation selectors, joiners and fillers.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def text_of(value: object) -> str:
    """Return a cell as text, from which a number comes back exactly; of a cell without a value, no text.

    Examples
    --------
    >>> text_of(2.0), text_of(20260131.0), text_of(1 / 3), text_of(" 1.10"), text_of(float("nan")), text_of(None)
    ('2', '20260131', '0.3333333333333333', ' 1.10', '', '')
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if not isinstance(value, float | np.floating):
        return str(value)
    if np.isnan(value):
        return ""
    # Whole numbers without a point, up to where a float no longer holds each of them.
    return str(int(value)) if abs(value) < 2**53 and value == int(value) else str(value)


def as_label(value: object) -> str:
    r"""Return a cell as a label: its text without blanks at the ends.

    Examples
    --------
    >>> as_label(2.0), as_label(0.5), as_label(" oak\u00a0"), as_label(True), as_label(float("nan"))
    ('2', '0.5', 'oak', 'True', '')
    """
    return text_of(value).strip()


def as_labels(column: pd.Series) -> pd.Series:
    """Return a column's cells as labels; see `as_label`."""
    # A Series itself gives float32 as float64, and 0.1 would have sixteen digits.
    return pd.Series(list(map(as_label, column.array)), index=column.index, name=column.name, dtype=object)


def as_number(text: str) -> int | float | None:
    """Return the finite number that a text is, whole numbers exactly; None where it is no such number.

    Examples
    --------
    >>> as_number("1.10"), as_number(" 007"), as_number("1E1"), as_number("nan"), as_number("")
    (1.1, 7, 10.0, None, None)
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    is_whole = text.lstrip("+-").isdigit() and len(text) <= _MOST_DIGITS
    number = int(text) if is_whole else float(text)
    return number if is_whole or math.isfinite(number) else None


def are_numbers(cells: Iterable[str]) -> bool:
    """Return whether texts are numbers from which the same texts come back, so that no two of them become one.

    Either all have the form of labels (10, 0.5), or all that of floats as pandas and Python write them (10.0, 0.5).

    Examples
    --------
    >>> are_numbers(["10", "0.5"]), are_numbers(["10.0", "0.5"]), are_numbers(["10", "10.0"]), are_numbers(["1.10"])
    (True, True, False, False)
    """
    cells = list(cells)
    numbers = list(map(as_number, cells))
    if None in numbers:
        return False
    floats = list(map(float, numbers))
    return list(map(as_label, floats)) == cells or list(map(str, floats)) == cells


def sort_labels(labels: Iterable) -> list:
    """Sort labels for people: no label, then numbers by value, then all others by their text.

    What a classifier answers in is in the order of `classes_`, by text; this is for lists and tables only.

    Examples
    --------
    >>> sort_labels(["2", "10", "oak", "1", "0.5"])
    ['0.5', '1', '2', '10', 'oak']
    """
    return sorted(labels, key=_place_of)


def _place_of(label: object) -> tuple[bool, bool, int | float, str]:
    text = as_label(label)
    number = as_number(text)
    return text != "", number is None, 0 if number is None else number, text


def _without_zero_width(text: str) -> str:
    return "".join(character for character in _INVISIBLE.sub("", text) if unicodedata.category(character) != "Cf")


def _as_plain_number(text: str) -> str:
    number = as_number(text)
    return text if number is None else as_label(float(number)) if abs(number) < 2**53 else str(number)


# What two labels that look alike may differ in; what undoes it, in this order.
_DIFFERENCES: dict[str, Callable[[str], str]] = {
    "in zero-width characters": _without_zero_width,
    "in the kind or number of their blanks": lambda text: " ".join(text.split()),
    "in how their characters are composed (NFC or NFD)": lambda text: unicodedata.normalize("NFC", text),
    "in case": str.casefold,
    "in how a number is written": _as_plain_number,
}


def _undo(label: str, differences: Iterable[str] = _DIFFERENCES) -> str:
    """Return a label without some of what it may differ in."""
    for difference in differences:
        label = _DIFFERENCES[difference](label)
    return label


def _differences_of(one: str, other: str) -> list[str]:
    """Return the smallest list of differences between two labels."""
    needed = list(_DIFFERENCES)
    for difference in reversed(_DIFFERENCES):
        others = [name for name in needed if name != difference]
        if _undo(one, others) == _undo(other, others):
            needed = others
    return needed


def note_look_alikes(labels: pd.Series) -> tuple[str, ...]:
    """Name two labels that look alike and are two classes, and say how many more there are; nothing without any.

    Parameters
    ----------
    labels : Series of str
        One of each image; "" of an image without a label.

    Returns
    -------
    tuple of str
        At most one note.

    Examples
    --------
    >>> note_look_alikes(pd.Series(["Cat", "dog", "cat", "cat"]))
    ("the labels 'Cat' and 'cat' differ only in case: 1 and 2 images; they are two classes",)
    """
    counts = labels[labels != ""].value_counts(sort=False)
    first: dict[str, str] = {}
    pairs = [(other, label) for label in counts.index if (other := first.setdefault(_undo(label), label)) != label]
    if not pairs:
        return ()
    one, other = pairs[0]
    differences = _differences_of(one, other)
    # Characters that are composed in two ways, or show as nothing, look the same unless they are escaped.
    show = ascii if any("NFC" in difference or "zero" in difference for difference in differences) else repr
    more = f". Further pairs that look alike: {len(pairs) - 1:,}" if len(pairs) > 1 else ""
    return (
        f"the labels {show(one)} and {show(other)} differ only {' and '.join(differences)}: {counts[one]:,} and "
        f"{counts[other]:,} images; they are two classes{more}",
    )
