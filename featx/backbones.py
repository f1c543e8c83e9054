"""Frozen networks: built with Keras, given their weights, cut at the deepest layer asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from featx.errors import FeatxError
from featx.keras_setup import load_keras
from featx.layers import BACKBONES, Backbone, choose_layers
from featx.weights import Weights, digests, load_weights, published_digests

MIN_IMAGE_SIZE = 32


@dataclass(frozen=True)
class FrozenBackbone:
    """A network with its weights, ready for an engine to run.

    Attributes
    ----------
    model : keras.Model
        Preprocessed pixels (n, image_size, image_size, 3) float32 in, {layer: activations} out: (n, height, width,
        channels), or (n, channels) of a fully connected layer. It ends at the deepest layer asked for.
    layers : tuple of str
        In network order.
    image_size : int
        Height and width of the pixels.
    preprocessing : str
        What the weights expect; one of `featx.preprocessing.PREPROCESSINGS`.
    weights_name, weights_sha256 : str
        What was asked for, and the digest of every weight that takes part.
    """

    model: object
    layers: tuple[str, ...]
    image_size: int
    preprocessing: str
    weights_name: str
    weights_sha256: str

    @property
    def spatial(self) -> list[tuple[str, bool]]:
        """Each layer's name, and whether its activations have height and width."""
        return [(layer, len(self.model.output[layer].shape) == 4) for layer in self.layers]


def build_backbone(
    backbone: str = "vgg16",
    *,
    layers: str = "all",
    weights: str = "imagenet",
    image_size: int = 224,
    preprocessing: str | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> FrozenBackbone:
    """Build a backbone up to the deepest of some layers and give it its weights.

    Parameters
    ----------
    backbone, layers, weights, image_size, preprocessing, echo
        See `featx.network.build_network`.

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
    activations = {layer: network.get_layer(layer).output for layer in wanted}
    model = keras.Model(network.inputs, activations, name=network.name)
    model.trainable = False
    used = _set_weights(model, loaded)
    return FrozenBackbone(
        model=model,
        layers=wanted,
        image_size=image_size,
        preprocessing=preprocessing or spec.preprocessing,
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


def _set_weights(model: "object", loaded: Weights) -> list[str]:
    """Copy the weights in and return the names of the layers that have any, in network order."""
    used = [layer for layer in model.layers if layer.weights]
    for layer in used:
        kernel, bias = loaded.arrays[layer.name]
        if tuple(layer.weights[0].shape) != kernel.shape:
            raise FeatxError(
                f"weights {loaded.name!r}: {layer.name} has a kernel {kernel.shape}, "
                f"expected {tuple(layer.weights[0].shape)}"
            )
        layer.set_weights([kernel, bias])
    return [layer.name for layer in used]
