"""Tiny generated images, a small network's settings, and a recipe, for tests of every package."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

# The reference engine, whose batches have one shape: the harder case for the code around it.
SMALL = {"weights": "random", "image_size": 32, "batch_size": 4, "engine": "keras"}


def make_image(path: Path, seed: int, size: tuple[int, int] = (40, 30), shade: int = 0) -> Path:
    """Write a noisy picture; `shade` makes classes that a classifier can tell apart."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (size[1], size[0], 3)) + shade
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def make_tree(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    """Write a folder a class, so many images in each."""
    for row, (name, n_images) in enumerate(classes.items()):
        for i in range(n_images):
            make_image(root / name / f"{i:03d}.png", seed=seed + 1000 * row + i, shade=60 * row)
    return root


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the norm of the difference, relative to that of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def run_featx(*arguments: object, **options: object) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "featx", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


def small_recipe(path: Path, **parts: object) -> Path:
    """Write a recipe for the first three blocks of VGG16: two stages of two epochs."""
    from featx.networks.recipes import Recipe, Stage, write_recipe
    from featx.networks.recipes.schema import AveragePool, Dense

    recipe = Recipe(
        **{
            "name": "small",
            "description": "small",
            "follows": "nobody",
            "backbones": ("vgg16",),
            "from_layer": "block3_pool",
            "head": (AveragePool(), Dense(8)),
            "stages": (
                Stage("head", epochs=2, batch_size=4),
                Stage("block3", unfreeze=("block3",), epochs=2, batch_size=4, learning_rate=1e-5),
            ),
        }
        | parts
    )
    write_recipe(recipe, path)
    return path
