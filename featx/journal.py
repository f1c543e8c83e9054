"""What a grid has finished, line by line, so that one that is stopped goes on from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from featx.errors import FeatxError

Key = tuple[int, ...]


class Journal:
    """Records of one kind, appended to a file as they come.

    The file's first line says what the records depend on. A file of another grid is begun anew; a last line that was
    cut short by a kill is passed over.

    Parameters
    ----------
    path : path
    identity : mapping of str to object
        Everything that the records depend on; JSON can hold it.
    kind : type
        The records' dataclass.

    Attributes
    ----------
    records : dict of tuple of int to record
        What is done.
    """

    def __init__(self, path: Path, identity: Mapping[str, object], kind: type) -> None:
        self.path = path
        self._identity = json.dumps(identity, sort_keys=True)
        self._kind = kind
        self.records = self._read()

    def _read(self) -> dict[Key, object]:
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return {}
        records = {}
        if first == self._identity:
            # What follows the last line break was cut short.
            for line in lines[:-1]:
                try:
                    entry = json.loads(line)
                    key = tuple(entry.pop("key"))
                    records[key] = self._kind(**entry)
                except (ValueError, TypeError, KeyError, AttributeError):
                    break
        return records

    def __enter__(self) -> "Journal":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Written beside and renamed: a kill leaves the old file or the new one.
            temporary = self.path.with_name(self.path.name + ".tmp")
            lines = [self._identity, *(_as_line(key, record) for key, record in self.records.items())]
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
            temporary.replace(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise FeatxError(f"{self.path}: can't be written: {error.strerror}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, key: Key, record: object) -> None:
        """Keep a record."""
        self.records[key] = record
        try:
            self._file.write(_as_line(key, record) + "\n")
            self._file.flush()
        except OSError as error:
            raise FeatxError(
                f"{self.path}: writing failed: {error.strerror}. Free some disk and run it again"
            ) from error

    def remove(self) -> None:
        """Delete the file: the run that it was kept for is there."""
        self.path.unlink(missing_ok=True)


def _as_line(key: Key, record: object) -> str:
    return json.dumps({"key": key, **asdict(record)})
