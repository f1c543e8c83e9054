"""The record of what features depend on: old records keep their digests, and differences are named."""

from dataclasses import asdict, replace
from pathlib import Path

import featx
from featx.store import Settings

DATA = Path(__file__).parents[1] / "data"

PLAIN = Settings(
    backbone="vgg16",
    weights="random:0",
    weights_sha256="0" * 64,
    layers=("block1_conv1", "fc1"),
    pooling="avg",
    image_size=224,
    resize="squash",
    interpolation="bilinear",
    preprocessing="caffe",
    precision="float32",
    keras_backend="tensorflow",
)


def test_a_store_of_the_first_featx_still_has_its_digest():
    with featx.open(DATA / "store_v1.h5") as store:
        found = store.attributes
    names = [name for name in asdict(PLAIN) if name in found]
    settings = Settings(**{name: found[name] for name in names} | {"layers": tuple(found["layers"])})
    assert "engine" not in found
    assert settings.sha256 == found["settings_sha256"]


def test_every_setting_changes_the_digest():
    changed = {name: 1 if name == "image_size" else "x" for name in asdict(PLAIN)} | {"layers": ("fc1",)}
    digests = {replace(PLAIN, **{name: value}).sha256 for name, value in changed.items()}
    assert len(digests | {PLAIN.sha256}) == len(changed) + 1


def test_changes_are_named_with_both_values():
    record = asdict(PLAIN) | {"layers": ["block1_conv1", "fc1"]}
    assert PLAIN.changes_from(record) == []
    assert replace(PLAIN, resize="crop").changes_from(record) == ["resize 'squash', now 'crop'"]
    del record["engine"]
    assert PLAIN.changes_from(record) == []
    assert replace(PLAIN, engine="ncnn").changes_from(record) == ["engine 'keras', now 'ncnn'"]
