"""Declare the options of fits, and the axes of every classifier's grid."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from featx.system import Names, Options, Range, Seed, Values, option, options_of


@dataclass(frozen=True, kw_only=True)
class FitOptions(Options):
    """What is fitted, and how cells are compared."""

    grid: dict[str, Any] | None = option(
        None, "Lists of values by scikit-learn's names of parameters.", unset="the model's own for those left out"
    )
    layers: Names = option(
        "all", "Layers of the store: names and sets, with commas; conv:std for one pooling of these."
    )
    discretize: Literal["none", "ternary", "both"] = option(
        "none", "Map features to -1, 0 and 1 by thresholds learned from the rows fitted on; both: an axis of the grid."
    )
    cv: Annotated[int, Range(2, 10_000)] | None = option(
        None,
        "Number of folds to choose by, instead of the validation rows; stratified, and grouped where the store has a "
        "group column.",
        unset="none; 5 with random splits",
    )
    choose_by: Literal["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"] = option(
        "accuracy", "Score that decides which cell is best, on validation rows or as the mean over folds."
    )
    label: str = option("label", "Column of the labels.")
    where: str | None = option(None, "Condition that chooses the rows to use, such as 'type == \"mono\"'.")
    sample_weight: str | None = option(None, "Column of the rows' weights; rows of weight 0 are left out.")
    class_weight: Literal["balanced"] | None = option(None, "Give every class the same total weight.")
    drop_duplicates: bool = option(False, "Leave out images of identical files; all test images stay.")
    seed: Seed = option(0, "Seed of classifiers, folds and the first random split.")

    @property
    def columns(self) -> dict[str, str | bool | None]:
        """Which rows of a store are used, as arguments of `featx.store.read_rows`."""
        return {name: getattr(self, name) for name in ("label", "where", "sample_weight", "drop_duplicates")}


@dataclass(frozen=True, kw_only=True)
class GridOptions(FitOptions):
    """What `featx.fit_grid` is asked for."""

    each_layer: bool = option(False, "Score the chosen cell on each layer alone, and on each with those before it.")
    leave_one_layer_out: bool = option(False, "Score the chosen cell without each layer.")
    importance: Annotated[int, Range(0, 10_000)] = option(
        0, "Number of times that each layer is shuffled, to measure the accuracy that this costs; 0: not at all."
    )


OF_ONE_SPLIT = tuple(name for name in options_of(GridOptions) if name not in options_of(FitOptions))
"""Options that have no meaning with random splits."""


@dataclass(frozen=True, kw_only=True)
class RepeatOptions(FitOptions):
    """What `featx.fit_repeats` is asked for."""

    cv: Annotated[int, Range(2, 10_000)] = option(5, "Number of folds of the train rows to choose by.")
    n_repeats: Annotated[int, Range(1, 10_000)] = option(
        help="Number of random splits, used instead of the store's own split.", flag="repeats"
    )
    test_share: Annotated[float, Range(0, 1, above=True, below=True)] = option(
        0.2, "Share of test rows in a random split."
    )
    train_per_class: Annotated[int, Range(1)] | None = option(
        None, "Number of train rows per class in a random split, in place of shares; all other rows are test rows."
    )
    stratify: tuple[str, ...] = option(
        ("label",), "Columns whose shares a random split keeps; empty for none.", metavar="TEXT"
    )


OF_REPEATS = tuple(name for name in options_of(RepeatOptions) if name not in options_of(FitOptions))
"""Options that have a meaning only with random splits."""


@dataclass(frozen=True, kw_only=True)
class ForestGrid(Options):
    """Random forests: --n-estimators 50,100 --min-samples-leaf 2,7,20."""

    n_estimators: tuple[Annotated[int, Range(1)], ...] = option((50,), "Number of trees.")
    min_samples_leaf: tuple[Annotated[int, Range(1)], ...] = option((2,), "Fewest rows per leaf.")
    max_features: tuple[Annotated[int | float | Literal["sqrt", "log2"], Range(0, 1, above=True, counts=True)], ...] = (
        option(
            ("sqrt",), "Features that a split looks at: sqrt or log2 of their number, a share (0.1), or a count (100)."
        )
    )
    max_depth: tuple[Annotated[int, Range(1)], ...] = option((), "Greatest depth of a tree.", unset="no limit")


Strength = Annotated[float, Range(0, above=True)]


@dataclass(frozen=True, kw_only=True)
class SvmGrid(Options):
    """Support vector machines: --kernel linear,rbf --C 0.001,0.01,1,10."""

    kernel: tuple[Literal["linear", "rbf"], ...] = option(("linear", "rbf"), "linear, rbf.")
    C: tuple[Strength, ...] = option(
        (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0),
        "Inverse strength of regularization. By default, the linear kernel takes it up to 10.",
    )
    gamma: tuple[Annotated[float | Literal["scale", "auto"], Range(0, above=True)], ...] = option(
        ("scale",), "Coefficient of the RBF kernel."
    )


@dataclass(frozen=True, kw_only=True)
class LinearGrid(Options):
    """Linear SVMs, one class against the rest (LinearSVC): the full-network embedding's own classifier, with --C 1."""

    C: tuple[Strength, ...] = option((0.0001, 0.001, 0.01, 0.1, 1.0), "Inverse strength of regularization.")


@dataclass(frozen=True, kw_only=True)
class LogisticGrid(LinearGrid):
    """Logistic regression."""


@dataclass(frozen=True, kw_only=True)
class NeighborsGrid(Options):
    """Nearest neighbours."""

    n_neighbors: tuple[Annotated[int, Range(1)], ...] = option((1, 5, 15), "Number of neighbours that vote.")
    weights: tuple[Literal["uniform", "distance"], ...] = option(("uniform",), "uniform, distance.")
    metric: tuple[Literal["euclidean", "cosine"], ...] = option(("euclidean",), "euclidean, cosine.")


@dataclass(frozen=True, kw_only=True)
class DiscriminantGrid(Options):
    """Linear discriminant analysis."""

    shrinkage: tuple[Annotated[float | Literal["auto", "none"], Range(0, 1)], ...] = option(
        ("auto",),
        "Shrinkage of the covariance: auto (Ledoit and Wolf), none, or a share. Memory grows with the square of the "
        "number of features.",
    )


GRIDS: dict[str, type[Options]] = {
    "rf": ForestGrid,
    "svm": SvmGrid,
    "linear-svm": LinearGrid,
    "logreg": LogisticGrid,
    "knn": NeighborsGrid,
    "lda": DiscriminantGrid,
}
"""The axes of a grid by the names that `featx fit` takes; each axis has scikit-learn's name."""


AXES: dict[str, dict[str, Values]] = {
    model: {name: axis.values for name, axis in options_of(grid).items()} for model, grid in GRIDS.items()
}
"""The values of each axis, by model and by scikit-learn's name."""


def default_grid(model: str) -> dict[str, tuple]:
    """Return the values of a model's axes that are used where none are given; none: scikit-learn's own default."""
    return {name: axis.default for name, axis in options_of(GRIDS[model]).items()}
