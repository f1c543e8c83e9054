"""List the layers of a backbone's Keras model: their channels, sizes, and the cost up to each."""

import math
from collections.abc import Iterator

from featx.networks.applications import build_application, named_outputs
from featx.networks.registry import BACKBONES, Backbone


def summarize_backbones() -> Iterator[dict[str, object]]:
    """Summarize every backbone, one after the other: each is built for it.

    Yields
    ------
    dict
        backbone; layers and features: how many `all` gives; image_size: what it was published with; preprocessing;
        weights: names of those that featx can get; files and random weights are always possible.
    """
    return map(_summarize_backbone, BACKBONES.values())


def summarize_layers(backbone: str = "vgg16", *, image_size: int | None = None) -> dict[str, object]:
    """Summarize every layer of a backbone: its features, and what they cost.

    A cost is twice the multiplications with weights (of convolutions and dense layers), for one image, in the layer
    and all that it depends on.

    Parameters
    ----------
    backbone : str, default "vgg16"
    image_size : int, optional
        Height and width, pixels; default: what the backbone was published with.

    Returns
    -------
    dict
        backbone, image_size, preprocessing; gflops: of the whole network; sets: layers by the set's name; layers: list
        of dict with layer, channels, height and width (None where it has none), gflops up to it, share of the whole.

    Raises
    ------
    FeatxError
        If the images are too small for it.
    """
    spec = BACKBONES[backbone]
    size = spec.image_size if image_size is None else image_size
    spec.check_image_size(size)
    network = build_application(spec, size, include_top=True)
    costs = _costs(network)
    whole = max(costs.values())
    return {
        "backbone": backbone,
        "image_size": size,
        "preprocessing": spec.preprocessing,
        "gflops": whole / 1e9,
        "sets": {name: list(layers) for name, layers in spec.layer_sets.items()},
        "layers": [
            _summarize_layer(name, output.shape[1:], costs[name], whole)
            for name, output in named_outputs(network).items()
        ],
    }


def _summarize_backbone(spec: Backbone) -> dict[str, object]:
    layers = spec.layer_sets["all"]
    # Channels are the same at any size, and a small network is sooner built.
    include_top = not set(layers).isdisjoint(spec.top)
    outputs = named_outputs(build_application(spec, spec.min_image_size, include_top=include_top))
    weights = [] if spec.application is None else ["imagenet"]
    return {
        "backbone": spec.name,
        "layers": len(layers),
        "features": sum(outputs[layer].shape[-1] for layer in layers),
        "image_size": spec.image_size,
        "preprocessing": spec.preprocessing,
        "weights": weights + ["imagenet-conv"] * (spec.packaged),
    }


def _summarize_layer(name: str, shape: tuple[int, ...], cost: int, whole: int) -> dict[str, object]:
    height, width = shape[:2] if len(shape) == 3 else (None, None)
    return {
        "layer": name,
        "channels": shape[-1],
        "height": height,
        "width": width,
        "gflops": cost / 1e9,
        "share": cost / whole,
    }


def _costs(network: object) -> dict[str, int]:
    """Return the operations up to each layer, by its name: of the layer and of all that it depends on, each once."""
    own, needs, made_by = {}, {}, {}
    for operation in network.operations:
        inputs = operation.input if isinstance(operation.input, list | tuple) else [operation.input]
        before = [made_by[id(tensor)] for tensor in inputs if id(tensor) in made_by]
        own[operation.name] = _count_operations(operation)
        needs[operation.name] = {operation.name}.union(*(needs[name] for name in before))
        made_by[id(operation.output)] = operation.name
    return {name: sum(own[other] for other in others) for name, others in needs.items()}


def _count_operations(layer: object) -> int:
    """Return twice the multiplications with a kernel: each of its values is used once a place of the output."""
    if hasattr(layer, "layers"):
        return sum(map(_count_operations, layer.layers))
    kernels = [weight for weight in getattr(layer, "weights", ()) if len(weight.shape) > 1]
    return 2 * sum(math.prod(kernel.shape) for kernel in kernels) * math.prod(layer.output.shape[1:-1])
