"""Batches of images of their own: who takes a place in one, and what comes out of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from featx.errors import FeatxError
from featx.images import Picture
from featx.parts import Part

# Rows of which none is computed are written in parts of about this many.
MOST_ROWS = 4096


class Network(Protocol):
    """What the pipeline asks of a network; see `featx.network.PooledNetwork`."""

    batch_size: int
    n_channels: Mapping[str, int]
    has_own_device: bool

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Begin what calling the network does, and return what waits for it."""

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Turn pixels (n, image_size, image_size, 3), uint8, into {name: features (n, channels), float32}."""


class Batch:
    """Rows up to the next full batch: its pictures, and the rows between them that take no place in it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.rows: list[int] = []
        self.digests: list[str] = []
        self.own: list[bool] = []
        self.pixels: list[np.ndarray] = []
        self.rejected: dict[int, str] = {}

    def add(self, row: int, picture: Picture | str, known: set[str] | None) -> None:
        """Take in the next row: its picture, or the reason that there is none."""
        if isinstance(picture, str):
            self.rejected[row] = picture
            return
        is_own = known is None or picture.sha256 not in known
        self.rows.append(row)
        self.digests.append(picture.sha256)
        self.own.append(is_own)
        if is_own:
            self.pixels.append(picture.pixels)
            if known is not None:
                known.add(picture.sha256)

    def is_full(self, batch_size: int) -> bool:
        """Whether to end here; where no picture waits, the end makes no difference to the batches that follow."""
        n_rows = len(self.rows) + len(self.rejected)
        return len(self.pixels) == batch_size or (not self.pixels and n_rows >= MOST_ROWS)

    def begin(self, network: Network, paths: Sequence[str | Path], stop: int, largest: float) -> Callable[[], Part]:
        """Push the pictures through the network; where it has a device of its own, without waiting for it."""
        wait = None
        if self.pixels:
            pixels = np.stack(self.pixels)
            self.pixels.clear()
            wait = network.submit(pixels) if network.has_own_device else partial(network, pixels)
        return partial(self._finish, wait, network.n_channels, paths, stop, largest)

    def _finish(
        self,
        wait: Callable[[], dict[str, np.ndarray]] | None,
        n_channels: Mapping[str, int],
        paths: Sequence[str | Path],
        stop: int,
        largest: float,
    ) -> Part:
        features = {layer: np.empty((0, channels), np.float32) for layer, channels in n_channels.items()}
        if wait is not None:
            features = wait()
            own_rows = [row for row, is_own in zip(self.rows, self.own, strict=True) if is_own]
            _check_values(features, [paths[row] for row in own_rows], largest)
        return Part(
            start=self.start,
            stop=stop,
            rows=np.array(self.rows, dtype=np.int64),
            sha256=np.array(self.digests, dtype="S64"),
            own=np.array(self.own, dtype=bool),
            features=features,
            rejected=self.rejected,
        )


def _check_values(features: dict[str, np.ndarray], paths: list[str | Path], largest: float) -> None:
    """Refuse values that are none, or that the store can't hold, by the first image that has one."""
    for layer, values in features.items():
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            path = paths[int(np.argmin(finite))]
            raise FeatxError(
                f"{path}: {layer} gave values that are not finite: are these the right weights? "
                "(--precision float16 overflows sooner than bfloat16)"
            )
        magnitudes = np.abs(values).max(axis=1)
        if magnitudes.max() > largest:
            place = int(np.argmax(magnitudes > largest))
            raise FeatxError(
                f"{paths[place]}: {layer} gave the value {magnitudes[place]:,.0f}, and float16 ends at {largest:,.0f}. "
                "Use --store-dtype float32"
            )
