"""A classifier on a backbone's activations: the layers that a recipe lists, and a softmax over the classes."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import count
from types import ModuleType

from featx.networks.recipes.schema import Bottleneck, Dense, Dropout, HeadLayer

PREDICTIONS = "predictions"


class _Names:
    """Names that no layer has yet; seeds, one after the other."""

    def __init__(self, taken: Collection[str], seed: int) -> None:
        self._taken = set(taken)
        self._seeds = seed_sequence(seed)

    def free(self, stem: str, *, first: str | None = None) -> str:
        """Return the stem with the first number that is free; before that `first`, if it is given."""
        names = (f"{stem}{number}" for number in count(1))
        candidates = [first] if first else []
        name = next(name for names in (candidates, names) for name in names if name not in self._taken)
        self._taken.add(name)
        return name

    def seed(self) -> int:
        return next(self._seeds)


def seed_sequence(seed: int) -> Iterator[int]:
    """Go through the seeds that one seed stands for, all of them below 2 ** 31, which every backend takes.

    Examples
    --------
    >>> from itertools import islice
    >>> list(islice(seed_sequence(7), 3))
    [7000, 7001, 7002]
    """
    return (number % 2**31 for number in count(seed * 1000))


def add_head(
    keras: ModuleType,
    activations: object,
    layers: Sequence[HeadLayer],
    n_classes: int,
    *,
    taken: Collection[str] = (),
    seed: int = 0,
) -> object:
    """Put a head on activations.

    Dense layers are called fc1, fc2 and so on, as VGG's are, from the first number that the backbone leaves free; the
    softmax over the classes is called `predictions`, and computes in float32 whatever the others do.

    Parameters
    ----------
    keras : module
    activations : KerasTensor of shape (n, height, width, channels) or (n, channels)
    layers : sequence of HeadLayer
        See `featx.networks.recipes.files`.
    n_classes : int
    taken : collection of str, optional
        Names that the network's layers have.
    seed : int, default 0
        Of the initial weights (Keras's default, Glorot's uniform distribution) and of dropout.

    Returns
    -------
    KerasTensor of shape (n, n_classes)
        Probabilities.
    """
    names = _Names({*taken, PREDICTIONS}, seed)
    for layer in layers:
        activations = _ADDERS[layer.layer](keras, activations, layer, names)
    softmax = keras.layers.Dense(
        n_classes, activation="softmax", kernel_initializer=_draw(keras, names), dtype="float32", name=PREDICTIONS
    )
    return softmax(activations)


def _draw(keras: ModuleType, names: _Names) -> object:
    return keras.initializers.GlorotUniform(seed=names.seed())


def _add_flatten(keras: ModuleType, activations: object, layer: HeadLayer, names: _Names) -> object:
    return keras.layers.Flatten(name=names.free("flatten", first="flatten"))(activations)


def _add_pool(kind: str, keras: ModuleType, activations: object, layer: HeadLayer, names: _Names) -> object:
    if len(activations.shape) == 2:
        # A vector, of a fully connected layer, has nothing to pool.
        return activations
    return getattr(keras.layers, f"Global{kind}Pooling2D")(name=names.free("head_pool"))(activations)


def _add_dense(keras: ModuleType, activations: object, layer: Dense, names: _Names) -> object:
    return keras.layers.Dense(
        layer.units,
        activation=layer.activation,
        kernel_initializer=_draw(keras, names),
        kernel_regularizer=keras.regularizers.L2(layer.l2) if layer.l2 else None,
        name=names.free("fc"),
    )(activations)


def _add_dropout(keras: ModuleType, activations: object, layer: Dropout, names: _Names) -> object:
    return keras.layers.Dropout(layer.rate, seed=names.seed(), name=names.free("head_dropout"))(activations)


def _add_norm(keras: ModuleType, activations: object, layer: HeadLayer, names: _Names) -> object:
    return keras.layers.BatchNormalization(name=names.free("head_norm"))(activations)


def _add_bottleneck(keras: ModuleType, activations: object, layer: Bottleneck, names: _Names) -> object:
    """Add a residual block as ResNet50 has them: He et al. 2015, arXiv 1512.03385, figure 5."""
    block = names.free("new_block")

    def convolve(values: object, part: str, filters: int, size: int, stride: int = 1) -> object:
        values = keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same",
            kernel_initializer=_draw(keras, names),
            name=f"{block}_{part}_conv",
        )(values)
        return keras.layers.BatchNormalization(epsilon=1.001e-5, name=f"{block}_{part}_bn")(values)

    shortcut = activations
    if layer.stride > 1 or activations.shape[-1] != 4 * layer.filters:
        shortcut = convolve(activations, "0", 4 * layer.filters, 1, layer.stride)
    values = keras.layers.ReLU(name=f"{block}_1_relu")(convolve(activations, "1", layer.filters, 1, layer.stride))
    values = keras.layers.ReLU(name=f"{block}_2_relu")(convolve(values, "2", layer.filters, 3))
    values = convolve(values, "3", 4 * layer.filters, 1)
    values = keras.layers.Add(name=f"{block}_add")([shortcut, values])
    return keras.layers.ReLU(name=f"{block}_out")(values)


_ADDERS: dict[str, Callable] = {
    "flatten": _add_flatten,
    "average_pool": partial(_add_pool, "Average"),
    "max_pool": partial(_add_pool, "Max"),
    "dense": _add_dense,
    "dropout": _add_dropout,
    "batch_norm": _add_norm,
    "bottleneck": _add_bottleneck,
}
