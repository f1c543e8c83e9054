"""Declare a stage's options once: types, ranges, defaults and descriptions, from which every skin is made.

An options record is a frozen dataclass whose fields are declared with `option`. The command line makes its options of
the fields, an experiment file its keys, docstrings their entries, and making a record checks its values. Only the
standard library is imported, so that `featx --help` stays quick.
"""

import functools
import math
import os
import re
import textwrap
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeVar

from featx.errors import FeatxError
from featx.system.mistakes import Problems, close_names, show_value


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes; part of its annotation: `Annotated[int, Range(32, 4096)]`.

    Attributes
    ----------
    low, high : float or None
        The smallest and the largest number; None: any that is finite.
    above, below : bool
        Whether `low` itself is too small, and `high` itself too large.
    counts : bool
        Whether a whole number is a count, and only other numbers are between `low` and `high`.
    percent : bool
        Whether the command line takes shares in percent.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    counts: bool = False
    percent: bool = False


class Joined:
    """Marks text that may also be given as a list of names, which are joined with commas."""


Names = Annotated[str, Joined]


Seed = Annotated[int, Range(0, 2**32 - 1)]
"""A seed that NumPy takes."""


def option(
    default: object = MISSING,
    help: str = "",
    *,
    unset: str | None = None,
    choices: Sequence[str] = (),
    flag: str | None = None,
    metavar: str | None = None,
    unit: str | None = None,
) -> Any:
    """Declare a field of an options record.

    Parameters
    ----------
    default : object, optional
        Default: the option is required.
    help : str
        What the option is, as the command line and docstrings show it.
    unset : str, optional
        What an option that is None stands for, such as "the network's own".
    choices : sequence of str, optional
        The texts that it takes, if its type doesn't say.
    flag : str, optional
        The name on the command line; default: the field's.
    metavar : str, optional
        What `--help` shows for the value.
    unit : {"GB"}, optional
        The unit of the command line, where Python takes bytes.
    """
    more = {"help": help, "unset": unset, "choices": tuple(choices), "flag": flag, "metavar": metavar, "unit": unit}
    if callable(default):
        return field(default_factory=default, metadata=more)
    return field(default=default, metadata=more)


@dataclass(frozen=True)
class Values:
    """The values that an option takes, each one by itself where it takes a list.

    Attributes
    ----------
    kind : type
        int, float, str, bool or dict.
    words : tuple of str
        The only texts that are taken, for a number too.
    range : Range
    is_joined : bool
        Whether a list of names is taken as well.
    """

    kind: type
    words: tuple[str, ...] = ()
    range: Range = Range()
    is_joined: bool = False

    @property
    def expected(self) -> str:
        """What is taken, in words.

        Examples
        --------
        >>> Values(float, ("sqrt", "log2"), Range(0, 1, above=True, counts=True)).expected
        'a number over 0 to 1, a count, sqrt or log2'
        """
        if self.kind in (int, float):
            number = f"a {'whole ' if self.kind is int else ''}number{self._bounds()}"
            return _either((number, *(("a count",) if self.range.counts else ()), *self.words))
        if self.words:
            return _either(self.words)
        texts = {bool: "true or false", dict: "a mapping"}
        return texts.get(self.kind, "text, or a list of names" if self.is_joined else "text")

    def _bounds(self) -> str:
        low, high = self.range.low, self.range.high
        text = "" if low is None else f" over {low:g}" if self.range.above else f" from {low:g}"
        return text if high is None else f"{text} {'to below' if self.range.below else 'to'} {high:.10g}"

    def take(self, value: object) -> object:
        """Return a value as the library uses it, or None if it isn't one of these.

        Examples
        --------
        >>> Values(float, range=Range(0, above=True)).take(1), Values(int).take(True)
        (1.0, None)
        """
        if self.kind is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if (
            self.is_joined
            and isinstance(value, list | tuple)
            and value
            and all(isinstance(name, str) for name in value)
        ):
            return ",".join(value)
        if isinstance(value, str):
            return value if value in self.words or (self.kind is str and not self.words) else None
        if self.kind is dict:
            return dict(value) if isinstance(value, Mapping) else None
        if self.kind is bool:
            return value if isinstance(value, bool) else None
        if self.kind is str or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return self._take_number(value)

    def _take_number(self, value: float) -> float | None:
        if self.range.counts and isinstance(value, int):
            return value if value >= (1 if self.range.above else 0) else None
        if self.kind is int and isinstance(value, float):
            return None
        low, high = self.range.low, self.range.high
        is_within = (
            math.isfinite(value)
            and (low is None or value > low or (value == low and not self.range.above))
            and (high is None or value < high or (value == high and not self.range.below))
        )
        return self.kind(value) if is_within else None

    def parse(self, text: str) -> object:
        """Return what a text of the command line stands for, or None if it isn't one of these values."""
        text = text.strip()
        if text in self.words or self.kind is str:
            return self.take(text)
        if self.range.counts and text.isdecimal():
            return self.take(int(text))
        if self.range.percent:
            # Decimal: 0.7% are 0.007 to the last digit.
            return self.take(float(Decimal(text[:-1]) / 100)) if re.fullmatch(r"\d+(\.\d+)?%", text) else None
        try:
            return self.take(self.kind(text))
        except ValueError:
            return None


