"""List the backbones with all that is known before they are built: titles, sizes, preprocessing, sets of layers."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from featx.errors import FeatxError, UnknownLayerError


@dataclass(frozen=True)
class Backbone:
    """Everything that featx knows of a backbone before it is built.

    Attributes
    ----------
    name : str
        featx's name for it.
    title : str
        Its name in texts: "ResNet-50".
    application : str or None
        Its name in keras.applications; None for a network that featx builds itself.
    image_size : int
        Height and width that the published weights were trained at, pixels.
    min_image_size : int
        The smallest height and width that work, pixels.
    preprocessing : str
        What the published weights expect; one of `featx.networks.PREPROCESSINGS`.
    layer_sets : mapping of str to tuple of str
        Sets of layers by name: `all`, the output of every block; `last`, the deepest activations with height and width
        before any pooling; `predictions`, the class probabilities; and stages.
    top : tuple of str
        The layers that follow the last ones with height and width, in network order.
    top_weighted : tuple of str
        Those of them that have weights. A file of weights may leave them out.
    onnx : bool
        Whether weights can be read from ONNX files.
    packaged : bool
        Whether a package has the ImageNet weights of its convolutions: `imagenet-conv`, with published digests.
    aliases : mapping of str to str
        Further names of layers.
    """

    name: str
    title: str
    application: str | None
    image_size: int
    min_image_size: int
    preprocessing: str
    layer_sets: Mapping[str, tuple[str, ...]]
    top: tuple[str, ...]
    top_weighted: tuple[str, ...]
    onnx: bool = False
    packaged: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def takes_one_size(self) -> bool:
        """Return whether its fully connected layers fit one image size only: their input is a whole map."""
        return "flatten" in self.top

    def check_image_size(self, image_size: int) -> None:
        """Raise an error for images so small that the network would have no activations.

        Raises
        ------
        FeatxError
        """
        if image_size < self.min_image_size:
            raise FeatxError(
                f"expected {self.min_image_size} pixels or more for {self.name}, found {image_size}",
                parameter="image_size",
            )

    def knows(self, layer: str) -> bool:
        """Return whether the network is known to have a layer, before it is built."""
        return layer in self.top or any(layer in layers for layers in self.layer_sets.values())


def find_backbone(name: str) -> Backbone:
    """Return the backbone with a name.

    Raises
    ------
    FeatxError
        If there is none.
    """
    if name not in BACKBONES:
        raise FeatxError(f"expected one of {', '.join(BACKBONES)}, found {name!r}", parameter="backbone")
    return BACKBONES[name]


def expand_layers(layers: str | Iterable[str], backbone: Backbone) -> tuple[str, ...]:
    """Replace sets of layers (`all`, `block-ends`) by the names of their layers, in the order given.

    Names are not looked up in the network. A slash stands for an underscore, so that Caffe's names (`pool5/7x7_s1`) can
    be used as they are.

    Parameters
    ----------
    layers : str or iterable of str
        Names of layers and of sets; one text has commas between them.
    backbone : Backbone

    Examples
    --------
    >>> expand_layers("fc1,block5", BACKBONES["vgg16"])
    ('fc1', 'block5_conv1', 'block5_conv2', 'block5_conv3')
    >>> expand_layers("pool5/7x7_s1", BACKBONES["googlenet"])
    ('pool5_7x7_s1',)
    """
    names: list[str] = []
    for part in split_names(layers):
        name = part.replace("/", "_")
        name = backbone.aliases.get(name, name)
        names += backbone.layer_sets.get(name, (name,))
    return tuple(dict.fromkeys(names))


def split_names(names: str | Iterable[str]) -> list[str]:
    """Return the names in a text with commas, or the given names.

    Examples
    --------
    >>> split_names("all, fc1")
    ['all', 'fc1']
    """
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def choose_layers(names: str | Iterable[str], backbone: Backbone, layers: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of a network that some names and sets stand for, in network order.

    Parameters
    ----------
    names : str or iterable of str
        See `expand_layers`.
    backbone : Backbone
    layers : sequence of str
        The network's layers, in network order.

    Raises
    ------
    UnknownLayerError
        If the network doesn't have one of them.

    Examples
    --------
    >>> choose_layers("fc1,last", BACKBONES["vgg16"], ["block5_conv3", "block5_pool", "fc1"])
    ('block5_conv3', 'fc1')
    """
    chosen = expand_layers(names, backbone)
    for name in chosen:
        if name not in layers:
            close = difflib.get_close_matches(name, [*layers, *backbone.layer_sets], n=3)
            hint = f" (close: {', '.join(close)})" if close else ""
            hint = " (use `pool` for poolings)" if ":" in name else hint
            raise UnknownLayerError(
                f"{backbone.name} has no layer {name!r}{hint}. Sets: {', '.join(backbone.layer_sets)}; "
                f"'featx backbones {backbone.name}' lists its layers"
            )
    return tuple(layer for layer in layers if layer in chosen)


