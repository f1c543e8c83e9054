"""A store while it is being written: a folder of immutable part files, each a run of rows."""

import json
import os
import re
import shutil
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import numpy as np

from featx.errors import StoreError
from featx.settings import Settings

_RECORD = "run.json"

# What NumPy and zipfile are known to raise on damaged parts.
_DAMAGE = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, SyntaxError, MemoryError, ArithmeticError, TypeError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)

_PART_NAME = re.compile(r"rows-(\d{10})-(\d{10})\.npz")


@dataclass(frozen=True)
class Part:
    """The features of the rows `start` to `stop` (exclusive) of a manifest.

    Attributes
    ----------
    start, stop : int
    rows : ndarray of int64
        Manifest rows whose image could be read, ascending.
    sha256 : ndarray of S64
        Digests of those images' files.
    features : dict of str to ndarray of shape (len(rows), n_channels), float32
        By layer.
    rejected : dict of int to str
        Why each of the other rows has no features.
    """

    start: int
    stop: int
    rows: np.ndarray
    sha256: np.ndarray
    features: dict[str, np.ndarray]
    rejected: dict[int, str]


class PartsFolder:
    """The folder `<store>.parts/`: whatever is in it under its final name is whole.

    Parameters
    ----------
    store_path : path
        Where the finished store will be.
    """

    def __init__(self, store_path: str | Path) -> None:
        self.store_path = Path(store_path)
        self.path = self.store_path.with_name(self.store_path.name + ".parts")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder as its only writer; the lock goes with the process, however that ends."""
        self._make()
        lock = filelock.FileLock(self.path / "lock", timeout=0)
        try:
            with lock:
                yield
        except filelock.Timeout as error:
            raise StoreError(
                f"{self.store_path}: another featx is writing this store. Wait for it, or stop it"
            ) from error

    def begin(self, settings: Settings, source: Mapping[str, object], *, replaces: bool = False) -> str:
        """Start a run, or go on with one of the same settings and images; return the run's identity.

        Parameters
        ----------
        settings : Settings
        source : mapping of str to object
            Which images: root, n_images and paths_sha256.
        replaces : bool, default False
            Whether the run is to replace what is there: only a run that was begun to do so goes on.

        Raises
        ------
        StoreError
            If the folder was begun with other settings or images.
        """
        run = self._read_record(lenient=replaces)
        if run is not None:
            different = [*settings.changes_from(run["settings"]), *_changes(source, run["source"])]
            if not different and (run["replaces"] or not replaces):
                return run["id"]
            if not replaces:
                raise StoreError(
                    f"{self.path}: this unfinished store was begun with {'; '.join(different)}. Give the same settings "
                    "to go on, or --overwrite to begin anew"
                )
        # Parts without a record could be of any settings.
        self.clear()
        run = {"id": uuid.uuid4().hex, "replaces": replaces, "settings": asdict(settings), "source": dict(source)}
        self._write_whole(self.path / _RECORD, json.dumps(run, indent=1).encode())
        return run["id"]

    def wrote(self, run_id: object) -> bool:
        """Whether the run of these parts is the one that wrote a finished store."""
        run = self._read_record(lenient=True)
        return run is not None and run["id"] == run_id

    def is_empty(self) -> bool:
        """Whether nothing is here but the lock."""
        return {path.name for path in self.path.iterdir()} <= {"lock"}

    def write(self, part: Part) -> None:
        """Write one part: to a temporary name, flushed to disk, renamed."""
        arrays = {f"features/{layer}": values for layer, values in part.features.items()}
        reasons = list(part.rejected.values())
        arrays |= {
            "rows": part.rows,
            "sha256": part.sha256,
            "rejected_rows": np.array(list(part.rejected), dtype=np.int64),
            "rejected_reasons": np.array(reasons, dtype=str) if reasons else np.array([], dtype="U1"),
        }
        path = self.path / f"rows-{part.start:010d}-{part.stop:010d}.npz"
        with self._write_to(path) as file:
            np.savez(file, **arrays)

    def read(self, n_channels: dict[str, int]) -> list[tuple[int, int]]:
        """Return the row ranges of all valid parts, ascending; delete what is damaged or overlaps.

        Every byte of a part is checked (a .npz holds a CRC-32 of each array).
        """
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink()
        ranges: list[tuple[int, int]] = []
        for path in sorted(self.path.glob("rows-*.npz")):
            part = self._read_valid(path, n_channels)
            if part is None or (ranges and part.start < ranges[-1][1]):
                path.unlink()
            else:
                ranges.append((part.start, part.stop))
        return ranges

    def load(self, start: int, stop: int) -> Part:
        """Read one part that `read` found valid."""
        return self._load(self.path / f"rows-{start:010d}-{stop:010d}.npz")

    def clear(self) -> None:
        """Delete everything but the lock; the record goes last, and parts without it are never used."""
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == _RECORD):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        self.clear()
        shutil.rmtree(self.path, ignore_errors=True)

    def n_done(self) -> int:
        """Return how many rows lie in parts, by their names."""
        names = (_PART_NAME.fullmatch(path.name) for path in self.path.glob("rows-*.npz"))
        return sum(int(name[2]) - int(name[1]) for name in names if name)

    def publish(self, whole_path: Path) -> None:
        """Flush a finished file within the folder to disk and move it to the store's place."""
        with whole_path.open("rb+") as file:
            os.fsync(file.fileno())
        whole_path.replace(self.store_path)
        _sync_folder(self.store_path.parent)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: this folder can't be made: {error.strerror}") from error

    def _read_record(self, *, lenient: bool) -> dict | None:
        """Return the run's record, None if there is none (or, leniently, none that can be read)."""
        path = self.path / _RECORD
        try:
            run = json.loads(path.read_bytes())
            if isinstance(run["id"], str) and isinstance(run["settings"], dict) and isinstance(run["source"], dict):
                return {"replaces": False, **run}
            problem = "its entries are of other kinds"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = repr(error)
        if lenient:
            return None
        raise StoreError(f"{path}: not a record of featx's ({problem}). Give --overwrite to begin anew")

    def _read_valid(self, path: Path, n_channels: dict[str, int]) -> Part | None:
        if not _PART_NAME.fullmatch(path.name):
            return None
        try:
            part = self._load(path)
        except _DAMAGE:
            return None
        shapes = {layer: values.shape for layer, values in part.features.items()}
        expected = {layer: (len(part.rows), channels) for layer, channels in n_channels.items()}
        covered = sorted([*part.rows.tolist(), *part.rejected])
        whole = shapes == expected and len(part.sha256) == len(part.rows)
        return part if whole and covered == list(range(part.start, part.stop)) else None

    def _load(self, path: Path) -> Part:
        name = _PART_NAME.fullmatch(path.name)
        with np.load(path, allow_pickle=False) as stored:
            features = {key.removeprefix("features/"): stored[key] for key in stored if key.startswith("features/")}
            rejected = zip(stored["rejected_rows"].tolist(), stored["rejected_reasons"].tolist(), strict=True)
            return Part(
                start=int(name[1]),
                stop=int(name[2]),
                rows=stored["rows"],
                sha256=stored["sha256"],
                features=features,
                rejected=dict(rejected),
            )

    def _write_whole(self, path: Path, data: bytes) -> None:
        with self._write_to(path) as file:
            file.write(data)

    @contextmanager
    def _write_to(self, path: Path) -> Iterator:
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(
                f"{path}: writing failed ({error.strerror or error}). {self.n_done():,} images are done and kept; mend "
                "it (free some disk, say) and run the same command again"
            ) from error


def _sync_folder(path: Path) -> None:
    """Flush a rename to disk, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _changes(source: Mapping[str, object], recorded: Mapping[str, object]) -> list[str]:
    """Name what differs between two lists of images."""
    if source["root"] != recorded.get("root"):
        return [f"root {recorded.get('root')!r}, now {source['root']!r}"]
    if source["paths_sha256"] != recorded.get("paths_sha256"):
        return [f"another list of images ({recorded.get('n_images')} of them, now {source['n_images']})"]
    return []
