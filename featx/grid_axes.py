"""Which values the axes of each classifier's grid may have; the same that `featx fit` takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """The values of one axis.

    Attributes
    ----------
    kind : type
        int, float or str.
    low : float
        The smallest number that is taken.
    is_open : bool
        Whether `low` itself is too small.
    high : float or None
        The largest that is taken; None: any that is finite.
    words : tuple of str
        Words that are taken.
    counts : bool
        Whether a whole number is a count, from 1 up, and others shares.
    """

    kind: type
    low: float = 0.0
    is_open: bool = False
    high: float | None = None
    words: tuple[str, ...] = ()
    counts: bool = False

    @property
    def expected(self) -> str:
        """What is taken, in words.

        Examples
        --------
        >>> AXES["rf"]["max_features"].expected
        'a number over 0 to 1, a count, or sqrt, log2'
        """
        words = ", ".join(self.words)
        if self.kind is str:
            return f"one of {words}"
        bound = f"over {self.low:g}" if self.is_open else f"from {self.low:g}"
        bound += "" if self.high is None else f" to {self.high:g}"
        number = f"a {'whole ' if self.kind is int else ''}number {bound}"
        return f"{number}{', a count,' if self.counts else ''}{f' or {words}' if words else ''}"

    def take(self, value: object) -> object:
        """Return a value as classifiers take it, or None if it isn't one of the axis.

        Examples
        --------
        >>> AXES["svm"]["C"].take(1), AXES["svm"]["C"].take(0), AXES["rf"]["max_features"].take(1)
        (1.0, None, 1)
        """
        if isinstance(value, str):
            return value if value in self.words else None
        if self.kind is str or isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.counts and isinstance(value, int):
            return value if value > 0 else None
        if self.kind is int and not isinstance(value, int):
            return None
        above = value > self.low or (value == self.low and not self.is_open)
        below = value < float("inf") if self.high is None else value <= self.high
        return self.kind(value) if above and below else None


_C = Axis(float, 0, is_open=True)
_WHOLE = Axis(int, 1)

AXES: dict[str, dict[str, Axis]] = {
    "rf": {
        "n_estimators": _WHOLE,
        "min_samples_leaf": _WHOLE,
        "max_features": Axis(float, 0, is_open=True, high=1, words=("sqrt", "log2"), counts=True),
        "max_depth": _WHOLE,
    },
    "svm": {
        "kernel": Axis(str, words=("linear", "rbf")),
        "C": _C,
        "gamma": Axis(float, 0, is_open=True, words=("scale", "auto")),
    },
    "linear-svm": {"C": _C},
    "logreg": {"C": _C},
    "knn": {
        "n_neighbors": _WHOLE,
        "weights": Axis(str, words=("uniform", "distance")),
        "metric": Axis(str, words=("euclidean", "cosine")),
    },
    "lda": {"shrinkage": Axis(float, 0, high=1, words=("auto", "none"))},
}
"""By the names that `featx fit` takes, then by scikit-learn's."""
