"""Open a store's HDF5 file without locks, refuse files that are no store, and compute digests.

A file may be damaged or a stranger's: whatever is claimed is compared with the bytes that are there before it is read.
"""

import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

import featx
from featx.errors import MissingStoreError, StoreError
from featx.system import sha256_of

FORMAT = 1


TEXT_COLUMNS = ("path", "label", "split", "sha256")


REJECTED = ("path", "reason")


# What h5py is known to raise on damaged files.
DAMAGE = (*(OSError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),)


_LARGEST_CHUNK = 2**26


# A table may take this much memory, or so many times its file's size where that is more.
_LARGEST_TABLE = 2**30


_LARGEST_TABLE_SHARE = 16


_CELL_BYTES = 64


# No stream of deflate's grows by more.
_DEFLATE_RATIO = 1032


_MOST_ENTRIES = 256


@dataclass(frozen=True)
class Fault:
    """Where a file is not laid out as the contract says.

    Attributes
    ----------
    what : str
        missing, foreign (it points into another file), type, shape or size.
    where : str
        The dataset's or group's path within the file.
    message : str
        For a person, without the file's name.
    """

    what: str
    where: str
    message: str


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of the right format for as long as the block lasts; see `open_file`."""
    file, raw = open_file(path)
    try:
        check_format(file, path)
        yield file
    finally:
        # A damaged file may fail even here, where nothing of it is needed any more.
        with suppress(*DAMAGE):
            file.close()
        raw.close()


def open_file(path: Path) -> tuple[h5py.File, BinaryIO]:
    """Open an HDF5 file for reading; both that are returned must be closed, in this order.

    Raises
    ------
    StoreError
        If it isn't there, or is no HDF5 file that is whole.
    """
    try:
        raw = ReadAnywhere(path)
    except FileNotFoundError as error:
        parts = path.with_name(path.name + ".parts")
        unfinished = f"; {parts.name} is there, so run the extraction again to finish it" if parts.is_dir() else ""
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
    """Refuse a file that is no store, or of a newer format.

    Raises
    ------
    StoreError
    """
    try:
        found = file.attrs.get("featx_format")
    except DAMAGE as error:
        raise StoreError(f"{path}: its attributes can't be read: copy or extract it again ({error})") from error
    if found is None:
        raise StoreError(f"{path}: an HDF5 file, but no featx store (it has no attribute featx_format)")
    if not isinstance(found, int | np.integer) or found < 1:
        raise StoreError(f"{path}: the attribute featx_format is {found!r}, expected a whole number")
    if found > FORMAT:
        raise StoreError(
            f"{path}: a store of format {int(found)}, and this featx ({featx.__version__}) reads up to "
            f"{FORMAT}: pip install --upgrade featx"
        )


def read_attributes(file: h5py.File, path: Path) -> dict[str, object]:
    """Return the root's attributes as JSON could hold them: text, numbers, None, and lists of these.

    Raises
    ------
    StoreError
        If one can't be read, or is a long list of texts, each of which may be anywhere in the file.
    """
    found = {}
    try:
        # Names that are no UTF-8 come as bytes.
        for name in map(_plain, file.attrs):
            attribute = file.attrs.get_id(name)
            if attribute.dtype.kind == "O" and math.prod(attribute.shape) > _MOST_ENTRIES:
                raise StoreError(f"{path}: the attribute {name!r} has {attribute.shape} entries, no store of featx has")
            found[name] = _plain(file.attrs[name])
    except DAMAGE as error:
        raise StoreError(
            f"{path}: its attributes are damaged ({error}): restore a copy, or extract it again"
        ) from error
    return found


def attributes_sha256(attributes: Mapping[str, object]) -> str:
    """Return the digest of all attributes but itself: of their JSON with sorted keys.

    Examples
    --------
    >>> one = attributes_sha256({"a": 1, "b": 0.1, "attributes_sha256": "..."})
    >>> one == attributes_sha256({"b": 0.1, "a": 1})
    True
    """
    others = {name: value for name, value in attributes.items() if name != "attributes_sha256"}
    return sha256_of(json.dumps(others, sort_keys=True))


def content_bytes(values: np.ndarray) -> bytes:
    """Return what a dataset's digest is of: its values in C order, little-endian.

    Examples
    --------
    >>> content_bytes(np.array([1, 2], dtype=">i2")).hex()
    '01000200'
    """
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def read_layers(attributes: Mapping[str, object]) -> list[str]:
    """Return the features' names, in network order.

    Raises
    ------
    ValueError
        If the attribute is no JSON list of different names, or isn't there.
    """
    try:
        layers = json.loads(attributes["layers"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the attribute layers is no JSON ({error!r})") from error
    is_list = isinstance(layers, list) and all(isinstance(layer, str) for layer in layers)
    if not is_list or not layers or len(set(layers)) < len(layers):
        raise ValueError("the attribute layers is no JSON list of different names")
    return layers


def describe_column(dtype: np.dtype) -> str:
    """Return what the attribute columns says of a column: text, or NumPy's name of the numbers."""
    return "text" if dtype.kind == "S" else dtype.name


def read_columns(file: h5py.File) -> list[str]:
    """Return the names below /images: path, label, split and sha256, then the others in their order."""
    return [*TEXT_COLUMNS, *(name for name in file["images"] if name not in TEXT_COLUMNS)]


