"""Write and read the folder of one run: its record, its tables, and the fitted model or network."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from featx.errors import FeatxError, MissingRunError
from featx.images import write_table
from featx.results.record import Run
from featx.results.tables import cells_table, layers_table
from featx.system import put_folder_back as put_back, whole_folder

FORMAT = 1


NETWORK_FILE = "network.weights.h5"
"""The file with a fine-tuned run's weights, in place of a classifier's model.skops."""


_FILES_OF_A_RUN = {
    *("run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv", "model.skops", "layers.csv"),
    *("repeats.json", "repeats.csv"),
    *(NETWORK_FILE, "curves.csv", "recipe.yaml"),
}


def check_free(run_path: Path, *, overwrite: bool) -> None:
    """Raise an error if a run can't be written to this folder; only a run's own folder is ever replaced.

    Parameters
    ----------
    run_path : path
    overwrite : bool
        A run in this folder may be replaced.

    Raises
    ------
    FeatxError
    """
    put_back(run_path)
    try:
        if not run_path.exists():
            return
        if not overwrite:
            raise FeatxError(f"{run_path}: exists. Give another `output`, or `overwrite` to replace it")
        names = {path.name for path in run_path.iterdir()} if run_path.is_dir() else {run_path.name}
    except OSError as error:
        raise FeatxError(f"{run_path}: can't be written: {error.strerror or error}. Give another `output`") from error
    others = sorted(names - _FILES_OF_A_RUN)
    if others or not names & {"run.json", "repeats.json"}:
        what = f"contains {others[0]!r}" if others else "contains no run"
        raise FeatxError(f"{run_path}: {what}, so it is not replaced. Give another `output`")


def write_run(
    run_path: Path,
    run: Run,
    *,
    predictions: pd.DataFrame,
    per_class: pd.DataFrame,
    confusion: pd.DataFrame,
    estimator: object | None = None,
    add_files: Callable[[Path], object] | None = None,
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
    estimator : scikit-learn estimator, optional
        Goes to model.skops.
    add_files : callable, optional
        Receives the folder and writes further files into it: a fine-tuned network's.
    overwrite : bool, default False
        Replace a run that exists.
    """
    with write_folder(run_path, overwrite=overwrite) as folder:
        record = {"featx_run": FORMAT} | asdict(run)
        (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        write_table(cells_table(run), folder / "cells.csv", index=False)
        if run.layers:
            write_table(layers_table(run), folder / "layers.csv", index=False)
        write_table(predictions, folder / "predictions.csv", index=False)
        write_table(per_class, folder / "per_class.csv")
        write_table(confusion, folder / "confusion.csv")
        if estimator is not None:
            import skops.io

            skops.io.dump(estimator, folder / "model.skops")
        if add_files is not None:
            add_files(folder)


@contextmanager
def write_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder to fill, and rename it to `path` once it is filled; see `featx.system.whole_folder`.

    Raises
    ------
    FeatxError
        If the folder is there and not to be replaced, or can't be written.
    """
    check_free(path, overwrite=overwrite)
    with whole_folder(path) as folder:
        yield folder


def read_run(run_path: str | Path) -> Run:
    """Read a run's record, and check every value of it: the folder may be untrusted.

    Parameters
    ----------
    run_path : path
        A folder that `featx.fit_grid` or `featx.fine_tune` has written.

    Raises
    ------
    FeatxError
        If there is no record, it is of a newer format, or a value in it is not as featx writes it.
    """
    put_back(run_path)
    path = Path(run_path) / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record.pop("featx_run")
        if version > FORMAT:
            raise FeatxError(f"{path}: a run of format {version}; this featx reads up to {FORMAT}: upgrade featx")
        # A lone surrogate is no text that could be shown or written.
        json.dumps(record, ensure_ascii=False).encode()
        run = TypeAdapter(Run).validate_python(record)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.with_name("repeats.json").exists():
            raise FeatxError(
                f"{path.parent}: a run of random splits, which keeps scores, but no model and no predictions. featx "
                "compare shows the scores; for more, fit one split, without `repeats`"
            ) from error
        raise MissingRunError(
            f"{path}: no such run; expected a folder that featx fit or featx finetune has written"
        ) from error
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise FeatxError(f"{path}: contains what is no text: {error.reason}. Make the run again") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise FeatxError(f"{path}: {key}: {first['msg']}. Make the run again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeatxError(f"{path}: not a record of a run: {error!r}. Make the run again") from error
    _check_values(path, run)
    return run


def _check_values(path: Path, run: Run) -> None:
    """Raise an error if a record contradicts itself, or has an accuracy that is none."""
    if not 0 <= run.chosen < len(run.cells):
        raise FeatxError(f"{path}: chosen is {run.chosen}, of {len(run.cells)} cells. Make the run again")
    for share in _shares(run):
        if not isinstance(share, float) or not 0 <= share <= 1:
            raise FeatxError(f"{path}: {share!r} is no accuracy. Make the run again")
    if run.is_finetuned and not all({"recipe", "stage"} <= set(cell.params) for cell in run.cells):
        raise FeatxError(f"{path}: a fine-tuned run without recipe or stages. Run featx finetune again")


def _shares(run: Run) -> Iterator[float | list[float] | None]:
    """Yield what has to be a number from 0 to 1."""
    yield from (cell.validation_accuracy for cell in run.cells if cell.validation_accuracy is not None)
    if run.test is not None:
        yield run.test.get("accuracy")
        interval = run.test.get("accuracy_interval")
        if interval is not None:
            yield from interval if isinstance(interval, list) and len(interval) == 2 else [interval]
        if run.test.get("majority_class_rate") is not None:
            yield run.test["majority_class_rate"]
