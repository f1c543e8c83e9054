"""What each stage of a recipe trains, where its inputs come from, and the Keras model between those and classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from featx.finetune.activations import PIXELS
from featx.images import FLIPS
from featx.networks import load_keras, preprocess
from featx.networks.recipes import (
    Augmentation,
    Recipe,
    Stage,
    TunedNetwork,
    freeze_all_but,
    frozen_boundary,
    seed_sequence,
    split_at,
    trainable_tail,
    unfrozen_layers,
)


@dataclass(frozen=True)
class StagePlan:
    """One stage of a recipe on a network.

    Attributes
    ----------
    stage : Stage
    unfrozen : tuple of str
        The backbone's layers that it trains beside the head.
    cut : str
        Up to this layer nothing has changed when the stage begins, nor will; `` if there is no such layer.
    source : str
        What its inputs are: the cut, computed once, or `pixels`.
    views : tuple of str
        The views of an image that training chooses from, at random; see `featx.images.FLIPS`. Validation sees the
        first.
    n_trainable, n_frozen : int
        Weights, counted one by one.
    """

    stage: Stage
    unfrozen: tuple[str, ...]
    cut: str
    source: str
    views: tuple[str, ...]
    n_trainable: int
    n_frozen: int


def plan_stages(network: TunedNetwork, recipe: Recipe, *, is_cached: bool = True) -> list[StagePlan]:
    """Plan every stage before the first begins.

    Parameters
    ----------
    network : TunedNetwork
    recipe : Recipe
    is_cached : bool, default True
        Whether frozen parts are to run once, for each view of an image where a stage flips images. They never are while
        images are augmented otherwise.

    Raises
    ------
    FeatxError
        If a stage unfreezes what the backbone lacks.
    """
    plans = []
    trained: set[str] = set()
    for stage in recipe.stages:
        unfrozen = unfrozen_layers(network, stage, batch_norm=recipe.batch_norm)
        trained |= set(unfrozen)
        cut = frozen_boundary(network, trained)
        freeze_all_but(network, unfrozen)
        n_trainable = count_weights(network.model.trainable_weights)
        plans.append(
            StagePlan(
                stage=stage,
                unfrozen=unfrozen,
                cut=cut,
                source=cut if cut and is_cached and stage.augmentation.is_flips else PIXELS,
                views=FLIPS[stage.augmentation.flip] if stage.augmentation.is_flips else FLIPS["none"],
                n_trainable=n_trainable,
                n_frozen=count_weights(network.model.weights) - n_trainable,
            )
        )
    return plans


def build_stage_model(network: TunedNetwork, plan: StagePlan, *, seed: int = 0) -> object:
    """Build the Keras model that a stage trains, of the network's own layers.

    What is before the cut runs as it does outside training: its batch normalizations use the statistics that they came
    with, and nothing is dropped.

    Parameters
    ----------
    network : TunedNetwork
    plan : StagePlan
    seed : int, default 0
        Of the augmentation.

    Returns
    -------
    keras.Model
        The plan's source in, class probabilities out.
    """
    freeze_all_but(network, plan.unfrozen)
    tail = trainable_tail(network, plan.cut)
    if plan.source != PIXELS:
        return tail
    keras = load_keras()
    size = network.backbone.image_size
    pixels = keras.Input((size, size, 3), dtype="uint8", name=PIXELS)
    values = keras.ops.cast(pixels, "float32")
    if not plan.stage.augmentation.is_flips:
        for layer in make_augmentation(plan.stage.augmentation, seed=seed):
            values = layer(values)
    values = preprocess(keras.ops, values, network.backbone.preprocessing)
    if plan.cut:
        values = split_at(network, [plan.cut]).model(values, training=False)[plan.cut]
    return keras.Model(pixels, tail(values))


def make_augmentation(augmentation: Augmentation, *, seed: int = 0) -> list[object]:
    """Make Keras's layers that change images at random while a network is trained; what moves in is the edge's colour.

    Parameters
    ----------
    augmentation : Augmentation
    seed : int, default 0
    """
    layers = load_keras().layers
    # Of one seed, all would draw the same numbers: the farther an image is turned, the farther it would move.
    seeds = seed_sequence(seed)
    made = []
    if augmentation.flip != "none":
        mode = {"both": "horizontal_and_vertical"}.get(augmentation.flip, augmentation.flip)
        made.append(layers.RandomFlip(mode, seed=next(seeds)))
    if augmentation.rotation:
        turn = augmentation.rotation / 360
        made.append(layers.RandomRotation(turn, fill_mode="nearest", seed=next(seeds)))
    if augmentation.shift:
        shift = augmentation.shift
        made.append(layers.RandomTranslation(shift, shift, fill_mode="nearest", seed=next(seeds)))
    if augmentation.zoom:
        made.append(layers.RandomZoom(augmentation.zoom, fill_mode="nearest", seed=next(seeds)))
    return made


def count_weights(weights: Sequence[object]) -> int:
    """Count the numbers in weights."""
    return sum(math.prod(weight.shape) for weight in weights)
