"""Select layers and rows of a store, to be written elsewhere."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featx.store.reader import Store

BLOCK_BYTES = 2**26
"""Largest size of a block of features."""


@dataclass(frozen=True)
class Selection:
    """Some layers of a store, of all images or of one split.

    Attributes
    ----------
    store : Store
        Open.
    layers : tuple of str
        In the store's order.
    split : str or None
        None: every image.
    """

    store: Store
    layers: tuple[str, ...]
    split: str | None = None

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The images' columns, in the store's order: numbers as they are stored, text as an array of str objects."""
        images = self.store.images
        if self.split is not None:
            images = images.iloc[self.store.rows_of(self.split)]
        return {name: _numbers_or_text(column.to_numpy()) for name, column in images.items()}

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Layer, channel and name (`<layer>/<channel>`) of every feature; text as an array of str objects."""
        widths = self.store.n_channels
        pairs = [(layer, channel) for layer in self.layers for channel in range(widths[layer])]
        return {
            "layer": _as_text([layer for layer, _ in pairs]),
            "channel": np.array([channel for _, channel in pairs], dtype=np.int64),
            "name": _as_text([f"{layer}/{channel}" for layer, channel in pairs]),
        }

    @property
    def attributes(self) -> dict[str, str | int | float | list[str]]:
        """The store's attributes, in types that every format has."""
        return {name: _plain(value) for name, value in self.store.attributes.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of images and of features."""
        return len(self.columns["path"]), sum(self.store.n_channels[layer] for layer in self.layers)

    @property
    def n_bytes(self) -> int:
        """Size of the features in memory."""
        return 4 * self.shape[0] * self.shape[1]

    def blocks(self, n_bytes: int = BLOCK_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, features) of some rows at a time; see `Store.blocks`."""
        start = 0
        for block in self.store.blocks(self.layers, self.split, n_bytes=n_bytes):
            yield slice(start, start + len(block)), block
            start += len(block)

    def matrix(self, advance: Callable[[int], object]) -> np.ndarray:
        """Read all features, column after column in memory; `advance` receives the number of further rows."""
        matrix = np.empty(self.shape, dtype=np.float32, order="F")
        for rows, block in self.blocks():
            matrix[rows] = block
            advance(len(block))
        return matrix


def select(store: Store, layers: str | Sequence[str] | None = None, split: str | None = None) -> Selection:
    """Select layers and rows of a store.

    Parameters
    ----------
    store : Store
    layers : str or sequence of str, optional
        Names and sets of the store's layers, separated by commas.
    split : {"train", "validation", "test"}, optional
        Only the images of this split.

    Raises
    ------
    FeatxError
        If the store has no such layer, or no image in the split.
    """
    chosen = store.layers
    if layers is not None and layers != "all":
        # It loads scikit-learn, which those who take all have no use for.
        from featx.store.rows import choose_stored_layers

        chosen = choose_stored_layers(store, layers if isinstance(layers, str) else ",".join(layers))
    selection = Selection(store, tuple(chosen), split)
    if split is not None:
        store.rows_of(split)
    return selection


def _numbers_or_text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "biuf":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return _as_text([str(value) for value in values])


def _as_text(values: list[str]) -> np.ndarray:
    text = np.empty(len(values), dtype=object)
    text[:] = values
    return text


def _plain(value: object) -> str | int | float | list[str]:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return value
    # No store of featx has others.
    return json.dumps(value, default=str)
