"""Stage 2 again and again: random splits, a choice within each one's train rows, and the spread of the test figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.cell_scores import ScoredShare
from featx.grid_edges import describe_edges
from featx.journal import Journal, journal_of_shard, take_up_shards
from featx.progress import progress_bar
from featx.repeated import Repeat, RepeatedRun, summarise, write_repeats
from featx.repeats_task import RepeatsTask, plan_repeats
from featx.results import check_free
from featx.shards import Shard

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster


def fit_repeats(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    n_repeats: int,
    test_share: float = 0.2,
    train_per_class: int | None = None,
    stratify: str | Sequence[str] = ("label",),
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int = 5,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
    drop_duplicates: bool = False,
    seed: int = 0,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
) -> RepeatedRun:
    """Split at random, choose a cell by cross-validation within the train rows, score it once; and again.

    The store's own splits play no part. Split r is drawn with the seed `seed` + r: scikit-learn's `train_test_split`,
    or whole groups where the store has a group column. A call that was stopped goes on from its last finished split.

    Parameters
    ----------
    store_path, model, output, grid, layers, discretize, label, where, sample_weight, class_weight, drop_duplicates
        As of `featx.fit_grid`.
    n_repeats : int
    test_share : float, default 0.2
    train_per_class : int, optional
        So many train rows of every class, all others to test on; test_share and stratify are then of no account.
    stratify : str or sequence of str, default ("label",)
        Columns whose shares every split keeps; empty for none. Whole groups keep them as closely as they can.
    cv : int, default 5
        Folds that the choice is made by.
    choose_by : str, default "accuracy"
        As of `featx.fit_grid`: a mean over these folds.
    seed : int, default 0
        Of the first split.
    cluster : Cluster, optional
        Workers that fit the splits, each one's cells on one worker; default: this process.
    overwrite, progress
        As of `featx.fit_grid`.

    Returns
    -------
    RepeatedRun
        As written to `output`: repeats.json, and repeats.csv with a line a split.

    Raises
    ------
    FeatxError
        If the store has nothing to fit, its rows can't be split so, the cell to score fails, the score to choose by
        can't be had of the store or the model, or the output is taken.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    task = plan_repeats(
        *(store_path, model),
        n_repeats=n_repeats,
        test_share=test_share,
        train_per_class=train_per_class,
        stratify=stratify,
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
    n_repeats = task.protocol["n_repeats"]
    task.check(range(n_repeats))
    journal = Journal(_journal_path(output), task.identity(), Repeat)
    share_notes = take_up_shards(journal)
    _fit_splits(task, journal, range(n_repeats), cluster=cluster, progress=progress)
    repeats = tuple(journal.records[number,] for number in range(n_repeats))
    notes = (*task.notes, *share_notes, *_notes_on_shares(task, repeats), *_notes_on_choices(task, repeats))
    figures = summarise(repeats)
    run = RepeatedRun(task.model, task.store, task.protocol, repeats, *figures, notes, task.digest_draws())
    write_repeats(output, run)
    journal.remove()
    return run


def _notes_on_choices(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Say which edge of the grid most choices are at, so that it may have to reach further, and what else is noted."""
    edges: Counter[str] = Counter()
    for repeat in repeats:
        chosen = task.cells.index((repeat.discretize, repeat.params))
        most = {"n_neighbors": repeat.n_train - repeat.n_train // task.protocol["cv"]}
        edges.update(describe_edges(task.model, task.cells, chosen, most | {"max_features": task.rows.X.shape[1]}))
    notes = [(count, edge) for edge, count in edges.items() if 2 * count > len(repeats)]
    notes += [
        (count, f"the chosen cell {note}") for note, count in Counter(repeat.note for repeat in repeats).items() if note
    ]
    return [f"in {count:,} of {len(repeats):,} random splits {note}" for count, note in notes]


def repeat_share(
    store_path: str | Path, model: str, output: str | Path, *, shard: Shard, progress: bool = False, **options: object
) -> ScoredShare:
    """Fit one share of the random splits, and leave their figures in a journal beside the output.

    Parameters
    ----------
    store_path, model, output, progress, **options
        As of `fit_repeats`, which takes the figures up.
    shard : Shard
    """
    task = plan_repeats(store_path, model, **options)
    numbers = range(*shard.rows(task.protocol["n_repeats"]))
    task.check(numbers)
    path = journal_of_shard(_journal_path(Path(output)), shard)
    journal = Journal(path, task.identity(), Repeat)
    n_before = len(journal.records)
    _fit_splits(task, journal, numbers, progress=progress)
    return ScoredShare(str(path), len(numbers), len(journal.records) - n_before, task.notes)


def _fit_splits(
    task: RepeatsTask, journal: Journal, numbers: range, *, progress: bool, cluster: "Cluster | None" = None
) -> None:
    """Fit the splits that no earlier call has finished."""
    missing = [number for number in numbers if (number,) not in journal.records]
    initial = len(numbers) - len(missing)
    fitted = ((number, task.fit(number)) for number in missing)
    if cluster is not None:
        # Imported here: dask is an extra.
        from featx.cluster_fit import fit_splits_on

        fitted = fit_splits_on(cluster, task, missing)
    with progress_bar(len(numbers), initial=initial, wanted=progress, unit="split") as bar, journal:
        for number, repeat in fitted:
            journal.add((number,), repeat)
            bar.update()


def _notes_on_shares(task: RepeatsTask, repeats: Sequence[Repeat]) -> list[str]:
    """Say how far whole groups miss the test share, if by more than 2% of the rows, and more than one row."""
    if task.rows.groups is None:
        return []
    wanted = task.protocol["test_share"]
    n_rows = repeats[0].n_train + repeats[0].n_test
    n_test = [repeat.n_test for repeat in repeats]
    if max(abs(n - wanted * n_rows) for n in n_test) <= max(1, 0.02 * n_rows):
        return []
    return [
        f"whole groups miss the test share of {wanted:.0%}: random splits test on {min(n_test) / n_rows:.1%} to "
        f"{max(n_test) / n_rows:.1%} of the rows"
    ]


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.repeats.jsonl")
