"""Find best cells at an edge of their grid: better cells may lie beyond it."""

from collections.abc import Mapping, Sequence

from featx.fit.models import CellPlan
from featx.fit.options import AXES
from featx.system import Values

# More trees are never worse except by chance, and cost time: there is no best number to find.
_WITHOUT_EDGES = ("n_estimators",)


_N_NEXT = 2


def format_edges(
    model: str,
    cells: Sequence[CellPlan],
    chosen: int,
    most: Mapping[str, int],
    *,
    scores: Sequence[float | None] | None = None,
) -> list[str]:
    """Name the chosen cell's numbers that are the largest or the smallest of their axis, with the next ones to try.

    An axis has the cells that differ from the chosen one in this parameter alone. Words (gamma's `scale`) are not
    numbers, and counts of features are not shares of them. A value without a next one (1 row per leaf) is no edge, nor
    is one that is no better than the value before it.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cells : sequence of (discretization, parameters)
    chosen : int
    most : mapping of str to int
        The largest whole number of each parameter that has one, such as the number of rows for neighbours.
    scores : sequence of float or None, optional
        Score of each cell.

    Examples
    --------
    >>> cells = [("none", {"kernel": "rbf", "C": C, "gamma": "scale"}) for C in (0.1, 1.0, 10.0)]
    >>> format_edges("svm", cells, 2, {})
    ['C=10 is the largest tried: try 100, 1000']
    """
    discretize, best = cells[chosen]
    notes = []
    for name, axis in AXES["svm" if model == "svm-large" else model].items():
        value = best.get(name)
        if name in _WITHOUT_EDGES or isinstance(value, str) or value is None:
            continue
        others = _without(best, name)
        numbers = {
            params[name]: number
            for number, (step, params) in enumerate(cells)
            if step == discretize and _without(params, name) == others
            if not isinstance(params[name], str) and _is_whole(params[name], axis) == _is_whole(value, axis)
        }
        values = sorted(numbers)
        for ascending, which in ((values, "largest"), (values[::-1], "smallest")):
            is_edge = len(values) > 1 and ascending[-1] == value
            if not is_edge or (scores and scores[numbers[ascending[-2]]] == scores[chosen]):
                continue
            following = ", ".join(f"{each:g}" for each in _continue(*ascending[-2:], axis, most.get(name)))
            if following:
                notes.append(f"{name}={value:g} is the {which} tried: try {following}")
    return notes


def _without(params: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in params.items() if key != name}


def _is_whole(value: float, axis: Values) -> bool:
    return axis.kind is int or (axis.range.counts and isinstance(value, int))


def _continue(before: float, last: float, axis: Values, most: int | None) -> list[float]:
    """Return the next numbers of an axis, as far from each other as its last two, within its range."""
    is_whole = _is_whole(last, axis)
    low, high = (1, most) if is_whole else (axis.range.low, axis.range.high)
    following: list[float] = []
    for step in range(1, _N_NEXT + 1):
        value = last * (last / before) ** step if before and last else last + (last - before) * step
        value = round(value) if is_whole else float(f"{value:.6g}")
        value = max(value, low) if high is None else min(max(value, low), high)
        if abs(value - before) > abs(last - before) and value not in following and axis.take(value) is not None:
            following.append(value)
    return following
