"""matplotlib's SVG as an element of a page: smaller, with ids of its own, following the page's colours."""

import hashlib
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from featx.errors import one_line

_NUMBER = re.compile(r"-?\d+\.\d+")
_REFERENCE = re.compile(r"(?<=url\(#)[\w-]+(?=\))|(?<=^#)[\w-]+$")

# Attributes that hold lengths and places; numbers in other ones (colours, texts) are left alone.
_MEASURES = {"d", "transform", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "points", "viewBox", "style"}

_PIXELS_PER_POINT = 4 / 3


def inline_svg(drawn: bytes, *, title: str, ink: str) -> str:
    """Turn a drawn file into an element of a page.

    Parameters
    ----------
    drawn : bytes
        As matplotlib writes SVG.
    title : str
        For readers who don't see it.
    ink : str
        The colour, `#rrggbb`, that becomes currentColor.

    Returns
    -------
    str
    """
    title = one_line(title)
    # featx has just made it itself: no entities, no stranger's markup.
    root = ElementTree.fromstring(drawn)  # noqa: S314
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    prefix = "f" + hashlib.sha256(title.encode() + drawn).hexdigest()[:8]
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
    """Give the element its size, its name, and what stood in a style sheet, which would have been the whole page's."""
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
