"""List the classifiers that featx fits: the axes of their grids, and the pipeline of one cell."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.errors import FeatxError
from featx.fit.estimators.large_svm import LargeSVC
from featx.fit.estimators.svm import GramSVC
from featx.fit.estimators.ternary import TernaryDiscretizer
from featx.fit.options import AXES, default_grid
from featx.system import without_numpy

DISCRETIZATIONS = {"none": ("none",), "ternary": ("ternary",), "both": ("none", "ternary")}


MOST_CELLS = 10_000
"""Largest number of cells of one grid."""


# Largest default C of an SVM without the RBF kernel: where classes overlap, a linear SVM needs minutes to converge at
# 100 and seconds at 1, and is no better.
_MOST_C = 10.0


Params = dict[str, object]


CellPlan = tuple[str, Params]


@dataclass(frozen=True)
class Model:
    """A kind of classifier.

    Attributes
    ----------
    grid : dict of str to tuple
        Axes of its grid, by scikit-learn's names, and their default values.
    build : callable
        `build(params, seed=..., class_weight=...)` returns the classifier.
    is_scaled : bool
        Whether features that are not discretized are standardised.
    """

    grid: Mapping[str, tuple]
    build: Callable[..., BaseEstimator]
    is_scaled: bool = True


def _build_rf(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    return RandomForestClassifier(**params, class_weight=class_weight, random_state=seed, n_jobs=-1)


def _build_svm(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    return GramSVC(**params, class_weight=class_weight)


def _build_large_svm(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    return LargeSVC(**params, class_weight=class_weight, random_state=seed)


def _build_linear_svm(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    return LinearSVC(**params, class_weight=class_weight, random_state=seed, max_iter=10_000)


def _build_logreg(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    return LogisticRegression(**params, class_weight=class_weight, random_state=seed, max_iter=2_000)


def _build_knn(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    _check_no_class_weight("knn", class_weight)
    return KNeighborsClassifier(**params, n_jobs=-1)


def _build_lda(params: Params, *, seed: int, class_weight: str | None) -> BaseEstimator:
    _check_no_class_weight("lda", class_weight)
    shrinkage = None if params["shrinkage"] == "none" else params["shrinkage"]
    return LinearDiscriminantAnalysis(solver="svd" if shrinkage is None else "lsqr", shrinkage=shrinkage)


def _check_no_class_weight(model: str, class_weight: str | None) -> None:
    if class_weight is not None:
        raise FeatxError(f"{model} takes no class weights: leave it out", parameter="class_weight")


MODELS: dict[str, Model] = {
    "rf": Model(
        grid=default_grid("rf"),
        build=_build_rf,
        is_scaled=False,
    ),
    "svm": Model(grid=default_grid("svm"), build=_build_svm),
    "svm-large": Model(grid=default_grid("svm") | {"C": (0.001, 0.01, 0.1, 1.0, 10.0)}, build=_build_large_svm),
    "linear-svm": Model(grid=default_grid("linear-svm"), build=_build_linear_svm),
    "logreg": Model(grid=default_grid("logreg"), build=_build_logreg),
    "knn": Model(grid=default_grid("knn"), build=_build_knn),
    "lda": Model(grid=default_grid("lda"), build=_build_lda),
}
"""Classifiers by the names that `featx fit` uses. svm-large replaces svm where Gram matrices don't fit into memory. An
axis without values has scikit-learn's default."""


def plan_cells(model: str, grid: Mapping[str, Sequence], discretize: str) -> list[CellPlan]:
    """List (discretization, parameters) of every cell, in the order of the grid's axes.

    The default values of an SVM's C over 10 are used for the RBF kernel only; other lists are used as they are.

    Raises
    ------
    FeatxError
        If the model, the discretization or an axis is unknown, an axis has no values or a number out of its range, or
        there are more cells than `MOST_CELLS`.

    Examples
    --------
    >>> plan_cells("svm", {"kernel": ["linear"], "C": [1, 10]}, "ternary")
    [('ternary', {'kernel': 'linear', 'C': 1}), ('ternary', {'kernel': 'linear', 'C': 10})]
    """
    for parameter, name, known in (("model", model, MODELS), ("discretize", discretize, DISCRETIZATIONS)):
        if name not in known:
            raise FeatxError(f"expected one of {', '.join(known)}, found {name!r}", parameter=parameter)
    axes = MODELS[model].grid
    grid = without_numpy(grid)
    for name, values in grid.items():
        if name not in axes:
            raise FeatxError(f"{model} has no parameter {name!r}; there are {', '.join(axes)}")
        if isinstance(values, str) or not isinstance(values, Collection):
            raise FeatxError(f"expected a list of values, found {values!r}", parameter=name)
        # No values mean scikit-learn's default where the axis has none by default.
        if not len(values) and axes[name]:
            raise FeatxError("no values. Give some, or leave it out for its default", parameter=name)
        for value in values:
            _check_number(model, name, value)
    values_of = {name: tuple(grid.get(name, default)) for name, default in axes.items()}
    values_of = {name: values for name, values in values_of.items() if values}
    n_cells = len(DISCRETIZATIONS[discretize]) * prod(map(len, values_of.values()))
    if n_cells > MOST_CELLS:
        raise FeatxError(f"a grid of {n_cells:,} cells: expected {MOST_CELLS:,} or fewer. Give fewer values")
    is_default_C = values_of.get("C") == MODELS["svm"].grid["C"] and "kernel" in axes
    cells: dict[tuple, CellPlan] = {}
    for step in DISCRETIZATIONS[discretize]:
        for values in product(*values_of.values()):
            params = dict(zip(values_of, values, strict=True))
            if params.get("kernel") == "linear":
                # The linear kernel has no gamma: such cells would all be the same.
                del params["gamma"]
            if is_default_C and params["C"] > _MOST_C and not (model == "svm" and params["kernel"] == "rbf"):
                continue
            cells.setdefault((step, *params.items()), (step, params))
    return list(cells.values())


def _check_number(model: str, name: str, value: object) -> None:
    """Raise an error for a number out of its axis's range, or a word where a number is expected; None is allowed."""
    axis = AXES.get(model, {}).get(name)
    if axis is not None and axis.kind is not str and value is not None and axis.take(value) is None:
        raise FeatxError(f"expected {axis.expected}, found {value!r}", parameter=name)


def check_cells(cells: Sequence[CellPlan], n_fit: int) -> None:
    """Raise an error for a cell with more neighbours than `n_fit`, the fewest rows that cells are fitted on."""
    most = max((params.get("n_neighbors", 0) for _, params in cells), default=0)
    if most > n_fit:
        raise FeatxError(
            f"expected {n_fit} or less, found {most}: some cells are fitted on {n_fit} rows. Give smaller numbers",
            parameter="n_neighbors",
        )


def make_estimator(
    model: str, discretize: str, params: Mapping[str, object], *, seed: int = 0, class_weight: str | None = None
) -> Pipeline:
    """Build the scikit-learn pipeline of one cell."""
    steps: list[tuple[str, BaseEstimator]] = []
    if discretize == "ternary":
        steps.append(("discretize", TernaryDiscretizer()))
    elif MODELS[model].is_scaled:
        steps.append(("standardise", StandardScaler()))
    return Pipeline([*steps, ("classifier", MODELS[model].build(dict(params), seed=seed, class_weight=class_weight))])
