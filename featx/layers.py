"""What featx knows of a backbone before it is built: its layers' names and the sets of them that have names."""

from dataclasses import dataclass

from featx.errors import FeatxError


@dataclass(frozen=True)
class Backbone:
    """What featx knows of a network before it is built.

    Attributes
    ----------
    name, application : str
        featx's name for it, and its class in keras.applications.
    blocks : tuple of int
        How many convolutions each block has.
    fc : tuple of str
        Names of the fully connected layers.
    image_size : int
        Height and width that the published weights were trained at, pixels.
    preprocessing : str
        A mode of keras.applications.imagenet_utils.preprocess_input.
    """

    name: str
    application: str
    blocks: tuple[int, ...]
    fc: tuple[str, ...]
    image_size: int
    preprocessing: str

    @property
    def block_convs(self) -> tuple[tuple[str, ...], ...]:
        """Names of the convolutional layers, block by block."""
        return tuple(
            tuple(f"block{b}_conv{c}" for c in range(1, n_convs + 1)) for b, n_convs in enumerate(self.blocks, 1)
        )

    @property
    def convs(self) -> tuple[str, ...]:
        """Names of the convolutional layers."""
        return sum(self.block_convs, ())

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer whose activations can be asked for, in network order."""
        with_pools = ((*convs, f"block{b}_pool") for b, convs in enumerate(self.block_convs, 1))
        return sum(with_pools, ()) + self.fc

    @property
    def layer_sets(self) -> dict[str, tuple[str, ...]]:
        """Names that stand for several layers."""
        return {
            "all": self.convs + self.fc,
            "conv": self.convs,
            "fc": self.fc,
            "block-ends": tuple(convs[-1] for convs in self.block_convs),
            **{f"block{b}": convs for b, convs in enumerate(self.block_convs, 1)},
        }


BACKBONES = {
    "vgg16": Backbone(
        name="vgg16",
        application="VGG16",
        blocks=(2, 2, 3, 3, 3),
        fc=("fc1", "fc2"),
        image_size=224,
        preprocessing="caffe",
    ),
}


def choose_layers(text: str, backbone: Backbone) -> tuple[str, ...]:
    """Turn `all`, `block-ends`, `block4_conv3,fc1` and the like into layer names, in network order.

    Examples
    --------
    >>> choose_layers("fc1,block5", BACKBONES["vgg16"])
    ('block5_conv1', 'block5_conv2', 'block5_conv3', 'fc1')
    """
    chosen: set[str] = set()
    for name in (part.strip() for part in text.split(",")):
        if name in backbone.layer_sets:
            chosen.update(backbone.layer_sets[name])
        elif name in backbone.layers:
            chosen.add(name)
        else:
            raise FeatxError(
                f"{backbone.name} has no layer {name!r}. Layers: {', '.join(backbone.layers)}; "
                f"sets: {', '.join(backbone.layer_sets)}"
            )
    return tuple(layer for layer in backbone.layers if layer in chosen)
