"""Keras, imported once on a backend that is there, without the noise that its backends make while they load."""

import contextlib
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import ModuleType

from featx.cores import available_cores
from featx.errors import FeatxError

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
        describe_device(keras)


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


def describe_device(keras: ModuleType) -> str:
    """Return where the network runs: `gpu:0` and the like."""
    if keras.backend.backend() == "torch":
        # Keras can't list PyTorch's devices, but puts every new tensor on the one that it takes.
        device = keras.ops.zeros(1).device
        return f"{'gpu' if device.type == 'cuda' else device.type}:{device.index or 0}"
    return ", ".join(keras.distribution.list_devices()) or "cpu:0"


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Leave out what compiled libraries log to standard error while they load; on failure, show that too.

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
