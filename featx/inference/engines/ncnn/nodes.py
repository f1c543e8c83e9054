"""ncnn's own view of a network: layers and blobs, made smaller where that changes nothing, and their text format.

The format is described at https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

_MAGIC = 7767517

# Before the weights of a convolution or a matrix: they are float32. (Zero, in any type of four bytes.)
FLOAT32_TAG = np.zeros(1, dtype="<f4")
_CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")

# In the parameters of a convolution: whether it has a bias, and what it ends in.
_HAS_BIAS, _ENDS_IN, _RELU = 5, 9, 1


@dataclass(frozen=True)
class Blob:
    """Values that go from layer to layer.

    Attributes
    ----------
    name : str
    shape : tuple of int
        As Keras has it: (height, width, channels), or (channels,).
    """

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One layer of ncnn's: its type, name, blobs that go in and out, parameters, and arrays in ncnn's order."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, object] = field(default_factory=dict)
    arrays: tuple[np.ndarray, ...] = ()

    def line(self) -> str:
        """Return the layer's line of the .param file."""
        blobs = " ".join((*self.inputs, *self.outputs))
        params = " ".join(f"{key}={_as_text(value)}" for key, value in self.params.items())
        return f"{self.kind:<16} {self.name:<24} {len(self.inputs)} {len(self.outputs)} {blobs} {params}".rstrip()


@dataclass
class Graph:
    """The layers of a network.

    Attributes
    ----------
    nodes : list of Node
        In the order in which they run.
    blobs : dict of str to Blob
        Which blob holds the output of a Keras layer.
    features : dict of str to str
        Which blob holds which features.
    """

    nodes: list[Node] = field(default_factory=list)
    blobs: dict[str, Blob] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[Blob],
        params: Mapping[int, object] | None = None,
        arrays: Iterable[np.ndarray] = (),
        *,
        shape: tuple[int, ...] | None = None,
    ) -> Blob:
        """Append a layer of one output, and return that: of the layer's name, and of its first input's shape."""
        name = "_".join(name.split())
        while name in self._names:
            name += "'"
        self._names.add(name)
        arrays = tuple(np.ascontiguousarray(array, dtype="<f4") for array in arrays)
        self.nodes.append(Node(kind, name, tuple(blob.name for blob in inputs), (name,), params or {}, arrays))
        return Blob(name, inputs[0].shape if shape is None else shape)

    def write(self) -> tuple[str, list[np.ndarray]]:
        """Return the text of the .param file, and the arrays that follow each other in the .bin file."""
        nodes = _split_shared(_fold(self.nodes))
        n_blobs = sum(len(node.outputs) for node in nodes)
        text = "\n".join([str(_MAGIC), f"{len(nodes)} {n_blobs}", *(node.line() for node in nodes), ""])
        return text, [array for node in nodes for array in node.arrays]


def _as_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join([str(len(value)), *map(_as_text, value)])
    # ncnn distinguishes a fraction from a whole number by its point or exponent.
    return f"{value:.9e}" if isinstance(value, float) else str(int(value))


def _fold(nodes: list[Node]) -> list[Node]:
    """Let a convolution do what follows it alone: a factor and an offset a channel, and a ReLU."""
    n_uses = _count_uses(nodes)
    done: dict[str, Node] = {}
    for node in nodes:
        before = done.get(node.inputs[0]) if len(node.inputs) == 1 and n_uses[node.inputs[0]] == 1 else None
        folded = _fold_pair(before, node) if before is not None else None
        if folded is not None:
            del done[node.inputs[0]]
        done[node.outputs[0]] = folded or node
    return list(done.values())


def _fold_pair(before: Node, node: Node) -> Node | None:
    if before.kind not in _CONVOLUTIONS or _ENDS_IN in before.params:
        return None
    if node.kind == "ReLU" and not node.params:
        return replace(before, outputs=node.outputs, params={**before.params, _ENDS_IN: _RELU})
    if node.kind != "Scale":
        return None
    # One rounding: products and sums are float64.
    factor = node.arrays[0].astype(np.float64)
    offset = node.arrays[1].astype(np.float64) if len(node.arrays) > 1 else np.zeros_like(factor)
    tag, kernel, *bias = before.arrays
    arrays = (kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1)), (bias[0] if bias else 0) * factor + offset)
    arrays = tuple(array.astype("<f4") for array in arrays)
    return replace(before, outputs=node.outputs, params={**before.params, _HAS_BIAS: 1}, arrays=(tag, *arrays))


def _split_shared(nodes: list[Node]) -> list[Node]:
    """Copy a blob for each of its consumers, as ncnn requires; a copy costs nothing."""
    n_uses = _count_uses(nodes)
    copies: dict[str, list[str]] = {}
    done = []
    for node in nodes:
        inputs = tuple(copies[blob].pop() if blob in copies else blob for blob in node.inputs)
        done.append(replace(node, inputs=inputs))
        for blob in node.outputs:
            if n_uses[blob] > 1:
                copies[blob] = [f"{blob}~{number}" for number in range(n_uses[blob])]
                done.append(Node("Split", f"{blob}~", (blob,), tuple(copies[blob])))
    return done


def _count_uses(nodes: list[Node]) -> Counter:
    return Counter(blob for node in nodes for blob in node.inputs)
