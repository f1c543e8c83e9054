"""Frozen networks: built with Keras, given their weights, cut at the deepest layer asked for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from featx.errors import FeatxError
from featx.networks.applications import build_application, named_outputs
from featx.networks.backend import load_keras
from featx.networks.registry import Backbone, choose_layers, expand_layers, find_backbone
from featx.networks.weights import Weights, digests, is_source, load_weights, published_digests


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
        What the weights expect; one of `featx.networks.PREPROCESSINGS`.
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
    image_size: int | None = None,
    preprocessing: str | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> FrozenBackbone:
    """Build a backbone up to the deepest of some layers and give it its weights.

    Parameters
    ----------
    backbone, layers, weights, image_size, preprocessing, echo
        See `featx.inference.build_network`.

    Raises
    ------
    FeatxError
        If a layer is unknown, the weights lack it, or the sizes don't fit.
    """
    spec = find_backbone(backbone)
    size = spec.image_size if image_size is None else image_size
    wanted = expand_layers(layers, spec)
    _check_sizes(spec, wanted, weights, size)
    # Whatever is done to a network on the way to its weights, all that take part are set in the end.
    build = cache(partial(build_application, spec, size))
    needs_top = _needs_top(spec, wanted)
    if not all(map(spec.knows, wanted)):
        # A large network takes seconds to build: the one that the weights are for tells its layers.
        there = dict.fromkeys([*named_outputs(build(include_top=needs_top)), *spec.top])
        choose_layers(layers, spec, list(there))
    loaded = load_weights(weights, spec, build=build, include_top=needs_top)
    wanted = _drop_absent(wanted, layers, loaded, spec, echo)
    network = build(include_top=_needs_top(spec, wanted))
    # In network order.
    activations = {layer: output for layer, output in named_outputs(network).items() if layer in wanted}
    model = load_keras().Model(network.inputs, activations, name=network.name)
    model.trainable = False
    used = give_weights(model, loaded)
    return FrozenBackbone(
        model=model,
        layers=tuple(activations),
        image_size=size,
        preprocessing=preprocessing or spec.preprocessing,
        weights_name=loaded.name,
        weights_sha256=loaded.sha256(used),
    )


def give_weights(model: object, loaded: Weights) -> list[str]:
    """Copy weights into a model, and return the names of its layers that have any, in the order of the weights.

    Parameters
    ----------
    model : keras.Model
    loaded : Weights
        Of every layer that has any; of further ones too.

    Raises
    ------
    FeatxError
        If a layer's weights have other shapes.
    """
    used = {layer.name: layer for layer in model.layers if layer.weights}
    for name, layer in used.items():
        expected = [tuple(weight.shape) for weight in layer.weights]
        found = [array.shape for array in loaded.arrays[name]]
        if found != expected:
            raise FeatxError(f"weights {loaded.name!r}: {name} has arrays {found}, expected {expected}")
        layer.set_weights(list(loaded.arrays[name]))
    return [name for name in loaded.arrays if name in used]


def verify_weights(name: str, *, backbone: str = "vgg16") -> dict[str, object]:
    """Load weights and compare every layer that has a published digest.

    Returns
    -------
    dict
        weights; layers: by name sha256 (a list, of kernel and bias where it has these) and published (`same`,
        `different`, or `` where no digest was published); n_same, n_published; sha256 of all layers.
    """
    spec = find_backbone(backbone)
    build = partial(build_application, spec, spec.image_size)
    loaded = load_weights(name, spec, build=build, include_top=True)
    expected = published_digests() if backbone == "vgg16" else {}
    layers = {}
    for layer, arrays in loaded.arrays.items():
        found = digests(arrays)
        verdict = "" if layer not in expected else "same" if found == expected[layer] else "different"
        layers[layer] = {"sha256": found, "published": verdict}
    return {
        "weights": loaded.name,
        "layers": layers,
        "n_same": sum(entry["published"] == "same" for entry in layers.values()),
        "n_published": len(expected),
        "sha256": loaded.sha256(),
    }


def _needs_top(spec: Backbone, wanted: Iterable[str]) -> bool:
    return not set(wanted).isdisjoint(spec.top)


def _check_sizes(spec: Backbone, wanted: tuple[str, ...], weights: str, image_size: int) -> None:
    spec.check_image_size(image_size)
    bound = [layer for layer in wanted if layer in spec.top] if spec.takes_one_size else []
    has_any_size = weights == "imagenet-conv" or weights.partition(":")[0] == "random"
    # What is neither is told by its own name.
    has_any_size = has_any_size or not (is_source(weights) or Path(weights).is_file())
    if bound and image_size != spec.image_size and not has_any_size:
        raise FeatxError(
            f"image size {image_size}: {bound[0]} of published weights takes {spec.image_size} pixels. "
            f"Use --image-size {spec.image_size}, or --layers conv"
        )


def _drop_absent(
    wanted: tuple[str, ...], text: str, loaded: Weights, spec: Backbone, echo: Callable[[str], None]
) -> tuple[str, ...]:
    """Leave out layers of the top that a set names and the weights lack; one asked for by name is an error.

    So is a set that nothing would be left of, such as VGG's fc.
    """
    lacking = [layer for layer in spec.top_weighted if layer not in loaded.arrays]
    # The top is a chain: without one of its layers, none that follows it can be computed.
    beyond = spec.top[spec.top.index(lacking[0]) :] if lacking else ()
    absent = [layer for layer in wanted if layer in beyond]
    names = [expand_layers(part, spec) for part in text.split(",")]
    by_name = [layer for layer in absent if any(layer in name and set(name) <= set(beyond) for name in names)]
    kept = tuple(layer for layer in wanted if layer not in absent)
    if by_name or not kept:
        others = "a file" if spec.application is None else "--weights imagenet, or a file"
        raise FeatxError(
            f"the weights {loaded.name!r} have no {', '.join(by_name or absent)}: ask for other layers, or use weights "
            f"that have them ({others})"
        )
    if absent:
        echo(f"the weights {loaded.name!r} have no {' and '.join(absent)}: {len(kept)} layers are extracted")
    return kept
