"""A store on one screen."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import featx
from featx.store import format_summary, summarize_store

DATA = Path(__file__).parents[1] / "data"


def test_one_screen_says_what_is_in_a_store(small_store):
    with featx.open(small_store) as store:
        description = summarize_store(store)
    json.dumps(description)
    text = format_summary(description)
    assert len(text.splitlines()) < 25
    assert "30 images x 12,416 features" in text
    assert "vgg16, weights random:0" in text
    assert "block1_conv1 64" in text
    assert "fc2 4096" in text
    assert "rejected   0" in text


def test_rejected_files_are_listed_with_their_reasons():
    with featx.open(DATA / "store_v1.h5") as store:
        text = format_summary(summarize_store(store))
    assert "rejected   1\n           empty.png: empty file" in text
    assert "train      3 images: ash 1, birch 1, cedar 1" in text


def test_where_all_rejected_files_are_listed_is_told():
    with featx.open(DATA / "store_v1.h5") as store:
        description = summarize_store(store)
    text = format_summary(description | {"rejected": description["rejected"] * 13})
    assert text.endswith("... and 3 more in /rejected: --json lists them")


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb.png", "a b.png"), ("\x1b[31mred.png", r"\x1b[31mred.png"), ("ünï.png", "ünï.png")]
)
def test_names_of_strangers_cannot_steer_the_screen(tmp_path, name, shown):
    path = tmp_path / "s.h5"
    path.write_bytes((DATA / "store_v1.h5").read_bytes())
    with h5py.File(path, "a") as file:
        del file["rejected/path"]
        file["rejected/path"] = np.array([name.encode()], dtype=h5py.string_dtype("utf-8", 20))
    with featx.open(path) as store:
        assert f"\n           {shown}: empty file" in format_summary(summarize_store(store))


def test_a_store_says_what_ran_the_network(small_store):
    with featx.open(small_store) as store:
        assert re.search(r"; engine keras 3\..*, [\d,]+\.\d images/s\n", format_summary(summarize_store(store)))


def test_a_store_says_how_its_pictures_were_read(small_store):
    with featx.open(small_store) as store:
        assert ", JPEGs: full, ICC profiles: convert; from " in format_summary(summarize_store(store))
