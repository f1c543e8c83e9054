"""Fit a grid: score its cells on validation rows or folds, choose one, fit it again, and score it once."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.errors import FeatxError
from featx.fit.cells import NOT_CONVERGED, CellScore, convergence_noted, score_cells
from featx.fit.edges import format_edges
from featx.fit.journal import Journal, Key
from featx.fit.layerwise import LayerAblations, ablate_layers, check_ablations
from featx.fit.models import CellPlan, check_cells, make_estimator, plan_cells
from featx.fit.options import FitOptions, GridOptions
from featx.fit.refit import Refit, refit
from featx.fit.scoring import check_choice, choose_cell
from featx.fit.splits import make_folds
from featx.fit.task import ScoredShare, Task, plan_for_memory, read_stored_rows, score_all, score_share
from featx.results import Cell, Run, check_free, count_confusion, report_classes, score_columns, write_run
from featx.store import Fold, Rows, check_splits, notes_on_choices, notes_on_splits
from featx.system import Shard, now, peak_memory, takes

if TYPE_CHECKING:
    from featx.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class GridTask(Task):
    """A grid on a store; a unit is a cell on a fold, under (cell, fold).

    Attributes
    ----------
    selection : {"validation", "cv", "none"}
        How cells are compared; none where there is one cell and nothing to choose.
    widths : dict of str to int
        Features per layer.
    images_per_second : float or None
        As recorded in the store.
    """

    kind = "cells"
    record = CellScore
    unit = "cell"

    selection: str
    widths: dict[str, int] = field(default_factory=dict)
    images_per_second: float | None = None

    def folds(self) -> list[Fold]:
        """Return the rows to fit and to score, once for every time that cells are compared."""
        return _list_folds(self.rows, self.selection, self.options)

    def all_keys(self) -> list[Key]:
        """Return (cell, fold) of everything that is to be scored."""
        return [(cell, fold) for fold in range(len(self.folds())) for cell in range(len(self.cells))]

    def share(self, shard: Shard) -> list[Key]:
        """Return the keys of one share: neighbours in the grid may share a Gram matrix, and forests are not divided."""
        units: dict[object, list[Key]] = {}
        for cell, fold in sorted(self.all_keys(), key=lambda key: (key[1], self.cells[key[0]][0])):
            common = _without_own_axis(self.model, self.cells[cell]) if self.model == "rf" else cell
            units.setdefault((fold, common), []).append((cell, fold))
        first, end = shard.rows(len(units))
        return [key for unit in list(units.values())[first:end] for key in unit]

    def groups(self, keys: Sequence[Key], n_wanted: int) -> list[list[Key]]:
        """Keep together what shares a forest or a Gram matrix; each kernel has its own if that makes too few tasks."""
        for is_by_kernel in (False, True) if self.model == "svm" else (True,):
            groups: dict[object, list[Key]] = {}
            for cell, fold in keys:
                plan = self.cells[cell]
                common = _without_own_axis(self.model, plan) if is_by_kernel else plan[0]
                groups.setdefault((fold, common), []).append((cell, fold))
            if len(groups) >= n_wanted:
                break
        return list(groups.values())

    def score(self, keys: Sequence[Key]) -> Iterator[tuple[Key, CellScore]]:
        """Score cells on folds, and yield each key and score as soon as it is done."""
        for number, fold in enumerate(self.folds()):
            cells = [cell for cell, of_fold in keys if of_fold == number]
            plans = [self.cells[cell] for cell in cells]
            options = self.classifier_options | {"choose_by": self.options.choose_by}
            for index, score in score_cells(self.model, plans, self.rows, fold, **options):
                yield (cells[index], number), score

    def protocol(self) -> dict[str, object]:
        """Return what a run records of how its cells were chosen and scored."""
        names = ("cv", "seed", "class_weight", "label", "where", "sample_weight", "choose_by", "drop_duplicates")
        rows = self.rows
        return {
            "selection": self.selection,
            **{name: getattr(self.options, name) for name in names},
            "classes": sorted(set(rows.y[rows.with_weight(rows.of("train", "validation"))].tolist())),
            **{f"n_{split}": len(rows.with_weight(rows.of(split))) for split in ("train", "validation", "test")},
        }


def _without_own_axis(model: str, plan: CellPlan) -> object:
    """Return what is the same for cells that are fitted together: all but the size of a forest, or an SVM's C."""
    discretize, params = plan
    own = {"rf": "n_estimators", "svm": "C"}.get(model)
    return discretize, *sorted((name, str(value)) for name, value in params.items() if name != own)


