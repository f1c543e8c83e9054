"""A backbone with a head: what each stage trains of it, and how much of it runs once because nothing before changes."""

import difflib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from types import ModuleType

from featx.errors import FeatxError
from featx.networks.applications import build_application, named_outputs
from featx.networks.backbone import FrozenBackbone, build_backbone
from featx.networks.backend import load_keras
from featx.networks.recipes.files import shipped_recipes
from featx.networks.recipes.head import PREDICTIONS, add_head
from featx.networks.recipes.schema import Recipe, Stage
from featx.networks.registry import Backbone, expand_layers, find_backbone
from featx.networks.topology import UnsupportedError, read_topology

_STOCHASTIC = ("Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise")


@dataclass(frozen=True)
class TunedNetwork:
    """A backbone with a head on it.

    Attributes
    ----------
    model : keras.Model
        Preprocessed pixels (n, image_size, image_size, 3) float32 in, class probabilities out.
    backbone : FrozenBackbone
        The pretrained part, and where its weights came from.
    backbone_layers, head_layers : tuple of str
        Names of the layers of both parts, in network order.
    """

    model: object
    backbone: FrozenBackbone
    backbone_layers: tuple[str, ...]
    head_layers: tuple[str, ...]


def build_tuned_network(
    recipe: Recipe,
    backbone: str,
    n_classes: int,
    *,
    weights: str = "imagenet",
    image_size: int | None = None,
    preprocessing: str | None = None,
    seed: int = 0,
    echo: Callable[[str], None] = lambda line: None,
) -> TunedNetwork:
    """Build a backbone with its weights, up to the layer that a recipe names, and put the recipe's head on it.

    Parameters
    ----------
    recipe : Recipe
    backbone : str
        One of the recipe's.
    n_classes : int
    weights, image_size, preprocessing, echo
        See `featx.inference.build_network`.
    seed : int, default 0
        Of the head's initial weights and of dropout.

    Raises
    ------
    FeatxError
        If the recipe is for other backbones, a layer or weights are missing, or the head doesn't fit.
    """
    if backbone not in recipe.backbones:
        file = "its file"
        if recipe.name in shipped_recipes():
            file = f"a copy of its file (featx recipes {recipe.name}), and give the copy as `recipe`"
        raise FeatxError(
            f"recipe {recipe.name!r}: its backbones are {', '.join(recipe.backbones)}, and the store's is {backbone}. "
            f"Extract with the backbone {recipe.backbones[0]}, or add {backbone} to backbones in {file}"
        )
    spec = find_backbone(backbone)
    size = spec.image_size if image_size is None else image_size
    source = head_source(recipe, spec, size)
    frozen = build_backbone(
        backbone, layers=source, weights=weights, image_size=size, preprocessing=preprocessing, echo=echo
    )
    return attach_head(recipe, frozen, source, n_classes, seed=seed)


def head_source(recipe: Recipe, spec: Backbone, image_size: int) -> str:
    """Return the name of the layer that a recipe's head is put on; by default the deepest before the backbone's top.

    Raises
    ------
    FeatxError
        If the recipe names several, or what the head takes the place of.
    """
    if not recipe.from_layer:
        spec.check_image_size(image_size)
        return next(reversed(named_outputs(build_application(spec, image_size, include_top=False))))
    names = expand_layers(recipe.from_layer, spec)
    if len(names) != 1:
        raise FeatxError(
            f"recipe {recipe.name!r}: from_layer {recipe.from_layer!r} stands for {len(names)} layers; name one of "
            f"them, such as {names[-1]}"
        )
    if names[0] == PREDICTIONS:
        raise FeatxError(
            f"recipe {recipe.name!r}: from_layer {recipe.from_layer!r} are the network's own probabilities of classes, "
            f"which the head stands in for: name a layer before them, such as {spec.top[-2]}"
        )
    return names[0]