class WrongValue(FeatxError):
    """A value that an option doesn't take.

    Parameters
    ----------
    name : str
        The option's.
    expected : str
    value : object
    index : int, optional
        Where the value is in a list.
    """

    def __init__(self, name: str, expected: str, value: object, index: int | None = None) -> None:
        found = repr(value)
        at = "" if index is None else f" at index {index}"
        super().__init__(
            f"expected {expected}, found {found if len(found) <= 60 else f'{found[:57]}...'}{at}", parameter=name
        )
        self.expected = expected
        self.value = value
        self.index = index


@dataclass(frozen=True)
class Option:
    """One option of a record.

    Attributes
    ----------
    name : str
    values : Values
    is_list : bool
        Whether it takes several of the values, as a tuple.
    is_optional : bool
        Whether it may be None.
    default : object
        `dataclasses.MISSING` for one that is required.
    help, unset, flag, metavar, unit
        See `option`.
    """

    name: str
    values: Values
    is_list: bool
    is_optional: bool
    default: Any
    help: str
    unset: str | None
    flag: str | None
    metavar: str | None
    unit: str | None

    def check(self, value: object) -> object:
        """Return a value as the library uses it.

        Raises
        ------
        WrongValue
            If the option doesn't take it.
        """
        if self.values.kind is not dict:
            value = _without_numpy(value)
        if value is None and self.is_optional:
            return None
        if not self.is_list:
            taken = self.values.take(value)
            if taken is None:
                raise WrongValue(self.name, self.values.expected, value)
            return taken
        if isinstance(value, str) and self.values.kind is str:
            value = [value]
        if not isinstance(value, list):
            raise WrongValue(self.name, "a list", value)
        taken = tuple(map(self.values.take, value))
        if None in taken:
            index = taken.index(None)
            raise WrongValue(self.name, self.values.expected, value[index], index)
        return taken


def options_of(record: type) -> dict[str, Option]:
    """Return the options of a record by name, in the order of its fields."""
    return _read_options(record)


@functools.cache
def _read_options(record: type) -> dict[str, Option]:
    hints = typing.get_type_hints(record, include_extras=True)
    return {each.name: _read_field(each, hints[each.name]) for each in fields(record)}


def _read_field(declared: Field, annotation: object) -> Option:
    factory = declared.default_factory
    default = declared.default if factory is MISSING else factory()
    about = declared.metadata
    members, marks = _members(annotation)
    is_optional = NoneType in members
    lists = [member for member in members if typing.get_origin(member) is tuple]
    if lists:
        members, marks = _members(typing.get_args(lists[0])[0])
    words = tuple(
        word for member in members if typing.get_origin(member) is Literal for word in typing.get_args(member)
    )
    kinds = [typing.get_origin(member) or member for member in members]
    kind = next((kind for kind in (float, int, bool, dict, str) if kind in kinds), str)
    ranges = [mark for mark in marks if isinstance(mark, Range)]
    return Option(
        name=declared.name,
        values=Values(kind, words or about.get("choices", ()), ranges[0] if ranges else Range(), Joined in marks),
        is_list=bool(lists),
        is_optional=is_optional,
        default=default,
        **{name: about.get(name) for name in ("unset", "flag", "metavar", "unit")},
        help=about.get("help", ""),
    )


