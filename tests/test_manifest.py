"""Folders and CSVs as tables of images."""

import contextlib
import os
from pathlib import Path

import pytest
from conftest import make_image, make_tree

from featx import FeatxError, read_source


def write_csv(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_a_class(tree):
    table = read_source(tree).table
    assert list(table.columns) == ["path", "label", "split"]
    assert table["label"].value_counts().to_dict() == {"ash": 12, "birch": 10, "cedar": 8}
    assert set(table["split"]) == {""}
    assert table["path"].iloc[0] == "ash/000.png"
    assert table["path"].is_monotonic_increasing


def test_split_folders_above_the_classes(tmp_path):
    for split in ("train", "val", "Test"):
        make_tree(tmp_path / split, {"a": 2, "b": 1})
    table = read_source(tmp_path).table
    assert table["split"].value_counts().to_dict() == {"train": 3, "validation": 3, "test": 3}
    assert set(table["label"]) == {"a", "b"}


def test_a_class_called_train_is_a_class(tmp_path):
    make_tree(tmp_path, {"train": 2, "tram": 2})
    assert set(read_source(tmp_path).table["label"]) == {"train", "tram"}


def test_split_folders_beside_others_are_refused(tmp_path):
    make_tree(tmp_path, {"train/a": 1, "test/a": 1, "spare/a": 1})
    with pytest.raises(FeatxError, match="'spare' stands beside"):
        read_source(tmp_path)


def test_images_alone_get_no_label(tmp_path):
    make_image(tmp_path / "one.png", 1)
    manifest = read_source(tmp_path)
    assert manifest.table["label"].tolist() == [""]
    assert "no label" in manifest.notes[0]


def test_images_beside_class_folders_are_refused(tmp_path):
    make_tree(tmp_path, {"a": 1, "b": 1})
    make_image(tmp_path / "stray.png", 1)
    with pytest.raises(FeatxError, match=r"stray\.png"):
        read_source(tmp_path)


def test_other_files_are_counted_and_hidden_ones_ignored(tmp_path):
    make_tree(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".DS_Store").write_text("x")
    manifest = read_source(tmp_path)
    assert len(manifest) == 2
    assert manifest.notes == (
        f"1 files passed over: their names don't end like an image's; first {str(Path('a', 'notes.txt'))!r}",
    )


@pytest.mark.parametrize(
    ("classes", "message"),
    [({}, "no images below this folder"), ({"only": 3}, r"one class only \('only', 3 images\)")],
)
def test_folders_that_cannot_be_meant(tmp_path, classes, message):
    with pytest.raises(FeatxError, match=message):
        read_source(make_tree(tmp_path, classes))


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FeatxError, match="no such folder or CSV"):
        read_source(tmp_path / "nowhere")


def test_a_csv_carries_its_columns(tmp_path):
    csv = write_csv(
        tmp_path / "m.csv", "path,label,split,group,year,artist\na.png,NA ,val,g1,1620,X\nb.png,oil,train,,,Y\n"
    )
    manifest = read_source(csv)
    table = manifest.table
    assert manifest.root == tmp_path
    assert table["label"].tolist() == ["NA", "oil"]
    assert table["split"].tolist() == ["validation", "train"]
    assert table["group"].tolist() == ["g1", ""]
    assert table["year"].tolist()[0] == 1620
    assert table["year"].isna().tolist() == [False, True]
    assert table["artist"].tolist() == ["X", "Y"]


def test_a_csv_with_other_names_and_another_root(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "Image file,Medium,Subset,Museum\na.png,oil,val,M\nb.png,ink,test,N\n")
    manifest = read_source(
        csv, path_column="Image file", label_column="Medium", split_column="Subset", group_column="Museum", root="/data"
    )
    assert list(manifest.table.columns) == ["path", "label", "split", "group"]
    assert str(manifest.root) == "/data"


