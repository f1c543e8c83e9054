"""Open a store's HDF5 file without locks, check its layout, and compute digests."""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import h5py
import numpy as np

import featx
from featx.errors import MissingStoreError, StoreError
from featx.store.problems import Problem
from featx.system import sha256_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FORMAT = 1


TEXT_COLUMNS = ("path", "label", "split", "sha256")


REJECTED = ("path", "reason")


# What h5py is known to raise on damaged files.
DAMAGE = (*(OSError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a store's file, which may be damaged, for as long as the block lasts."""
    file, raw = open_file(path)
    try:
        check_format(file, path)
        yield file
    finally:
        # A damaged file may fail even here.
        with suppress(*DAMAGE):
            file.close()
        raw.close()


def open_file(path: Path) -> tuple[h5py.File, BinaryIO]:
    """Open an HDF5 file for reading; close both results, in this order."""
    try:
        raw = PositionedFile(path)
    except FileNotFoundError as error:
        parts = path.with_name(path.name + ".parts")
        unfinished = f"; {parts.name} exists, so run the extraction again to finish it" if parts.is_dir() else ""
        raise MissingStoreError(f"{path}: no such store{unfinished}") from error
    except IsADirectoryError as error:
        raise StoreError(f"{path}: a folder, not a store") from error
    except OSError as error:
        raise StoreError(f"{path}: can't be opened: {error.strerror or error}") from error
    try:
        # Through a file of Python's, since HDF5 locks those that it opens itself, and that fails on some network file
        # systems. No lock is needed: a finished store never changes in place, a new one is renamed over it. (HDF5's own
        # locking=False would refuse a file that the same process has opened with h5py's defaults.)
        return h5py.File(raw, "r"), raw
    except DAMAGE as error:
        with path.open("rb") as start:
            is_hdf5 = start.read(8) == b"\x89HDF\r\n\x1a\n"
        raw.close()
        what = "an HDF5 file that is cut or damaged: copy or extract it again" if is_hdf5 else "not an HDF5 file"
        raise StoreError(f"{path}: {what} ({error})") from error


def check_format(file: h5py.File, path: Path) -> None:
    """Raise an error if a file is no store, or of a newer format."""
    try:
        version = file.attrs.get("featx_format")
    except DAMAGE as error:
        raise StoreError(f"{path}: its attributes can't be read: copy or extract it again ({error})") from error
    if version is None:
        raise StoreError(f"{path}: an HDF5 file, but no featx store (it has no attribute featx_format)")
    if not isinstance(version, int | np.integer) or version < 1:
        raise StoreError(f"{path}: the attribute featx_format is {version!r}, expected a whole number")
    if version > FORMAT:
        raise StoreError(
            f"{path}: a store of format {int(version)}, and this featx ({featx.__version__}) reads up to "
            f"{FORMAT}: pip install --upgrade featx"
        )


def read_attributes(file: h5py.File, path: Path) -> dict[str, object]:
    """Return the root's attributes as JSON could hold them: text, numbers, None, and lists of these."""
    try:
        # Names that are no UTF-8 come as bytes.
        return {name: _plain(file.attrs[name]) for name in map(_plain, file.attrs)}
    except DAMAGE as error:
        raise StoreError(
            f"{path}: its attributes are damaged ({error}): restore a copy, or extract it again"
        ) from error


def attributes_sha256(attributes: Mapping[str, object]) -> str:
    """Return the digest of all attributes but this one: of their JSON with sorted keys."""
    others = {name: value for name, value in attributes.items() if name != "attributes_sha256"}
    return sha256_of(json.dumps(others, sort_keys=True))


def content_bytes(values: np.ndarray) -> bytes:
    """Return the bytes that a dataset's digest is made from: its values in C order, little-endian."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def read_layers(attributes: Mapping[str, object]) -> list[str]:
    """Return the features' names, in network order; raise a ValueError if they are no JSON list of different names."""
    try:
        layers = json.loads(attributes["layers"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the attribute layers is no JSON ({error!r})") from error
    is_list = isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
    if not is_list or not layers or len(set(layers)) < len(layers):
        raise ValueError("the attribute layers is no JSON list of different names")
    return layers


def column_kind(dtype: np.dtype) -> str:
    """Return a column's kind as the attribute columns has it: text, or NumPy's name of the numbers."""
    return "text" if dtype.kind == "S" else dtype.name


def read_columns(file: h5py.File) -> list[str]:
    """Return the names below /images: path, label, split and sha256, then the others in their order."""
    return [*TEXT_COLUMNS, *(name for name in file["images"] if name not in TEXT_COLUMNS)]


def find_faults(file: h5py.File, path: Path) -> Iterator[Problem]:
    """Yield each part of a file that differs from the contract in its place, type or shape; read nothing else."""
    try:
        layers = read_layers(read_attributes(file, path))
        names = [("features", layer) for layer in layers]
        names += [("images", name) for name in read_columns(file)] + [("rejected", name) for name in REJECTED]
        datasets = {f"/{group}/{name}": _look_up(file, group, name) for group, name in names}
        n_rows = {group: _count_rows(datasets[f"/{group}/path"]) for group in ("images", "rejected")}
        for where, dataset in datasets.items():
            if isinstance(dataset, Problem):
                yield dataset
            elif fault := _find_fault(dataset, where, n_rows):
                yield fault
    except DAMAGE as error:
        yield Problem("missing", "/", (), f"a featx store with a part missing: {error}")


def _look_up(file: h5py.File, group: str, name: str) -> h5py.Dataset | Problem:
    """Return a dataset that lies in this file: HDF5 can point into other files, and an untrusted store might."""
    where = f"/{group}/{name}"
    foreign = Problem("foreign", where, (), f"{where} points into another file, which no store of featx does")
    try:
        link = file[group].get(name, getlink=True) if "/" not in name and name != "." else None
        dataset = file[group][name] if isinstance(link, h5py.HardLink) else None
        if link is not None and (dataset is None or dataset.file != file):
            return foreign
        if not isinstance(dataset, h5py.Dataset):
            return Problem("missing", where, (), f"a featx store with a part missing: {where}")
        return foreign if dataset.external or dataset.is_virtual else dataset
    except DAMAGE as error:
        return Problem("missing", where, (), f"a featx store with a part missing: {where} ({error})")


def _count_rows(dataset: h5py.Dataset | Problem) -> int | None:
    return len(dataset) if isinstance(dataset, h5py.Dataset) and dataset.ndim == 1 else None


def _find_fault(dataset: h5py.Dataset, where: str, n_rows: Mapping[str, int | None]) -> Problem | None:
    try:
        dtype, shape = dataset.dtype, dataset.shape
        n_stored = dataset.id.get_storage_size()
    except DAMAGE as error:
        return Problem("type", where, (), f"{where} is damaged: what its shape and type are can't be read ({error})")
    _, group, name = where.split("/", 2)
    is_known = _is_matrix(dtype, shape) if group == "features" else _is_column(dtype, shape, name, group == "images")
    if not is_known:
        return Problem("type", where, (), f"{where} is {dtype} {shape}")
    table = "rejected" if group == "rejected" else "images"
    if n_rows[table] not in (None, shape[0]):
        return Problem("shape", where, (), f"{where} has {shape[0]:,} rows, /{table}/path {n_rows[table]:,}")
    # Chunks that are missing would be read as zeros.
    if group == "features" and n_stored < shape[0] * shape[1] * dtype.itemsize:
        return Problem("size", where, (), f"{where} is {shape}, but only {n_stored:,} bytes of it are stored")
    return None


def _is_matrix(dtype: np.dtype, shape: tuple[int, ...] | None) -> bool:
    return dtype.kind == "f" and shape is not None and len(shape) == 2 and shape[1] > 0


def _is_column(dtype: np.dtype, shape: tuple[int, ...] | None, name: str, may_be_numbers: bool) -> bool:
    """Return whether it is text of fixed length, or the numbers of a further column."""
    if shape is None or len(shape) != 1:
        return False
    is_text = (info := h5py.check_string_dtype(dtype)) is not None and info.length is not None
    return is_text or (may_be_numbers and name not in TEXT_COLUMNS and dtype.kind in "biuf")


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if value is None or isinstance(value, h5py.Empty):
        return None
    return value if isinstance(value, str | int | float) else str(value)


class PositionedFile(io.FileIO):
    """A file with its own position: processes that are forked from one another share the system's."""

    _at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        if not hasattr(os, "preadv"):
            return super().seek(offset, whence)
        before = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self.fileno()).st_size}
        self._at = before[whence] + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at if hasattr(os, "preadv") else super().tell()

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer, or raise an error: HDF5 would take what else is in the buffer for the file's bytes."""
        rest = memoryview(buffer).cast("B")
        n_bytes = len(rest)
        while rest:
            n_read = os.preadv(self.fileno(), [rest], self._at) if hasattr(os, "preadv") else super().readinto(rest)
            if not n_read:
                raise OSError("the file ends before")
            self._at, rest = self._at + n_read, rest[n_read:]
        return n_bytes


class StoredFeatures:
    """The features of a store's open file, by row.

    Parameters
    ----------
    file : h5py.File
    layers : sequence of str
    """

    def __init__(self, file: h5py.File, layers: Sequence[str]) -> None:
        self._file = file
        self._layers = layers

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Read some rows, in any order, repeated or not, in the type that they are stored in."""
        ascending, indices = np.unique(rows, return_inverse=True)
        runs = np.split(ascending, np.flatnonzero(np.diff(ascending) > 1) + 1) if len(ascending) else []
        features = {}
        for layer in self._layers:
            dataset = self._file["features"][layer]
            blocks = [dataset[int(run[0]) : int(run[-1]) + 1] for run in runs]
            features[layer] = np.concatenate([np.empty((0, dataset.shape[1]), dataset.dtype), *blocks])[indices]
        return features
