"""Runs of random splits side by side: each one's figures, and on the same splits how far it is from the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.compare import name_runs
from featx.errors import FeatxError
from featx.folders import is_file, list_paths
from featx.repeated import RECORD, RepeatedRun, describe_mean, read_repeats
from featx.results import put_back

# Test figures that the table shows, where they are defined.
_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")


@dataclass(frozen=True)
class ComparedRepeats:
    """One run of random splits in a comparison.

    Attributes
    ----------
    name : str
        Its folder's name; the whole path where two runs share a name.
    model : str
    n_features : int or None
        None where runs with other features were chosen among.
    n_splits : int
    validation : float or None
        Mean of the scores that the splits' cells were chosen by.
    choose_by : str
        Which score that is.
    weighted_by : str or None
        The column of weights that this score counts rows by.
    mean, deviation : dict of str to float
        Of the test figures, in which every row counts the same.
    difference : float or None
        Mean over the splits of the accuracy less the first run's; None for the first, and for a run of other splits.
    n_better, n_worse : int or None
        Splits on which its accuracy is above the first run's, and below.
    """

    name: str
    model: str
    n_features: int | None
    n_splits: int
    validation: float | None
    choose_by: str
    weighted_by: str | None
    mean: dict[str, float]
    deviation: dict[str, float]
    difference: float | None
    n_better: int | None
    n_worse: int | None


def are_repeats(run_paths: Sequence[str | Path]) -> bool:
    """Return whether all of these folders hold runs of random splits.

    Raises
    ------
    FeatxError
        If some do and others don't.
    """
    run_paths = list_paths(run_paths)
    for path in run_paths:
        put_back(path)
    of_splits = [is_file(path / RECORD) for path in run_paths]
    if any(of_splits) and not all(of_splits):
        one, other = run_paths[of_splits.index(True)], run_paths[of_splits.index(False)]
        raise FeatxError(f"{one} is a run of random splits, {other} is none; compare them apart")
    return all(of_splits)


def compare_repeats(run_paths: Sequence[str | Path]) -> list[ComparedRepeats]:
    """Set runs of random splits side by side.

    Parameters
    ----------
    run_paths : sequence of path
        Folders that `featx.fit_repeats` or `featx.choose_among` has written.
    """
    paths = list_paths(run_paths)
    runs = [read_repeats(path) for path in paths]
    return [_describe(name, run, runs[0]) for name, run in zip(name_runs(paths), runs, strict=True)]


def compared_repeats_table(compared: Sequence[ComparedRepeats]) -> pd.DataFrame:
    """Return a comparison for a screen: a row a run, figures as mean ± deviation over its splits."""
    rows = []
    for run in compared:
        figures = {f"test {name}": describe_mean(name, run.mean, run.deviation) for name in _SHOWN if name in run.mean}
        weighted = f", weighted by {run.weighted_by}" if run.weighted_by else ""
        validation = None if run.validation is None else f"{run.validation:.4f} ({run.choose_by}{weighted})"
        better = "" if run.n_better is None else f"{run.n_better} of {run.n_splits}"
        rows.append(
            {
                "run": run.name,
                "model": run.model,
                "features": None if run.n_features is None else f"{run.n_features:,}",
                "splits": run.n_splits,
                "validation": validation,
                **figures,
                "difference": "" if run.difference is None else f"{run.difference:+.4f}",
                "better on": better,
            }
        )
    return pd.DataFrame(rows).dropna(axis="columns", how="all").fillna("")


def _describe(name: str, run: RepeatedRun, first: RepeatedRun) -> ComparedRepeats:
    scores = [repeat.validation_score for repeat in run.repeats]
    differences = None
    if run is not first and _draws(run) == _draws(first):
        differences = np.subtract(_accuracies(run), _accuracies(first))
    return ComparedRepeats(
        name=name,
        model=run.model,
        n_features=run.store.get("n_features"),
        n_splits=len(run.repeats),
        validation=None if None in scores else float(np.mean(scores)),
        choose_by=run.protocol["choose_by"],
        weighted_by=run.protocol.get("sample_weight"),
        mean=run.mean,
        deviation=run.deviation,
        difference=None if differences is None else float(differences.mean()),
        n_better=None if differences is None else int((differences > 0).sum()),
        n_worse=None if differences is None else int((differences < 0).sum()),
    )


def _draws(run: RepeatedRun) -> tuple[object, ...]:
    """Return what makes splits the same; a record without a digest has none like it."""
    digest = object() if run.rows_sha256 is None else run.rows_sha256
    return digest, [(repeat.seed, repeat.n_train, repeat.n_test) for repeat in run.repeats]


def _accuracies(run: RepeatedRun) -> list[float]:
    return [repeat.test["accuracy"] for repeat in run.repeats]
