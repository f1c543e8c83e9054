"""Compare runs on the same test rows, or on the same random splits: scores, costs, differences."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from featx.errors import FeatxError
from featx.images import list_paths
from featx.results.folder import put_back, read_run
from featx.results.metrics import accuracy_interval
from featx.results.predictions import align_predictions
from featx.results.record import Run
from featx.results.repeats import RECORD, RepeatedRun, format_mean, read_repeats
from featx.results.saved import SavedRun
from featx.results.tables import cells_table, format_params, format_weight
from featx.system import is_file

FEWEST_FOR_CHI_SQUARE = 25
"""From this many rows that only one of two runs gets right, chi-square replaces the exact test."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes
    ----------
    name : str
        Its folder's name; the whole path if two runs share a name.
    model : str
        For a fine-tuned network "fine-tuned" and its backbone.
    discretize : str
    params : dict
        Of the chosen cell; for a fine-tuned network its recipe, its stages in their order, and which of them was kept
        if it is not the last.
    accuracy : float
        The share of test rows that are right: every row counts the same, also if the run's own scores are weighted.
    accuracy_interval : list of two floats
        See `featx.results.accuracy_interval`; of the same rows.
    test_loss : float or None
        The log loss on record; None if the model gives no probabilities, or the record's scores are weighted.
    training_seconds : float
        Of all cells or stages, and of the last fit, without the network that made the features.
    predict_seconds, n_parameters : float or None, int or None
        See `featx.results.Run`.
    """

    name: str
    model: str
    discretize: str
    params: dict[str, object]
    accuracy: float
    accuracy_interval: list[float]
    test_loss: float | None
    training_seconds: float
    predict_seconds: float | None
    n_parameters: int | None


@dataclass(frozen=True)
class Pair:
    """A run compared with the first run.

    Attributes
    ----------
    first, second : str
        Names of runs.
    difference : float
        Share of rows that the second gets right, minus the first's.
    n_first_only, n_second_only : int
        Rows that one gets right and the other wrong.
    p_value : float
        Of McNemar's test: how often runs that are equally good would differ at least as much.
    method : str
        exact or chi-square.
    """

    first: str
    second: str
    difference: float
    n_first_only: int
    n_second_only: int
    p_value: float
    method: str


@dataclass(frozen=True)
class Comparison:
    """Runs on the same test rows.

    Attributes
    ----------
    n_rows : int
    runs : tuple of ComparedRun
        In the order that they were given.
    pairs : tuple of Pair
        Every other run compared with the first; p-values are not corrected for their number.
    notes : tuple of str
    """

    n_rows: int
    runs: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()


def compare_runs(paths: str | Path | Sequence[str | Path]) -> Comparison:
    """Compare runs that have scored the same test rows, each with the first.

    Parameters
    ----------
    paths : sequence of path
        Folders of two runs or more.

    Returns
    -------
    Comparison

    Raises
    ------
    FeatxError
        If a folder is no run, its predictions can't be read, or the runs differ in test rows, in their labels, or in
        the classes that they can predict.
    """
    folders = list_paths(paths)
    if len(folders) < 2:
        raise FeatxError(f"expected two runs or more, found {len(folders)}: featx compare results/a results/b")
    runs = [SavedRun(folder, name) for folder, name in zip(folders, name_runs(folders), strict=True)]
    first, *others = runs
    correct = [
        align_predictions(first.predictions, run.predictions, first.folder, run.folder)
        == first.predictions["label"].to_numpy()
        for run in runs
    ]
    for run in others:
        check_same_classes(first.run, run.run, set(first.predictions["label"]), first.folder, run.folder)
    summaries = [summarize_run(run.name, run.run, right) for run, right in zip(runs, correct, strict=True)]
    return Comparison(
        n_rows=len(first.predictions),
        runs=tuple(run for run, _ in summaries),
        pairs=tuple(
            pair_runs(first.name, run.name, correct[0], right) for run, right in zip(others, correct[1:], strict=True)
        ),
        notes=tuple(note for _, note in summaries if note),
    )


def mcnemar(n_first_only: int, n_second_only: int) -> tuple[float, str]:
    """Test whether two classifiers are equally good on the same rows: McNemar 1947, doi:10.1007/BF02295996.

    Only the rows that one of them gets right and the other wrong are used. Under 25 of them: the exact two-sided
    binomial test. From 25: chi-square of one degree of freedom with the correction for continuity of Edwards 1948,
    doi:10.1007/BF02289261. Returns the p-value, 1 without such rows, and the method.

    Examples
    --------
    >>> mcnemar(0, 4)
    (0.125, 'exact')
    """
    n_either = n_first_only + n_second_only
    if n_either == 0:
        return 1.0, "exact"
    if n_either < FEWEST_FOR_CHI_SQUARE:
        return float(stats.binomtest(n_first_only, n_either, 0.5).pvalue), "exact"
    # The correction never makes a difference negative.
    excess = max(0, abs(n_first_only - n_second_only) - 1)
    return float(stats.chi2.sf(excess**2 / n_either, df=1)), "chi-square"


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """Return a comparison for a screen: one row per run; the first row has no comparison with the first run.

    There is a column for discretization if a run has one, and for what at least one run has on record.
    """
    rows = []
    for run, pair in zip(comparison.runs, (None, *comparison.pairs), strict=True):
        low_high = run.accuracy_interval
        rows.append(
            {
                "run": run.name,
                "model": run.model,
                "discretize": run.discretize,
                "params": format_params(run.params),
                "test loss": run.test_loss,
                "test accuracy": run.accuracy,
                "95% interval": f"{low_high[0]:.4f} to {low_high[1]:.4f}",
                "difference": f"{pair.difference:+.4f}" if pair else "",
                "only this right": str(pair.n_second_only) if pair else "",
                "only first right": str(pair.n_first_only) if pair else "",
                "p (McNemar)": f"{pair.p_value:.2g}" if pair else "",
                "training seconds": run.training_seconds,
                "seconds / 1,000 images": run.predict_seconds,
                "parameters": f"{run.n_parameters:,}" if run.n_parameters is not None else None,
            }
        )
    table = pd.DataFrame(rows).dropna(axis="columns", how="all")
    return table.drop(columns="discretize") if (table["discretize"] == "none").all() else table


def cells_of_runs(paths: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Return every cell of every run in one table, whatever rows they were scored on.

    Parameters
    ----------
    paths : path, or sequence of path
        Folders of runs.

    Returns
    -------
    DataFrame
        The run's name, how many features it was fitted on, the number of folds that its validation scores are means
        of, and the column that its rows are weighted by; then the columns of `featx.results.cells_table`. A column that
        no run has is left out. Runs in the order given, each one's cells in the order of its grid.

    Raises
    ------
    FeatxError
        If a folder is no run.
    """
    folders = list_paths(paths)
    runs = [read_run(folder) for folder in folders]
    tables = []
    for name, run in zip(name_runs(folders), runs, strict=True):
        table = cells_table(run)
        table.insert(0, "run", name)
        # A fine-tuned network sees pixels, not the features of its store.
        table.insert(1, "features", None if run.is_finetuned else run.store.get("n_features"))
        # Means over folds, and weighted scores, are other measures.
        table.insert(2, "folds", run.protocol.get("cv"))
        table.insert(3, "weighted by", run.protocol.get("sample_weight"))
        tables.append(table.astype(object))
    # Columns of only some runs (a grid's axes, a stage) are empty in the others; results stay at the end.
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    last = ("validation", "deviation", "test", "seconds", "error", "chosen", "note")
    columns.sort(key=lambda name: last.index(name) if name in last else -1)
    return pd.concat(tables, ignore_index=True)[columns].dropna(axis="columns", how="all")


