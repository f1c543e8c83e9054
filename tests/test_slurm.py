"""The batch files of pipelines/slurm, submitted to a real Slurm of one node."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import SMALL, make_image, make_tree
from stub_network import DELAY, stand_in

import featx

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
BATCH_FILES = ROOT / "pipelines" / "slurm"
OPTIONS = {"layers": "all", "weights": "random", "image_size": 32, "batch_size": 2}
SPLIT = (0.5, 0.25, 0.25)
# The same on the command line.
EXTRACT = "--layers all --weights random --image-size 32 --batch-size 2 --split 0.5,0.25,0.25".split()
FIT = "--n-estimators 2,5,10 --min-samples-leaf 1,2 --seed 3".split()

# The featx of jobs: what `activate` would put on the PATH. A task that was put back into the queue isn't slow again.
FEATX = """\
#!/bin/sh
echo "gpu ${{CUDA_VISIBLE_DEVICES:-none}}, restarts ${{SLURM_RESTART_COUNT:-0}}"
if [ -n "$SLURM_RESTART_COUNT" ]; then unset {delay}; fi
exec {python} {program} "$@"
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """24 images of three classes, one of which can't be read."""
    root = make_tree(tmp_path_factory.mktemp("photos"), {"ash": 9, "birch": 8, "cedar": 7})
    (root / "birch" / "003.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    """The store of all images that no job had a part in."""
    path = tmp_path_factory.mktemp("undisturbed") / "whole.h5"
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        featx.extract_features(featx.make_splits(featx.read_source(photos), SPLIT), path, **OPTIONS)
    return path


@pytest.fixture
def work(slurm, tmp_path):
    """A folder to submit from."""
    return Work(slurm, tmp_path, put_featx(tmp_path / "bin", Path(__file__).with_name("stub_network.py")))


def put_featx(folder, program):
    folder.mkdir(exist_ok=True)
    path = folder / "featx"
    path.write_text(FEATX.format(delay=DELAY, python=sys.executable, program=program))
    path.chmod(0o755)
    return folder


class Work:
    """A folder to submit from, with a featx of its own on the PATH."""

    def __init__(self, slurm, folder, bin_folder):
        self.slurm = slurm
        self.folder = folder
        self.variables = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SHARDS": "3"}

    def submit(self, script, *arguments, options=(), **variables):
        return self.slurm.submit(
            *options, BATCH_FILES / script, *arguments, cwd=self.folder, **self.variables, **variables
        )

    def extract(self, photos, *further, tasks="1-3", options=(), **variables):
        arguments = [photos, "-o", "store.h5", *EXTRACT, *further]
        return self.submit("extract-array.sh", *arguments, options=[f"--array={tasks}", *options], **variables)

    def featx(self, *arguments):
        """Run featx here, as on a login node."""
        command = ["featx", *map(str, arguments)]
        environment = {**os.environ, **self.variables}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=self.folder, env=environment
        )

    def logs(self, job):
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"*-{job}*.log")))

    @property
    def store(self):
        return self.folder / "store.h5"


def assert_same(path, other):
    with featx.open(path) as one, featx.open(other) as two:
        assert one.layers == two.layers
        assert np.array_equal(one.matrix(), two.matrix())
        assert one.images.equals(two.images)
        assert one.rejected.equals(two.rejected)
        assert len(one.rejected) == 1


def done_images(folder):
    """Images that are in finished parts."""
    return sorted(folder.glob("*.parts/*.npy"))


def test_an_array_and_a_dependent_job_make_the_store_of_one_extraction(work, photos, undisturbed):
    array = work.extract(photos)
    merge = work.submit("merge.sh", "store.h5", options=[f"--dependency=afterok:{array}"])
    assert work.slurm.wait(array, merge) == ["COMPLETED"] * 4
    assert_same(work.store, undisturbed)
    assert "24 images" not in work.logs(merge)
    assert not list(work.folder.glob("store.shard*"))
