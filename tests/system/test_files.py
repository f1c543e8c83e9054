"""Files that belong together: all of them, or none."""

import os

import pytest
from failing_moves import end_at, fail

from featx import FeatxError
from featx.system import check_free_files, whole_files


def write_all(paths, text):
    with whole_files(paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text(text)
        assert {temporary.parent for temporary in temporaries} == {paths[0].parent}


def test_files_appear_together_and_replace_what_was_there(tmp_path):
    paths = [tmp_path / "main", tmp_path / "side"]
    for text in ("one", "two"):
        write_all(paths, text)
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"main": text, "side": text}


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_they_are_like_any_other_file(tmp_path):
    write_all([tmp_path / "main"], "")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "main").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_or_changed_where_it_ends_early(tmp_path, error):
    write_all([tmp_path / "main"], "old")
    with pytest.raises(error), whole_files([tmp_path / "main", tmp_path / "side"]) as temporaries:
        temporaries[0].write_text("half")
        raise error
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"main": "old"}


def test_a_set_is_never_left_with_a_part_of_another(tmp_path):
    paths = [tmp_path / name for name in ("main", "side", "last")]
    write_all(paths, "old")
    with pytest.raises(FeatxError, match=r"main: writing failed: Is a directory; nothing of it was kept"):  # noqa: SIM117
        with whole_files(paths):
            # Another program is faster: the second can't be moved to its place, once the third has been.
            paths[1].unlink()
            paths[1].mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "main", "side"]
    assert [paths[0].read_text(), paths[2].read_text()] == ["old", "old"]


SETS = [("main",), ("main", "side"), ("main", "side", "last")]


@pytest.mark.parametrize("names", SETS)
def test_the_old_files_stay_where_a_step_fails(tmp_path, monkeypatch, names):
    paths = [tmp_path / name for name in names]
    n_failed = 0
    for call in range(1, 30):
        write_all(paths, "old")
        with monkeypatch.context() as patch:
            functions, count = end_at(call, fail)
            for name, function in functions.items():
                patch.setattr(os, name, function)
            try:
                write_all(paths, "new")
                expected = "new"
            except FeatxError as error:
                assert "Input/output error; nothing of it was kept" in str(error)
                expected = "old"
                n_failed += 1
            is_over = next(count) <= call
        if is_over:
            break
        assert [path.read_text() for path in paths] == [expected] * len(paths)
        assert {path.name for path in tmp_path.glob("[!.]*")} == set(names)
        check_free_files(paths, overwrite=True, keep=tmp_path)
        assert [path.read_text() for path in paths] == [expected] * len(paths)
    assert is_over
    assert n_failed >= 2 * len(paths) - (len(paths) == 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("names", SETS)
def test_one_set_is_there_whole_after_a_kill_at_any_step(tmp_path, names):
    paths = [tmp_path / name for name in names]
    found = []
    for call in range(1, 30):
        write_all(paths, "old")
        if not (pid := os.fork()):
            functions, _ = end_at(call, lambda: os._exit(9))
            for name, function in functions.items():
                setattr(os, name, function)
            write_all(paths, "new")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        # What the next export does first, also one that replaces nothing.
        with pytest.raises(FeatxError, match=r"exists\. Give another `output`"):
            check_free_files(paths, overwrite=False, keep=tmp_path)
        texts = {path.read_text() for path in paths}
        assert len(texts) == 1
        found += texts
        if code == 0:
            break
        assert code == 9
    assert found == sorted(found, reverse=True)
    assert set(found) == {"old", "new"}


def test_a_folder_that_can_not_be_written(tmp_path):
    with pytest.raises(FeatxError, match=r"main: writing failed: No such file or directory"):
        write_all([tmp_path / "nowhere" / "main"], "")
