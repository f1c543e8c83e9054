"""Batches for Keras's `fit`: rows of pixels or activations in an order that only seed, stage and epoch decide."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from featx.errors import FeatxError
from featx.networks import load_keras

keras = load_keras()


class RowSource(Protocol):
    """Rows by their numbers: `featx.finetune.cache.RowFiles`, or images that are read every time."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in the given order."""


class Batches(keras.utils.PyDataset):
    """Rows with their classes and weights, in batches.

    Parameters
    ----------
    source : RowSource
    rows : ndarray of int
        Which of the source's rows.
    targets : ndarray of shape (len(rows), n_classes), float32
        One-hot classes.
    weights : ndarray of shape (len(rows),), float32
        The rows' weights.
    batch_size : int
    seed : int or None, default None
        Seed of the order; None: the rows' own order. Each epoch has its own order, in whichever process it runs.
    n_workers : int, default 1
        Threads that prepare batches.
    mirrored : sequence of RowSource, optional
        Further views of the same rows; each time a row is used, its view is chosen at random.

    Attributes
    ----------
    epoch : int
        The epoch whose order the batches have.
    error : FeatxError or None
        The error of rows that could not be read.
    """

    def __init__(
        self,
        source: RowSource,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        batch_size: int,
        *,
        seed: int | None = None,
        n_workers: int = 1,
        mirrored: Sequence[RowSource] = (),
    ) -> None:
        super().__init__(workers=n_workers)
        self._views = [source, *mirrored]
        self._rows = rows
        self._targets = targets
        self._weights = weights
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 0
        self.error: FeatxError | None = None

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the inputs, targets and weights of a batch."""
        start = number * self._batch_size
        order, views = self._draw()
        chosen = order[start : start + self._batch_size]
        try:
            inputs = self._take(self._rows[chosen], views[chosen])
        except FeatxError as error:
            self.error = error
            raise
        return inputs, self._targets[chosen], self._weights[chosen]

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch's order, and the view of each row."""
        n_rows = len(self._rows)
        if self._seed is None:
            return np.arange(n_rows), np.zeros(n_rows, dtype=int)
        # Drawn for each batch: it takes microseconds, and threads share no state.
        rng = np.random.default_rng([self._seed, self.epoch])
        return rng.permutation(n_rows), rng.integers(0, len(self._views), n_rows)

    def _take(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        if len(self._views) == 1:
            return self._views[0].take(rows)
        taken = None
        for view in np.unique(views).tolist():
            chosen = views == view
            some = self._views[view].take(rows[chosen])
            taken = np.empty((len(rows), *some.shape[1:]), some.dtype) if taken is None else taken
            taken[chosen] = some
        return taken
