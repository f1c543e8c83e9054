"""The folder of an unfinished fine-tuning: what a stopped training resumes from.

Keras's `BackupAndRestore` keeps weights and optimizer, but writes in place, and knows neither the curves nor what
`EarlyStopping` and `ReduceLROnPlateau` have counted. Here its folder is renamed once an epoch is complete, with the
curves next to the weights, from which those callbacks count again.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from featx.errors import FeatxError
from featx.system import hold, is_lock_file, sync_file, whole_file

_RECORD = "training.json"
_CURVES = "curves.json"
_WHOLE = re.compile(r"epoch-(\d{6})")
_BEST = re.compile(r"best-(\d{6})\.weights\.h5")

Curves = list[dict[str, float | None]]


@dataclass(frozen=True)
class Trained:
    """The result of a stage.

    Attributes
    ----------
    curves : list of dict
        One entry per epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate, seconds; None for a
        figure that is no number.
    best_epoch : int
        The epoch whose weights the model has; 0 if the first epoch's loss was no number.
    ended : str
        epochs, patience, or diverged.
    """

    curves: Curves
    best_epoch: int
    ended: str

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best epoch, or of the first, without validation figures, if there is none."""
        return self.curves[max(self.best_epoch, 1) - 1]

    @property
    def seconds(self) -> float:
        """The seconds of all epochs, in whichever process."""
        return round(sum(figures["seconds"] for figures in self.curves), 3)


class StageFolder:
    """The folder of one stage while it is trained: weights and optimizer of its last epoch, and its best weights.

    `curves` has an entry per finished epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.backup_path, ignore_errors=True)
        self.curves: Curves = []
        whole = self._last_whole()
        if whole is not None:
            self.curves = json.loads((whole / _CURVES).read_text(encoding="utf-8"))
            shutil.copytree(whole, self.backup_path)
        for best in path.iterdir():
            # It is of an epoch that is run again.
            match = _BEST.fullmatch(best.name)
            if match and int(match[1]) > len(self.curves):
                best.unlink()

    @property
    def backup_path(self) -> Path:
        """The folder that Keras's `BackupAndRestore` writes in place, and reads when training begins."""
        return self.path / "backup"

    @property
    def best_pattern(self) -> str:
        """The path that Keras's `ModelCheckpoint` writes to."""
        return str(self.path / "best-{epoch:06d}.weights.h5")

    def best_path(self) -> Path | None:
        """Return the weights of the best epoch so far, or None if there is none."""
        return max((path for path in self.path.iterdir() if _BEST.fullmatch(path.name)), default=None)

    def keep_epoch(self) -> None:
        """Rename what `BackupAndRestore` has written, with the curves, as complete; delete the epoch before."""
        (self.backup_path / _CURVES).write_text(json.dumps(self.curves), encoding="utf-8")
        best = self.best_path()
        for path in [*self.backup_path.iterdir(), *([] if best is None else [best])]:
            sync_file(path)
        before = self._last_whole()
        self.backup_path.rename(self.path / f"epoch-{len(self.curves):06d}")
        if before is not None:
            shutil.rmtree(before)
        for path in self.path.iterdir():
            if _BEST.fullmatch(path.name) and path != best:
                path.unlink()

    def _last_whole(self) -> Path | None:
        return max((path for path in self.path.iterdir() if _WHOLE.fullmatch(path.name)), default=None)


def count_epochs(path: Path) -> int:
    """Return how many epochs with weights that are numbers a stage's folder keeps."""
    if not any(_BEST.fullmatch(entry.name) for entry in path.iterdir()):
        return 0
    return max((int(match[1]) for entry in path.iterdir() if (match := _WHOLE.fullmatch(entry.name))), default=0)


class TrainingFolder:
    """The folder `<run>.training/` of an unfinished run: a record of its request, a lock, and its stages."""

    def __init__(self, run_path: Path) -> None:
        self.path = run_path.with_name(f"{run_path.name}.training")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder as its only writer; delete it if no epoch was finished."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FeatxError(f"{self.path}: this folder can't be made: {error.strerror}") from error
        with hold(self.path / "lock", f"{self.path}: another featx trains this run"):
            try:
                yield
            finally:
                if not self.n_epochs():
                    self.remove()

    def begin(self, identity: Mapping[str, object], *, overwrite: bool) -> None:
        """Start a training, or resume one of the same request.

        Parameters
        ----------
        identity : mapping of str to object
            Everything that the result depends on, as JSON can hold it.
        overwrite : bool
            Whether an unfinished training of another request may be deleted. Without, it is an error if it has epochs.
        """
        identity = json.loads(json.dumps(identity))
        path = self.path / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            record = None
        except (OSError, ValueError):
            record = {}
        if record == identity:
            return
        if record is not None and not overwrite and self.n_epochs():
            if not record or not isinstance(record, dict):
                raise FeatxError(
                    f"{path}: can't be read as the record of this unfinished training, which can't be resumed without. "
                    "Give `overwrite` to start again"
                )
            different = ", ".join(_differences(record, identity)) or "other settings"
            raise FeatxError(
                f"{self.path}: this unfinished training was started with {different}. Give the same options to resume "
                "it, or `overwrite` to start again"
            )
        # First, so that files of the other training, after a kill, are never taken for this one's.
        path.unlink(missing_ok=True)
        for other in self.path.iterdir():
            if other.is_dir():
                shutil.rmtree(other)
            elif not is_lock_file(other):
                other.unlink()
        with whole_file(path) as file:
            file.write(json.dumps(identity, indent=1).encode())

    def stage(self, number: int) -> StageFolder:
        """Return the folder of a stage while it is trained."""
        return StageFolder(self.path / f"stage-{number}")

    def weights_path(self, number: int) -> Path:
        """Return the file of the whole network's weights after a stage."""
        return self.path / f"stage-{number}.weights.h5"

    def load_stage(self, number: int) -> Trained | None:
        """Return the result of a stage, or None if it isn't finished."""
        try:
            return self._read_stage(self.path / f"stage-{number}.json")
        except FileNotFoundError:
            return None

    def _read_stage(self, path: Path) -> Trained:
        return Trained(**json.loads(path.read_text(encoding="utf-8")))

    def finish_stage(self, number: int, trained: Trained, model: object) -> None:
        """Keep the whole network after a stage, and nothing else of the stage."""
        weights_path = self.weights_path(number)
        model.save_weights(weights_path)
        sync_file(weights_path)
        # The file that says that the stage is done comes last.
        with whole_file(self.path / f"stage-{number}.json") as file:
            file.write(json.dumps(asdict(trained)).encode())
        shutil.rmtree(self.path / f"stage-{number}")

    def n_epochs(self) -> int:
        """Return how many finished epochs are kept."""
        done = {path.stem: len(self._read_stage(path).curves) for path in self.path.glob("stage-*.json")}
        running = {path.name: count_epochs(path) for path in self.path.glob("stage-*") if path.is_dir()}
        return sum((running | done).values())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _differences(record: Mapping[str, object], identity: Mapping[str, object]) -> Iterator[str]:
    """Name what differs, with its values where they are short; digests say nothing to a reader."""
    for name, now in identity.items():
        before = record.get(name)
        if before != now and isinstance(now, int | list) and name in record:
            yield f"other {name}, {before}, now {now}"
        elif before != now:
            yield f"other {name}"
