"""The batch files of pipelines/slurm, submitted to a real Slurm of one node."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from samples import make_tree
from stub_network import DELAY, NOTES, stand_in

import featx

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BATCH_FILES = ROOT / "pipelines" / "slurm"
OPTIONS = {"layers": "all", "weights": "random", "image_size": 32, "batch_size": 2}
GRID = {"n_estimators": [2, 5], "min_samples_leaf": [1, 2]}
SPLIT = (0.5, 0.25, 0.25)
# The same on the command line.
EXTRACT_OPTIONS = "--layers all --weights random --image-size 32 --batch-size 2 --split 0.5,0.25,0.25"

# The featx of jobs: what `activate` would put on the PATH. Of an array's tasks only the second is slow, if any, and
# only until it is started again; it alone writes notes.
FEATX = """\
#!/bin/sh
echo "gpu ${{CUDA_VISIBLE_DEVICES:-none}}, restarts ${{SLURM_RESTART_COUNT:-0}}"
if [ -n "$SLURM_RESTART_COUNT" ] || [ "${{SLURM_ARRAY_TASK_ID:-2}}" != 2 ]; then unset {delay} {notes}; fi
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


class Work:
    """A folder to submit from, with the featx of tests/support/stub_network.py on the PATH."""

    def __init__(self, slurm, folder):
        self.slurm, self.folder = slurm, folder
        self.store = folder / "store.h5"
        featx_path = folder / "bin" / "featx"
        featx_path.parent.mkdir()
        program = ROOT / "tests" / "support" / "stub_network.py"
        featx_path.write_text(FEATX.format(delay=DELAY, notes=NOTES, python=sys.executable, program=program))
        featx_path.chmod(0o755)
        path = f"{featx_path.parent}:{os.environ['PATH']}"
        self.variables = {"PATH": path, "PYTHONPATH": str(ROOT), "SHARDS": "3", "FIT_SHARDS": "2"}

    def submit(self, sbatch, script, arguments, **variables):
        """Submit a batch file: what sbatch takes, the file, what that takes."""
        variables = self.variables | variables
        return self.slurm.submit(*sbatch, BATCH_FILES / script, *arguments, cwd=self.folder, **variables)

    def extract(self, photos, *further, sbatch=("--array=1-3",), **variables):
        return self.submit(
            sbatch, "extract-array.sh", [photos, "-o", "store.h5", *EXTRACT_OPTIONS.split(), *further], **variables
        )

    def merge(self, *, after):
        return self.submit([f"--dependency=afterok:{after}"], "merge.sh", ["store.h5"])

    def call(self, *command, **variables):
        """Run a command here, as on a login node."""
        environment = {**os.environ, **self.slurm.environment, **self.variables, **variables}
        return subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.folder,
            env=environment,
        )

    def log(self, job):
        """Return what a job, or an array's tasks, have printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"*-{job}*.log")))


@pytest.fixture(scope="module")
def near_its_limit(slurm, photos, tmp_path_factory):
    """A job whose time is over soon: the first of all, since Slurm looks at time limits every half minute."""
    work = Work(slurm, tmp_path_factory.mktemp("limit"))
    # As soon as that, since a minute's time limit is less than the two minutes before it.
    gpus = ["--gres=gpu:1"] if slurm.n_gpus else []
    job = work.extract(photos, sbatch=["--array=1-2", "--time=1", *gpus], SHARDS="2", **{DELAY: "8"})
    return work, job


@pytest.fixture
def work(slurm, near_its_limit, tmp_path):
    return Work(slurm, tmp_path)


def assert_same(path, other):
    with featx.open(path) as one, featx.open(other) as two:
        assert one.layers == two.layers
        assert np.array_equal(one.matrix(), two.matrix())
        assert one.images.equals(two.images)
        assert one.rejected.equals(two.rejected)


def submit_everything(work, photos, extract_options):
    """Return the numbers of the four jobs from images to a run."""
    variables = {"SOURCE": str(photos), "STORE": "store.h5", "RUN": "run", "EXTRACT_OPTIONS": extract_options}
    variables |= {"CLASSIFIER": "rf", "FIT_OPTIONS": "--n-estimators 2,5 --min-samples-leaf 1,2 --seed 3"}
    submitted = work.call("bash", BATCH_FILES / "submit.sh", **variables)
    return re.fullmatch(r"extract (\d+), merge (\d+), cells (\d+), fit (\d+)\n", submitted.stdout).groups()


def test_arrays_and_dependent_jobs_make_the_store_and_the_run_of_one_process(work, photos, undisturbed):
    jobs = submit_everything(work, photos, EXTRACT_OPTIONS)
    featx.fit_grid(undisturbed, "rf", work.folder / "expected", grid=GRID, seed=3)
    assert work.slurm.wait(*jobs) == ["COMPLETED"] * 7
    _, merge, cells, _ = map(work.log, jobs)
    assert "store.h5: 23 images of 3 shards, 308 features, 1 rejected" in merge
    assert_same(work.store, undisturbed)
    assert re.findall(r"(\d+) scores of shard (\d)/2", cells) == [("2", "1"), ("2", "2")]
    for name in ("predictions.csv", "confusion.csv", "per_class.csv"):
        assert (work.folder / "run" / name).read_bytes() == (work.folder / "expected" / name).read_bytes()
    found, expected = (pd.read_csv(work.folder / name / "cells.csv") for name in ("run", "expected"))
    pd.testing.assert_frame_equal(found.drop(columns="seconds"), expected.drop(columns="seconds"))


def test_a_cancelled_job_goes_on_from_its_parts_when_it_is_submitted_again(work, photos, undisturbed):
    notes = work.folder / "notes"
    array = work.extract(photos, **{DELAY: "1.5", NOTES: str(notes)})
    work.slurm.wait_until(lambda: notes.exists() and "done" in notes.read_text())
    work.slurm.call("scancel", f"{array}_2")
    assert sorted(work.slurm.wait(array)) == ["CANCELLED", "COMPLETED", "COMPLETED"]
    stopped = re.search(r"stopped: (\d) of 8 images are done and kept in (.*). Run", work.log(array))
    n_done = int(stopped[1])
    assert 0 < n_done < 8
    assert (work.folder / stopped[2]).is_dir()
    # Merging says which shards to wait for.
    assert "featx extract ... --shard 2/3" in work.call("featx", "merge", "store.h5").stderr

    again = work.extract(photos, sbatch=["--array=2"])
    merge = work.merge(after=again)
    assert work.slurm.wait(again, merge) == ["COMPLETED"] * 2
    assert f"resuming: {n_done} of 8 images were done before" in work.log(again)
    assert_same(work.store, undisturbed)


def test_a_task_that_fails_keeps_all_that_follows_from_running(work, photos):
    extract, *others = submit_everything(work, photos, f"{EXTRACT_OPTIONS} --max-rejected 0")
    assert sorted(work.slurm.wait(extract)) == ["COMPLETED", "COMPLETED", "FAILED"]
    assert work.slurm.states(f"{extract}_2") == ["FAILED"]
    assert "birch/003.png" in work.log(extract)
    assert set(work.slurm.wait(*others)) == {"CANCELLED"}
    assert work.slurm.tasks(others[0])[0]["Reason"] == "DependencyNeverSatisfied"
    lacking = work.call("featx", "merge", "store.h5")
    assert lacking.returncode == 1
    assert "--shard 2/3" in lacking.stderr
    assert not work.store.exists()


def test_time_that_is_over_too_often_is_a_failure(work, photos):
    notes = work.folder / "notes"
    array = work.extract(photos, sbatch=["--array=2"], RESTARTS="0", **{DELAY: "2", NOTES: str(notes)})
    work.slurm.wait_until(lambda: notes.exists() and "begun" in notes.read_text())
    # What Slurm does near a time limit.
    work.slurm.call("scancel", "--batch", "--signal=USR1", array)
    assert work.slurm.wait(array) == ["FAILED"]
    assert work.slurm.tasks(array)[0]["ExitCode"] == "143:0"
    assert "stopped: " in work.log(array)


def test_a_task_whose_time_is_over_goes_on_when_slurm_starts_it_again(near_its_limit, undisturbed):
    work, array = near_its_limit
    assert work.slurm.wait(array) == ["COMPLETED"] * 2
    restarts = {task["ArrayTaskId"]: int(task["Restarts"]) for task in work.slurm.tasks(array)}
    # The other task has the same time limit, but is through by then: nothing is done twice.
    assert restarts["1"] == 0
    assert restarts["2"] > 0
    log = (work.folder / f"extract-{array}_2.log").read_text()
    n_done = int(re.search(r"stopped: (\d+) of 12 images are done", log)[1])
    assert f"resuming: {n_done} of 12 images were done before" in log
    assert work.slurm.wait(work.merge(after=array)) == ["COMPLETED"]
    assert_same(work.store, undisturbed)
    if work.slurm.n_gpus:
        # Each task sees the GPU that it is given.
        assert set(re.findall(r"^gpu (\w+)", work.log(array), re.MULTILINE)) == {"0", "1"}


def test_dask_workers_are_jobs_and_one_that_is_cancelled_is_replaced(work, photos, undisturbed):
    notes = work.folder / "notes"
    (work.folder / "workers.yaml").write_text(
        "jobs: 2\ncores: 1\nmemory: 1GB\ntime: 10\nshard_size: 4\nworker_extra_args: [--preload, stub_worker]\n"
    )
    variables = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", DELAY: "1.8", NOTES: str(notes)}
    variables["DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT"] = "10s"
    job = work.submit([], "dask.sh", ["extract", photos, "-o", "store.h5", *EXTRACT_OPTIONS.split()], **variables)

    def workers():
        listed = work.slurm.call("squeue", "--noheader", "--states=all", "--name=dask-worker", "--format=%i %T")
        return dict(line.split() for line in listed.splitlines())

    work.slurm.wait_until(lambda: notes.exists() and "done" in notes.read_text())
    first = workers()
    assert len(first) == 2
    work.slurm.call("scancel", next(number for number, state in first.items() if state == "RUNNING"))
    assert work.slurm.wait(job) == ["COMPLETED"]
    assert_same(work.store, undisturbed)
    assert "submitting 2 jobs to Slurm" in work.log(job)
    # Another one came, and none outlives the job that has started them.
    assert len(workers()) > 2
    work.slurm.wait(*workers())


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_the_batch_files_are_sound_shell():
    files = sorted(BATCH_FILES.glob("*.sh"))
    assert len(files) >= 5
    done = subprocess.run(["shellcheck", ROOT / ".ci" / "run", *files], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.stdout == ""


def test_slurm_ends_with_the_tests_even_where_they_are_killed(slurm, tmp_path):
    program = """if True:
        import os, signal, sys
        from pathlib import Path
        from slurm_node import running_slurm
        folder = Path(sys.argv[1])
        with running_slurm(folder) as slurm:
            job = slurm.submit("--wrap", f"touch {folder}/begun; sleep 600", cwd=folder)
            slurm.wait_until((folder / "begun").exists)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "support")}
    done = subprocess.run([sys.executable, "-c", program, tmp_path], timeout=60, check=False, env=environment)
    assert done.returncode == -signal.SIGKILL
    own = f"SLURM_CONF={tmp_path / 'slurm.conf'}"
    slurm.wait_until(lambda: not has_process_with(own), seconds=10)


def has_process_with(variable):
    """Whether a process of this machine has a variable in its environment."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if variable.encode() in path.read_bytes().split(b"\0"):
                return True
    return False
