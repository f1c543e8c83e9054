"""Figures leave as SVG for a page and as files: the same every time, with untrusted names as they are."""

import re
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from featx import FeatxError
from featx.report.figures import save
from featx.report.figures.style import COLOURS, CYCLE, INK, MARKERS, new_figure, series_look, short_name, style, to_svg

STRANGE = ["$x^2$ costs $5", r"a\_b \frac{1}{2}", "<script>alert(1)</script>", "two\nlines", "\x00\x1b[31m", "日本画"]


def draw(names=("one", "two"), label="loss"):
    figure, ax = new_figure(4, 3)
    with style():
        for number, name in enumerate(names):
            ax.plot([0, 1, 2], [number, 1, 2], label=short_name(name), **series_look(number))
        ax.set_xlabel(label)
        ax.legend()
    return figure


def parse(svg):
    return ElementTree.fromstring(svg)  # noqa: S314


def texts(svg):
    return [element.text for element in parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_svg_is_an_element_for_a_page():
    svg = to_svg(draw(), title='What <b>"it"</b> shows')
    root = parse(svg)
    assert svg.startswith("<svg ")
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'What <b>"it"</b> shows'
    assert root[0].tag.endswith("}title")
    assert root[0].text == 'What <b>"it"</b> shows'
    assert not re.search(r"<\?xml|<!DOCTYPE|<metadata|<style|<script|matplotlib|\d{4}-\d\d-\d\d", svg)
    assert {"loss", "one", "two"} <= set(texts(svg))
    # No background: what is filled is a marker, a letter or a legend's line.
    assert root.find(".//{*}path").get("style") == "fill:none"
    assert len(svg) < 15_000


def test_ink_follows_the_page_and_colours_stay():
    svg = to_svg(draw(), title="t")
    assert INK not in svg
    assert re.search(r"<text style=\"[^\"]*fill:currentColor", svg)
    assert CYCLE[0].lower() in svg.lower()
    assert re.search(r"stroke:currentColor;stroke-opacity:0\.15", svg)


def test_two_figures_on_a_page_share_no_id():
    one, two = to_svg(draw(), title="one"), to_svg(draw(label="accuracy"), title="two")
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, two)]
    assert all(ids)
    assert not ids[0] & ids[1]
    for svg, own in zip((one, two), ids, strict=True):
        referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
        assert {name for pair in referred for name in pair if name} == own


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_same_figure_gives_the_same_file(tmp_path, ending):
    for name in ("one", "two"):
        save(draw(STRANGE), tmp_path / f"{name}.{ending}")
    one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert not re.search(rb"20\d\d-\d\d-\d\d|CreationDate|[Mm]atplotlib v", one)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"one.{ending}", f"two.{ending}"]


def test_a_file_is_on_white(tmp_path):
    from PIL import Image

    save(draw(), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as image:
        assert image.size == (800, 600)
        assert image.convert("RGBA").getpixel((2, 2)) == (255, 255, 255, 255)
    save(draw(), tmp_path / "f.svg")
    root = parse((tmp_path / "f.svg").read_bytes())
    assert "fill: #ffffff" in root.find(".//{*}path").get("style")
    assert INK in (tmp_path / "f.svg").read_text()


def test_untrusted_names_are_text(recwarn):
    found = texts(to_svg(draw(STRANGE, label=short_name(STRANGE[0])), title="\x00 <b>"))
    assert found.count("$x^2$ costs $5") == 2
    assert {r"a\_b \frac{1}{2}", "<script>alert(1)</scrip…", "two lines", r"\x00\x1b[31m", "日本画"} <= set(found)
    assert not list(recwarn)


def test_dollars_of_texts_made_outside_the_style_are_dollars_too():
    figure, ax = new_figure()
    ax.set_title("$a_1$ and $b$")
    ax.set_xticks([0, 1], ["$y$", "$z$"])
    assert {"$a_1$ and $b$", "$y$", "$z$"} <= set(texts(to_svg(figure, title="t")))


def test_long_names_are_cut():
    assert short_name("x" * 300) == "x" * 23 + "…"
    assert short_name("x" * 24) == "x" * 24
    assert short_name("\n x \n") == "x"


def test_the_users_own_settings_do_not_matter(monkeypatch):
    import matplotlib

    expected = to_svg(draw(), title="t")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True, "savefig.dpi": 10}):
        assert to_svg(draw(), title="t") == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_images_keep_their_scale():
    import numpy as np

    figure, ax = new_figure()
    ax.imshow(np.arange(6).reshape(2, 3), interpolation="none")
    svg = to_svg(figure, title="t")
    image = parse(svg).find(".//{*}image")
    assert image.get("{http://www.w3.org/1999/xlink}href").startswith("data:image/png;base64,")
    assert not re.search(r"(matrix|scale)\((0 |0,)", image.get("transform", ""))


@pytest.mark.parametrize(
    ("name", "said"), [("f.jpg", "ends in '.jpg'"), ("f", "has no ending"), ("f.svgz", "ends in '.svgz'")]
)
def test_other_endings_are_errors(tmp_path, name, said):
    with pytest.raises(FeatxError, match=f"{name}: {said}; expected .png, .svg, .pdf"):
        save(draw(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FeatxError, match=r"nowhere/f\.png: writing failed"):
        save(draw(), tmp_path / "nowhere" / "f.png")
    (tmp_path / "f.png").mkdir()
    with pytest.raises(FeatxError, match=r"f\.png: writing failed"):
        save(draw(), tmp_path / "f.png")
    assert [path.name for path in tmp_path.iterdir()] == ["f.png"]


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FeatxError, match=r"need matplotlib .*: pip install 'featx\[report\]'"):
        new_figure()


def test_series_can_be_distinguished():
    looks = [series_look(number) for number in range(56)]
    assert len({(look["color"], look["marker"]) for look in looks}) == 56
    for one, two in pairwise(looks):
        assert one["color"] != two["color"]
        assert one["marker"] != two["marker"]
        assert one["linestyle"] != two["linestyle"]
    assert len(set(COLOURS.values())) == len(set(MARKERS)) == 8


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [colour for colour in CYCLE if colour != INK])
def test_lines_are_seen_on_white_and_on_dark(colour):
    on_white = 1.05 / (luminance(colour) + 0.05)
    on_dark = (luminance(colour) + 0.05) / (luminance("#16181d") + 0.05)
    assert min(on_white, on_dark) > 2
