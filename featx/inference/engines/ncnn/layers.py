"""Translate each Keras layer to the ncnn layers that do the same.

ncnn's layers are described at https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from featx.inference.engines.ncnn.nodes import FLOAT32_TAG, Blob, Graph
from featx.networks import UnsupportedError, activation_of, load_keras

_ACTIVATIONS = {
    "relu": ("ReLU", {}),
    "relu6": ("Clip", {0: 0.0, 1: 6.0}),
    "silu": ("Swish", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("TanH", {}),
    # 0=0 is the exact one, as Keras's is by default.
    "gelu": ("GELU", {0: 0}),
    # Over the channels.
    "softmax": ("Softmax", {0: 0, 1: 1}),
}


def activate(graph: Graph, activation: str, blob: Blob, layer: object) -> Blob:
    """Add one of Keras's activations after a blob."""
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


Translator = Callable[[Graph, object, list[Blob], str], Blob]
_ADD, _MULTIPLY = 0, 2

# Ways to order the axes: channels last (as a Mat of width = channels), and back.
_CHANNELS_LAST, _CHANNELS_FIRST = 3, 4


def check_layer(layer: object) -> None:
    """Raise UnsupportedError for what no translation takes into account."""
    data_format = getattr(layer, "data_format", None) or "channels_last"
    if data_format != "channels_last":
        raise UnsupportedError(f"the layer {layer.name} takes {data_format}; expected channels_last")
    dtype = getattr(layer, "compute_dtype", "float32")
    if dtype != "float32":
        raise UnsupportedError(f"the layer {layer.name} computes in {dtype}; expected float32")


