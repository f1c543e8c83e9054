"""Grids and random splits on a cluster: the matrix goes to every worker once, and tasks name what to fit on it."""

from collections.abc import Callable, Iterator, Sequence

from featx.cluster import Cluster
from featx.fit.cells import CellScore, score_cells
from featx.fit.journal import Key
from featx.fit.models import CellPlan
from featx.fit.repeats import RepeatsTask
from featx.fit.task import GridTask
from featx.results import Repeat

# Tasks for each worker, so that all end at about the same time.
_TASKS_A_WORKER = 2


def score_on(cluster: Cluster, task: GridTask, keys: Sequence[Key]) -> Iterator[tuple[Key, CellScore]]:
    """Score cells on folds by a cluster's workers, and yield each (cell, fold) and its score as they come.

    Parameters
    ----------
    cluster : Cluster
    task : GridTask
        Sent to every worker once.
    keys : sequence of (cell, fold)
        What is to be scored.

    Raises
    ------
    FeatxError
        As `featx.fit.cells.score_cells` and `featx.cluster.Cluster.share`.
    """
    groups = group_keys(task, keys, _TASKS_A_WORKER * cluster.n_workers)
    for _, scores in cluster.share(score_group, task, [(group,) for group in groups]):
        yield from scores


def score_group(task: GridTask, keys: Sequence[Key], *, echo: Callable[[str], None]) -> list[tuple[Key, CellScore]]:
    """Score cells that have much in common, all on one fold, on a worker."""
    cells, fold = [cell for cell, _ in keys], keys[0][1]
    plans = [task.cells[cell] for cell in cells]
    options = task.options() | {"choose_by": task.protocol.choose_by}
    found = score_cells(task.model, plans, task.rows, task.folds()[fold], **options)
    return [((cells[place], fold), score) for place, score in found]


def fit_splits_on(cluster: Cluster, task: RepeatsTask, numbers: Sequence[int]) -> Iterator[tuple[int, Repeat]]:
    """Fit random splits, a task each, and yield each one's number and figures as they come."""
    for place, repeat in cluster.share(fit_split, task, [(number,) for number in numbers]):
        yield numbers[place], repeat


def fit_split(task: RepeatsTask, number: int, *, echo: Callable[[str], None]) -> Repeat:
    """Fit one random split on a worker."""
    return task.fit(number)


def group_keys(task: GridTask, keys: Sequence[Key], n_wanted: int) -> list[list[Key]]:
    """Divide what is to be scored into tasks: what shares a forest or a Gram matrix stays together.

    A Gram matrix serves all SVMs of a fold; where that makes too few tasks, each kernel makes its own.

    Parameters
    ----------
    task : GridTask
    keys : sequence of (cell, fold)
    n_wanted : int
        Tasks that would keep all workers busy.
    """
    for common in (_same_gram, _same_kernel) if task.model == "svm" else (_same_kernel,):
        groups: dict[object, list[Key]] = {}
        for cell, fold in keys:
            groups.setdefault((fold, common(task.model, task.cells[cell])), []).append((cell, fold))
        if len(groups) >= n_wanted:
            break
    return list(groups.values())


def _same_gram(model: str, plan: CellPlan) -> object:
    return plan[0]


def _same_kernel(model: str, plan: CellPlan) -> object:
    """Return what cells have in common that are fitted together: all but how large a forest is, or C."""
    discretize, params = plan
    own = {"rf": "n_estimators", "svm": "C"}.get(model)
    return discretize, *sorted((name, str(value)) for name, value in params.items() if name != own)
