"""Define recipes for fine-tuning: a head, stages of training, and the values that each may have."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Discriminator, Field, Strict, Tag

# Strict: true is no number, and '3' no 3.
Count = Annotated[int, Strict(), Field(ge=1)]
Width = Annotated[int, Strict(), Field(ge=1, le=65536)]
Number = Annotated[float, Strict()]
AtLeastZero = Annotated[float, Strict(), Field(ge=0)]
OverZero = Annotated[float, Strict(), Field(gt=0)]
Share = Annotated[float, Strict(), Field(ge=0, lt=1)]


class Checked:
    """Pydantic's settings for every record: no further keys, no NaN, no infinity."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Flatten(Checked):
    """Every value of a map, one after the other; a vector stays as it is."""

    layer: Literal["flatten"] = field(default="flatten", kw_only=True)


@dataclass(frozen=True)
class AveragePool(Checked):
    """A channel's mean over height and width."""

    layer: Literal["average_pool"] = field(default="average_pool", kw_only=True)


@dataclass(frozen=True)
class MaxPool(Checked):
    """A channel's maximum over height and width."""

    layer: Literal["max_pool"] = field(default="max_pool", kw_only=True)


@dataclass(frozen=True)
class Dense(Checked):
    """A fully connected layer.

    Attributes
    ----------
    units : int
        How many values it gives.
    activation : str
        relu, tanh, gelu or linear.
    l2 : float
        The factor of its kernel's squares in the loss.
    """

    layer: Literal["dense"] = field(default="dense", kw_only=True)
    units: Width
    activation: Literal["relu", "tanh", "gelu", "linear"] = "relu"
    l2: AtLeastZero = 0.0


@dataclass(frozen=True)
class Dropout(Checked):
    """While training, a share of the values is set to 0.

    Attributes
    ----------
    rate : float
        The share.
    """

    layer: Literal["dropout"] = field(default="dropout", kw_only=True)
    rate: Share


@dataclass(frozen=True)
class BatchNorm(Checked):
    """A batch normalization."""

    layer: Literal["batch_norm"] = field(default="batch_norm", kw_only=True)


@dataclass(frozen=True)
class Bottleneck(Checked):
    """A residual block of ResNet50, new: 1x1, 3x3 and 1x1 convolutions next to a projection.

    Attributes
    ----------
    filters : int
        Channels of the first two convolutions; the block gives four times as many.
    stride : int
        Of the block: 2 halves height and width.
    """

    layer: Literal["bottleneck"] = field(default="bottleneck", kw_only=True)
    filters: Width
    stride: Annotated[Count, Field(le=16)] = 1


HeadLayer = Annotated[
    Flatten | AveragePool | MaxPool | Dense | Dropout | BatchNorm | Bottleneck, Field(discriminator="layer")
]


@dataclass(frozen=True)
class StepSchedule(Checked):
    """The learning rate is multiplied by `factor` every `steps` steps (batches)."""

    kind: Literal["step"] = field(default="step", kw_only=True)
    steps: Count
    factor: Annotated[OverZero, Field(le=1)]


@dataclass(frozen=True)
class InverseTimeSchedule(Checked):
    """The learning rate is divided by 1 + `decay` * step, as by the `decay` that Keras's optimizers once took."""

    kind: Literal["inverse_time"] = field(default="inverse_time", kw_only=True)
    decay: OverZero


@dataclass(frozen=True)
class CosineSchedule(Checked):
    """The learning rate falls to 0 over the stage's epochs, along half a cosine."""

    kind: Literal["cosine"] = field(default="cosine", kw_only=True)


Schedule = Annotated[StepSchedule | InverseTimeSchedule | CosineSchedule, Field(discriminator="kind")]


@dataclass(frozen=True)
class Plateau(Checked):
    """The learning rate is multiplied by `factor` after `patience` epochs without a lower validation loss."""

    factor: Annotated[OverZero, Field(lt=1)] = 0.1
    patience: Count = 10
    min_learning_rate: AtLeastZero = 0.0