def name_runs(folders: Sequence[Path]) -> list[str]:
    """Return folders' names; the whole path if two share a name."""
    names = [folder.resolve().name for folder in folders]
    return [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)]


def summarize_run(name: str, run: Run, correct: np.ndarray) -> tuple[ComparedRun, str]:
    """Return a run as a comparison shows it, and a note if the scores of its record are of another measure.

    Parameters
    ----------
    name : str
    run : Run
    correct : ndarray of shape (n_rows,), bool
        True for the test rows that it gets right.
    """
    accuracy = float(np.mean(correct))
    note = note_other_measure(name, run, accuracy)
    described = ComparedRun(
        name=name,
        model=f"fine-tuned {run.store.get('backbone', 'network')}" if run.is_finetuned else run.model,
        discretize=run.best.discretize,
        params=_summarize_stages(run) if run.is_finetuned else run.best.params,
        accuracy=accuracy,
        accuracy_interval=accuracy_interval(correct),
        test_loss=None if note else (run.test or {}).get("log_loss"),
        training_seconds=round(sum(cell.seconds for cell in run.cells) + run.refit_seconds, 3),
        predict_seconds=run.predict_seconds,
        n_parameters=run.n_parameters,
    )
    return described, note


def note_other_measure(name: str, run: Run, accuracy: float) -> str:
    """Return a note if a run's own test scores are of another measure than its rows counted alike, else nothing.

    Parameters
    ----------
    name : str
    run : Run
    accuracy : float
        Share of the test rows that it gets right.
    """
    weighted = format_weight(run)
    recorded = (run.test or {}).get("accuracy", accuracy)
    if not weighted and abs(recorded - accuracy) < 1e-9:
        return ""
    return (
        f"{name}: the test accuracy in its run.json is {recorded:.4f}{weighted}; here every row counts the same, which "
        f"gives {accuracy:.4f}"
    )


