"""GoogLeNet (Szegedy et al. 2014, arXiv 1409.4842) as Caffe's bvlc_googlenet has it.

Layers have Caffe's names, with an underscore for the slash, which neither Keras nor HDF5 takes in a name. As in
Caffe, whose ReLUs work in place, a convolution's activations are those after its ReLU. The two side classifiers that
helped its training are left out.
"""

from featx.networks.backend import load_keras

keras = load_keras()
layers, ops = keras.layers, keras.ops

# Channels of each module: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj (table 1 of the paper).
_WIDTHS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@keras.saving.register_keras_serializable("featx")
class LocalResponseNormalization(layers.Layer):
    """Divide each activation by a power of the sum over its channel and neighbours.

    y = x / (bias + alpha / size * sum of x ** 2 over `size` channels) ** beta, as in Caffe and ONNX.

    Parameters
    ----------
    size : int, default 5
        How many channels, odd; fewer at both ends.
    alpha, beta, bias : float
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, **options: object
    ) -> None:
        super().__init__(**options)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def call(self, inputs: object) -> object:
        """Normalise activations (n, height, width, channels)."""
        n_channels, reach = inputs.shape[-1], self.size // 2
        squares = ops.pad(ops.square(inputs), [(0, 0), (0, 0), (0, 0), (reach, reach)])
        total = sum(squares[..., first : first + n_channels] for first in range(self.size))
        return inputs * (self.bias + self.alpha / self.size * total) ** -self.beta

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape, which stays."""
        return input_shape

    def get_config(self) -> dict:
        """Return the parameters."""
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **own}


def build_googlenet(image_size: int = 224, *, include_top: bool = True, n_classes: int = 1000) -> keras.Model:
    """Build GoogLeNet."""
    pixels = x = keras.Input((image_size, image_size, 3))
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=2, activation="relu", name="conv1_7x7_s2")(x)
    x = _halve(x, "pool1_3x3_s2")
    x = LocalResponseNormalization(name="pool1_norm1")(x)
    x = _conv(x, 64, 1, "conv2_3x3_reduce")
    x = _conv(x, 192, 3, "conv2_3x3")
    x = LocalResponseNormalization(name="conv2_norm2")(x)
    x = _halve(x, "pool2_3x3_s2")
    x = _inception(x, "3a")
    x = _inception(x, "3b")
    x = _halve(x, "pool3_3x3_s2")
    for module in ("4a", "4b", "4c", "4d", "4e"):
        x = _inception(x, module)
    x = _halve(x, "pool4_3x3_s2")
    x = _inception(x, "5a")
    x = _inception(x, "5b")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool5_7x7_s1")(x)
        x = layers.Dropout(0.4, name="pool5_drop_7x7_s1")(x)
        x = layers.Dense(n_classes, name="loss3_classifier")(x)
        x = layers.Softmax(name="prob")(x)
    return keras.Model(pixels, x, name="googlenet")


def _inception(x: keras.KerasTensor, module: str) -> keras.KerasTensor:
    """Four branches side by side, and their channels one after another."""
    name = f"inception_{module}"
    n_1x1, n_3x3_reduce, n_3x3, n_5x5_reduce, n_5x5, n_pool_proj = _WIDTHS[module]
    by_1x1 = _conv(x, n_1x1, 1, f"{name}_1x1")
    by_3x3 = _conv(x, n_3x3_reduce, 1, f"{name}_3x3_reduce")
    by_3x3 = _conv(by_3x3, n_3x3, 3, f"{name}_3x3")
    by_5x5 = _conv(x, n_5x5_reduce, 1, f"{name}_5x5_reduce")
    by_5x5 = _conv(by_5x5, n_5x5, 5, f"{name}_5x5")
    by_pool = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    by_pool = _conv(by_pool, n_pool_proj, 1, f"{name}_pool_proj")
    return layers.Concatenate(name=f"{name}_output")([by_1x1, by_3x3, by_5x5, by_pool])


def _conv(x: keras.KerasTensor, n_channels: int, side: int, name: str) -> keras.KerasTensor:
    return layers.Conv2D(n_channels, side, padding="same", activation="relu", name=name)(x)


def _halve(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Take the largest of 3 x 3, every second place.

    Caffe rounds the number of places up. On an even side the last window goes over the edge by one, which is what
    `same` does; an odd side is filled exactly, while `same` would begin before it.
    """
    padding = "valid" if x.shape[1] % 2 else "same"
    return layers.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)
