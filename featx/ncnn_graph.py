"""A frozen Keras model, and the pooling of its layers, as a graph of ncnn's layers."""

from collections.abc import Collection, Mapping

from featx.ncnn_layers import TRANSLATORS, check_layer
from featx.ncnn_nodes import Blob, Graph
from featx.topology import Call, UnsupportedError, read_topology

_MODELS = ("Functional", "Sequential")


def translate(model: object, plan: Mapping[str, tuple[str, str]], skipped: Collection[str]) -> Graph:
    """Translate a frozen model and the pooling of its layers.

    Parameters
    ----------
    model : keras.Model
        Pixels in, {layer: activations} out.
    plan : mapping of str to (layer, pooling)
        The features; see `featx.pooling.plan_features`.
    skipped : collection of str
        Keras layers that don't run in ncnn, nor do their features.

    Raises
    ------
    UnsupportedError
        If a layer, or the way that layers feed each other, has no counterpart.
    """
    topology = read_topology(model)
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise UnsupportedError(f"{model.name} takes {shape}; expected images of one size: (height, width, channels)")
    graph = Graph()
    height, width, channels = shape
    pixels = graph.add("Input", "pixels", (), {0: width, 1: height, 2: channels}, shape=shape)
    graph.blobs[topology.source] = pixels
    for call in topology.calls:
        if call.layer.name not in skipped:
            graph.blobs[call.layer.name] = _translate_call(graph, call, graph.blobs, "")
    for name, (layer, pooling) in plan.items():
        if layer not in skipped:
            graph.features[name] = _add_pooling(graph, name, graph.blobs[layer], pooling).name
    return graph


def _translate_call(graph: Graph, call: Call, blobs: Mapping[str, Blob], prefix: str) -> Blob:
    layer, name = call.layer, prefix + call.layer.name
    inputs = [blobs[source] for source in call.sources]
    if call.kind in _MODELS:
        return _translate_inner(graph, layer, inputs, f"{name}/")
    if call.kind not in TRANSLATORS:
        raise UnsupportedError(f"the layer {name} ({call.kind}) has no counterpart in ncnn")
    check_layer(layer)
    return TRANSLATORS[call.kind](graph, layer, inputs, name)


def _translate_inner(graph: Graph, model: object, inputs: list[Blob], prefix: str) -> Blob:
    """Translate a model inside a model; its names are its own."""
    topology = read_topology(model)
    if not topology.output or len(inputs) != 1:
        raise UnsupportedError(f"the model {model.name} inside the model: expected one input and one output")
    blobs = {topology.source: inputs[0]}
    for call in topology.calls:
        blobs[call.layer.name] = _translate_call(graph, call, blobs, prefix)
    return blobs[topology.output]


def _add_pooling(graph: Graph, name: str, blob: Blob, pooling: str) -> Blob:
    channels = blob.shape[-1:]
    if not pooling:
        # A blob that other layers take is gone afterwards; one of its own stays to be read.
        return graph.add("Noop", f"{name}/read", [blob])
    if pooling == "max":
        return graph.add("Pooling", f"{name}/max", [blob], {0: 0, 4: 1}, shape=channels)
    mean = graph.add("Pooling", f"{name}/{pooling}", [blob], {0: 1, 4: 1}, shape=channels)
    if pooling == "avg":
        return mean
    # The mean of squared differences; a difference of squares would cancel in float32.
    difference = graph.add("BinaryOp", f"{name}/difference", [blob, mean], {0: 1})
    n_places = blob.shape[0] * blob.shape[1]
    # The sum of squares over height and width, over their number.
    params = {0: 2, 1: 0, 2: 1 / n_places, -23303: (1, 2), 5: 1}
    variance = graph.add("Reduction", f"{name}/variance", [difference], params, shape=channels)
    return graph.add("UnaryOp", f"{name}/deviation", [variance], {0: 5})
