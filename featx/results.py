"""One run on disk: what was tried, what was chosen, how it did on the test rows, and the fitted model."""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError

FORMAT = 1

_FILES_OF_A_RUN = {
    *("run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv", "model.skops", "layers.csv"),
    *("repeats.json", "repeats.csv"),
}

_TEST_FIGURES = ("balanced_accuracy", "macro_f1", "mcc", "roc_auc", "log_loss")

# The only types beyond skops's own that a model of featx holds; any other is refused when a model is loaded.
TRUSTED_TYPES = (
    "featx.discretize.TernaryDiscretizer",
    "featx.large_svm.LargeSVC",
    "featx.svm.GramSVC",
    "sklearn.tree._tree.Tree",
)


@dataclass(frozen=True)
class Cell:
    """One combination of a grid.

    Attributes
    ----------
    discretize : str
        none or ternary.
    params : dict
        The classifier's parameters.
    validation_accuracy : float or None
        On the validation rows, or the mean over folds; None where there was nothing to choose, or the cell failed.
    validation_deviation : float or None
        Standard deviation over folds.
    seconds : float
        To fit and to score, over all folds; of what several cells share, a share.
    error : str or None
        What the cell failed with.
    validation_score : float or None
        What cells are chosen by, as validation_accuracy; the same number where the protocol says accuracy.
    """

    discretize: str
    params: dict[str, object]
    validation_accuracy: float | None
    validation_deviation: float | None
    seconds: float
    error: str | None = None
    validation_score: float | None = None


@dataclass(frozen=True)
class Run:
    """A grid that was fitted, chosen from, refitted and scored once.

    Attributes
    ----------
    model : str
        One of `featx.classifiers.MODELS`.
    store : dict
        The store's path and settings; `layers` and `n_features` are those fitted on, `store_layers` all of the store's.
    protocol : dict
        How cells were compared and by which score (choose_by), the seed, the classes, and how many rows each split has.
    cells : tuple of Cell
    chosen : int
        Which cell was refitted on all rows but the test rows: the best, the first of equals.
    test : dict or None
        See `featx.metrics.score`; None if the store has no test rows.
    refit_seconds : float
    versions : dict
        Of featx, scikit-learn and Python.
    created : str
        UTC, ISO 8601.
    notes : tuple of str
    peak_memory : int or None
        Of the process that fitted it, bytes.
    layers : tuple of dict
        What each layer gives, where it was asked for; see `featx.layerwise.score_layers`.
    """

    model: str
    store: dict[str, object]
    protocol: dict[str, object]
    cells: tuple[Cell, ...]
    chosen: int
    test: dict[str, float | list[float] | None] | None
    refit_seconds: float
    versions: dict[str, str]
    created: str
    notes: tuple[str, ...] = ()
    peak_memory: int | None = None
    layers: tuple[dict[str, str | int | float | None], ...] = ()

    @property
    def best(self) -> Cell:
        """The chosen cell."""
        return self.cells[self.chosen]


