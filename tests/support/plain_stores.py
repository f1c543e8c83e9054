"""Stores of known features and tiny real images, without a network."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from sample_parts import SETTINGS
from samples import make_image

from featx.store import Part, Settings, write_store


def write_plain_store(
    path: Path,
    features: dict[str, np.ndarray],
    labels: list[str],
    *,
    splits: list[str] | None = None,
    columns: dict[str, list] | None = None,
    pictures: list[int] | None = None,
    **changes: object,
) -> Path:
    """Write a store; its images lie below `images` next to it. `changes` are of its settings.

    Images of the same number in `pictures` are identical; without it, each is of its own.
    """
    n_images = len(labels)
    paths = [f"images/{row:03d}.png" for row in range(n_images)]
    seeds = range(n_images) if pictures is None else pictures
    files = [make_image(path.parent / name, seed=seed, size=(8, 6)) for name, seed in zip(paths, seeds, strict=True)]
    part = Part(
        start=0,
        stop=n_images,
        rows=np.arange(n_images),
        sha256=np.array([hashlib.sha256(file.read_bytes()).hexdigest() for file in files], dtype="S64"),
        own=np.ones(n_images, dtype=bool),
        features={layer: values.astype(np.float32) for layer, values in features.items()},
        rejected={},
    )
    table = {"path": paths, "label": labels, "split": splits or [""] * n_images}
    further = {name: pd.Series(values) for name, values in (columns or {}).items()}
    write_store(
        path,
        settings=Settings(**vars(SETTINGS) | {"layers": tuple(features)} | changes),
        table=pd.DataFrame(table, dtype=object).assign(**further),
        root=path.parent,
        parts=[part],
        n_channels={layer: values.shape[1] for layer, values in features.items()},
        provenance={},
    )
    return path


def grouped_features(labels: list[str], n_features: int = 12, *, seed: int = 0) -> np.ndarray:
    """Draw features that lie round a place of their class; like those of a network, they are 0 or more."""
    rng = np.random.default_rng(seed)
    names = sorted(set(labels))
    places = rng.uniform(0, 3, (len(names), n_features))
    rows = [names.index(label) for label in labels]
    return np.maximum(places[rows] + rng.normal(0, 0.3, (len(labels), n_features)), 0)


def write_overlapping_store(path: Path, **options: object) -> Path:
    """Write 100 images of two classes that overlap, of two types, with a weight each and two layers, without splits."""
    rng = np.random.default_rng(0)
    labels = np.array(["ash", "birch"])[np.arange(100) % 2]
    features = grouped_features(labels.tolist(), 32)
    features = np.maximum(features + rng.normal(0, 1.5, features.shape), 0).reshape(100, 2, 2, 8)
    labels = np.where(rng.random(100) < 0.3, rng.permutation(labels), labels).tolist()
    layers = {f"block{1 + b}_conv{1 + c}": features[:, b, c] for b in range(2) for c in range(2)}
    columns = {
        "type": np.where(np.arange(100) % 4 == 0, "mono", "poly").tolist(),
        "weight": np.where(np.arange(100) % 3 == 0, 0.33, 1.0).tolist(),
    }
    return write_plain_store(path, layers, labels, columns=columns, **options)
