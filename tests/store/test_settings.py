"""The settings that features depend on: their digest, and differences from a record."""

from dataclasses import asdict, replace
from pathlib import Path

from sample_parts import SETTINGS

import featx
from featx.store import Settings

DATA = Path(__file__).parents[1] / "data"
PLAIN = replace(SETTINGS, layers=("block1_conv1", "fc1"))


def test_the_digest_of_settings_stays_the_same():
    with featx.open(DATA / "store_v1.h5") as store:
        attributes = store.attributes
    assert Settings.from_record(attributes).sha256 == attributes["settings_sha256"]
    # Every store and run on disk has such digests.
    assert PLAIN.sha256 == "dae3a71307ba0f210c0aeebc58857aa8026b89ac718d954b1cf73612566cbd1c"


def test_every_setting_changes_the_digest():
    changed = {name: 1 if name == "image_size" else "x" for name in asdict(PLAIN)} | {"layers": ("fc1",)}
    digests = {replace(PLAIN, **{name: value}).sha256 for name, value in changed.items()}
    assert len(digests | {PLAIN.sha256}) == len(changed) + 1


def test_changes_are_named_with_both_values():
    record = asdict(PLAIN) | {"layers": ["block1_conv1", "fc1"]}
    assert PLAIN.changes_from(record) == []
    assert replace(PLAIN, resize="crop").changes_from(record) == ["resize 'squash', now 'crop'"]
    assert replace(PLAIN, engine="ncnn").changes_from(record) == ["engine 'keras', now 'ncnn'"]
