"""Dense layers as matrix products of a batch: which layers those are, and what they give."""

import keras
import numpy as np
import pytest
from keras import layers

from featx.inference.engines.ncnn.dense_tail import find_tail
from featx.networks import UnsupportedError


def build(top, *, size=4, channels=6):
    """Return a network of a convolution and what `top` puts on it, its weights random."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((size, size, 3))
    network = keras.Model(pixels, top(layers.Conv2D(channels, 1, name="conv")(pixels)))
    rng = np.random.default_rng(0)
    for layer in network.layers:
        drawn = [rng.normal(0.5, 0.5, weight.shape) for weight in layer.weights]
        variances = ["variance" in weight.name for weight in layer.weights]
        layer.set_weights([abs(a) if is_variance else a for a, is_variance in zip(drawn, variances, strict=True)])
    return network


def vgg_like(values):
    values = layers.Dense(9, activation="relu", name="fc1")(layers.Flatten(name="flatten")(values))
    return layers.Dense(5, activation="softmax", name="predictions")(layers.Dropout(0.5, name="dropout")(values))


def convnext_like(values):
    values = layers.LayerNormalization(name="norm")(layers.GlobalAveragePooling2D(name="pool")(values))
    return layers.Dense(5, use_bias=False, name="predictions")(values)


def tuned_like(values):
    values = layers.BatchNormalization(name="norm")(layers.GlobalMaxPooling2D(name="pool")(values))
    return layers.Dense(5, activation="softmax", name="predictions")(values)


def shifting_norm(values):
    return layers.BatchNormalization(scale=False, name="norm")(layers.Flatten(name="flatten")(values))


def plain_batch_norm(values):
    values = layers.Flatten(name="flatten")(values)
    return layers.BatchNormalization(center=False, scale=False, epsilon=0.1, name="norm")(values)


def plain_norm(values):
    return layers.LayerNormalization(center=False, scale=False, name="norm")(layers.Flatten(name="flatten")(values))


@pytest.mark.parametrize(
    ("top", "names"),
    [
        (vgg_like, ("flatten", "fc1", "dropout", "predictions")),
        (convnext_like, ("pool", "norm", "predictions")),
        (tuned_like, ("pool", "norm", "predictions")),
        (shifting_norm, ("flatten", "norm")),
        (plain_batch_norm, ("flatten", "norm")),
        (plain_norm, ("flatten", "norm")),
    ],
)
def test_every_layer_gives_what_keras_gives(top, names):
    network = build(top)
    tail = find_tail(network)
    assert (tail.source, tail.names) == ("conv", names)
    pixels = np.random.default_rng(1).normal(size=(7, 4, 4, 3)).astype(np.float32)
    wanted = {name: network.get_layer(name).output for name in ("conv", *names)}
    expected = {name: np.asarray(values) for name, values in keras.Model(network.inputs[0], wanted)(pixels).items()}
    found = tail(expected["conv"])
    assert tuple(found) == names
    for name in names:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_row_has_the_same_bits_in_any_batch():
    tail = find_tail(build(vgg_like, size=16, channels=32))
    activations = np.random.default_rng(1).normal(size=(20, 16, 16, 32)).astype(np.float32)
    together = tail(activations)
    for rows in (slice(0, 1), slice(8, 9), slice(3, 5), slice(1, 9), slice(5, 20)):
        for name, values in tail(activations[rows]).items():
            np.testing.assert_array_equal(values, together[name][rows])


def gate(values):
    weights = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D(name="squeeze")(values))
    return layers.Multiply(name="excite")([values, weights])


def two_heads(values):
    pooled = layers.GlobalMaxPooling2D(name="largest")(values)
    return [layers.Dense(2, name="left")(pooled), layers.Dense(2, name="right")(pooled)]


@pytest.mark.parametrize(
    ("top", "source", "names"),
    [
        # What feeds more than one layer, or has no counterpart here, runs before the tail.
        (two_heads, "largest", ("right",)),
        (lambda values: layers.Dense(2, activation="gelu")(layers.Flatten(name="flat")(values)), None, None),
        (lambda values: layers.Dense(2, name="every")(values), None, None),
        (gate, None, None),
        (lambda values: layers.GlobalAveragePooling2D(name="mean")(gate(values)), "excite", ("mean",)),
        (lambda values: layers.GlobalAveragePooling2D(keepdims=True)(values), None, None),
    ],
)
def test_what_the_tail_leaves_to_others(top, source, names):
    tail = find_tail(build(top))
    assert (tail and tail.source, tail and tail.names) == (source, names)


def test_a_model_that_cannot_be_read_is_refused():
    first, second = keras.Input((4, 4, 3)), keras.Input((4, 4, 3))
    with pytest.raises(UnsupportedError, match="has 2 inputs; expected one"):
        find_tail(keras.Model([first, second], layers.Add()([first, second])))
