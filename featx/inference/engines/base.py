"""Choose the engine that runs a frozen backbone, from pixels to features."""

import importlib.util
from typing import Protocol

import numpy as np

from featx.errors import FeatxError
from featx.inference.batch_size import AUTO, DEFAULT
from featx.networks import FrozenBackbone, format_device, load_keras
from featx.system import available_cores

ENGINES = {
    "auto": "the fastest float32 engine that this machine and what is installed on it offer",
    "keras": "the reference, on a CPU or a GPU",
    "ncnn": "Winograd convolutions on a CPU (pip install 'featx[cpu]')",
}

PRECISIONS = {
    "float32": "the reference",
    "float16": "10 bits after the leading one; activations beyond 65,504 are errors",
    "bfloat16": "7 bits after the leading one, float32's range",
}


class Engine(Protocol):
    """An engine that runs a frozen backbone.

    Attributes
    ----------
    name, version, device : str
        One of `ENGINES` but auto, of which version, and where it runs.
    n_channels : dict of str to int
        Features by name, in network order; see `featx.networks.plan_features`.
    """

    name: str
    version: str
    device: str
    n_channels: dict[str, int]

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Turn pixels (n, image_size, image_size, 3), uint8, into {name: features (n, channels), float32}."""


def make_engine(
    engine: str,
    frozen: FrozenBackbone,
    poolings: tuple[str, ...],
    *,
    batch_size: int | str,
    precision: str = "float32",
) -> Engine:
    """Make the engine of that name, or the fastest that can run this backbone here.

    Parameters
    ----------
    engine : str
        One of `ENGINES`.
    frozen : FrozenBackbone
    poolings : tuple of str
        See `featx.networks.plan_features`.
    batch_size : int or "auto"
        The most images of one call; see `settle_batch_size`.
    precision : str, default "float32"
        The network's arithmetic, one of `PRECISIONS`; all but float32 are Keras's alone.

    Raises
    ------
    FeatxError
        If it isn't installed, or can't run this backbone in this precision.
    """
    if engine == "ncnn" and precision != "float32":
        raise FeatxError(f"ncnn computes in float32 only, not in {precision}. Use keras", parameter="engine")
    if engine == "ncnn" or (engine == "auto" and precision == "float32" and _serves_cpu()):
        # Imported here: the library is an extra.
        from featx.inference.engines.ncnn.engine import NcnnEngine
        from featx.networks import UnsupportedError

        try:
            return NcnnEngine(frozen, poolings)
        except UnsupportedError as error:
            if engine == "ncnn":
                raise FeatxError(f"ncnn: {error}. Use keras", parameter="engine") from error
    from featx.inference.engines.keras import KerasEngine

    return KerasEngine(frozen, poolings, batch_size=batch_size, precision=precision)


def settle_batch_size(engine: Engine, batch_size: int | str) -> int:
    """Return how many images an engine is to be given at once.

    Parameters
    ----------
    engine : Engine
    batch_size : int or "auto"
        `auto` is what the engine found by trying, or 8; of an engine that takes an image a core, at least one for each.
    """
    if batch_size != AUTO:
        return int(batch_size)
    if engine.name == "keras":
        return engine.batch_size
    return max(DEFAULT, available_cores())


def _serves_cpu() -> bool:
    """Return whether the network would run on a CPU, and a faster engine for that is installed."""
    return importlib.util.find_spec("ncnn") is not None and format_device(load_keras()).startswith("cpu")
