"""A fine-tuning while it runs: one folder with a record of what is trained, a lock, and what each stage came to."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from featx.errors import FeatxError
from featx.finetune.checkpoints import StageFolder, count_epochs
from featx.finetune.train import Trained
from featx.system import hold, is_lock_file, sync_file, whole_file

_RECORD = "training.json"


class TrainingFolder:
    """The folder `<run>.training/`.

    Parameters
    ----------
    run_path : path
        Where the finished run will be.
    """

    def __init__(self, run_path: Path) -> None:
        self.path = run_path.with_name(f"{run_path.name}.training")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder as its only writer; see `featx.system.hold`.

        A training that ends before an epoch is done leaves nothing behind.

        Raises
        ------
        FeatxError
            If another process trains this run, or the folder can't be made.
        """
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
        """Start a training, or go on with one of the same recipe, rows and weights.

        Parameters
        ----------
        identity : mapping of str to object
            Everything that the result depends on; JSON can hold it.
        overwrite : bool
            Begin anew where a training of something else was left.

        Raises
        ------
        FeatxError
            If another training was left here; what it has is kept.
        """
        identity = json.loads(json.dumps(identity))
        path = self.path / _RECORD
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = None
        except (OSError, ValueError):
            found = {}
        found = found if found is None or isinstance(found, dict) else {}
        if found == identity:
            return
        if found is not None and not overwrite and self.n_epochs():
            if not found:
                raise FeatxError(
                    f"{path}: can't be read as the record of this unfinished training, which can't go on without. Give "
                    "--overwrite to begin anew"
                )
            different = ", ".join(_differences(found, identity)) or "other settings"
            raise FeatxError(
                f"{self.path}: this unfinished training was begun with {different}. Give the same to go on, or "
                "--overwrite to begin anew"
            )
        # First, so that what a kill leaves of the others is never taken for this training's.
        path.unlink(missing_ok=True)
        for other in self.path.iterdir():
            if other.is_dir():
                shutil.rmtree(other)
            elif not is_lock_file(other):
                other.unlink()
        with whole_file(path) as file:
            file.write(json.dumps(identity, indent=1).encode())

    def stage(self, number: int) -> StageFolder:
        """Return what is kept of a stage while it is trained."""
        return StageFolder(self.path / f"stage-{number}")

    def weights_path(self, number: int) -> Path:
        """Return where the whole network's weights after a stage are."""
        return self.path / f"stage-{number}.weights.h5"

    def load_stage(self, number: int) -> Trained | None:
        """Return what a finished stage came to, or None if it isn't finished."""
        try:
            return self._read_stage(self.path / f"stage-{number}.json")
        except FileNotFoundError:
            return None

    def _read_stage(self, path: Path) -> Trained:
        return Trained(**json.loads(path.read_text(encoding="utf-8")))

    def finish_stage(self, number: int, trained: Trained, model: object) -> None:
        """Keep the whole network as it is after a stage, and nothing else of it."""
        weights_path = self.weights_path(number)
        model.save_weights(weights_path)
        sync_file(weights_path)
        # The file that says that the stage is done comes last.
        with whole_file(self.path / f"stage-{number}.json") as file:
            file.write(json.dumps(asdict(trained)).encode())
        shutil.rmtree(self.path / f"stage-{number}")

    def n_epochs(self) -> int:
        """Return how many epochs are done and kept, and of use."""
        done = {path.stem: len(self._read_stage(path).curves) for path in self.path.glob("stage-*.json")}
        running = {path.name: count_epochs(path) for path in self.path.glob("stage-*") if path.is_dir()}
        return sum((running | done).values())

    def remove(self) -> None:
        """Delete the folder: the run is there."""
        shutil.rmtree(self.path, ignore_errors=True)


def _differences(found: Mapping[str, object], identity: Mapping[str, object]) -> Iterator[str]:
    """Name what differs, with its values where they are few words; digests say nothing."""
    for name, now in identity.items():
        before = found.get(name)
        if before != now and isinstance(now, int | list) and name in found:
            yield f"other {name}, {before}, now {now}"
        elif before != now:
            yield f"other {name}"
