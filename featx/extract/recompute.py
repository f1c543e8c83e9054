"""Extract rows of a finished store again, with the network that made it, and compare."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import StoreError
from featx.images import ImageOptions, Picture
from featx.inference import PooledNetwork, check_known, compute_parts, rebuild_network
from featx.networks import load_keras
from featx.store import Part, Settings

_LARGEST_IMAGE = 4096


# The norm of the difference over the norm, for one row and one layer. Keras's batches change the seventh digit; another
# engine or device (Winograd, other orders of summation) the fifth; 16 bits the third or fourth.
_SAME = 1e-4


_OTHER_ENGINE = 1e-3


_STORED = {"float32": _SAME, "float16": 1e-3}


_COMPUTED = {"float32": _SAME, "float16": 1e-2, "bfloat16": 5e-2}


@dataclass(frozen=True)
class Reextractor:
    """The network that made a store's features, and the limit for differences.

    Attributes
    ----------
    network : PooledNetwork
    settings : Settings
        The store's.
    tolerance : float
        The largest difference: norm of the difference over the norm, for one row and one layer.
    """

    network: PooledNetwork
    settings: Settings
    tolerance: float

    @property
    def n_channels(self) -> dict[str, int]:
        """Features per layer of the store, in its order."""
        return {layer: self.network.n_channels[layer] for layer in self.settings.layers}

    @property
    def largest(self) -> float:
        """The largest value that the store can hold."""
        return float(np.finfo(self.settings.store_dtype).max)

    def read(self, path: Path) -> Picture:
        """Read one image as the store's images were read."""
        return ImageOptions.of(self.settings).reader()(path)

    def compute(self, root: Path, images: pd.DataFrame, mask: np.ndarray) -> Iterator[Part]:
        """Yield the features of some rows of the store's table, batch by batch, ascending."""
        compute = partial(compute_parts, self.network, root, images["path"].to_numpy(), self.read)
        with contextlib.closing(compute([(0, len(images))], wanted=mask, largest=self.largest)) as parts:
            yield from parts

    def find_differing(self, features: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return the layers of one row that differ from the store's by more than the tolerance, and by how much."""
        differences = {layer: difference(features[layer], stored[layer]) for layer in self.settings.layers}
        return {layer: value for layer, value in differences.items() if not value <= self.tolerance}


def read_store_settings(path: Path, attributes: Mapping[str, object], layers: list[str]) -> Settings:
    """Return the settings in a store's attributes; raise an error if they are damaged or unknown to this featx."""
    try:
        settings = Settings.from_record(dict(attributes) | {"layers": layers})
    except KeyError as error:
        raise StoreError(f"{path}: the attribute {error} is missing") from error
    if settings.sha256 != attributes.get("settings_sha256"):
        raise StoreError(f"{path}: its settings are not those that it was made with (settings_sha256)")
    check_known(path, asdict(settings), "store")
    is_size = type(settings.image_size) is int and 0 < settings.image_size <= _LARGEST_IMAGE
    if not is_size or not isinstance(settings.weights, str):
        raise StoreError(
            f"{path}: can't use its image_size {settings.image_size!r} or its weights {settings.weights!r}"
        )
    return settings


def build_reextractor(
    path: Path,
    settings: Settings,
    attributes: Mapping[str, object],
    *,
    weights: str | None,
    batch_size: int,
    echo: Callable[[str], None],
) -> Reextractor:
    """Build the network that made a store's features."""
    network = rebuild_network(path, settings, weights=weights, batch_size=batch_size, echo=echo)
    missing = [layer for layer in settings.layers if layer not in network.n_channels]
    if missing:
        raise StoreError(f"{path}: {settings.backbone} has no features {missing[0]!r}: is the store of a newer featx?")
    computed, stored = (_COMPUTED.get(settings.precision, _SAME), _STORED.get(settings.store_dtype, _SAME))
    here = (network.engine.name, load_keras().backend.backend(), network.engine.device)
    is_same_engine = here == (settings.engine, settings.keras_backend, attributes.get("device"))
    return Reextractor(network, settings, max(computed, stored, _SAME if is_same_engine else _OTHER_ENGINE))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the norm of the difference over the larger norm; infinity where a value is not finite.

    Examples
    --------
    >>> difference(np.array([3.0, 4.0]), np.array([3.0, 4.5])) < 0.1
    True
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    norm = max(np.linalg.norm(one), np.linalg.norm(other))
    if not np.isfinite(norm):
        return float("inf")
    return float(np.linalg.norm(one - other) / norm) if norm else 0.0
