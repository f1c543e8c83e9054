"""Cores and memory of this process: those of its container or batch job, where that has less than the machine."""

import os
from collections import namedtuple

import joblib
import numpy as np
import psutil
import pytest

from featx.system import SHARED_BY, available_cores, available_memory, total_memory

GIB = 2**30
UNLIMITED = 9223372036854771712

Memory = namedtuple("Memory", ["total", "available"])


@pytest.fixture(autouse=True)
def _large_machine(monkeypatch):
    """64 cores, 128 GiB, 100 of them free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(128 * GIB, 100 * GIB))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 64)
    monkeypatch.delenv(SHARED_BY, raising=False)


def make_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def stat(**pages):
    return "\n".join(f"{name} {value}" for name, value in pages.items())


def test_without_control_groups_it_is_the_machine(tmp_path):
    assert available_memory(root=tmp_path) == 100 * GIB
    assert total_memory(root=tmp_path) == 128 * GIB
    assert available_cores(root=tmp_path) == 64


def test_a_container_of_version_2(tmp_path):
    make_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": 16 * GIB,
            "sys/fs/cgroup/memory.high": "max",
            "sys/fs/cgroup/memory.current": 7 * GIB,
            "sys/fs/cgroup/memory.stat": stat(anon=2 * GIB, inactive_file=3 * GIB, active_file=GIB),
            "sys/fs/cgroup/cpu.max": "250000 100000",
        },
    )
    # The pages of files are given up when memory is needed.
    assert available_memory(root=tmp_path) == 13 * GIB
    assert total_memory(root=tmp_path) == 16 * GIB
    assert available_cores(root=tmp_path) == 3


def test_a_job_of_version_2_has_the_least_of_all_groups_around_it(tmp_path):
    job = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    make_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0/user",
            f"{job}/step_0/user/memory.max": "max",
            f"{job}/step_0/user/memory.current": GIB,
            f"{job}/step_0/user/cpu.max": "max 100000",
            f"{job}/step_0/cpu.max": "800000 100000",
            f"{job}/memory.max": 8 * GIB,
            f"{job}/memory.high": 6 * GIB,
            f"{job}/memory.current": 5 * GIB,
            f"{job}/cpu.max": "400000 100000",
            "sys/fs/cgroup/system.slice/memory.max": 64 * GIB,
            "sys/fs/cgroup/system.slice/memory.current": 63 * GIB,
        },
    )
    assert available_memory(root=tmp_path) == GIB
    assert total_memory(root=tmp_path) == 6 * GIB
    assert available_cores(root=tmp_path) == 4


def test_a_job_of_version_1(tmp_path):
    job = "sys/fs/cgroup/memory/slurm/uid_1000/job_7"
    make_tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/slurm/uid_1000/job_7\n3:cpu,cpuacct:/slurm/uid_1000/job_7\n0::/",
            f"{job}/memory.limit_in_bytes": 4 * GIB,
            f"{job}/memory.usage_in_bytes": 3 * GIB,
            f"{job}/memory.stat": stat(
                active_file=0, inactive_file=0, total_active_file=GIB // 2, total_inactive_file=GIB
            ),
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 28 * GIB,
            "sys/fs/cgroup/cpu/slurm/uid_1000/job_7/cpu.cfs_quota_us": 150_000,
            "sys/fs/cgroup/cpu/slurm/uid_1000/job_7/cpu.cfs_period_us": 100_000,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100_000,
        },
    )
    assert available_memory(root=tmp_path) == int(2.5 * GIB)
    assert total_memory(root=tmp_path) == 4 * GIB
    assert available_cores(root=tmp_path) == 2


def test_a_container_whose_own_group_is_the_outermost_that_it_sees(tmp_path):
    make_tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/0123abc\n3:cpu:/docker/0123abc\n0::/../../elsewhere",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": 3 * GIB,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 50_000,
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100_000,
        },
    )
    assert available_memory(root=tmp_path) == 0
    assert available_cores(root=tmp_path) == 1


def test_workers_that_share_a_machine_share_its_quota(tmp_path, monkeypatch):
    make_tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "800000 100000"})
    for count, expected in ((1, 8), (4, 2), (16, 1)):
        monkeypatch.setenv(SHARED_BY, str(count))
        assert available_cores(root=tmp_path) == expected


def test_gram_matrices_are_chosen_by_the_memory_of_the_job(tmp_path, monkeypatch):
    """A job of 100 kB on a machine of 100 GiB: SVC's Gram matrix of 300 rows doesn't fit."""
    from featx.fit import choose_model
    from featx.store import Rows
    from featx.system import machine as cores

    X = np.zeros((300, 4), dtype=np.float32)
    rows = Rows.__new__(Rows)
    object.__setattr__(rows, "X", X)
    assert choose_model("svm", rows, 200, 100) == ("svm", [])
    files = {"memory.max": 200_000, "memory.current": 100_000}
    make_tree(tmp_path, {"proc/self/cgroup": "0::/"} | {f"sys/fs/cgroup/{name}": n for name, n in files.items()})
    monkeypatch.setattr("featx.fit.cells.available_memory", lambda: cores.available_memory(root=tmp_path))
    model, (note,) = choose_model("svm", rows, 200, 100)
    assert model == "svm-large"
    assert "and 0.0 GB are free" in note


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux's")
def test_affinity_and_the_variable_of_joblib_count(monkeypatch):
    monkeypatch.undo()
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert available_cores() == 1
