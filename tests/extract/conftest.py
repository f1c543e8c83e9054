"""Stores to damage."""

import shutil
from pathlib import Path

import pytest
from sample_parts import SETTINGS, SOURCE, part_of

from featx.store import PartialStore


@pytest.fixture
def store(chunked, tmp_path):
    return Path(shutil.copy(chunked, tmp_path / "store.h5"))


@pytest.fixture
def unfinished(tmp_path):
    folder = PartialStore(tmp_path / "store.h5")
    with folder.lock():
        folder.begin(SETTINGS, SOURCE)
        for start in (0, 8, 16):
            folder.write(part_of(start, start + 8, rejected=[start + 3]))
    return folder
