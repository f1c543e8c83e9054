"""Check a store's file: that HDF5 survives it, then its chunks, digests, values and tables."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import featx
from featx.errors import StoreError
from featx.images import SPLITS
from featx.store.file import (
    DAMAGE,
    REJECTED,
    attributes_sha256,
    content_bytes,
    describe_column,
    find_faults,
    opened,
    read_attributes,
    read_columns,
    read_layers,
)
from featx.store.problems import FEATURES_DIFFER, Problem, ranges_of, rows_in
from featx.store.settings import Settings
from featx.system import sha256_of

if TYPE_CHECKING:
    import h5py


_BLOCK_BYTES = 2**24


_MOST_COMPARED = 1000


# What can be made again row by row.
_DIGESTS = "/images/sha256"


_BY_ROW = ("/features/", _DIGESTS)


_NO_DIGESTS = (
    "the store is of an older featx and has no digests: its bytes were compared with their checksums (Fletcher-32), "
    "which don't tell of a chunk in another's place"
)


@dataclass(frozen=True)
class Findings:
    """What is in a store's file.

    Attributes
    ----------
    attributes : dict
        Of the root.
    layers : list of str
    n_channels : dict of str to int
        Of the layers that are there.
    n_images : int
    images, rejected : DataFrame
        See `featx.store.Store`; columns that can't be read are not there.
    problems : tuple of Problem
    notes : tuple of str
        What could not be checked.
    """

    attributes: dict[str, object]
    layers: list[str]
    n_channels: dict[str, int]
    n_images: int
    images: pd.DataFrame
    rejected: pd.DataFrame
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def check_file(file: "h5py.File", path: Path, advance: Callable[[int], object]) -> Findings:
    """Check all of a file but whether its features are those of its images.

    Parameters
    ----------
    file : h5py.File
        Of the right format; see `featx.store.opened`.
    path : Path
        For messages.
    advance : callable
        Is told the number of bytes that were read.
    """
    try:
        attributes = read_attributes(file, path)
        layers = read_layers(attributes)
    except (StoreError, ValueError) as error:
        problem = Problem("attributes", "/", (), str(error).removeprefix(f"{path}: "))
        return Findings({}, [], {}, 0, pd.DataFrame(), pd.DataFrame(), (problem,), ())
    problems = list(_check_attributes(attributes, layers))
    faults = list(find_faults(file, path))
    faulty = {fault.where for fault in faults}
    n_images = len(file["images/path"]) if not faulty & {"/", "/images/path"} else 0
    whole = ((0, n_images),) if n_images else ()
    problems += [Problem(f.what, f.where, whole if f.where.startswith(_BY_ROW) else (), f.message) for f in faults]
    if "/" in faulty:
        return Findings(attributes, layers, {}, n_images, pd.DataFrame(), pd.DataFrame(), tuple(problems), ())
    scanner = _Scanner(file, _is_digested(file, attributes, layers), advance)
    rejected = scanner.read_table([where for name in REJECTED if (where := f"/rejected/{name}") not in faulty])
    images = scanner.read_table([where for name in read_columns(file) if (where := f"/images/{name}") not in faulty])
    scanner.problems += _check_columns(file, attributes)
    unread = rows_in(rows for problem in scanner.problems if problem.where == _DIGESTS for rows in problem.rows)
    scanner.problems += check_tables(images, rejected, attributes, unread)
    sound = [layer for layer in layers if f"/features/{layer}" not in faulty]
    if n_images:
        twins = _find_twins(images)
        tolerance = tolerance_of(attributes)
        for layer in sound:
            scanner.read_features(f"/features/{layer}", twins, tolerance)
    return Findings(
        attributes=attributes,
        layers=layers,
        n_channels={layer: file[f"features/{layer}"].shape[1] for layer in sound},
        n_images=n_images,
        images=images,
        rejected=rejected,
        problems=(*problems, *scanner.problems),
        notes=() if scanner.is_digested else (_NO_DIGESTS,),
    )


class _Scanner:
    """Reads datasets block by block, and notes what is wrong with them."""

    def __init__(self, file: "h5py.File", is_digested: bool, advance: Callable[[int], object]) -> None:
        self.is_digested = is_digested
        self.problems: list[Problem] = []
        self._file = file
        self._advance = advance

    def read_table(self, names: Iterable[str]) -> pd.DataFrame:
        """Return the columns that can be read; of the digests, those that can be read, and otherwise empty text."""
        columns = {}
        for where in names:
            values = np.zeros(len(self._file[where]), self._file[where].dtype)

            def keep(start: int, block: np.ndarray, values: np.ndarray = values) -> None:
                values[start : start + len(block)] = block

            if self._scan(where, keep) or where == _DIGESTS:
                name = where.rsplit("/", 1)[1]
                columns[name] = values if values.dtype.kind != "S" else self._decode(where, values)
        return pd.DataFrame(columns)

    def read_features(self, where: str, twins: np.ndarray, tolerance: float) -> None:
        """Check a layer's features; `twins` has, for each row, the first row of the same file, or -1."""
        wrong: list[np.ndarray] = []
        n_wrong = 0
        prints = np.zeros(len(twins), dtype="S16") if (twins >= 0).any() else None

        def look(start: int, values: np.ndarray) -> None:
            nonlocal n_wrong
            finite = np.isfinite(values)
            if not finite.all():
                n_wrong += finite.size - int(finite.sum())
                wrong.append(start + np.flatnonzero(~finite.all(axis=1)))
            for row in (start + np.flatnonzero(twins[start : start + len(values)] >= 0)) if prints is not None else ():
                prints[row] = hashlib.blake2b(values[row - start].tobytes(), digest_size=8).hexdigest()

        is_whole = self._scan(where, look)
        if wrong:
            detail = f"{n_wrong:,} values are not finite"
            self.problems.append(Problem("not finite", where, ranges_of(np.concatenate(wrong)), detail))
        if is_whole and prints is not None:
            self._compare_twins(where, twins, prints, tolerance)

    def _scan(self, where: str, take: Callable[[int, np.ndarray], object]) -> bool:
        """Read a dataset and hand its blocks on; return whether all of it could be read."""
        dataset = self._file[where]
        content, bad = hashlib.sha256(), []
        step = dataset.chunks[0] if dataset.chunks else max(1, _BLOCK_BYTES // max(1, _row_bytes(dataset)))
        for start in range(0, len(dataset), step):
            stop = min(start + step, len(dataset))
            try:
                values = dataset[start:stop]
            except DAMAGE:
                bad += range(start, stop)
                continue
            take(start, values)
            content.update(content_bytes(values))
            self._advance(values.nbytes)
        if bad:
            self._add("checksum", where, bad, "a checksum fails, or the bytes are not there")
        elif self.is_digested:
            self._check_digest(where, content.hexdigest())
        elif unchecked := _find_unchecked(dataset):
            self._add("checksum", where, unchecked, "the bytes lie elsewhere, or without their checksum")
            return False
        return not bad

    def _check_digest(self, where: str, found: str) -> None:
        every = range(len(self._file[where]))
        try:
            recorded = self._file[where].attrs.get("sha256")
        except DAMAGE:
            recorded = None
        if recorded is None:
            self._add("digest", where, every, "its digest, which others here have, is missing")
        elif recorded != found:
            self._add("digest", where, every, "its content is not what was written (SHA-256)")

    def _add(self, what: str, where: str, rows: object, detail: str) -> None:
        self.problems.append(Problem(what, where, ranges_of(rows), detail))

    def _decode(self, where: str, values: np.ndarray) -> np.ndarray:
        texts = [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
        wrong = [row for row, value in enumerate(values.tolist()) if texts[row].encode() != value]
        if wrong:
            self._add("table", where, wrong, f"{texts[wrong[0]]!r} was no UTF-8")
        return np.array(texts, dtype=object)

    def _compare_twins(self, where: str, twins: np.ndarray, prints: np.ndarray, tolerance: float) -> None:
        """Compare rows whose files are the same: to the bit, or, where these differ, by norms."""
        rows = np.flatnonzero(twins >= 0)
        rows = rows[prints[rows] != prints[twins[rows]]][:_MOST_COMPARED]
        dataset = self._file[where]
        differing = [row for row in rows.tolist() if not difference(dataset[row], dataset[twins[row]]) <= tolerance]
        if differing:
            pairs = sorted({*differing, *twins[differing].tolist()})
            detail = "rows of identical files (sha256) have different features: one of them is another image's"
            self._add(FEATURES_DIFFER, where, pairs, detail)


def _check_attributes(attributes: Mapping[str, object], layers: list[str]) -> Iterator[Problem]:
    recorded = attributes.get("attributes_sha256")
    if recorded is None and "columns" in attributes:
        yield Problem("attributes", "/", (), "their digest, attributes_sha256, is missing")
    elif recorded is not None and recorded != attributes_sha256(attributes):
        yield Problem("attributes", "/", (), "the attributes are not what was written (attributes_sha256)")
    try:
        expected = Settings.from_record(dict(attributes) | {"layers": layers}).sha256
    except KeyError as error:
        yield Problem("settings", "/", (), f"the attribute {error} is missing")
        return
    if attributes.get("settings_sha256") != expected:
        yield Problem("settings", "/", (), "the settings are not those that the store was made with (settings_sha256)")


def _check_columns(file: "h5py.File", attributes: Mapping[str, object]) -> list[Problem]:
    if "columns" not in attributes:
        return []
    try:
        found = {name: describe_column(file["images"][name].dtype) for name in read_columns(file)}
        recorded = json.loads(attributes["columns"])
    except (*DAMAGE, RecursionError) as error:
        return [Problem("table", "/images", (), f"which columns there are can't be read ({error})")]
    if found == recorded and list(found) == list(recorded):
        return []
    shown = [", ".join(f"{name} ({kind})" for name, kind in columns.items()) for columns in (recorded, found)]
    return [Problem("table", "/images", (), f"its columns were {shown[0]}, and are {shown[1]}")]


def _is_digested(file: "h5py.File", attributes: Mapping[str, object], layers: list[str]) -> bool:
    """Whether any digest is there: one that got lost doesn't make a store an older one."""
    if "attributes_sha256" in attributes or "columns" in attributes:
        return True
    try:
        return any("sha256" in file[f"features/{layer}"].attrs for layer in layers)
    except DAMAGE:
        return True


def _find_twins(images: pd.DataFrame) -> np.ndarray:
    """Return, for each row, the first row of the same file, itself among them; -1 where no other is."""
    if "sha256" not in images:
        return np.full(len(images), -1)
    digests = images["sha256"].to_numpy().astype(str)
    _, first, places, counts = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    return np.where((counts[places] > 1) & images["sha256"].map(is_digest).to_numpy(bool), first[places], -1)


def _find_unchecked(dataset: "h5py.Dataset") -> list[int]:
    """Return the rows whose chunk is read without its checksum, or shares its bytes with another."""
    if not dataset.chunks or not dataset.fletcher32:
        return []
    chunks: list = []
    try:
        dataset.id.chunk_iter(chunks.append)
    except DAMAGE:
        return list(range(len(dataset)))
    plain = dataset.compression is None
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize + 4
    shared = Counter(chunk.byte_offset for chunk in chunks)
    wrong = [
        chunk.chunk_offset[0]
        for chunk in chunks
        if chunk.filter_mask or shared[chunk.byte_offset] > 1 or (plain and chunk.size != size)
    ]
    n_rows = dataset.chunks[0]
    return sorted({row for start in wrong for row in range(start, min(start + n_rows, len(dataset)))})


def _row_bytes(dataset: "h5py.Dataset") -> int:
    return int(np.prod(dataset.shape[1:], dtype=np.int64)) * dataset.dtype.itemsize


_TIMEOUT = 60.0


_BYTES_PER_SECOND = 10**8


# Without the working folder on its path (-P): a stranger's file may lie there under the name of a module.
_SCRIPT = "import sys; sys.path.append(sys.argv[1]); from featx.store.checks import touch; touch(sys.argv[2])"


def probe(path: Path, *, timeout: float = _TIMEOUT, script: str = _SCRIPT) -> None:
    """Read all of a file's metadata and tables in another process; do nothing, if that comes to its end.

    Parameters
    ----------
    path : Path
    timeout : float, default 60
        Seconds, to which a large file adds some: one for every 100 MB.
    script : str
        What the process runs.

    Raises
    ------
    StoreError
        If the process crashes or doesn't end.
    """
    try:
        timeout += path.stat().st_size / _BYTES_PER_SECOND
        command = [sys.executable, "-P", "-c", script, str(Path(featx.__file__).parents[1]), str(path)]
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)  # noqa: S603
        # Killed by a signal; on Windows, by an exception. Other codes are Python's own, and tell nothing of the file.
        how = "crashes on it" if done.returncode < 0 or done.returncode >= 0xC0000000 else ""
    except subprocess.TimeoutExpired:
        how = f"doesn't get through it in {timeout:.0f} s"
    except OSError:
        # What can't be opened, or processes that can't be started: the caller says so, or does without.
        return
    if how:
        raise StoreError(f"{path}: an HDF5 file so damaged that HDF5 {how}: restore a copy, or extract it again")


def touch(path: str) -> None:
    """Read what a probe reads; that it can't be read is for another to tell."""
    try:
        with opened(Path(path)) as file:
            read_attributes(file, Path(path))
            list(find_faults(file, Path(path)))
            file.visititems(_touch_dataset)
    except (StoreError, *DAMAGE):
        return


def _touch_dataset(name: str, found: object) -> None:
    """Read a dataset's attributes and where its chunks are; of features a row, of a table all."""
    try:
        dict(found.attrs)
        if hasattr(found, "shape"):
            n_rows = 1 if name.startswith("features/") else len(found)
            for start in range(0, n_rows, found.chunks[0] if found.chunks else max(1, n_rows)):
                found[start]
            if found.chunks:
                found.id.chunk_iter(lambda chunk: None)
    except (StoreError, *DAMAGE):
        return


_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def check_tables(
    images: pd.DataFrame, rejected: pd.DataFrame, attributes: Mapping[str, object], unread: np.ndarray
) -> Iterator[Problem]:
    """Yield what is wrong with the tables of a store.

    Parameters
    ----------
    images, rejected : DataFrame
        See `featx.store.Store`; columns that couldn't be read are not there.
    attributes : mapping
        Of the store's root.
    unread : ndarray of int
        Rows whose sha256 couldn't be read, and stands there empty.
    """
    if "path" in images:
        yield from _check_paths(images["path"], rejected, attributes)
    if "split" in images:
        wrong = ~images["split"].isin([*SPLITS, ""])
        if wrong.any():
            found = images["split"][wrong].iloc[0]
            yield _problem("/images/split", wrong, f"{found!r} is no split; expected {', '.join(SPLITS)} or nothing")
    if "sha256" in images:
        wrong = ~images["sha256"].map(is_digest).astype(bool)
        wrong.iloc[unread] = False
        if wrong.any():
            yield _problem("/images/sha256", wrong, f"{images['sha256'][wrong].iloc[0]!r} is not 64 hexadecimal digits")


def _check_paths(paths: pd.Series, rejected: pd.DataFrame, attributes: Mapping[str, object]) -> Iterator[Problem]:
    wrong = paths == ""
    if wrong.any():
        yield _problem("/images/path", wrong, "there is no path")
    wrong = paths.duplicated(keep=False) & ~wrong
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} stands there more than once")
    if "path" not in rejected:
        return
    wrong = paths.isin(set(rejected["path"]))
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} is among the rejected, too")
    # Where some were rejected, their places in the list are not known any more.
    if not len(rejected) and (recorded := attributes.get("paths_sha256")) is not None:
        text = "\0".join(paths).encode("utf-8", "surrogateescape")
        if sha256_of(text) != recorded:
            yield Problem(
                "order", "/images/path", (), "these paths in this order are not those of the source (paths_sha256)"
            )


