"""The one place that names a Keras backend's own functions: compilation, and float32 that is float32.

Keras's `predict_on_batch` waits for each result. What `compile_model` returns leaves the result on the device, so that
the next batch can be on its way there meanwhile.
"""

from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType

import numpy as np

from featx.keras_setup import describe_device


def compile_model(keras: ModuleType, model: object, *, exact: bool) -> Callable[[np.ndarray], object]:
    """Compile a model's forward pass, once for each shape of pixels that it is given.

    XLA compiles it with JAX, and with TensorFlow on a GPU; `torch.compile` with PyTorch on a GPU. On a CPU TensorFlow
    and PyTorch run it as they always did, so that features stay equal to the bit. Keras hands activations over with
    channels last, whichever the backend, as a GPU's matrix units want them; XLA lays them out anew where that helps.

    Parameters
    ----------
    keras : module
    model : keras.Model
        Pixels in, one tensor out.
    exact : bool
        Whether float32 products are to be computed in float32. GPUs round their factors to 10 bits otherwise (TF32).
        With TensorFlow and PyTorch this holds for the whole process.

    Returns
    -------
    callable
        Takes pixels, returns the model's output on the device, maybe before it is computed.
    """
    compilers = {"tensorflow": _compile_tensorflow, "jax": _compile_jax, "torch": _compile_torch}
    on_cpu = describe_device(keras).startswith("cpu")
    return compilers[keras.backend.backend()](keras, model, exact=exact and not on_cpu, compiled=not on_cpu)


def choose_constants(keras: ModuleType) -> Callable[[np.ndarray], object]:
    """Return what makes an array a constant of a model that `compile_model` is to compile.

    PyTorch's compiler cuts a model in pieces at each NumPy array. TensorFlow's divides by a NumPy array in other last
    bits than by a tensor, and stores hold the former.
    """
    return keras.ops.convert_to_tensor if keras.backend.backend() == "torch" else np.asarray


def _compile_tensorflow(keras: ModuleType, model: object, *, exact: bool, compiled: bool) -> Callable:
    import tensorflow as tf

    if exact:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    return tf.function(lambda pixels: model(pixels, training=False), jit_compile=compiled)


def _compile_jax(keras: ModuleType, model: object, *, exact: bool, compiled: bool) -> Callable:
    import jax

    weights = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def forward(weights: list, others: list, pixels: object) -> object:
        # Counts while the function is traced, which is when the precision of its products is settled.
        with jax.default_matmul_precision("highest") if exact else nullcontext():
            return model.stateless_call(weights, others, pixels, training=False)[0]

    # Weights are arguments: constants would be compiled into the program, once more for each shape.
    run = jax.jit(forward)
    return lambda pixels: run(weights, others, pixels)


def _compile_torch(keras: ModuleType, model: object, *, exact: bool, compiled: bool) -> Callable:
    import torch

    if exact:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    # Of one shape of batches: the fastest convolutions are looked for once.
    torch.backends.cudnn.benchmark = True
    device = keras.ops.zeros(1).device
    forward = torch.compile(model) if compiled else model

    def run(pixels: np.ndarray) -> object:
        batch = torch.from_numpy(pixels)
        if device.type == "cuda":
            # From memory that may be swapped, the copy would wait for the batch before it.
            batch = batch.pin_memory()
        with torch.no_grad():
            return forward(batch.to(device, non_blocking=True))

    return run
