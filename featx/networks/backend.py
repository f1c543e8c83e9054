"""Load Keras on an installed backend, and name the backend's own functions in this one place.

Keras's `predict_on_batch` waits for each result. What `compile_model` returns leaves the result on the device, so that
the next batch can be on its way there meanwhile.
"""

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import ModuleType

import numpy as np

from featx.errors import FeatxError
from featx.system import available_cores


def compile_model(keras: ModuleType, model: object, *, exact: bool) -> Callable[[np.ndarray], object]:
    """Compile a model's forward pass, once for each shape of pixels that it is given.

    XLA compiles it with JAX, and with TensorFlow on a GPU; `torch.compile` with PyTorch on a GPU. On a CPU TensorFlow
    and PyTorch run it as they always did, so that features stay equal bit for bit. Keras hands activations over with
    channels last, whichever the backend, as a GPU's matrix units want them; XLA changes their layout where that helps.

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
    on_cpu = format_device(keras).startswith("cpu")
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


BACKENDS = ("tensorflow", "jax", "torch")
_loading = threading.Lock()

# How lines of TensorFlow's and XLA's log begin.
_LOG_LINE = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |[IWE]\d{4} \d\d:\d\d:\d+\.\d+ |"
    rb"WARNING: All log messages before absl|To enable the following instructions: "
)


def load_keras() -> ModuleType:
    """Import Keras on the backend that is chosen (`KERAS_BACKEND`), else on the first one that is installed.

    Raises
    ------
    FeatxError
        If no backend is installed, or one is chosen that featx doesn't run on.
    """
    with _loading:
        if "keras" not in sys.modules:
            _load_first()
        return _import_keras()


def _load_first() -> None:
    """Import Keras and start its backend, which both write to standard error."""
    if "KERAS_BACKEND" not in os.environ:
        installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
        if not installed:
            raise FeatxError("Keras has no backend here: pip install 'featx[tensorflow]' (or featx[jax], featx[torch])")
        os.environ["KERAS_BACKEND"] = installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        keras = _import_keras()
        _limit_threads(keras.backend.backend())
        format_device(keras)


def _import_keras() -> ModuleType:
    try:
        import keras
    except (ImportError, ValueError) as error:
        raise FeatxError(
            f"Keras can't be loaded on the backend {os.environ.get('KERAS_BACKEND')!r}: {error}. Install it, or "
            "set KERAS_BACKEND to tensorflow, jax or torch"
        ) from error
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise FeatxError(f"Keras's backend {backend!r}: featx runs on {', '.join(BACKENDS)}; set KERAS_BACKEND to one")
    return keras


def _limit_threads(backend: str) -> None:
    """Take no more threads than there are cores to use: backends know of affinity, but not of a container's quota."""
    if backend == "torch":
        import torch

        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    if backend == "tensorflow" and not os.environ.get("TF_NUM_INTRAOP_THREADS"):
        import tensorflow as tf

        # A program that has used TensorFlow before it used featx has chosen its threads.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(available_cores())
            tf.config.threading.set_inter_op_parallelism_threads(available_cores())


def format_device(keras: ModuleType) -> str:
    """Return the device that the network runs on: `gpu:0` and the like."""
    if keras.backend.backend() == "torch":
        # Keras can't list PyTorch's devices, but puts every new tensor on the one that it takes.
        device = keras.ops.zeros(1).device
        return f"{'gpu' if device.type == 'cuda' else device.type}:{device.index or 0}"
    return ", ".join(keras.distribution.list_devices()) or "cpu:0"


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what compiled libraries log to standard error while they load, unless loading fails.

    TensorFlow's first lines come before its log level takes effect, so that no setting silences them. What other
    threads write meanwhile is shown a little later.
    """
    try:
        stderr = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    saved = os.dup(stderr)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), stderr)
        is_loaded = False
        try:
            yield
            is_loaded = True
        finally:
            os.dup2(saved, stderr)
            os.close(saved)
            held.seek(0)
            lines = [line for line in held if not (is_loaded and _LOG_LINE.match(line))]
            # Standard error may be closed, or full.
            with contextlib.suppress(OSError):
                os.write(stderr, b"".join(lines))
