"""Keras, imported once on a backend that is there, without the noise that its backends make while they load."""

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from featx.errors import FeatxError

BACKENDS = ("tensorflow", "jax", "torch")


def load_keras() -> ModuleType:
    """Import Keras on the backend that is chosen (`KERAS_BACKEND`), else on the first one that is installed.

    Raises
    ------
    FeatxError
        If no backend is installed, or one is chosen that featx doesn't run on.
    """
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
        if not installed:
            raise FeatxError("Keras has no backend here: pip install 'featx[tensorflow]' (or featx[jax], featx[torch])")
        os.environ["KERAS_BACKEND"] = installed[0]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet_stderr():
        try:
            import keras
        except (ImportError, ValueError) as error:
            raise FeatxError(
                f"Keras can't be loaded on the backend {os.environ.get('KERAS_BACKEND')!r}: {error}. Install it, or "
                "set KERAS_BACKEND to tensorflow, jax or torch"
            ) from error
        backend = keras.backend.backend()
        if backend not in BACKENDS:
            raise FeatxError(
                f"Keras's backend {backend!r}: featx runs on {', '.join(BACKENDS)}; set KERAS_BACKEND to one"
            )
        describe_device(keras)
    return keras


def describe_device(keras: ModuleType) -> str:
    """Return where the network runs: `gpu:0` and the like."""
    if keras.backend.backend() == "torch":
        # Keras can't list PyTorch's devices, but puts every new tensor on the one that it takes.
        device = keras.ops.zeros(1).device
        return f"{'gpu' if device.type == 'cuda' else device.type}:{device.index or 0}"
    return ", ".join(keras.distribution.list_devices()) or "cpu:0"


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what compiled libraries write to standard error while they load; on failure, show it after all.

    TensorFlow's first lines come before its log level takes effect, so that no setting silences them.
    """
    try:
        stderr = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    saved = os.dup(stderr)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), stderr)
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, stderr)
            os.close(saved)
