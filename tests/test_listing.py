"""Images without labels: what counts as one, and in which order."""

import pytest
from conftest import make_image

from featx import FeatxError
from featx.listing import list_sources


def test_sources_keep_their_order_and_labels_play_no_part(tmp_path):
    for name in ("b/one/2.png", "b/one/1.PNG", "b/3.jpg", "a.png"):
        make_image(tmp_path / name.lower(), seed=0)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    (tmp_path / "t.csv").write_text("path,label\na.png,x\n a.png ,x\n")
    found = list_sources([tmp_path / "b", tmp_path / "t.csv", "nowhere.gif"])
    names = ["b/3.jpg", "b/one/1.png", "b/one/2.png", "a.png", "a.png"]
    assert [path.as_posix() for path in found] == [*((tmp_path / name).as_posix() for name in names), "nowhere.gif"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\n", "no rows below the header"),
        ("file\na.png\n", r"no column 'path'; it has 'file'\. .*--path-column"),
        ("path,x\na.png,1\n ,2\n", r"line 3 has no usable path \(such lines: 1\)"),
        ("path;x\na.png;1\n", r"separated by ';'"),
        (",x\na.png,1\n", "it has 'x'; 1 column without a name is left out. "),
    ],
)
def test_tables_that_name_no_images_are_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(FeatxError, match=message):
        list_sources([tmp_path / "t.csv"])


def test_what_is_of_csvs_is_refused_without_one(tmp_path):
    make_image(tmp_path / "a.png", 0)
    for options, message in (
        ({"root": tmp_path}, "--root: of a CSV, and none is among the images: leave that out"),
        ({"path_column": "file", "root": tmp_path}, "--path-column and --root: of a CSV"),
    ):
        with pytest.raises(FeatxError, match=message):
            list_sources([tmp_path], **options)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FeatxError, match="no images below this folder"):
        list_sources([tmp_path])
