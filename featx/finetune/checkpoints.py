"""Training that may be stopped at any moment: what Keras's callbacks keep of an epoch, made whole and found again.

Keras's `BackupAndRestore` keeps weights and optimizer, but writes in place, and knows neither the curves so far nor
what `EarlyStopping` and `ReduceLROnPlateau` have counted. Here its folder is renamed once an epoch is whole, with the
curves beside the weights, and the curves are told to those callbacks again.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from featx.networks import load_keras
from featx.system import sync_file

keras = load_keras()


_WHOLE = re.compile(r"epoch-(\d{6})")


_BEST = re.compile(r"best-(\d{6})\.weights\.h5")


_CURVES = "curves.json"


# A layer draws so often in a training step, at most.
_MOST_DRAWS = 16


Curves = list[dict[str, float | None]]


class StageFolder:
    """What is kept of one stage while it is trained.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    curves : list of dict
        What each finished epoch gave.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._backup, ignore_errors=True)
        self.curves: Curves = []
        whole = self._last_whole()
        if whole is not None:
            self.curves = json.loads((whole / _CURVES).read_text(encoding="utf-8"))
            shutil.copytree(whole, self._backup)
        for best in path.iterdir():
            # Of an epoch that is run again.
            found = _BEST.fullmatch(best.name)
            if found and int(found[1]) > len(self.curves):
                best.unlink()

    @property
    def _backup(self) -> Path:
        return self.path / "backup"

    @property
    def best_pattern(self) -> str:
        """The path that Keras's `ModelCheckpoint` writes to."""
        return str(self.path / "best-{epoch:06d}.weights.h5")

    def best_path(self) -> Path | None:
        """Return the weights of the best epoch so far, or None if there is none."""
        found = sorted(path for path in self.path.iterdir() if _BEST.fullmatch(path.name))
        return found[-1] if found else None

    def make_backup(self) -> object:
        """Make Keras's callback that keeps weights and optimizer, and takes them up again."""
        return keras.callbacks.BackupAndRestore(self._backup, delete_checkpoint=False)

    def keep_epoch(self) -> None:
        """Take what `BackupAndRestore` has written, and the curves, for whole; drop what it stands in for."""
        (self._backup / _CURVES).write_text(json.dumps(self.curves), encoding="utf-8")
        best = self.best_path()
        for path in [*self._backup.iterdir(), *([] if best is None else [best])]:
            sync_file(path)
        before = self._last_whole()
        self._backup.rename(self.path / f"epoch-{len(self.curves):06d}")
        if before is not None:
            shutil.rmtree(before)
        for path in self.path.iterdir():
            if _BEST.fullmatch(path.name) and path != best:
                path.unlink()

    def _last_whole(self) -> Path | None:
        found = sorted(path for path in self.path.iterdir() if _WHOLE.fullmatch(path.name))
        return found[-1] if found else None


def count_epochs(path: Path) -> int:
    """Return how many epochs a stage's folder keeps, with weights that are numbers; nothing is changed there."""
    if not any(_BEST.fullmatch(entry.name) for entry in path.iterdir()):
        return 0
    return max((int(found[1]) for entry in path.iterdir() if (found := _WHOLE.fullmatch(entry.name))), default=0)


class KeepEpochs(keras.callbacks.Callback):
    """Note each epoch's figures, and have `StageFolder` keep it; stands behind `BackupAndRestore`.

    Parameters
    ----------
    folder : StageFolder
    """

    def __init__(self, folder: StageFolder) -> None:
        super().__init__()
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep what the callbacks before this one have written."""
        self._folder.keep_epoch()


class NoteEpochs(keras.callbacks.Callback):
    """Write each epoch's figures down before anything is kept of it; stands first.

    An epoch whose loss is no number is the last, and gets no validation figures: weights that are no numbers would
    have an accuracy.

    Parameters
    ----------
    folder : StageFolder
    """

    def __init__(self, folder: StageFolder) -> None:
        super().__init__()
        self._folder = folder
        self._begun = 0.0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Look at the clock."""
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add a line to the curves."""
        if not all(np.isfinite(logs[name]) for name in ("loss", "val_loss")):
            # The callbacks that follow are given the same dictionary.
            logs |= dict.fromkeys((name for name in logs if name.startswith("val_")), float("nan"))
            self.model.stop_training = True
        figures = {name: float(value) for name, value in logs.items()}
        figures["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        # With what it took to keep the epoch before.
        now = time.monotonic()
        figures["seconds"], self._begun = round(now - self._begun, 3), now
        self._folder.curves.append(
            {"epoch": epoch + 1} | {name: value if np.isfinite(value) else None for name, value in figures.items()}
        )


class Retell(keras.callbacks.Callback):
    """Tell callbacks of the epochs that an earlier process has run, so that they count on from there.

    Stands behind them, and before `BackupAndRestore`, which has the last word on the learning rate.

    Parameters
    ----------
    callbacks : sequence of keras.callbacks.Callback
        EarlyStopping, ReduceLROnPlateau.
    curves : list of dict
        See `StageFolder`.
    """

    def __init__(self, callbacks: Sequence[object], curves: Curves) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._curves = list(curves)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Tell them."""
        for figures in self._curves:
            known = {name: float("nan") if value is None else value for name, value in figures.items()}
            for callback in self._callbacks:
                callback.on_epoch_end(int(figures["epoch"]) - 1, dict(known))


class BeginEpochs(keras.callbacks.Callback):
    """Put order, dropout and augmentation where they are at the begin of an epoch, whoever ran the ones before.

    Parameters
    ----------
    batches : featx.finetune.batches.Batches
    """

    def __init__(self, batches: object) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Set what is drawn at random."""
        self._batches.epoch = epoch
        for generator in _generators(self.model):
            state = np.array(keras.ops.convert_to_numpy(generator.state))
            # A seed and a count: a training step takes a few numbers, validation none.
            state[1] = _MOST_DRAWS * epoch * len(self._batches)
            generator.state.assign(state)


def all_layers(layer: object) -> Iterator[object]:
    """Go through a layer, and the layers within it: of a model that has models as layers, all of them."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from all_layers(inner)


def _generators(model: object) -> list[object]:
    """Return the random generators of a model's layers."""
    return [
        value
        for layer in all_layers(model)
        for value in vars(layer).values()
        if isinstance(value, keras.random.SeedGenerator)
    ]
