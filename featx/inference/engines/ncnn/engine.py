"""Run a frozen Keras model and its pooling as a graph of ncnn's layers, the fast engine on a CPU.

A dense layer of an image at a time would read all of its weights (411 MB of fc1) for each; a batch reads them once.
"""

import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np

from featx.errors import FeatxError
from featx.inference.engines.ncnn.dense_tail import find_tail
from featx.inference.engines.ncnn.layers import TRANSLATORS, check_layer
from featx.inference.engines.ncnn.nodes import Blob, Graph
from featx.networks import WHOLE, Call, FrozenBackbone, UnsupportedError, plan_features, preprocess, read_topology
from featx.system import available_cores

# Under this name goes what the dense layers start from.
_TAIL = ""


class NcnnEngine:
    """Run a frozen backbone with ncnn, in float32.

    Parameters
    ----------
    frozen : FrozenBackbone
    poolings : tuple of str
        See `featx.networks.plan_features`.
    n_threads : int, optional
        Images at once; default: the cores that this process may use. The features of an image don't depend on it, nor
        on the other images of the batch.

    Attributes
    ----------
    name, version, device : str
        `ncnn`, its version, and `cpu:0`.
    n_channels : dict of str to int
        Features by name, in network order.

    Raises
    ------
    FeatxError
        If ncnn isn't installed.
    UnsupportedError
        If the backbone has a layer that ncnn has no counterpart for.
    """

    name = "ncnn"
    device = "cpu:0"

    def __init__(self, frozen: FrozenBackbone, poolings: tuple[str, ...], *, n_threads: int | None = None) -> None:
        try:
            import ncnn
        except ImportError as error:
            raise FeatxError(f"ncnn: {error}: pip install 'featx[cpu]', or use keras", parameter="engine") from error
        plan = plan_features(frozen.spatial, poolings)
        self._tail = find_tail(frozen.model)
        graph = translate(frozen.model, plan, self._tail.names if self._tail else ())
        self._blobs = dict(graph.features)
        if self._tail is not None:
            # A blob that other layers take is gone afterwards; one of its own stays to be read.
            self._blobs[_TAIL] = graph.add("Noop", "tail", [graph.blobs[self._tail.source]]).name
        shapes = {name: tuple(frozen.model.output[layer].shape[1:]) for name, (layer, _) in plan.items()}
        self._whole = [name for name, (_, pooling) in plan.items() if pooling == WHOLE and len(shapes[name]) == 3]
        self.n_channels = {
            name: math.prod(shape) if name in self._whole else shape[-1] for name, shape in shapes.items()
        }
        self.version = ncnn.__version__
        self._preprocessing = frozen.preprocessing
        self._ncnn = ncnn
        self._net = _load(ncnn, *graph.write())
        self._n_threads = n_threads or available_cores()

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of images (n, image_size, image_size, 3), uint8."""
        # Threads of this call alone: a process that was forked from this one would wait for threads that it hasn't got.
        with ThreadPoolExecutor(min(self._n_threads, len(pixels))) as pool:
            outputs = list(pool.map(self._run, pixels))
        features = {name: np.stack([output[name] for output in outputs]) for name in self._blobs}
        if self._tail is not None:
            last = features.pop(_TAIL)
            features |= self._tail(_channels_last(last) if last.ndim == 4 else last)
        for name in self._whole:
            maps = features[name]
            features[name] = _channels_last(maps).reshape(len(maps), -1)
        return {name: features[name] for name in self.n_channels}

    def _run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        planes = np.ascontiguousarray(
            preprocess(np, pixels.astype(np.float32), self._preprocessing).transpose(2, 0, 1), dtype=np.float32
        )
        extractor = self._net.create_extractor()
        # A copy: a matrix made of an array only points to it, and ncnn crashes where a layer would write to it.
        extractor.input("pixels", self._ncnn.Mat(planes).clone())
        outputs = {}
        for name, blob in self._blobs.items():
            code, found = extractor.extract(blob)
            if code:
                raise FeatxError(f"ncnn failed at {blob} (code {code}): use `engine` keras")
            # A copy: the array would only point into ncnn's memory.
            outputs[name] = np.array(found)
        return outputs


def _channels_last(maps: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def _load(ncnn: ModuleType, params: str, arrays: Sequence[np.ndarray]) -> object:
    """Make a network of text and weights."""
    net = ncnn.Net()
    # Images run side by side, each in one thread.
    net.opt.num_threads = 1
    # Float32 throughout: on some processors ncnn would take half precision by itself.
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
        if hasattr(net.opt, name):
            setattr(net.opt, name, False)
    if net.load_param_mem(params):
        raise FeatxError("ncnn can't read the network that featx wrote for it: use `engine` keras")
    # Through a file: of the ways that ncnn has in Python, only this one leaves it the owner of the weights.
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.bin")
            with path.open("wb") as file:
                for array in arrays:
                    file.write(array.data)
            if net.load_model(str(path)):
                raise FeatxError("ncnn can't read the weights that featx wrote for it: use `engine` keras")
    except OSError as error:
        n_bytes = sum(array.nbytes for array in arrays)
        raise FeatxError(
            f"{n_bytes / 1e6:,.0f} MB of weights can't be written to a folder for temporary files ({error}). Free "
            "some disk, name another folder in TMPDIR, or use `engine` keras"
        ) from error
    return net


_MODELS = ("Functional", "Sequential")


def translate(model: object, plan: Mapping[str, tuple[str, str]], skipped: Collection[str]) -> Graph:
    """Translate a frozen model and the pooling of its layers."""
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