def plan_grid(store_path: str | Path, model: str, options: FitOptions, *, worker_memory: int | None = None) -> GridTask:
    """Read what a grid needs from a store, and check that it can be fitted; see `choose_model` for `worker_memory`."""
    cells = plan_cells(model, options.grid or {}, options.discretize)
    stored = read_stored_rows(store_path, options)
    rows = stored.rows
    selection = check_grid(store_path, rows, model, cells, options)
    n_known, *n_scored = (
        len(rows.with_weight(rows.of(*splits))) for splits in (("train", "validation"), ("test",), ("validation",))
    )
    model, cells, notes = plan_for_memory(model, options, rows, n_known, max(n_scored), worker_memory=worker_memory)
    on_choices = notes_on_choices(rows) if selection == "validation" else []
    return GridTask(
        model=model,
        cells=cells,
        rows=rows,
        options=options,
        selection=selection,
        store=stored.record,
        notes=(*stored.notes, *on_choices, *notes),
        widths=stored.widths,
        images_per_second=stored.images_per_second,
    )


def check_grid(store_path: str | Path, rows: Rows, model: str, cells: list[CellPlan], options: FitOptions) -> str:
    """Raise an error for what can't be fitted, chosen or scored, before anything is computed.

    Parameters
    ----------
    store_path : path
        What a message begins with.
    rows : Rows
        With features or without.
    model : str
    cells : list of (discretization, parameters)
    options : FitOptions

    Returns
    -------
    str
        How cells are compared: validation, cv, or none.
    """
    check_splits(store_path, rows, options.where)
    selection = _choose_selection(store_path, rows, len(cells), options.cv)
    folds = _list_folds(rows, selection, options)
    fits = [fit for fit, _ in folds] or [rows.of("train", "validation")]
    check_cells(cells, min(len(rows.with_weight(fit)) for fit in fits))
    estimator = make_estimator(model, *cells[0], class_weight=options.class_weight)
    check_choice(options.choose_by, estimator, rows, folds)
    return selection


def _list_folds(rows: Rows, selection: str, options: FitOptions) -> list[Fold]:
    if selection == "cv":
        return make_folds(rows, rows.of("train", "validation"), options.cv, seed=options.seed)
    return [(rows.of("train"), rows.of("validation"))] if selection == "validation" else []


def _choose_selection(store_path: str | Path, rows: Rows, n_cells: int, cv: int | None) -> str:
    """Return how cells are compared; test rows are never used for it."""
    if cv is not None:
        return "cv"
    if len(rows.of("validation")):
        return "validation"
    if n_cells > 1:
        missing, remedy = "no validation rows", "extract with validation rows"
        if "validation" in rows.emptied:
            missing = f"{missing}: `drop_duplicates` has left them all out"
            remedy = "leave `drop_duplicates` out"
        raise FeatxError(
            f"{store_path}: {n_cells} cells to choose from and {missing}. Give `cv`, or {remedy}; test rows are never "
            "used to choose"
        )
    return "none"