def test_a_csv_without_labels_if_asked_for(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path\na.png\nb.png\n")
    assert read_source(csv, label_column="").table["label"].tolist() == ["", ""]


def test_a_csv_without_columns_that_it_has_if_asked_for(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path,label,split,group,year\na.png,x,train,g,1620\nb.png,x,odd,g,1621\n")
    table = read_source(csv, label_column="", split_column="", group_column="").table
    assert list(table.columns) == ["path", "label", "split", "year"]
    assert [*table["label"], *table["split"]] == [""] * 4
    # What a column is read as, it is not left out for.
    again = write_csv(tmp_path / "n.csv", "label,split\na.png,x\nb.png,y\n")
    table = read_source(again, path_column="label", label_column="split", split_column="").table
    assert table[["path", "label", "split"]].to_numpy().tolist() == [["a.png", "x", ""], ["b.png", "y", ""]]


def test_groups_are_told_apart_by_more_than_blanks(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path,label,group\na.png,x,g1 \nb.png,y,g1\nc.png,x, \nd.png,y,\n")
    assert read_source(csv).table["group"].tolist() == ["g1", "g1", "", ""]


def test_a_column_is_read_as_one_thing(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path,label,split\na.png,x,train\nb.png,y,test\n")
    for options, message in (
        ({"group_column": "path"}, "'path' can't be both the path and the group: .*--path-column or --group-column"),
        ({"group_column": "label"}, r"'label' can't be both the label and the group.* '' for none,.*source\.label_col"),
        ({"label_column": "split", "split_column": "split"}, "'split' can't be both the label and the split"),
    ):
        with pytest.raises(FeatxError, match=message):
            read_source(csv, **options)
    # As it says.
    table = read_source(csv, label_column="", group_column="label").table
    assert table[["label", "group"]].to_numpy().tolist() == [["", "x"], ["", "y"]]
    # What was asked for comes before what is taken where it is there.
    again = write_csv(tmp_path / "n.csv", "path,split\na.png,x\nb.png,y\n")
    table = read_source(again, label_column="split").table
    assert table.to_numpy().tolist() == [["a.png", "x", ""], ["b.png", "y", ""]]


def test_a_column_in_the_way_of_another_is_told_with_the_option(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path,label,Medium\na.png,x,oil\nb.png,y,ink\n")
    with pytest.raises(FeatxError, match="'label' can't be carried into a store beside the one that --label-column"):
        read_source(csv, label_column="Medium")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "/data"}, r"a folder, and --root \(in an experiment file: source\.root\) is of a CSV: leave it out"),
        ({"label_column": ""}, r"--label-column \(in an experiment file: source\.label_column\)"),
        (
            {"path_column": "file", "split_column": "s", "group_column": ""},
            r"--path-column, --split-column, --group-column \(.*: source\.path_column, source\.split_column, source",
        ),
    ],
)
def test_a_folder_takes_no_options_of_csvs(tree, options, message):
    with pytest.raises(FeatxError, match=message):
        read_source(tree, **options)


def test_an_image_is_no_source(tree):
    with pytest.raises(FeatxError, match=r"000\.png: an image; expected a folder of images, or a CSV"):
        read_source(tree / "ash" / "000.png")


def test_paths_are_never_done_without(tmp_path):
    csv = write_csv(tmp_path / "m.csv", "path,label\na.png,x\nb.png,y\n")
    with pytest.raises(
        FeatxError, match=r"no column ''; it has 'path', 'label'\. Name the right one with --path-column"
    ):
        read_source(csv, path_column="")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\n", r"no column 'path'; it has 'file', 'label'.*--path-column .*source\.path_column"),
        ("path,kind\na.png,x\n", r"no column 'label'.*--label-column .*source\.label_column"),
        (",label\na.png,x\n", "no column 'path'; it has 'label'; 1 column without a name is left out"),
        (
            "path;label;split\na.png;x;train\n",
            r"separated by ';' \(its header: 'path;label;split'\): save it with commas",
        ),
        ("path;label;share\na.png;x;0,5\n", "separated by ';'"),
        ("path\tlabel\na.png\tx\n", "separated by tabs"),
        ("path,label,label\na.png,x,y\nb.png,y,z\n", "the column 'label' is there twice: rename one"),
        ('path,label\na.png,x\nb.png,"y\nz"\n', r"line 3: the label 'y\\nz' has a line break or another control"),
        ("path,label\na.png,x\x1b[31m\nb.png,y\n", r"line 2: the label 'x\\x1b\[31m' has"),
        ("path,label\na.png,x\nb.png,y\u2028z\n", "line 3: the label"),
        (
            "path,label\na.png,x\nb.png,y\na.png,x\n",
            r": 1 path stands there twice; the first is 'a.png', again in line 4",
        ),
        ("path,label\na.png,x\nb.png,y\na.png,x\nb.png,y\n", ": 2 paths stand there twice"),
        ("path,label\na.png,x\n./a.png,y\n", "twice"),
        ("path,label\n,x\nb.png,y\n", r"line 2 has no usable path \(such lines: 1\)"),
        ("path,label,split\na.png,x,trian\nb.png,y,test\n", "line 2: 'trian' is no split"),
        ("path,label\n", "no rows below the header"),
        ("", "not a CSV"),
        (
            "path,label\na.png,x\nb.png,x\n",
            r"one class only.*--label-column '' \(in an experiment file: source\.label_column: ''\)",
        ),
        ("path,label\nc,x.png,b\nd.png,y\n", "not a CSV that can be read"),
        ("path,label\na.png,x\n\n,y\n", "line 4 has no usable path"),
        ("path,label,sha256\na.png,x,1\nb.png,y,2\n", "'sha256' can't be carried"),
        ("path,label,a/b\na.png,x,1\nb.png,y,2\n", "'a/b' can't be carried"),
    ],
)
def test_csvs_that_cannot_be_meant(tmp_path, text, message):
    with pytest.raises(FeatxError, match=message):
        read_source(write_csv(tmp_path / "m.csv", text))


