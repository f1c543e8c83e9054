"""The scores of a grid's cells: kept in a journal as they come, all of them in one process or a share in each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.classifiers import CellPlan
from featx.fitting import CellScore, score_cells
from featx.grid_task import GridTask
from featx.journal import Journal, Key, journal_of_shard, take_up_shards
from featx.progress import progress_bar
from featx.shards import Shard

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster


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
    from featx.cluster_fit import score_on

    return score_on(cluster, task, keys)


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.cells.jsonl")
