"""Keras on other backends than the first: its features, its precisions, its training."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sample_engines import SMALL, pixels_of, tolerance
from samples import relative_error, small_recipe

from featx.inference import build_network
from featx.networks.recipes import Stage
from featx.networks.recipes.schema import AveragePool, Dense, Dropout

DEEP = {"layers": "block1_conv2,block3_conv3,fc2", "weights": "random", "image_size": 32, "batch_size": 4}

# All in one process: a backend is slow to load, and slower to make its first networks.
SCRIPT = """
import json, sys
from pytest import MonkeyPatch
backend, tests, store, recipe, run = sys.argv[1:]
sys.path[:0] = [tests, tests + "/../support"]
from sample_engines import SMALL, pixels_of, pretend_gpu
from test_other_backends import DEEP
from featx.inference import build_network
found = {"deep": build_network(**DEEP)(pixels_of(3))}
for precision in ("float16", "bfloat16"):
    found[precision] = build_network(**SMALL, batch_size=4, precision=precision)(pixels_of(4))
versions = {}
if backend == "jax":
    from featx.finetune import fine_tune
    versions = fine_tune(store, recipe, run, seed=2**32 - 1, engine="keras").versions
    # Last, as it stays.
    pretend_gpu(MonkeyPatch())
    found["float32"] = build_network(**SMALL, batch_size="auto")(pixels_of(4))
features = {name: {layer: v.tolist() for layer, v in values.items()} for name, values in found.items()}
print(json.dumps({"features": features, "versions": versions}))
"""


@pytest.fixture(scope="module", params=["jax", "torch"])
def answers(request, tuned_store, tmp_path_factory):
    """What a process on another backend found, with the backend's name and the folder of its run."""
    backend = request.param
    pytest.importorskip(backend, reason=f"pip install 'featx[{backend}]' to test Keras on {backend}")
    folder = tmp_path_factory.mktemp(backend)
    head = (AveragePool(), Dense(4), Dropout(0.5))
    stages = (Stage("block2", unfreeze=("block2",), epochs=2, batch_size=8, backbone_rate=0.1),)
    recipe = small_recipe(folder / "r.yaml", from_layer="block2_pool", head=head, stages=stages)
    arguments = [backend, Path(__file__).parent, tuned_store, recipe, folder / "run"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend, "FEATX_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"backend": backend, "run": folder / "run"}


@pytest.mark.slow
def test_features_are_the_same(answers):
    found = answers["features"]["deep"]
    for layer, values in build_network(**DEEP)(pixels_of(3)).items():
        assert relative_error(np.array(found[layer]), values) < 1e-5


@pytest.mark.slow
def test_they_have_the_precisions_too(answers):
    reference = build_network(**SMALL, batch_size=4)(pixels_of(4))
    found = {precision: features for precision, features in answers["features"].items() if precision != "deep"}
    assert len(found) == 2 + (answers["backend"] == "jax")
    for precision, features in found.items():
        limit = 1e-5 if precision == "float32" else tolerance(precision)
        assert list(features) == list(reference)
        for name, values in features.items():
            assert relative_error(np.array(values), reference[name]) < limit, (precision, name)


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["jax"], indirect=True)
def test_jax_trains_too(answers):
    assert answers["versions"]["keras"].endswith("on jax")
    # Dropout's draws are each backend's own.
    curves = pd.read_csv(answers["run"] / "curves.csv")
    assert len(curves) == 2
    assert np.isfinite(curves[["loss", "accuracy", "val_loss", "val_accuracy"]].to_numpy()).all()
