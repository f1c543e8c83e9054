"""Fit a grid: score its cells, keep the scores in a journal, choose one, refit it, and score it once."""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import sklearn

import featx
from featx.errors import FeatxError
from featx.fit.cells import NOT_CONVERGED, CellScore, convergence_noted, score_cells
from featx.fit.edges import describe_edges
from featx.fit.journal import Journal, Key, journal_of_shard, take_up_shards
from featx.fit.layerwise import LayerQuestions, check_questions, score_layers
from featx.fit.models import CellPlan
from featx.fit.refit import Refit, refit
from featx.fit.task import GridTask, Protocol, plan_grid
from featx.results import Cell, Run, check_free, count_confusion, report_classes, score_columns, signed_score, write_run
from featx.store import Rows, notes_on_splits
from featx.system import Shard, peak_memory, progress_bar, without_numpy

if TYPE_CHECKING:
    from featx.cluster import Cluster


@dataclass(frozen=True)
class ScoredShare:
    """What a share of a grid, or of random splits, has been scored.

    Attributes
    ----------
    journal_path : str
        Where the scores are; the run without a shard takes them up.
    n_units, n_scored : int
        Cells times folds (or random splits) of this share, and how many of them this call has scored.
    notes : tuple of str
        What the run will have to say.
    """

    journal_path: str
    n_units: int
    n_scored: int
    notes: tuple[str, ...] = ()


def score_all(
    task: GridTask, output: Path, *, cluster: "Cluster | None" = None, progress: bool = False
) -> tuple[Journal, list[str]]:
    """Score every cell on every fold that no earlier, stopped call has scored it on, and no share.

    Parameters
    ----------
    task : GridTask
    output : Path
    cluster : Cluster, optional
        Whose workers do it; default: this process.
    progress : bool, default False

    Returns
    -------
    journal : Journal
        With a record under every (cell, fold).
    notes : list of str
        What shares were not taken up.
    """
    journal = Journal(_journal_path(output), task.identity(), CellScore)
    notes = take_up_shards(journal)
    _score(task, journal, all_keys(task), cluster=cluster, progress=progress)
    return journal, notes


def score_share(task: GridTask, output: Path, shard: Shard, *, progress: bool = False) -> ScoredShare:
    """Score one share of the cells, and leave the scores in a journal beside the output.

    Cells that share a forest are never divided.
    """
    path = journal_of_shard(_journal_path(output), shard)
    journal = Journal(path, task.identity(), CellScore)
    keys = share_of(task, shard)
    n_before = len(journal.records)
    _score(task, journal, keys, progress=progress)
    return ScoredShare(str(path), len(keys), len(journal.records) - n_before, task.notes)


def all_keys(task: GridTask) -> list[Key]:
    """Return (cell, fold) of everything that is to be scored."""
    return [(cell, fold) for fold in range(len(task.folds())) for cell in range(len(task.cells))]


def share_of(task: GridTask, shard: Shard) -> list[Key]:
    """Return (cell, fold) of one share: neighbours in the grid, since they may have a Gram matrix in common."""
    units: dict[object, list[Key]] = {}
    for cell, fold in sorted(all_keys(task), key=lambda key: (key[1], task.cells[key[0]][0])):
        units.setdefault((fold, _unit_of(task.model, task.cells[cell], cell)), []).append((cell, fold))
    first, end = shard.rows(len(units))
    return [key for unit in list(units.values())[first:end] for key in unit]


def _unit_of(model: str, plan: CellPlan, cell: int) -> object:
    """Return what is the same for cells that are fitted together."""
    if model != "rf":
        return cell
    discretize, params = plan
    return discretize, *sorted((name, str(value)) for name, value in params.items() if name != "n_estimators")


def _score(
    task: GridTask, journal: Journal, keys: Iterable[Key], *, progress: bool, cluster: "Cluster | None" = None
) -> None:
    task.check_choice()
    keys = list(keys)
    missing = [key for key in keys if key not in journal.records]
    with progress_bar(len(keys), initial=len(keys) - len(missing), wanted=progress, unit="cell") as bar, journal:
        for key, found in _score_here(task, missing) if cluster is None else _score_there(cluster, task, missing):
            journal.add(key, found)
            bar.update()


def _score_here(task: GridTask, keys: Sequence[Key]) -> Iterator[tuple[Key, CellScore]]:
    options = task.options() | {"choose_by": task.protocol.choose_by}
    for number, fold in enumerate(task.folds()):
        cells = [cell for cell, of_fold in keys if of_fold == number]
        plans = [task.cells[cell] for cell in cells]
        for place, found in score_cells(task.model, plans, task.rows, fold, **options):
            yield (cells[place], number), found


