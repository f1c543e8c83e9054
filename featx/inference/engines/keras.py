"""The reference engine: the whole way from pixels to features as one Keras model, on a CPU or a GPU."""

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import numpy as np

from featx.errors import FeatxError
from featx.inference.batch_size import AUTO, DEFAULT, find_batch_size, halve, is_out_of_memory, time_overlapped
from featx.networks import (
    FrozenBackbone,
    choose_constants,
    compile_model,
    format_device,
    load_keras,
    plan_features,
    pool,
    preprocess,
)

# Long enough for a clock, short compared with the compilation before it.
_SECONDS_A_TRIAL = 0.5


class KerasEngine:
    """Run a frozen backbone with Keras.

    Pixels go to the device as bytes, and only pooled values leave it. Pixels are prepared and activations pooled in
    float32, whatever the network's own precision.

    Parameters
    ----------
    frozen : FrozenBackbone
    poolings : tuple of str
        See `featx.networks.plan_features`.
    batch_size : int or "auto"
        The one batch shape that the model is compiled for; fewer images are padded, more are cut. `auto` is 8 on a CPU;
        on a GPU it is found by trying (`featx.inference.batch_size.find_batch_size`), and halved should memory run out
        later.
    precision : str, default "float32"
        One of `featx.inference.engines.PRECISIONS`.

    Attributes
    ----------
    name, version, device : str
        `keras`, Keras's version and its backend, and where it runs.
    n_channels : dict of str to int
        Features by name, in network order.
    batch_size : int

    Raises
    ------
    FeatxError
        If the device's memory doesn't hold one image's forward pass; when called, a batch's.
    """

    name = "keras"

    def __init__(
        self,
        frozen: FrozenBackbone,
        poolings: tuple[str, ...],
        *,
        batch_size: int | str,
        precision: str = "float32",
    ) -> None:
        keras = load_keras()
        ops = keras.ops
        plan = plan_features(frozen.spatial, poolings)
        pixels = keras.Input((frozen.image_size, frozen.image_size, 3), dtype="uint8")
        network = lower_precision(keras, frozen.model, precision)
        prepared = preprocess(ops, ops.cast(pixels, "float32"), frozen.preprocessing, constant=choose_constants(keras))
        activations = network(prepared)
        features = [pool(ops, ops.cast(activations[layer], "float32"), pooling) for layer, pooling in plan.values()]
        self.n_channels = {name: int(tensor.shape[-1]) for name, tensor in zip(plan, features, strict=True)}
        # One tensor, so that one copy brings a batch's features back.
        model = keras.Model(pixels, ops.concatenate(features, axis=-1))
        self._run = compile_model(keras, model, exact=precision == "float32")
        self._to_numpy = ops.convert_to_numpy
        self._image_shape = tuple(pixels.shape[1:])
        self._is_auto = batch_size == AUTO
        self.version = f"{keras.__version__} on {keras.backend.backend()}"
        self.device = format_device(keras)
        self.batch_size = DEFAULT if self._is_auto else int(batch_size)
        if self._is_auto and not self.device.startswith("cpu"):
            self.batch_size = find_batch_size(self._time_batch)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of images (n, image_size, image_size, 3), uint8."""
        return self.submit(pixels)()

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Hand a batch over to the device, and return at once what waits for its features.

        Parameters
        ----------
        pixels : ndarray of shape (n, image_size, image_size, 3), uint8
            Must not change until the features are returned.

        Returns
        -------
        callable
            Takes nothing, returns the features, as calling the engine does.
        """
        # Where memory runs out, the device may say so here or only when the features are fetched.
        size = self.batch_size
        started = self._with_memory(size, lambda: self._begin(pixels))

        def fetch() -> dict[str, np.ndarray]:
            rows = None if started is None else self._with_memory(size, lambda: self._end(started))
            while rows is None:
                rows = self._with_memory(self.batch_size, lambda: self._end(self._begin(pixels)))
            return self._name(rows[: len(pixels)])

        return fetch

    def _begin(self, pixels: np.ndarray) -> list[object]:
        """Return the device's tensors of features, one for each compiled batch that the images fill."""
        outputs = []
        for start in range(0, max(1, len(pixels)), self.batch_size):
            batch = pixels[start : start + self.batch_size]
            if len(batch) < self.batch_size:
                padded = np.zeros((self.batch_size, *self._image_shape), dtype=np.uint8)
                padded[: len(batch)] = batch
                batch = padded
            outputs.append(self._run(batch))
        return outputs

    def _end(self, outputs: list[object]) -> np.ndarray:
        """Wait for tensors of features and lay them below one another."""
        arrays = [self._to_numpy(output) for output in outputs]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _name(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        bounds = pairwise(np.cumsum([0, *self.n_channels.values()]))
        return {
            name: np.ascontiguousarray(rows[:, start:stop], dtype=np.float32)
            for name, (start, stop) in zip(self.n_channels, bounds, strict=True)
        }

    def _with_memory(self, size: int, action: Callable[[], object]) -> object | None:
        """Return what an action returns; None, and a smaller batch from now on, where memory runs out."""
        try:
            return action()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if not self._is_auto and size > 1:
                raise FeatxError(
                    f"batch size {size}: the device's memory is too small for a forward pass of this many images. "
                    "Use a smaller `batch_size`, or, in featx extract, `batch_size` auto"
                ) from error
        # A batch before this one may have found so, too.
        self.batch_size = min(self.batch_size, halve(size))
        return None

    def _time_batch(self, size: int) -> float:
        # Not zeros: a GPU computes with them in less time than with pixels.
        pixels = np.random.default_rng(0).integers(0, 256, (size, *self._image_shape), dtype=np.uint8)

        def submit(pixels: np.ndarray) -> Callable[[], object]:
            output = self._run(pixels)
            return lambda: self._to_numpy(output)

        return time_overlapped(submit, pixels, seconds=_SECONDS_A_TRIAL)


def lower_precision(keras: ModuleType, model: object, precision: str) -> object:
    """Return a copy of a float32 model with weights and arithmetic of a precision; the model itself for float32.

    Normalization layers keep their statistics, and compute, in float32, since Keras does so where their weights are
    float32; only what they pass on is rounded. Layers that bring pixels to a network's range stay as they are.
    """
    if precision == "float32":
        return model

    def lower(layer: object) -> object:
        kind = type(layer).__name__
        # Operations that are no layers have nothing to lower: they compute in the precision that comes in.
        if not isinstance(layer, keras.layers.Layer) or kind in ("Normalization", "Rescaling"):
            return layer
        policy = f"mixed_{precision}" if kind.endswith("Normalization") else precision
        return type(layer).from_config(layer.get_config() | {"dtype": policy})

    lowered = keras.models.clone_model(model, clone_function=lower, recursive=True)
    lowered.set_weights(model.get_weights())
    lowered.trainable = False
    return lowered
