"""A journal keeps what is finished, and nothing else."""

import pytest

from featx import FeatxError
from featx.fit.cells import CellScore
from featx.fit.journal import Journal, journal_of_shard, take_up_shards
from featx.system import Shard

SCORES = {(0, 0): CellScore(0.5, 1.0), (1, 0): CellScore(None, 0.1, "ValueError: no")}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.cells.jsonl"
    with Journal(path, {"model": "svm"}, CellScore) as journal:
        for key, score in SCORES.items():
            journal.add(key, score)
    return path


def test_scores_are_there_again(path):
    with Journal(path, {"model": "svm"}, CellScore) as journal:
        assert journal.records == SCORES
        journal.add((2, 0), CellScore(0.75, 2.0))
    assert len(Journal(path, {"model": "svm"}, CellScore).records) == 3


def test_another_grid_begins_anew(path):
    assert Journal(path, {"model": "rf"}, CellScore).records == {}


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_cut_short_is_passed_over(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, {"model": "svm"}, CellScore) as journal:
        assert journal.records == {(0, 0): SCORES[0, 0]}
        journal.add((1, 0), SCORES[1, 0])
    assert Journal(path, {"model": "svm"}, CellScore).records == SCORES


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{}\n[]\n"])
def test_what_is_no_journal_begins_anew(path, data):
    path.write_bytes(data)
    assert Journal(path, {"model": "svm"}, CellScore).records == {}


def test_a_journal_that_is_done_with_is_gone(path):
    Journal(path, {"model": "svm"}, CellScore).remove()
    assert not path.exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(FeatxError, match=r"can't be written: .*\. Give another `output`"),
        Journal(tmp_path / "file" / "j", {}, CellScore),
    ):
        raise AssertionError("a journal below a file")


def test_a_journal_has_one_writer(path):
    with Journal(path, {"model": "svm"}, CellScore) as journal:
        with pytest.raises(FeatxError, match=r"another featx is fitting this"), Journal(path, {}, CellScore):
            raise AssertionError("a second writer")
        journal.add((2, 0), SCORES[0, 0])
    assert Journal(path, {"model": "svm"}, CellScore).records == SCORES | {(2, 0): SCORES[0, 0]}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_what_another_process_has_added_meanwhile_is_kept(path):
    late = Journal(path, {"model": "svm"}, CellScore)
    with Journal(path, {"model": "svm"}, CellScore) as journal:
        journal.add((2, 0), SCORES[0, 0])
    with late:
        late.add((3, 0), SCORES[1, 0])
    added = {(2, 0): SCORES[0, 0], (3, 0): SCORES[1, 0]}
    assert Journal(path, {"model": "svm"}, CellScore).records == SCORES | added


def test_a_share_that_goes_on_is_not_deleted(path):
    share_path = journal_of_shard(path, Shard(1, 2))
    with Journal(share_path, {"model": "svm"}, CellScore) as share:
        share.add((2, 0), SCORES[0, 0])
        whole = Journal(path, {"model": "svm"}, CellScore)
        assert take_up_shards(whole) == []
        assert whole.records == SCORES | {(2, 0): SCORES[0, 0]}
        whole.remove()
        assert share_path.exists()
    whole.remove()
    assert not share_path.exists()
