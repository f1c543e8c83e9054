"""What --cluster and its settings file may say, and what Slurm is given of it."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from samples import make_tree

from featx import FeatxError
from featx.cli import main
from featx.cluster import open_cluster, parse_address, read_settings, wait_for_lock
from featx.cluster.open import load_dask
from featx.cluster.settings import Address, ClusterSettings, wall_seconds
from featx.cluster.slurm import as_files, slurm_arguments
from featx.cluster.worker import THREADS, pin_resources, threads_for, visible_gpus
from featx.errors import TakenError

SLURM = parse_address("slurm")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("local", Address("local")),
        ("local:12", Address("local", 12)),
        ("slurm", Address("slurm")),
        ("tcp://10.0.0.1:8786", Address("running", url="tcp://10.0.0.1:8786")),
        ("tls://[::1]:8786", Address("running", url="tls://[::1]:8786")),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "local:0", "local:x", "slurm:3", "tcp://host", "tcp://host:99999", "http://h:1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(FeatxError, match="expected local, local:N"):
        parse_address(text)
    refused = CliRunner().invoke(main, ["extract", "photos", "-o", "x.h5", "--cluster", text])
    assert refused.exit_code == 2
    assert "'--cluster': expected local, local:N" in refused.output


def write(folder, text):
    path = folder / "workers.yaml"
    path.write_text(text)
    return path


def test_every_mistake_is_named(tmp_path):
    path = write(
        tmp_path,
        "wait: 0\njobs: 1.5\ngpus: -1\npartion: a\nmemory: 32X\ntime: noon\ncores: true\n"
        'job_extra_directives: --exclusive\npartition: "a\\nb"\nscheduler_options: [1]\n',
    )
    with pytest.raises(FeatxError) as caught:
        read_settings(SLURM, path)
    text = str(caught.value)
    assert text.startswith(f"{path}: 10 mistakes: wait: expected seconds, more than 0, found 0; jobs: expected a whole")
    assert "cores: expected a whole number from 1 up, found true" in text
    assert "partion: unknown key (close: partition" in text
    for key in ("gpus", "memory", "time", "cores", "job_extra_directives", "partition", "scheduler_options"):
        assert f"{key}: expected " in text
    with pytest.raises(FeatxError, match="jobs: only for slurm, and `cluster` is local:2"):
        read_settings(parse_address("local:2"), write(tmp_path, "jobs: 2\nwait: 5\n"))
    with pytest.raises(FeatxError, match="expected a mapping of keys"):
        read_settings(SLURM, write(tmp_path, "[jobs]\n"))


def test_settings_without_a_cluster_are_refused(tmp_path):
    refused = CliRunner().invoke(
        main, ["finetune", "x.h5", "--recipe", "mame-i", "--cluster-settings", str(write(tmp_path, "wait: 5\n"))]
    )
    assert refused.output == "featx: --cluster-settings: only for a cluster: give --cluster too\n"
    refused = CliRunner().invoke(main, ["fit", "rf", "x.h5", "-o", "run", "--shard", "1/2", "--cluster", "local:1"])
    assert refused.output == "featx: --shard: a cluster divides the work by itself: leave it out\n"


@pytest.mark.parametrize("command", ["extract", "run"])
def test_a_dry_run_checks_the_settings_and_says_that_it_is_of_one_process(tmp_path, command):
    images = make_tree(tmp_path / "images", {"a": 4, "b": 4})
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text("source: {path: images}\nstores: {s: {layers: block1, weights: random, image_size: 32}}\n")
    small = ["--layers", "block1", "--weights", "random", "--image-size", "32"]
    dry = {"extract": ["extract", images, "-o", tmp_path / "s.h5", *small], "run": ["run", experiment]}[command]

    def call(*more):
        return CliRunner().invoke(main, [str(word) for word in (*dry, "--dry-run", *more)])

    settings = ["--cluster-settings", write(tmp_path, "jobs: 2\n")]
    assert call(*settings).output == "featx: --cluster-settings: only for a cluster: give --cluster too\n"
    assert "workers.yaml: jobs: only for slurm" in call(*settings, "--cluster", "local:2").output
    done = call("--cluster", "local:2")
    assert done.exit_code == 0, done.output
    assert "for one process on this machine, not for the workers of --cluster local:2\n" in done.stderr


def test_what_a_file_leaves_out_stands_at_its_default(tmp_path):
    assert read_settings(parse_address("local")) == ClusterSettings(wait=60)
    settings = read_settings(SLURM, write(tmp_path, "jobs: 3\nshard_size: 512\ntime: 90\n"))
    assert settings == ClusterSettings(wait=86_400, shard_size=512, jobs=3, slurm={"walltime": "90"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("2:30", 150), ("08:00:00", 28_800), ("1-0", 86_400), ("1-02:03", 93_780), ("0-0:0:5", 5)],
)
def test_wall_times_are_read_as_sbatch_reads_them(text, seconds):
    assert wall_seconds(text) == seconds


def test_a_job_is_what_the_file_says_and_what_featx_needs(tmp_path):
    from dask_jobqueue.slurm import SLURMJob

    path = write(
        tmp_path,
        "partition: gpu\naccount: vision\ntime: 02:00:00\nmemory: 32GB\ncores: 8\ngpus: 2\njob_name: featx\n"
        'job_extra_directives: ["--exclusive"]\njob_script_prologue: ["module load cuda"]\n'
        "worker_extra_args: [--resources, GPU=1]\n",
    )
    arguments = slurm_arguments(read_settings(SLURM, path))
    own = ("scheduler_options", "silence_logs")
    job = SLURMJob("tls://h:1", name="w", **{key: value for key, value in arguments.items() if key not in own})
    script = job.job_script()
    for line in ("-p gpu", "-A vision", "-t 02:00:00", "--mem=30G", "--cpus-per-task=8", "--gres=gpu:2", "--exclusive"):
        assert f"#SBATCH {line}\n" in script
    for line in (
        "export FEATX_PROCESSES=2",
        "export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}",
        "export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}",
        "module load cuda",
    ):
        assert f"{line}\n" in script
    command = script.splitlines()[-1]
    assert command.startswith(sys.executable)
    # A process a GPU, which takes a task at a time, and ends before its wall time does. The last of two options counts.
    assert "--nworkers 2" in command
    assert "--nthreads 1 --memory-limit 0 --no-dashboard" in command
    assert "--lifetime 6900s --lifetime-stagger 150s" in command
    assert command.endswith("--resources GPU=1")
    assert arguments["scheduler_options"]["dashboard"] is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("32G", "--mem=32G"),
        ("32000", "--mem=32G"),
        ("'2048'", "--mem=2G"),
        ("512k", "--mem=512K"),
        ("32GB", "--mem=30G"),
    ],
)
def test_memory_is_what_sbatch_takes_it_for(tmp_path, text, said):
    from dask_jobqueue.slurm import SLURMJob

    settings = read_settings(SLURM, write(tmp_path, f"cores: 1\nmemory: {text}\n"))
    job = SLURMJob("tls://h:1", name="w", cores=1, memory=settings.slurm["memory"])
    assert f"#SBATCH {said}\n" in job.job_script()
    for wrong in ("0", "32X", "-1", "[1]", "0G", "true"):
        with pytest.raises(FeatxError, match="memory: expected a size such as 32G, 32000"):
            read_settings(SLURM, write(tmp_path, f"memory: {wrong}\n"))


def test_as_many_jobs_are_submitted_as_are_asked_for(tmp_path, monkeypatch):
    log = tmp_path / "log"
    programs = {
        "sbatch": f"case $1 in --test-only) ;; *) echo x >> {log}; echo Submitted batch job 1;; esac",
        "scancel": "",
    }
    for name, line in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slurm = {"cores": 4, "memory": "1GB", "shared_temp_directory": str(tmp_path)}
    settings = ClusterSettings(wait=2, jobs=3, gpus=2, slurm=slurm)
    with (
        pytest.raises(FeatxError, match="no worker of slurm for 2 seconds: squeue --me"),
        open_cluster(SLURM, settings),
    ):
        pass
    assert log.read_text() == "x\n" * 3


def test_dask_s_own_configuration_counts():
    import dask
    import dask_jobqueue  # noqa: F401 (brings the keys)

    with pytest.raises(FeatxError, match="no cores and no memory for a job of slurm"):
        slurm_arguments(ClusterSettings(wait=1))
    of_dask = {"cores": 4, "memory": "8GB", "walltime": "10", "worker-extra-args": ["--local-directory", "/scratch"]}
    with dask.config.set({"jobqueue.slurm": of_dask}):
        arguments = slurm_arguments(ClusterSettings(wait=1))
        cleared = slurm_arguments(ClusterSettings(wait=1, slurm={"worker_extra_args": []}))
    assert arguments["worker_extra_args"][-2:] == ["--local-directory", "/scratch"]
    assert "--local-directory" not in cleared["worker_extra_args"]
    assert "540s" in arguments["worker_extra_args"]


def test_certificates_are_files_of_the_owner_for_as_long_as_the_run(tmp_path):
    from distributed import Security

    settings = ClusterSettings(wait=1, slurm={"shared_temp_directory": str(tmp_path)})
    with as_files(Security.temporary(), settings) as security:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert security.get_tls_config_for_role("worker")["key"] == str(folder / "key.pem")
        assert "PRIVATE KEY" in (folder / "key.pem").read_text()
        with as_files(security, settings) as same:
            assert same is security
    assert list(tmp_path.iterdir()) == []
    settings = ClusterSettings(wait=1, slurm={"shared_temp_directory": str(tmp_path / "nowhere")})
    with pytest.raises(FeatxError, match="can't be written here"), as_files(Security.temporary(), settings):
        pass
    blank = tmp_path / "a b"
    blank.mkdir()
    settings = ClusterSettings(wait=1, slurm={"shared_temp_directory": str(blank)})
    with pytest.raises(FeatxError, match=r"a b: .* no blanks"), as_files(Security.temporary(), settings):
        pass


def test_an_encrypted_address_asks_for_certificates(tmp_path):
    import dask

    address, settings = "tls://127.0.0.1:9", ClusterSettings(wait=1)
    with (
        pytest.raises(FeatxError, match=r"configuration names none\. Name them under distributed\.comm\.tls"),
        open_cluster(address, settings),
    ):
        pass
    nowhere = str(tmp_path / "none.pem")
    named = {f"distributed.comm.tls.{key}": nowhere for key in ("ca-file", "client.key", "client.cert")}
    with (
        dask.config.set(named),
        pytest.raises(FeatxError, match=r"certificates that dask's configuration names .* can't be read: .*No such"),
        open_cluster(address, settings),
    ):
        pass


def test_without_slurm_or_dask_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FeatxError, match="no sbatch here"), open_cluster("slurm", write(tmp_path, "cores: 1\n")):
        pass
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(FeatxError, match=r"dask_jobqueue.*pip install 'featx\[cluster\]'"):
        load_dask()


def test_opening_a_cluster_leaves_ctrl_c_as_it_is():
    program = """if True:
        import signal
        from featx.cluster.open import load_dask
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        load_dask()
        print(before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_without_the_option_dask_is_not_imported():
    program = """if True:
        import sys
        import featx.cli, featx.extract, featx.fit.grid, featx.fit.repeats
        print([name for name in ("dask", "distributed") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("own", "n_threads"), [({}, "4"), ({"OMP_NUM_THREADS": "3"}, "3")])
def test_workers_share_threads_unless_a_user_says_how_many(monkeypatch, own, n_threads):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("featx.cluster.worker.available_cores", lambda: 8)
    assert threads_for(2) == dict.fromkeys(THREADS, n_threads)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    assert threads_for(2)["MKL_NUM_THREADS"] == "7"


def test_a_worker_takes_its_gpu_and_its_part_of_the_cores(monkeypatch):
    taken = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: taken.append(list(cores)), raising=False)
    found = []
    for number in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
        pin_resources(number, 3)
        found.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert found == ["GPU-a", "GPU-b", "GPU-c"]
    assert taken == [[0, 1], [2, 3], [4, 5]]
    # Workers that replace others may count on.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for number in (3, 4, 5):
        pin_resources(number, 3)
    assert taken[3:] == taken[:3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (
        pytest.raises(FeatxError, match="2 GPUs are visible, and a worker uses one: give local:2"),
        open_cluster("local:3"),
    ):
        pass


def test_what_is_taken_is_waited_for_as_long_as_it_gets_on(monkeypatch):
    now, done = [0.0], [0]
    monkeypatch.setattr("featx.cluster.worker.time.monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += 200
        done[0] += now[0] < 3000

    def refuse():
        raise TakenError("x.h5: another featx is writing this store")

    monkeypatch.setattr("featx.cluster.worker.time.sleep", sleep)
    with pytest.raises(TakenError, match="another featx"):
        wait_for_lock(refuse, lambda: done[0])
    # While it got on, and ten minutes more.
    assert 3400 <= now[0] <= 3800
