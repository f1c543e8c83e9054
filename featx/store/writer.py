"""Write a store: one file from parts, by the contract of `featx.store.reader`."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd

import featx
from featx.errors import StoreError
from featx.images import text_of
from featx.store.file import (
    FORMAT,
    TEXT_COLUMNS,
    attributes_sha256,
    column_kind,
    content_bytes,
    read_attributes,
    read_columns,
)
from featx.store.parts import Part
from featx.store.settings import Settings
from featx.system import now, sha256_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 2**20


def write_store(
    path: Path,
    *,
    settings: Settings,
    table: pd.DataFrame,
    root: Path,
    parts: Iterable[Part],
    n_channels: Mapping[str, int],
    provenance: Mapping[str, object],
) -> None:
    """Write a store out of its parts, one at a time.

    Parameters
    ----------
    path : path
        The file to write; not yet the store's own name.
    settings : Settings
    table : DataFrame
        The manifest's table, one row per image, readable or not.
    root : path
        The folder that relative paths start from.
    parts : iterable of Part
        Ascending, together covering every row of `table`.
    n_channels : mapping of str to int
        Features per layer.
    provenance : mapping of str to str or number
        Further attributes of the root.

    Raises
    ------
    StoreError
        If writing fails; the file is then not a store.
    """
    kept = "All features are kept in the parts next to it; fix it (free some disk, say) and run the same command again"
    with _new_file(path, kept) as (file, disk):
        rows, digests, lost = _write_features(file, parts, n_channels, len(table), np.dtype(settings.store_dtype), disk)
        _write_images(file, table, rows, digests)
        _write_table(file.create_group("rejected"), _table_of(lost, table))
        _write_attributes(file, _describe(settings, root) | dict(provenance))


def rewrite_store(
    path: Path,
    *,
    images: pd.DataFrame,
    rejected: pd.DataFrame,
    parts: Iterable[Part],
    n_channels: Mapping[str, int],
    dtype: str,
    describe: Callable[[], Mapping[str, object]],
) -> None:
    """Write an existing store once more, with features and digests from parts.

    Parameters
    ----------
    path : path
        The file to write; not yet the store's own name.
    images, rejected : DataFrame
        The store's own; see `featx.store.Store`. What the parts reject moves from one to the other.
    parts : iterable of Part
        Ascending, together covering every row of `images`; features in the type that they are stored in are copied bit
        for bit.
    n_channels : mapping of str to int
        Features per layer.
    dtype : str
        How features are stored: float32 or float16.
    describe : callable
        Returns the root's attributes, once all parts are written; digests and columns are made again.

    Raises
    ------
    StoreError
        If writing fails; the file is then not a store.
    """
    with _new_file(path, "Nothing was changed; fix it (free some disk, say) and run the same command again") as opened:
        file, disk = opened
        rows, digests, lost = _write_features(file, parts, n_channels, len(images), np.dtype(dtype), disk)
        _write_images(file, images, rows, digests)
        whole = pd.concat([rejected, _table_of(lost, images)], ignore_index=True)
        _write_table(file.create_group("rejected"), whole)
        _write_attributes(file, describe())


@contextmanager
def _new_file(path: Path, kept: str) -> Iterator[tuple[h5py.File, "DeferredErrorFile"]]:
    """Make a file; if writing fails, the error says what is kept."""
    try:
        with open_deferring_errors(path) as (file, disk):
            yield file, disk
            if disk.error is None:
                # Read back, so that the digest is of what a reader gets.
                file.attrs["attributes_sha256"] = attributes_sha256(read_attributes(file, path))
    except OSError as error:
        raise StoreError(f"{path}: writing failed ({error.strerror or error}). {kept}") from error


def _write_features(
    file: h5py.File,
    parts: Iterable[Part],
    n_channels: Mapping[str, int],
    n_rows: int,
    dtype: np.dtype,
    disk: "DeferredErrorFile",
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Append every part's features; return the rows that have some, their digests, and why the others have none."""
    features = _create_features(file, n_channels, n_rows, dtype)
    content = {layer: hashlib.sha256() for layer in n_channels}
    rows, digests, rejected = [np.array([], dtype=np.int64)], [np.array([], dtype="S64")], {}
    for part in parts:
        for layer, values in part.features.items():
            dataset = features[layer]
            end = dataset.shape[0]
            dataset.resize(end + len(values), axis=0)
            # Rounded here, to the nearest: HDF5's own conversion isn't that exact.
            stored = values.astype(dataset.dtype)
            dataset[end:] = stored
            content[layer].update(content_bytes(stored))
        rows.append(part.rows)
        digests.append(part.sha256)
        rejected |= part.rejected
        if disk.error is not None:
            break
    for layer, digest in content.items():
        features[layer].attrs["sha256"] = digest.hexdigest()
    return np.concatenate(rows), np.concatenate(digests), rejected


