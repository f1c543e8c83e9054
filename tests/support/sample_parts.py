"""Settings and parts of a small store, made without a network."""

import numpy as np

from featx.store import Part, Settings

N_CHANNELS = {"block1_conv1": 4, "block1_conv2": 3}


SETTINGS = Settings(
    backbone="vgg16",
    weights="random:0",
    weights_sha256="0" * 64,
    layers=tuple(N_CHANNELS),
    pooling="avg",
    image_size=32,
    resize="squash",
    interpolation="bilinear",
    preprocessing="caffe",
    precision="float32",
    keras_backend="tensorflow",
    engine="keras",
    views="none",
    store_dtype="float32",
    jpeg="full",
    icc="ignore",
)


SOURCE = {"root": "/a", "n_images": 20, "paths_sha256": "paths"}


def part_of(start, stop, rejected=()):
    rows = np.array([row for row in range(start, stop) if row not in rejected], dtype=np.int64)
    return Part(
        start=start,
        stop=stop,
        rows=rows,
        sha256=np.array([f"{row:064d}" for row in rows], dtype="S64"),
        own=np.ones(len(rows), dtype=bool),
        features={layer: rows[:, None] + np.arange(n, dtype=np.float32) for layer, n in N_CHANNELS.items()},
        rejected=dict.fromkeys(rejected, "broken"),
    )
