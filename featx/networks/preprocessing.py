"""Turn RGB pixels into the input that published weights expect."""

from collections.abc import Callable
from types import ModuleType

import numpy as np

PREPROCESSINGS = {
    "caffe": "BGR, minus the ImageNet mean (103.939, 116.779, 123.68), not scaled",
    "torch": "RGB, scaled to 0..1, minus the ImageNet mean, divided by its deviation",
    "tf": "RGB, scaled to -1..1",
    "none": "RGB, 0..255",
    "caffe-googlenet": "BGR, minus the rounded mean (104, 117, 123) of Caffe's GoogLeNet, not scaled",
}

BGR = ("caffe", "caffe-googlenet")
"""Those that turn RGB into BGR."""


def preprocess(
    ops: ModuleType, pixels: object, mode: str, *, constant: Callable[[np.ndarray], object] = np.asarray
) -> object:
    """Turn RGB pixels into the input that weights expect, as keras.applications or Caffe does.

    Parameters
    ----------
    ops : module
        keras.ops or numpy: the library of the pixels' array.
    pixels : tensor of shape (n, height, width, 3), float32
        RGB, 0..255.
    mode : str
        One of `PREPROCESSINGS`.
    constant : callable, optional
        Turns an array into a constant of the network, for networks that need constants of their own kind.

    Examples
    --------
    >>> preprocess(np, np.full((1, 1, 1, 3), 255, np.float32), "tf").ravel().tolist()
    [1.0, 1.0, 1.0]
    """
    if mode == "caffe":
        return ops.flip(pixels, axis=-1) - constant(np.array([103.939, 116.779, 123.68], dtype=np.float32))
    if mode == "caffe-googlenet":
        return ops.flip(pixels, axis=-1) - constant(np.array([104, 117, 123], dtype=np.float32))
    if mode == "torch":
        mean = constant(np.array([0.485, 0.456, 0.406], dtype=np.float32))
        return (pixels / 255.0 - mean) / constant(np.array([0.229, 0.224, 0.225], dtype=np.float32))
    if mode == "tf":
        return pixels / 127.5 - 1.0
    return pixels
