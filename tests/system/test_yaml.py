"""YAML as plain as it looks: numbers that are numbers, and everything refused that isn't plain."""

import random

import pytest

from featx import FeatxError
from featx.system import parse_yaml, read_yaml, to_yaml
from featx.system.yaml import MAX_BYTES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Text in PyYAML, numbers to everybody else.
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-2e+3", -2000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("1e999", float("inf")),
        ("-.inf", float("-inf")),
        # Octal, minutes and booleans of YAML 1.1.
        ("010", 10),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("no", "no"),
        ("on", "on"),
        ("2020-01-01", "2020-01-01"),
        ("=", "="),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("1e", "1e"),
        (".", "."),
        ("nan", "nan"),
        ("block4_conv3", "block4_conv3"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text, expected):
    found = parse_yaml(f"value: {text}", source="x")["value"]
    assert found == expected
    assert type(found) is type(expected)


def test_nan_is_a_number_and_a_huge_one_is_no_trap():
    assert str(parse_yaml(".nan", source="x")) == "nan"
    assert parse_yaml("9" * 20, source="x") == 1e20
    assert parse_yaml("9" * 60_000, source="x") == float("inf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x: it is empty"),
        ("# only a comment\n", "x: it is empty"),
        ("a: &here 1\nb: *here", "x: line 1: the anchor &here"),
        ("a: *nowhere", "x: line 1: the alias \\*nowhere"),
        ("a: !!python/object/apply:os.getcwd []", "x: line 1: the tag tag:yaml.org,2002:python/object/apply:os.getcwd"),
        ("a: !mine 1", "x: line 1: the tag !mine"),
        ("a: 1\nb: 2\na: 3", "x: line 3: the key 'a' occurs twice"),
        ("a: {b: 1, b: 1}", "x: line 1: the key 'b' occurs twice"),
        ("? [a]\n: 1", "x: line 1: expected a key that is a word"),
        ("[" * 17 + "]" * 17, "x: line 1: more than 16 levels"),
        ("[" * 30_000, "x: line 1: more than 16 levels"),
        ("- " * 30_000, "x: line 1: more than 16 levels"),
        ("a: [1", "x: line 1: not YAML: expected ',' or ']'"),
        ("a: 1\n b: 2", "x: line 2: not YAML"),
        ("\ta: 1", "x: line 1: not YAML"),
        ("--- 1\n--- 2", "x: line 2: not YAML: but found another document"),
        ("a: \x01", "x: not YAML: special characters"),
        ('a: "\\ud800"', "x: line 1: an escape that is no character"),
        ('a: "\\UFFFFFFFF"', "x: not YAML"),
    ],
)
def test_what_is_not_plain_is_refused(text, message):
    with pytest.raises(FeatxError, match=message):
        parse_yaml(text, source="x")


def test_sixteen_levels_are_read():
    assert parse_yaml("[" * 16 + "]" * 16, source="x")


def test_a_merge_key_is_a_word_like_any_other():
    assert parse_yaml("<<: {a: 1}", source="x") == {"<<": {"a": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff", r"not UTF-8 \(byte 3\)"),
        (b"a: " + b"x" * MAX_BYTES, "larger than 64 KiB"),
        (b"", "it is empty"),
    ],
)
def test_a_file_that_is_no_text_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(FeatxError, match=f"mine.yaml: {message}"):
        read_yaml(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes("\ufeffa: 1\r\nb: é\r\n".encode())
    assert read_yaml(path) == {"a": 1, "b": "é"}


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(FeatxError, match="expected a YAML file, found a folder"):
        read_yaml(tmp_path)
    with pytest.raises(FeatxError, match=r"nowhere\.yaml: can't be read: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "1e-4",
        "1e5",
        ".5",
        "5.",
        "010",
        "no",
        "null",
        "",
        " a",
        "a ",
        "a: b",
        "# a",
        "é",
        "a\nb\n",
        "<<",
        "=",
        "😀",
        "1:30",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "'",
        '"',
        "\\",
        "\x85",
        "\u2028",
        "\t",
        "a" * 300,
        "-",
        "?",
        "[",
        "~",
        ".inf",
        "\x07",
    ],
)
def test_text_is_written_so_that_it_stays_text(text):
    record = {"a": text, text or "b": [text]}
    assert parse_yaml(to_yaml(record), source="x") == record


def test_equal_lists_are_written_twice_not_as_aliases():
    same = [1, 2.5e-7, True, None]
    assert parse_yaml(to_yaml({"a": same, "b": same}), source="x") == {"a": same, "b": same}


def test_damaged_files_are_refused_or_read_and_nothing_else_happens():
    draw = random.Random(0)  # noqa: S311
    whole = (
        "name: a\nhead:\n  - {layer: dense, units: 3}\ntraining: {rate: 1e-4, flip: 'x', note: \"y\"}\nmore: |\n  z\n"
    )
    for _ in range(2000):
        text = list(whole)
        for _ in range(draw.randint(1, 4)):
            text[draw.randrange(len(text))] = draw.choice("{}[]:,-&*!|>'\"%@`#?\\\n\t 0e.~=<x\ud800\x00")
        try:
            parse_yaml("".join(text), source="x")
        except FeatxError as error:
            assert str(error).startswith("x: ")
