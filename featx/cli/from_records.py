"""Make the command line's options from the options records of the library."""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING
from typing import Any

import click

from featx.system import Option, Options, Values, options_of


class ListOrWord(click.ParamType):
    """What click has no type for: lists with commas, and numbers that a word may stand for."""

    def __init__(self, values: Values, *, is_list: bool) -> None:
        self.values = values
        self.is_list = is_list
        number = "integer" if values.kind is int else "number"
        self.name = "list" if is_list else " or ".join((*values.words, number))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a value, or a tuple of values."""
        if not isinstance(value, str):
            return value
        if not self.is_list:
            return self._convert_one(value, param, ctx)
        return tuple(self._convert_one(part, param, ctx) for part in value.split(","))

    def _convert_one(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        value = self.values.parse(text)
        if value is None:
            several = " (several: with commas)" if self.is_list else ""
            self.fail(f"expected {self.values.expected}, found {text.strip()!r}{several}", param, ctx)
        return value


class Gigabytes(click.FloatRange):
    """A number of bytes, given in GB."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes: 1 or more, since however small a limit is, it is one."""
        return max(1, round(super().convert(value, param, ctx) * 1e9))


def taking(
    record: type[Options], parameter: str = "options", *, without: Collection[str] = ()
) -> Callable[[Callable], Callable]:
    """Return a decorator: add an option for each field of a record, and hand the record that they make over.

    Parameters
    ----------
    record : type
    parameter : str
        The command's parameter that takes the record.
    without : collection of str
        Fields that get no option.
    """

    def hand_over(values: dict[str, Any]) -> Options:
        return record(**values)

    known = {name: each for name, each in options_of(record).items() if name not in without}
    return _adding(known, parameter, hand_over, are_unset=False)


def collecting(
    record: type[Options], parameter: str, *, only: Collection[str] | None = None
) -> Callable[[Callable], Callable]:
    """Return a decorator: add an option for fields of a record, and hand over a dict of those that are given."""

    def hand_over(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    known = {name: each for name, each in options_of(record).items() if only is None or name in only}
    return _adding(known, parameter, hand_over, are_unset=True)


def _adding(
    known: Mapping[str, Option], parameter: str, hand_over: Callable[[dict[str, Any]], Any], *, are_unset: bool
) -> Callable[[Callable], Callable]:
    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def call(*arguments: Any, **values: Any) -> Any:
            values[parameter] = hand_over({name: values.pop(name) for name in known})
            return command(*arguments, **values)

        for each in reversed([*known.values()]):
            call = _make_option(each, is_unset=are_unset)(call)
        return call

    return decorate


def _make_option(each: Option, *, is_unset: bool) -> Callable:
    flag = f"--{each.flag or each.name.replace('_', '-')}"
    if each.values.kind is bool:
        return click.option(flag, each.name, is_flag=True, help=each.help)
    settings: dict[str, Any] = {"type": _type_of(each), "metavar": each.metavar}
    default, shown = each.default, each.unset
    if each.unit == "GB":
        default = default / 1e9
    if each.is_list:
        default = ",".join(value if isinstance(value, str) else f"{value:g}" for value in default)
    if is_unset and default not in (None, MISSING):
        shown, default = shown or default, None
    if default is MISSING:
        settings["required"] = not is_unset
    elif default not in (None, ""):
        settings["default"] = default
    # Two spaces: as click itself shows a default.
    text = each.help + (f" In {each.unit}." if each.unit else "") + (f"  [default: {shown}]" if shown else "")
    if isinstance(settings["type"], ListOrWord) and each.values.words and not each.is_list:
        text += f"  [{each.values.range.low:g}<=x<={each.values.range.high:g}]"
    return click.option(flag, each.name, help=text, **settings)


def _type_of(each: Option) -> click.ParamType | None:
    values, range_ = each.values, each.values.range
    if each.metavar == "PATH":
        return click.Path()
    if each.unit == "GB":
        return Gigabytes()
    if values.kind is str and not values.words:
        return TextList() if each.is_list else click.STRING
    if each.is_list or (values.words and values.kind is not str) or range_.counts:
        return ListOrWord(values, is_list=each.is_list)
    if values.words:
        return click.Choice(list(values.words))
    if values.kind is int:
        low, high = (None if bound is None else int(bound) for bound in (range_.low, range_.high))
        return click.IntRange(low, high)
    return click.FloatRange(range_.low, range_.high, min_open=range_.above, max_open=range_.below)


class TextList(click.ParamType):
    """Names with commas; an empty text is a list of none."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of names."""
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())
