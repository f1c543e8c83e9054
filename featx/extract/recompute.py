"""Features of some rows of a finished store, made again of their images by the network that the store tells of."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import StoreError
from featx.images import ImageOptions
from featx.inference import PooledNetwork, check_known, compute_parts, rebuild_network
from featx.networks import load_keras
from featx.store import OTHER_ENGINE, Part, Settings, difference, tolerance_of

_LARGEST_IMAGE = 4096


@dataclass(frozen=True)
class Recomputer:
    """What makes features of a store's images again.

    Attributes
    ----------
    network : PooledNetwork
    settings : Settings
        The store's.
    tolerance : float
        How far from the store's its features may be: norm of the difference over the norm, of one row of one layer.
    """

    network: PooledNetwork
    settings: Settings
    tolerance: float

    @property
    def n_channels(self) -> dict[str, int]:
        """Features a layer of the store, in its order."""
        return {layer: self.network.n_channels[layer] for layer in self.settings.layers}

    def compute(self, root: Path, images: pd.DataFrame, wanted: np.ndarray) -> Iterator[Part]:
        """Yield the features of some rows, batch by batch, ascending; close the iterator if it is left early.

        Parameters
        ----------
        root : path
            The folder that the images' paths start from.
        images : DataFrame
            The store's table.
        wanted : ndarray of bool
            By row.
        """
        read = ImageOptions.of(self.settings).reader()
        largest = float(np.finfo(self.settings.store_dtype).max)
        paths, whole = images["path"].to_numpy(), [(0, len(images))]
        with contextlib.closing(
            compute_parts(self.network, root, paths, read, whole, wanted=wanted, largest=largest)
        ) as parts:
            yield from parts

    def find_differing(self, features: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return the layers of one row that differ from the store's by more than the tolerance, and by how much."""
        found = {layer: difference(features[layer], stored[layer]) for layer in self.settings.layers}
        return {layer: value for layer, value in found.items() if not value <= self.tolerance}


def read_store_settings(path: Path, attributes: Mapping[str, object], layers: list[str]) -> Settings:
    """Return the settings in a store's attributes.

    Raises
    ------
    FeatxError
        If one is missing, differs from its digest, or is none that this featx knows.
    """
    try:
        settings = Settings.from_record(dict(attributes) | {"layers": layers})
    except KeyError as error:
        raise StoreError(f"{path}: the attribute {error} is missing") from error
    if settings.sha256 != attributes.get("settings_sha256"):
        raise StoreError(f"{path}: its settings are not those that it was made with (settings_sha256)")
    check_known(path, asdict(settings), "store")
    is_size = type(settings.image_size) is int and 0 < settings.image_size <= _LARGEST_IMAGE
    if not is_size or not isinstance(settings.weights, str):
        raise StoreError(f"{path}: image_size {settings.image_size!r} or weights {settings.weights!r} can't be meant")
    return settings


def rebuild_recomputer(
    path: Path,
    settings: Settings,
    attributes: Mapping[str, object],
    *,
    weights: str | None,
    batch_size: int,
    echo: Callable[[str], None],
) -> Recomputer:
    """Build the network that made a store's features.

    Raises
    ------
    FeatxError
        If its weights are not there, or are others, or it doesn't give the store's layers.
    """
    network = rebuild_network(path, settings, weights=weights, batch_size=batch_size, echo=echo)
    lacking = [layer for layer in settings.layers if layer not in network.n_channels]
    if lacking:
        raise StoreError(f"{path}: {settings.backbone} has no features {lacking[0]!r}: is the store of a newer featx?")
    tolerance = tolerance_of(attributes)
    here = (network.engine.name, load_keras().backend.backend(), network.engine.device)
    if here != (settings.engine, settings.keras_backend, attributes.get("device")):
        tolerance = max(tolerance, OTHER_ENGINE)
    return Recomputer(network, settings, tolerance)