def _global_pool(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    channels = inputs[0].shape[-1]
    is_mean = int(type(layer).__name__ == "GlobalAveragePooling2D")
    blob = graph.add("Pooling", name, inputs, {0: is_mean, 4: 1}, shape=(channels,))
    return _as_pixel(graph, f"{name}/pixel", blob) if layer.keepdims else blob


def _normalize_batch(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    _expect_last_axis(layer, inputs[0])
    weights = [array.astype(np.float64) for array in layer.get_weights()]
    variance, mean = weights.pop(), weights.pop()
    factor = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        factor *= weights.pop(0)
    offset = (weights.pop(0) if layer.center else 0) - mean * factor
    return _scale(graph, inputs[0], name, factor, offset)


def _normalize_channels(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    (blob,) = inputs
    _expect_last_axis(layer, blob)
    if getattr(layer, "rms_scaling", False):
        raise UnsupportedError(f"the layer {layer.name} has rms_scaling, which has no counterpart in ncnn")
    channels = blob.shape[-1]
    weights = layer.get_weights()
    gamma = weights.pop(0) if layer.scale else np.ones(channels)
    beta = weights.pop(0) if layer.center else np.zeros(channels)
    is_spatial = len(blob.shape) == 3
    if is_spatial:
        blob = graph.add("Permute", f"{name}/last", [blob], {0: _CHANNELS_LAST})
    blob = graph.add("LayerNorm", name, [blob], {0: channels, 1: float(layer.epsilon), 2: 1}, (gamma, beta))
    return graph.add("Permute", f"{name}/first", [blob], {0: _CHANNELS_FIRST}) if is_spatial else blob


def _normalize_pixels(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    _expect_last_axis(layer, inputs[0])
    if layer.invert:
        raise UnsupportedError(f"the layer {layer.name} is inverted, which has no counterpart here")
    to_numpy = load_keras().ops.convert_to_numpy
    mean, variance = (to_numpy(value).astype(np.float64).ravel() for value in (layer.mean, layer.variance))
    factor = 1 / np.maximum(np.sqrt(variance), load_keras().backend.epsilon())
    return _scale(graph, inputs[0], name, factor, -mean * factor)


def _expect_last_axis(layer: object, blob: Blob) -> None:
    axes = tuple(layer.axis) if isinstance(layer.axis, list | tuple) else (layer.axis,)
    if axes not in ((-1,), (len(blob.shape),)):
        raise UnsupportedError(f"the layer {layer.name} has the axis {layer.axis}; expected -1, the channels")


def _rescale(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return _scale(graph, inputs[0], name, _to_channels(layer, layer.scale), _to_channels(layer, layer.offset))


def _to_channels(layer: object, value: object) -> np.ndarray:
    value = np.asarray(value, dtype=np.float64)
    if value.ndim > 1:
        raise UnsupportedError(f"the layer {layer.name} has a factor of shape {value.shape}; expected one a channel")
    return value


def _scale_layer(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return _scale(graph, inputs[0], name, layer.get_weights()[0])


def _scale(graph: Graph, blob: Blob, name: str, factor: np.ndarray, offset: np.ndarray | float = 0.0) -> Blob:
    """Add a factor and an offset a channel."""
    channels = blob.shape[-1]
    arrays = [np.broadcast_to(value, (channels,)) for value in (factor, offset)]
    return graph.add("Scale", name, [blob], {0: channels, 1: 1}, arrays)


def _scaled_add(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    # InceptionResNetV2's: the first plus a multiple of the second.
    first, second = inputs
    scaled = _scale(graph, second, f"{name}/scaled", np.float64(layer.scale))
    return _combine(graph, layer, [first, scaled], name, _ADD)


def _add(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return _combine(graph, layer, inputs, name, _ADD)


def _multiply(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return _combine(graph, layer, inputs, name, _MULTIPLY)


def _combine(graph: Graph, layer: object, inputs: list[Blob], name: str, operation: int) -> Blob:
    result, *others = inputs
    for other in others:
        shapes = {result.shape, other.shape}
        shape = max(shapes, key=math.prod)
        pixel = (1, 1, shape[-1])
        if len(shapes - {pixel}) > 1:
            raise UnsupportedError(
                f"the layer {layer.name} takes {result.shape} and {other.shape}; expected the same shape, or {pixel}"
            )
        result = graph.add("BinaryOp", name, [result, other], {0: operation}, shape=shape)
    return result


def _concatenate(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    _expect_last_axis(layer, inputs[0])
    channels = sum(blob.shape[-1] for blob in inputs)
    return graph.add("Concat", name, inputs, {0: 0}, shape=(*inputs[0].shape[:-1], channels))


def _zero_pad(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    (top, bottom), (left, right) = layer.padding
    height, width, channels = inputs[0].shape
    params = {0: top, 1: bottom, 2: left, 3: right, 4: 0, 5: 0.0}
    return graph.add("Padding", name, inputs, params, shape=(height + top + bottom, width + left + right, channels))


def _respond_locally(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    # As in Caffe, and unlike tf.nn: alpha is divided by the size, a number of channels.
    if layer.size % 2 == 0:
        raise UnsupportedError(f"the layer {layer.name} has an even size {layer.size}; expected an odd one")
    params = {0: 0, 1: layer.size, 2: float(layer.alpha), 3: float(layer.beta), 4: float(layer.bias)}
    return graph.add("LRN", name, inputs, params)


def _activation(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return activate(graph, activation_of(layer), inputs[0], layer)


def _relu(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    slope, limit, threshold = layer.negative_slope or 0.0, layer.max_value, layer.threshold or 0.0
    if threshold or (slope and limit is not None):
        raise UnsupportedError(
            f"the layer {layer.name} has threshold={threshold}, negative_slope={slope}, max_value={limit}; expected a "
            "slope or a largest value, and no threshold"
        )
    if limit is not None:
        return graph.add("Clip", name, inputs, {0: 0.0, 1: float(limit)})
    return graph.add("ReLU", name, inputs, {0: float(slope)} if slope else {})


def _flatten(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    return _as_vector(graph, name, inputs[0])


def _reshape(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    n_values = math.prod(inputs[0].shape)
    known = math.prod(size for size in layer.target_shape if size != -1)
    target = tuple(n_values // known if size == -1 else size for size in layer.target_shape)
    vector = _as_vector(graph, f"{name}/vector", inputs[0])
    if target == vector.shape:
        return vector
    if target != (1, 1, n_values):
        raise UnsupportedError(
            f"the layer {layer.name} makes {target} of {inputs[0].shape}; expected {(n_values,)} or {(1, 1, n_values)}"
        )
    return _as_pixel(graph, name, vector)


def _as_vector(graph: Graph, name: str, blob: Blob) -> Blob:
    """Add what makes one row of a blob, in Keras's order."""
    if len(blob.shape) == 1:
        return blob
    if blob.shape[:2] != (1, 1):
        blob = graph.add("Permute", f"{name}/last", [blob], {0: _CHANNELS_LAST})
    n_values = math.prod(blob.shape)
    return graph.add("Reshape", name, [blob], {0: n_values}, shape=(n_values,))


def _as_pixel(graph: Graph, name: str, blob: Blob) -> Blob:
    """Add what makes one pixel of a row."""
    shape = (1, 1, blob.shape[0])
    return graph.add("Reshape", name, [blob], {0: 1, 1: 1, 2: blob.shape[0]}, shape=shape)


def _pass(graph: Graph, layer: object, inputs: list[Blob], name: str) -> Blob:
    # What does something only in training.
    return inputs[0]


TRANSLATORS: dict[str, Translator] = {
    "Activation": _activation,
    "Add": _add,
    "AveragePooling2D": pool,
    "BatchNormalization": _normalize_batch,
    "Concatenate": _concatenate,
    "Conv2D": convolve,
    "CustomScaleLayer": _scaled_add,
    "Dense": connect,
    "DepthwiseConv2D": convolve_depthwise,
    "Dropout": _pass,
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_pool,
    "GlobalMaxPooling2D": _global_pool,
    "LayerNormalization": _normalize_channels,
    "LayerScale": _scale_layer,
    "LocalResponseNormalization": _respond_locally,
    "MaxPooling2D": pool,
    "Multiply": _multiply,
    "Normalization": _normalize_pixels,
    "ReLU": _relu,
    "Rescaling": _rescale,
    "Reshape": _reshape,
    "SeparableConv2D": convolve_separably,
    "SpatialDropout2D": _pass,
    "StochasticDepth": _pass,
    "ZeroPadding2D": _zero_pad,
    "ops.Add": _add,
    "ops.Multiply": _multiply,
}