def _vgg(name: str, title: str, application: str, n_convs: Sequence[int]) -> Backbone:
    blocks = {f"block{b}": _count(f"block{b}_conv{{}}", n) for b, n in enumerate(n_convs, 1)}
    convs = sum(blocks.values(), ())
    fc = ("fc1", "fc2")
    sets = {
        "all": convs + fc,
        "conv": convs,
        "fc": fc,
        "block-ends": tuple(layers[-1] for layers in blocks.values()),
        **blocks,
    }
    return _backbone(
        name,
        title,
        application,
        sets,
        convs[-1],
        onnx=True,
        packaged=name == "vgg16",
        top=("flatten", *fc, "predictions"),
        top_weighted=(*fc, "predictions"),
        preprocessing="caffe",
    )


def _resnet(name: str, title: str, application: str, n_blocks: Sequence[int]) -> Backbone:
    stages = {f"conv{s}": _count(f"conv{s}_block{{}}_out", n) for s, n in enumerate(n_blocks, 2)}
    sets = {"all": ("conv1_relu", *sum(stages.values(), ())), **stages}
    return _backbone(name, title, application, sets, sets["all"][-1], preprocessing="caffe")


def _densenet(name: str, title: str, application: str, n_blocks: Sequence[int]) -> Backbone:
    stages = {f"conv{s}": _count(f"conv{s}_block{{}}_concat", n) for s, n in enumerate(n_blocks, 2)}
    sets = {"all": ("conv1_relu", *sum(stages.values(), ()), "relu"), **stages}
    return _backbone(name, title, application, sets, "relu", preprocessing="torch")


def _inception_v3() -> Backbone:
    mixed = tuple(f"mixed{m}" for m in range(11))
    return _backbone(
        "inception_v3",
        "Inception v3",
        "InceptionV3",
        {"all": mixed},
        mixed[-1],
        image_size=299,
        min_image_size=75,
        preprocessing="tf",
    )


def _inception_resnet_v2() -> Backbone:
    stages = {
        "block35": ("mixed_5b", *_count("block35_{}_ac", 10)),
        "block17": ("mixed_6a", *_count("block17_{}_ac", 20)),
        # The tenth block has no activation of its own: its output is that of Keras's layer of the scaled sum.
        "block8": ("mixed_7a", *_count("block8_{}_ac", 9), "custom_scale_layer_39"),
    }
    return _backbone(
        "inception_resnet_v2",
        "Inception-ResNet v2",
        "InceptionResNetV2",
        {"all": (*sum(stages.values(), ()), "conv_7b_ac"), **stages},
        "conv_7b_ac",
        image_size=299,
        min_image_size=75,
        preprocessing="tf",
    )


