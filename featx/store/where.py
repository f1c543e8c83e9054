"""Select rows by an expression over the columns of a table of images, without running it as code."""

import ast
import contextlib
import keyword
import operator
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.images import as_label, as_number

_COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


# What Python raises for a text that is no expression.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


_EXPECTED = 'expected comparisons of columns with values, such as: type == "mono" and probability > 0.5'


def select_rows(table: pd.DataFrame, text: str) -> np.ndarray:
    """Return which rows an expression is true for.

    Parameters
    ----------
    table : DataFrame
    text : str
        Comparisons (==, !=, <, <=, >, >=, in, not in) of columns with numbers, texts or lists of them, joined by and,
        or, not and parentheses. It is read as Python is, but only these parts of it are known; nothing is called.
        Blanks at the ends of a text don't count. A column of text whose cells are all numbers (1.10, 007) may be
        compared with numbers, too.

    Returns
    -------
    ndarray of shape (n_rows,), bool

    Raises
    ------
    FeatxError
        If it can't be read, names an unknown column, compares text with numbers, or is true for no row.

    Examples
    --------
    >>> table = pd.DataFrame({"type": ["mono", "poly", "mono"], "p": [0.0, 1.0, 1.0]})
    >>> select_rows(table, 'type == "mono" and p > 0.5')
    array([False, False,  True])
    """
    chosen = _evaluate(_read(text, table.columns), table, text)
    if not chosen.any():
        raise FeatxError(f"{text!r}: true for no row", parameter="where")
    return chosen


def check_expression(text: str) -> None:
    """Raise an error for an expression that can't be read, whatever the columns are; see `select_rows`."""
    _check(_read(text), text)


def describe_where(text: str | None) -> tuple[str, str]:
    """Return what a message says about the expression that chose its rows, and how its advice ends.

    Parameters
    ----------
    text : str or None
        None: all rows are used, and both texts are empty.
    """
    return ("", "") if text is None else (f" where {text}", ", or use another `where`")


def _read(text: str, columns: Iterable[str] = ()) -> ast.AST:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except _UNREADABLE as error:
        if name := _find_unnamable(text, columns):
            raise FeatxError(
                f"{text!r}: can't use the column {name!r}: its name must be a word and no keyword of Python. Give it "
                "another name in the CSV and extract again",
                parameter="where",
            ) from error
        raise FeatxError(f"{text!r}: can't be read; {_EXPECTED}", parameter="where") from error


def _find_unnamable(text: str, columns: Iterable[str]) -> str | None:
    """Return the column whose name keeps an expression from being read: by another name it could be."""
    names = [name for name in columns if name and (keyword.iskeyword(name) or not name.isidentifier())]
    names = sorted((name for name in names if name in text), key=len, reverse=True)
    # One by one, then all of them.
    for chosen in (*([name] for name in names), names):
        renamed = text.strip()
        for name in chosen:
            renamed = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "column", renamed)
        if renamed != text.strip():
            with contextlib.suppress(*_UNREADABLE):
                ast.parse(renamed, mode="eval")
                return chosen[0]
    return None


def _check(node: ast.AST, text: str) -> None:
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check(value, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, text)
    elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and len(node.ops) == 1:
        _read_value(node.ops[0], node.comparators[0], text)
    else:
        raise FeatxError(f"{text!r}: {_EXPECTED}", parameter="where")


def _evaluate(node: ast.AST, table: pd.DataFrame, text: str) -> np.ndarray:
    if isinstance(node, ast.BoolOp):
        parts = [_evaluate(value, table, text) for value in node.values]
        return np.logical_and.reduce(parts) if isinstance(node.op, ast.And) else np.logical_or.reduce(parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_evaluate(node.operand, table, text)
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and len(node.ops) == 1:
        return _compare(node.left.id, _column(node.left.id, table, text), node.ops[0], node.comparators[0], text)
    raise FeatxError(f"{text!r}: {_EXPECTED}", parameter="where")


def _column(name: str, table: pd.DataFrame, text: str) -> np.ndarray:
    if name not in table:
        raise FeatxError(f"{text!r}: no column {name!r}; there are {', '.join(table.columns)}", parameter="where")
    return table[name].to_numpy()


def _read_value(comparison: ast.cmpop, node: ast.AST, text: str) -> object:
    """Return the value, or the list of values, that a column is compared with."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise FeatxError(f"{text!r}: {_EXPECTED}", parameter="where") from error
    is_list = isinstance(comparison, ast.In | ast.NotIn)
    if not is_list and type(comparison) not in _COMPARISONS:
        raise FeatxError(f"{text!r}: {_EXPECTED}", parameter="where")
    if is_list != isinstance(value, list | tuple | set):
        raise FeatxError(f"{text!r}: in and not in need a list, other comparisons one value", parameter="where")
    return value


def _compare(column: str, values: np.ndarray, comparison: ast.cmpop, node: ast.AST, text: str) -> np.ndarray:
    value = _read_value(comparison, node, text)
    is_list = isinstance(comparison, ast.In | ast.NotIn)
    expected = list(value) if is_list else [value]
    column_is_text = values.dtype.kind not in "biuf"
    if column_is_text:
        values = np.array([as_label(value) for value in values], dtype=object)
        # As they stand in a CSV.
        expected = [str(value) if isinstance(value, bool) else value for value in expected]
    asks_for_text = [isinstance(value, str) for value in expected]
    if column_is_text and expected and not any(asks_for_text):
        column_is_text, values = False, _numbers_of(column, values, expected[0], text)
    for value, is_text in zip(expected, asks_for_text, strict=True):
        if not isinstance(value, str | int | float) or is_text != column_is_text:
            kind = "text" if column_is_text else "numbers"
            raise FeatxError(f"{text!r}: {value!r} is compared with a column of {kind}", parameter="where")
    expected = [value.strip() if isinstance(value, str) else value for value in expected]
    if is_list:
        # Not NumPy's own, which makes floats of whole numbers that no float holds.
        is_in = np.array([value in expected for value in values.tolist()], dtype=bool)
        return is_in if isinstance(comparison, ast.In) else ~is_in
    # Python warns of NaN among its own numbers.
    with np.errstate(invalid="ignore"):
        return np.asarray(_COMPARISONS[type(comparison)](values, expected[0]), dtype=bool)


def _numbers_of(column: str, cells: np.ndarray, value: object, text: str) -> np.ndarray:
    """Return the numbers that a column of text holds, such as 1.10; NaN where a cell is empty."""
    numbers = np.empty(len(cells), dtype=object)
    for row, cell in enumerate(cells):
        number = as_number(cell) if cell else np.nan
        if number is None:
            raise FeatxError(
                f"{text!r}: {value!r} is compared with a column of text: {column!r} has {cell!r}", parameter="where"
            )
        numbers[row] = number
    return numbers
