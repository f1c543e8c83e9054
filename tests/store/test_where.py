"""Expressions over columns, read and never run."""

import numpy as np
import pandas as pd
import pytest

from featx import FeatxError
from featx.store import select_rows

TABLE = pd.DataFrame({"type": ["mono", "poly", "mono", "poly"], "p": [0.0, 0.33, 0.67, np.nan], "n": [1, 2, 3, 4]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('type == "mono"', [0, 2]),
        ("type != 'mono'", [1, 3]),
        ("p > 0.5", [2]),
        ("p <= 0.33 and n >= 2", [1]),
        ('type == "poly" or n == 1', [0, 1, 3]),
        ('not type == "poly"', [0, 2]),
        ('type in ["mono", "tandem"]', [0, 2]),
        ("n not in [1, 2]", [2, 3]),
        ('(type == "mono" or n == 4) and n > 2', [2, 3]),
        ("p < -1e-9 or n < 2", [0]),
    ],
)
def test_rows_are_those_that_it_is_true_for(text, expected):
    assert np.flatnonzero(select_rows(TABLE, text)).tolist() == expected


@pytest.mark.parametrize("name", ["Date of birth", "class"])
def test_a_column_that_can_not_be_named_is_said_to_be_so(name):
    table = TABLE.rename(columns={"n": name})
    with pytest.raises(FeatxError, match=f"can't use the column '{name}'"):
        select_rows(table, f"p > 0.1 and {name} == 1")
    with pytest.raises(FeatxError, match=f"^(?!.*can't use the column '{name}')"):
        select_rows(table, "p >> 0.1")


@pytest.mark.parametrize("text", ["n == 1 && p > 0.1", "n < 1 1", 'kind in ["mono"'])
def test_a_column_that_an_expression_does_not_mean_is_not_blamed(text):
    # As tables have them that were written with their index: 1, say; and what stands in it is no such column.
    table = TABLE.assign(**{"1": 0, "in": 0, "": 0})
    with pytest.raises(FeatxError, match="can't be read; expected comparisons"):
        select_rows(table, text)
    with pytest.raises(FeatxError, match="can't use the column 'in'"):
        select_rows(table, "in == 1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read"),
        ("type ==", "can't be read"),
        ("type", "expected comparisons"),
        ('kind == "mono"', "no column 'kind'; there are type, p, n"),
        ("type == 1", "1 is compared with a column of text"),
        ('n > "1"', "'1' is compared with a column of numbers"),
        ('type in "mono"', "need a list"),
        ("n == [1, 2]", "need a list"),
        ("n > 100", "true for no row"),
        ("0 < n < 3", "expected comparisons"),
        ('__import__("os").system("true")', "expected comparisons"),
        ('type == __import__("os").name', "expected comparisons"),
        ("n == n", "expected comparisons"),
        ("(" * 5000 + "n == 1" + ")" * 5000, "can't be read"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(FeatxError, match=message):
        select_rows(TABLE, text)
