"""What a recipe's stages train of a network, and what they take: counted by hand for VGG16, and for all that ship."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from featx.finetune.stages import PIXELS, build_stage_model, count_weights, make_augmentation, plan_stages
from featx.networks import BACKBONES, build_backbone, load_keras, preprocess
from featx.networks.recipes import Augmentation, Recipe, Stage, head_source, read_recipe, shipped_recipes, split_at
from featx.networks.recipes.network import attach_head
from featx.networks.recipes.schema import AveragePool, BatchNorm

keras = load_keras()

# By recipe: what each stage takes, cached.
SOURCES = {
    "activities": [PIXELS],
    "caltech": ["flatten1"],
    "flowers-5": ["conv5_block2_out"],
    "flowers-6": ["conv5_block1_out"],
    "flowers-7": ["conv4_block6_out"],
    "mame-augmented": [PIXELS, PIXELS],
    "mame-i": ["flatten"],
    "mame-ii": ["flatten"],
    "mame-iii": ["flatten"],
    "mame-steps": ["flatten", "block3_pool", PIXELS],
    "scenes": [PIXELS, PIXELS],
    "solar": ["head_pool1", "block4_pool"],
}


@cache
def frozen(backbone, layer):
    return build_backbone(backbone, layers=layer, weights="random", image_size=32)


def network_of(recipe, n_classes=3):
    source = head_source(recipe, BACKBONES[recipe.backbones[0]], 32)
    return attach_head(recipe, frozen(recipe.backbones[0], source), source, n_classes, seed=0)


def small(*stages, **parts):
    return Recipe(
        **{
            "name": "small",
            "description": "small",
            "follows": "nobody",
            "backbones": ("vgg16",),
            "from_layer": "block2_pool",
            "head": (AveragePool(),),
            "stages": stages,
        }
        | parts
    )


def pixels_of(n=3, size=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_vgg16s_weights_counted_by_hand():
    recipe = read_recipe("solar")
    head, block5 = plan_stages(network_of(recipe, n_classes=4), recipe)
    n_head = (512 * 256 + 256) + (256 * 4 + 4)
    n_block5 = 3 * (9 * 512 * 512 + 512)
    # Simonyan and Zisserman's 13 convolutions.
    n_convs = 14_714_688
    assert (head.n_trainable, head.n_frozen) == (n_head, n_convs)
    assert (block5.n_trainable, block5.n_frozen) == (n_head + n_block5, n_convs - n_block5)
    assert head.unfrozen == ()
    assert block5.unfrozen == ("block5_conv1", "block5_conv2", "block5_conv3")


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_that_ships(name):
    recipe = read_recipe(name)
    network = network_of(recipe)
    plans = plan_stages(network, recipe)
    assert [plan.source for plan in plans] == SOURCES[name]
    assert len({plan.n_trainable + plan.n_frozen for plan in plans}) == 1
    n_trainable = [plan.n_trainable for plan in plans]
    assert n_trainable == sorted(n_trainable)
    model = build_stage_model(network, plans[-1])
    assert model.output.shape == (None, 3)
    assert count_weights(model.trainable_weights) == plans[-1].n_trainable
    # Uncached, everything takes images.
    assert {plan.source for plan in plan_stages(network, recipe, is_cached=False)} == {PIXELS}


def test_a_stage_gives_what_the_whole_network_gives():
    recipe = small(Stage("head"), Stage("block2", unfreeze=("block2",)), Stage("all", unfreeze="all"))
    network = network_of(recipe)
    pixels = pixels_of()
    prepared = preprocess(np, pixels.astype(np.float32), "caffe")
    expected = np.asarray(network.model(prepared, training=False))
    assert np.ptp(expected) > 0.01
    for is_cached in (True, False):
        for plan in plan_stages(network, recipe, is_cached=is_cached):
            model = build_stage_model(network, plan)
            if plan.source == PIXELS:
                assert model.input.dtype == "uint8"
                values = pixels
            else:
                values = split_at(network, [plan.source]).model([prepared], training=False)[plan.source]
            assert np.asarray(model(values, training=False)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_later_stage_begins_before_all_that_was_trained():
    stages = (Stage("late", unfreeze=("block2",)), Stage("later", unfreeze=("block2_conv2",)), Stage("head"))
    recipe = small(*stages)
    plans = plan_stages(network_of(recipe), recipe)
    assert [plan.cut for plan in plans] == ["block1_pool"] * 3
    assert [plan.unfrozen for plan in plans] == [("block2_conv1", "block2_conv2"), ("block2_conv2",), ()]
    recipe = small(*reversed(stages))
    assert [plan.cut for plan in plan_stages(network_of(recipe), recipe)] == [
        "head_pool1",
        "block2_conv1",
        "block1_pool",
    ]


def test_augmented_stages_take_images():
    stage = Stage("augmented", augmentation=Augmentation(zoom=0.1))
    recipe = small(Stage("head"), stage, Stage("again"))
    plans = plan_stages(network_of(recipe), recipe)
    assert [plan.source for plan in plans] == ["head_pool1", PIXELS, "head_pool1"]
    assert [plan.cut for plan in plans] == ["head_pool1"] * 3


@pytest.mark.parametrize("batch_norm", ["frozen", "trained"])
@pytest.mark.parametrize("is_cached", [True, False])
def test_statistics_move_only_where_they_are_trained(batch_norm, is_cached):
    stage = Stage("block2", unfreeze=("conv2_block2",), learning_rate=0.01)
    parts = {"backbones": ("resnet50",), "from_layer": "conv2_block2_out", "head": (AveragePool(), BatchNorm())}
    recipe = small(stage, batch_norm=batch_norm, **parts)
    network = network_of(recipe)
    (plan,) = plan_stages(network, recipe, is_cached=is_cached)
    assert plan.cut == "conv2_block1_out"
    model = build_stage_model(network, plan)
    before = {layer.name: layer.get_weights() for layer in network.model.layers}
    model.compile("sgd", "categorical_crossentropy")
    values = pixels_of()
    if is_cached:
        values = np.random.default_rng(0).uniform(0, 9, (3, *model.input.shape[1:])).astype(np.float32)
    model.train_on_batch(values, np.eye(3))
    moved = {
        name
        for name, weights in before.items()
        if any(
            not np.array_equal(*pair) for pair in zip(weights, network.model.get_layer(name).get_weights(), strict=True)
        )
    }
    for name, weights in before.items():
        # The backbone is shared with other tests.
        network.model.get_layer(name).set_weights(weights)
    convolutions = {f"conv2_block2_{i}_conv" for i in (1, 2, 3)}
    norms = {f"conv2_block2_{i}_bn" for i in (1, 2, 3)}
    assert moved == convolutions | {"head_norm1", "predictions"} | (norms if batch_norm == "trained" else set())


def test_augmentation_as_keras_does_it():
    layers = make_augmentation(Augmentation(rotation=18, shift=0.2, zoom=0.1, flip="horizontal"), seed=7)
    assert [type(layer).__name__ for layer in layers] == [
        "RandomFlip",
        "RandomRotation",
        "RandomTranslation",
        "RandomZoom",
    ]
    configs = [layer.get_config() for layer in layers]
    assert configs[0]["mode"] == "horizontal"
    # Keras counts turns.
    assert tuple(configs[1]["factor"]) == pytest.approx((-0.05, 0.05))
    assert [configs[2][f"{side}_factor"] for side in ("height", "width")] == [0.2, 0.2]
    assert configs[3]["height_factor"] == 0.1
    assert all(config["fill_mode"] == "nearest" for config in configs[1:])
    # Were they of one seed, an image that is turned far would always be moved far, too.
    assert len({config["seed"] for config in configs}) == 4
    assert make_augmentation(Augmentation()) == []


@pytest.mark.parametrize(("flip", "mode"), [("both", "horizontal_and_vertical"), ("vertical", "vertical")])
def test_flips(flip, mode):
    (layer,) = make_augmentation(Augmentation(flip=flip))
    assert layer.get_config()["mode"] == mode


def test_images_change_while_training_only():
    recipe = small(Stage("head", augmentation=Augmentation(rotation=90, flip="both")))
    network = network_of(recipe)
    (plan,) = plan_stages(network, recipe)
    pixels = pixels_of(6)
    # Random weights make large numbers: probabilities would all be 0 or 1.
    kernel = network.model.get_layer("predictions").kernel
    kernel.assign(kernel * 0.001)

    def answers(training, seed=0):
        model = build_stage_model(network, plan, seed=seed)
        return [np.asarray(model(pixels, training=training)) for _ in range(2)]

    still, again = answers(training=False)
    assert np.array_equal(still, again)
    first, second = answers(training=True)
    assert not np.allclose(first, second, atol=1e-6)
    assert not np.allclose(first, still, atol=1e-6)
    assert np.array_equal(first, answers(training=True)[0])
    assert not np.allclose(first, answers(training=True, seed=1)[0], atol=1e-6)


def test_a_plan_is_a_record():
    recipe = small(Stage("head"))
    (plan,) = plan_stages(network_of(recipe), recipe)
    assert replace(plan, source=PIXELS) == plan_stages(network_of(recipe), recipe, is_cached=False)[0]
