"""The search for a batch size, on devices that are made up."""

import numpy as np
import pytest

from featx import FeatxError
from featx.inference import is_out_of_memory
from featx.inference.batch_size import find_batch_size, time_overlapped


class OutOfMemoryError(RuntimeError):
    """Called as PyTorch calls its own."""


def device(*, holds=10**6, overhead=0.01, tried=None):
    """Return what times a batch on a device with a fixed cost for each batch, and room for some images."""

    def time_batch(size):
        if tried is not None:
            tried.append(size)
        if size > holds:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return overhead + 0.001 * size

    return time_batch


def test_it_doubles_while_that_helps():
    tried = []
    assert find_batch_size(device(tried=tried)) == 128
    # 256 makes images 4 % faster: not worth its memory.
    assert tried == [8, 16, 32, 64, 128, 256]


def test_a_device_without_overhead_keeps_the_first_size():
    assert find_batch_size(device(overhead=0)) == 8


def test_it_ends_at_the_largest():
    assert find_batch_size(device(overhead=1e6), largest=512) == 512


def test_memory_that_runs_out_ends_the_search():
    assert find_batch_size(device(holds=40)) == 32


@pytest.mark.parametrize(("holds", "expected"), [(7, 4), (3, 2), (1, 1)])
def test_the_first_size_is_halved_until_it_fits(holds, expected):
    tried = []
    assert find_batch_size(device(holds=holds, tried=tried)) == expected
    assert tried[-1] == expected


def test_a_device_that_does_not_hold_one_image_says_what_to_do():
    with pytest.raises(FeatxError, match="`image_size`"):
        find_batch_size(device(holds=0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def fail(size):
        raise RuntimeError("INTERNAL: the device has fallen off the bus")

    with pytest.raises(RuntimeError, match="bus"):
        find_batch_size(fail)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("of PyTorch"), True),
        (type("ResourceExhaustedError", (Exception,), {})("of TensorFlow"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes"), True),
        (RuntimeError("XLA: out of memory"), True),
        (RuntimeError("shapes don't match"), False),
        (ValueError("RESOURCE_EXHAUSTED"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_backends_errors_are_known_by_their_names(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_batch_is_handed_over_before_the_one_ahead_is_fetched():
    events = []

    def submit(pixels):
        number = events.count("in")
        events.append("in")
        return lambda: events.append(number)

    time_overlapped(submit, np.zeros(1), seconds=0)
    assert events == ["in", 0, "in", 1]
    events.clear()
    assert time_overlapped(submit, np.zeros(1), seconds=1e-4) > 0
    assert events[:6] == ["in", 0, "in", "in", 1, "in"]
    assert sorted(number for number in events if number != "in") == list(range(events.count("in")))
