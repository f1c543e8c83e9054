"""GoogLeNet: Caffe's model as an ONNX file, run by onnx's own reference, gives the same features as featx's."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from samples import relative_error

from featx import FeatxError
from featx.inference import build_network
from featx.networks import BACKBONES, build_application, build_backbone
from featx.networks.registry import GOOGLENET_CONVS

WIDTHS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
# Maps of 36, 18, 9, 4 (rounded up) and 2: both an even and an odd side are halved.
SIZE = 72


class CaffesModel:
    """Writes bvlc_googlenet as the ONNX model zoo has it: Caffe's names, weights (out, in, height, width)."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.tensors = [], {}

    def add(self, kind, name, inputs, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_1"], **attributes))
        return f"{name}_1"

    def weigh(self, name, *shape):
        scale = np.sqrt(2 / np.prod(shape[1:]))
        self.tensors[f"{name}_w_0"] = (self.rng.standard_normal(shape) * scale).astype("f4")
        self.tensors[f"{name}_b_0"] = (self.rng.standard_normal(shape[0]) * 0.1).astype("f4")
        return [f"{name}_w_0", f"{name}_b_0"]

    def conv(self, x, name, n_in, n_out, side, stride=1):
        weights = self.weigh(name, n_out, n_in, side, side)
        pads = [side // 2] * 4
        x = self.add("Conv", name, [x, *weights], kernel_shape=[side, side], strides=[stride, stride], pads=pads)
        return self.add("Relu", f"{name}_relu", [x])

    def pool(self, x, name):
        return self.add("MaxPool", name, [x], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    def norm(self, x, name):
        return self.add("LRN", name, [x], size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def inception(self, x, module, n_in):
        name, (a, b_in, b, c_in, c, d) = f"inception_{module}", WIDTHS[module]
        branches = [self.conv(x, f"{name}/1x1", n_in, a, 1)]
        reduced = self.conv(x, f"{name}/3x3_reduce", n_in, b_in, 1)
        branches.append(self.conv(reduced, f"{name}/3x3", b_in, b, 3))
        reduced = self.conv(x, f"{name}/5x5_reduce", n_in, c_in, 1)
        branches.append(self.conv(reduced, f"{name}/5x5", c_in, c, 5))
        pooled = self.add("MaxPool", f"{name}/pool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
        branches.append(self.conv(pooled, f"{name}/pool_proj", n_in, d, 1))
        return self.add("Concat", f"{name}/output", branches, axis=1), a + b + c + d

    def write(self, path):
        x = self.conv("data_0", "conv1/7x7_s2", 3, 64, 7, stride=2)
        x = self.norm(self.pool(x, "pool1/3x3_s2"), "pool1/norm1")
        x = self.conv(x, "conv2/3x3_reduce", 64, 64, 1)
        x = self.norm(self.conv(x, "conv2/3x3", 64, 192, 3), "conv2/norm2")
        x, width = self.pool(x, "pool2/3x3_s2"), 192
        for module in WIDTHS:
            x, width = self.inception(x, module, width)
            if module in ("3b", "4e"):
                x = self.pool(x, f"pool{module[0]}/3x3_s2")
        x = self.add("AveragePool", "pool5/7x7_s1", [x], kernel_shape=[SIZE // 32] * 2)
        x = self.add("Dropout", "pool5/drop_7x7_s1", [x])
        self.tensors["OC2_DUMMY_1"] = np.array([1, 1024])
        x = self.add("Reshape", "OC2_DUMMY_0", [x, "OC2_DUMMY_1"])
        x = self.add("Gemm", "loss3/classifier", [x, *self.weigh("loss3/classifier", 1000, 1024)], transB=1)
        x = self.add("Softmax", "prob", [x], axis=1)
        self.save(path, x)
        return path

    def save(self, path, last):
        graph = helper.make_graph(
            self.nodes,
            "bvlc_googlenet",
            [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, 1000])],
            [numpy_helper.from_array(array, name) for name, array in self.tensors.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)]), path)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return CaffesModel().write(tmp_path_factory.mktemp("onnx") / "googlenet.onnx")


NAMES = (
    "conv1/7x7_s2",
    "pool1/norm1",
    "conv2/3x3",
    "pool2/3x3_s2",
    "inception_3a/5x5_reduce",
    "inception_3a/pool_proj",
    "inception_3b/output",
    "pool3/3x3_s2",
    "inception_4e/output",
    "pool4/3x3_s2",
    "inception_5b/output",
    "pool5/7x7_s1",
    "loss3/classifier",
    "prob",
)


SIDES = {
    "conv1_7x7_s2": 112,
    "pool1_3x3_s2": 56,
    "pool2_3x3_s2": 28,
    "pool3_3x3_s2": 14,
    "pool4_3x3_s2": 7,
    "inception_5b_output": 7,
}


def blob_of(name):
    """In Caffe a convolution's blob is overwritten by its ReLU."""
    is_conv = name.replace("/", "_") in GOOGLENET_CONVS
    return f"{name}_relu_1" if is_conv else f"{name}_1"


class LRN(OpRun):
    """ONNX's operator, written after its definition: that of onnx's own reference leaves channels out in 1.23."""

    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        squares = [(x[:, max(0, c - size // 2) : c + size // 2 + 1] ** 2).sum(axis=1) for c in range(x.shape[1])]
        return ((x / (bias + alpha / size * np.stack(squares, axis=1)) ** beta).astype(x.dtype),)


def run_reference(path, pixels):
    """Return the activations of `NAMES`, as onnx itself computes them."""
    model = onnx.load(path)
    blobs = [blob_of(name) for name in NAMES]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(blob, TensorProto.FLOAT, None) for blob in blobs)
    prepared = (pixels[..., ::-1] - np.array([104, 117, 123])).transpose(0, 3, 1, 2).astype("f4")
    return dict(zip(NAMES, ReferenceEvaluator(model, new_ops=[LRN]).run(None, {"data_0": prepared}), strict=True))


def test_features_are_those_of_caffes_model(model_path):
    pixels = np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    network = build_network(
        "googlenet", layers=",".join(NAMES), weights=str(model_path), image_size=SIZE, engine="keras", batch_size=1
    )
    found = network(pixels)
    assert list(found) == [name.replace("/", "_") for name in NAMES]
    for name, activations in run_reference(model_path, pixels).items():
        expected = activations.reshape(*activations.shape[:2], -1).mean(axis=2)
        assert relative_error(found[name.replace("/", "_")], expected) < 1e-4, name


def test_at_its_own_size_the_maps_are_caffes():
    network = build_application(BACKBONES["googlenet"], 224, include_top=False)
    sides = {name: network.get_layer(name).output.shape[1] for name in SIDES}
    assert sides == SIDES


def test_without_a_classifier_there_are_no_predictions(tmp_path):
    model = CaffesModel()
    model.weigh = without_classifier(model.weigh)
    path = model.write(tmp_path / "features.onnx")
    lines = []
    with pytest.raises(FeatxError, match=r"'features\.onnx' have no prob: .*have them \(a file\)"):
        build_backbone("googlenet", layers="predictions", weights=str(path), image_size=SIZE)
    frozen = build_backbone(
        "googlenet", layers="last,pool5/7x7_s1", weights=str(path), image_size=SIZE, echo=lines.append
    )
    assert frozen.layers == ("inception_5b_output", "pool5_7x7_s1")
    assert lines == []


def without_classifier(weigh):
    """Give the classifier other classes than ImageNet's."""
    return lambda name, *shape: weigh(name, *((7, 1024) if name == "loss3/classifier" else shape))


def test_convolutions_in_another_order_are_refused(tmp_path):
    model = CaffesModel()
    model.inception = swapped(model)
    with pytest.raises(FeatxError, match="inception_3b/3x3_reduce where inception_3b_1x1 was expected"):
        build_backbone("googlenet", layers="last", weights=str(model.write(tmp_path / "m.onnx")), image_size=SIZE)


def swapped(model):
    """Write 3x3_reduce before 1x1: in module 3b they have the same shape."""
    plain = model.inception

    def inception(x, module, n_in):
        first = len(model.nodes)
        done = plain(x, module, n_in)
        if module == "3b":
            nodes = model.nodes
            nodes[first : first + 4] = [*nodes[first + 2 : first + 4], *nodes[first : first + 2]]
        return done

    return inception


def test_weights_elsewhere_are_never_opened(model_path, tmp_path):
    model = onnx.load(model_path)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1000)
    with pytest.raises(FeatxError, match="lies in another file"):
        build_backbone("googlenet", layers="last", weights=str(tmp_path / "m.onnx"), image_size=SIZE)


def test_its_own_files_are_read(tmp_path):
    """What Keras saves of the network gives the same weights again."""
    options = {"layers": "last,prob", "image_size": 32}
    first = build_backbone("googlenet", weights="random:3", **options)
    first.model.save_weights(tmp_path / "g.weights.h5")
    again = build_backbone("googlenet", weights=str(tmp_path / "g.weights.h5"), **options)
    assert again.weights_sha256 == first.weights_sha256


def test_keras_has_no_weights_of_it():
    with pytest.raises(FeatxError, match=r"Keras has no ImageNet weights for googlenet.*bvlc_googlenet"):
        build_backbone("googlenet")


def test_it_runs_on_the_fast_engine():
    pixels = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    options = {"layers": "all,pool5/7x7_s1,prob", "weights": "random:2", "image_size": SIZE, "pool": "avg,max,std"}
    found = {engine: build_network("googlenet", engine=engine, **options)(pixels) for engine in ("keras", "ncnn")}
    assert len(found["keras"]) > 30
    for name, values in found["keras"].items():
        assert relative_error(found["ncnn"][name], values) < 1e-4, name
