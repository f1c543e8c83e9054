"""The bytes of a file: also from disks that fail for a moment."""

import errno
import os

import pytest

from featx.errors import ImageError
from featx.images import files as image_files
from featx.images.files import read_file


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"bytes")
    return path


@pytest.fixture
def pauses(monkeypatch):
    """Notes how long is waited, and doesn't wait."""
    noted = []
    monkeypatch.setattr(image_files.time, "sleep", noted.append)
    return noted


def fail(monkeypatch, n_times, number):
    plain, calls = os.open, []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) <= n_times:
            raise OSError(number, os.strerror(number))
        return plain(*arguments, **options)

    monkeypatch.setattr(os, "open", failing)
    return calls


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
@pytest.mark.parametrize("n_times", [1, 3])
def test_what_fails_for_a_moment_is_read_again(photo, pauses, monkeypatch, n_times, number):
    calls = fail(monkeypatch, n_times, number)
    assert read_file(photo) == b"bytes"
    assert len(calls) == n_times + 1
    assert pauses == [0.1, 1.0, 5.0][:n_times]


def test_what_goes_on_failing_is_told(photo, pauses, monkeypatch):
    calls = fail(monkeypatch, 9, errno.EIO)
    with pytest.raises(ImageError, match="cannot be opened: Input/output error"):
        read_file(photo)
    assert len(calls) == 4


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ELOOP])
def test_what_will_not_pass_is_not_waited_for(photo, pauses, monkeypatch, number):
    calls = fail(monkeypatch, 1, number)
    with pytest.raises(ImageError, match=os.strerror(number)):
        read_file(photo)
    assert (len(calls), pauses) == (1, [])
