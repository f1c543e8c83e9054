"""Give every figure one style, and save it as inline SVG or as a PNG, SVG or PDF file.

Figures are `matplotlib.figure.Figure` without pyplot, which would keep each one alive and look for a window to show it
in. Colours are those of Okabe and Ito 2008, Color Universal Design, https://jfly.uni-koeln.de/color/: colour-blind
readers can distinguish them. A series differs from its neighbours by marker and dashes too, for readers of grey copies.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from featx.errors import FeatxError, one_line
from featx.system import sha256_of, whole_file

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


INK = "#121314"
"""The colour of text, spines and lines without a colour of their own; in a page it follows the page's text.

Not quite black: matplotlib's SVG leaves black out, so that it could not be found there.
"""


ON_LIGHT, ON_DARK = "#000000", "#ffffff"
"""The colour of text on a coloured area, whatever the page's colours are."""


COLOURS = {
    "black": INK,
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}


# Yellow is for areas: lines and points of it are lost on white.
CYCLE = tuple(COLOURS[name] for name in ("blue", "vermillion", "green", "orange", "sky blue", "purple", "black"))


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))


SEQUENTIAL = "cividis"
"""The map of colours from little to much: the same order in grey and to colour-blind readers."""


DIVERGING = "RdBu_r"
"""The map of colours for numbers on both sides of 0."""


MOST_CLASSES = 20
"""How many classes a figure names, before it groups them or thins out their names."""


ENDINGS = ("png", "svg", "pdf")


_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.titlesize": 11,
    "font.size": 10,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "patch.linewidth": 0.6,
    # Letters as TrueType: searchable, and taken by publishers.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    # Names of classes are untrusted, and dollars in them are dollars.
    "text.parse_math": False,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 9,
    "ytick.major.width": 0.6,
}


# The installed ones help with letters that matplotlib's own font, the first, doesn't have.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans", "Hiragino Sans", "PingFang SC"),
    *("Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS", "Segoe UI", "Arial"),
)


@contextmanager
def style() -> Iterator[None]:
    """Draw within it: featx's style, whatever the user's matplotlibrc says. A decorator too: ``@style()``.

    Raises
    ------
    FeatxError
        If matplotlib is not installed.
    """
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib import font_manager
    except ImportError as error:
        raise FeatxError(f"figures need matplotlib ({error}): pip install 'featx[report]'") from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter that no font has is drawn as a box; the user can't change that here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        installed = set(font_manager.fontManager.get_font_names())
        matplotlib.rcParams |= _STYLE | {
            "font.sans-serif": [name for name in _FONTS if name in installed],
            "axes.prop_cycle": cycler(color=CYCLE),
        }
        yield


@style()
def new_figure(width: float = 6.4, height: float = 4.0, **subplots: object) -> tuple["Figure", object]:
    """Make a figure.

    Parameters
    ----------
    width, height : float, default 6.4 and 4.0
        Inches.
    **subplots
        Of `matplotlib.figure.Figure.subplots`: nrows, ncols, sharex and the like.

    Returns
    -------
    Figure
        It arranges its parts so that nothing overlaps (matplotlib's constrained layout).
    Axes, or ndarray of Axes
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**subplots)


def series_look(number: int) -> dict[str, object]:
    """Return colour, marker and dashes of a series: 56 that differ in colour or marker, and neighbours in both.

    Examples
    --------
    >>> series_look(1)
    {'color': '#D55E00', 'marker': 's', 'linestyle': (0, (5, 2))}
    """
    # 7 colours and 8 markers have no common divisor.
    return {
        "color": CYCLE[number % len(CYCLE)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
    }


def short_name(text: object, most: int = 24) -> str:
    """Make an untrusted name fit for a figure: one line, no control characters, cut with an ellipsis.

    Examples
    --------
    >>> short_name("oil on canvas" + chr(10) + "and wood", most=18)
    'oil on canvas and…'
    """
    line = one_line(str(text)).strip()
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def show_percent(axis: "Axis") -> None:
    """Show an axis's numbers, shares from 0 to 1, as percent with no more digits than they have."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{round(100 * value, 6):g}%"))


def write_on_cells(image: "AxesImage", form: str, *, size: float, missing: str = "", zeros: bool = True) -> None:
    """Write the numbers on the cells of a heat map, dark on light and light on dark.

    Parameters
    ----------
    image : AxesImage
        Of an array of shape (n_rows, n_columns); NaN is an empty cell.
    form : str
        The format of a number, such as ``"{:.2f}"``.
    size : float
        Of the letters, points.
    missing : str, default ""
        The text of empty cells.
    zeros : bool, default True
        Write numbers that would read as 0 too.
    """
    import numpy as np

    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            text, colour = missing, INK
        else:
            red, green, blue, _ = image.cmap(image.norm(value))
            # Rec. 709's weights of the three: how light the cell looks.
            is_light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
            text, colour = form.format(value), ON_LIGHT if is_light else ON_DARK
        if text and (zeros or text != form.format(0)):
            image.axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def to_svg(figure: "Figure", *, title: str) -> str:
    """Draw a figure as SVG for a page.

    Parameters
    ----------
    figure : Figure
    title : str
        A description for readers who don't see it. Any text: it is escaped.

    Returns
    -------
    str
        An ``<svg>`` element: the same for the same figure, text as text, without background, `INK` as currentColor. It
        has no style sheet, script, metadata or reference to anything outside it, and its ids are its own.
    """
    return inline_svg(_render(figure, "svg", facecolor="none", dpi=100), title=title, ink=INK)


