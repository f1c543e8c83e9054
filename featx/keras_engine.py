"""The reference engine: the whole way from pixels to features as one Keras model, on a CPU or a GPU."""

import numpy as np

from featx.backbones import FrozenBackbone
from featx.keras_setup import describe_device, load_keras
from featx.pooling import plan_features, pool
from featx.preprocessing import preprocess


class KerasEngine:
    """Run a frozen backbone with Keras.

    Only pooled values leave the device.

    Parameters
    ----------
    frozen : FrozenBackbone
    poolings : tuple of str
        See `featx.pooling.choose_poolings`.
    batch_size : int
        The one batch shape that the model is compiled for; fewer images are padded.

    Attributes
    ----------
    name, version, device : str
        `keras`, Keras's version and its backend, and where it runs.
    n_channels : dict of str to int
        Features by name, in network order.
    """

    name = "keras"

    def __init__(self, frozen: FrozenBackbone, poolings: tuple[str, ...], *, batch_size: int) -> None:
        keras = load_keras()
        plan = plan_features(frozen.spatial, poolings)
        pixels = keras.Input((frozen.image_size, frozen.image_size, 3), dtype="uint8")
        ops = keras.ops
        activations = frozen.model(preprocess(ops, ops.cast(pixels, "float32"), frozen.preprocessing))
        features = {name: pool(ops, activations[layer], pooling) for name, (layer, pooling) in plan.items()}
        self._model = keras.Model(pixels, features)
        self.n_channels = {name: int(tensor.shape[-1]) for name, tensor in features.items()}
        self.batch_size = batch_size
        self.version = f"{keras.__version__} on {keras.backend.backend()}"
        self.device = describe_device(keras)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of at most `batch_size` images (n, image_size, image_size, 3), uint8."""
        n_images = len(pixels)
        if n_images < self.batch_size:
            padded = np.zeros((self.batch_size, *pixels.shape[1:]), dtype=np.uint8)
            padded[:n_images] = pixels
            pixels = padded
        outputs = self._model.predict_on_batch(pixels)
        return {name: np.asarray(outputs[name], dtype=np.float32)[:n_images] for name in self.n_channels}
