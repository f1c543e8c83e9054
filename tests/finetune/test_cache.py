"""Rows in files, and the cache of them: within its limit, for one user at a time, deleted afterwards."""

import os
import shutil

import filelock
import numpy as np
import pytest

from featx import FeatxError
from featx.finetune.cache import RowFiles, choose_block, open_cache
from featx.system import hold

SHAPES = {"block4_pool": ((2, 2, 8), "float32"), "pixels": ((4, 4, 3), "uint8")}
N_BYTES = 10 * (2 * 2 * 8 * 4 + 4 * 4 * 3)
# With what NumPy writes before the numbers.
N_WRITTEN = N_BYTES + 2 * 128


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "activations"


def fill(key, *, age=0, n_rows=10, **options):
    """Leave an entry that was used so many seconds ago."""
    with open_cache(key, n_rows, SHAPES, **{"limit": 10**9, "keep": True} | options) as files:
        for rows in files.values():
            rows.write(0, np.ones((n_rows, *rows.shape), rows.dtype))
    path = files["pixels"].path.parent
    if age:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return path


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_it_is_gone_afterwards_or_kept(folder):
    lines = []
    path = fill("a", keep=False, echo=lines.append)
    assert not path.exists()
    assert any(
        "block4_pool, pixels of 10 images: 0.00 GB in" in line and "deleted at the end" in line for line in lines
    )
    path = fill("a", keep=True, echo=lines.append)
    assert "kept" in lines[-1]
    assert path.exists()
    with open_cache("a", 10, SHAPES, limit=N_BYTES) as files:
        assert all(rows.has(0) for rows in files.values())
        assert files["pixels"].take(np.array([3])).tolist() == np.ones((1, 4, 4, 3)).tolist()
    assert entries(folder) == []


def test_an_error_leaves_what_was_computed(folder):
    for error in (FeatxError("failed"), KeyboardInterrupt()):
        with pytest.raises(type(error)), open_cache("a", 10, SHAPES, limit=N_BYTES) as files:
            files["pixels"].write(0, np.ones((10, 4, 4, 3)))
            raise error
        assert entries(folder) == ["a"]
    with open_cache("a", 10, SHAPES, limit=N_BYTES) as files:
        assert (files["pixels"].has(0), files["block4_pool"].has(0)) == (True, False)


def test_over_the_limit(folder):
    with pytest.raises(
        FeatxError, match=r"take 0\.00 GB, more than the cache may .*`cache_limit` of 0\.01 GB or more, or use no cache"
    ):
        fill("a", limit=N_BYTES - 1)
    fill("a", limit=N_BYTES)
    # What the message says to give is enough.
    with pytest.raises(FeatxError, match=r"`cache_limit` of 20\.43 GB or more"):
        fill("b", n_rows=round(20.423 * 10**10 / N_BYTES), limit=20 * 10**9)


def test_the_ones_not_used_for_longest_go_first(folder):
    fill("old", age=300)
    fill("older", age=400)
    fill("new", age=100)
    fill("now", limit=3 * N_WRITTEN)
    assert entries(folder) == ["new", "now", "old"]
    fill("now", limit=2 * N_WRITTEN)
    assert entries(folder) == ["new", "now"]


def test_use_makes_an_entry_young(folder):
    fill("a", age=400)
    fill("b", age=300)
    with open_cache("a", 10, SHAPES, limit=10**9, keep=True):
        pass
    fill("c", limit=2 * N_WRITTEN)
    assert entries(folder) == ["a", "c"]


def test_an_entry_in_use_never_goes(folder):
    fill("used", age=500)
    fill("idle", age=100)
    with filelock.FileLock(folder / "used.lock", timeout=0):
        fill("now", limit=2 * N_WRITTEN)
        assert entries(folder) == ["now", "used"]
    fill("later", limit=N_WRITTEN)
    assert entries(folder) == ["later"]


def test_one_user_at_a_time(folder):
    fill("a")
    with (
        hold(folder / "a.lock", "taken"),
        pytest.raises(FeatxError, match=r"activations/a: another featx trains on the same activations .*\. Wait"),
    ):
        fill("a")
    assert entries(folder) == ["a"]
    # Other activations don't wait for it.
    with filelock.FileLock(folder / "a.lock", timeout=0):
        fill("b")


def test_a_disk_without_room(folder, monkeypatch):
    usage = shutil.disk_usage(folder.parents[1])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**28 + N_BYTES - 1))
        with pytest.raises(
            FeatxError, match=r"GB more of the disk, and .* are left to use at .*FEATX_CACHE.*use no cache"
        ):
            fill("a")
        assert entries(folder) == []
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**28 + N_BYTES))
        fill("a")
        # What is there already takes no more.
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
        with pytest.raises(FeatxError, match=r"and 0\.00 GB are left to use"):
            fill("b")
    assert entries(folder) == ["a"]


