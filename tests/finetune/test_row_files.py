"""Rows in files: what was written comes back, in any order; what is not whole is not there."""

import numpy as np
import pytest

from featx import FeatxError
from featx.finetune.cache import RowFiles, choose_block


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
    with pytest.raises(FeatxError, match=r"writing failed .*Free some disk space, .*`cache_limit` of 0"):
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