def test_further_columns_lose_nothing_by_being_numbers(tmp_path):
    header = "path,label,code,big,id,year,share,odd\n"
    rows = "a.png,x,00123,9007199254740993,123456789012345678901234567890,1620,.5,1e5\nb.png,y,00456,,7,-3,2,nan\n"
    table = read_source(write_csv(tmp_path / "m.csv", header + rows)).table
    assert table["code"].tolist() == ["00123", "00456"]
    assert table["big"].tolist() == ["9007199254740993", ""]
    assert table["id"].tolist()[0] == "123456789012345678901234567890"
    assert table["year"].tolist() == [1620, -3]
    # 2 would come back, and .5 wouldn't.
    assert table["share"].tolist() == [".5", "2"]
    assert table["odd"].tolist() == ["1e5", "nan"]


def test_an_absolute_path_to_an_image_that_is_there_is_a_second_one(tmp_path):
    csv = write_csv(tmp_path / "m.csv", f"path,label\na.png,x\n{tmp_path / 'a.png'},y\n")
    with pytest.raises(FeatxError, match="twice"):
        read_source(csv)


def test_images_beside_the_classes_of_a_split_are_refused(tmp_path):
    make_tree(tmp_path, {"train/a": 1, "train/b": 1, "test/a": 1})
    make_image(tmp_path / "test" / "loose.png", 1)
    with pytest.raises(FeatxError, match=r"test: 1 images \(first: 'loose\.png'\)"):
        read_source(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    make_tree(tmp_path, {"a": 1, "b": 1, "c": 1})
    (tmp_path / "a").chmod(0)
    with pytest.raises(FeatxError, match="a: this folder can't be read"):
        read_source(tmp_path)


def test_a_folder_with_an_images_name_is_its_images_or_an_entry_of_its_own(tmp_path):
    make_tree(tmp_path, {"a": 2, "b": 1, "a/album.jpg": 2, "a/album.jpg/inner.png": 1, "c.jpg": 1})
    (tmp_path / "a" / "empty.png" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "a" / "outer.png" / "inner.gif").mkdir(parents=True)
    (tmp_path / "b" / "notes.jpg").mkdir()
    (tmp_path / "b" / "notes.jpg" / "notes.txt").write_text("x")
    manifest = read_source(tmp_path)
    assert manifest.table.set_index("path")["label"].to_dict() == {
        "a/000.png": "a",
        "a/001.png": "a",
        "a/album.jpg/000.png": "a",
        "a/album.jpg/001.png": "a",
        "a/album.jpg/inner.png/000.png": "a",
        "a/empty.png": "a",
        "a/outer.png/inner.gif": "a",
        "b/000.png": "b",
        "b/notes.jpg": "b",
        "c.jpg/000.png": "c.jpg",
    }
    assert manifest.table["path"].is_monotonic_increasing


@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_an_empty_class_folder_with_an_images_name_is_told_and_no_class(tmp_path, splits):
    for split in splits or ("",):
        make_tree(tmp_path / split, {"a": 2, "b": 2})
    (tmp_path / "x.jpg" / "empty").mkdir(parents=True)
    manifest = read_source(tmp_path)
    assert set(manifest.table["label"]) == {"a", "b"}
    assert set(manifest.table["split"]) == set(splits or ("",))
    assert manifest.notes == (
        "1 folders passed over: their names end like an image's, and no image is in them; first 'x.jpg'",
    )


def test_beside_images_without_classes_it_is_an_entry(tmp_path):
    make_image(tmp_path / "b.png", 1)
    make_image(tmp_path / "d.png", 1)
    (tmp_path / "c.jpg").mkdir()
    manifest = read_source(tmp_path)
    assert manifest.table["path"].tolist() == ["b.png", "c.jpg", "d.png"]
    assert manifest.notes == ("no class folders: the images get no label",)


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX")
def test_links_to_folders_are_told_and_never_lead_in_circles(tmp_path):
    root = make_tree(tmp_path / "root", {"a": 2, "b": 2})
    elsewhere = make_tree(tmp_path / "elsewhere", {"": 3})
    expected = read_source(root).table["path"].tolist()
    (root / "a" / "to elsewhere").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to("..")
    (root / "b" / "here.png").symlink_to(".")
    (root / "b" / "back and forth").symlink_to("../a")
    (root / "itself").symlink_to(root)
    (root / "further up").symlink_to("../..")
    manifest = read_source(root)
    assert manifest.table["path"].tolist() == expected
    assert manifest.notes == ("6 links to folders not followed; first 'further up'",)
    # A class may be a link: it stands where classes are expected.
    (root / "c").symlink_to(elsewhere)
    assert read_source(root).table["label"].value_counts().to_dict() == {"a": 2, "b": 2, "c": 3}


@pytest.mark.skipif(os.name != "posix", reason="links need no rights on POSIX")
def test_links_to_files_are_entries_wherever_they_lead(tmp_path):
    make_tree(tmp_path, {"a": 1, "b": 1})
    targets = {"loop1.png": "loop2.png", "loop2.png": "loop1.png", "itself.png": "itself.png", "nowhere.png": "nothing"}
    for name, target in (targets | {"good.png": "000.png", "loop": "loop"}).items():
        (tmp_path / "a" / name).symlink_to(target)
    manifest = read_source(tmp_path)
    assert [path for path in manifest.table["path"] if path.startswith("a")] == [
        f"a/{name}" for name in sorted([*targets, "good.png", "000.png"])
    ]
    assert "1 files passed over" in manifest.notes[0]


@contextlib.contextmanager
def folder_within_folders(folder, depth):
    """Make folders within one another, and take them away again: what cleans up after tests can't go so deep."""
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    for _ in range(depth):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    try:
        make_image(Path("deep.png"), 1)
        yield
    finally:
        os.unlink("deep.png")  # noqa: PTH108
        for _ in range(depth):
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106
        os.chdir(before)


@pytest.mark.skipif(os.name != "posix", reason="other systems' paths are shorter")
def test_folders_deeper_than_calls_can_go_are_listed(tmp_path):
    make_tree(tmp_path, {"a": 1, "b": 1})
    with folder_within_folders(tmp_path / "b", 1500):
        assert read_source(tmp_path).table["path"].tolist()[-1] == "b/" + 1500 * "d/" + "deep.png"
    assert len(read_source(tmp_path)) == 2


def test_a_csv_that_is_no_text(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xff\xfe\x00\x01" * 50)
    with pytest.raises(FeatxError, match="not a CSV that can be read"):
        read_source(path)


@pytest.mark.parametrize(
    ("encoding", "near"), [("latin-1", "'path,label\\na.png,caf\ufffd\\nb.png,oil"), ("utf-16", "'\ufffd\ufffd")]
)
def test_a_csv_in_another_encoding_is_to_be_saved_as_utf_8(tmp_path, encoding, near):
    (tmp_path / "m.csv").write_bytes("path,label\na.png,caf\xe9\nb.png,oil\n".encode(encoding))
    with pytest.raises(FeatxError, match="save it as UTF-8") as caught:
        read_source(tmp_path / "m.csv")
    assert f"not UTF-8 near {near}" in str(caught.value)


def test_columns_without_a_name_are_left_out_and_told(tmp_path):
    one = read_source(write_csv(tmp_path / "one.csv", ",path,label,year\n0,a.png,x,1620\n1,b.png,y,1630\n"))
    assert list(one.table.columns) == ["path", "label", "split", "year"]
    assert one.table["path"].tolist() == ["a.png", "b.png"]
    assert one.table["year"].tolist() == [1620, 1630]
    assert one.notes == ("1 column without a name is left out",)
    two = read_source(write_csv(tmp_path / "two.csv", "path,label, ,\na.png,x,,\nb.png,,,\n"))
    assert list(two.table.columns) == ["path", "label", "split"]
    assert two.notes == ("2 columns without a name are left out", "1 image has no label")


def test_labels_of_one_text_composed_in_two_ways_are_noted(tmp_path):
    note = (
        "the labels 'caf\\xe9' and 'cafe\\u0301' differ only in how their characters are composed (NFC or NFD): "
        "1 and 1 images; they are two classes"
    )
    csv = write_csv(tmp_path / "m.csv", "path,label\na.png,caf\xe9\nb.png,cafe\u0301\nc.png,tea\nd.png,cafe\n")
    manifest = read_source(csv)
    assert manifest.table["label"].tolist() == ["caf\xe9", "cafe\u0301", "tea", "cafe"]
    assert manifest.notes == (note,)