def attach_head(recipe: Recipe, frozen: FrozenBackbone, source: str, n_classes: int, *, seed: int) -> TunedNetwork:
    """Put a recipe's head on a backbone."""
    keras = load_keras()
    names = [operation.name for operation in frozen.model.operations]
    try:
        predictions = add_head(keras, frozen.model.output[source], recipe.head, n_classes, taken=names, seed=seed)
    except ValueError as error:
        shape = tuple(frozen.model.output[source].shape[1:])
        raise FeatxError(
            f"recipe {recipe.name!r}: head doesn't fit {source}, whose activations are {shape}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    if len(predictions.shape) != 2:
        raise FeatxError(
            f"recipe {recipe.name!r}: head has neither flatten nor a pool, and {source} is a map "
            f"{tuple(frozen.model.output[source].shape[1:])}: put one of them first"
        )
    model = keras.Model(frozen.model.inputs[0], predictions, name=frozen.model.name)
    if recipe.precision != "float32":
        model = _with_policy(keras, model, recipe.precision)
    backbone_layers = tuple(layer.name for layer in model.layers if layer.name in names)
    head_layers = tuple(layer.name for layer in model.layers if layer.name not in names)
    return TunedNetwork(model, frozen, backbone_layers, head_layers)


def _with_policy(keras: ModuleType, model: object, policy: str) -> object:
    """Return a copy of a float32 model with arithmetic of a lower precision; weights and probabilities stay float32."""

    def lower(layer: object) -> object:
        config = layer.get_config()
        kept = not isinstance(layer, keras.layers.Layer) or type(layer).__name__ in ("Normalization", "Rescaling")
        # Never the layer itself, whose output is of the model that it was built for.
        return type(layer).from_config(config if kept or layer.name == PREDICTIONS else config | {"dtype": policy})

    # Of its own accord, Keras would call the copy's input after a tensor.
    pixels = keras.Input(model.input.shape[1:], dtype=model.input.dtype, name=model.layers[0].name)
    lowered = keras.models.clone_model(model, input_tensors=pixels, clone_function=lower, recursive=True)
    lowered.set_weights(model.get_weights())
    return lowered


def unfrozen_layers(network: TunedNetwork, stage: Stage, *, batch_norm: str = "frozen") -> tuple[str, ...]:
    """Return the names of the backbone's layers that a stage trains, in network order.

    Parameters
    ----------
    network : TunedNetwork
    stage : Stage
        A name of its `unfreeze` stands for the layer of that name, and for those of a block of that name.
    batch_norm : {"frozen", "trained"}, default "frozen"
        Whether batch normalizations stay as they are even where they are unfrozen.

    Raises
    ------
    FeatxError
        If the backbone doesn't have a layer that the stage names, or has fewer layers than it counts.
    """
    layers = [network.model.get_layer(name) for name in network.backbone_layers]
    weighted = [layer for layer in layers if layer.weights]
    chosen = {layer.name for layer in weighted} if stage.unfreeze == "all" else set()
    for name in () if stage.unfreeze == "all" else stage.unfreeze:
        found = {layer.name for layer in weighted if is_named_by(name, layer.name)}
        if not found:
            raise FeatxError(_absent(network, stage, name, [layer.name for layer in weighted]))
        chosen |= found
    if stage.unfreeze_last > len(weighted):
        raise FeatxError(
            f"stage {stage.name!r}: unfreeze_last {stage.unfreeze_last}, and {network.model.name} has {len(weighted)} "
            f"layers with weights up to {network.backbone_layers[-1]}: give at most that, or unfreeze: all"
        )
    chosen |= {layer.name for layer in weighted[len(weighted) - stage.unfreeze_last :]}
    if batch_norm == "frozen":
        chosen -= {layer.name for layer in weighted if type(layer).__name__ == "BatchNormalization"}
    return tuple(layer.name for layer in weighted if layer.name in chosen)


def is_named_by(name: str, layer: str) -> bool:
    """Return whether a name of `unfreeze` stands for a layer: it is its name, or that of its block.

    block5 stands for block5_conv1, and for the block5a_conv of networks that count blocks with letters.

    Examples
    --------
    >>> is_named_by("block5", "block5_conv1"), is_named_by("block5", "block5a_conv"), is_named_by("block", "block5_a")
    (True, True, False)
    """
    return re.fullmatch(rf"{re.escape(name)}([a-z]?_.*)?", layer) is not None


def _absent(network: TunedNetwork, stage: Stage, name: str, names: list[str]) -> str:
    stems = dict.fromkeys(part for layer in names for part in (layer.split("_")[0], layer))
    close = difflib.get_close_matches(name, stems, n=3)
    hint = f" (close: {', '.join(close)})" if close else ""
    return (
        f"stage {stage.name!r}: unfreeze names {name!r}, and {network.model.name} has no layer with weights of that "
        f"name up to {network.backbone_layers[-1]}{hint}; 'featx backbones' with its name lists its layers"
    )


def freeze_all_but(network: TunedNetwork, unfrozen: Collection[str]) -> None:
    """Make some of the backbone's layers, and the whole head, trainable, and nothing else."""
    trained = {*unfrozen, *network.head_layers}
    for layer in network.model.layers:
        layer.trainable = layer.name in trained


def frozen_boundary(network: TunedNetwork, trained: Collection[str]) -> str:
    """Return the deepest layer up to which nothing is trained or random, and on whose output alone later layers depend.

    Up to there a network gives the same for an image every time, so that it needs to run once.

    Parameters
    ----------
    network : TunedNetwork
    trained : collection of str
        Names of the backbone's layers that are trained, now or earlier.

    Returns
    -------
    str
        Its name, or `` if there is none.
    """
    try:
        calls = read_topology(network.model).calls
    except UnsupportedError:
        return ""
    changing = {*trained, *(name for name in network.head_layers if _changes(network.model.get_layer(name)))}
    place_of = {call.layer.name: place for place, call in enumerate(calls)}
    n_still = next((place for place, call in enumerate(calls) if call.layer.name in changing), len(calls))
    # The earliest place that anything after a place reaches back to.
    reach = len(calls)
    cut = ""
    for place in range(len(calls) - 1, -1, -1):
        if place < n_still and reach >= place:
            # What no layer with weights comes before costs no time: images take less room than it.
            cut = calls[place].layer.name if any(call.layer.weights for call in calls[: place + 1]) else ""
            break
        reach = min(reach, *(place_of.get(source, -1) for source in calls[place].sources))
    return cut


def _changes(layer: object) -> bool:
    return bool(layer.weights) or type(layer).__name__ in _STOCHASTIC


def split_at(network: TunedNetwork, cuts: Collection[str]) -> FrozenBackbone:
    """Return the frozen network up to some layers, for an engine to run.

    Parameters
    ----------
    network : TunedNetwork
    cuts : collection of str
        See `frozen_boundary`.
    """
    keras = load_keras()
    outputs = {name: _output_of(network, name) for name in _operations(network) if name in cuts}
    model = keras.Model(network.model.inputs, outputs, name=network.model.name)
    return replace(network.backbone, model=model, layers=tuple(outputs))


def trainable_tail(network: TunedNetwork, cut: str) -> object:
    """Return what follows a layer, as a Keras model of the very same layers; the whole model where there is no cut."""
    keras = load_keras()
    return keras.Model(_output_of(network, cut), network.model.outputs[0]) if cut else network.model


def _operations(network: TunedNetwork) -> dict[str, object]:
    return {operation.name: operation for operation in network.model.operations}


def _output_of(network: TunedNetwork, name: str) -> object:
    return _operations(network)[name].output
