"""The package's public names."""

import subprocess
import sys

import pytest

import featx


def test_every_public_name_is_there():
    for name in featx.__all__:
        assert getattr(featx, name) is not None
    assert set(featx.__all__) <= set(dir(featx))


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="nonsense"):
        featx.nonsense  # noqa: B018


def test_importing_featx_loads_nothing_heavy():
    script = "import sys, featx; print([m for m in ('keras', 'sklearn', 'numpy', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
