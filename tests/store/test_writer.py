"""Writing stores, on disks that fill."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sample_parts import N_CHANNELS, SETTINGS, part_of

import featx
from featx.store import write_store
from featx.store.writer import DeferredErrorFile, open_deferring_errors

WRITE = """
import resource, sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_writer import write
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from featx import FeatxError
try:
    write(Path(sys.argv[1]), 4000)
except FeatxError as error:
    print(error)
"""


def write(path, n_rows):
    parts = (part_of(start, min(start + 128, n_rows), rejected=[start + 3]) for start in range(0, n_rows, 128))
    write_store(
        path,
        settings=SETTINGS,
        table=pd.DataFrame({"path": [f"{row}.png" for row in range(n_rows)], "label": "a", "split": "train"}),
        root=Path("images"),
        parts=parts,
        n_channels=N_CHANNELS,
        provenance={"keras_version": "3"},
    )


def test_parts_become_one_file(tmp_path):
    write(tmp_path / "s.h5", 1000)
    with featx.open(tmp_path / "s.h5") as store:
        kept = [row for row in range(1000) if row % 128 != 3]
        assert store.images["path"].tolist() == [f"{row}.png" for row in kept]
        assert store.matrix(["block1_conv1"])[:, 0].tolist() == kept
        assert store.images["sha256"].tolist() == [f"{row:064d}" for row in kept]
        assert store.rejected["path"].tolist() == [f"{row}.png" for row in range(3, 1000, 128)]


@pytest.mark.parametrize("n_bytes", [0, 100, 5_000, 60_000, 110_000])
def test_a_full_disk_is_an_error_and_never_a_crash(tmp_path, n_bytes):
    pytest.importorskip("resource")
    script = WRITE.format(tests=[str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")])
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "s.h5", str(n_bytes)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "writing failed (File too large)" in done.stdout


def test_a_patient_file_holds_what_was_written(tmp_path):
    with DeferredErrorFile(tmp_path / "f") as file:
        assert file.write(np.arange(5, dtype="<i4").data) == 20
        file.seek(4)
        assert file.write(b"abcd") == 4
        file.truncate(12)
        assert file.error is None
    assert (tmp_path / "f").read_bytes() == b"\0\0\0\0abcd\x02\0\0\0"


def test_what_others_write_on_a_full_disk_is_an_oserror(tmp_path):
    # Here, since the processes above import this module too.
    from interrupted_runs import disk_that_takes

    with open_deferring_errors(tmp_path / "f") as (file, _):
        file["x"] = np.arange(5)
    with h5py.File(tmp_path / "f") as file:
        assert file["x"][:].tolist() == [0, 1, 2, 3, 4]
    with (
        disk_that_takes(5_000),
        pytest.raises(OSError, match="File too large"),
        open_deferring_errors(tmp_path / "g") as (file, _),
    ):
        file["x"] = np.zeros(10_000)
