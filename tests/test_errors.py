"""Errors of featx are also the errors that Python programs expect, and travel between processes."""

import pickle

import pytest

import featx
from featx import FeatxError
from featx.errors import MissingStoreError, UnknownLayerError, WriteError
from featx.networks import BACKBONES, choose_layers, load_weights
from featx.results import read_run
from featx.store import Store
from featx.system import whole_file


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    missing = tmp_path / "missing"
    spec = BACKBONES["vgg16"]
    for read in (
        featx.read_source,
        Store,
        read_run,
        lambda path: load_weights(str(path), spec, build=print, include_top=False),
    ):
        with pytest.raises(FileNotFoundError, match="missing") as raised:
            read(missing)
        assert isinstance(raised.value, FeatxError)
        assert str(raised.value) == raised.value.text


def test_an_unknown_layer_is_a_key_error():
    with pytest.raises(KeyError) as raised:
        choose_layers("block9", BACKBONES["vgg16"], ["block1_conv1"])
    assert isinstance(raised.value, FeatxError)
    # A KeyError of Python shows its text in quotes.
    assert str(raised.value).startswith("vgg16 has no layer 'block9'")


def test_a_file_that_can_not_be_written_is_an_os_error_with_its_reason(tmp_path):
    with pytest.raises(OSError, match="writing failed") as raised, whole_file(tmp_path / "nowhere" / "file"):
        pass
    assert isinstance(raised.value, WriteError)
    assert raised.value.strerror == "No such file or directory"


@pytest.mark.parametrize("kind", [FeatxError, MissingStoreError, UnknownLayerError, WriteError])
def test_errors_come_back_from_other_processes(kind):
    again = pickle.loads(pickle.dumps(kind("a text", parameter="cv")))  # noqa: S301
    assert (type(again), str(again), again.parameter) == (kind, "cv: a text", "cv")
