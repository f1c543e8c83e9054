"""A Slurm of one node for tests: its own daemons, key, ports and files, without systemd, cgroups or a host name.

As a program, `python slurm_node.py FOLDER` starts it, prints a line of JSON once jobs can be submitted, and stops
everything, jobs too, when its standard input is closed: so whatever ends the tests ends Slurm.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo")
N_GPUS = 2
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
IS_OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

# Munge, so that nobody else, here or elsewhere, can have jobs run as root. More cores than there are: jobs here mostly
# wait. The ten seconds of cred_expire are how long a requeued job waits before it starts again.
CONFIGURATION = """\
ClusterName=featx
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
MinJobAge=86400
KillWait=10
ReturnToService=2
SlurmdParameters=config_overrides
{gres_types}
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=256 RealMemory=64000 {gres} State=UNKNOWN
PartitionName=test Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why Slurm can't be started here, None if it can."""
    if not sys.platform.startswith("linux"):
        return "Slurm needs Linux"
    if lacking := [name for name in PROGRAMS if not find_program(name)]:
        return f"Slurm is not installed ({', '.join(lacking)}): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "Slurm's daemons are started by root only"


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Slurm:
    """A Slurm that runs, as its users see it.

    `environment` are variables that its commands and jobs need; `n_gpus` is 0 where no devices can be made.
    """

    environment: dict[str, str] = field(repr=False)
    n_gpus: int
    seconds_to_start: float

    def submit(self, *arguments: object, cwd: Path, **variables: str) -> str:
        """Call sbatch in a folder, and return the job's number."""
        command = ["sbatch", "--parsable", *arguments]
        return self.call(*command, cwd=cwd, **variables).strip()

    def call(self, *command: object, cwd: Path | None = None, **variables: str) -> str:
        """Run one of Slurm's commands, or a script that does, and return what it prints."""
        done = subprocess.run(
            [*map(str, command)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd,
            env={**os.environ, **self.environment, **variables},
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def tasks(self, job: str) -> list[dict[str, str]]:
        """Return what Slurm says of a job; of an array, of each task."""
        records = self.call("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", record)) for record in records]

    def states(self, job: str) -> list[str]:
        return [task["JobState"] for task in self.tasks(job)]

    def wait(self, *jobs: str, seconds: float = 90) -> list[str]:
        """Wait until jobs are over, and return their tasks' states."""
        self.wait_until(lambda: all(state in IS_OVER for job in jobs for state in self.states(job)), seconds=seconds)
        return [state for job in jobs for state in self.states(job)]

    def wait_until(self, is_so: Callable[[], bool], *, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"after {seconds} s: {self.call('squeue', '--states=all')}"
            time.sleep(0.1)


@contextmanager
def running_slurm(folder: Path) -> Iterator[Slurm]:
    """Run Slurm in a folder of its own for as long as the block, and no longer than this process."""
    begun = time.monotonic()
    command = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        try:
            answer = node.stdout.readline()
            if not answer:
                raise RuntimeError(f"Slurm has not started: see above, and the logs in {folder}")
            yield Slurm(**json.loads(answer), seconds_to_start=time.monotonic() - begun)
        finally:
            node.stdin.close()
            node.wait(timeout=30)


def main(folder: Path) -> int:
    """Start the daemons, wait for the end of standard input, end everything."""
    # Slurm lets go of what runs jobs; this way they stay descendants of this process, which can so find them again.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        n_gpus = configure(folder)
        environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        daemons = [start(folder, environment, *command) for command in commands(folder)]
        if not wait_until_idle(folder, environment, daemons):
            return 1
        print(json.dumps({"environment": environment, "n_gpus": n_gpus}), flush=True)
        sys.stdin.read()
        return 0
    finally:
        end_descendants()


def configure(folder: Path) -> int:
    """Write the files of the daemons, and return how many GPUs there seem to be."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    n_gpus = make_gpus(folder)
    gres = f"Name=gpu File={folder}/gpu[0-{N_GPUS - 1}]\n" if n_gpus else ""
    (folder / "gres.conf").write_text(gres)
    # Nothing uses cgroups, but what takes care of them is loaded, and the other kind looks for them at once.
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    ctld_port, slurmd_port = free_ports(2)
    text = CONFIGURATION.format(
        folder=folder,
        # As Slurm itself has it: up to the first dot.
        host=os.uname().nodename.partition(".")[0],
        ctld_port=ctld_port,
        slurmd_port=slurmd_port,
        gres_types="GresTypes=gpu" if n_gpus else "",
        gres=f"Gres=gpu:{n_gpus}" if n_gpus else "",
    )
    (folder / "slurm.conf").write_text(text)
    return n_gpus


def make_gpus(folder: Path) -> int:
    """Make character devices that do what /dev/null does; none, where that is not allowed."""
    try:
        for number in range(N_GPUS):
            os.mknod(folder / f"gpu{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        return 0
    return N_GPUS


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def commands(folder: Path) -> list[list[str]]:
    munge_files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid"}
    munge_files |= {"seed-file": "munged.seed", "log-file": "munged.log"}
    options = [f"--{option}={folder / name}" for option, name in munge_files.items()]
    return [
        # Forced, since temporary folders are for one user; the origin, since this host's name may not resolve.
        ["munged", "--foreground", "--force", "--origin=127.0.0.1", *options],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-c", "-N", "node"],
    ]


def start(folder: Path, environment: dict[str, str], name: str, *options: str) -> subprocess.Popen:
    """Start a daemon that ends with this process, even where that is killed."""
    with (folder / f"{name}.out").open("wb") as output:
        return subprocess.Popen(
            [find_program(name), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def wait_until_idle(folder: Path, environment: dict[str, str], daemons: list[subprocess.Popen]) -> bool:
    """Return whether the node has come up within a minute; if not, say what the daemons said."""
    end = time.monotonic() + 60
    while time.monotonic() < end and all(daemon.poll() is None for daemon in daemons):
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],  # noqa: S607
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
            check=False,
        )
        if state.stdout.strip() == "idle":
            return True
        time.sleep(0.1)
    for path in sorted([*folder.glob("*.out"), *folder.glob("*.log")]):
        sys.stderr.write(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}\n")
    return False


def end_descendants() -> None:
    """End whatever has been started here; nothing of it is worth keeping."""
    # Who loses its parent in the meantime comes to this process.
    while running := psutil.Process().children(recursive=True):
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(running, timeout=5)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