def _score_there(cluster: "Cluster", task: GridTask, keys: Sequence[Key]) -> Iterator[tuple[Key, CellScore]]:
    # Imported here: dask is an extra.
    from featx.fit.distributed import score_on

    return score_on(cluster, task, keys)


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.cells.jsonl")


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
    see the features as they are, other classifiers standardised on the rows they are fitted on; or both discretized.
    A grid that was stopped goes on from its last finished cell when it is fitted to the same output again.

    Parameters
    ----------
    store_path : path
        A store with labels and splits.
    model : str
        One of `featx.fit.MODELS`: rf, svm, linear-svm, logreg, knn, lda.
    output : path
        The folder to write, one a run.
    grid : mapping of str to sequence, optional
        Values of scikit-learn's parameters; those left out stand at the model's defaults. gamma counts for every kernel
        but linear.
    layers : str, default "all"
        Names and sets of the store's layers, separated by commas; see `featx.networks.choose_layers`.
    discretize : {"none", "ternary", "both"}, default "none"
        See `featx.TernaryDiscretizer`; "both" makes it an axis of the grid.
    cv : int, optional
        Number of folds; stratified, and grouped where the store has a group column.
    choose_by : {"accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"}, default "accuracy"
        The score that says which cell is best, as `featx.results.score` defines it, on the validation rows or the mean
        over folds, weighted where rows have weights.
    label, where, sample_weight : str, optional
        Columns of the store, and an expression over them; see `featx.store.rows.read_rows`. Weights count in the
        classifier and in scores; means, deviations and thresholds of features are of all rows alike. Rows of weight 0
        are left out, as if they were not there: of the fits, of what comes before (means, thresholds), of balanced
        class weights of scores, tables and counts. Splits and folds are drawn with them.
    class_weight : {"balanced"}, optional
        Lets every class weigh the same.
    each_layer, leave_one_layer_out : bool, default False
        Score the chosen cell on every layer by itself and on every layer with those before it, or without each layer,
        on the rows that it was chosen on; see `featx.fit.layerwise`.
    importance : int, default 0
        Shuffle every layer so many times, and say how much accuracy that costs.
    drop_duplicates : bool, default False
        Leave out images of identical files, but no test images; see `featx.store.rows.find_duplicates`.
    seed : int, default 0
        Of classifiers, folds and bootstrap.
    cluster : Cluster, optional
        Workers that score the cells; see `featx.cluster.open_cluster`. What follows the choice is done here. Default:
        this process.
    overwrite : bool, default False
        Replace a run that is there.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Run
        As it was written to `output`.

    Raises
    ------
    FeatxError
        If the store has nothing to fit or to choose on, every cell or the one to score fails, the score to choose by
        can't be had of the store or the model, or the output is taken.
    """
    check_free(Path(output), overwrite=overwrite)
    task = plan_grid(
        *(store_path, model),
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
        worker_memory=None if cluster is None else cluster.memory_each(),
    )
    model, rows, options = task.model, task.rows, task.options()
    questions = LayerQuestions(each_layer, leave_one_layer_out, without_numpy(importance))
    check_questions(questions, task.protocol.selection, list(task.widths))
    journal, share_notes = score_all(task, Path(output), cluster=cluster, progress=progress)
    fitted = tuple(_summarise(plan, cell, len(task.folds()), journal) for cell, plan in enumerate(task.cells))
    chosen = _choose(fitted, choose_by)
    most = {"n_neighbors": min((len(rows.with_weight(fit)) for fit, _ in task.folds()), default=0)}
    most |= {"max_features": rows.X.shape[1]}
    fitted = _note_edges(model, fitted, chosen, most)
    figures, layer_notes = score_layers(
        model, task.cells[chosen], rows, task.folds(), task.widths, questions, **options, progress=progress
    )
    with convergence_noted() as noted:
        best = refit(model, task.cells[chosen], rows, **options)
    by_folds = task.folds() if task.protocol.selection == "cv" else ()
    run = Run(
        model=model,
        store=task.store,
        protocol=_describe_protocol(task.protocol, rows),
        cells=fitted,
        chosen=chosen,
        test=best.test,
        refit_seconds=round(best.seconds, 3),
        peak_memory=peak_memory(),
        versions={
            "featx": featx.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(
            *task.notes,
            *share_notes,
            *notes_on_splits(rows, by_folds),
            *layer_notes,
            *map(_describe_refit, noted),
        ),
        layers=figures,
        n_parameters=best.n_parameters,
        predict_seconds=_time_labels(best, task.images_per_second),
    )
    test = rows.with_weight(rows.of("test"))
    y_test = rows.y[test].astype(str)
    labels = {"path": rows.paths[test], "label": y_test, "predicted": best.predicted}
    write_run(
        Path(output),
        run,
        predictions=pd.DataFrame(labels | score_columns(best.estimator.classes_, **best.scores)),
        per_class=report_classes(y_test, best.predicted),
        confusion=count_confusion(y_test, best.predicted),
        estimator=best.estimator,
        overwrite=overwrite,
    )
    journal.remove()
    return run


def fit_share(
    store_path: str | Path, model: str, output: str | Path, *, shard: Shard, progress: bool = False, **options: object
) -> ScoredShare:
    """Score one share of a grid's cells, and leave the scores in a journal beside the output.

    `fit_grid` with the same arguments takes the journals of all shares up, scores what is missing, and writes the run.

    Parameters
    ----------
    store_path, model, output, progress, **options
        As of `fit_grid`, from `grid` to `class_weight`, `drop_duplicates` and `seed`.
    shard : Shard

    Raises
    ------
    FeatxError
        As `fit_grid`.
    """
    task = plan_grid(store_path, model, **options)
    return score_share(task, Path(output), shard, progress=progress)


def _summarise(plan: CellPlan, cell: int, n_folds: int, journal: Journal) -> Cell:
    """Make one record of a cell's scores on all folds."""
    scores = [journal.records[cell, fold] for fold in range(n_folds)]
    errors = [found.error for found in scores if found.error is not None]
    accuracies = [found.accuracy for found in scores if found.accuracy is not None]
    chosen_by = [found.score for found in scores if found.score is not None]
    is_whole = bool(scores) and not errors
    return Cell(
        discretize=plan[0],
        params=plan[1],
        validation_accuracy=float(np.mean(accuracies)) if is_whole else None,
        validation_deviation=float(np.std(accuracies)) if is_whole and n_folds > 1 else None,
        seconds=round(sum(found.seconds for found in scores), 3),
        error=errors[0] if errors else None,
        validation_score=float(np.mean(chosen_by)) if is_whole else None,
        note=_note_convergence([found.note for found in scores]),
    )