def _efficientnet_v2_s() -> Backbone:
    letters = "abcdefghijklmno"
    stages = {f"block{s}": tuple(f"block{s}{b}_add" for b in letters[:n]) for s, n in enumerate((2, 4, 4, 6, 9, 15), 1)}
    for stage in list(stages)[1:]:
        # From stage to stage the channels change: there is nothing that their first block could add to.
        stages[stage] = (f"{stage}a_project_bn", *stages[stage][1:])
    return _backbone(
        "efficientnet_v2_s",
        "EfficientNetV2-S",
        "EfficientNetV2S",
        {"all": (*sum(stages.values(), ()), "top_activation"), **stages},
        "top_activation",
        top=("avg_pool", "top_dropout", "predictions"),
        image_size=384,
    )


def _convnext_tiny() -> Backbone:
    prefix = "convnext_tiny_"
    stages = {
        f"stage{s}": tuple(f"{prefix}stage_{s}_block_{b}_add" for b in range(n)) for s, n in enumerate((3, 3, 9, 3))
    }
    blocks = sum(stages.values(), ())
    top = (f"{prefix}head_gap", f"{prefix}head_layernorm", f"{prefix}head_dense")
    sets = {"all": (f"{prefix}stem", *blocks), **stages}
    return _backbone("convnext_tiny", "ConvNeXt-Tiny", "ConvNeXtTiny", sets, blocks[-1], top=top, top_weighted=top[1:])


_GOOGLENET_MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")

# In the order in which Caffe's model has them, and ONNX files of it.
GOOGLENET_CONVS = (
    "conv1_7x7_s2",
    "conv2_3x3_reduce",
    "conv2_3x3",
    *(
        f"inception_{module}_{conv}"
        for module in _GOOGLENET_MODULES
        for conv in ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
    ),
)


def _googlenet() -> Backbone:
    outputs = tuple(f"inception_{module}_output" for module in _GOOGLENET_MODULES)
    sets = {
        "all": ("conv1_7x7_s2", "conv2_3x3", *outputs),
        "inception3": outputs[:2],
        "inception4": outputs[2:7],
        "inception5": outputs[7:],
    }
    # Caffe's ReLUs work in place, so that their names are further ones of their convolutions' activations.
    aliases = {
        re.sub("^(conv[12]|inception_..)_", r"\1_relu_", conv.removesuffix("_s2")): conv for conv in GOOGLENET_CONVS
    }
    return _backbone(
        "googlenet",
        "GoogLeNet",
        None,
        sets,
        outputs[-1],
        onnx=True,
        top=("pool5_7x7_s1", "pool5_drop_7x7_s1", "loss3_classifier", "prob"),
        top_weighted=("loss3_classifier",),
        preprocessing="caffe-googlenet",
        aliases=aliases,
    )


def _count(pattern: str, n: int) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in range(1, n + 1))


def _backbone(
    name: str,
    title: str,
    application: str | None,
    sets: Mapping[str, tuple[str, ...]],
    last: str,
    *,
    top: tuple[str, ...] = ("avg_pool", "predictions"),
    top_weighted: tuple[str, ...] = ("predictions",),
    image_size: int = 224,
    min_image_size: int = 32,
    preprocessing: str = "none",
    onnx: bool = False,
    packaged: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> Backbone:
    return Backbone(
        name=name,
        title=title,
        application=application,
        image_size=image_size,
        min_image_size=min_image_size,
        preprocessing=preprocessing,
        layer_sets={**sets, "last": (last,), "predictions": top[-1:]},
        top=top,
        top_weighted=top_weighted,
        onnx=onnx,
        packaged=packaged,
        aliases=aliases or {},
    )


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        _vgg("vgg16", "VGG16", "VGG16", (2, 2, 3, 3, 3)),
        _vgg("vgg19", "VGG19", "VGG19", (2, 2, 4, 4, 4)),
        _resnet("resnet50", "ResNet-50", "ResNet50", (3, 4, 6, 3)),
        _resnet("resnet101", "ResNet-101", "ResNet101", (3, 4, 23, 3)),
        _inception_v3(),
        _inception_resnet_v2(),
        _densenet("densenet121", "DenseNet-121", "DenseNet121", (6, 12, 24, 16)),
        _efficientnet_v2_s(),
        _convnext_tiny(),
        _googlenet(),
    )
}
