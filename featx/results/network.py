"""Build the network of a fine-tuned run from its folder, frozen: its layers give features as a backbone's do."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featx.errors import FeatxError, UnknownLayerError, WeightsError
from featx.networks import (
    BACKBONES,
    PREPROCESSINGS,
    Backbone,
    FrozenBackbone,
    Weights,
    build_backbone,
    choose_layers,
    find_backbone,
    give_weights,
    is_source,
    named_outputs,
    read_network_file,
)
from featx.networks.recipes import (
    PREDICTIONS,
    Flatten,
    HeadLayer,
    Recipe,
    TunedNetwork,
    build_tuned_network,
    recipe_from_record,
    split_at,
)
from featx.results.folder import NETWORK_FILE, put_back, read_run
from featx.system import sha256_of


@dataclass(frozen=True)
class FineTuned:
    """The network of a fine-tuned run, as its record describes it.

    Attributes
    ----------
    path : Path
        The run's folder.
    recipe : Recipe
    backbone : str
    classes : tuple of str
        In the order of the probabilities.
    image_size : int
        Height and width of the images that it was trained on, pixels.
    preprocessing : str
    weights_sha256 : str
        Of the file of weights.
    """

    path: Path
    recipe: Recipe
    backbone: str
    classes: tuple[str, ...]
    image_size: int
    preprocessing: str
    weights_sha256: str


def is_run(weights: str) -> bool:
    """Return whether weights are named by a folder, not by a word that featx knows or a file."""
    # Path("") is the current folder.
    if not weights or is_source(weights):
        return False
    put_back(weights)
    return Path(weights).is_dir()


def read_finetuned(path: str | Path) -> FineTuned:
    """Read how a fine-tuned run's record describes its network.

    Parameters
    ----------
    path : path
        The run's folder.

    Raises
    ------
    FeatxError
        If there is no record of a run, it is no fine-tuned network's, or it isn't as featx writes it.
    """
    path = Path(path)
    run = read_run(path)
    if not run.is_finetuned:
        raise WeightsError(
            f"weights {path}: a run of {run.model}, which has no network; expected a folder that featx finetune has "
            "written"
        )
    baseline, store, classes = run.baseline or {}, run.store, run.protocol.get("classes")
    is_right = {
        "baseline.recipe": isinstance(baseline.get("recipe"), dict),
        "baseline.weights_sha256": isinstance(baseline.get("weights_sha256"), str),
        "protocol.classes": isinstance(classes, list) and bool(classes) and all(isinstance(c, str) for c in classes),
        "store.backbone": store.get("backbone") in tuple(BACKBONES),
        "store.image_size": type(store.get("image_size")) is int,
        "store.preprocessing": store.get("preprocessing") in tuple(PREPROCESSINGS),
    }
    wrong = [name for name, right in is_right.items() if not right]
    if wrong:
        raise WeightsError(
            f"{path / 'run.json'}: {', '.join(wrong)}: not as featx finetune writes it; was the file changed? "
            "Fine-tune again"
        )
    try:
        recipe = recipe_from_record(baseline["recipe"])
    except FeatxError as error:
        raise WeightsError(f"{path / 'run.json'}: baseline.recipe: {error}. Fine-tune again") from error
    return FineTuned(
        path=path,
        recipe=recipe,
        backbone=store["backbone"],
        classes=tuple(classes),
        image_size=store["image_size"],
        preprocessing=store["preprocessing"],
        weights_sha256=baseline["weights_sha256"],
    )


def build_from_run(
    tuned: FineTuned, backbone: str, layers: str | Sequence[str], *, image_size: int | None, preprocessing: str | None
) -> FrozenBackbone:
    """Build the network of a fine-tuned run, frozen.

    Parameters
    ----------
    tuned : FineTuned
    backbone, layers, image_size, preprocessing
        See `featx.inference.build_frozen`.

    Raises
    ------
    FeatxError
        If the file of weights is not the one of the record, a layer is unknown, or the backbone or sizes don't fit.
    """
    _check_backbone(tuned, backbone)
    path = _check_file(tuned)
    # Built just as for training: files of Keras identify layers by their order.
    whole = _build_whole(tuned, tuned.recipe, tuned.image_size)
    loaded = Weights(tuned.path.resolve().name, read_network_file(path, whole.model))
    names = _choose_layers(tuned, whole, layers)
    frozen = _cut(tuned, whole, names, tuned.image_size if image_size is None else image_size)
    frozen.model.trainable = False
    used = give_weights(frozen.model, loaded)
    return replace(
        frozen,
        preprocessing=preprocessing or tuned.preprocessing,
        weights_name=loaded.name,
        weights_sha256=loaded.sha256(used),
    )


def _check_backbone(tuned: FineTuned, backbone: str) -> None:
    if backbone != tuned.backbone:
        raise WeightsError(
            f"weights {tuned.path}: a fine-tuned {tuned.backbone}, not {backbone}. Use `backbone` {tuned.backbone}"
        )


def _build_whole(tuned: FineTuned, recipe: Recipe, image_size: int) -> TunedNetwork:
    """Build a network with weights that are to be replaced."""
    return build_tuned_network(recipe, tuned.backbone, len(tuned.classes), weights="random:0", image_size=image_size)


def _check_file(tuned: FineTuned) -> Path:
    """Return the file of weights; raise an error if it isn't the one that the run was scored with."""
    path = tuned.path / NETWORK_FILE
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise WeightsError(
            f"weights {path}: can't be read: {error.strerror}. The network of a fine-tuned run is in this file: copy "
            "the run's whole folder, or fine-tune again"
        ) from error
    if sha256 != tuned.weights_sha256:
        raise WeightsError(
            f"weights {path}: not the file that the run was scored with (SHA-256 {sha256[:16]}..., expected "
            f"{tuned.weights_sha256[:16]}...): it was cut or replaced. Copy it again, or fine-tune again"
        )
    return path