def _note_convergence(notes: Sequence[str | None]) -> str | None:
    n_noted, n_folds = sum(note is not None for note in notes), len(notes)
    if not n_noted:
        return None
    return NOT_CONVERGED if n_folds == 1 else f"{NOT_CONVERGED} in {n_noted} of {n_folds} folds"


def _note_edges(model: str, cells: tuple[Cell, ...], chosen: int, most: Mapping[str, int]) -> tuple[Cell, ...]:
    """Say of the chosen cell where the grid may have to reach further."""
    plans, scores = [(cell.discretize, cell.params) for cell in cells], [cell.validation_score for cell in cells]
    edges = describe_edges(model, plans, chosen, most, scores=scores)
    best = cells[chosen]
    best = replace(best, note="; ".join([*([best.note] if best.note else []), *edges]) or None)
    return (*cells[:chosen], best, *cells[chosen + 1 :])


def _describe_refit(note: str) -> str:
    return f"the chosen cell {note} when it was fitted on train and validation rows together"


def _choose(cells: Sequence[Cell], choose_by: str) -> int:
    """Return the number of the best cell, the first of equals."""
    usable = [number for number, cell in enumerate(cells) if cell.error is None]
    if not usable:
        raise FeatxError(f"every cell failed; the first with {cells[0].error}. Give other values")
    return max(usable, key=lambda number: (signed_score(cells[number].validation_score or 0.0, choose_by), -number))


def _describe_protocol(protocol: Protocol, rows: Rows) -> dict[str, object]:
    return asdict(protocol) | {
        "classes": sorted(set(rows.y[rows.with_weight(rows.of("train", "validation"))].tolist())),
        **{f"n_{split}": len(rows.with_weight(rows.of(split))) for split in ("train", "validation", "test")},
    }


def _time_labels(best: Refit, images_per_second: float | None) -> float | None:
    """Return seconds from a thousand files to labels, if both the network's part and the classifier's are known."""
    if best.predict_seconds is None or images_per_second is None:
        return None
    return round(best.predict_seconds + 1000 / images_per_second, 3)
