"""Maps of images by their features: against the plain way, the same every time."""

import importlib.util

import numpy as np
import pytest
from plain_stores import grouped_features
from scipy.stats import pearsonr

from featx import FeatxError
from featx.report.figures.maps import choose_classes, correlate, embed, sample_rows, standardise

TREES = ["ash", "birch", "cedar", "elm", "fir", "3:5", "a,b"]


def test_a_sample_keeps_shares_and_every_class():
    labels = np.array(["ash"] * 600 + ["birch"] * 300 + ["cedar"] * 99 + ["elm"])
    rng = np.random.default_rng(0)
    labels = rng.permutation(labels)
    rows = sample_rows(labels, 100, seed=3)
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()
    counts = dict(zip(*np.unique(labels[rows], return_counts=True), strict=True))
    assert counts["elm"] == 1
    assert abs(counts["ash"] - 60) <= 1
    assert abs(counts["birch"] - 30) <= 1
    assert abs(counts["cedar"] - 10) <= 1
    assert sample_rows(labels, 100, seed=3).tolist() == rows.tolist()
    assert sample_rows(labels, 100, seed=4).tolist() != rows.tolist()


@pytest.mark.parametrize("most", [5, 6, 7, 12, 50])
def test_a_sample_is_as_large_as_asked(most):
    labels = np.array(list("aaaaaaaaabbbbbcd") * 2)
    rows = sample_rows(labels, most)
    assert len(rows) == len(set(rows.tolist())) == min(most, len(labels))
    if most >= 4:
        assert set(labels[rows]) == set("abcd")


def test_a_sample_of_fewer_rows_than_classes():
    rows = sample_rows(np.array([str(number) for number in range(30)]), 8)
    assert len(set(rows.tolist())) == 8


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["1:3"], ["birch", "cedar"]),
        ([":2"], ["ash", "birch"]),
        (["4:"], ["fir", "3:5", "a,b"]),
        (["fir, ash"], ["ash", "fir"]),
        (["elm", "0:1"], ["ash", "elm"]),
        # A class's own name is that class, whatever it looks like.
        (["3:5"], ["3:5"]),
        (["a,b"], ["a,b"]),
    ],
)
def test_classes_by_name_and_range(wanted, expected):
    assert choose_classes(TREES, wanted) == expected


@pytest.mark.parametrize("wanted", ["oak", "7:9", "3:1", "-2:", "a:b", "", "1:2:3", "²:"])
def test_classes_that_are_not_there(wanted):
    with pytest.raises(FeatxError, match=r"^classes: no class "):
        choose_classes(TREES, [wanted])


def test_correlation_is_pearsons():
    X = np.random.default_rng(0).exponential(size=(9, 30)).astype(np.float32)
    matrix = correlate(X)
    expected = [[pearsonr(a.astype(float), b.astype(float)).statistic for b in X] for a in X]
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    covariance = correlate(X, "covariance")
    centred = X - X.mean(axis=1, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(covariance, centred @ centred.T / 29, rtol=1e-9)


def test_an_image_whose_features_are_all_the_same_correlates_with_nothing():
    X = np.random.default_rng(0).normal(size=(4, 51)).astype(np.float32)
    X[2] = 0.1
    matrix = correlate(X)
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[:, 2]).all()
    others = np.ix_([0, 1, 3], [0, 1, 3])
    np.testing.assert_allclose(matrix[others], correlate(X[[0, 1, 3]]))
    assert correlate(X, "covariance")[2, 0] == pytest.approx(0, abs=1e-9)


def test_one_image_is_a_matrix_too():
    assert correlate(np.array([[1.0, 2.0, 4.0]])).tolist() == [[1.0]]


def test_pca_is_the_singular_value_decomposition_of_standardised_features():
    X = np.random.default_rng(1).normal(size=(300, 20)) @ np.random.default_rng(2).normal(size=(20, 20)) + 5
    X[:, 3] = 7
    X = X.astype(np.float32)
    found = embed(X)
    deviation = X.std(axis=0, dtype=np.float64)
    Z = (X - X.mean(axis=0, dtype=np.float64)) / np.where(deviation > 1e-5, deviation, 1)
    U, s, _ = np.linalg.svd(Z, full_matrices=False)
    expected = U[:, :2] * s[:2]
    for axis in range(2):
        sign = np.sign(found.points[:, axis] @ expected[:, axis])
        np.testing.assert_allclose(sign * found.points[:, axis], expected[:, axis], atol=2e-3)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:2], rtol=1e-4)


def test_features_on_any_scale_count_the_same():
    X = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    scaled = X * np.array([1, 1000, 1e-3, 5, 7, 100], np.float32)
    np.testing.assert_allclose(embed(X).points, embed(scaled).points, atol=1e-3)
    assert np.abs(standardise(scaled).std(axis=0) - 1).max() < 1e-4


def test_tsne_keeps_groups_together_and_is_the_same_every_time():
    labels = np.repeat(["ash", "birch", "cedar"], 30)
    X = grouped_features(labels.tolist(), 60).astype(np.float32)
    found = embed(X, "tsne", seed=1)
    assert found.explained is None
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert np.array_equal(embed(X, "tsne", seed=1).points, found.points)


@pytest.mark.parametrize("n_rows", [4, 5, 12])
def test_tsne_of_few_images(n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 7)).astype(np.float32)
    points = embed(X, "tsne").points
    assert points.shape == (n_rows, 2)
    assert np.isfinite(points).all()


def test_what_can_not_be_compared():
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    with pytest.raises(FeatxError, match="3 images to compare, expected at least 4"):
        embed(X[:3])
    with pytest.raises(FeatxError, match="1 feature to compare images by"):
        correlate(X[:, :1])
    with pytest.raises(FeatxError, match="all images have the same"):
        embed(np.ones((9, 3), np.float32))
    with pytest.raises(FeatxError, match="kind: expected one of correlation, covariance, found 'cosine'"):
        correlate(X, "cosine")
    with pytest.raises(FeatxError, match="method: expected one of pca, tsne, umap, found 'lda'"):
        embed(X, "lda")
    X[4, 1] = np.nan
    with pytest.raises(FeatxError, match="image 4 are not finite"):
        correlate(X)


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_names_what_it_needs():
    with pytest.raises(FeatxError, match="pip install umap-learn"):
        embed(np.eye(5, dtype=np.float32), "umap")


@pytest.mark.skipif(
    importlib.util.find_spec("umap") is None, reason="umap-learn is not installed: pip install umap-learn"
)
def test_umap_keeps_groups_together_and_is_the_same_every_time():
    labels = np.repeat(["ash", "birch", "cedar"], 40)
    X = grouped_features(labels.tolist(), 30).astype(np.float32)
    points = embed(X, "umap", seed=1).points
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert np.array_equal(embed(X, "umap", seed=1).points, points)
