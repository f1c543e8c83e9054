"""Write the tables of options in docs/ from the options records; run it after a change of a record.

A table follows a comment such as `<!-- options of featx.experiment.schema.StoreSpec -->`.
"""

import importlib
import re
from dataclasses import MISSING
from pathlib import Path

from featx.system import Option, options_of

_TABLE = re.compile(r"(<!-- options of (\S+)\.(\w+) -->\n\n)(?:\|.*\n)*")


def make_row(option: Option) -> str:
    """Return the row of one option."""
    default = option.default
    if option.unset:
        text = option.unset
    elif default in (None, MISSING, ()) or default == {}:
        text = ""
    elif isinstance(default, bool):
        text = f"`{str(default).lower()}`"
    else:
        text = f"`{default}`" if isinstance(default, str) else f"{default:,}"
    words = ", ".join(f"`{word}`" for word in option.values.words) if option.values.kind is str else ""
    help_text = option.help + (" In bytes." if option.unit == "GB" else "") + (f" Values: {words}." if words else "")
    return f"| `{option.name}` | {text} | {help_text} |"


def make_table(module: str, record: str) -> str:
    """Return the table of a record."""
    kind = getattr(importlib.import_module(module), record)
    own = vars(kind).get("__annotations__", {})
    options = sorted(options_of(kind).values(), key=lambda option: option.name not in own)
    return "\n".join(["| key | default | what it is |", "| --- | --- | --- |", *map(make_row, options), ""])


def fill(text: str) -> str:
    """Return a page with all of its tables written again."""
    return _TABLE.sub(lambda match: match[1] + make_table(match[2], match[3]), text)


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if fill(page) != page:
            path.write_text(fill(page), encoding="utf-8")
