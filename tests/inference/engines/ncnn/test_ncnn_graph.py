"""What Keras computes and what its translation computes: layer by layer, and network by network."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from featx.inference.engines.ncnn.engine import NcnnEngine
from featx.networks import FrozenBackbone, UnsupportedError, plan_features, pool, preprocess

POOLINGS = ("avg", "max", "std")


@pytest.fixture(autouse=True)
def _same_kernels():
    keras.utils.set_random_seed(0)


@keras.saving.register_keras_serializable("featx-tests")
class LocalResponseNormalization(layers.Layer):
    """x / (bias + alpha / size * sum of squares over `size` channels) ** beta, as in Caffe."""

    def __init__(self, size=5, alpha=1e-4, beta=0.75, bias=1.0, **options):
        super().__init__(**options)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, inputs):
        pads = [(0, 0), (0, 0), (0, 0), (self.size // 2, self.size // 2)]
        squares = keras.ops.pad(keras.ops.square(inputs), pads)
        total = sum(squares[..., first : first + inputs.shape[-1]] for first in range(self.size))
        return inputs * (self.bias + self.alpha / self.size * total) ** -self.beta


def set_weights(model, seed=0):
    """Give every layer biases and statistics that aren't trivial, such that activations stay small."""
    rng = np.random.default_rng(seed)
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        # Where it is small, a random network is chaotic: rounding at its start would grow to a part of its end.
        "moving_variance": lambda shape: rng.uniform(1, 4, shape),
    }
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            set_weights(layer, seed + 1)
            continue
        for weight in layer.weights:
            if weight.name in draw:
                weight.assign(draw[weight.name](weight.shape))


def draw_images(n_images, height, width=None, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (n_images, height, width or height, 3)).astype(np.uint8)


def freeze(network, names, preprocessing="tf"):
    model = keras.Model(network.inputs, {name: network.get_layer(name).output for name in names})
    model.trainable = False
    return FrozenBackbone(model, tuple(names), network.inputs[0].shape[1], preprocessing, "random", "")


def error_of(found, expected):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-12)


def compare(network, names, *, tolerance, preprocessing="tf"):
    """Compare every pooling of some layers, and return the largest error."""
    set_weights(network)
    frozen = freeze(network, names, preprocessing)
    images = draw_images(2, frozen.image_size)
    found = NcnnEngine(frozen, POOLINGS)(images)
    # Without an engine of Keras: compiling a deep network takes far longer than running it once.
    activations = frozen.model([preprocess(np, images.astype(np.float32), preprocessing)])
    plan = plan_features(frozen.spatial, POOLINGS)
    expected = {name: pool(np, np.asarray(activations[layer]), pooling) for name, (layer, pooling) in plan.items()}
    assert list(found) == list(expected)
    errors = {name: error_of(found[name], expected[name]) for name in found}
    assert {name: error for name, error in errors.items() if not error < tolerance} == {}
    return max(errors.values())


def error_after(build, height=9, width=8, channels=20):
    """Return the error of every activation that `build` makes of activations (height, width, channels)."""
    pixels = keras.Input((height, width, 3))
    values = build(layers.Conv2D(channels, 1)(pixels))
    network = keras.Model(pixels, values if len(values.shape) == 2 else layers.Flatten()(values))
    set_weights(network)
    last = network.layers[-1].name
    images = draw_images(2, height, width)
    found = NcnnEngine(freeze(network, [last]), ("avg",))(images)[last]
    return error_of(found, np.asarray(network(images.astype(np.float32) / 127.5 - 1)))


