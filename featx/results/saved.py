"""Read the folder of one run: its record, predictions, scores and training curves."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError
from featx.results.folder import read_run
from featx.results.metrics import count_confusion
from featx.results.predictions import Scores, read_predictions, read_scores
from featx.results.record import Run
from featx.results.tables import layers_table

_CURVES = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


# No run of featx has larger files; an untrusted folder might, to fill the memory.
_MOST_BYTES = {"run.json": 2**26, "predictions.csv": 2**30, "curves.csv": 2**26}


class SavedRun:
    """A run in its folder. Each file is read and checked when it is first needed.

    Parameters
    ----------
    folder : path
    name : str, optional
        Default: the folder's name.

    Raises
    ------
    FeatxError
        By any of its attributes, if the file is missing or not as featx writes it.
    """

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name if name is None else name

    @cached_property
    def run(self) -> Run:
        """The record."""
        return read_run(self.folder)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Columns path, label and predicted: one row per test image."""
        # If the folder is no run, the error says so.
        _ = self.run
        return read_predictions(self.folder)

    @cached_property
    def scores(self) -> Scores:
        """Probabilities or decision values of the same rows; neither if the model has none."""
        return read_scores(self.folder, self.classes)

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """See `featx.results.count_confusion`; every row counts the same."""
        return count_confusion(self.predictions["label"].to_numpy(), self.predictions["predicted"].to_numpy())

    @cached_property
    def layers(self) -> pd.DataFrame | None:
        """See `featx.results.layers_table`; None if the run has no scores by layer."""
        try:
            return layers_table(self.run) if self.run.layers else None
        except (ValueError, TypeError, KeyError) as error:
            raise FeatxError(f"{self.folder / 'run.json'}: layers: not as featx writes them: {error}") from error

    @cached_property
    def curves(self) -> pd.DataFrame | None:
        """Stage, epoch, loss, accuracy and learning rate: one row per epoch; None without curves.csv."""
        path = self.folder / "curves.csv"
        try:
            table = pd.read_csv(path, encoding_errors="backslashreplace", keep_default_na=False, na_values=[""])
            return table.astype({"stage": str} | dict.fromkeys(_CURVES, float))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise FeatxError(f"{path}: not as featx finetune writes it: {error}. Fine-tune again") from error

    @property
    def classes(self) -> list[str]:
        """The classes that the model knows, in the order of the columns of `scores`."""
        classes = self.run.protocol.get("classes")
        if not isinstance(classes, list):
            raise FeatxError(f"{self.folder / 'run.json'}: protocol: no list of classes. Make the run again")
        return [str(name) for name in classes]

    @property
    def correct(self) -> np.ndarray:
        """Bool, one per row of `predictions`: whether the prediction is right."""
        return (self.predictions["label"] == self.predictions["predicted"]).to_numpy(bool)

    def check_sizes(self) -> None:
        """Raise an error if a file is no file, or larger than any of featx: the folder may be untrusted."""
        for name, most in _MOST_BYTES.items():
            path = self.folder / name
            if path.exists() and not path.is_file():
                raise FeatxError(f"{path}: no file. Make the run again")
            if path.exists() and path.stat().st_size > most:
                raise FeatxError(f"{path}: {path.stat().st_size:,} bytes; no run of featx has more than {most:,}")
