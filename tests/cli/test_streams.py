"""Standard streams that are closed, full, or of an encoding without the characters: no result is lost for them."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from plain_stores import grouped_features, write_plain_store

from featx import read_run

BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None or os.name != "posix", reason="closes streams by a shell")

LABELS = ["松", "梅"] * 15
ESCAPED = "松".encode("ascii", "backslashreplace").decode()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Thirty images of two classes with Chinese names."""
    splits = ["train"] * 14 + ["validation"] * 6 + ["test"] * 10
    path = tmp_path_factory.mktemp("streams") / "s.h5"
    return write_plain_store(path, {"a": grouped_features(LABELS)}, LABELS, splits=splits)


def run(arguments, streams="", **environment):
    """Run featx in a shell that changes its streams."""
    command = f'"{sys.executable}" -m featx "$@" {streams}'
    return subprocess.run(
        [BASH, "-c", command, "featx", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def fit(store, output):
    return ["fit", "lda", store, "-o", output]


def test_characters_that_a_terminal_has_not_got_are_escaped(store, tmp_path):
    done = run(["info", store], PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, b"")
    assert ESCAPED.encode() in done.stdout
    done = run(fit(store, tmp_path / "松"), PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"{ESCAPED}: run.json".encode() in done.stdout
    assert read_run(tmp_path / "松").protocol["classes"] == ["松", "梅"]


def test_json_has_every_character_in_any_encoding(store):
    done = run(["info", store, "--json"], PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert json.loads(done.stdout.decode("ascii"))["splits"]["test"] == {"松": 5, "梅": 5}


# `featx predict` as far as its output, without a network.
PREDICT = """
import sys, warnings
import pandas as pd
from featx.inference import predict
from featx.cli import main
from featx.inference.predict import Block
class Predictor:
    def __init__(self, run, **options):
        pass
    def stream(self, paths, **options):
        rejected = pd.DataFrame({"path": ["梅.png"], "reason": ["damaged"]})
        for _ in range(2):
            print("a library prints", file=sys.stderr)
            yield Block(pd.DataFrame({"path": ["松.png"], "predicted": ["松"]}), rejected)
predict.Predictor = Predictor
warnings.warn("a library warns")
main(prog_name="featx")
"""


@pytest.fixture
def predict(store, tmp_path):
    """Return a function that predicts with such streams."""
    script = tmp_path / "predict.py"
    script.write_text(PREDICT, encoding="utf-8")

    def run_predict(*arguments, streams="", **environment):
        image = store.parent / "images" / "000.png"
        command = f'"{sys.executable}" "$0" predict "$@" {streams}'
        return subprocess.run(
            [BASH, "-c", command, str(script), "run", str(image), *map(str, arguments)],
            env={**os.environ, **environment},
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run_predict


def test_a_csv_on_standard_output_is_utf_8_whatever_the_encoding(predict):
    """What is redirected to a file has the bytes that --output writes."""
    done = predict(PYTHONIOENCODING="latin-1")
    assert done.returncode == 0
    assert done.stdout.decode("utf-8") == "path,predicted\n松.png,松\n松.png,松\n"
    done = predict("--json", PYTHONIOENCODING="latin-1")
    assert json.loads(done.stdout)["predictions"][0]["predicted"] == "松"


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_without_standard_error_work_goes_on(store, predict, tmp_path, streams):
    # A line is said of each image that can't be read.
    done = predict("-o", tmp_path / "p.csv", streams=streams, PYTHONUNBUFFERED="")
    assert done.returncode == 0
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").count("松.png") == 2


def test_a_bar_is_no_reason_to_fail_where_standard_error_is_closed(store):
    """Verifying shows a bar; what is opened next doesn't take the number of standard error."""
    done = run(["verify", store], "2>&-")
    assert done.returncode == 0
    assert b"Traceback" not in done.stdout


def test_without_any_stream_the_run_is_written(store, tmp_path):
    assert run(fit(store, tmp_path / "run"), ">&- 2>&- <&-").returncode == 0
    assert read_run(tmp_path / "run").test["accuracy"] == 1
    done = run(["info", store], ">&-")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_under_standard_output_is_one_line(store, predict):
    expected = "featx: standard output: can't be written: No space left on device"
    for done in (
        run(["info", store], ">/dev/full"),
        run(["info", store], ">/dev/full", PYTHONUNBUFFERED=""),
        predict(streams=">/dev/full"),
        predict("--json", streams=">/dev/full", PYTHONUNBUFFERED=""),
    ):
        lines = [line for line in done.stderr.decode().splitlines() if line.startswith("featx")]
        assert (done.returncode, lines) == (1, [expected])


def test_whoever_reads_only_the_beginning_hears_no_complaint(store, predict):
    for done in (run(["info", store], "| exec 0<&-"), predict("--json", streams="| exec 0<&-")):
        assert b"featx" not in done.stderr
        assert b"Traceback" not in done.stderr