@takes(GridOptions)
def fit_grid(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int | None = None,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
    each_layer: bool = False,
    leave_one_layer_out: bool = False,
    importance: int = 0,
    drop_duplicates: bool = False,
    seed: int = 0,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Run:
    """Fit every cell of a grid, choose the best, refit it on all rows but the test rows, score it there once.

    Cells are compared on the validation rows after fitting on the train rows, or by cross-validation over both. Forests
    use the features as they are, other classifiers standardised by the rows they are fitted on; or both discretized.
    A grid that was stopped resumes after its last finished cell when it is fitted to the same output again.

    Weights count in the classifier and in scores; means, deviations and thresholds of features are of all rows alike.
    Rows of weight 0 are left out, as if they did not exist, but splits and folds are drawn with them.

    Parameters
    ----------
    store_path : path
        A store with labels and splits.
    model : str
        One of `featx.fit.MODELS`: rf, svm, linear-svm, logreg, knn, lda.
    output : path
        The folder to write, one per run.
    {options}
    cluster : Cluster, optional
        Workers that score the cells; see `featx.cluster.open_cluster`. What follows the choice is done in this process.
    overwrite : bool, default False
        Replace an existing run.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Run
        As it was written to `output`.

    Raises
    ------
    FeatxError
        If the store has nothing to fit or to choose on, every cell or the chosen one fails, the score to choose by is
        not defined for the rows or the model, or the output exists.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    options = FitOptions.make(
        grid=grid,
        layers=layers,
        discretize=discretize,
        cv=cv,
        choose_by=choose_by,
        label=label,
        where=where,
        sample_weight=sample_weight,
        class_weight=class_weight,
        drop_duplicates=drop_duplicates,
        seed=seed,
    )
    task = plan_grid(store_path, model, options, worker_memory=None if cluster is None else cluster.memory_each())
    ablations = LayerAblations(each_layer, leave_one_layer_out, importance)
    check_ablations(ablations, task.selection, list(task.widths))
    journal, share_notes = score_all(task, output, cluster=cluster, progress=progress)
    run, best = _choose_and_refit(task, journal, ablations, share_notes, progress=progress)
    rows = task.rows
    test = rows.with_weight(rows.of("test"))
    y_test = rows.y[test].astype(str)
    labels = {"path": rows.paths[test], "label": y_test, "predicted": best.predicted}
    write_run(
        output,
        run,
        predictions=pd.DataFrame(labels | score_columns(best.estimator.classes_, **best.scores)),
        per_class=report_classes(y_test, best.predicted),
        confusion=count_confusion(y_test, best.predicted),
        estimator=best.estimator,
        overwrite=overwrite,
    )
    journal.remove()
    return run


def _choose_and_refit(
    task: GridTask, journal: Journal, ablations: LayerAblations, share_notes: Sequence[str], *, progress: bool
) -> tuple[Run, Refit]:
    """Choose a cell by its scores, ablate layers, fit the cell again and score it on the test rows."""
    rows, folds, options = task.rows, task.folds(), task.classifier_options
    cells = [_summarize(plan, cell, len(folds), journal) for cell, plan in enumerate(task.cells)]
    chosen = (
        choose_cell([cell.validation_score for cell in cells], task.options.choose_by, cells[0].error) if folds else 0
    )
    most = {"n_neighbors": min((len(rows.with_weight(fit)) for fit, _ in folds), default=0)}
    cells[chosen] = _note_edges(task.model, cells, chosen, most | {"max_features": rows.X.shape[1]})
    layers, layer_notes = ablate_layers(
        task.model, task.cells[chosen], rows, folds, task.widths, ablations, **options, progress=progress
    )
    with convergence_noted() as noted:
        best = refit(task.model, task.cells[chosen], rows, **options)
    refit_notes = [f"the chosen cell {note} when it was fitted on train and validation rows together" for note in noted]
    split_notes = notes_on_splits(rows, folds if task.selection == "cv" else ())
    run = Run(
        model=task.model,
        store=task.store,
        protocol=task.protocol(),
        cells=tuple(cells),
        chosen=chosen,
        test=best.test,
        refit_seconds=round(best.seconds, 3),
        peak_memory=peak_memory(),
        versions={
            "featx": featx.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        created=now(),
        notes=(*task.notes, *share_notes, *split_notes, *layer_notes, *refit_notes),
        layers=layers,
        n_parameters=best.n_parameters,
        predict_seconds=_time_labels(best, task.images_per_second),
    )
    return run, best


def fit_share(
    store_path: str | Path, model: str, output: str | Path, *, shard: Shard, progress: bool = False, **options: Any
) -> ScoredShare:
    """Score one share of a grid's cells, and leave the scores in a journal next to the output.

    `fit_grid` with the same arguments reads the journals of all shares, scores what is missing, and writes the run.

    Parameters
    ----------
    store_path, model, output, progress, **options
        As of `fit_grid`: what is fitted, and how cells are compared.
    shard : Shard

    Raises
    ------
    FeatxError
        As `fit_grid`.
    """
    return score_share(plan_grid(store_path, model, FitOptions(**options)), Path(output), shard, progress=progress)


def _summarize(plan: CellPlan, cell: int, n_folds: int, journal: Journal) -> Cell:
    """Make one record of a cell's scores on all folds."""
    scores = [journal.records[cell, fold] for fold in range(n_folds)]
    errors = [score.error for score in scores if score.error is not None]
    accuracies = [score.accuracy for score in scores if score.accuracy is not None]
    is_whole = bool(scores) and not errors
    return Cell(
        discretize=plan[0],
        params=plan[1],
        validation_accuracy=float(np.mean(accuracies)) if is_whole else None,
        validation_deviation=float(np.std(accuracies)) if is_whole and n_folds > 1 else None,
        seconds=round(sum(score.seconds for score in scores), 3),
        error=errors[0] if errors else None,
        validation_score=float(np.mean([score.score for score in scores])) if is_whole else None,
        note=_note_convergence([score.note for score in scores]),
    )


def _note_convergence(notes: Sequence[str | None]) -> str | None:
    n_noted, n_folds = sum(note is not None for note in notes), len(notes)
    if not n_noted:
        return None
    return NOT_CONVERGED if n_folds == 1 else f"{NOT_CONVERGED} in {n_noted} of {n_folds} folds"


def _note_edges(model: str, cells: Sequence[Cell], chosen: int, most: Mapping[str, int]) -> Cell:
    """Return the chosen cell with a note on where the grid may have to reach further."""
    plans, scores = [(cell.discretize, cell.params) for cell in cells], [cell.validation_score for cell in cells]
    edges = format_edges(model, plans, chosen, most, scores=scores)
    best = cells[chosen]
    return replace(best, note="; ".join([*([best.note] if best.note else []), *edges]) or None)


def _time_labels(best: Refit, images_per_second: float | None) -> float | None:
    """Return seconds from a thousand files to labels, if both the network's part and the classifier's are known."""
    if best.predict_seconds is None or images_per_second is None:
        return None
    return round(best.predict_seconds + 1000 / images_per_second, 3)
