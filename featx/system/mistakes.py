"""Report the mistakes in a file that a person wrote: all of them in one message."""

import difflib
import json
from collections.abc import Mapping, Sequence

from featx.errors import FeatxError

Location = tuple[str | int, ...]
Problems = dict[str, str]

# Mistakes in one message.
_MAX_SHOWN = 50

# By pydantic's name of a mistake, with the values that it gives.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "invalid_key": "a key that is text",
    "model_attributes_type": "a mapping",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "literal_error": "{expected}",
}


def format_mistake(mistake: Mapping, *, expected: str | None = None) -> str:
    """Format what was expected and what was found.

    Parameters
    ----------
    mistake : mapping
        One of those that pydantic's `ValidationError.errors` lists.
    expected : str, optional
        The expected value, if there is more to say than pydantic's kind of mistake.
    """
    kind = mistake["type"]
    if kind == "missing":
        return "missing"
    if expected is None:
        expected = _EXPECTED[kind].format(**mistake.get("ctx", {})) if kind in _EXPECTED else mistake["msg"]
    return f"expected {expected}, found {show_value(mistake['input'])}"


def show_value(value: object) -> str:
    """Write a value as in YAML, cut short.

    Examples
    --------
    >>> show_value(True), show_value("a"), show_value(None)
    ('true', "'a'", 'null')
    """
    text = json.dumps(value) if isinstance(value, (bool, float, type(None))) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def join_location(location: Location) -> str:
    """Write a location in a file as text.

    Examples
    --------
    >>> join_location(("fits", "rf", "grid", "C", 1))
    'fits.rf.grid.C[1]'
    """
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def close_names(name: str, names: Sequence[str]) -> str:
    """List the existing names that are close to an unknown name, or all of them.

    Examples
    --------
    >>> close_names("epoch", ["epochs", "patience"])
    '(close: epochs)'
    >>> close_names("rate", ["epochs", "patience"])
    '(there are: epochs, patience)'
    """
    close = difflib.get_close_matches(name, names, n=3)
    return f"(close: {', '.join(close)})" if close else f"(there are: {', '.join(names) or 'none'})"


def check_problems(source: str, problems: Problems) -> None:
    """Raise one error with all problems, by key, if there are any.

    Parameters
    ----------
    source : str
        The file's name in the message.
    problems : dict of str to str
        What is wrong, by key; "" for the whole.

    Raises
    ------
    FeatxError
    """
    if not problems:
        return
    texts = [f"{key}: {text}" if key else text for key, text in problems.items()]
    count = f"{len(texts)} mistakes: " if len(texts) > 1 else ""
    more = f"; and {len(texts) - _MAX_SHOWN} more" if len(texts) > _MAX_SHOWN else ""
    raise FeatxError(f"{source}: {count}{'; '.join(texts[:_MAX_SHOWN])}{more}")
