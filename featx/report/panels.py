"""Draw the figures of a report as markup for the page, within one limit for all of them."""

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featx.errors import FeatxError, one_line
from featx.report.answer import rank_runs
from featx.report.data import Report
from featx.report.figures import FIGURES, Panel, style, to_svg
from featx.results import SavedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_CHARACTERS = 2_400_000
"""When the figures of a page take this many characters, no more are drawn."""


# A larger figure becomes a picture of few colours.
_MOST_SVG, _COLOURS = 60_000, 32


_PIXELS_PER_INCH = 96


# In a tag, whose attributes have no quotes, < or > in their values: they are escaped.
_STYLE = re.compile(r'(<[^<>]*?) style="([^"]*)"')


_PLAIN_STYLE = re.compile(r"[\w\s:;,.#%'()/-]*")


@dataclass(frozen=True)
class Drawn:
    """A figure in the page.

    Attributes
    ----------
    heading, caption : str
        Text.
    markup : str
        Safe to be in the page as it is.
    width : int
        Pixels, if there is room.
    """

    heading: str
    markup: str
    caption: str
    width: int


@dataclass(frozen=True)
class Drawings:
    """The figures of a page.

    Attributes
    ----------
    answer, data, features : tuple of Drawn
    runs : mapping of str to tuple of Drawn
        By the run's name.
    css : str
        Rules for their classes.
    left_out : tuple of str
        Whose figures the page has no room for, at least for some of them.
    """

    answer: tuple[Drawn, ...] = ()
    data: tuple[Drawn, ...] = ()
    features: tuple[Drawn, ...] = ()
    runs: Mapping[str, tuple[Drawn, ...]] = field(default_factory=dict)
    css: str = ""
    left_out: tuple[str, ...] = ()


@dataclass
class FigureBudget:
    """Draws figures until they take too many characters together.

    Attributes
    ----------
    most : int, default 2,400,000
        Characters.
    left_out : list of str
        Whose figures were not all drawn.
    """

    most: int = MOST_CHARACTERS
    left_out: list[str] = field(default_factory=list)
    _spent: int = 0
    _classes: dict[str, str] = field(default_factory=dict)

    def draw(self, panels: Iterable[Panel], owner: str) -> tuple[Drawn, ...]:
        """Draw panels while there is room; `owner` says whose they are."""
        drawn = []
        for panel in panels:
            if self._spent >= self.most:
                self.left_out.append(owner)
                break
            drawn.append(self._draw(panel))
            self._spent += len(drawn[-1].markup)
        return tuple(drawn)

    def _draw(self, panel: Panel) -> Drawn:
        markup = self._without_styles(to_svg(panel.figure, title=panel.heading))
        if len(markup) > _MOST_SVG:
            # The text is for readers who don't see the figure.
            markup = _as_picture(panel.figure, f"{panel.heading}. {panel.caption}".strip())
        return Drawn(panel.heading, markup, panel.caption, round(panel.figure.get_figwidth() * _PIXELS_PER_INCH))

    @property
    def css(self) -> str:
        """Rules for the classes that the drawn figures use."""
        return "\n".join(f".{name}{{{rules}}}" for rules, name in self._classes.items())

    def _without_styles(self, svg: str) -> str:
        """Move style attributes to classes: smaller, and the page's policy allows no attributes."""

        def replace(match: re.Match) -> str:
            rules = match[2].replace("&quot;", "'")
            if not _PLAIN_STYLE.fullmatch(rules):
                return match[1]
            name = self._classes.setdefault(rules, f"v{len(self._classes)}")
            return f'{match[1]} class="{name}"'

        return _STYLE.sub(replace, svg)


def answer_panels(report: Report) -> Iterator[Panel]:
    """Yield the accuracies of all runs: classifiers, then networks, the best of each first if they can be ranked."""
    runs = []
    for is_finetuned in (False, True):
        kind = [run for run in report.runs if run.run.is_finetuned is is_finetuned]
        ranked = [number for group in rank_runs([run.run for run in kind]) for number in group]
        runs += [kind[number].saved for number in dict.fromkeys([*ranked, *range(len(kind))])]
    for kind in FIGURES:
        if kind.source == "runs":
            yield kind.draw(runs)


def run_panels(run: SavedRun) -> Iterator[Panel]:
    """Yield the figures of a run, as far as it has data for them."""
    for kind in FIGURES:
        for options in kind.in_report if kind.source == "run" else ():
            # With one class in the test rows there is no ROC curve, for example.
            with suppress(FeatxError):
                yield kind.draw(run, **options)


@style()
def _as_picture(figure: "Figure", title: str) -> str:
    from markupsafe import escape
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    with Image.open(drawn) as picture:
        width, height = picture.size
        picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    uri = base64.b64encode(small.getvalue()).decode("ascii")
    alt = escape(one_line(title))
    return f'<img alt="{alt}" width="{width}" height="{height}" src="data:image/png;base64,{uri}">'
