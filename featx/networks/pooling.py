"""Pool the activations of a layer to features, and name those features."""

import math
from collections.abc import Iterable
from types import ModuleType

from featx.errors import FeatxError

POOLINGS = {
    "avg": "spatial mean",
    "max": "spatial maximum",
    "std": "spatial standard deviation (of the whole layer: divided by n)",
}

WHOLE = ""
"""In place of a pooling: every activation, as one long row. Stores don't hold that."""


def choose_poolings(text: str) -> tuple[str, ...]:
    """Split `max,avg` into poolings, in featx's own order.

    Raises
    ------
    FeatxError
        If one is unknown, or none is given.

    Examples
    --------
    >>> choose_poolings("std, avg")
    ('avg', 'std')
    """
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in POOLINGS:
            raise FeatxError(
                f"expected {', '.join(POOLINGS)}, or several with commas, found {name!r}", parameter="pool"
            )
    return tuple(name for name in POOLINGS if name in chosen)


def name_features(layer: str, pooling: str) -> str:
    """Return the name of a layer's features: the layer's name for its mean, else `<layer>:<pooling>`.

    Examples
    --------
    >>> name_features("block5_conv3", "avg"), name_features("block5_conv3", "max")
    ('block5_conv3', 'block5_conv3:max')
    """
    return layer if pooling in ("avg", WHOLE) else f"{layer}:{pooling}"


def layer_of(name: str) -> str:
    """Return the layer whose features have this name.

    Examples
    --------
    >>> layer_of("block5_conv3:max")
    'block5_conv3'
    """
    return name.partition(":")[0]


def plan_features(spatial: Iterable[tuple[str, bool]], poolings: Iterable[str]) -> dict[str, tuple[str, str]]:
    """List the features of each layer: every pooling of activations with height and width, others as they are.

    Parameters
    ----------
    spatial : iterable of (str, bool)
        Layers in network order, and whether their activations have height and width.
    poolings : iterable of str
        Names in `POOLINGS`, or `WHOLE` alone.

    Returns
    -------
    dict of str to (layer, pooling)
        By the features' names, in network order; the pooling of a layer without height and width is `WHOLE`.

    Examples
    --------
    >>> plan_features([("conv", True), ("fc", False)], ["avg", "max"])
    {'conv': ('conv', 'avg'), 'conv:max': ('conv', 'max'), 'fc': ('fc', '')}
    """
    plan = {}
    for layer, is_spatial in spatial:
        if not is_spatial:
            plan[layer] = (layer, WHOLE)
            continue
        plan |= {name_features(layer, pooling): (layer, pooling) for pooling in poolings}
    return plan


def pool(ops: ModuleType, activations: object, pooling: str) -> object:
    """Reduce activations (n, height, width, channels) to features (n, channels).

    Parameters
    ----------
    ops : module
        keras.ops or numpy: the library of the activations' array.
    activations : tensor
        Float32; activations of a layer without height and width are returned as they are.
    pooling : str
        One of `POOLINGS`, or `WHOLE`: all activations in one row.
    """
    if pooling == "max":
        return ops.max(activations, axis=(1, 2))
    if pooling == "std":
        # Squares of differences from the mean, not a difference of squares: float32 would cancel.
        return ops.std(activations, axis=(1, 2))
    if pooling == "avg":
        return ops.mean(activations, axis=(1, 2))
    return ops.reshape(activations, (-1, math.prod(activations.shape[1:])))
