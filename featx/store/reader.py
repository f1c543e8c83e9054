"""Read a feature store, an HDF5 file. This is its contract.

Version 1::

    /                    attributes: featx_format (1), featx_version, created (UTC), root, paths_sha256, run_id,
                         settings_sha256; keras_version, engine_version and device (several, with commas, if others
                         added to the store); batch_size; images_per_second (a float: files to features, of the images
                         that the run which finished the store computed, or, if it computed none, of the store that it
                         added to); every field of `featx.store.Settings`: layers (a JSON
                         list of the names below /features, in network order), pooling, engine, views, store_dtype, ...;
                         columns (a JSON object: each name below /images, "text" or NumPy's name of its numbers);
                         repaired (JSON: time, rows, dropped; of the last repair, if any); history (a JSON list, one run
                         each, oldest first: command, machine, device, versions, started, ended, n_images, n_rejected,
                         n_computed, n_resumed, images_per_second); attributes_sha256
    /features/<layer>    (n_images, n_channels) little-endian float32, or float16 where the attribute store_dtype says
                         so; chunks of about 1 MiB of whole rows, Fletcher-32. `<layer>` is the mean (or a layer without
                         height and width as it is), `<layer>:max` and `<layer>:std` are the other poolings
    /images/path         (n_images,) relative to root where possible
    /images/label        (n_images,) empty where unknown
    /images/split        (n_images,) train, validation, test or empty
    /images/sha256       (n_images,) of the file's bytes
    /images/<column>     (n_images,) any further column of the manifest: text as it stood, or numbers (float64) where
                         every cell that isn't empty is a number from which the same text comes back, blanks at the ends
                         aside: 10, 0.5, -3 and 1e-05 are numbers (an empty cell is NaN then); 1.10, 007, 1E1 and whole
                         numbers from 2**53 up are text, and with them their whole column; so is 2.0 next to 2. A column
                         called group is text always.
    /rejected/path       (n_rejected,) the images that could not be read
    /rejected/reason     (n_rejected,)

Digests: every dataset has an attribute sha256, in hexadecimal, of its content in C order, little-endian (text: the
bytes of fixed length); attributes_sha256 is of all other attributes of the root, as JSON with sorted keys, made by
Python's json.dumps with its defaults. Fletcher-32 shows which chunk is damaged; the digests show exchanged chunks,
other shapes, and damage where HDF5 has no checksum. A store never changes in place: a new one is written next to it and
renamed over it.

Row i of every dataset in /features and /images is the same image. A cell is a label by its text without blanks at the
ends: whole numbers have no point, other numbers all their digits, and NaN is no label. Text is UTF-8 of fixed length,
padded with zeros. The only filters are those that every HDF5 library has: gzip, shuffle, Fletcher-32.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from featx.errors import StoreError
from featx.store.file import (
    REJECTED,
    StoredFeatures,
    check_format,
    find_faults,
    open_file,
    read_attributes,
    read_columns,
    read_layers,
)


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
        self._file, self._raw = open_file(self.path)
        try:
            check_format(self._file, self.path)
            for fault in find_faults(self._file, self.path):
                raise StoreError(f"{self.path}: {fault.detail}")
            self._attributes = read_attributes(self._file, self.path)
            self._layers = read_layers(self._attributes)
        except BaseException:
            self.close()
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
        self._raw.close()

    @property
    def attributes(self) -> dict[str, object]:
        """The root's attributes: settings, versions, when it was made."""
        return self._attributes | {"layers": self.layers}

    @property
    def images_per_second(self) -> float | None:
        """Images per second, from files to features; None if the store doesn't have it."""
        speed = self.attributes.get("images_per_second")
        return speed if isinstance(speed, float) and 0 < speed < np.inf else None

    @property
    def layers(self) -> list[str]:
        """Layer names, in network order."""
        return list(self._layers)

    @property
    def n_channels(self) -> dict[str, int]:
        """Features per layer."""
        return {layer: self._file["features"][layer].shape[1] for layer in self.layers}

    @property
    def images(self) -> pd.DataFrame:
        """One row per image: path, label, split, sha256 and the manifest's further columns."""
        group = self._file["images"]
        return pd.DataFrame({name: self._read_column(group[name]) for name in read_columns(self._file)})

    @property
    def rejected(self) -> pd.DataFrame:
        """The images that could not be read: path and reason."""
        group = self._file["rejected"]
        return pd.DataFrame({name: self._read_column(group[name]) for name in REJECTED})

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
        rows = np.arange(len(self)) if split is None else self.rows_of(split)
        matrix = np.empty((len(rows), sum(self.n_channels[layer] for layer in layers)), dtype=np.float32)
        column = 0
        for layer in layers:
            dataset = self._file["features"][layer]
            width = dataset.shape[1]
            self._read_rows(dataset, rows, matrix[:, column : column + width])
            column += width
        return matrix

    def blocks(
        self, layers: Sequence[str] | None = None, split: str | None = None, *, n_bytes: int = 2**26
    ) -> Iterator[np.ndarray]:
        """Read what `matrix` reads, some rows at a time.

        Parameters
        ----------
        layers, split
            See `matrix`.
        n_bytes : int, default 2**26
            Largest size of a block; a row is never divided.

        Yields
        ------
        ndarray of shape (n_rows, n_features), float32
            Rows that follow one another in `matrix`; together all of them.
        """
        layers = self._known(layers)
        rows = np.arange(len(self)) if split is None else self.rows_of(split)
        widths = [self.n_channels[layer] for layer in layers]
        step = max(1, n_bytes // (4 * max(1, sum(widths))))
        for start in range(0, len(self), step):
            first, last = np.searchsorted(rows, (start, start + step))
            if first == last:
                continue
            block = np.empty((last - first, sum(widths)), dtype=np.float32)
            columns = np.split(block, np.cumsum(widths)[:-1], axis=1)
            for layer, into in zip(layers, columns, strict=True):
                stored = self._read(self._file["features"][layer], slice(start, start + step))
                into[:] = stored[rows[first:last] - start]
            yield block

    def rows_of(self, split: str) -> np.ndarray:
        """Return the numbers of a split's rows, ascending.

        Raises
        ------
        StoreError
            If no image is in it.
        """
        splits = self._read_column(self._file["images/split"])
        if split not in splits:
            if not any(splits):
                raise StoreError(
                    f"{self.path}: no image is in the split {split!r}, since none has a split: the same featx extract "
                    "with --split makes some, and computes no features"
                )
            there = ", ".join(repr(str(name)) for name in sorted(set(splits)))
            raise StoreError(f"{self.path}: no image is in the split {split!r}; there are {there}")
        return np.flatnonzero(splits == split)

    def take(self, rows: np.ndarray, layers: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Read features of some rows.

        Parameters
        ----------
        rows : ndarray of int
            In any order, repeated or not; rows that follow one another are read at once.
        layers : sequence of str, optional
            Which layers; default: all, in network order.

        Returns
        -------
        dict of str to ndarray of shape (len(rows), n_channels)
            In the type that they are stored in.
        """
        features = {}
        for layer in self._known(layers):
            with self._naming_damage(f"/features/{layer}"):
                features |= StoredFeatures(self._file, [layer]).take(rows)
        return features

    def frame(self, layers: Sequence[str] | None = None, split: str | None = None) -> pd.DataFrame:
        """Read features into a DataFrame with columns (layer, channel) and the images' paths as its index."""
        columns = pd.MultiIndex.from_tuples(self._columns(layers), names=["layer", "channel"])
        paths = self._read_column(self._file["images/path"])
        if split is not None:
            paths = paths[self.rows_of(split)]
        return pd.DataFrame(self.matrix(layers, split), index=pd.Index(paths, name="path"), columns=columns)

    def _columns(self, layers: Sequence[str] | None) -> list[tuple[str, int]]:
        return [(layer, c) for layer in self._known(layers) for c in range(self.n_channels[layer])]

    def _known(self, layers: Sequence[str] | None) -> list[str]:
        if isinstance(layers, str):
            # Its letters would be taken for names.
            raise StoreError(f"layers {layers!r}: expected a list of names, such as [{layers!r}]")
        chosen = self.layers if layers is None else list(layers)
        unknown = [layer for layer in chosen if layer not in self.layers]
        if unknown:
            raise StoreError(f"{self.path}: no layer {unknown[0]!r} in this store; it has {', '.join(self.layers)}")
        return chosen

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
        decoded = [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
        return np.array(decoded, dtype=object)

    def _read(self, dataset: h5py.Dataset, where: object) -> np.ndarray:
        with self._naming_damage(dataset.name):
            return dataset[where]

    @contextmanager
    def _naming_damage(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise StoreError(
                f"{self.path}: {what} is damaged (a checksum fails, or the file was cut): see featx verify"
            ) from error


def open(path: str | Path) -> Store:
    """Open a feature store for reading; see `Store`.

    Examples
    --------
    >>> with featx.open("store.h5") as store:                # doctest: +SKIP
    ...     X = store.matrix(layers=["block5_conv3"], split="train")
    """
    return Store(path)