def _problem(where: str, wrong: pd.Series, detail: str) -> Problem:
    return Problem("table", where, ranges_of(wrong.to_numpy().nonzero()[0]), detail)


# The norm of the difference over the norm, of one row of one layer. Keras's batches change the seventh digit; another
# engine or device (Winograd, other orders of adding) the fifth; 16 bits the third or fourth.
_SAME = 1e-4


OTHER_ENGINE = 1e-3


_STORED = {"float32": _SAME, "float16": 1e-3}


_COMPUTED = {"float32": _SAME, "float16": 1e-2, "bfloat16": 5e-2}


def tolerance_of(recorded: Mapping[str, object]) -> float:
    """Return the limit for features made again by the same engine.

    Parameters
    ----------
    recorded : mapping
        A store's attributes: what counts is its precision and its store_dtype.

    Examples
    --------
    >>> tolerance_of({"precision": "float32", "store_dtype": "float16"})
    0.001
    """
    computed = _COMPUTED.get(str(recorded.get("precision")), _SAME)
    return max(computed, _STORED.get(str(recorded.get("store_dtype", "float32")), _SAME))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the norm of the difference over the larger norm; infinity where a value is not finite.

    Examples
    --------
    >>> difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])) < 0.1
    True
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    norm = max(np.linalg.norm(one), np.linalg.norm(other))
    if not np.isfinite(norm):
        return float("inf")
    return float(np.linalg.norm(one - other) / norm) if norm else 0.0
