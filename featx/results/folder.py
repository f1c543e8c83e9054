"""One run on disk: its record, its tables, and the fitted model or network."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from featx.errors import FeatxError, MissingRunError
from featx.images import write_table
from featx.results.record import Cell, Run
from featx.results.tables import cells_table, layers_table
from featx.system import put_folder_back as put_back
from featx.system import whole_folder

FORMAT = 1


NETWORK_FILE = "network.weights.h5"
"""Where a fine-tuned run keeps its weights, in place of a classifier's model.skops."""


_FILES_OF_A_RUN = {
    *("run.json", "cells.csv", "predictions.csv", "per_class.csv", "confusion.csv", "model.skops", "layers.csv"),
    *("repeats.json", "repeats.csv"),
    *(NETWORK_FILE, "curves.csv", "recipe.yaml"),
}


def check_free(run_path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is taken; only a run's own folder is ever replaced."""
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
        what = f"holds {others[0]!r}" if others else "holds no run"
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
        Is given the folder while it is filled, and writes further files into it: a fine-tuned network's.
    overwrite : bool, default False
        Replace a run that is there.
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
    """Read a run's record.

    Raises
    ------
    FeatxError
        If there is none, or it is of a newer format.
    """
    put_back(run_path)
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
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.with_name("repeats.json").exists():
            raise FeatxError(
                f"{path.parent}: a run of random splits, which keeps figures, but no model and no answers. featx "
                "compare shows the figures; for more, fit one split, without --repeats"
            ) from error
        raise MissingRunError(
            f"{path}: no such run; expected a folder that featx fit or featx finetune has written"
        ) from error
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FeatxError(f"{path}: not a record of a run: {error!r}. Make the run again") from error
