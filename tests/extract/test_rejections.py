"""How many images a run may reject."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featx import FeatxError, Manifest
from featx.extract.rejections import Rejections


def manifest_of(n):
    return Manifest(pd.DataFrame({"path": [f"{row}.png" for row in range(n)]}), Path("images"))


@pytest.mark.parametrize(
    ("most", "n_images", "allowed"),
    [(0, 10, 0), (3, 10, 3), (99, 10, 10), (0.0, 10, 0), (0.29, 100, 29), (0.07, 100, 7), (0.015, 100, 1), (1.0, 7, 7)],
)
def test_a_count_or_an_exact_share_is_allowed(most, n_images, allowed):
    rejections = Rejections(manifest_of(n_images), most)
    for row in range(allowed):
        rejections.add(row, "empty file")
    if allowed < n_images:
        with pytest.raises(FeatxError, match=f"^{allowed + 1} of {n_images} images can't be read, .* allows {allowed}"):
            rejections.add(allowed, "empty file")


def test_without_a_limit_any_number_is():
    rejections = Rejections(manifest_of(5), None)
    rejections.begin(dict.fromkeys(range(4), "empty file"))
    rejections.add(4, "empty file")


def test_the_first_three_are_named_by_row():
    rejections = Rejections(manifest_of(20), np.int64(3))
    rejections.begin({15: "a", 3: "b", 9: "c"})
    with pytest.raises(FeatxError, match=r"The first: images.1\.png: d; images.3\.png: b; images.9\.png: c\. What"):
        rejections.add(1, "d")


@pytest.mark.parametrize("most", [-1, 1.5, -0.1, float("nan"), True, "1%"])
def test_limits_that_cannot_be_meant_are_refused(most):
    with pytest.raises(FeatxError, match="max_rejected: expected a number of images"):
        Rejections(manifest_of(5), most)
