"""YAML as plain as it looks: mappings, lists, words and numbers; nothing that a reader could take for something else.

PyYAML follows YAML 1.1: there, 1e-4 is text, `no` is false, 010 is 8 and 1:30 is 90. What is a number here, true, false
or null, is so in YAML 1.2 as well, and everything else is text.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from featx.errors import FeatxError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}

# A longer one is read as the float that it is near: Python refuses to make an int of thousands of digits.
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with every scalar left as text."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (PyYAML's own attribute)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, with everything written out."""

    def ignore_aliases(self, data: object) -> bool:
        """Write a value as often as it occurs."""
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Write escapes for what PyYAML would write as a line break and read as a blank, such as U+0085."""
        style = None if data.replace("\n", "").isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


# Text that looks like a number here, and not in YAML 1.1, is quoted too.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), None)


def read_yaml(path: Path, *, max_bytes: int = MAX_BYTES) -> object:
    """Return what a YAML file holds.

    Parameters
    ----------
    path : Path
    max_bytes : int, default 65536
        Larger files are an error.

    Raises
    ------
    FeatxError
        If it can't be read, or is not plain YAML, or is longer than the limit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except IsADirectoryError as error:
        raise FeatxError(f"{path}: expected a YAML file, found a folder") from error
    except (OSError, ValueError) as error:
        raise FeatxError(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > max_bytes:
        raise FeatxError(
            f"{path}: larger than {max_bytes // 1024} KiB, which no recipe or experiment is; is it the right file?"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FeatxError(f"{path}: not UTF-8 (byte {error.start}): save it as UTF-8 text") from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> object:
    r"""Return what a YAML text holds: dicts, lists, text, numbers, true, false, null.

    Parameters
    ----------
    text : str
    source : str
        Its name in messages.

    Raises
    ------
    FeatxError
        If it isn't YAML, or has anchors, aliases, tags, keys twice, or more than 16 levels.

    Examples
    --------
    >>> parse_yaml("rate: 1e-4\nlayers: [fc1, no]", source="recipe.yaml")
    {'rate': 0.0001, 'layers': ['fc1', 'no']}
    """
    try:
        # The events first: they come without recursion, however deep a file goes.
        _check_events(text, source)
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF" is a ValueError of Python's.
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise FeatxError(f"{source}: {place}not YAML: {problem}") from error
    if root is None:
        raise FeatxError(f"{source}: it is empty")
    return _build(root, source)


def to_yaml(record: Mapping[str, object]) -> str:
    """Return a record as YAML that `parse_yaml` reads back equal."""
    return yaml.dump(record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def without_numpy(value: object) -> object:
    """Return a value with NumPy's numbers and arrays as Python's numbers and lists, as JSON and YAML can hold them.

    Parameters
    ----------
    value : object
        A number, text, or a mapping, list or tuple of such; anything else is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> without_numpy({"C": np.array([1, 10]), "gamma": ("scale", np.float64(0.5))})
    {'C': [1, 10], 'gamma': ['scale', 0.5]}
    """
    # Both have it; recipes are read without NumPy.
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: without_numpy(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_numpy(each) for each in value]
    return value


def _check_events(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        problem = None
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            problem = f"more than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.AliasEvent):
            problem = f"the alias *{event.anchor}: write the value out"
        elif getattr(event, "anchor", None) is not None:
            problem = f"the anchor &{event.anchor}: write the value out where it is needed"
        elif getattr(event, "tag", None) is not None:
            problem = f"the tag {event.tag}: write the plain value"
        if problem:
            raise FeatxError(f"{source}: line {event.start_mark.line + 1}: {problem}")


def _build(node: yaml.Node, source: str) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, source) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        # Text in quotes, and text blocks, are text.
        return _plain_value(node.value) if node.style is None else _encodable(node, source)
    mapping: dict[str, object] = {}
    for key, value in node.value:
        place = f"{source}: line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise FeatxError(f"{place}: expected a key that is a word")
        _encodable(key, source)
        if key.value in mapping:
            raise FeatxError(f"{place}: the key {key.value!r} occurs twice: remove one")
        mapping[key.value] = _build(value, source)
    return mapping


def _encodable(node: yaml.ScalarNode, source: str) -> str:
    """Return a node's text; raise an error for half of a surrogate pair, which only an escape can write."""
    try:
        node.value.encode()
    except UnicodeEncodeError as error:
        raise FeatxError(f"{source}: line {node.start_mark.line + 1}: an escape that is no character") from error
    return node.value


def _plain_value(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    return text
