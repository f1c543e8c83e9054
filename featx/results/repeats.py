"""Write and read runs of random splits: their record, their table, their scores as text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from featx.errors import FeatxError
from featx.images import write_table
from featx.results.folder import put_back, write_folder
from featx.results.metrics import METRICS

FORMAT = 1


RECORD = "repeats.json"


@dataclass(frozen=True)
class Repeat:
    """One random split.

    Attributes
    ----------
    seed : int
        Seed of the split, its folds and its classifiers.
    n_train, n_test : int
        Without rows of weight 0.
    discretize : str
    params : dict
        Of the chosen cell.
    validation_accuracy : float or None
        Its mean over the folds of the train rows; None if there is one cell and nothing to choose.
    test : dict
        See `featx.results.score`; every row counts the same, but rows of weight 0 are left out.
    test_weighted : dict or None
        The same with the rows' weights.
    seconds : float
    validation_score : float or None
        The score that the cell was chosen by, as validation_accuracy.
    run : str or None
        Of several runs, the one that was chosen for this split; see `featx.fit.choose`.
    note : str or None
        Says that the chosen cell did not converge on all train rows.
    """

    seed: int
    n_train: int
    n_test: int
    discretize: str
    params: dict[str, object]
    validation_accuracy: float | None
    test: dict[str, object]
    test_weighted: dict[str, object] | None
    seconds: float
    validation_score: float | None = None
    run: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class RepeatedRun:
    """Random splits of one store, or of several that were chosen among.

    Attributes
    ----------
    model : str
    store, protocol : dict
    repeats : tuple of Repeat
    mean, deviation : dict of str to float
        Over the repeats, for each test score that is defined for all of them; the deviation is the sample's (n - 1),
        and there is none of one repeat.
    notes : tuple of str
    rows_sha256 : str or None
        Of what splits are drawn from: which rows are used and in which order, their labels, groups, weights, and what
        they are stratified by. None if that is not known.
    """

    model: str
    store: dict[str, object]
    protocol: dict[str, object]
    repeats: tuple[Repeat, ...]
    mean: dict[str, float]
    deviation: dict[str, float]
    notes: tuple[str, ...]
    rows_sha256: str | None = None


def read_repeats(run_path: str | Path) -> RepeatedRun:
    """Read the record of a run of random splits.

    Parameters
    ----------
    run_path : path
        A folder that `featx.fit_repeats` or `featx.choose_among` has written.

    Raises
    ------
    FeatxError
        If there is none, or it is of a newer format.
    """
    put_back(run_path)
    path = Path(run_path) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record.pop("featx_repeats")
        if version > FORMAT:
            raise FeatxError(f"{path}: a run of format {version}; this featx reads up to {FORMAT}: upgrade featx")
        repeats = tuple(Repeat(**entry) for entry in record["repeats"])
        run = RepeatedRun(**{**record, "repeats": repeats, "notes": tuple(record["notes"])})
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FeatxError(
            f"{path}: no such file; expected a folder that featx fit --repeats or featx choose has written"
        ) from error
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeatxError(f"{path}: not a record of random splits: {error!r}. Fit the run again") from error
    return run


def summarize_repeats(
    repeats: Sequence[Repeat], *, weighted: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Return mean and deviation of every test score that all repeats have; no deviations of one repeat.

    Parameters
    ----------
    repeats : sequence of Repeat
    weighted : bool, default False
        Take the scores with the rows' weights.
    """
    tests = [repeat.test_weighted if weighted else repeat.test for repeat in repeats]
    table = pd.DataFrame(tests)[list(METRICS)].dropna(axis="columns").astype(float)
    return table.mean().to_dict(), table.std(ddof=1).to_dict() if len(table) > 1 else {}


def format_mean(name: str, mean: Mapping[str, float], deviation: Mapping[str, float]) -> str:
    """Return a score's mean over random splits, with its deviation if there is one."""
    return f"{mean[name]:.4f}" + (f" ± {deviation[name]:.4f}" if name in deviation else "")


def repeats_table(run: RepeatedRun) -> pd.DataFrame:
    """Return one row per split: its seed, chosen parameters and scores."""
    choose_by = run.protocol.get("choose_by", "accuracy")
    return pd.DataFrame(
        {
            "seed": repeat.seed,
            **({} if repeat.run is None else {"run": repeat.run}),
            "discretize": repeat.discretize,
            **repeat.params,
            "validation": repeat.validation_accuracy,
            **({} if choose_by == "accuracy" else {f"validation {choose_by}": repeat.validation_score}),
            **{f"test {name}": repeat.test[name] for name in METRICS if repeat.test[name] is not None},
            "seconds": repeat.seconds,
            **({} if repeat.note is None else {"note": repeat.note}),
        }
        for repeat in run.repeats
    )


def format_repeats(run: RepeatedRun) -> str:
    """Return the scores' means and deviations as a line of text, the weighted ones next to the plain ones."""
    is_one = len(run.repeats) == 1
    splits = "1 random split" if is_one else f"{len(run.repeats)} random splits"
    means = "" if is_one else " (mean ± deviation)"
    text = f"{splits}, test {_list_means(run.mean, run.deviation)}"
    if run.protocol.get("sample_weight") and all(repeat.test_weighted for repeat in run.repeats):
        weighted = _list_means(*summarize_repeats(run.repeats, weighted=True))
        text += f"; weighted by {run.protocol['sample_weight']}: {weighted}"
    return text + means


def _list_means(mean: Mapping[str, float], deviation: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {format_mean(name, mean, deviation)}" for name in mean)


def write_repeats(output: Path, run: RepeatedRun) -> None:
    """Write repeats.json and repeats.csv into a folder of their own, and replace a run that is there."""
    with write_folder(output, overwrite=True) as folder:
        record = {"featx_repeats": FORMAT} | asdict(run)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_table(repeats_table(run), folder / "repeats.csv", index=False)
