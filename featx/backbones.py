"""Frozen networks: built with Keras, cut at the deepest layer asked for, pooled within one forward pass."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np

from featx.errors import FeatxError
from featx.layers import BACKBONES, Backbone, choose_layers
from featx.weights import Weights, digests, load_weights, published_digests

PREPROCESSINGS = {
    "caffe": "BGR, minus the ImageNet mean (103.939, 116.779, 123.68), not scaled",
    "torch": "RGB, scaled to 0..1, minus the ImageNet mean, divided by its deviation",
    "tf": "RGB, scaled to -1..1",
    "none": "RGB, 0..255",
}

MIN_IMAGE_SIZE = 32


@dataclass(frozen=True)
class PooledNetwork:
    """A frozen network that gives the pooled activations of chosen layers.

    Attributes
    ----------
    model : keras.Model
        uint8 pixels (n, image_size, image_size, 3) in, {layer: (n, n_channels)} out; it ends at the deepest layer.
    n_channels : dict of str to int
        Features a layer, in network order.
    batch_size : int
        The one batch shape that the network is compiled for.
    weights_name, weights_sha256 : str
        What was asked for, and the digest of every kernel and bias that takes part.
    """

    model: object
    n_channels: Mapping[str, int]
    batch_size: int
    weights_name: str
    weights_sha256: str

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Push images through the network.

        Parameters
        ----------
        pixels : ndarray of shape (n, image_size, image_size, 3), uint8
            At most `batch_size` images; fewer are padded, so that nothing is compiled twice.

        Returns
        -------
        dict of str to ndarray of shape (n, n_channels), float32
        """
        n_images = len(pixels)
        if n_images < self.batch_size:
            padded = np.zeros((self.batch_size, *pixels.shape[1:]), dtype=np.uint8)
            padded[:n_images] = pixels
            pixels = padded
        outputs = self.model.predict_on_batch(pixels)
        return {layer: np.asarray(outputs[layer], dtype=np.float32)[:n_images] for layer in self.n_channels}


def build_network(
    backbone: str = "vgg16",
    *,
    layers: str = "all",
    weights: str = "imagenet",
    image_size: int = 224,
    preprocessing: str | None = None,
    batch_size: int = 8,
    echo: Callable[[str], None] = lambda line: None,
) -> PooledNetwork:
    """Build a frozen backbone, load its weights and pool the chosen layers.

    A convolutional layer (after its ReLU) and a pooling layer give their spatial mean, a fully connected layer its
    activations as they are: the full-network embedding of Garcia-Gasulla et al. 2017 (arXiv 1705.07706).

    Parameters
    ----------
    backbone : str, default "vgg16"
    layers : str, default "all"
        Layer names and sets, separated by commas; see `featx.layers.choose_layers`.
    weights : str, default "imagenet"
        See `featx.weights.load_weights`.
    image_size : int, default 224
        Height and width of the images, pixels; 224 where fc1 or fc2 with published weights take part.
    preprocessing : {"caffe", "torch", "tf", "none"}, optional
        What the weights expect; default: what the backbone was published with.
    batch_size : int, default 8
    echo : callable, optional
        Is told what a user should know, a line at a time.

    Raises
    ------
    FeatxError
        If a layer is unknown, the weights lack it, or the sizes don't fit.
    """
    spec = BACKBONES[backbone]
    wanted = choose_layers(layers, spec)
    _check_sizes(spec, wanted, weights, image_size)
    keras = load_keras()
    build = partial(_build_application, keras, spec, image_size)
    loaded = load_weights(weights, build=build, include_top=not set(wanted).isdisjoint(spec.fc))
    wanted = _drop_absent(wanted, layers, loaded, spec, echo)
    network = build(include_top=not set(wanted).isdisjoint(spec.fc))
    model, body = _pool(keras, network, wanted, image_size, preprocessing or spec.preprocessing)
    used = _set_weights(body, loaded)
    return PooledNetwork(
        model=model,
        n_channels={layer: int(model.output[layer].shape[-1]) for layer in wanted},
        batch_size=batch_size,
        weights_name=loaded.name,
        weights_sha256=loaded.sha256(used),
    )


def verify_weights(name: str, *, backbone: str = "vgg16") -> dict[str, object]:
    """Load weights and compare every layer that has a published digest.

    Returns
    -------
    dict
        weights; layers: by name kernel_sha256, bias_sha256 and published (`same`, `different`, or `` where no digest
        was published); n_same, n_published; sha256 of all layers.
    """
    spec = BACKBONES[backbone]
    build = partial(_build_application, load_keras(), spec, spec.image_size)
    loaded = load_weights(name, build=build, include_top=True)
    expected = published_digests()
    layers = {}
    for layer, arrays in loaded.arrays.items():
        found = digests(arrays)
        verdict = "" if layer not in expected else "same" if found == expected[layer] else "different"
        layers[layer] = {"kernel_sha256": found[0], "bias_sha256": found[1], "published": verdict}
    return {
        "weights": loaded.name,
        "layers": layers,
        "n_same": sum(entry["published"] == "same" for entry in layers.values()),
        "n_published": len(expected),
        "sha256": loaded.sha256(),
    }


