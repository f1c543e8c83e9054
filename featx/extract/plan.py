"""Plan an extraction: the existing store that it adds to, and the networks that compute what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.extract.options import ExtractOptions
from featx.inference import Network, PooledNetwork
from featx.networks import load_keras
from featx.store import Settings


@dataclass(frozen=True)
class ExistingStore:
    """A finished store that is added to, without its features; `run_id` is the run that wrote it."""

    path: Path
    run_id: str
    settings: Settings
    attributes: dict[str, object]
    images: pd.DataFrame
    rejected: pd.DataFrame

    @property
    def sha256(self) -> np.ndarray:
        """Digests of the images' files, S64."""
        return self.images["sha256"].to_numpy().astype("S64")


class LazyNetwork:
    """Chosen features of a network that is built when the first image needs it."""

    def __init__(self, build: Callable[[], PooledNetwork], n_channels: dict[str, int], *, batch_size: int) -> None:
        self._build = build
        self._built: PooledNetwork | None = None
        self.n_channels = n_channels
        self.batch_size = batch_size

    @property
    def has_own_device(self) -> bool:
        """Whether the network, once it is built, leaves the processor's cores to others."""
        return self._built is not None and self._built.has_own_device

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Start a call, and return a function that waits for its result."""
        wait = self._ready().submit(pixels)
        return lambda: self._choose(wait())

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Push images through the network."""
        return self._choose(self._ready()(pixels))

    def release(self) -> PooledNetwork | None:
        """Return the network, if one was built, and forget it, so that its memory is free for another."""
        built, self._built = self._built, None
        return built

    def _ready(self) -> PooledNetwork:
        if self._built is None:
            self._built = self._build()
        return self._built

    def _choose(self, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: features[name] for name in self.n_channels}


@dataclass(frozen=True)
class Plan:
    """The plan of an extraction.

    Attributes
    ----------
    request : ExtractOptions
    settings : Settings
        The resulting store's.
    n_channels : dict of str to int
        Its features by name, in network order.
    network : Network
        Computes all features, for new images.
    base : ExistingStore or None
        The store that is added to.
    further : Network or None
        Computes the missing features, for the images of the base.
    """

    request: ExtractOptions
    settings: Settings
    n_channels: dict[str, int]
    network: Network
    base: "ExistingStore | None" = None
    further: Network | None = None

    @property
    def largest(self) -> float:
        """The largest value that the store can hold."""
        return float(np.finfo(self.settings.store_dtype).max)


def plan_new(request: ExtractOptions, echo: Callable[[str], None], network: PooledNetwork | None = None) -> Plan:
    """Plan a new store; a given network was built for this request."""
    network = network or request.build(echo)
    settings = Settings(
        backbone=request.backbone,
        weights=network.weights_name,
        weights_sha256=network.weights_sha256,
        layers=tuple(network.n_channels),
        pooling=network.pooling,
        image_size=request.image_size,
        resize=request.resize,
        interpolation=request.interpolation,
        preprocessing=network.preprocessing,
        precision=request.precision,
        keras_backend=load_keras().backend.backend(),
        engine=network.engine.name,
        views=request.views,
        store_dtype=request.store_dtype,
        jpeg=request.jpeg,
        icc=request.icc,
    )
    announce(request, network, echo)
    return Plan(request=request, settings=settings, n_channels=dict(network.n_channels), network=network)


def announce(request: ExtractOptions, network: PooledNetwork, echo: Callable[[str], None]) -> None:
    """Name the network and its engine to the user."""
    engine = network.engine
    n_layers = len(network.n_channels)
    echo(f"{request.backbone}, {n_layers} layers, on {engine.device} by {engine.name} {engine.version}")
