"""Stage 2 again and again: random splits, a choice within each one's train rows, and the spread of the test figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from featx.cell_scores import ScoredShare
from featx.journal import Journal, journal_of_shard, take_up_shards
from featx.progress import progress_bar
from featx.repeats_task import Repeat, RepeatsTask, plan_repeats
from featx.results import check_free, write_folder
from featx.shards import Shard

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc", "log_loss")

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster


@dataclass(frozen=True)
class RepeatedRun:
    """Random splits of one store.

    Attributes
    ----------
    model : str
    store, protocol : dict
    repeats : tuple of Repeat
    mean, deviation : dict of str to float
        Of each test figure over the repeats where it is defined; the deviation is the sample's.
    notes : tuple of str
    """

    model: str
    store: dict[str, object]
    protocol: dict[str, object]
    repeats: tuple[Repeat, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    notes: tuple[str, ...]


def fit_repeats(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    n_repeats: int,
    test_share: float = 0.2,
    stratify: Sequence[str] = ("label",),
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int = 5,
    choose_by: str = "accuracy",
    label: str = "label",
    where: str | None = None,
    sample_weight: str | None = None,
    class_weight: str | None = None,
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
    store_path, model, output, grid, layers, discretize, label, where, sample_weight, class_weight, overwrite, progress
        As of `featx.fit_grid`.
    n_repeats : int
    test_share : float, default 0.2
    stratify : sequence of str, default ("label",)
        Columns whose shares every split keeps; empty for none. Whole groups keep them as closely as they can.
    cv : int, default 5
        Folds that the choice is made by.
    choose_by : str, default "accuracy"
        As of `featx.fit_grid`: a mean over these folds.
    seed : int, default 0
        Of the first split.
    cluster : Cluster, optional
        Workers that fit the splits, each one's cells on one worker; default: this process.

    Returns
    -------
    RepeatedRun
        As written to `output`: repeats.json, and repeats.csv with a line a split.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    task = plan_repeats(
        *(store_path, model),
        n_repeats=n_repeats,
        test_share=test_share,
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
        seed=seed,
    )
    journal = Journal(_journal_path(output), task.identity(), Repeat)
    share_notes = take_up_shards(journal)
    _fit_splits(task, journal, range(n_repeats), cluster=cluster, progress=progress)
    repeats = tuple(journal.records[number,] for number in range(n_repeats))
    notes = (*task.notes, *share_notes)
    run = RepeatedRun(task.model, task.store, task.protocol, repeats, *_summarise(repeats), notes)
    _write(output, run)
    journal.remove()
    return run


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
    path = journal_of_shard(_journal_path(Path(output)), shard)
    journal = Journal(path, task.identity(), Repeat)
    numbers, n_before = range(*shard.rows(task.protocol["n_repeats"])), len(journal.records)
    _fit_splits(task, journal, numbers, progress=progress)
    return ScoredShare(str(path), len(numbers), len(journal.records) - n_before)


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


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.repeats.jsonl")


def _summarise(repeats: Sequence[Repeat]) -> tuple[dict[str, float], dict[str, float]]:
    """Return mean and deviation of every figure that is defined for all repeats."""
    table = pd.DataFrame([repeat.test for repeat in repeats])[list(FIGURES)].dropna(axis="columns").astype(float)
    deviation = table.std(ddof=1) if len(table) > 1 else table.std(ddof=0)
    return table.mean().to_dict(), deviation.to_dict()


def repeats_table(run: RepeatedRun) -> pd.DataFrame:
    """Return a line a split: its seed, chosen parameters and figures."""
    choose_by = run.protocol.get("choose_by", "accuracy")
    return pd.DataFrame(
        {
            "seed": repeat.seed,
            "discretize": repeat.discretize,
            **repeat.params,
            "validation": repeat.validation_accuracy,
            **({} if choose_by == "accuracy" else {f"validation {choose_by}": repeat.validation_score}),
            **{f"test {name}": repeat.test[name] for name in FIGURES if repeat.test[name] is not None},
            "seconds": repeat.seconds,
        }
        for repeat in run.repeats
    )


def describe_repeats(run: RepeatedRun) -> str:
    """Return the figures' means and deviations in a line."""
    figures = [f"{name.replace('_', ' ')} {run.mean[name]:.4f} ± {run.deviation[name]:.4f}" for name in run.mean]
    return f"{len(run.repeats)} random splits, test {', '.join(figures)} (mean ± deviation)"


def _write(output: Path, run: RepeatedRun) -> None:
    with write_folder(output, overwrite=True) as folder:
        record = {"featx_repeats": 1} | asdict(run)
        (folder / "repeats.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        repeats_table(run).to_csv(folder / "repeats.csv", index=False)
