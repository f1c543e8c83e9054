"""Ablate layers: score the chosen cell on each layer, on growing sets, without each layer, and with each shuffled.

All figures are measured on the validation rows or the folds, never on the test rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featx.errors import FeatxError
from featx.fit.cells import CellScore, convergence_noted, fit_estimator, gram_memory, score_cells, score_svms
from featx.fit.estimators.gram import FoldGram, SharedGram, radial, sum_folds
from featx.fit.estimators.svm import solve
from featx.fit.models import CellPlan, make_estimator
from featx.fit.scoring import measure_accuracy
from featx.store import Fold, Rows

Layers = tuple[str, ...]


@dataclass(frozen=True)
class LayerAblations:
    """What to measure for every layer.

    Attributes
    ----------
    each_layer : bool
        Score the layer alone, and together with the layers before it.
    leave_one_layer_out : bool
        Score all layers but this one.
    importance : int
        How many times to shuffle the layer; 0 for not at all.
    """

    each_layer: bool = False
    leave_one_layer_out: bool = False
    importance: int = 0

    def __bool__(self) -> bool:
        return self.each_layer or self.leave_one_layer_out or self.importance > 0


@dataclass(frozen=True)
class _Task:
    """One cell on one fold."""

    model: str
    cell: CellPlan
    rows: Rows
    fold: Fold
    widths: Mapping[str, int]
    seed: int
    class_weight: str | None


def check_ablations(ablations: LayerAblations, selection: str, layers: Sequence[str]) -> None:
    """Raise an error for ablations without rows to score on, without another layer, or with fewer than 0 shuffles."""
    if ablations.importance < 0:
        raise FeatxError(f"expected 0 or more shuffles, found {ablations.importance}", parameter="importance")
    if ablations and selection == "none":
        raise FeatxError(
            "`each_layer`, `leave_one_layer_out` and `importance` are scored on validation rows, and there are none. "
            "Give `cv`, or extract with validation rows; test rows are never used for it"
        )
    if ablations.leave_one_layer_out and len(layers) < 2:
        raise FeatxError(f"{layers[0]} is the only layer; nothing would be left", parameter="leave_one_layer_out")


def ablate_layers(
    model: str,
    cell: CellPlan,
    rows: Rows,
    folds: Sequence[Fold],
    widths: Mapping[str, int],
    ablations: LayerAblations,
    *,
    seed: int = 0,
    class_weight: str | None = None,
    progress: bool = False,
) -> tuple[tuple[dict[str, str | int | float | None], ...], list[str]]:
    """Ablate every layer, with one cell's discretization and parameters.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cell : (discretization, parameters)
    rows : Rows
    folds : sequence of (rows to fit, rows to score)
    widths : mapping of str to int
        Layers, in the network's order, and how many columns of `rows.X` each has.
    ablations : LayerAblations
    seed : int, default 0
        Seed of classifiers and shuffles.
    class_weight : {"balanced"}, optional
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    tuple of dict
        One per layer; empty without ablations. layer, n_features; alone, cumulative: accuracy on this layer, and on it
        and all layers before it; without: on all other layers; importance, importance_deviation: the loss of accuracy
        on all layers when this one is shuffled. Accuracies are weighted where rows have weights, and means over folds;
        importance is the mean over folds and shuffles, and its deviation the standard deviation over both. None where
        a fit failed.
    list of str
        Notes: errors of fits, or that they did not converge.

    Notes
    -----
    Importance is the permutation importance of Breiman 2001 (doi:10.1023/A:1010933404324) with a layer's columns as one
    group: the classifier stays as it is, and the layer's values go to other rows, all columns by the same permutation.
    Shuffle k of fold f is the k-th ``permutation(n_score)`` of ``numpy.random.default_rng([seed, f])``, the same for
    every layer, so that layers differ by their content only. Layers with the same information can replace each other,
    and each of them then has little importance.

    gamma="scale" and max_features follow the columns of each subset, as in a pipeline of their own. SVMs add up each
    subset's Gram matrices from its layers' where all of these fit into memory, and compute each subset's otherwise.
    """
    if not ablations:
        return (), []
    from tqdm import tqdm

    subsets = _plan_subsets(tuple(widths), ablations)
    all_subsets = list(dict.fromkeys(subset for named in subsets.values() for subset in named.values()))
    scores: dict[Layers, list[CellScore]] = {subset: [] for subset in all_subsets}
    drops: dict[str, list[float]] = {layer: [] for layer in widths}
    n_steps = len(all_subsets) + (len(widths) if ablations.importance else 0)
    # disable=None: only where standard error is a terminal.
    with tqdm(total=len(folds) * n_steps, unit="layer set", disable=None if progress else True) as bar:
        for number, known in enumerate(folds):
            fold = tuple(map(rows.with_weight, known))
            layers = _open(_Task(model, cell, rows, fold, widths, seed, class_weight))
            for subset in all_subsets:
                scores[subset].append(layers.score(subset))
                bar.update()
            if ablations.importance:
                rng = np.random.default_rng([seed, number])
                orders = [rng.permutation(len(fold[1])) for _ in range(ablations.importance)]
                for layer, losses in layers.shuffle(orders):
                    drops[layer].extend(losses)
                    bar.update()
    figures = []
    for layer, named in subsets.items():
        figure = {"layer": layer, "n_features": widths[layer]}
        figure |= {name: _mean(scores[subset]) for name, subset in named.items()}
        if ablations.importance:
            figure |= {
                "importance": float(np.mean(drops[layer])),
                "importance_deviation": float(np.std(drops[layer])),
            }
        figures.append(figure)
    return tuple(figures), list(_list_failures(subsets, scores))


def _plan_subsets(layers: Layers, ablations: LayerAblations) -> dict[str, dict[str, Layers]]:
    """Return, for every layer and figure, the layers that the figure is measured on."""
    subsets: dict[str, dict[str, Layers]] = {layer: {} for layer in layers}
    for index, layer in enumerate(layers):
        if ablations.each_layer:
            subsets[layer] |= {"alone": (layer,), "cumulative": layers[: index + 1]}
        if ablations.leave_one_layer_out:
            subsets[layer]["without"] = layers[:index] + layers[index + 1 :]
    return subsets


def _mean(scores: Sequence[CellScore]) -> float | None:
    accuracies = [score.accuracy for score in scores]
    return None if None in accuracies else float(np.mean(accuracies))


def _list_failures(
    subsets: Mapping[str, Mapping[str, Layers]], scores: Mapping[Layers, Sequence[CellScore]]
) -> Iterator[str]:
    for layer, named in subsets.items():
        for name, subset in named.items():
            remarks = [score.error or score.note for score in scores[subset] if score.error or score.note]
            if remarks:
                yield f"{layer}, {name}: {remarks[0]}"


def _open(task: _Task) -> "_LayerGrams | _LayerColumns":
    """Return Gram matrices of an SVM's layers if they fit into memory, else the layers' columns."""
    if task.model == "svm":
        gram = SharedGram(task.rows.X, layers=task.widths, discretize=task.cell[0])
        # The layers' own, one sum of them, and one with a layer shuffled.
        needed = gram.predict_memory(*map(len, task.fold), n_folds=len(task.widths) + 2)
        if needed <= gram_memory():
            return _LayerGrams(task, gram.layer_folds(*task.fold))
    return _LayerColumns(task)


class _LayerGrams:
    """SVMs on sums of layers' Gram matrices."""

    def __init__(self, task: _Task, grams: Mapping[str, FoldGram]) -> None:
        self._task = task
        self._grams = grams

    def _sum(self, layers: Layers) -> FoldGram:
        grams = [self._grams[layer] for layer in layers]
        return grams[0] if len(grams) == 1 else sum_folds(grams)

    def score(self, layers: Layers) -> CellScore:
        """Score the cell on some layers."""
        task = self._task
        cells = {0: task.cell[1]}
        return dict(score_svms(self._sum(layers), cells, task.rows, task.fold, class_weight=task.class_weight))[0]

    def shuffle(self, orders: Sequence[np.ndarray]) -> Iterator[tuple[str, list[float]]]:
        """Yield every layer, and the loss of accuracy by each shuffle."""
        task = self._task
        fit, score = task.fold
        whole = self._sum(tuple(self._grams))
        kernel, C = task.cell[1]["kernel"], task.cell[1]["C"]
        gamma = None if kernel == "linear" else whole.gamma(task.cell[1]["gamma"])
        fit_kernel, score_kernel = whole.kernel(kernel, gamma)
        y, weights = task.rows.y[fit].astype(str), task.rows.weights_of(fit)
        svc, used = solve(fit_kernel, y, weights, C=C, class_weight=task.class_weight)
        base = measure_accuracy(task.rows, score, svc.predict(score_kernel[:, used]))
        squares = whole.fit.diagonal()
        for layer, own in self._grams.items():
            drops = []
            for order in orders:
                # Products add up over columns, so those of the shuffled layer replace its own.
                matrix = whole.score + (own.score[order] - own.score)
                if kernel == "rbf":
                    moved = own.score_squares[order] - own.score_squares
                    matrix = radial(matrix, whole.score_squares + moved, squares, gamma)
                drops.append(base - measure_accuracy(task.rows, score, svc.predict(matrix[:, used])))
            yield layer, drops