SIZES = [(9, 8), (8, 9), (7, 7), (12, 12)]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, (2, 1), 3])
def test_convolutions(padding, strides):
    def build(values):
        values = layers.Conv2D(24, (3, 5), strides=strides, padding=padding, activation="relu")(values)
        return layers.Conv2D(6, (2, 1), use_bias=False, padding="same")(values)

    for height, width in SIZES:
        assert error_after(build, height, width) < 1e-5


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "layer",
    [
        lambda padding: layers.Conv2D(16, 3, padding=padding, dilation_rate=2),
        lambda padding: layers.Conv2D(16, 3, padding=padding, dilation_rate=(1, 3), activation="silu"),
        lambda padding: layers.Conv2D(16, 3, padding=padding, groups=4),
        lambda padding: layers.Conv2D(20, 5, padding=padding, groups=20, use_bias=False),
        lambda padding: layers.DepthwiseConv2D(3, padding=padding, activation="relu"),
        lambda padding: layers.DepthwiseConv2D(4, strides=2, padding=padding, use_bias=False),
        lambda padding: layers.DepthwiseConv2D(3, padding=padding, depth_multiplier=2),
        lambda padding: layers.SeparableConv2D(12, 3, strides=2, padding=padding, activation="relu"),
        lambda padding: layers.SeparableConv2D(12, 3, padding=padding, depth_multiplier=2, use_bias=False),
    ],
    ids=[
        "dilated",
        "dilated-silu",
        "groups",
        "group-each",
        "depth",
        "depth-stride",
        "depth-two",
        "separable",
        "no-bias",
    ],
)
def test_other_convolutions(layer, padding):
    for height, width in ((9, 8), (12, 12)):
        assert error_after(layer(padding), height, width) < 1e-5


@pytest.mark.parametrize("kind", [layers.MaxPooling2D, layers.AveragePooling2D])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides"), [(2, 2), (3, 2), (3, 1), ((2, 3), (1, 2)), (5, 3), (2, 3), (7, 2)])
def test_poolings(kind, padding, size, strides):
    # Channels that fill a vector of ncnn's, and channels that don't.
    for (height, width), channels in zip(SIZES, (3, 16, 3, 16), strict=True):
        assert error_after(kind(size, strides=strides, padding=padding), height, width, channels) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.BatchNormalization(),
        lambda: layers.BatchNormalization(scale=False, epsilon=1e-2),
        lambda: layers.BatchNormalization(center=False, axis=3),
        lambda: layers.BatchNormalization(center=False, scale=False),
        lambda: layers.LayerNormalization(),
        lambda: layers.LayerNormalization(epsilon=1e-6, scale=False, axis=3),
        lambda: layers.LayerNormalization(center=False),
        lambda: layers.Normalization(mean=[0.5] * 20, variance=[2.0] * 20),
        lambda: layers.Rescaling(1 / 128, offset=-1),
        lambda: layers.Rescaling([0.5 + i for i in range(20)], offset=list(range(20))),
        lambda: layers.ZeroPadding2D(((1, 0), (2, 3))),
        lambda: layers.ReLU(),
        lambda: layers.ReLU(max_value=0.5),
        lambda: layers.ReLU(negative_slope=0.3),
        lambda: layers.Dense(30, activation="gelu"),
        lambda: layers.Dense(30, use_bias=False),
        lambda: layers.Dropout(0.5),
        lambda: layers.SpatialDropout2D(0.5),
        lambda: LocalResponseNormalization(alpha=0.5),
        lambda: LocalResponseNormalization(3, alpha=2.0, beta=0.5, bias=2.0),
        *(lambda name=name: layers.Activation(name) for name in ("relu", "relu6", "silu", "sigmoid", "tanh")),
        *(lambda name=name: layers.Activation(name) for name in ("gelu", "softmax", "linear")),
    ],
)
def test_layers_alone(layer):
    for height, width in ((9, 8), (1, 1)):
        assert error_after(layer(), height, width) < 1e-5


def test_what_follows_the_pixels_may_write_to_them():
    pixels = keras.Input((32, 32, 3))
    network = keras.Model(pixels, layers.Conv2D(4, 3, name="conv")(layers.ReLU(name="relu")(pixels)))
    compare(network, ["relu", "conv"], tolerance=1e-5)


def branches(values):
    return [layers.Conv2D(20, 1)(values), layers.Conv2D(20, 3, padding="same", activation="relu")(values), values]


def halve(values):
    return keras.Sequential([keras.Input((None, None, 20)), layers.AveragePooling2D(2, padding="same")])(values)


def squeeze(values, combine=layers.Multiply):
    channels = values.shape[-1]
    gate = layers.Reshape((1, 1, channels))(layers.GlobalAveragePooling2D()(values))
    gate = layers.Conv2D(channels, 1, activation="sigmoid")(layers.Conv2D(5, 1, activation="silu")(gate))
    return combine()([values, gate])


