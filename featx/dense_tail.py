"""The dense layers that a network ends in, as matrix products of a whole batch."""

from dataclasses import dataclass

import numpy as np

from featx.errors import FeatxError

_KINDS = ("Flatten", "GlobalAveragePooling2D", "Dropout", "Dense")


class UnsupportedError(FeatxError):
    """A layer has no counterpart here; the reference engine runs it."""


@dataclass(frozen=True)
class DenseTail:
    """What follows the last activations with height and width.

    Attributes
    ----------
    source : keras.KerasTensor
        Those activations.
    layers : tuple of keras.Layer
        Flatten, GlobalAveragePooling2D, Dropout and Dense, each fed by the one before.
    """

    source: object
    layers: tuple

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names."""
        return tuple(layer.name for layer in self.layers)

    def __call__(self, activations: np.ndarray) -> dict[str, np.ndarray]:
        """Turn activations (n, height, width, channels) into the outputs (n, width of the layer) of every layer."""
        values, outputs = activations, {}
        for layer in self.layers:
            kind = type(layer).__name__
            if kind == "Flatten":
                values = values.reshape(len(values), -1)
            elif kind == "GlobalAveragePooling2D":
                values = values.mean(axis=(1, 2))
            elif kind == "Dense":
                kernel, bias = (np.asarray(weight.value) for weight in layer.weights)
                values = _ACTIVATIONS[layer.activation.__name__](values @ kernel + bias)
            outputs[layer.name] = values
        return outputs


def find_tail(model: object) -> DenseTail | None:
    """Return the dense layers that a model ends in, or None if it ends before them.

    Raises
    ------
    UnsupportedError
        If one of them has an activation that isn't known here.
    """
    tail = []
    for layer in reversed(model.layers):
        if type(layer).__name__ not in _KINDS or len(layer.output.shape) != 2:
            break
        tail.insert(0, layer)
    for layer in tail:
        if type(layer).__name__ == "Dense" and (layer.activation.__name__ not in _ACTIVATIONS or not layer.use_bias):
            raise UnsupportedError(f"the layer {layer.name} ends in {layer.activation.__name__}")
    return DenseTail(tail[0].input, tuple(tail)) if tail else None


def _relu(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0, out=values)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _linear(values: np.ndarray) -> np.ndarray:
    return values


_ACTIVATIONS = {"relu": _relu, "softmax": _softmax, "linear": _linear}