def _members(annotation: object) -> tuple[list[object], list[object]]:
    """Return the types that a union is of, and what `Annotated` says of them."""
    if typing.get_origin(annotation) is Annotated:
        base, *marks = typing.get_args(annotation)
        members, more = _members(base)
        return members, [*marks, *more]
    if typing.get_origin(annotation) not in (typing.Union, UnionType):
        return [annotation], []
    found = [_members(member) for member in typing.get_args(annotation)]
    return [member for members, _ in found for member in members], [mark for _, marks in found for mark in marks]


class Options:
    """What options records have in common: their values are checked as they are made.

    Raises
    ------
    FeatxError
        If a value is none that its option takes; the error knows the option's name.
    """

    def __post_init__(self) -> None:
        for name, each in options_of(type(self)).items():
            object.__setattr__(self, name, each.check(getattr(self, name)))

    @classmethod
    def make(cls, **values: Any) -> Self:
        """Make a record of values that a type checker can't know to be right, such as any text; they are checked."""
        return cls(**values)

    def change(self, **values: Any) -> Self:
        """Return the record with other values, which are checked."""
        return type(self)(**self.keywords() | values)

    def keywords(self, record: type | None = None) -> dict[str, Any]:
        """Return the values by name, to be given to a function; of another record's options, if it is given."""
        return {name: getattr(self, name) for name in options_of(record or type(self))}


Record = TypeVar("Record", bound=Options)


def read_record(kind: type[Record], values: object) -> tuple[Record | None, Problems]:
    """Make a record of what a file says.

    Returns
    -------
    record : Options or None
        None where anything is wrong.
    problems : dict of str to str
        Everything that is wrong, by the option's name (and index, in a list); "" for the whole.
    """
    if not isinstance(values, Mapping):
        return None, {"": f"expected a mapping, found {show_value(values)}"}
    known, problems = options_of(kind), {}
    for name, value in values.items():
        if name not in known:
            problems[str(name)] = f"unknown key {close_names(str(name), list(known))}"
            continue
        try:
            known[name].check(value)
        except WrongValue as error:
            at = "" if error.index is None else f"[{error.index}]"
            problems[f"{name}{at}"] = f"expected {error.expected}, found {show_value(error.value)}"
    problems |= {name: "missing" for name, each in known.items() if each.default is MISSING and name not in values}
    return (None if problems else kind(**values)), problems


Function = TypeVar("Function", bound=Callable)


def takes(*records: type[Options], without: Collection[str] = ()) -> Callable[[Function], Function]:
    """Check a function's keyword arguments by options records, and describe them in its docstring.

    The function gets the values as the records hold them. The line `{options}` of its docstring is filled with an entry
    for each option.

    Parameters
    ----------
    *records : type
    without : collection of str
        Options that the function doesn't have.
    """
    known = {name: each for record in records for name, each in options_of(record).items() if name not in without}

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> Any:
            checked = {name: known[name].check(value) for name, value in keywords.items() if name in known}
            return function(*arguments, **keywords | checked)

        entries = "\n".join(map(_entry, known.values()))
        call.__doc__ = re.sub(
            r"^( *)\{options\}$",
            lambda match: textwrap.indent(entries, match[1]),
            function.__doc__ or "",
            flags=re.MULTILINE,
        )
        return typing.cast("Function", call)

    return decorate


def _entry(each: Option) -> str:
    """Write an option as a docstring's entry."""
    values = each.values
    words = ", ".join(f'"{word}"' for word in values.words)
    kind = f"{{{words}}}" if values.kind is str and words else values.kind.__name__ + (f" or {words}" if words else "")
    kind = f"sequence of {kind}" if each.is_list else kind
    if values.range.counts:
        kind = f"int or {kind}"
    default = each.default
    if each.is_optional:
        kind += ", optional"
    elif default is not MISSING:
        kind += f', default "{default}"' if isinstance(default, str) else f", default {default!r}"
    text = each.help + (" In bytes." if each.unit == "GB" else "") + (f" Default: {each.unset}." if each.unset else "")
    return f"{each.name} : {kind}\n{textwrap.indent(textwrap.fill(text, 104), '    ')}"


def _either(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _without_numpy(value: object) -> object:
    from featx.system.yaml import without_numpy

    return without_numpy(value)
