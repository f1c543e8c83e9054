"""Weights that come by way of a Keras network: its own download, its files, and random ones for its layers."""

import contextlib
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from featx.errors import WeightsError
from featx.networks.applications import has_given_name
from featx.networks.registry import Backbone

Arrays = Mapping[str, tuple[np.ndarray, ...]]


def weighted_layers(network: object) -> list:
    """Return the layers of a Keras model that have weights, in network order."""
    return [layer for layer in network.layers if layer.weights]


def download(spec: Backbone, build: Callable, *, include_top: bool, other_ways: str) -> Arrays:
    """Load ImageNet weights by Keras's own download, or from where an earlier one left them."""
    if spec.application is None:
        raise WeightsError(f"Keras has no ImageNet weights for {spec.name}. Other `weights`: {other_ways}")
    try:
        # Keras logs its download on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            return _arrays_of(build(include_top=include_top, weights="imagenet"))
    # Keras raises a plain Exception when a download fails; only its message says so.
    except Exception as error:
        if "URL fetch failure" in str(error):
            why = str(error).rsplit(" -- ", 1)[-1]
            raise WeightsError(
                f"Keras can't download {spec.name}'s ImageNet weights ({why}). Other `weights`: {other_ways}"
            ) from error
        raise


def draw(seed: int, build: Callable, *, include_top: bool) -> Arrays:
    """Draw random weights with NumPy, the same under every Keras backend: He-normal kernels, the rest near neutral."""
    return _Drawn(seed, weighted_layers(build(include_top=include_top)))


class _Drawn(Mapping):
    """Random weights by layer, each drawn when it is first used: of a deep network, only a few layers may be."""

    def __init__(self, seed: int, layers: list) -> None:
        self._seed = seed
        self._rows = {layer.name: (row, layer) for row, layer in enumerate(layers)}
        self._drawn: dict[str, tuple[np.ndarray, ...]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> tuple[np.ndarray, ...]:
        if name not in self._drawn:
            row, layer = self._rows[name]
            # One generator per layer: a layer's weights don't depend on which others are drawn.
            rng = np.random.default_rng([self._seed, row])
            shapes = [(weight.name, tuple(weight.shape)) for weight in layer.weights]
            self._drawn[name] = tuple(_draw_one(rng, kind, shape, layer) for kind, shape in shapes)
        return self._drawn[name]


def _draw_one(rng: np.random.Generator, kind: str, shape: tuple[int, ...], layer: object) -> np.ndarray:
    values = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        # A depthwise convolution's kernel is (height, width, in, 1), and each channel sees its own values alone.
        fan_in = int(np.prod(shape[:2] if type(layer).__name__ == "DepthwiseConv2D" else shape[:-1]))
        # A gate half open: at the size that activations reach, a full kernel would make it a switch, and the network
        # one in which the last bits of a float decide.
        gain = 0.01 if getattr(getattr(layer, "activation", None), "__name__", "") == "sigmoid" else 1
        return values * np.float32(gain * np.sqrt(2 / fan_in))
    if kind == "bias":
        return values * np.float32(0.01)
    if kind in ("beta", "moving_mean"):
        return values * np.float32(0.1)
    # Scales, and the variances that a batch normalization divides by: near 1, none below 0.5.
    return np.maximum(1 + values * np.float32(0.1), np.float32(0.5))


def read_keras_file(path: Path, spec: Backbone, build: Callable, *, include_top: bool) -> Arrays:
    """Load the layers that a Keras file has in the backbone's own order or under its names.

    Only weights are read, never a model's configuration, so that nothing in the file runs. Every weight starts as
    NaN: what still is NaN afterwards was not in the file, whatever the loader let pass.
    """
    network = build(include_top=include_top)
    if _is_legacy(path) and not all(map(has_given_name, weighted_layers(network))):
        network = _read_in_order(path, network, build)
    else:
        _read_into(network, path, **({"by_name": True} if _is_legacy(path) else {}))
    found = _arrays_of(network)
    arrays = {layer: values for layer, values in found.items() if not any(np.isnan(a).any() for a in values)}
    lost = [layer for layer in found if layer not in arrays and layer not in spec.top_weighted]
    if lost:
        raise WeightsError(
            f"weights {path}: no usable weights for {lost[0]} in this file ({len(arrays)} of {len(found)} layers fit). "
            f"Expected the weights of {network.name} by themselves"
        )
    return arrays


def read_network_file(path: Path, network: object) -> Arrays:
    """Load the weights of a whole network that Keras saved, and give them to it; nothing in the file runs.

    Parameters
    ----------
    path : Path
        A .weights.h5 file.
    network : keras.Model
        Built as the one that was saved.

    Raises
    ------
    WeightsError
        If the file can't be read, or a layer's weights are missing.
    """
    _read_into(network, path)
    arrays = _arrays_of(network)
    lost = [layer for layer, values in arrays.items() if any(np.isnan(a).any() for a in values)]
    if lost:
        raise WeightsError(
            f"weights {path}: no usable weights for {lost[0]} in this file ({len(arrays) - len(lost)} of {len(arrays)} "
            "layers fit). Expected those of the network that the run's recipe describes"
        )
    return arrays


def _read_in_order(path: Path, network: object, build: Callable) -> object:
    """Read a legacy file of a network whose layers Keras named: the names differ from file to file, the order not.

    Such a file fits a network with as many layers as it has, so that it may be the one without a top.
    """
    try:
        _read_into(network, path)
    except WeightsError:
        has_top = "predictions" in [layer.name for layer in network.layers]
        network = build(include_top=not has_top)
        _read_into(network, path)
    return network


def _read_into(network: object, path: Path, **options: bool) -> None:
    for variable in network.weights:
        variable.assign(np.full(variable.shape, np.nan, dtype="float32"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.load_weights(path, skip_mismatch=True, **options)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"weights {path}: Keras can't read this file: {error}. Copy it, or save {network.name}'s weights, again"
        ) from error


def _is_legacy(path: Path) -> bool:
    """Return whether a file has Keras's older format, which holds layers by name."""
    return path.suffix in (".h5", ".hdf5") and not path.name.endswith(".weights.h5")


def _arrays_of(network: object) -> Arrays:
    return {layer.name: tuple(layer.get_weights()) for layer in weighted_layers(network)}
