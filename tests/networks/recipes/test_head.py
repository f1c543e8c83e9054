"""Heads: the layers that a recipe lists, under free names, of the weights that a seed gives."""

import numpy as np
import pytest

from featx.networks import load_keras
from featx.networks.recipes import PREDICTIONS, Flatten, seed_sequence
from featx.networks.recipes.head import add_head
from featx.networks.recipes.schema import AveragePool, BatchNorm, Bottleneck, Dense, Dropout, MaxPool

keras = load_keras()


def head_on(shape, layers, n_classes=3, **options):
    activations = keras.Input(shape)
    return keras.Model(activations, add_head(keras, activations, layers, n_classes, **options))


def kinds(model):
    return [(layer.name, type(layer).__name__) for layer in model.layers[1:]]


def test_every_layer_in_the_recipes_order():
    layers = (Flatten(), BatchNorm(), Dense(8, "tanh", 0.01), Dropout(0.4), Dense(4), Dropout(0.2), BatchNorm())
    model = head_on((2, 2, 5), layers)
    assert kinds(model) == [
        ("flatten", "Flatten"),
        ("head_norm1", "BatchNormalization"),
        ("fc1", "Dense"),
        ("head_dropout1", "Dropout"),
        ("fc2", "Dense"),
        ("head_dropout2", "Dropout"),
        ("head_norm2", "BatchNormalization"),
        (PREDICTIONS, "Dense"),
    ]
    fc1, fc2 = model.get_layer("fc1"), model.get_layer("fc2")
    assert (fc1.units, fc1.activation.__name__, float(fc1.kernel_regularizer.l2)) == (8, "tanh", pytest.approx(0.01))
    assert (fc2.units, fc2.activation.__name__, fc2.kernel_regularizer) == (4, "relu", None)
    assert [model.get_layer(f"head_dropout{i}").rate for i in (1, 2)] == [0.4, 0.2]
    answers = np.asarray(model(np.ones((2, 2, 2, 5), np.float32)))
    assert answers.shape == (2, 3)
    assert answers.sum(axis=1) == pytest.approx([1, 1], rel=1e-6)


def test_names_that_the_backbone_has_are_left_to_it():
    model = head_on((4,), (Flatten(), Dense(2), Dense(2)), taken=["flatten", "fc1", "fc3", PREDICTIONS])
    assert [name for name, _ in kinds(model)] == ["flatten1", "fc2", "fc4", PREDICTIONS]


@pytest.mark.parametrize(("layer", "reduce"), [(AveragePool(), np.mean), (MaxPool(), np.max)])
def test_pools_reduce_a_map_and_leave_a_vector(layer, reduce):
    maps = np.random.default_rng(0).standard_normal((2, 3, 3, 4)).astype(np.float32)
    model = head_on((3, 3, 4), (layer,))
    pooled = keras.Model(model.inputs[0], model.layers[1].output)
    assert np.asarray(pooled(maps)) == pytest.approx(reduce(maps, axis=(1, 2)), rel=1e-5)
    assert kinds(head_on((4,), (layer,))) == [(PREDICTIONS, "Dense")]


def test_a_seed_decides_the_weights():
    layers = (Dense(8), Dropout(0.5), Dense(8))
    first, same, other = (head_on((6,), layers, seed=seed).get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(*pair) for pair in zip(first, same, strict=True))
    assert not any(np.array_equal(*pair) for pair in zip(first[::2], other[::2], strict=True))
    # A draw a layer: layers of one shape don't begin equal.
    model = head_on((8,), layers)
    assert not np.array_equal(model.get_layer("fc1").kernel, model.get_layer("fc2").kernel)


def test_the_largest_seed_is_taken():
    model = head_on((6,), (Dense(8), Dropout(0.5)), seed=2**32 - 1)
    assert np.isfinite(np.asarray(model(np.ones((1, 6), np.float32), training=True))).all()
    seeds = seed_sequence(2**32 - 1)
    assert all(0 <= next(seeds) < 2**31 for _ in range(10_000))


def test_a_bottleneck_is_that_of_resnet50():
    """Its conv5: 1x1, 3x3 and 1x1 convolutions, each with bias and batch normalization, and a projection at first."""
    layers = (Bottleneck(512, 2), Bottleneck(512), Bottleneck(512), AveragePool())
    model = head_on((14, 14, 1024), layers, n_classes=5)
    norms = 4 * (512 + 512 + 2048)
    first = (1024 * 2048 + 2048 + 4 * 2048) + (1024 * 512 + 512) + (9 * 512**2 + 512) + (512 * 2048 + 2048) + norms
    others = (2048 * 512 + 512) + (9 * 512**2 + 512) + (512 * 2048 + 2048) + norms
    assert model.count_params() == first + 2 * others + (2048 * 5 + 5)
    # The number that Keras's own ResNet50 has in its conv5.
    assert first + 2 * others == 14_998_528
    assert model.get_layer("new_block3_out").output.shape == (None, 7, 7, 2048)
    assert "new_block2_0_conv" not in dict(kinds(model))


def test_a_bottleneck_adds_what_it_was_given():
    model = head_on((4, 4, 8), (Bottleneck(2),), n_classes=2)
    block = keras.Model(model.inputs[0], model.get_layer("new_block1_out").output)
    model.get_layer("new_block1_3_bn").gamma.assign(np.zeros(8))
    maps = np.random.default_rng(0).standard_normal((1, 4, 4, 8)).astype(np.float32)
    assert np.asarray(block(maps)) == pytest.approx(np.maximum(maps, 0))
