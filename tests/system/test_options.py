"""Options records: what they take, from Python, from the command line and from files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from featx.errors import FeatxError
from featx.system import Names, Options, Range, Seed, Values, option, options_of, read_record, takes

Rejected = Annotated[int | float, Range(0, 1, counts=True, percent=True)]


@dataclass(frozen=True, kw_only=True)
class Bread(Options):
    """How a bread is baked."""

    flour: Literal["rye", "wheat"] = option("rye", "Kind of flour.")
    minutes: Annotated[int, Range(5, 90)] | None = option(None, "Minutes in the oven.", unset="as the recipe says")
    salt: Annotated[float, Range(0, 1, above=True, below=True)] = option(0.02, "Share of salt.")
    loaves: Annotated[int | Literal["auto"], Range(1)] = option("auto", "Number of loaves.")
    burnt: Rejected | None = option(None, "Most loaves that may burn.")
    seeds: Names = option("none", "Seeds on top.")
    is_sliced: bool = option(False, "Slice it.")
    heats: tuple[Annotated[float | Literal["low"], Range(0)], ...] = option((200.0,), "Heats of the oven.")
    tins: tuple[str, ...] = option((), "Tins to bake in.")
    seed: Seed = option(0, "Seed of the dough.")


def test_values_become_what_the_library_uses():
    bread = Bread(
        minutes=np.int64(30),
        seeds=["poppy", "sesame"],
        heats=np.array([180, 200]),
        tins="round",
        burnt=0.5,
    )
    assert bread.minutes == 30
    assert type(bread.minutes) is int
    assert bread.seeds == "poppy,sesame"
    assert bread.heats == (180.0, 200.0)
    assert all(type(heat) is float for heat in bread.heats)
    assert bread.tins == ("round",)
    assert Bread(seeds=Path("a")).seeds == "a"
    assert type(Bread(burnt=1).burnt) is int
    assert bread.keywords()["salt"] == 0.02


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flour": "oat"}, "flour: expected rye or wheat, found 'oat'"),
        ({"flour": None}, "flour: expected rye or wheat, found None"),
        ({"minutes": 4}, "minutes: expected a whole number from 5 to 90, found 4"),
        ({"minutes": 30.0}, "minutes: expected a whole number from 5 to 90, found 30.0"),
        ({"minutes": True}, "minutes: expected a whole number from 5 to 90, found True"),
        ({"salt": 1}, "salt: expected a number over 0 to below 1, found 1"),
        ({"salt": 0.0}, "salt: expected a number over 0 to below 1, found 0.0"),
        ({"loaves": 0}, "loaves: expected a whole number from 1 or auto, found 0"),
        ({"loaves": "many"}, "loaves: expected a whole number from 1 or auto, found 'many'"),
        ({"burnt": 1.5}, "burnt: expected a number from 0 to 1 or a count, found 1.5"),
        ({"burnt": -1}, "burnt: expected a number from 0 to 1 or a count, found -1"),
        ({"seeds": [1]}, "seeds: expected text, or a list of names, found [1]"),
        ({"is_sliced": 1}, "is_sliced: expected true or false, found 1"),
        ({"heats": [180.0, float("inf")]}, "heats: expected a number from 0 or low, found inf at index 1"),
        ({"heats": 180.0}, "heats: expected a list, found 180.0"),
        ({"seed": 2**32}, "seed: expected a whole number from 0 to 4294967295, found 4294967296"),
    ],
)
def test_other_values_raise_an_error_that_knows_the_option(values, message):
    with pytest.raises(FeatxError) as caught:
        Bread(**values)
    assert str(caught.value) == message
    assert caught.value.parameter == next(iter(values))


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("0", 0), ("1%", 0.01), ("0.7%", 0.007), ("100%", 1.0)]
    + [(text, None) for text in ("0.01", "-1", "101%", "nan%", "%", "1 %", "many", "")],
)
def test_the_command_line_writes_shares_in_percent(text, value):
    found = options_of(Bread)["burnt"].values.parse(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("values", "text", "value"),
    [
        (Values(int, range=Range(1)), " 3 ", 3),
        (Values(int, range=Range(1)), "2.5", None),
        (Values(int, range=Range(1)), "0", None),
        (Values(float, range=Range(0, above=True)), "1e-3", 0.001),
        (Values(float, range=Range(0, above=True)), "nan", None),
        (Values(float, range=Range(0, above=True)), "inf", None),
        (Values(float, ("sqrt",), Range(0, 1, above=True, counts=True)), "sqrt", "sqrt"),
        (Values(float, ("sqrt",), Range(0, 1, above=True, counts=True)), "100", 100),
        (Values(float, ("sqrt",), Range(0, 1, above=True, counts=True)), "0.1", 0.1),
        (Values(float, ("sqrt",), Range(0, 1, above=True, counts=True)), "0", None),
        (Values(str, ("linear", "rbf")), "poly", None),
    ],
)
def test_texts_become_values(values, text, value):
    found = values.parse(text)
    assert found == value
    assert type(found) is type(value)


def test_a_file_is_read_with_all_its_mistakes():
    made, problems = read_record(Bread, {"flour": "oat", "mintes": 3, "heats": [180, -1], "is_sliced": "yes"})
    assert made is None
    assert problems == {
        "flour": "expected rye or wheat, found 'oat'",
        "mintes": "unknown key (close: minutes, tins)",
        "heats[1]": "expected a number from 0 or low, found -1",
        "is_sliced": "expected true or false, found 'yes'",
    }
    assert read_record(Bread, {"minutes": 30}) == (Bread(minutes=30), {})
    assert read_record(Bread, [1]) == (None, {"": "expected a mapping, found [1]"})


def test_a_required_option_is_missing():
    @dataclass(frozen=True, kw_only=True)
    class Named(Options):
        name: str = option(help="Its name.")
        about: dict[str, object] = field(default_factory=dict)

    assert read_record(Named, {}) == (None, {"name": "missing"})
    assert read_record(Named, {"name": "a", "about": {"b": 1}}) == (Named(name="a", about={"b": 1}), {})


def test_a_function_takes_a_records_options_and_describes_them():
    @takes(Bread, without=["tins"])
    def bake(*, flour="rye", minutes=None, heats=(200.0,), tins=()):
        """Bake.

        Parameters
        ----------
        {options}
        tins : list
        """
        return flour, minutes, heats, tins

    assert bake(minutes=np.int64(30), heats=[180], tins=None) == ("rye", 30, (180.0,), None)
    with pytest.raises(FeatxError, match=r"^minutes: expected a whole number from 5 to 90, found 3$"):
        bake(minutes=3)
    lines = [line.strip() for line in bake.__doc__.splitlines()]
    assert "{options}" not in lines
    for entry, text in (
        ('flour : {"rye", "wheat"}, default "rye"', "Kind of flour."),
        ("minutes : int, optional", "Minutes in the oven. Default: as the recipe says."),
        ('loaves : int or "auto", default "auto"', "Number of loaves."),
        ('heats : sequence of float or "low", default (200.0,)', "Heats of the oven."),
    ):
        assert lines[lines.index(entry) + 1] == text
