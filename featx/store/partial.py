"""An unfinished store: one folder with a record of its settings and images, a lock, and part files."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from featx.errors import StoreError
from featx.store.parts import PartFiles
from featx.store.settings import Settings
from featx.system import hold, is_lock_file, make_lock, now, sync_file, sync_folder

_RECORD = "run.json"


def check_folder(store_path: Path) -> None:
    """Raise an error if no store can be written there: it is a folder or no file at all, or its folder is missing."""
    try:
        is_folder, is_there, is_file = store_path.is_dir(), store_path.exists(), store_path.is_file()
        has_folder = store_path.absolute().parent.is_dir()
    except OSError as error:
        raise StoreError(f"{store_path}: can't be written: {error.strerror or error}; give another name") from error
    if is_folder:
        raise StoreError(f"{store_path}: a folder; give the name of the HDF5 file to make")
    if not has_folder:
        raise StoreError(f"{store_path}: the folder {store_path.parent} doesn't exist; make it first")
    if is_there and not is_file:
        # A device, for instance, which `overwrite` would replace.
        raise StoreError(f"{store_path}: not a regular file; give another name")


class PartialStore(PartFiles):
    """The folder `<store>.parts/`: the parts of every row, and folders of further parts below it.

    Parameters
    ----------
    store_path : path
        Where the finished store will be.

    Attributes
    ----------
    log_path : Path
        `<store>.log`: the log of long runs; it stays.
    """

    def __init__(self, store_path: str | Path) -> None:
        self.store_path = Path(store_path)
        super().__init__(self.store_path.with_name(self.store_path.name + ".parts"))
        self.log_path = self.store_path.with_name(self.store_path.name + ".log")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder as its only writer; see `featx.system.hold`."""
        # An invalid setting of locks raises an error before there is a folder that looks like an unfinished store.
        make_lock(self.path / "lock")
        self._make()
        with hold(self.path / "lock", f"{self.store_path}: another featx is writing this store"):
            try:
                yield
            finally:
                # An error before the start leaves nothing behind.
                if self.is_empty():
                    self.remove()

    def begin(
        self,
        settings: Settings,
        source: Mapping[str, object],
        *,
        replaces: bool = False,
        adds_to: str | None = None,
    ) -> str:
        """Start a run, or resume one of the same settings and images; return the run's identity.

        Parameters
        ----------
        settings : Settings
        source : mapping of str to object
            The images: root, n_images and paths_sha256.
        replaces : bool, default False
            Whether the run replaces the existing store: only a run that was started so is resumed.
        adds_to : str, optional
            Identity of the existing store that the run adds to.

        Raises
        ------
        StoreError
            If the run in the folder has other settings or images, or adds to another store.
        """
        run = self._read_record(lenient=replaces)
        if run is not None:
            different = [*_changes_of_store(run, replaces, adds_to)]
            different += [*settings.changes_from(run["settings"]), *_changes(source, run["source"])]
            if not different:
                return run["id"]
            if not replaces:
                raise StoreError(
                    f"{self.path}: this unfinished store was started with {'; '.join(different)}. "
                    + _next_step(run, adds_to)
                )
        # Parts without a record could be of any settings.
        self.clear()
        run = {
            "id": uuid.uuid4().hex,
            "started": now(),
            "replaces": replaces,
            "adds_to": adds_to,
            "settings": asdict(settings),
            "source": dict(source),
        }
        self.write_whole(self.path / _RECORD, json.dumps(run, indent=1).encode())
        return run["id"]

    def further(self, name: str) -> PartFiles:
        """Return the part files of a further pass, in a folder of their own."""
        return PartFiles(self.path / name)

    def wrote(self, run_id: object) -> bool:
        """Return whether the run of these parts is the one that wrote a finished store."""
        run = self._read_record(lenient=True)
        return run is not None and run["id"] == run_id

    def started(self) -> str:
        """Return when the run of these parts started; "" where its record is damaged."""
        run = self._read_record(lenient=True) or {}
        return str(run.get("started", ""))

    def settings_and_source(self) -> tuple[dict[str, object], dict[str, object]] | None:
        """Return the settings and images of the run of these parts; None where there are no parts."""
        run = self._read_record(lenient=True)
        return None if run is None else (run["settings"], run["source"])

    def adds_to(self) -> str | None:
        """Return the identity of the finished store that the run of these parts adds to; None where it makes one."""
        run = self._read_record(lenient=True)
        return None if run is None else run["adds_to"]

    def is_empty(self) -> bool:
        """Return whether the folder has only a lock."""
        return self.path.is_dir() and all(map(is_lock_file, self.path.iterdir()))

    def holds_parts(self) -> bool:
        """Return whether the folder has part files, of any pass."""
        return any(self.path.rglob("rows-*.npz"))

    def clear(self) -> None:
        """Delete everything but the lock; the record goes last, and parts without it are never used."""
        for path in sorted(self.path.iterdir(), key=lambda path: path.name == _RECORD):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not is_lock_file(path):
                path.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        self.clear()
        shutil.rmtree(self.path, ignore_errors=True)

    def publish(self, whole_path: Path) -> None:
        """Flush a finished file within the folder to disk and move it to the store's place."""
        sync_file(whole_path)
        whole_path.replace(self.store_path)
        sync_folder(self.store_path.parent)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.path}: this folder can't be made: {error.strerror}; write elsewhere") from error

    def _read_record(self, *, lenient: bool) -> dict | None:
        """Return the run's record, None if there is none (or, leniently, none that can be read)."""
        path = self.path / _RECORD
        try:
            run = json.loads(path.read_bytes())
            if isinstance(run["id"], str) and isinstance(run["settings"], dict) and isinstance(run["source"], dict):
                return {"replaces": False, "adds_to": None, **run}
            problem = "its entries are of other kinds"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            problem = repr(error)
        if lenient:
            return None
        raise StoreError(f"{path}: not a record of featx's ({problem}). Use `overwrite` to start again")

    def write_whole(self, path: Path, data: bytes) -> None:
        """Write a small file of the folder's, whole or not at all."""
        with self._write_to(path) as file:
            file.write(data)


def _next_step(run: Mapping[str, object], adds_to: str | None) -> str:
    if run["replaces"]:
        return "Use the same settings and `overwrite` to resume, or delete this folder to keep the store as it is"
    if run["adds_to"]:
        return "Use the same settings to resume, or delete this folder to keep the store next to it as it is"
    if adds_to:
        return "Move the store next to it away to resume, or delete this folder to add to that store"
    return "Use the same settings to resume, or `overwrite` to start again"


def _changes_of_store(run: Mapping[str, object], replaces: bool, adds_to: str | None) -> list[str]:
    """Name differences in what two runs do with the existing store."""
    if run["replaces"] and not replaces:
        # If that store is gone, the run replaces nothing.
        return ["`overwrite`, now without"] if adds_to else []
    if replaces and not run["replaces"]:
        return ["no `overwrite`, now with it"]
    if run["adds_to"] != adds_to:
        names = [f"store {name[:12]} to add to" if name else "no store to add to" for name in (run["adds_to"], adds_to)]
        return [f"{names[0]}, now {names[1]}"]
    return []


def _changes(source: Mapping[str, object], recorded: Mapping[str, object]) -> list[str]:
    """Name what differs between two lists of images."""
    if source["root"] != recorded.get("root"):
        return [f"root {recorded.get('root')!r}, now {source['root']!r}"]
    if source["paths_sha256"] != recorded.get("paths_sha256"):
        return [f"another list of images ({recorded.get('n_images')} of them, now {source['n_images']})"]
    return []