def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure to a file, on white: whole, or not at all. A file that exists is replaced.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in .png (200 dots an inch), .svg or .pdf.

    Raises
    ------
    FeatxError
        If it ends otherwise, or can't be written.
    """
    path = Path(path)
    drawn = _render(figure, ending_of(path), facecolor="white")
    with whole_file(path) as file:
        file.write(drawn)


def ending_of(path: Path) -> str:
    """Return png, svg or pdf.

    Raises
    ------
    FeatxError
        If the path ends otherwise.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in ENDINGS:
        found = f"ends in {path.suffix!r}" if path.suffix else "has no ending"
        raise FeatxError(f"{path}: {found}; expected .{', .'.join(ENDINGS)}: give another `output`")
    return ending


@style()
def _render(figure: "Figure", ending: str, *, facecolor: str, dpi: int = 200) -> bytes:
    """Draw a figure; the same figure gives the same bytes on the same machine."""
    import matplotlib
    from matplotlib.text import Text

    # Of texts that were made outside the style; those that are made only when a figure is drawn follow the style.
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    matplotlib.rcParams["svg.hashsalt"] = "featx"
    unsaid = {"png": ("Software",), "svg": ("Date", "Creator"), "pdf": ("CreationDate", "Creator", "Producer")}
    drawn = io.BytesIO()
    metadata = dict.fromkeys(unsaid[ending])
    figure.savefig(drawn, format=ending, dpi=dpi, facecolor=facecolor, metadata=metadata)
    return drawn.getvalue()


_NUMBER = re.compile(r"-?\d+\.\d+")


_REFERENCE = re.compile(r"(?<=url\(#)[\w-]+(?=\))|(?<=^#)[\w-]+$")


# Attributes with lengths and positions; numbers in other ones (colours, texts) are left alone.
_MEASURES = {"d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "points", "viewBox", "style"}


_PIXELS_PER_POINT = 4 / 3


def inline_svg(drawn: bytes, *, title: str, ink: str) -> str:
    """Turn SVG of matplotlib into an element of a page, in which the colour `ink` becomes currentColor."""
    title = one_line(title)
    # featx has just made it: no entities, no untrusted markup.
    root = ElementTree.fromstring(drawn)  # noqa: S314
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    prefix = "f" + sha256_of(title.encode() + drawn)[:8]
    names = _find_references(root)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = dict(_attributes(element, names, prefix, ink))
        # Line breaks between elements show nowhere.
        element.text = element.text if element.tag == "text" else None
        element.tail = None
    _head(root, title)
    return ElementTree.tostring(root, encoding="unicode")


def _head(root: ElementTree.Element, title: str) -> None:
    """Give the element its size, its name, and the rules of its style sheet, which would apply to the whole page."""
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "xmlns:xlink": "http://www.w3.org/1999/xlink",
        "viewBox": root.attrib["viewBox"],
        "width": f"{width * _PIXELS_PER_POINT:.0f}",
        "height": f"{height * _PIXELS_PER_POINT:.0f}",
        "style": "max-width:100%;height:auto;stroke-linejoin:round;stroke-linecap:butt",
        "role": "img",
        "aria-label": title,
    }
    name = ElementTree.Element("title")
    name.text = title
    root.insert(0, name)


def _attributes(element: ElementTree.Element, names: set[str], prefix: str, ink: str) -> Iterator[tuple[str, str]]:
    """Yield the attributes that an element keeps."""
    for name, value in element.attrib.items():
        local = _local(name)
        if local == "id":
            if value in names:
                yield "id", prefix + value
        elif local == "transform" and value.startswith("rotate(-0 "):
            continue
        elif value.startswith("data:"):
            yield "xlink:href", value
        else:
            # Scales are small, and a hundredth of one is a lot.
            if local in _MEASURES and "scale" not in value and "matrix" not in value:
                value = _NUMBER.sub(_round, " ".join(value.split()))
            if local in ("style", "fill", "stroke"):
                value = value.replace(ink, "currentColor").replace("; ", ";").replace(": ", ":")
            value = _REFERENCE.sub(lambda match: prefix + match[0] if match[0] in names else match[0], value)
            yield "xlink:href" if local == "href" else local, value


def _find_references(root: ElementTree.Element) -> set[str]:
    """Return the ids that something refers to; the others only take room."""
    values = [value for element in root.iter() for value in element.attrib.values() if not value.startswith("data:")]
    names = {element.get("id") for element in root.iter()}
    return names & {name for value in values for name in _REFERENCE.findall(value)}


def _round(match: re.Match) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
