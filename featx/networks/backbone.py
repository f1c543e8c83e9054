"""Build frozen networks with Keras: load their weights and end them at the deepest layer asked for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from featx.errors import FeatxError, UnknownLayerError
from featx.networks.applications import build_application, named_outputs
from featx.networks.backend import load_keras
from featx.networks.registry import Backbone, choose_layers, expand_layers, find_backbone, split_names
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
        How pixels become the input that the weights expect; one of `featx.networks.PREPROCESSINGS`.
    weights_name, weights_sha256 : str
        Where the weights come from, and the digest of every weight that is used.
    """

    model: object
    layers: tuple[str, ...]
    image_size: int
    preprocessing: str
    weights_name: str
    weights_sha256: str

    @property
    def spatial(self) -> list[tuple[str, bool]]:
        """Return each layer's name, and whether its activations have height and width."""
        return [(layer, len(self.model.output[layer].shape) == 4) for layer in self.layers]


def build_backbone(
    backbone: str = "vgg16",
    *,
    layers: str | Sequence[str] = "all",
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
        If a layer is unknown or missing from the weights, or the sizes don't fit.
    """
    spec = find_backbone(backbone)
    size = spec.image_size if image_size is None else image_size
    chosen = expand_layers(layers, spec)
    _check_sizes(spec, chosen, weights, size)
    # Building a large network takes seconds, so it is built once. Readers of weights may change those of this network:
    # all that are used are set at the end.
    build = cache(partial(build_application, spec, size))
    needs_top = _needs_top(spec, chosen)
    if not all(map(spec.knows, chosen)):
        existing = dict.fromkeys([*named_outputs(build(include_top=needs_top)), *spec.top])
        choose_layers(layers, spec, list(existing))
    loaded = load_weights(weights, spec, build=build, include_top=needs_top)
    chosen = _drop_absent(chosen, layers, loaded, spec, echo)
    network = build(include_top=_needs_top(spec, chosen))
    # In network order.
    activations = {layer: output for layer, output in named_outputs(network).items() if layer in chosen}
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
    expected = published_digests() if spec.packaged else {}
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


def _needs_top(spec: Backbone, layers: Iterable[str]) -> bool:
    return not set(layers).isdisjoint(spec.top)


def _check_sizes(spec: Backbone, layers: tuple[str, ...], weights: str, image_size: int) -> None:
    spec.check_image_size(image_size)
    bound = [layer for layer in layers if layer in spec.top] if spec.takes_one_size else []
    has_any_size = weights == "imagenet-conv" or weights.partition(":")[0] == "random"
    # Weights that don't exist are an error of their own.
    has_any_size = has_any_size or not (is_source(weights) or Path(weights).is_file())
    if bound and image_size != spec.image_size and not has_any_size:
        raise FeatxError(
            f"{bound[0]} with published weights needs {spec.image_size} pixels, found {image_size}. "
            f"Use `image_size` {spec.image_size}, or `layers` conv",
            parameter="image_size",
        )


def _drop_absent(
    chosen: tuple[str, ...],
    names: str | Iterable[str],
    loaded: Weights,
    spec: Backbone,
    echo: Callable[[str], None],
) -> tuple[str, ...]:
    """Leave out top layers that come from a set and are not in the weights.

    A layer that was chosen by name is an error, and so is a set of which no layer would be left, such as VGG's fc.
    """
    missing = [layer for layer in spec.top_weighted if layer not in loaded.arrays]
    # The top is a chain: without one of its layers, none that follows it can be computed.
    beyond = spec.top[spec.top.index(missing[0]) :] if missing else ()
    absent = [layer for layer in chosen if layer in beyond]
    sets = [expand_layers(name, spec) for name in split_names(names)]
    by_name = [layer for layer in absent if any(layer in names and set(names) <= set(beyond) for names in sets)]
    kept = tuple(layer for layer in chosen if layer not in absent)
    if by_name or not kept:
        others = "a file" if spec.application is None else "imagenet, or a file"
        raise UnknownLayerError(
            f"the weights {loaded.name!r} have no {', '.join(by_name or absent)}: choose other `layers`, or `weights` "
            f"that have them ({others})"
        )
    if absent:
        echo(f"the weights {loaded.name!r} have no {' and '.join(absent)}: {len(kept)} layers are extracted")
    return kept