def check_free(run_path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is taken; only a run's own folder is ever replaced."""
    if not run_path.exists():
        return
    if not overwrite:
        raise FeatxError(f"{run_path}: exists. Give another --output, or --overwrite to replace it")
    names = {path.name for path in run_path.iterdir()} if run_path.is_dir() else {run_path.name}
    others = sorted(names - _FILES_OF_A_RUN)
    if others or not names & {"run.json", "repeats.json"}:
        what = f"holds {others[0]!r}" if others else "holds no run"
        raise FeatxError(f"{run_path}: {what}, so it is not replaced. Give another --output")


def write_run(
    run_path: Path,
    run: Run,
    *,
    predictions: pd.DataFrame,
    per_class: pd.DataFrame,
    confusion: pd.DataFrame,
    estimator: object,
    overwrite: bool = False,
) -> None:
    """Write a run's folder: all of it, or nothing.

    Parameters
    ----------
    run_path : path
    run : Run
        Goes to run.json, its cells to cells.csv too, and its layers, if it has any, to layers.csv.
    predictions, per_class, confusion : DataFrame
        Of the test rows.
    estimator : scikit-learn estimator
        Goes to model.skops.
    overwrite : bool, default False
        Replace a run that is there.
    """
    import skops.io

    with write_folder(run_path, overwrite=overwrite) as folder:
        record = {"featx_run": FORMAT} | asdict(run)
        (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        cells_table(run).to_csv(folder / "cells.csv", index=False)
        if run.layers:
            layers_table(run).to_csv(folder / "layers.csv", index=False)
        predictions.to_csv(folder / "predictions.csv", index=False)
        per_class.to_csv(folder / "per_class.csv")
        confusion.to_csv(folder / "confusion.csv")
        skops.io.dump(estimator, folder / "model.skops")


@contextmanager
def write_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Fill a folder beside its place and move it there whole; if anything fails, nothing has changed.

    Raises
    ------
    FeatxError
        If the folder is there and not to be replaced, or can't be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise FeatxError(f"{path}: this folder can't be made: {error.strerror}") from error
    try:
        yield temporary
        # mkdtemp's folders are for their owner alone; a run's is like any other.
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            replaced = temporary.with_name(temporary.name + ".old")
            path.rename(replaced)
            temporary.rename(path)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            temporary.rename(path)
    except OSError as error:
        raise FeatxError(f"{path}: writing failed ({error.strerror or error}); nothing was kept of this run") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_run(run_path: str | Path) -> Run:
    """Read a run's record.

    Raises
    ------
    FeatxError
        If there is none, or it is of a newer format.
    """
    path = Path(run_path) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record.pop("featx_run")
        if version > FORMAT:
            raise FeatxError(f"{path}: a run of format {version}; this featx reads up to {FORMAT}: upgrade featx")
        # Runs from before there was a choice were all chosen by accuracy.
        record["protocol"].setdefault("choose_by", "accuracy")
        cells = tuple(Cell(**{"validation_score": cell["validation_accuracy"], **cell}) for cell in record.pop("cells"))
        sequences = {name: tuple(record.get(name, ())) for name in ("notes", "layers")}
        return Run(**{**record, "cells": cells, **sequences})
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such run; expected a folder that featx fit has written") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeatxError(f"{path}: not a record of a run: {error!r}") from error


def load_model(run_path: str | Path) -> object:
    """Load a run's fitted estimator; a file that holds any type featx doesn't write is refused before it is built."""
    import skops.io

    path = Path(run_path) / "model.skops"
    try:
        untrusted = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
        if untrusted:
            raise FeatxError(
                f"{path}: holds {sorted(untrusted)[0]}, which no model of featx has: don't trust this file"
            )
        return skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except FileNotFoundError as error:
        raise FeatxError(f"{path}: no such model") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise FeatxError(f"{path}: damaged, or no model of featx: {error}") from error


def cells_table(run: Run) -> pd.DataFrame:
    """Return the cells as a table: a column a parameter; the test accuracy stands with the chosen cell only.

    `validation` and `deviation` are of the accuracy; what cells were chosen by stands beside them where it is another.
    """
    names = list(dict.fromkeys(name for cell in run.cells for name in cell.params))
    choose_by = run.protocol.get("choose_by", "accuracy")
    rows: list[dict[str, object]] = []
    for row, cell in enumerate(run.cells):
        is_chosen = row == run.chosen
        rows.append(
            {
                "model": run.model,
                "discretize": cell.discretize,
                **{name: cell.params.get(name) for name in names},
                "validation": cell.validation_accuracy,
                "deviation": cell.validation_deviation,
                **({} if choose_by == "accuracy" else {f"validation {choose_by}": cell.validation_score}),
                "test": run.test["accuracy"] if is_chosen and run.test else None,
                "seconds": cell.seconds,
                "error": cell.error,
                "chosen": "*" if is_chosen else "",
            }
        )
    table = pd.DataFrame(rows)
    return table.dropna(axis="columns", how="all")


def layers_table(run: Run) -> pd.DataFrame:
    """Return a line a layer, with the figures that were asked for; NaN where there is none."""
    table = pd.DataFrame(list(run.layers))
    figures = [name for name in table.columns if name not in ("layer", "n_features")]
    return table.astype(dict.fromkeys(figures, float))


def describe_test(run: Run) -> str:
    """Return the test figures in a line."""
    if run.test is None:
        return "no test rows: no test accuracy"
    interval = run.test.get("accuracy_interval")
    bounds = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
    others = [
        f"{name.replace('_', ' ')} {run.test[name]:.4f}" for name in _TEST_FIGURES if run.test.get(name) is not None
    ]
    return (
        f"test accuracy {run.test['accuracy']:.4f}{bounds} on {run.protocol['n_test']:,} images "
        f"(always the majority class: {run.test['majority_class_rate']:.4f}); {', '.join(others)}"
    )


def format_table(table: pd.DataFrame) -> str:
    """Lay out a table for a screen: accuracies with four decimals, seconds with one."""
    import tabulate

    text = {name: [_format_value(value, _decimals(name)) for value in column] for name, column in table.items()}
    return tabulate.tabulate(text, headers="keys", tablefmt="github", disable_numparse=True)


def _decimals(column: str) -> str:
    if column.startswith(("validation", "deviation", "test", "alone", "cumulative", "without", "importance")):
        return "{:.4f}"
    return "{:.1f}" if column == "seconds" else "{:g}"


def _format_value(value: object, number: str) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return number.format(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def describe_params(params: Mapping[str, object]) -> str:
    """Return `kernel=rbf C=10` and the like."""
    return " ".join(f"{name}={_format_value(value, '{:g}')}" for name, value in params.items())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
