"""Plan the stages of a recipe: what each trains, its inputs, and the Keras model from these to the classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

# The inputs of stages that take images.
PIXELS = "pixels"


@dataclass(frozen=True)
class StagePlan:
    """One stage of a recipe on a network.

    Attributes
    ----------
    stage : Stage
    unfrozen : tuple of str
        The backbone's layers that it trains, in addition to the head.
    cut : str
        The last layer up to which no stage so far changes the network; '' if there is none.
    source : str
        Its inputs: activations of the cut, computed once, or `pixels`.
    views : tuple of str
        Views of an image from which training chooses at random; see `featx.images.FLIPS`. Validation takes the first.
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
        Whether frozen parts run once, for each view if a stage flips images. In stages with other augmentation they
        never do.

    Raises
    ------
    FeatxError
        If a stage unfreezes a layer that the backbone doesn't have.
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
    """Build the Keras model that a stage trains, of the network's own layers: the plan's source to probabilities.

    Layers before the cut run as outside training: batch normalizations use their stored statistics, and nothing is
    dropped. `seed` is the augmentation's.
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
    """Make Keras layers that change images at random in training; pixels that move in have the edge's colour."""
    layers = load_keras().layers
    # With one seed, all layers would draw the same numbers: the more an image is turned, the more it would move.
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
