"""Where a run's accuracy comes from: its chosen cell on each layer, on growing sets, without each, with each shuffled.

All figures are of the rows that choices may see, the validation rows or the folds', never of the test rows.
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
    """What to ask of every layer.

    Attributes
    ----------
    each_layer : bool
        How well it does alone, and together with the layers before it.
    leave_one_layer_out : bool
        How well the others do without it.
    importance : int
        How many times to shuffle it; 0 for not at all.
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
    """Refuse ablations that can't be answered.

    Parameters
    ----------
    ablations : LayerAblations
    selection : {"validation", "cv", "none"}
        How the run's cells are compared.
    layers : sequence of str
        The run's layers.

    Raises
    ------
    FeatxError
        If there are no rows to answer them on, no other layer to leave in, or a number of shuffles below 0.
    """
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
    """Answer ablations about every layer, with one cell's discretization and parameters.

    Parameters
    ----------
    model : str
        One of `featx.fit.MODELS`.
    cell : (discretization, parameters)
    rows : Rows
    folds : sequence of (rows to fit, rows to score)
    widths : mapping of str to int
        Layers and how many columns of `rows.X` each has, in their order, the network's.
    ablations : LayerAblations
    seed : int, default 0
        Of classifiers and shuffles.
    class_weight : {"balanced"}, optional
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    tuple of dict
        One a layer; empty if nothing was asked. layer, n_features; alone, cumulative: accuracy on this layer, and on
        it and all before it ("what if the softmax sat here"); without: on all others; importance,
        importance_deviation: what shuffling it costs the accuracy on all layers. Accuracies are weighted where rows
        have weights, and means over folds; importance is the mean over folds and shuffles, and its deviation the
        standard deviation over both. None where a fit failed.
    list of str
        Notes: what fits failed with, or that they did not converge.

    Notes
    -----
    Importance is the permutation importance of Breiman 2001 (doi:10.1023/A:1010933404324) with a layer's columns as one
    group: the classifier stays as it is, and the layer's values go to other rows, all columns by the same permutation.
    Shuffle k of fold f is the k-th ``permutation(n_score)`` of ``numpy.random.default_rng([seed, f])``, the same for
    every layer, so that layers differ by what they hold. Layers that say the same can stand in for each other, and each
    of them then shows little importance.

    gamma="scale" and max_features follow the columns of each subset, as in a pipeline of their own. SVMs add up each
    subset's Gram matrices from its layers' where all of these fit into memory, and make each subset's anew where they
    don't.
    """
    if not ablations:
        return (), []
    from tqdm import tqdm

    subsets = _plan_subsets(tuple(widths), ablations)
    asked = list(dict.fromkeys(subset for named in subsets.values() for subset in named.values()))
    scores: dict[Layers, list[CellScore]] = {subset: [] for subset in asked}
    drops: dict[str, list[float]] = {layer: [] for layer in widths}
    n_steps = len(asked) + (len(widths) if ablations.importance else 0)
    # disable=None: only where standard error is a terminal.
    with tqdm(total=len(folds) * n_steps, unit="layer set", disable=None if progress else True) as bar:
        for number, known in enumerate(folds):
            fold = tuple(map(rows.with_weight, known))
            layers = _open(_Task(model, cell, rows, fold, widths, seed, class_weight))
            for subset in asked:
                scores[subset].append(layers.score(subset))
                bar.update()
            if ablations.importance:
                rng = np.random.default_rng([seed, number])
                orders = [rng.permutation(len(fold[1])) for _ in range(ablations.importance)]
                for layer, found in layers.shuffle(orders):
                    drops[layer].extend(found)
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
    """Return, for every layer, which layers each of its figures is of."""
    subsets: dict[str, dict[str, Layers]] = {layer: {} for layer in layers}
    for place, layer in enumerate(layers):
        if ablations.each_layer:
            subsets[layer] |= {"alone": (layer,), "cumulative": layers[: place + 1]}
        if ablations.leave_one_layer_out:
            subsets[layer]["without"] = layers[:place] + layers[place + 1 :]
    return subsets


def _mean(scores: Sequence[CellScore]) -> float | None:
    accuracies = [found.accuracy for found in scores]
    return None if None in accuracies else float(np.mean(accuracies))


def _list_failures(
    subsets: Mapping[str, Mapping[str, Layers]], scores: Mapping[Layers, Sequence[CellScore]]
) -> Iterator[str]:
    for layer, named in subsets.items():
        for name, subset in named.items():
            remarks = [found.error or found.note for found in scores[subset] if found.error or found.note]
            if remarks:
                yield f"{layer}, {name}: {remarks[0]}"


def _open(task: _Task) -> "_LayerGrams | _LayerColumns":
    """Return what answers a fold's ablations: Gram matrices of an SVM's layers if they fit, else columns."""
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
        """Yield every layer, and what each of its shuffles costs."""
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
                # Products add up over columns, so those of a shuffled layer take the place of its own.
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
        """Return which columns are these layers', shape (n_features,), bool."""
        widths = self._task.widths
        return np.repeat([layer in layers for layer in widths], list(widths.values()))

    def score(self, layers: Layers) -> CellScore:
        """Score the cell on some layers."""
        task = self._task
        rows = replace(task.rows, X=task.rows.X[:, self._columns(layers)])
        options = {"seed": task.seed, "class_weight": task.class_weight}
        return dict(score_cells(task.model, [task.cell], rows, task.fold, **options))[0]

    def shuffle(self, orders: Sequence[np.ndarray]) -> Iterator[tuple[str, list[float]]]:
        """Yield every layer, and what each of its shuffles costs."""
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