class _LayerColumns:
    """Any classifier on layers' columns."""

    def __init__(self, task: _Task) -> None:
        self._task = task

    def _columns(self, layers: Layers) -> np.ndarray:
        """Return a mask of these layers' columns, shape (n_features,)."""
        widths = self._task.widths
        return np.repeat([layer in layers for layer in widths], list(widths.values()))

    def score(self, layers: Layers) -> CellScore:
        """Score the cell on some layers."""
        task = self._task
        rows = replace(task.rows, X=task.rows.X[:, self._columns(layers)])
        options = {"seed": task.seed, "class_weight": task.class_weight}
        return dict(score_cells(task.model, [task.cell], rows, task.fold, **options))[0]

    def shuffle(self, orders: Sequence[np.ndarray]) -> Iterator[tuple[str, list[float]]]:
        """Yield every layer, and the loss of accuracy by each shuffle."""
        task = self._task
        fit, score = task.fold
        estimator = make_estimator(task.model, *task.cell, seed=task.seed, class_weight=task.class_weight)
        with convergence_noted():
            # The cell's own note says so.
            fit_estimator(estimator, task.rows, fit)
        if task.model == "rf":
            # Several threads add up a forest's trees in the order they come, which may change the last digit.
            estimator[-1].set_params(n_jobs=1)
        X = task.rows.X[score]
        base = measure_accuracy(task.rows, score, estimator.predict(X))
        for layer in task.widths:
            columns = self._columns((layer,))
            own = X[:, columns]
            drops = []
            for order in orders:
                X[:, columns] = own[order]
                drops.append(base - measure_accuracy(task.rows, score, estimator.predict(X)))
            X[:, columns] = own
            yield layer, drops
