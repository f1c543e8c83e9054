"""The dense layers that a network ends in, as matrix products of a whole batch."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from featx.networks import Call, activation_of, read_topology

_KINDS = (
    *("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "BatchNormalization", "LayerNormalization"),
    *("Dropout", "Dense", "Softmax"),
)

# BLAS takes other routines for other shapes, and a row's last bits are then others; so all products have one shape. Of
# eight rows, OpenBLAS gives a row the same bits in any place, whichever x86-64 it is built for; of most numbers it
# doesn't.
_BLOCK_ROWS = 8


@dataclass(frozen=True)
class DenseTail:
    """The layers after the last activations with height and width.

    Attributes
    ----------
    source : str
        The layer whose output those are.
    layers : tuple of keras.Layer
        Flatten, global poolings, normalizations, Dropout, Dense and Softmax, each fed by the one before.
    weights : tuple of list of ndarray
        Theirs. (Out of Keras, each batch would copy them again.)
    """

    source: str
    layers: tuple
    weights: tuple[list[np.ndarray], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names."""
        return tuple(layer.name for layer in self.layers)

    def __call__(self, activations: np.ndarray) -> dict[str, np.ndarray]:
        """Turn activations (n, height, width, channels) into the outputs (n, width of the layer) of every layer."""
        values, outputs = activations, {}
        for layer, weights in zip(self.layers, self.weights, strict=True):
            kind = type(layer).__name__
            if kind == "Flatten":
                values = values.reshape(len(values), -1)
            elif kind == "GlobalAveragePooling2D":
                values = values.mean(axis=(1, 2))
            elif kind == "GlobalMaxPooling2D":
                values = values.max(axis=(1, 2))
            elif kind == "BatchNormalization":
                values = _normalize_batch(layer, weights, values)
            elif kind == "LayerNormalization":
                values = _normalize_row(layer, weights, values)
            elif kind == "Dense":
                values = _multiply(layer, weights, values)
            elif kind == "Softmax":
                values = _softmax(values)
            outputs[layer.name] = values
        return outputs


def find_tail(model: object) -> DenseTail | None:
    """Return the dense layers that a model ends in, or None if it ends before them."""
    topology = read_topology(model)
    calls = {call.layer.name: call for call in topology.calls}
    n_uses = Counter(source for call in topology.calls for source in call.sources)
    # From the last layer towards the first, as long as there is just one way.
    tail, name = [], next(reversed(calls), "")
    while name in calls and n_uses[name] <= 1 and _is_known(calls[name]):
        tail.insert(0, calls[name].layer)
        (name,) = calls[name].sources
    return DenseTail(name, tuple(tail), tuple(layer.get_weights() for layer in tail)) if tail else None


def _is_known(call: Call) -> bool:
    """Return whether these matrix products and means can stand for a layer; ncnn runs all others."""
    layer = call.layer
    if call.kind not in _KINDS or len(layer.output.shape) != 2 or layer.compute_dtype != "float32":
        return False
    if call.kind == "Dense":
        return activation_of(layer) in _ACTIVATIONS and len(layer.weights) == 1 + layer.use_bias
    if call.kind in ("Softmax", "BatchNormalization"):
        return layer.axis in (-1, 1)
    data_format = getattr(layer, "data_format", None) or "channels_last"
    return data_format == "channels_last" and not getattr(layer, "rms_scaling", False)


def _multiply(layer: object, weights: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    kernel, *bias = weights
    products = np.empty((len(values), kernel.shape[1]), np.float32)
    for first in range(0, len(values), _BLOCK_ROWS):
        rows = values[first : first + _BLOCK_ROWS]
        if len(rows) < _BLOCK_ROWS:
            rows = np.concatenate([rows, np.zeros((_BLOCK_ROWS - len(rows), rows.shape[1]), rows.dtype)])
        products[first : first + _BLOCK_ROWS] = (rows @ kernel)[: len(values) - first]
    return _ACTIVATIONS[activation_of(layer)](products + bias[0] if bias else products)


def _normalize_batch(layer: object, weights: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    """Use the means and variances that were learned, whatever the batch: each row stays by itself."""
    *scales, mean, variance = weights
    gamma = scales[0] if layer.scale else np.float32(1)
    beta = scales[-1] if layer.center else np.float32(0)
    return (values - mean) / np.sqrt(variance + np.float32(layer.epsilon)) * gamma + beta


def _normalize_row(layer: object, weights: list[np.ndarray], values: np.ndarray) -> np.ndarray:
    gamma = weights[0] if layer.scale else np.float32(1)
    beta = weights[-1] if layer.center else np.float32(0)
    differences = values - values.mean(axis=1, keepdims=True)
    variance = np.square(differences).mean(axis=1, keepdims=True)
    return differences / np.sqrt(variance + np.float32(layer.epsilon)) * gamma + beta


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0, out=values)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _linear(values: np.ndarray) -> np.ndarray:
    return values


_ACTIVATIONS = {"relu": _relu, "softmax": _softmax, "linear": _linear}
