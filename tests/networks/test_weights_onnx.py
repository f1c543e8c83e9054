"""ONNX files as tf2onnx and as PyTorch would write them, made with the onnx package itself."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from featx import FeatxError
from featx.networks.weights_onnx import read_vgg_weights

SHAPES = {"block1_conv1": (3, 3, 3, 4), "block1_conv2": (3, 3, 4, 5), "fc1": (2 * 2 * 5, 6), "fc2": (6, 7)}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        layer: (rng.standard_normal(shape).astype("f4"), rng.standard_normal(shape[-1]).astype("f4"))
        for layer, shape in SHAPES.items()
    }


def save(path, nodes, tensors):
    graph = helper.make_graph(
        nodes,
        "vgg",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path


def convolutions(arrays):
    tensors, nodes, last = {}, [], "x"
    for layer in ("block1_conv1", "block1_conv2"):
        kernel, bias = arrays[layer]
        tensors |= {f"{layer}/k": kernel.transpose(3, 2, 0, 1), f"{layer}/b": bias}
        nodes += [
            helper.make_node("Conv", [last, f"{layer}/k", f"{layer}/b"], [layer]),
            helper.make_node("Relu", [layer], [f"{layer}/relu"]),
        ]
        last = f"{layer}/relu"
    nodes.append(helper.make_node("MaxPool", [last], ["pool"], kernel_shape=[2, 2]))
    return nodes, tensors


def channels_last(arrays):
    """Dense layers after a transpose, as MatMul and Add."""
    nodes, tensors = convolutions(arrays)
    nodes += [
        helper.make_node("Transpose", ["pool"], ["hwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["hwc"], ["flat"]),
    ]
    last = "flat"
    for layer in ("fc1", "fc2"):
        tensors |= {f"{layer}/k": arrays[layer][0], f"{layer}/b": arrays[layer][1]}
        nodes += [
            helper.make_node("MatMul", [last, f"{layer}/k"], [f"{layer}/product"]),
            helper.make_node("Add", [f"{layer}/product", f"{layer}/b"], [layer]),
        ]
        last = layer
    return nodes, tensors


def channels_first(arrays):
    """Dense layers on (channels, height, width), as Gemm with transposed kernels."""
    nodes, tensors = convolutions(arrays)
    nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
    fc1 = arrays["fc1"][0].reshape(2, 2, 5, 6).transpose(2, 0, 1, 3).reshape(20, 6)
    last = "flat"
    for layer, kernel in (("fc1", fc1), ("fc2", arrays["fc2"][0])):
        tensors |= {f"{layer}/k": kernel.T, f"{layer}/b": arrays[layer][1]}
        nodes.append(helper.make_node("Gemm", [last, f"{layer}/k", f"{layer}/b"], [layer], transB=1))
        last = layer
    return nodes, tensors


@pytest.mark.parametrize("write", [channels_last, channels_first])
def test_convolutions_and_dense_layers_come_in_keras_layout(tmp_path, arrays, write):
    found = read_vgg_weights(save(tmp_path / "m.onnx", *write(arrays)), SHAPES)
    assert list(found) == list(SHAPES)
    for layer, (kernel, bias) in arrays.items():
        assert np.array_equal(found[layer][0], kernel)
        assert np.array_equal(found[layer][1], bias)


def test_other_dense_layers_are_left_out(tmp_path, arrays):
    arrays["fc1"] = (np.zeros((20, 9), "f4"), np.zeros(9, "f4"))
    arrays["fc2"] = (np.zeros((9, 7), "f4"), np.zeros(7, "f4"))
    found = read_vgg_weights(save(tmp_path / "m.onnx", *channels_last(arrays)), SHAPES)
    assert list(found) == ["block1_conv1", "block1_conv2"]


def test_a_convolution_without_bias_has_zeros(tmp_path, arrays):
    nodes, tensors = convolutions(arrays)
    del nodes[0].input[2]
    found = read_vgg_weights(save(tmp_path / "m.onnx", nodes, tensors), SHAPES)
    assert (found["block1_conv1"][1] == 0).all()


def test_a_network_of_another_shape_is_refused(tmp_path, arrays):
    path = save(tmp_path / "m.onnx", *convolutions(arrays))
    with pytest.raises(FeatxError, match="2 convolutions, expected 1"):
        read_vgg_weights(path, {"block1_conv1": (3, 3, 3, 4)})
    with pytest.raises(FeatxError, match=r"block1_conv2: expected a kernel \(3, 3, 4, 6\)"):
        read_vgg_weights(path, SHAPES | {"block1_conv2": (3, 3, 4, 6)})


def test_tensors_in_other_files_are_never_opened(tmp_path, arrays):
    path = save(tmp_path / "m.onnx", *convolutions(arrays))
    model = onnx.load(path)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../../secret")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FeatxError, match="lies in another file"):
        read_vgg_weights(path, SHAPES)
