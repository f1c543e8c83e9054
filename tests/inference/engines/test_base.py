"""Which engine runs a network, and how many images it is given at once."""

import pytest

from featx import FeatxError
from featx.inference import build_network
from featx.system import available_cores

SMALL = {"layers": "block1_conv1", "weights": "random", "image_size": 32}


def test_ncnn_is_for_float32_alone():
    pytest.importorskip("ncnn")
    assert build_network(**SMALL).engine.name == "ncnn"
    for precision in ("float16", "bfloat16"):
        assert build_network(**SMALL, precision=precision).engine.name == "keras"
        with pytest.raises(FeatxError, match=f"float32 only, not in {precision}"):
            build_network(**SMALL, precision=precision, engine="ncnn")


def test_an_engine_with_an_image_a_core_gets_one_for_each(monkeypatch):
    pytest.importorskip("ncnn")
    assert build_network(**SMALL, engine="ncnn", batch_size="auto").batch_size == max(8, available_cores())
    monkeypatch.setattr("featx.inference.engines.base.available_cores", lambda: 24)
    assert build_network(**SMALL, engine="ncnn", batch_size="auto").batch_size == 24
    assert build_network(**SMALL, engine="ncnn", batch_size=3).batch_size == 3
