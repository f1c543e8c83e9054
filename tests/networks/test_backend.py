"""Keras is loaded once, quietly; what others write to standard error meanwhile is not lost."""

import os
import subprocess
import sys

# It is as noisy as TensorFlow, and takes its time.
KERAS = """
import os, time
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\\n")
os.write(2, b"I0000 00:00:1796073655.057956    5588 port.cc:153] oneDNN custom operations are on.\\n")
os.write(2, b"2026-11-30 21:00:00.123456: E external/local_xla/xla/stream_executor/cuda.cc:1] no driver\\n")
time.sleep(0.3)
if os.environ.get("BROKEN"):
    raise ImportError("no such backend")
class backend:
    backend = staticmethod(lambda: os.environ["KERAS_BACKEND"])
class distribution:
    list_devices = staticmethod(lambda: [])
"""

SCRIPT = """
import os, sys, threading, time
from featx.networks import backend as keras_setup
from featx.errors import FeatxError
begun = threading.Event()
def write():
    for number in range(5):
        os.write(2, b"line %d of another thread\\n" % number)
        begun.set()
        time.sleep(0.02)
thread = threading.Thread(target=write)
thread.start()
begun.wait()
try:
    keras_setup.load_keras()
except FeatxError as error:
    print(error)
thread.join()
def no_dup(*arguments):
    raise SystemExit("standard error was exchanged again")
if "keras" in sys.modules:
    os.dup = os.dup2 = no_dup
    keras_setup.load_keras()
    print("twice")
"""


TENSORFLOW = """
class config:
    class threading:
        set_intra_op_parallelism_threads = staticmethod(lambda number: print("threads", number))
        set_inter_op_parallelism_threads = staticmethod(lambda number: print("tasks", number))
"""


def run(folder, **environment):
    for name, text in (("keras", KERAS), ("tensorflow", TENSORFLOW)):
        (folder / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "jax", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_standard_error_is_exchanged_once_and_loses_nothing_but_the_log(tmp_path):
    done = run(tmp_path)
    assert done.stdout == "twice\n"
    assert done.stderr.splitlines() == [f"line {number} of another thread" for number in range(5)]


def test_where_keras_can_not_be_loaded_its_log_is_shown(tmp_path):
    done = run(tmp_path, BROKEN="yes")
    assert "can't be loaded on the backend 'jax': no such backend" in done.stdout
    assert "oneDNN" in done.stderr
    assert "no driver" in done.stderr


def test_tensorflow_takes_no_more_threads_than_the_process_may(tmp_path):
    done = run(tmp_path, KERAS_BACKEND="tensorflow", LOKY_MAX_CPU_COUNT="1", TF_NUM_INTRAOP_THREADS="")
    assert done.stdout.splitlines() == ["threads 1", "tasks 1", "twice"]
    done = run(tmp_path, KERAS_BACKEND="tensorflow", TF_NUM_INTRAOP_THREADS="3")
    assert done.stdout.splitlines() == ["twice"]