def _create_features(file: h5py.File, n_channels: Mapping[str, int], n_rows: int, dtype: np.dtype) -> h5py.Group:
    group = file.create_group("features")
    for layer, channels in n_channels.items():
        chunk_rows = max(1, min(n_rows, CHUNK_BYTES // (channels * dtype.itemsize)))
        group.create_dataset(
            layer,
            shape=(0, channels),
            maxshape=(None, channels),
            dtype=dtype.newbyteorder("<"),
            chunks=(chunk_rows, channels),
            fletcher32=True,
        )
    return group


def _write_images(file: h5py.File, table: pd.DataFrame, rows: np.ndarray, digests: np.ndarray) -> None:
    # Digests are text of fixed length already; as Python's strings they would take several times the memory.
    columns = {name: column.iloc[rows] for name, column in table.items()} | {"sha256": digests}
    _write_table(file.create_group("images", track_order=True), columns)


def _table_of(lost: Mapping[int, str], table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"path": table["path"].iloc[list(lost)], "reason": list(lost.values())}, dtype=object)


def _describe(settings: Settings, root: Path) -> dict[str, object]:
    return asdict(settings) | {
        "featx_format": FORMAT,
        "featx_version": featx.__version__,
        "layers": json.dumps(settings.layers),
        "settings_sha256": settings.sha256,
        "root": str(root),
        "created": now(),
    }


def _write_attributes(file: h5py.File, attributes: Mapping[str, object]) -> None:
    columns = {name: column_kind(file["images"][name].dtype) for name in read_columns(file)}
    for name, value in (dict(attributes) | {"columns": json.dumps(columns)}).items():
        file.attrs[name] = h5py.Empty("f") if value is None else value


def as_text(value: object) -> str:
    """Return a cell as a store has it: bytes of a file's name that are no UTF-8 are escaped."""
    return text_of(value).encode("utf-8", "backslashreplace").decode()


def _write_table(group: h5py.Group, table: Mapping[str, pd.Series | np.ndarray]) -> None:
    for name, column in table.items():
        values = np.asarray(column)
        if values.dtype.kind not in ("S" if name in TEXT_COLUMNS else "biufS"):
            values = _encode(values)
        if values.dtype.kind == "S":
            # The same bytes, marked as UTF-8.
            values = values.view(h5py.string_dtype("utf-8", values.dtype.itemsize))
        options = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True} if len(values) else {}
        dataset = group.create_dataset(name, data=values, **options)
        dataset.attrs["sha256"] = sha256_of(content_bytes(values))


def _encode(texts: np.ndarray) -> np.ndarray:
    """Return texts as UTF-8 of one length."""
    width = max((len(as_text(text).encode()) for text in texts), default=1)
    encoded = np.empty(len(texts), dtype=f"S{max(1, width)}")
    for row, text in enumerate(texts):
        encoded[row] = as_text(text).encode()
    return encoded


@contextmanager
def open_deferring_errors(path: Path) -> Iterator[tuple[h5py.File, "DeferredErrorFile"]]:
    """Open a new HDF5 file; after it is closed, raise the first error of the disk; see `DeferredErrorFile`."""
    with DeferredErrorFile(path) as disk:
        with h5py.File(disk, "w") as file:
            try:
                yield file, disk
            except OSError as error:
                # On a full disk, HDF5 may fail to read what it has written.
                disk.error = disk.error or error
        if disk.error is not None:
            raise disk.error


class DeferredErrorFile(io.FileIO):
    """A file for writing that keeps its first error instead of raising it.

    After a failed write, the HDF5 library can't close its objects, prints many lines, and may crash the process. With
    this file it gets no error and can close; the caller checks `error` before the file is used.

    Attributes
    ----------
    error : OSError or None
        The first error of a write, a flush or a truncation.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        """Write all of the data, or keep the error; always return the number of all bytes."""
        rest = memoryview(data).cast("B")
        n_bytes = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return n_bytes

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or keep the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size