def test_more_than_the_free_memory_is_said(monkeypatch):
    import psutil

    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=N_BYTES - 1))
    lines = []
    fill("a", echo=lines.append)
    assert "more than the free memory: every epoch will read from the disk" in lines[-1]


@pytest.mark.parametrize("taken", ["cache", "cache/activations", "cache/activations/a.lock"])
def test_a_folder_that_can_not_be_written(tmp_path, taken):
    path = tmp_path / taken
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.mkdir()
    else:
        path.write_text("a file")
    with pytest.raises(FeatxError, match=r"activations.*nothing can be written there.*(?i:set) FEATX_CACHE to another"):
        fill("a")


def rows_of(n_rows, shape, seed=0):
    return np.random.default_rng(seed).standard_normal((n_rows, *shape)).astype(np.float32)


def write_all(files, rows):
    for start, stop in files.blocks():
        files.write(start, rows[start:stop])


@pytest.fixture
def files(tmp_path):
    """Eleven rows in files of four."""
    files = RowFiles(tmp_path / "rows", 11, (2, 3), "float32", block_rows=4)
    write_all(files, rows_of(11, (2, 3)))
    return files


def test_round_trip_in_any_order_across_files(files):
    expected = rows_of(11, (2, 3))
    for rows in ([10, 0, 4, 3, 4, 10], [7], list(range(11)), []):
        taken = files.take(np.array(rows, dtype=int))
        assert taken.dtype == np.float32
        assert np.array_equal(taken, expected[rows])
    assert files.blocks() == [(0, 4), (4, 8), (8, 11)]
    assert (len(files), files.n_bytes) == (11, 11 * 6 * 4)


def test_rows_may_come_flat_and_of_another_type(tmp_path):
    files = RowFiles(tmp_path / "rows", 3, (2, 2), "uint8", block_rows=3)
    files.write(0, np.arange(12.0).reshape(3, 4))
    assert files.take(np.array([2])).tolist() == [[[8, 9], [10, 11]]]
    assert files.take(np.array([2])).dtype == np.uint8


def test_what_is_taken_is_a_copy(files):
    taken = files.take(np.array([1]))
    taken[:] = 0
    assert np.array_equal(files.take(np.array([1])), rows_of(11, (2, 3))[[1]])


def test_a_half_written_file_is_not_there(files, tmp_path):
    (tmp_path / "rows" / "0000000004.npy").rename(tmp_path / "rows" / "abc.tmp")
    assert [files.has(start) for start, _ in files.blocks()] == [True, False, True]
    with pytest.raises(FeatxError, match=r"0000000004\.npy: can't be read .*\. Delete it, and run it again"):
        files.take(np.array([5]))
    assert files.take(np.array([3, 8])).shape == (2, 2, 3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no array"),
        lambda path: np.save(path, np.zeros((3, 2, 3), np.float32)),
        lambda path: np.save(path, np.zeros((4, 2, 3), np.float64)),
        lambda path: np.save(path, np.array([{}] * 4), allow_pickle=True),
    ],
    ids=["cut", "empty", "text", "too few rows", "another type", "pickle"],
)
def test_a_damaged_file_is_named(files, tmp_path, damage):
    damage(tmp_path / "rows" / "0000000004.npy")
    with pytest.raises(FeatxError, match=r"0000000004\.npy: can't be read .*\. Delete it, and run it again") as caught:
        files.take(np.array([5]))
    # Such as NumPy's of a file that is no array.
    assert "load it unsafely" not in str(caught.value)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    files = RowFiles(tmp_path / "file", 3, (2,), "float32", block_rows=3)
    with pytest.raises(FeatxError, match=r"writing failed .*Free some disk space, .*use no cache"):
        files.write(0, rows_of(3, (2,)))
    files = RowFiles(tmp_path / "rows", 3, (2,), "float32", block_rows=3)
    with pytest.raises(ValueError, match="reshape"):
        files.write(0, rows_of(3, (5,)))
    assert not list((tmp_path / "rows").iterdir())


def test_files_that_are_closed_are_opened_again(files, tmp_path):
    expected = files.take(np.array([5, 1]))
    files.close()
    assert np.array_equal(files.take(np.array([5, 1])), expected)
    files.close()
    write_all(files, 2 * rows_of(11, (2, 3)))
    assert np.array_equal(files.take(np.array([5, 1])), 2 * expected)


def test_the_largest_file_has_64_mib():
    block = choose_block({"map": ((28, 28, 512), "float32"), "pixels": ((224, 224, 3), "uint8")})
    assert block * 28 * 28 * 512 * 4 <= 2**26 < (block + 1) * 28 * 28 * 512 * 4
    assert choose_block({"huge": ((2**30,), "float32")}) == 1
