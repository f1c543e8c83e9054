"""A Keras model as ncnn's text format and weights: which ncnn layer does what each Keras layer does.

ncnn's files are described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure and its layers at
https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from featx.dense_tail import UnsupportedError

_MAGIC = 7767517
_FLOAT32_TAG = np.zeros(1, dtype="<u4")
_ACTIVATIONS = {"relu": "9=1", "linear": ""}
_SAME_UPPER = -233


@dataclass(frozen=True)
class Node:
    """One layer of ncnn's: its type, name, blobs that go in and out, parameters, and arrays in ncnn's order."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: str = ""
    arrays: tuple[np.ndarray, ...] = ()


@dataclass
class Graph:
    """ncnn's view of a Keras model.

    Attributes
    ----------
    nodes : list of Node
        In the order in which they run.
    blob_of : dict of int to str
        Which blob holds a Keras tensor, by the tensor's id.
    features : dict of str to str
        Which blob holds which features.
    """

    nodes: list[Node] = field(default_factory=list)
    blob_of: dict[int, str] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, name: str, inputs: Iterable[str], params: str = "", arrays: Iterable = ()) -> str:
        """Append a layer of one output, and return that output's blob, which has the layer's name."""
        self.nodes.append(Node(kind, name, tuple(inputs), (name,), params, tuple(arrays)))
        return name

    def write(self) -> tuple[str, np.ndarray]:
        """Return the text of the .param file and the bytes of the .bin file."""
        nodes = _split_shared(self.nodes)
        lines = [
            f"{node.kind:<16} {node.name:<24} {len(node.inputs)} {len(node.outputs)} "
            f"{' '.join((*node.inputs, *node.outputs))} {node.params}".rstrip()
            for node in nodes
        ]
        n_blobs = sum(len(node.outputs) for node in nodes)
        arrays = [np.ascontiguousarray(array).view(np.uint8).ravel() for node in nodes for array in node.arrays]
        data = np.concatenate(arrays) if arrays else np.zeros(0, np.uint8)
        return "\n".join([str(_MAGIC), f"{len(nodes)} {n_blobs}", *lines, ""]), data


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
        If a layer has no counterpart.
    """
    graph = Graph()
    _, height, width, channels = model.inputs[0].shape
    graph.blob_of[id(model.inputs[0])] = graph.add("Input", "pixels", (), f"0={width} 1={height} 2={channels}")
    for layer in model.layers:
        if layer.name in skipped or type(layer).__name__ == "InputLayer":
            continue
        translate_layer = _TRANSLATORS.get(type(layer).__name__)
        if translate_layer is None:
            raise UnsupportedError(f"the layer {layer.name} ({type(layer).__name__}) has no counterpart in ncnn")
        tensors = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        blobs = [graph.blob_of[id(tensor)] for tensor in tensors]
        graph.blob_of[id(layer.output)] = translate_layer(graph, layer, blobs)
    for name, (layer, pooling) in plan.items():
        if layer not in skipped:
            graph.features[name] = _add_pooling(graph, name, model.output[layer], pooling)
    return graph


def _add_pooling(graph: Graph, name: str, tensor: object, pooling: str) -> str:
    blob = graph.blob_of[id(tensor)]
    if pooling == "max":
        return graph.add("Pooling", f"{name}/max", [blob], "0=0 4=1")
    mean = graph.add("Pooling", f"{name}/{pooling}", [blob], "0=1 4=1")
    if pooling == "avg":
        return mean
    # The mean of squared differences; a difference of squares would cancel in float32.
    n_places = int(tensor.shape[1]) * int(tensor.shape[2])
    difference = graph.add("BinaryOp", f"{name}/difference", [blob, mean], "0=1")
    variance = graph.add(
        "Reduction", f"{name}/variance", [difference], f"0=2 1=0 2={1 / n_places:.9g} -23303=2,1,2 5=1"
    )
    return graph.add("UnaryOp", f"{name}/deviation", [variance], "0=5")


def _conv(graph: Graph, layer: object, blobs: list[str]) -> str:
    activation = layer.activation.__name__
    if activation not in _ACTIVATIONS or layer.groups != 1:
        raise UnsupportedError(f"{layer.name}: a convolution of {layer.groups} groups with {activation} at its end")
    kernel = layer.get_weights()[0].transpose(3, 2, 0, 1)
    (kernel_h, kernel_w), (stride_h, stride_w) = layer.kernel_size, layer.strides
    dilation_h, dilation_w = layer.dilation_rate
    arrays = [_FLOAT32_TAG, kernel.astype("<f4"), *(bias.astype("<f4") for bias in layer.get_weights()[1:])]
    params = (
        f"0={kernel.shape[0]} 1={kernel_w} 11={kernel_h} 2={dilation_w} 12={dilation_h} 3={stride_w} 13={stride_h} "
        f"4={_SAME_UPPER if layer.padding == 'same' else 0} 5={int(layer.use_bias)} 6={kernel.size} "
    )
    return graph.add("Convolution", layer.name, blobs, params + _ACTIVATIONS[activation], arrays)


def _max_pool(graph: Graph, layer: object, blobs: list[str]) -> str:
    (height, width), (stride_h, stride_w) = layer.pool_size, layer.strides
    # Rows and columns that don't fill a window: left out, or padded as TensorFlow does.
    mode = 1 if layer.padding == "valid" else 2
    return graph.add("Pooling", layer.name, blobs, f"0=0 1={width} 11={height} 2={stride_w} 12={stride_h} 5={mode}")


_TRANSLATORS = {
    "Conv2D": _conv,
    "MaxPooling2D": _max_pool,
}


def _split_shared(nodes: list[Node]) -> list[Node]:
    """Give every consumer of a blob a copy of its own, as ncnn wants it; a copy costs nothing."""
    n_uses = Counter(blob for node in nodes for blob in node.inputs)
    copies: dict[str, list[str]] = {}
    done = []
    for node in nodes:
        inputs = tuple(copies[blob].pop() if blob in copies else blob for blob in node.inputs)
        done.append(Node(node.kind, node.name, inputs, node.outputs, node.params, node.arrays))
        for blob in node.outputs:
            if n_uses[blob] > 1:
                copies[blob] = [f"{blob}/{number}" for number in range(n_uses[blob])]
                done.append(Node("Split", f"{blob}/split", (blob,), tuple(copies[blob])))
    return done
