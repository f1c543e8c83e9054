"""Keep finished records of a grid line by line, so that a grid that is stopped resumes from there."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from featx.errors import FeatxError
from featx.system import Shard, hold, whole_file

Key = tuple[int, ...]


class Journal:
    """Records of one kind, appended to a file as they come.

    The file's first line has everything that the records depend on. A file of another grid is replaced; a last line
    that was cut short by a kill is ignored.

    Parameters
    ----------
    path : path
    identity : mapping of str to object
        Everything that the records depend on, as JSON can hold it.
    kind : type
        The records' dataclass.

    Attributes
    ----------
    records : dict of tuple of int to record
        Finished records.
    taken_up : list of Path
        Files of shares whose records are among them.
    """

    def __init__(self, path: Path, identity: Mapping[str, object], kind: type) -> None:
        self.path = path
        self._identity = json.dumps(identity, sort_keys=True)
        self._kind = kind
        self.records = self._read()
        self.taken_up: list[Path] = []

    def _read(self) -> dict[Key, object]:
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return {}
        records = {}
        if first == self._identity:
            # The text after the last line break was cut short.
            for line in lines[:-1]:
                try:
                    entry = json.loads(line)
                    key = tuple(entry.pop("key"))
                    records[key] = self._kind(**entry)
                except (ValueError, TypeError, KeyError, AttributeError):
                    break
        return records

    @property
    def is_other(self) -> bool:
        """Return whether the file exists and has another identity."""
        return self.path.exists() and not self._begins_alike()

    def of_same(self, path: Path) -> "Journal":
        """Return the journal of another file with the same identity and kind."""
        return Journal(path, json.loads(self._identity), self._kind)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the journal's only writer; raise an error if another process is."""
        lock_path = self.path.with_name(self.path.name + ".lock")
        with hold(lock_path, f"{self.path}: another featx is fitting this"):
            try:
                yield
            finally:
                # While it is held: a process that opened it meanwhile sees that it has no name any more.
                lock_path.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FeatxError(f"{self.path}: can't be written: {error.strerror}. Give another `output`") from error
        with ExitStack() as stack:
            stack.enter_context(self.held())
            # Another process may have added records since it was read.
            self.records = self._read() | self.records
            self._open()
            self._stack = stack.pop_all()
        return self

    def _open(self) -> None:
        try:
            lines = [self._identity, *(_as_line(key, record) for key, record in self.records.items())]
            with whole_file(self.path) as file:
                file.write(("\n".join(lines) + "\n").encode())
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise FeatxError(
                f"{self.path}: can't be written: {error.strerror}. Free some disk space and run it again"
            ) from error

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._stack.close()

    def add(self, key: Key, record: object) -> None:
        """Keep a record."""
        self.records[key] = record
        try:
            self._file.write(_as_line(key, record) + "\n")
            self._file.flush()
        except OSError as error:
            raise FeatxError(
                f"{self.path}: writing failed: {error.strerror}. Free some disk space and run it again"
            ) from error

    def remove(self) -> None:
        """Delete the file and those of shares, once the run exists."""
        self.path.unlink(missing_ok=True)
        for path in self.taken_up:
            # A share that another process is writing stays.
            with suppress(FeatxError), self.of_same(path).held():
                path.unlink(missing_ok=True)

    def _begins_alike(self) -> bool:
        try:
            with self.path.open(encoding="utf-8") as file:
                return file.readline().rstrip("\n") == self._identity
        except (OSError, ValueError):
            return False


def journal_of_shard(path: Path, shard: Shard) -> Path:
    """Return the path of a share's journal: next to the journal, with the shard in its name.

    Examples
    --------
    >>> journal_of_shard(Path("rf.cells.jsonl"), Shard(2, 4)).name
    'rf.shard-0002-of-0004.cells.jsonl'
    """
    run, kind, ending = path.name.rsplit(".", 2)
    return path.with_name(f"{run}.{shard.tag}.{kind}.{ending}")


def take_up_shards(journal: Journal) -> list[str]:
    """Add the records of all shares next to a journal; return notes on shares of another grid."""
    run, kind, ending = journal.path.name.rsplit(".", 2)
    pattern = re.compile(rf"{re.escape(run)}\.shard-\d+-of-\d+\.{kind}\.{ending}")
    folder = journal.path.parent
    notes = []
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        if pattern.fullmatch(path.name):
            share = journal.of_same(path)
            if share.is_other:
                notes.append(
                    f"{path}: scores of another grid, store or version, or of another model because memory was short; "
                    "they were not used. Delete the file if nobody needs them"
                )
                continue
            journal.records |= share.records
            journal.taken_up.append(path)
    return notes


def _as_line(key: Key, record: object) -> str:
    return json.dumps({"key": key, **asdict(record)})
