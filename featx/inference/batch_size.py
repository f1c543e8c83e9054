"""Find the number of images of a forward pass by trying, and halve it where the device's memory runs out."""

import time
from collections.abc import Callable

import numpy as np

from featx.errors import FeatxError

AUTO = "auto"

DEFAULT = 8
"""The batch size for auto on a CPU, where larger batches are no faster; the first one that is tried on a GPU."""

LARGEST = 4096

# Less than this is as likely noise, and a larger batch takes more memory.
_WORTHWHILE = 1.05

# Backends say it in their own classes, which are not there to be named where a backend isn't installed.
_EXHAUSTED = frozenset(("ResourceExhaustedError", "OutOfMemoryError"))
_SAID = ("RESOURCE_EXHAUSTED", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of TensorFlow, JAX, PyTorch or Python itself says that memory ran out.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3GiB"))
    True
    >>> is_out_of_memory(RuntimeError("INVALID_ARGUMENT: shapes"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ in _EXHAUSTED:
        return True
    return isinstance(error, RuntimeError) and any(words.lower() in str(error).lower() for words in _SAID)


def find_batch_size(time_batch: Callable[[int], float], *, first: int = DEFAULT, largest: int = LARGEST) -> int:
    """Double the batch until it no longer makes images faster by 5 %, or halve it until it fits into memory.

    Parameters
    ----------
    time_batch : callable
        Takes a batch size, returns the seconds of such a batch, or raises what `is_out_of_memory` knows.
    first, largest : int
        The first and the largest batch size to try.

    Raises
    ------
    FeatxError
        If not even one image fits.

    Examples
    --------
    A device that needs 10 ms for every batch, and 1 ms for every image:

    >>> find_batch_size(lambda n_images: 0.010 + 0.001 * n_images)
    128
    """
    size, rate = first, _rate(time_batch, first)
    while rate is None:
        size = halve(size)
        rate = _rate(time_batch, size)
    # What had to be halved doesn't fit when it is doubled.
    while size >= first and 2 * size <= largest:
        doubled = _rate(time_batch, 2 * size)
        if doubled is None or doubled < rate * _WORTHWHILE:
            break
        size, rate = 2 * size, doubled
    return size


def halve(batch_size: int) -> int:
    """Return the next smaller batch to try where memory ran out."""
    if batch_size == 1:
        raise FeatxError(
            "the device's memory is too small for a forward pass of one image. Use a smaller `image_size`, `precision` "
            "bfloat16, or fewer `layers`; or stop other work on the device"
        )
    return batch_size // 2


def time_overlapped(
    submit: Callable[[np.ndarray], Callable[[], object]], pixels: np.ndarray, *, seconds: float
) -> float:
    """Return the seconds per batch if each is submitted before the previous one is fetched."""
    # Compiled by the first one, which is not timed.
    submit(pixels)()
    started = time.perf_counter()
    ahead = submit(pixels)
    n_batches = 1
    while time.perf_counter() - started < seconds:
        following = submit(pixels)
        ahead()
        ahead = following
        n_batches += 1
    ahead()
    return (time.perf_counter() - started) / n_batches


def _rate(time_batch: Callable[[int], float], size: int) -> float | None:
    """Return images/s, None where memory ran out."""
    try:
        return size / time_batch(size)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
