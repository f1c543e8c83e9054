"""Declare which frozen network runs, and how."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.networks import BACKBONES
from featx.system import Names, Options, Range, option


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(Options):
    """Which frozen network runs, and how."""

    backbone: str = option("vgg16", "The network.", choices=tuple(BACKBONES))
    layers: Names = option(
        "all", "all, last, predictions, further sets and names with commas: featx backbones NAME lists them."
    )
    weights: str = option(
        "imagenet",
        "imagenet, imagenet-conv, random[:SEED], a .weights.h5, .h5, .keras or .onnx file, or the folder of a "
        "fine-tuned run.",
    )
    preprocessing: Literal["caffe", "torch", "tf", "none", "caffe-googlenet"] | None = option(
        None, "Preprocessing that the weights expect.", unset="the network's own"
    )
    pool: Names = option("avg", "avg, max, std, or several with commas: how the activations of a layer are pooled.")
    views: Literal["none", "flip", "dihedral"] = option(
        "none", "Average the features over an image and its mirror image, or over its eight turned and mirrored views."
    )
    engine: Literal["auto", "keras", "ncnn"] = option(
        "auto", "Library that runs the network; auto: the fastest float32 engine on this machine."
    )
    precision: Literal["float32", "float16", "bfloat16"] = option(
        "float32", "Arithmetic of the network; pooling is always in float32."
    )
    batch_size: Annotated[int | Literal["auto"], Range(1, 4096)] = option(
        "auto", "Images per forward pass; auto: found by trying on a GPU, 8 or one image per core on a CPU."
    )
