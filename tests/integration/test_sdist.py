"""A source distribution has the tests, and all that they read."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "docs", "featx", "pipelines", "tests")
FILES = (
    "CHANGELOG.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "plain-words.txt",
    "pyproject.toml",
    "setup.cfg",
)


def test_tests_run_from_a_source_distribution(tmp_path):
    # Building writes into the folder of the sources.
    sources = tmp_path / "sources"
    for folder in FOLDERS:
        # Pipelines have their data and results next to them.
        names = ("__pycache__", "data", "output") if folder == "pipelines" else ("__pycache__",)
        shutil.copytree(ROOT / folder, sources / folder, ignore=shutil.ignore_patterns(*names))
    for name in FILES:
        shutil.copy(ROOT / name, sources)
    build = "import setuptools.build_meta; print(setuptools.build_meta.build_sdist('..'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=sources, capture_output=True, text=True, check=True)
    archive = tmp_path / done.stdout.splitlines()[-1]
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    missing = [
        path.relative_to(sources).as_posix()
        for path in sources.rglob("*")
        if path.is_file() and not (unpacked / path.relative_to(sources)).exists()
    ]
    assert missing == []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/integration/test_docs.py"]
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout
