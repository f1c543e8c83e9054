"""Files that belong together: all of them, or none."""

import os

import pytest

from featx import FeatxError
from featx.whole_files import whole_files


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
    assert [path.name for path in tmp_path.iterdir()] == ["side"]


def test_a_folder_that_can_not_be_written(tmp_path):
    with pytest.raises(FeatxError, match=r"main: writing failed: No such file or directory"):
        write_all([tmp_path / "nowhere" / "main"], "")