def _check_sizes(spec: Backbone, wanted: tuple[str, ...], weights: str, image_size: int) -> None:
    if image_size < MIN_IMAGE_SIZE:
        raise FeatxError(f"image size {image_size}: {spec.name} needs at least {MIN_IMAGE_SIZE} pixels")
    fc_wanted = [layer for layer in wanted if layer in spec.fc]
    has_any_size = weights == "imagenet-conv" or weights.partition(":")[0] == "random"
    if fc_wanted and image_size != spec.image_size and not has_any_size:
        raise FeatxError(
            f"image size {image_size}: {fc_wanted[0]} of published weights takes {spec.image_size} pixels. "
            f"Use --image-size {spec.image_size}, or --layers conv"
        )


def _build_application(
    keras: ModuleType, spec: Backbone, image_size: int, *, include_top: bool, weights: str | None = None
) -> "object":
    application = getattr(keras.applications, spec.application)
    return application(include_top=include_top, weights=weights, input_shape=(image_size, image_size, 3))


def _drop_absent(
    wanted: tuple[str, ...], text: str, loaded: Weights, spec: Backbone, echo: Callable[[str], None]
) -> tuple[str, ...]:
    """Leave out fully connected layers that a set names and the weights lack; one asked for by name is an error."""
    available = {layer for layer in spec.fc if layer in loaded.arrays}
    absent = [layer for layer in wanted if layer in spec.fc and layer not in available]
    by_name = [layer for layer in absent if layer in text.replace(" ", "").split(",")]
    kept = tuple(layer for layer in wanted if layer not in absent)
    if by_name or not kept:
        raise FeatxError(
            f"the weights {loaded.name!r} have no {', '.join(by_name or absent)}: ask for other layers, or use weights "
            "with fully connected layers (--weights imagenet, or a file)"
        )
    if absent:
        echo(f"the weights {loaded.name!r} have no {' and '.join(absent)}: {len(kept)} layers are extracted")
    return kept


def _pool(
    keras: ModuleType, network: "object", wanted: tuple[str, ...], image_size: int, preprocessing: str
) -> tuple["object", "object"]:
    """Return uint8 pixels -> pooled activations, and the network within; both end at the deepest wanted layer."""
    ops = keras.ops
    pooled = {}
    for layer in wanted:
        activations = network.get_layer(layer).output
        pooled[layer] = ops.mean(activations, axis=(1, 2)) if len(activations.shape) == 4 else activations
    body = keras.Model(network.inputs, pooled, name=network.name)
    body.trainable = False
    pixels = keras.Input((image_size, image_size, 3), dtype="uint8")
    model = keras.Model(pixels, body(_preprocess(ops, ops.cast(pixels, "float32"), preprocessing)))
    return model, body


def _preprocess(ops: ModuleType, pixels: "object", mode: str) -> "object":
    """Bring RGB 0..255 to what the weights expect, as keras.applications does."""
    if mode == "caffe":
        return ops.flip(pixels, axis=-1) - np.array([103.939, 116.779, 123.68], dtype=np.float32)
    if mode == "torch":
        mean = np.array([0.485, 0.456, 0.406], dtype=np.float32)
        return (pixels / 255.0 - mean) / np.array([0.229, 0.224, 0.225], dtype=np.float32)
    if mode == "tf":
        return pixels / 127.5 - 1.0
    return pixels


def _set_weights(body: "object", loaded: Weights) -> list[str]:
    """Copy the weights in and return the names of the layers that have any, in network order."""
    used = [layer for layer in body.layers if layer.weights]
    for layer in used:
        kernel, bias = loaded.arrays[layer.name]
        if tuple(layer.weights[0].shape) != kernel.shape:
            raise FeatxError(
                f"weights {loaded.name!r}: {layer.name} has a kernel {kernel.shape}, "
                f"expected {tuple(layer.weights[0].shape)}"
            )
        layer.set_weights([kernel, bias])
    return [layer.name for layer in used]


def load_keras() -> ModuleType:
    """Import Keras on the backend that is chosen (`KERAS_BACKEND`), else on the first one that is installed.

    Raises
    ------
    FeatxError
        If no backend is installed.
    """
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        installed = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
        if not installed:
            raise FeatxError("Keras has no backend here: pip install 'featx[tensorflow]' (or featx[jax], featx[torch])")
        os.environ["KERAS_BACKEND"] = installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        try:
            import keras
        except (ImportError, ValueError) as error:
            raise FeatxError(
                f"Keras can't be loaded on the backend {os.environ.get('KERAS_BACKEND')!r}: {error}. Install it, or "
                "set KERAS_BACKEND to tensorflow, jax or torch"
            ) from error
        describe_device(keras)
    return keras


def describe_device(keras: ModuleType) -> str:
    """Return where the network runs: `gpu:0` and the like."""
    return ", ".join(keras.distribution.list_devices()) or "cpu:0"


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what compiled libraries write to standard error while they load; on failure, show it after all.

    TensorFlow's first lines come before its log level takes effect, so that no setting silences them.
    """
    try:
        stderr = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    saved = os.dup(stderr)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), stderr)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, stderr)
            os.close(saved)
