"""The files of one run, which may be a stranger's: read with limits, and checked before anything is said of them."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from featx.errors import FeatxError
from featx.results.folder import read_run
from featx.results.predictions import read_predictions
from featx.results.record import Run

_CURVES = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


# No run of featx has files so large; a stranger's might, to fill the memory.
_MOST_BYTES = {"run.json": 2**26, "predictions.csv": 2**30, "curves.csv": 2**26}


def read_record(folder: Path) -> Run:
    """Read a run's record, and check that everything in it is of its type: it may be a stranger's."""
    _check_size(folder / "run.json")
    path, run = folder / "run.json", read_run(folder)
    try:
        run = TypeAdapter(Run).validate_python(asdict(run))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FeatxError(f"{path}: {place}: {first['msg']}. Make the run again") from error
    wrong = [figure for figure in _shares(run) if not isinstance(figure, float) or not 0 <= figure <= 1]
    if wrong:
        raise FeatxError(f"{path}: {wrong[0]!r} is no accuracy. Make the run again")
    if not 0 <= run.chosen < len(run.cells):
        raise FeatxError(f"{path}: chosen is {run.chosen}, of {len(run.cells)} cells. Make the run again")
    if run.is_finetuned and not all({"recipe", "stage"} <= set(cell.params) for cell in run.cells):
        raise FeatxError(f"{path}: a fine-tuned run without recipe or stages. Run featx finetune again")
    if not isinstance(run.protocol.get("classes"), list):
        raise FeatxError(f"{path}: protocol: no list of classes. Make the run again")
    try:
        json.dumps(asdict(run), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FeatxError(f"{path}: holds what is no text: {error.reason}. Make the run again") from error
    return run


def read_rows(folder: Path) -> pd.DataFrame:
    """Read a run's test rows: path, label and predicted; what is not UTF-8 as a store tells it."""
    _check_size(folder / "predictions.csv")
    return read_predictions(folder).map(_as_stored)


def read_curves(folder: Path) -> pd.DataFrame | None:
    """Read curves.csv, its figures as float64; None where there is none."""
    path = folder / "curves.csv"
    _check_size(path)
    try:
        table = pd.read_csv(path, encoding_errors="backslashreplace", keep_default_na=False, na_values=[""])
        table["stage"] = table["stage"].astype(str)
        table[list(_CURVES)] = table[list(_CURVES)].astype(float)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise FeatxError(f"{path}: no curves that can be read: {error}. Run featx finetune again") from error
    return table


def _shares(run: Run) -> Iterator[object]:
    """Yield what has to be a number from 0 to 1."""
    yield from (cell.validation_accuracy for cell in run.cells if cell.validation_accuracy is not None)
    if run.test is not None:
        yield run.test.get("accuracy")
        interval = run.test.get("accuracy_interval")
        if interval is not None:
            yield from interval if isinstance(interval, list) and len(interval) == 2 else [interval]
        rate = run.test.get("majority_class_rate")
        if rate is not None:
            yield rate


def _as_stored(name: str) -> str:
    """Return a name that is not UTF-8 as a store tells it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _check_size(path: Path) -> None:
    most = _MOST_BYTES[path.name]
    if path.exists() and not path.is_file():
        raise FeatxError(f"{path}: no file. Make the run again")
    if path.exists() and path.stat().st_size > most:
        raise FeatxError(f"{path}: {path.stat().st_size:,} bytes; no run of featx has more than {most:,}")