def _choose_layers(tuned: FineTuned, network: TunedNetwork, names: str | Sequence[str]) -> tuple[str, ...]:
    """Return the layers of the network that names and sets of layers stand for."""
    outputs = list(named_outputs(network.model))
    try:
        return choose_layers(names, _spec_of(network, find_backbone(tuned.backbone), outputs), outputs)
    except FeatxError as error:
        source = network.backbone.layers[-1]
        raise UnknownLayerError(f"weights {tuned.path}: up to {source}, with the run's head on it, {error}") from error


def _spec_of(network: TunedNetwork, spec: Backbone, outputs: Collection[str]) -> Backbone:
    """Return a backbone's sets of layers as far as they are in the network, with the head's own layers."""
    head = [network.model.get_layer(name) for name in network.head_layers]
    dense = tuple(layer.name for layer in head if type(layer).__name__ == "Dense" and layer.name != PREDICTIONS)
    own = {name: (*spec.layer_sets.get(name, ()), *dense) for name in ("all", "fc")}
    sets = {**spec.layer_sets, **own, "predictions": (PREDICTIONS,)}
    sets = {name: tuple(dict.fromkeys(layer for layer in layers if layer in outputs)) for name, layers in sets.items()}
    return replace(spec, layer_sets={name: layers for name, layers in sets.items() if layers})


def _cut(tuned: FineTuned, whole: TunedNetwork, layers: Collection[str], image_size: int) -> FrozenBackbone:
    """Return the network up to some layers, in float32, for images of a size."""
    if image_size != tuned.image_size:
        fixed = [name for name in _fixed_layers(whole) if name in layers]
        if fixed:
            raise FeatxError(
                f"expected {tuned.image_size} for {fixed[0]} of {tuned.path}, found {image_size}. Use "
                f"{tuned.image_size}, or layers that come before the flatten",
                parameter="image_size",
            )
    elif tuned.recipe.precision == "float32":
        return split_at(whole, layers)
    if {operation.name for operation in whole.backbone.model.operations}.issuperset(layers):
        return build_backbone(tuned.backbone, layers=tuple(layers), weights="random:0", image_size=image_size)
    recipe = replace(tuned.recipe, precision="float32")
    if image_size != tuned.image_size and _fixed_layers(whole):
        # The layers after it would be built for the other size, and might be huge.
        recipe = replace(recipe, head=_up_to_flatten(recipe))
    return split_at(_build_whole(tuned, recipe, image_size), layers)


def _fixed_layers(network: TunedNetwork) -> list[str]:
    """Return the layers that follow a flattened map, which fit images of one size."""
    names = list(named_outputs(network.model))
    flat = [
        layer.name for layer in network.model.layers if type(layer).__name__ == "Flatten" and len(layer.input.shape) > 2
    ]
    # There is only one way from there to the end.
    return names[names.index(flat[0]) + 1 :] if flat else []


def _up_to_flatten(recipe: Recipe) -> tuple[HeadLayer, ...]:
    index = next(index for index, layer in enumerate(recipe.head) if isinstance(layer, Flatten))
    return recipe.head[: index + 1]