def find_faults(file: h5py.File, path: Path) -> Iterator[Fault]:
    """Yield whatever of the file's layout is not by the contract; nothing is read but shapes, types and sizes."""
    try:
        layers = read_layers(read_attributes(file, path))
        own = {f"/features/{layer}": _look_up(file, "features", layer) for layer in layers}
        names = [("images", name) for name in read_columns(file)] + [("rejected", name) for name in REJECTED]
        own |= {f"/{group}/{name}": _look_up(file, group, name) for group, name in names}
        faults = {where: found for where, found in own.items() if isinstance(found, Fault)}
        datasets = {where: found for where, found in own.items() if not isinstance(found, Fault)}
        paths = datasets.get("/images/path")
        n_images = len(paths) if paths is not None and paths.ndim == 1 else None
        n_rejected = len(datasets["/rejected/path"]) if "/rejected/path" in datasets else None
        expected = {"features": n_images, "images": n_images, "rejected": n_rejected}
        for where, dataset in datasets.items():
            if fault := _find_fault(dataset, where, expected[where.split("/")[1]]):
                faults[where] = fault
        yield from (faults[where] for where in own if where in faults)
        sound = {where: dataset for where, dataset in datasets.items() if where not in faults}
        yield from _find_excess(sound, path.stat().st_size)
    except DAMAGE as error:
        yield Fault("missing", "/", f"a featx store with a part missing: {error}")


def _look_up(file: h5py.File, group: str, name: str) -> h5py.Dataset | Fault:
    """Return a dataset that lies in this file; HDF5 can point into other files, and a stranger's might."""
    where = f"/{group}/{name}"
    try:
        link = file[group].get(name, getlink=True) if "/" not in name and name != "." else None
        dataset = file[group][name] if isinstance(link, h5py.HardLink) else None
        if link is not None and (dataset is None or dataset.file != file):
            return Fault("foreign", where, f"{where} points into another file, which no store of featx does")
        if not isinstance(dataset, h5py.Dataset):
            return Fault("missing", where, f"a featx store with a part missing: {where}")
        if dataset.external or dataset.is_virtual:
            return Fault("foreign", where, f"{where} points into another file, which no store of featx does")
    except DAMAGE as error:
        return Fault("missing", where, f"a featx store with a part missing: {where} ({error})")
    return dataset


def _find_fault(dataset: h5py.Dataset, where: str, n_rows: int | None) -> Fault | None:
    try:
        dtype, shape = dataset.dtype, dataset.shape
        n_stored = dataset.id.get_storage_size()
        chunk_bytes = math.prod(dataset.chunks or (0,)) * dtype.itemsize
    except DAMAGE as error:
        return Fault("type", where, f"{where} is damaged: what its shape and type are can't be read ({error})")
    is_features = where.startswith("/features/")
    name = where.rsplit("/", 1)[1]
    is_known = _is_matrix(dtype, shape) if is_features else _is_column(dtype, shape, name, where.startswith("/images/"))
    if not is_known:
        return Fault("type", where, f"{where} is {dtype} {shape}")
    if n_rows is not None and shape[0] != n_rows:
        of = where.split("/")[1] if not is_features else "images"
        return Fault("shape", where, f"{where} has {shape[0]:,} rows, /{of}/path {n_rows:,}")
    claimed = math.prod(shape) * dtype.itemsize
    if n_stored * (1 if is_features else _DEFLATE_RATIO) < claimed:
        return Fault("size", where, f"{where} is {shape}, but only {n_stored:,} bytes of it are there")
    if chunk_bytes > _LARGEST_CHUNK:
        return Fault("size", where, f"{where} has chunks of {chunk_bytes:,} bytes, featx writes less than a hundredth")
    return None


def _find_excess(datasets: Mapping[str, h5py.Dataset], file_bytes: int) -> Iterator[Fault]:
    """Yield a fault where datasets together claim more than can be there, or more memory than a table is worth."""
    stored = sum(dataset.id.get_storage_size() for dataset in datasets.values())
    if stored > file_bytes:
        yield Fault("size", "/", f"its datasets claim {stored:,} bytes, and the file has {file_bytes:,}")
    tables = [dataset for where, dataset in datasets.items() if not where.startswith("/features/")]
    needed = sum(len(dataset) * (dataset.dtype.itemsize + _CELL_BYTES) for dataset in tables)
    if needed > max(_LARGEST_TABLE, _LARGEST_TABLE_SHARE * file_bytes):
        widest = max(tables, key=lambda dataset: len(dataset) * (dataset.dtype.itemsize + _CELL_BYTES))
        yield Fault(
            "size",
            widest.name,
            f"its table would take {needed / 1e9:,.0f} GB of memory, {widest.name} most of it ({len(widest):,} rows of "
            f"{widest.dtype.itemsize:,} bytes): no store of {file_bytes / 1e6:,.1f} MB that featx writes does",
        )


def _is_matrix(dtype: np.dtype, shape: tuple[int, ...] | None) -> bool:
    return dtype.kind == "f" and shape is not None and len(shape) == 2 and shape[1] > 0


def _is_column(dtype: np.dtype, shape: tuple[int, ...] | None, name: str, may_be_numbers: bool) -> bool:
    """Whether it is text of fixed length, or, of a further column, numbers."""
    if shape is None or len(shape) != 1:
        return False
    # Of variable length, each cell may point anywhere in the file, many to the same place.
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


class ReadAnywhere(io.FileIO):
    """A file with a position of its own: the system's is shared by all processes that are forked from one another."""

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

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; a file that ends before is cut, and HDF5 would take what is in the buffer for its bytes."""
        rest = memoryview(buffer).cast("B")
        n_bytes = len(rest)
        while rest:
            n_read = os.preadv(self.fileno(), [rest], self._at) if hasattr(os, "preadv") else super().readinto(rest)
            if not n_read:
                raise OSError("the file ends before")
            self._at, rest = self._at + n_read, rest[n_read:]
        return n_bytes