def majority_rate(runs: Sequence[Run]) -> float | None:
    """Return the test accuracy of always answering the majority class, if runs agree in it; weighted ones don't count.

    Parameters
    ----------
    runs : sequence of Run
        Of the same test rows.
    """
    rates = [(run.test or {}).get("majority_class_rate") for run in runs if not format_weight(run)]
    known = [rate for rate in rates if rate is not None]
    return known[0] if known and max(known) - min(known) < 1e-9 else None


def list_unused_classes(run: Run, labels: Set[str]) -> list[str]:
    """Return the classes that a run can predict and that no test row has."""
    return sorted({str(name) for name in run.protocol.get("classes", ())} - labels)


def check_same_classes(first_run: Run, run: Run, labels: Set[str], first: Path, folder: Path) -> None:
    """Raise an error if one of two runs can predict more classes: it has more ways to be wrong.

    Parameters
    ----------
    first_run, run : Run
    labels : set of str
        Of the test rows.
    first, folder : path
        Their folders, for messages.

    Raises
    ------
    FeatxError
    """
    for one, other, only_in in ((first_run, run, first), (run, first_run, folder)):
        alone = sorted(set(list_unused_classes(one, labels)) - set(list_unused_classes(other, labels)))
        if alone:
            raise FeatxError(
                f"{first} and {folder}: not the same classes; {alone[0]!r}, which no test row is of, can only be "
                f"predicted by {only_in}. Compare runs that know the same classes"
            )


def _summarize_stages(run: Run) -> dict[str, object]:
    """Return recipe and stages in place of parameters, and the stage whose weights were kept if it is not the last."""
    stages = [str(cell.params["stage"]) for cell in run.cells]
    kept = {} if run.chosen == len(stages) - 1 else {"kept": stages[run.chosen]}
    return {"recipe": run.best.params["recipe"], "stages": ",".join(stages), **kept}


def pair_runs(first: str, second: str, first_correct: np.ndarray, second_correct: np.ndarray) -> Pair:
    """Compare two runs by which of the same rows each gets right.

    Parameters
    ----------
    first, second : str
        Their names.
    first_correct, second_correct : ndarray of shape (n_rows,), bool
    """
    n_first_only = int((first_correct & ~second_correct).sum())
    n_second_only = int((second_correct & ~first_correct).sum())
    p_value, method = mcnemar(n_first_only, n_second_only)
    return Pair(
        first=first,
        second=second,
        difference=(n_second_only - n_first_only) / len(first_correct),
        n_first_only=n_first_only,
        n_second_only=n_second_only,
        p_value=p_value,
        method=method,
    )


# Test scores that the table shows, if they are defined.
_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")


@dataclass(frozen=True)
class ComparedRepeats:
    """One run of random splits in a comparison.

    Attributes
    ----------
    name : str
        Its folder's name; the whole path if two runs share a name.
    model : str
    n_features : int or None
        None if it chose among runs with different features.
    n_splits : int
    validation : float or None
        Mean of the scores that the splits' cells were chosen by.
    choose_by : str
        The name of that score.
    weighted_by : str or None
        The column of weights that this score counts rows by.
    mean, deviation : dict of str to float
        Of the test scores, in which every row counts the same.
    difference : float or None
        Mean over the splits of the accuracy minus the first run's; None for the first, and for a run of other splits.
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
    """Return whether all of these folders contain runs of random splits.

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
        raise FeatxError(f"{one} is a run of random splits, {other} is none; compare them separately")
    return all(of_splits)


def compare_repeats(run_paths: Sequence[str | Path]) -> list[ComparedRepeats]:
    """Compare runs of random splits.

    Parameters
    ----------
    run_paths : sequence of path
        Folders that `featx.fit_repeats` or `featx.choose_among` has written.
    """
    paths = list_paths(run_paths)
    runs = [read_repeats(path) for path in paths]
    return [_summarize(name, run, runs[0]) for name, run in zip(name_runs(paths), runs, strict=True)]


def compared_repeats_table(compared: Sequence[ComparedRepeats]) -> pd.DataFrame:
    """Return a comparison for a screen: one row per run, scores as mean ± deviation over its splits."""
    rows = []
    for run in compared:
        scores = {f"test {name}": format_mean(name, run.mean, run.deviation) for name in _SHOWN if name in run.mean}
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
                **scores,
                "difference": "" if run.difference is None else f"{run.difference:+.4f}",
                "better on": better,
            }
        )
    return pd.DataFrame(rows).dropna(axis="columns", how="all").fillna("")


def _summarize(name: str, run: RepeatedRun, first: RepeatedRun) -> ComparedRepeats:
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
    """Return what makes splits the same; splits of unknown rows are like no others."""
    digest = object() if run.rows_sha256 is None else run.rows_sha256
    return digest, [(repeat.seed, repeat.n_train, repeat.n_test) for repeat in run.repeats]


def _accuracies(run: RepeatedRun) -> list[float]:
    return [repeat.test["accuracy"] for repeat in run.repeats]