@pytest.mark.parametrize(
    "build",
    [
        lambda values: layers.Add()(branches(values)),
        lambda values: layers.Multiply()(branches(values)),
        lambda values: layers.Concatenate()(branches(values)),
        lambda values: layers.Concatenate(axis=3)([values, values]),
        lambda values: layers.ReLU()(values + layers.Activation("tanh")(values)),
        lambda values: layers.ReLU()(values * layers.Activation("tanh")(values)),
        lambda values: layers.BatchNormalization()(layers.Add()([values, values])),
        lambda values: layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(7, 3)(values))),
        lambda values: layers.ReLU()(layers.BatchNormalization()(layers.Dense(30)(values))),
        lambda values: layers.BatchNormalization()(layers.DepthwiseConv2D(3, activation="relu")(values)),
        lambda values: layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(values))),
        squeeze,
        lambda values: squeeze(squeeze(values), layers.Add),
        lambda values: layers.Add()([layers.GlobalMaxPooling2D(keepdims=True)(values), values]),
        lambda values: keras.Sequential([layers.LayerNormalization(), layers.Conv2D(7, 2, strides=2)])(values),
        halve,
        lambda values: layers.Dense(9, activation="tanh")(layers.GlobalMaxPooling2D()(values)),
        lambda values: layers.Dense(9)(layers.BatchNormalization()(layers.GlobalMaxPooling2D()(values))),
        lambda values: layers.Reshape((-1,))(layers.MaxPooling2D()(values)),
        lambda values: layers.Reshape((1, 1, -1))(values),
        lambda values: layers.Activation("gelu")(layers.Flatten()(values)),
        lambda values: layers.Activation("gelu")(layers.LayerNormalization()(layers.Flatten()(values))),
        lambda values: layers.Dense(5, activation="softmax")(layers.Dropout(0.5)(layers.Flatten()(values))),
    ],
)
def test_layers_together(build):
    assert error_after(build) < 1e-5


def test_a_model_inside_a_model():
    inner_pixels = keras.Input((None, None, 20))
    inner = keras.Model(inner_pixels, layers.ReLU()(inner_pixels + layers.Conv2D(20, 3, padding="same")(inner_pixels)))
    assert error_after(lambda values: layers.Conv2D(3, 2)(inner(values))) < 1e-5


def two_heads():
    pixels = keras.Input((16, 16, 3))
    values = layers.Conv2D(8, 3, activation="relu", name="conv")(pixels)
    pooled = layers.GlobalAveragePooling2D(name="pooled")(values)
    shared = layers.Dense(6, activation="relu", name="shared")(pooled)
    heads = [layers.Dense(5, name="left")(pooled), layers.Dense(4, name="right")(shared)]
    return keras.Model(pixels, [*heads, layers.GlobalMaxPooling2D(name="largest")(values)])


@pytest.mark.parametrize(
    "names", [("pooled",), ("pooled", "largest"), ("shared", "left"), ("conv", "pooled", "right"), ("left", "right")]
)
def test_any_vectors_can_be_asked_for(names):
    compare(two_heads(), names, tolerance=1e-5)


def lrn_network(size=32):
    """What GoogLeNet is made of."""
    pixels = keras.Input((size, size, 3))
    values = layers.Conv2D(16, 7, strides=2, activation="relu")(layers.ZeroPadding2D(3)(pixels))
    values = LocalResponseNormalization(name="norm")(layers.MaxPooling2D(3, 2, padding="same", name="pool")(values))
    sides = [layers.Conv2D(8, k, padding="same", activation="relu")(values) for k in (1, 3, 5)]
    values = layers.Concatenate(name="mixed")([*sides, layers.MaxPooling2D(3, 1, padding="same")(values)])
    return keras.Model(pixels, layers.AveragePooling2D(2, name="mean")(values))


def test_googlenet_parts():
    assert compare(lrn_network(), ["pool", "norm", "mixed", "mean"], tolerance=1e-5, preprocessing="caffe") > 0


