"""Weights of VGG and GoogLeNet out of an ONNX file: convolutions and dense layers, in the order of its graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from featx.errors import WeightsError


def read_vgg_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read kernels and biases for the layers of a VGG-style backbone.

    The k-th convolution of the graph is the k-th convolutional layer; a dense layer takes the next matrix product
    of its own shape. Nothing of the graph is run, and data outside the file is never opened.
    """
    graph = _load_graph(path)
    constants = _constants(graph, path)
    arrays = _read_convolutions(graph, constants, shapes, path)
    channels = [shape[-1] for shape in shapes.values() if len(shape) == 4][-1]
    return arrays | _read_dense_layers(graph, constants, shapes, channels)


def read_googlenet_weights(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple]:
    """Read kernels and biases of GoogLeNet, out of what Caffe's model was converted to.

    Convolutions that lie side by side may have the same shape; where the file keeps Caffe's names, they are compared.
    """
    graph = _load_graph(path)
    constants = _constants(graph, path)
    arrays = _read_convolutions(graph, constants, shapes, path)
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    for node, layer in zip(nodes, arrays, strict=True):
        name, is_caffes, _ = node.input[1].partition("_w_")
        if is_caffes and name.replace("/", "_") != layer:
            raise WeightsError(f"weights {path}: {name} where {layer} was expected: not in the order of Caffe's model")
    # The classifier sees the means of the last map, so that there is no order of places to mind.
    channels = next((shape[0] for shape in shapes.values() if len(shape) == 2), 0)
    return arrays | _read_dense_layers(graph, constants, shapes, channels)


def _load_graph(path: Path):
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise WeightsError(f"weights {path}: ONNX files need the onnx package: pip install 'featx[onnx]'") from error
    try:
        return onnx.load(path, load_external_data=False).graph
    except (DecodeError, OSError, ValueError) as error:
        raise WeightsError(f"weights {path}: not an ONNX file that can be read: {error}. Copy it again") from error


def _constants(graph, path: Path) -> dict[str, object]:  # noqa: ANN001
    """Return the tensors that the file itself holds, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    outside = [name for name, tensor in tensors.items() if tensor.external_data]
    if outside:
        raise WeightsError(f"weights {path}: {outside[0]!r} lies in another file; save the model as one file")
    return tensors


def _read_convolutions(graph, constants, shapes, path: Path) -> dict:  # noqa: ANN001
    from onnx import numpy_helper

    expected = {layer: shape for layer, shape in shapes.items() if len(shape) == 4}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    if len(nodes) != len(expected):
        raise WeightsError(f"weights {path}: {len(nodes)} convolutions, expected {len(expected)}")
    arrays = {}
    for node, (layer, shape) in zip(nodes, expected.items(), strict=True):
        missing = [name for name in node.input[1:] if name not in constants]
        if missing:
            raise WeightsError(f"weights {path}: {layer}: {missing[0]!r} is computed, not stored in the file")
        kernel = numpy_helper.to_array(constants[node.input[1]])
        kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0), dtype=np.float32)
        if kernel.shape != shape:
            raise WeightsError(f"weights {path}: {layer}: expected a kernel {shape}, got {kernel.shape}")
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(shape[-1])
        arrays[layer] = (kernel, np.ascontiguousarray(bias, dtype=np.float32))
    return arrays


def _read_dense_layers(graph, constants, shapes, channels: int) -> dict:  # noqa: ANN001
    """Read the dense layers whose shapes follow one another in the graph as they do in the backbone.

    The first one sees a flattened map of this many channels.
    """
    from onnx import numpy_helper

    missing = {layer: shape for layer, shape in shapes.items() if len(shape) == 2}
    arrays, is_first = {}, True
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants or not missing:
            continue
        kernel = numpy_helper.to_array(constants[node.input[1]])
        if any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
            kernel = kernel.T
        layer, shape = next(iter(missing.items()))
        if kernel.shape != shape:
            break
        bias = _find_bias(graph, constants, node)
        if bias is None or bias.shape != shape[-1:]:
            break
        if is_first and not _flattens_channels_last(graph):
            side = round((shape[0] / channels) ** 0.5)
            kernel = kernel.reshape(channels, side, side, -1).transpose(1, 2, 0, 3).reshape(shape)
        arrays[layer] = (np.ascontiguousarray(kernel, np.float32), np.ascontiguousarray(bias, np.float32))
        del missing[layer]
        is_first = False
    return arrays


def _find_bias(graph, constants, node) -> np.ndarray | None:  # noqa: ANN001
    """Return a Gemm's own bias, or what is added to a MatMul's result."""
    from onnx import numpy_helper

    if node.op_type == "Gemm":
        return numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else None
    for other in graph.node:
        if other.op_type == "Add" and node.output[0] in other.input:
            added = [name for name in other.input if name in constants]
            return numpy_helper.to_array(constants[added[0]]) if added else None
    return None


def _flattens_channels_last(graph) -> bool:  # noqa: ANN001
    """Return whether activations are turned to (height, width, channels) before they are flattened, as Keras does."""
    operations = [node.op_type for node in graph.node]
    last_pool = max((row for row, name in enumerate(operations) if name in ("MaxPool", "Conv")), default=0)
    return "Transpose" in operations[last_pool:]
