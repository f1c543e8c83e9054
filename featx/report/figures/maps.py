"""Compute maps of images by their features: which resemble which (correlation), and where each lies (embedding)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.errors import FeatxError

KINDS = ("correlation", "covariance")


METHODS = ("pca", "tsne", "umap")
"""umap needs the package umap-learn, which featx doesn't install."""


FEWEST_ROWS = 4


_N_COMPONENTS = 50


@dataclass(frozen=True)
class Embedding:
    """Where images lie in the plane.

    Attributes
    ----------
    points : ndarray of shape (n_images, 2), float32
    explained : tuple of float, or None
        Shares of the variance that the two axes have, of PCA; other methods' axes mean nothing by themselves.
    """

    points: np.ndarray
    explained: tuple[float, float] | None = None


def sample_rows(labels: np.ndarray, most: int, *, seed: int = 0) -> np.ndarray:
    """Choose at most `most` rows, ascending, that keep the classes' shares, and one row of every class if possible.

    Examples
    --------
    >>> rows = sample_rows(np.array(["ash"] * 80 + ["birch"] * 20), 10)
    >>> len(rows), int((rows < 80).sum())
    (10, 8)
    """
    n_rows = len(labels)
    if n_rows <= most:
        return np.arange(n_rows)
    rng = np.random.default_rng(seed)
    classes, of_class = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    if len(classes) > most:
        return np.sort(rng.choice(n_rows, most, replace=False))
    quotas = _share_out(np.bincount(of_class), most)
    chosen = [
        rng.choice(np.flatnonzero(of_class == number), quota, replace=False) for number, quota in enumerate(quotas)
    ]
    return np.sort(np.concatenate(chosen))


def _share_out(counts: np.ndarray, most: int) -> np.ndarray:
    """Divide rows by the classes' shares, at least one each; whole numbers as near to the shares as possible."""
    ideal = counts * (most / counts.sum())
    quotas = np.maximum(ideal.astype(int), 1)
    while quotas.sum() > most:
        quotas[np.argmax(np.where(quotas > 1, quotas - ideal, -np.inf))] -= 1
    while quotas.sum() < most:
        quotas[np.argmax(ideal - quotas)] += 1
    return quotas


def choose_classes(classes: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return the classes that names, lists of names with commas, and ranges such as 3:7 stand for, in their order.

    A class's own name goes first, whatever is in it. A range counts the sorted classes from 0 and leaves its end out,
    as Python does; either side may be missing.

    Examples
    --------
    >>> choose_classes(["ash", "birch", "cedar", "elm"], ["1:3", "ash"])
    ['ash', 'birch', 'cedar']
    """
    names: set[str] = set()
    for text in chosen:
        for part in [text] if text in classes else map(str.strip, text.split(",")):
            names.update([part] if part in classes else _range_of(classes, part))
    return [name for name in classes if name in names]


def _range_of(classes: Sequence[str], text: str) -> Sequence[str]:
    first, colon, last = text.partition(":")
    if not colon or not all(side == "" or (side.isascii() and side.isdecimal()) for side in (first, last)):
        shown = ", ".join(classes[:8]) + (f" and {len(classes) - 8:,} more" if len(classes) > 8 else "")
        raise FeatxError(
            f"no class {text!r}; expected a range such as 0:3, or names out of {shown}", parameter="classes"
        )
    chosen = classes[int(first or 0) : int(last) if last else None]
    if not chosen:
        raise FeatxError(
            f"no class is in the range {text}; there are {len(classes):,}, counted from 0 in sorted order",
            parameter="classes",
        )
    return chosen


def correlate(X: np.ndarray, kind: str = "correlation") -> np.ndarray:
    """Compare every image with every other one: Pearson's r or the covariance over all features.

    The rows and columns of images whose features are all the same are NaN: those correlate with nothing.

    Examples
    --------
    >>> correlate(np.array([[0.0, 1, 2], [0, 2, 4], [2, 1, 0]])).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]
    """
    if kind not in KINDS:
        raise FeatxError(f"expected one of {', '.join(KINDS)}, found {kind!r}", parameter="kind")
    _check(X, fewest=1)
    if kind == "covariance":
        return np.atleast_2d(np.cov(X, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = np.atleast_2d(np.corrcoef(X, dtype=np.float64))
    # By rounding, the mean of equal numbers can differ from them.
    is_flat = X.min(axis=1) == X.max(axis=1)
    matrix[is_flat] = matrix[:, is_flat] = np.nan
    return matrix


def standardise(X: np.ndarray) -> np.ndarray:
    """Scale every feature to mean 0 and deviation 1 over the images; constant ones become 0."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit_transform(np.asarray(X, dtype=np.float32))


def embed(X: np.ndarray, method: str = "pca", *, seed: int = 0) -> Embedding:
    """Place images in the plane so that images with like features are near each other.

    Features are standardised first. t-SNE (van der Maaten and Hinton 2008) and UMAP see the 50 first principal
    components; distances between far groups, and the groups' sizes, mean little in theirs. The result is the same for
    the same input on the same machine: it takes one core.
    """
    if method not in METHODS:
        raise FeatxError(f"expected one of {', '.join(METHODS)}, found {method!r}", parameter="method")
    _check(X, fewest=FEWEST_ROWS)
    reduce_umap = _find_umap() if method == "umap" else None
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    # Sums of several threads come in no fixed order, and t-SNE makes another picture if the last bits differ.
    with threadpool_limits(1):
        Z = standardise(X)
        if not Z.any():
            raise FeatxError("embedding: all images have the same features, so that there is nothing to show")
        n_components = 2 if method == "pca" else min(_N_COMPONENTS, *Z.shape)
        # Both are exact; Arnoldi's iteration is faster for a few components of many.
        solver = "full" if min(Z.shape) <= 4 * n_components else "arpack"
        pca = PCA(n_components, svd_solver=solver, random_state=seed)
        reduced = pca.fit_transform(Z)
        if method == "pca":
            return Embedding(reduced, tuple(pca.explained_variance_ratio_.tolist()))
        if reduce_umap is not None:
            reducer = reduce_umap(n_neighbors=min(15, len(Z) - 1), random_state=seed, n_jobs=1)
            return Embedding(reducer.fit_transform(reduced))
        return Embedding(_tsne(reduced, seed))


def _tsne(reduced: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    # The size of a neighbourhood; with few images it can't be as wide.
    perplexity = min(30.0, (len(reduced) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)


def _find_umap() -> type:
    try:
        from umap import UMAP
    except ImportError as error:
        raise FeatxError(
            f"umap needs umap-learn ({error}): pip install umap-learn, or use tsne", parameter="method"
        ) from error
    return UMAP


def _check(X: np.ndarray, *, fewest: int) -> None:
    n_rows, n_features = X.shape
    if n_rows < fewest:
        raise FeatxError(f"{n_rows:,} images to compare, expected at least {fewest}: take more images")
    if n_features < 2:
        raise FeatxError(f"{n_features} feature to compare images by, expected at least 2: take other layers")
    row = first_infinite(X)
    if row is not None:
        raise FeatxError(f"the features of image {row} are not finite: leave it out")


def first_infinite(X: np.ndarray) -> int | None:
    """Return the first row with a number that is not finite; None if there is none."""
    finite = np.isfinite(X.sum(axis=1, dtype=np.float64))
    return None if finite.all() else int(np.argmin(finite))
