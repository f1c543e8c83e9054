"""Images without labels: what counts as one, and in which order."""

from pathlib import Path

import pytest
from samples import make_image

from featx import FeatxError
from featx.images import list_sources


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
        ("file\na.png\n", r"no column 'path'; it has 'file'\. .*`path_column`"),
        ("path,x\na.png,1\n ,2\n", r"line 3 has no usable path \(such lines: 1\)"),
        ("file;x\na.png;1\n", "it has 'file', 'x'; t.csv: its cells are separated by ';'"),
        ('path,x\na.png,1\nb.png,"2\nc.png,3\nd.png,4"\n', "begins in line 3 has a quote"),
        ('path,x\na.png,"1\n2"\n ,2\n', r"line 4 has no usable path"),
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
        ({"root": tmp_path}, "none of the images is a CSV: leave `root` out"),
        ({"path_column": "file", "root": tmp_path}, "leave `path_column` and `root` out"),
    ):
        with pytest.raises(FeatxError, match=message):
            list_sources([tmp_path], **options)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FeatxError, match=r"no images below this folder\. Expected"):
        list_sources([tmp_path])
    for name in ("1.jxl", "2.JXL", "notes", "a.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(FeatxError, match=r"folder \(files passed over, by ending: \.jxl 2, \.txt 1, none 1\)\. "):
        list_sources([tmp_path])


def test_what_is_passed_over_is_said(tmp_path):
    make_image(tmp_path / "b" / "1.png", 0)
    for name in ("b/1.jxl", "b/2.jxl", "b/x.txt", "b/.hidden.png"):
        (tmp_path / name).write_text("x")
    (tmp_path / "t.tsv").write_text("path\tlabel\nb/1.png\tx\n")
    notes = []
    found = list_sources([tmp_path / "b", tmp_path / "t.tsv", "c.jxl"], echo=notes.append)
    assert found == [tmp_path / "b/1.png", tmp_path / "b/1.png", Path("c.jxl")]
    assert notes == [
        f"{tmp_path / 'b'}: 3 files passed over, by ending: .jxl 2, .txt 1; first '1.jxl'",
        "t.tsv: its cells are separated by tabs, and are read so",
    ]
