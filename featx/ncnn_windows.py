"""Which ncnn layers do what Keras's convolutions, dense layers, poolings and activations do."""

import math
from collections.abc import Sequence

import numpy as np

from featx.ncnn_nodes import FLOAT32_TAG, Blob, Graph
from featx.topology import UnsupportedError, activation_of

_ACTIVATIONS = {
    "relu": ("ReLU", {}),
    "relu6": ("Clip", {0: 0.0, 1: 6.0}),
    "silu": ("Swish", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("TanH", {}),
    # 0=0 is the exact one, as Keras's is unless told otherwise.
    "gelu": ("GELU", {0: 0}),
    # Over the channels.
    "softmax": ("Softmax", {0: 0, 1: 1}),
}


def activate(graph: Graph, activation: str, blob: Blob, layer: object) -> Blob:
    """Add one of Keras's activations after a blob.

    Raises
    ------
    UnsupportedError
        If it has no counterpart.
    """
    if activation == "linear":
        return blob
    if activation not in _ACTIVATIONS:
        raise UnsupportedError(
            f"the layer {layer.name} ends in {activation}; expected one of linear, {', '.join(_ACTIVATIONS)}"
        )
    kind, params = _ACTIVATIONS[activation]
    return graph.add(kind, f"{blob.name}/{activation}", [blob], params)


def convolve(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    """Add a Conv2D."""
    kernel, bias = _kernel_and_bias(layer, 1)
    blob = _add_convolution(graph, layer, inputs[0], name, kernel[0].transpose(3, 2, 0, 1), bias, layer.groups)
    return activate(graph, activation_of(layer), blob, layer)


def convolve_depthwise(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    """Add a DepthwiseConv2D."""
    kernel, bias = _kernel_and_bias(layer, 1)
    blob = _add_convolution(graph, layer, inputs[0], name, _one_by_one(kernel[0]), bias, inputs[0].shape[-1])
    return activate(graph, activation_of(layer), blob, layer)


def convolve_separably(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    """Add a SeparableConv2D."""
    (depth, point), bias = _kernel_and_bias(layer, 2)
    blob = _add_convolution(graph, layer, inputs[0], f"{name}/depth", _one_by_one(depth), [], inputs[0].shape[-1])
    blob = _mix_channels(graph, blob, name, point[0, 0], bias)
    return activate(graph, activation_of(layer), blob, layer)


def connect(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    """Add a Dense: of a vector, or of every pixel's channels."""
    (kernel,), bias = _kernel_and_bias(layer, 1)
    if len(inputs[0].shape) == 3:
        blob = _mix_channels(graph, inputs[0], name, kernel, bias)
    else:
        params = {0: kernel.shape[1], 1: len(bias), 2: kernel.size}
        arrays = (FLOAT32_TAG, kernel.T, *bias)
        blob = graph.add("InnerProduct", name, inputs, params, arrays, shape=(kernel.shape[1],))
    return activate(graph, activation_of(layer), blob, layer)


def _kernel_and_bias(layer: object, n_kernels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    weights = layer.get_weights()
    if len(weights) != n_kernels + layer.use_bias:
        raise UnsupportedError(
            f"the layer {layer.name} has {len(weights)} weights; expected {n_kernels + layer.use_bias}: it may have "
            "been quantized, or have adapters"
        )
    return weights[:n_kernels], weights[n_kernels:]


def _one_by_one(kernel: np.ndarray) -> np.ndarray:
    """Turn a depthwise kernel (height, width, channels, multiplier) into one of a group a channel, as ncnn has it."""
    height, width, channels, multiplier = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def _add_convolution(
    graph: Graph, layer: object, blob: Blob, name: str, kernel: np.ndarray, bias: list[np.ndarray], groups: int
) -> Blob:
    """Add a convolution without its activation; `kernel` is (outputs, inputs a group, height, width)."""
    n_outputs, _, *size = kernel.shape
    dilation = tuple(layer.dilation_rate)
    extent = [(n - 1) * d + 1 for n, d in zip(size, dilation, strict=True)]
    pads, places = _place_windows(layer, blob, extent)
    params = {0: n_outputs, 1: size[1], 11: size[0], 2: dilation[1], 12: dilation[0]}
    params |= {3: layer.strides[1], 13: layer.strides[0]}
    params |= dict(zip((14, 16, 4, 15), pads, strict=True))
    params |= {5: len(bias), 6: kernel.size}
    if groups > 1:
        params[7] = groups
    kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
    return graph.add(kind, name, [blob], params, (FLOAT32_TAG, kernel, *bias), shape=(*places, n_outputs))


def _mix_channels(graph: Graph, blob: Blob, name: str, matrix: np.ndarray, bias: list[np.ndarray]) -> Blob:
    """Add a product of every pixel's channels with a matrix: a convolution of one pixel."""
    n_outputs = matrix.shape[1]
    params = {0: n_outputs, 1: 1, 5: len(bias), 6: matrix.size}
    return graph.add(
        "Convolution", name, [blob], params, (FLOAT32_TAG, matrix.T, *bias), shape=(*blob.shape[:2], n_outputs)
    )


def _place_windows(layer: object, blob: Blob, window: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the pixels that TensorFlow adds above, below, left and right, and how many windows there are each way."""
    if layer.padding not in ("valid", "same"):
        raise UnsupportedError(f"the layer {layer.name} pads {layer.padding!r}; expected 'valid' or 'same'")
    pads, places = [], []
    for size, extent, stride in zip(blob.shape[:2], window, layer.strides, strict=True):
        n_places = math.ceil(size / stride) if layer.padding == "same" else (size - extent) // stride + 1
        missing = max(0, (n_places - 1) * stride + extent - size)
        pads += [missing // 2, missing - missing // 2]
        places.append(n_places)
    return pads, places


def pool(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    """Add a MaxPooling2D or an AveragePooling2D."""
    (blob,) = inputs
    pads, places = _place_windows(layer, blob, layer.pool_size)
    is_mean = int(type(layer).__name__ == "AveragePooling2D")
    params = {0: is_mean, 1: layer.pool_size[1], 11: layer.pool_size[0], 2: layer.strides[1], 12: layer.strides[0]}
    params |= dict(zip((13, 15, 3, 14), pads, strict=True))
    # Nothing is added beyond that, and what is added takes no part in a mean.
    params |= {5: 1, 6: 0}
    return graph.add("Pooling", name, inputs, params, shape=(*places, blob.shape[-1]))