# VGG16 runs in test_engine.py; all layers of InceptionV3 are in InceptionResNetV2.
NETWORKS = {
    "ResNet50": (64, "caffe", r"conv\d_block\d+_out|avg_pool|predictions"),
    "DenseNet121": (64, "torch", r"conv\d_block\d+_concat|pool\d_pool|relu|avg_pool|predictions"),
    "ConvNeXtTiny": (64, "none", r".*_identity|.*_head_.*"),
    "EfficientNetV2S": (64, "none", r"block\d\w_(add|project_bn|se_squeeze|se_excite)|top_activation|avg_pool"),
    "InceptionResNetV2": (75, "tf", r"block\d+_(1|10|20)_ac|mixed_\w+|conv_7b_ac|avg_pool|predictions"),
}
SLOW = ("EfficientNetV2S", "InceptionResNetV2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETWORKS]
)
def test_networks(name):
    size, preprocessing, pattern = NETWORKS[name]
    network = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    names = [layer.name for layer in network.layers if re.fullmatch(pattern, layer.name)]
    assert compare(network, names, tolerance=1e-4, preprocessing=preprocessing) > 0


@pytest.mark.parametrize("last", ["squeezed", "reshaped", "expanded", "scaled"])
def test_a_network_may_end_inside_a_squeeze_and_excitation(last):
    pixels = keras.Input((16, 16, 3))
    values = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(layers.Conv2D(8, 3, activation="silu")(pixels)))
    reshaped = layers.Reshape((1, 1, 8), name="reshaped")(layers.GlobalAveragePooling2D(name="squeezed")(values))
    reduced = layers.Conv2D(2, 1, activation="silu")(reshaped)
    expanded = layers.Conv2D(8, 1, activation="sigmoid", name="expanded")(reduced)
    network = keras.Model(pixels, layers.Multiply(name="scaled")([values, expanded]))
    compare(network, [last], tolerance=1e-5, preprocessing="none")


def shared(values):
    conv = layers.Conv2D(20, 1, name="twice")
    return layers.Add()([conv(values), conv(layers.ReLU()(values))])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda values: layers.PReLU(name="odd")(values), "odd .PReLU. has no counterpart"),
        (lambda values: layers.Conv2D(3, 1, activation="mish", name="odd")(values), "odd ends in mish"),
        (lambda values: layers.Activation(lambda x: x, name="odd")(values), "odd ends in <lambda>"),
        (lambda values: layers.Dense(3, activation="elu", name="odd")(values), "odd ends in elu"),
        (lambda values: layers.Dense(3, activation="elu", name="odd")(layers.Flatten()(values)), "odd ends in elu"),
        (lambda values: layers.MaxPooling2D(data_format="channels_first", name="odd")(values), "odd takes channels_fi"),
        (lambda values: layers.Concatenate(axis=1, name="odd")([values, values]), "odd has the axis 1"),
        (lambda values: layers.BatchNormalization(axis=1, name="odd")(values), "odd has the axis 1"),
        (lambda values: layers.LayerNormalization(axis=[1, 2, 3], name="odd")(values), "odd has the axis"),
        (lambda values: layers.ReLU(threshold=0.5, name="odd")(values), "odd has threshold=0.5"),
        (lambda values: layers.Reshape((8, 9, 20), name="odd")(values), "odd makes"),
        (lambda values: layers.BatchNormalization(name="odd")(values, training=True), "odd is called with training"),
        (lambda values: layers.Add(name="odd")([values, layers.MaxPooling2D((9, 1))(values)]), "odd takes"),
        (lambda values: LocalResponseNormalization(4, name="odd")(values), "odd has an even size 4"),
        (lambda values: layers.ReLU(name="odd", dtype="float16")(values), "odd computes in float16"),
        (lambda values: keras.ops.exp(values), "Exp. has no counterpart"),
        (lambda values: values + 1.0, "takes 1.0; expected tensors only"),
        (shared, "twice is called 2 times"),
    ],
)
def test_what_has_no_counterpart_is_named(build, message):
    with pytest.raises(UnsupportedError, match=message):
        error_after(build)


def test_images_of_any_size_have_no_counterpart():
    pixels = keras.Input((None, None, 3))
    network = keras.Model(pixels, layers.Conv2D(4, 3, name="conv")(pixels))
    with pytest.raises(UnsupportedError, match="images of one size"):
        NcnnEngine(freeze(network, ["conv"]), ("avg",))
