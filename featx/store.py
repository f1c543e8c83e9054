"""The feature store, an HDF5 file: its contract, written and read. No other module imports h5py.

Version 1
---------
``/`` has the attributes of `Attributes`. ``/features/<layer>`` is (n_images, n_channels) float32 in chunks of about
1 MiB of whole rows with Fletcher-32 checksums. ``/images/path, label, split, sha256`` and any further column of the
manifest have n_images entries; text is UTF-8 of fixed length. ``/rejected/path, reason`` list the images that could
not be read. Row i of every dataset in ``/features`` and ``/images`` is the same image.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

import featx
from featx.errors import StoreError
from featx.parts import Part
from featx.settings import Settings

FORMAT = 1
CHUNK_BYTES = 2**20


class Store:
    """A finished feature store, open for reading.

    Parameters
    ----------
    path : path
        The HDF5 file.

    Raises
    ------
    StoreError
        If the file is no store, is not whole, or is of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = _open_whole(self.path)
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._file["images/path"].shape[0]

    def __repr__(self) -> str:
        return f"<featx store {str(self.path)!r}: {len(self):,} images, {len(self.feature_names):,} features>"

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def attributes(self) -> dict[str, object]:
        """The root's attributes: settings, versions, when it was made."""
        attributes = {name: _plain(value) for name, value in self._file.attrs.items()}
        attributes["layers"] = json.loads(attributes["layers"])
        return attributes

    @property
    def layers(self) -> list[str]:
        """Layer names, in network order."""
        return json.loads(self._file.attrs["layers"])

    @property
    def n_channels(self) -> dict[str, int]:
        """Features a layer."""
        return {layer: self._file["features"][layer].shape[1] for layer in self.layers}

    @property
    def images(self) -> pd.DataFrame:
        """One row an image: path, label, split, sha256 and the manifest's further columns."""
        group = self._file["images"]
        first = ["path", "label", "split", "sha256"]
        names = [*first, *(name for name in group if name not in first)]
        return pd.DataFrame({name: self._read_column(group[name]) for name in names})

    @property
    def rejected(self) -> pd.DataFrame:
        """The images that could not be read: path and reason."""
        group = self._file["rejected"]
        return pd.DataFrame({name: self._read_column(group[name]) for name in ("path", "reason")})

    @property
    def feature_names(self) -> list[str]:
        """`<layer>/<channel>` of every feature, in the order of `matrix`'s columns."""
        return [f"{layer}/{channel}" for layer, channel in self._columns(None)]

    def matrix(self, layers: Sequence[str] | None = None, split: str | None = None) -> np.ndarray:
        """Read features into one matrix.

        Parameters
        ----------
        layers : sequence of str, optional
            Which layers, in this order; default: all, in network order.
        split : {"train", "validation", "test", ""}, optional
            Only the images of this split; default: all.

        Returns
        -------
        ndarray of shape (n_images, n_features), float32
            Rows in the store's order.
        """
        layers = self._known(layers)
        rows = np.arange(len(self)) if split is None else self._rows_of(split)
        matrix = np.empty((len(rows), sum(self.n_channels[layer] for layer in layers)), dtype=np.float32)
        column = 0
        for layer in layers:
            dataset = self._file["features"][layer]
            width = dataset.shape[1]
            self._read_rows(dataset, rows, matrix[:, column : column + width])
            column += width
        return matrix

    def frame(self, layers: Sequence[str] | None = None, split: str | None = None) -> pd.DataFrame:
        """Read features into a DataFrame with columns (layer, channel) and the images' paths as its index."""
        columns = pd.MultiIndex.from_tuples(self._columns(layers), names=["layer", "channel"])
        paths = self._read_column(self._file["images/path"])
        if split is not None:
            paths = paths[self._rows_of(split)]
        return pd.DataFrame(self.matrix(layers, split), index=pd.Index(paths, name="path"), columns=columns)

    def _columns(self, layers: Sequence[str] | None) -> list[tuple[str, int]]:
        return [(layer, c) for layer in self._known(layers) for c in range(self.n_channels[layer])]

    def _known(self, layers: Sequence[str] | None) -> list[str]:
        chosen = self.layers if layers is None else list(layers)
        unknown = [layer for layer in chosen if layer not in self.layers]
        if unknown:
            raise StoreError(f"{self.path}: no layer {unknown[0]!r} in this store; it has {', '.join(self.layers)}")
        return chosen

    def _rows_of(self, split: str) -> np.ndarray:
        splits = self._read_column(self._file["images/split"])
        if split not in splits:
            there = ", ".join(repr(str(name)) for name in sorted(set(splits)))
            raise StoreError(f"{self.path}: no image is in the split {split!r}; there are {there}")
        return np.flatnonzero(splits == split)

    def _read_rows(self, dataset: h5py.Dataset, rows: np.ndarray, into: np.ndarray) -> None:
        """Copy some rows, in blocks of chunks, so that little more than the result is in memory."""
        block = max(1, dataset.chunks[0] * 16) if dataset.chunks else max(1, len(self))
        for start in range(0, len(self), block):
            first, last = np.searchsorted(rows, (start, start + block))
            if first < last:
                into[first:last] = self._read(dataset, slice(start, start + block))[rows[first:last] - start]

    def _read_column(self, dataset: h5py.Dataset) -> np.ndarray:
        values = self._read(dataset, ())
        if h5py.check_string_dtype(dataset.dtype) is None:
            return values
        decoded = [value.decode("utf-8", "surrogateescape") for value in values.tolist()]
        return np.array(decoded, dtype=object)

    def _read(self, dataset: h5py.Dataset, where: object) -> np.ndarray:
        try:
            return dataset[where]
        except OSError as error:
            raise StoreError(
                f"{self.path}: {dataset.name} is damaged (a checksum fails, or the file was cut): extract it again"
            ) from error

    def _check(self) -> None:
        found = self._file.attrs.get("featx_format")
        if found is None:
            raise StoreError(f"{self.path}: an HDF5 file, but no featx store (it has no attribute featx_format)")
        if int(found) > FORMAT:
            raise StoreError(
                f"{self.path}: a store of format {int(found)}, and this featx ({featx.__version__}) reads up to "
                f"{FORMAT}: pip install --upgrade featx"
            )
        try:
            n_images = len(self)
            names = [f"features/{layer}" for layer in self.layers]
            names += [f"images/{name}" for name in self._file["images"]]
            n_rows = {name: self._own_dataset(name).shape[0] for name in names}
            for name in ("rejected/path", "rejected/reason"):
                self._own_dataset(name)
        except (KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
            raise StoreError(f"{self.path}: a featx store with a part missing: {error}") from error
        for name, n in n_rows.items():
            if n != n_images:
                raise StoreError(f"{self.path}: /{name} has {n:,} rows, /images/path {n_images:,}")

    def _own_dataset(self, name: str) -> h5py.Dataset:
        """Return a dataset that lies in this file; HDF5 can point into other files, and a stranger's might."""
        dataset = self._file[name]
        is_own = isinstance(self._file.get(name, getlink=True), h5py.HardLink)
        if not is_own or dataset.file != self._file or dataset.external or dataset.is_virtual:
            raise StoreError(f"{self.path}: /{name} points into another file, which no store of featx does")
        n_stored = dataset.id.get_storage_size()
        if name.startswith("features/") and n_stored < dataset.size * dataset.dtype.itemsize:
            raise StoreError(f"{self.path}: /{name} is {dataset.shape}, but only {n_stored:,} bytes of it are there")
        return dataset


def open(path: str | Path) -> Store:
    """Open a feature store for reading; see `Store`.

    Examples
    --------
    >>> with featx.open("store.h5") as store:                # doctest: +SKIP
    ...     X = store.matrix(layers=["block5_conv3"], split="train")
    """
    return Store(path)


def write_store(
    path: Path,
    *,
    settings: Settings,
    table: pd.DataFrame,
    root: Path,
    parts: Iterable[Part],
    n_channels: Mapping[str, int],
    provenance: Mapping[str, str],
) -> None:
    """Write a store out of its parts, one at a time.

    Parameters
    ----------
    path : path
        The file to write; not yet the store's own name.
    settings : Settings
    table : DataFrame
        The manifest's table, a row for each image, readable or not.
    root : path
        The folder that relative paths start from.
    parts : iterable of Part
        Ascending, together covering every row of `table`.
    n_channels : mapping of str to int
        Features a layer.
    provenance : mapping of str to str
        Further attributes of the root.
    """
    rejected: dict[int, str] = {}
    rows: list[np.ndarray] = []
    digests: list[np.ndarray] = []
    try:
        with h5py.File(path, "w") as file:
            features = file.create_group("features")
            for layer, channels in n_channels.items():
                chunk_rows = max(1, min(len(table), CHUNK_BYTES // (channels * 4)))
                features.create_dataset(
                    layer,
                    shape=(0, channels),
                    maxshape=(None, channels),
                    dtype="<f4",
                    chunks=(chunk_rows, channels),
                    fletcher32=True,
                )
            for part in parts:
                for layer, values in part.features.items():
                    dataset = features[layer]
                    end = dataset.shape[0]
                    dataset.resize(end + len(values), axis=0)
                    dataset[end:] = values
                rows.append(part.rows)
                digests.append(part.sha256)
                rejected |= part.rejected
            kept = table.iloc[np.concatenate(rows)].assign(sha256=np.concatenate(digests).astype(str))
            _write_table(file.create_group("images", track_order=True), kept)
            lost = pd.DataFrame({"path": table["path"].iloc[list(rejected)], "reason": list(rejected.values())})
            _write_table(file.create_group("rejected"), lost)
            _write_attributes(file, settings, root, provenance)
    except OSError as error:
        raise StoreError(
            f"{path}: writing failed ({error}). All features are kept in the parts beside it; mend it (free some disk, "
            "say) and run the same command again"
        ) from error


def _write_attributes(file: h5py.File, settings: Settings, root: Path, provenance: Mapping[str, str]) -> None:
    attributes = asdict(settings) | {
        "featx_format": FORMAT,
        "featx_version": featx.__version__,
        "layers": json.dumps(settings.layers),
        "settings_sha256": settings.sha256,
        "root": str(root),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance,
    }
    for name, value in attributes.items():
        file.attrs[name] = value


def _write_table(group: h5py.Group, table: pd.DataFrame) -> None:
    for name, column in table.items():
        values = column.to_numpy()
        if values.dtype.kind not in "biuf":
            encoded = [str(value).encode("utf-8", "surrogateescape") for value in values]
            width = max([1, *map(len, encoded)])
            values = np.array(encoded, dtype=h5py.string_dtype("utf-8", width))
        options = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True} if len(values) else {}
        group.create_dataset(name, data=values, **options)


def _open_whole(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        parts = path.with_name(path.name + ".parts")
        unfinished = f"; {parts.name} is there, so run the extraction again to finish it" if parts.is_dir() else ""
        raise StoreError(f"{path}: no such store{unfinished}") from error
    except OSError as error:
        if path.is_dir():
            raise StoreError(f"{path}: a folder, not a store") from error
        with path.open("rb") as file:
            is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
        what = "an HDF5 file that is cut or damaged: copy or extract it again" if is_hdf5 else "not an HDF5 file"
        raise StoreError(f"{path}: {what} ({error})") from error


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
