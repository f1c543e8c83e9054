"""Check a store's file: that HDF5 survives it, then its checksums, digests, values and tables."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

import featx
from featx.errors import StoreError
from featx.images import SPLITS
from featx.store.file import (
    DAMAGE,
    REJECTED,
    attributes_sha256,
    column_kind,
    content_bytes,
    find_faults,
    opened,
    read_attributes,
    read_columns,
    read_layers,
)
from featx.store.problems import Problem, ranges_of, rows_in
from featx.store.settings import Settings
from featx.system import sha256_of

_DIGESTS = "/images/sha256"


# What can be made again row by row.
_BY_ROW = ("/features/", _DIGESTS)


@dataclass(frozen=True)
class Findings:
    """Contents of a store's file, and its problems.

    Attributes
    ----------
    attributes : dict
        The root's.
    layers : list of str
    n_channels : dict of str to int
        Features per layer that can be read.
    n_images : int
    images, rejected : DataFrame
        See `featx.store.Store`; without columns that can't be read.
    problems : tuple of Problem
    """

    attributes: dict[str, object]
    layers: list[str]
    n_channels: dict[str, int]
    n_images: int
    images: pd.DataFrame
    rejected: pd.DataFrame
    problems: tuple[Problem, ...]


def check_file(file: h5py.File, path: Path, advance: Callable[[int], object]) -> Findings:
    """Check all of a store's file, without its images.

    Parameters
    ----------
    file : h5py.File
        From `featx.store.opened`.
    path : Path
        For messages.
    advance : callable
        Receives each number of bytes that were read.
    """
    try:
        attributes = read_attributes(file, path)
        layers = read_layers(attributes)
    except StoreError:
        return _without_content({}, [], Problem("attributes", "/", (), "its attributes are damaged"))
    except ValueError as error:
        return _without_content({}, [], Problem("attributes", "/", (), str(error)))
    problems = list(_check_attributes(attributes, layers))
    faults = list(find_faults(file, path))
    faulty = {fault.where for fault in faults}
    if "/" in faulty:
        return _without_content(attributes, layers, *problems, *faults)
    n_images = len(file["images/path"]) if "/images/path" not in faulty else 0
    whole = ((0, n_images),) if n_images else ()
    problems += [Problem(f.what, f.where, whole if f.where.startswith(_BY_ROW) else (), f.detail) for f in faults]
    scanner = _Scanner(file, advance)
    rejected = scanner.read_table([where for name in REJECTED if (where := f"/rejected/{name}") not in faulty])
    images = scanner.read_table([where for name in read_columns(file) if (where := f"/images/{name}") not in faulty])
    scanner.problems += _check_columns(file, attributes)
    unread = rows_in(rows for problem in scanner.problems if problem.where == _DIGESTS for rows in problem.rows)
    scanner.problems += check_tables(images, rejected, attributes, unread)
    sound = [layer for layer in layers if f"/features/{layer}" not in faulty]
    for layer in sound:
        scanner.check_features(f"/features/{layer}")
    return Findings(
        attributes=attributes,
        layers=layers,
        n_channels={layer: file[f"features/{layer}"].shape[1] for layer in sound},
        n_images=n_images,
        images=images,
        rejected=rejected,
        problems=(*problems, *scanner.problems),
    )


def _without_content(attributes: dict[str, object], layers: list[str], *problems: Problem) -> Findings:
    return Findings(attributes, layers, {}, 0, pd.DataFrame(), pd.DataFrame(), problems)


class _Scanner:
    """Reads datasets block by block, and collects their problems."""

    def __init__(self, file: h5py.File, advance: Callable[[int], object]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._advance = advance

    def read_table(self, names: Iterable[str]) -> pd.DataFrame:
        """Return the columns that can be read; the column of digests always, with empty text where it can't be read."""
        columns = {}
        for where in names:
            values = np.zeros(len(self._file[where]), self._file[where].dtype)
            is_whole = True
            for start, block in self._scan(where):
                if block is None:
                    is_whole = False
                else:
                    values[start : start + len(block)] = block
            if is_whole or where == _DIGESTS:
                name = where.rsplit("/", 1)[1]
                columns[name] = values if values.dtype.kind != "S" else self._decode(where, values)
        return pd.DataFrame(columns)

    def check_features(self, where: str) -> None:
        """Check a layer's features."""
        wrong: list[np.ndarray] = []
        n_wrong = 0
        for start, values in self._scan(where):
            if values is not None and not (finite := np.isfinite(values)).all():
                n_wrong += finite.size - int(finite.sum())
                wrong.append(start + np.flatnonzero(~finite.all(axis=1)))
        if wrong:
            self._add("not finite", where, np.concatenate(wrong), f"{n_wrong:,} values are not finite")

    def _scan(self, where: str) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield the first row and the values of each block, None where it can't be read; check the digest."""
        dataset = self._file[where]
        content, bad = hashlib.sha256(), []
        step = dataset.chunks[0] if dataset.chunks else max(1, len(dataset))
        for start in range(0, len(dataset), step):
            try:
                values = dataset[start : start + step]
            except DAMAGE:
                bad += range(start, min(start + step, len(dataset)))
                yield start, None
                continue
            yield start, values
            content.update(content_bytes(values))
            self._advance(values.nbytes)
        if bad:
            self._add("checksum", where, bad, "a checksum fails, or bytes are missing")
        else:
            self._check_digest(where, content.hexdigest())

    def _check_digest(self, where: str, digest: str) -> None:
        every_row = range(len(self._file[where]))
        try:
            recorded = self._file[where].attrs.get("sha256")
        except DAMAGE:
            recorded = None
        if recorded is None:
            self._add("digest", where, every_row, "its digest is missing")
        elif recorded != digest:
            self._add("digest", where, every_row, "its content is not what was written (SHA-256)")

    def _add(self, what: str, where: str, rows: Iterable[int], detail: str) -> None:
        self.problems.append(Problem(what, where, ranges_of(rows), detail))

    def _decode(self, where: str, values: np.ndarray) -> np.ndarray:
        texts = [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
        wrong = [row for row, value in enumerate(values.tolist()) if texts[row].encode() != value]
        if wrong:
            self._add("table", where, wrong, f"{texts[wrong[0]]!r} was no UTF-8")
        return np.array(texts, dtype=object)


def _check_attributes(attributes: Mapping[str, object], layers: list[str]) -> Iterator[Problem]:
    recorded = attributes.get("attributes_sha256")
    if recorded is None:
        yield Problem("attributes", "/", (), "their digest, attributes_sha256, is missing")
    elif recorded != attributes_sha256(attributes):
        yield Problem("attributes", "/", (), "the attributes are not what was written (attributes_sha256)")
    try:
        expected = Settings.from_record(dict(attributes) | {"layers": layers}).sha256
    except KeyError as error:
        yield Problem("settings", "/", (), f"the attribute {error} is missing")
        return
    if attributes.get("settings_sha256") != expected:
        yield Problem("settings", "/", (), "the settings are not those that the store was made with (settings_sha256)")


def _check_columns(file: h5py.File, attributes: Mapping[str, object]) -> list[Problem]:
    try:
        columns = {name: column_kind(file["images"][name].dtype) for name in read_columns(file)}
        recorded = json.loads(attributes["columns"])
        if columns == recorded and list(columns) == list(recorded):
            return []
        shown = [", ".join(f"{name} ({kind})" for name, kind in c.items()) for c in (recorded, columns)]
    except (*DAMAGE, RecursionError) as error:
        return [Problem("table", "/images", (), f"its columns can't be compared with the attribute columns ({error})")]
    return [Problem("table", "/images", (), f"its columns were {shown[0]}, and are {shown[1]}")]


_TIMEOUT = 60.0


_BYTES_PER_SECOND = 10**8


# Without the working folder on its path (-P): an untrusted file may lie there under the name of a module.
_SCRIPT = "import sys; sys.path.append(sys.argv[1]); from featx.store.checks import touch; touch(sys.argv[2])"


def probe(path: Path, *, timeout: float = _TIMEOUT, script: str = _SCRIPT) -> None:
    """Read all of a file's metadata and tables in another process.

    Parameters
    ----------
    path : Path
    timeout : float, default 60
        Seconds; a large file gets one more for every 100 MB.
    script : str
        Python code that the process runs.

    Raises
    ------
    StoreError
        If the process crashes or doesn't end.
    """
    try:
        timeout += path.stat().st_size / _BYTES_PER_SECOND
        command = [sys.executable, "-P", "-c", script, str(Path(featx.__file__).parents[1]), str(path)]
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603
        # Killed by a signal; on Windows, by an exception. Other codes are Python's own, and don't depend on the file.
        how = "crashes on it" if done.returncode < 0 or done.returncode >= 0xC0000000 else ""
    except subprocess.TimeoutExpired:
        how = f"doesn't get through it in {timeout:.0f} s"
    except OSError:
        # The file can't be opened, or no process can be started.
        return
    if how:
        raise StoreError(f"{path}: an HDF5 file so damaged that HDF5 {how}: restore a copy, or extract it again")


def touch(path: str) -> None:
    """Read what a probe reads; ignore errors of Python's."""
    try:
        with opened(Path(path)) as file:
            read_attributes(file, Path(path))
            list(find_faults(file, Path(path)))
            file.visititems(_touch_dataset)
    except (StoreError, *DAMAGE):
        return


def _touch_dataset(name: str, entry: h5py.Dataset | h5py.Group) -> None:
    """Read a dataset's attributes and the places of its chunks; one row of features, or a whole column."""
    try:
        dict(entry.attrs)
        if isinstance(entry, h5py.Dataset):
            n_rows = 1 if name.startswith("features/") else len(entry)
            for start in range(0, n_rows, entry.chunks[0] if entry.chunks else max(1, n_rows)):
                entry[start]
            if entry.chunks:
                entry.id.chunk_iter(lambda chunk: None)
    except (StoreError, *DAMAGE):
        return


_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Return whether a text is a SHA-256 in hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def check_tables(
    images: pd.DataFrame, rejected: pd.DataFrame, attributes: Mapping[str, object], unread: np.ndarray
) -> Iterator[Problem]:
    """Yield the problems of a store's tables; `unread` are rows whose sha256 couldn't be read."""
    if "path" in images:
        yield from _check_paths(images["path"], rejected, attributes)
    if "split" in images:
        wrong = ~images["split"].isin([*SPLITS, ""])
        if wrong.any():
            split = images["split"][wrong].iloc[0]
            yield _problem("/images/split", wrong, f"{split!r} is no split; expected {', '.join(SPLITS)} or nothing")
    if "sha256" in images:
        wrong = ~images["sha256"].map(is_digest).astype(bool)
        wrong.iloc[unread] = False
        if wrong.any():
            yield _problem("/images/sha256", wrong, f"{images['sha256'][wrong].iloc[0]!r} is not 64 hexadecimal digits")


def _check_paths(paths: pd.Series, rejected: pd.DataFrame, attributes: Mapping[str, object]) -> Iterator[Problem]:
    wrong = paths == ""
    if wrong.any():
        yield _problem("/images/path", wrong, "the path is empty")
    wrong = paths.duplicated(keep=False) & ~wrong
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} occurs more than once")
    if "path" not in rejected:
        return
    wrong = paths.isin(set(rejected["path"]))
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} is among the rejected, too")
    # Where some were rejected, their places in the list are unknown.
    if not len(rejected) and (recorded := attributes.get("paths_sha256")) is not None:
        text = "\0".join(paths).encode("utf-8", "surrogateescape")
        if sha256_of(text) != recorded:
            yield Problem(
                "order", "/images/path", (), "these paths in this order are not those of the source (paths_sha256)"
            )


def _problem(where: str, wrong: pd.Series, detail: str) -> Problem:
    return Problem("table", where, ranges_of(wrong.to_numpy().nonzero()[0]), detail)
