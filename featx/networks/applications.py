"""Networks as Keras models: out of keras.applications, or featx's own, under names that don't change."""

import re
from collections import defaultdict

from featx.networks.backend import load_keras
from featx.networks.registry import Backbone


def build_application(spec: Backbone, image_size: int, *, include_top: bool, weights: str | None = None) -> object:
    """Build a backbone as a Keras model.

    Keras counts the layers that it names itself (`activation_12`) across a process; here they are counted within
    their network, as if it were the first one of a process. ConvNeXt's additions are named after their blocks.

    Without weights to load, most kernels are zeros: callers give all weights their values.

    Parameters
    ----------
    spec : Backbone
    image_size : int
        Height and width, pixels.
    include_top : bool
        Whether the layers after the last ones with height and width are built too.
    weights : {None, "imagenet"}
        Those of Keras's own download, or none.

    Returns
    -------
    keras.Model
    """
    keras = load_keras()
    # With them, keras.applications takes no other size; convolutions and pooled means fit any.
    side = spec.image_size if weights else image_size
    # Values that are replaced need not be drawn: JAX would compile a program for every shape, a matter of many seconds.
    with keras.utils.custom_object_scope({"glorot_uniform": keras.initializers.Zeros}):
        if spec.application is None:
            # Imported here: the module needs Keras.
            from featx.networks.googlenet import build_googlenet

            return build_googlenet(side, include_top=include_top)
        build = getattr(keras.applications, spec.application)
        network = build(include_top=include_top, weights=weights, input_shape=(side, side, 3))
    _settle_names(network)
    return network


def named_outputs(network: object) -> dict[str, object]:
    """Return the activations that features can be made of, by name, in network order.

    These are of floating point, with height, width and channels, or with channels alone.
    """
    return {
        operation.name: operation.output
        for operation in network.operations
        if type(operation).__name__ != "InputLayer"
        and len(operation.output.shape) in (2, 4)
        and "float" in operation.output.dtype
    }


def has_given_name(operation: object) -> bool:
    """Return whether a layer was named by the network's authors, not by Keras after its class."""
    stem = re.sub(r"_\d+$", "", operation.name)
    return stem.replace("_", "") != type(operation).__name__.lower()


def _settle_names(network: object) -> None:
    by_stem = defaultdict(list)
    for operation in network.operations:
        if not has_given_name(operation):
            stem, _, number = re.fullmatch(r"(.*?)(_(\d+))?", operation.name).groups()
            by_stem[stem].append((int(number or 0), operation))
    for stem, found in by_stem.items():
        for row, (_, operation) in enumerate(sorted(found, key=lambda pair: pair[0])):
            operation.name = f"{stem}_{row}" if row else stem
    _name_additions(network)


def _name_additions(network: object) -> None:
    """Name additions that are no layers after what they add."""
    name_of = {id(operation.output): operation.name for operation in network.operations}
    for operation in network.operations:
        if type(operation).__name__ == "Add" and not has_given_name(operation):
            branch = name_of[id(operation.input[1])]
            operation.name = f"{branch.removesuffix('_identity')}_add"