@dataclass(frozen=True)
class Augmentation(Checked):
    """Random changes of training images, each time that they are used.

    Attributes
    ----------
    rotation : float
        Largest angle in degrees, either way.
    shift : float
        Up to this share of height and width, either way.
    zoom : float
        Up to this share larger or smaller.
    flip : str
        none, horizontal, vertical or both.
    """

    rotation: Annotated[Number, Field(ge=0, le=180)] = 0.0
    shift: Annotated[Number, Field(ge=0, le=1)] = 0.0
    zoom: Share = 0.0
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"

    @property
    def is_none(self) -> bool:
        """Return whether the images stay as they are.

        Examples
        --------
        >>> Augmentation().is_none, Augmentation(flip="both").is_none
        (True, False)
        """
        return self == Augmentation()

    @property
    def is_flips(self) -> bool:
        """Return whether flips alone change the images, or nothing at all: then each image has only a few views.

        Examples
        --------
        >>> Augmentation(flip="both").is_flips, Augmentation(flip="both", zoom=0.1).is_flips
        (True, False)
        """
        return self == Augmentation(flip=self.flip)


# A union of its own, so that a mistake in one kind isn't answered with what the other kind expects.
Unfreeze = Annotated[
    Annotated[tuple[str, ...], Tag("names")] | Annotated[Literal["all"], Tag("all")],
    Discriminator(lambda value: "all" if isinstance(value, str) else "names"),
]


@dataclass(frozen=True)
class Stage(Checked):
    """One training, from its first epoch to its last. The next stage begins with the weights that it kept.

    Attributes
    ----------
    name : str
        Letters, digits, `_` and `-`.
    unfreeze : tuple of str, or "all"
        Layers of the backbone that train, by name or by the start of it: block5 stands for every layer that is so
        named or begins with block5_. The head always trains.
    unfreeze_last : int
        In addition, this many of the backbone's last layers with weights.
    epochs, batch_size : int
        The most epochs there are, and how many images a step sees.
    optimizer : str
        adam, rmsprop or sgd.
    learning_rate : float
        At the start.
    backbone_rate : float
        The backbone's layers learn at this times the learning rate.
    momentum : float
        Of sgd.
    schedule : StepSchedule, InverseTimeSchedule, CosineSchedule or None
        How the learning rate changes with the steps.
    plateau : Plateau or None
        How it changes with the validation loss.
    patience : int or None
        The stage ends after this many epochs without a better `stop_on`; None: after the last epoch.
    stop_on, keep : str
        val_loss or val_accuracy: what ends the stage, and whose best epoch's weights are kept.
    augmentation : Augmentation
    label_smoothing : float
        The share of the true label that is spread over all of them.
    class_weight : str or None
        balanced: images of rare labels weigh more.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
    unfreeze: Unfreeze = ()
    unfreeze_last: Annotated[int, Strict(), Field(ge=0)] = 0
    epochs: Count = 100
    batch_size: Count = 32
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    learning_rate: OverZero = 0.001
    backbone_rate: OverZero = 1.0
    momentum: Share = 0.0
    schedule: Schedule | None = None
    plateau: Plateau | None = None
    patience: Count | None = None
    stop_on: Literal["val_loss", "val_accuracy"] = "val_loss"
    keep: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    augmentation: Augmentation = field(default_factory=Augmentation)
    label_smoothing: Share = 0.0
    class_weight: Literal["balanced"] | None = None


@dataclass(frozen=True)
class Recipe(Checked):
    """A recipe for fine-tuning a backbone.

    Attributes
    ----------
    name, description : str
        One word, and one line.
    follows : str
        What it follows, and which of its numbers are featx's own choice.
    backbones : tuple of str
        Those that it is meant for, the first by default; names of `featx.networks.BACKBONES`.
    head : tuple of HeadLayer
        The layers between the backbone and the softmax over the classes, which is always added.
    stages : tuple of Stage
        One after the other.
    from_layer : str
        The backbone's layer that the head follows; "": the deepest one before its top.
    batch_norm : str
        frozen or trained: whether the batch normalizations of unfrozen layers train as well.
    precision : str
        float32, mixed_float16 or mixed_bfloat16.
    compile : bool
        Whether the steps are compiled by XLA; those that see augmented images (more than flipped ones) never are.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
    description: Annotated[str, Field(pattern=r"^[^\r\n]+$")]
    follows: str
    backbones: tuple[str, ...]
    head: tuple[HeadLayer, ...]
    stages: tuple[Stage, ...]
    from_layer: str = ""
    batch_norm: Literal["frozen", "trained"] = "frozen"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    compile: Annotated[bool, Strict()] = False
