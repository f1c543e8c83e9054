"""Whether a store's file holds what was written: every chunk, every digest, every value, block by block."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featx.damage import FEATURES_DIFFER, Problem, ranges_of, rows_in
from featx.errors import StoreError
from featx.settings import Settings
from featx.store_file import (
    DAMAGE,
    REJECTED,
    attributes_sha256,
    content_bytes,
    describe_column,
    find_faults,
    read_attributes,
    read_columns,
    read_layers,
)
from featx.table_checks import check_tables, is_digest
from featx.tolerance import difference, tolerance_of

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
        Of the right format; see `featx.store_file.opened`.
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
