"""Folders and CSVs as tables of images."""

import contextlib
import os
from pathlib import Path

import pytest
from samples import make_image, make_tree

from featx import FeatxError, read_source
from featx.images import list_sources


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
    with pytest.raises(FeatxError, match="'spare' is next to them"):
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
    assert manifest.notes == (f"1 files passed over, by ending: .txt 1; first {str(Path('a', 'notes.txt'))!r}",)


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
        ({"group_column": "path"}, "'path' can't be both the path and the group: .*`path_column` or `group_column`"),
        (
            {"group_column": "label"},
            r"'label' can't be both the label and the group.* '' for none, with `label_column`",
        ),
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
    with pytest.raises(FeatxError, match="'label' can't be carried into a store next to the one that `label_column`"):
        read_source(csv, label_column="Medium")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "/data"}, "a folder, not a CSV: leave `root` out"),
        ({"label_column": ""}, "leave `label_column` out"),
        (
            {"path_column": "file", "split_column": "s", "group_column": ""},
            r"`path_column`, `split_column`, `group_column`",
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
        FeatxError, match=r"no column ''; it has 'path', 'label'\. Name the right one with `path_column`"
    ):
        read_source(csv, path_column="")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,x\n", r"no column 'path'; it has 'file', 'label'.*`path_column`"),
        ("path,kind\na.png,x\n", r"no column 'label'.*`label_column`"),
        (",label\na.png,x\n", "no column 'path'; it has 'label'; 1 column without a name is left out"),
        ("datei;klasse\na.png;x\n", "it has 'datei', 'klasse'; m.csv: its cells are separated by ';'"),
        ("path,label,label\na.png,x,y\nb.png,y,z\n", "the column 'label' occurs twice: rename one"),
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
            r"one class only.*`label_column` ''",
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,label,note\na.png,x,"big\nb.png,y,small\nc.png,x,\n', "begins in line 2 has a quote.*in line 4"),
        ('path,label,note\na.png,x,"big\nb.png,y,small\nc.png,x,5"\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('path,label,note\na.png,x,"big\nb.png,y,5"\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('path,label,note\na.png,x,ok\nb.png,y,"big\nc.png,x,"small"\n', "begins in line 3 has a quote.*in line 4"),
        ('path,note,label\na.png,"big,x\nb.png,small,y\nc.png,5",x\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('label,note,path\nx,"big,a.png\ny,5",b.png\n', r"in line 2 has a .*row in it \('a\.png'\)"),
        ('path\n"a.png\nb.png\nc.png"\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('path,label,note\n"a.png,x,n\nb.png",y,n\n', r"in line 2 has a .*row in it \('a\.png'\)"),
        ('label,note,path\nx,n,"a.png\ny,n,b.png"\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('path,label,note\na.png,x,"big\nb.png,y,small, too"\nc.png,x,\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('path,label,note\na.png,x,"big\nb.png,y,4, 5\nc.png,x,6"\n', r"in line 2 has a .*row in it \('b\.png'\)"),
        ('label,note,path\nx,"big, too,a.png\ny,5",b.png\n', r"in line 2 has a .*row in it \('a\.png'\)"),
        ('path,label,"note\na.png,x,n\nb.png,y,n"\nc.png,x,n\nd.png,y,n\n', r"in line 1 has a .*in it \('a\.png'\)"),
        ("path,label,note\na.png,x,two\nlines\nb.png,y,\n", "line 3 has 1 cell, and the header 3.*line break in it"),
        ("path,note,label\na.png,two\nlines,x\nb.png,,y\n", "line 2 has 2 cells, and the header 3"),
        ("path,label\na.png,x\rb.png\nb.png,y\n", "line 3 has 1 cell, and the header 2"),
        ("path,label\na.png,x,\nb.png,y,\n", "line 2 has 3 cells, and the header 2: it ends in a delimiter"),
        ("path,label\na, b.png,x\n", "line 2 has 3 cells.*delimiter in it in quotes"),
        ("path,label\na.png,x\n# the next\nb.png,y\n", r"line 3 has 1 cell.*like a comment \('# the next'\): take"),
        ("path,label\na.png,x\n#b.png,y\nc.png,y\n", r"line 3 looks like a comment \('#b.png'\): .*begin it with \./"),
        ("label,path\nx,a.png\n # x,b.png\ny,c.png\n", r"line 3 looks like a comment \(' # x'\): .*another column"),
        ("\n# made by hand\npath,label\na.png,x\n", r"line 2 is a comment \('# made by hand'\), where its header"),
        (
            'path,label,note\na.png,x,"two\nor\r\nmore, lines"\nb.png,y,"a ""b"" c"\n\nc.png,x,\nb.png,x,\n',
            "again in line 8",
        ),
        ('path,label,split,note\na.png,x,train,"two\nlines"\nb.png,y,tain,\n', "line 4: 'tain' is no split"),
        ('path,label,note\na.png,x,"two\nlines"\n ,y,\n', "line 4 has no usable path"),
        ('path,label,note\na.png,x,"two\nlines"\nb.png,y\x07,\n', "line 4: the label"),
    ],
)
def test_rows_are_lost_in_no_cell_and_lines_keep_their_numbers(tmp_path, text, message):
    (tmp_path / "m.csv").write_bytes(text.encode())
    with pytest.raises(FeatxError, match=message):
        read_source(tmp_path / "m.csv")


def test_a_row_in_a_cell_is_known_by_its_file_where_its_name_has_no_ending(tmp_path):
    csv = write_csv(tmp_path / "m.csv", 'path,label,note\n1,x,"tall, wide\nor, not, so"\n2,y,\n')
    assert read_source(csv).table["path"].tolist() == ["1", "2"]
    csv = write_csv(tmp_path / "m.csv", 'path,label,note\n1,x,"tall\n2,y,wide\n3,x,5"\n')
    make_image(tmp_path / "2.png", 0).rename(tmp_path / "2")
    with pytest.raises(FeatxError, match=r"begins in line 2 has a quote.*row in it \('2'\)"):
        read_source(csv)
    csv = write_csv(tmp_path / "m.csv", 'path,label\n"1\n2",x\n3,y\n')
    with pytest.raises(FeatxError, match=r"begins in line 2 has a quote.*row in it \('2'\)"):
        read_source(csv)


@pytest.mark.skipif(os.name != "posix", reason="other systems' names have no line breaks")
def test_a_path_with_line_breaks_is_no_row_in_a_cell(tmp_path):
    names = ["a.png,x\nb.png\nc.png", "d.png\ne.png"]
    make_image(tmp_path / names[0], 0)
    csv = write_csv(tmp_path / "m.csv", f'path,label\n"{names[0]}",x\n"{names[1]}",y\n"f.png,\tg.png",y\n')
    assert read_source(csv).table["path"].tolist() == [*names, "f.png,\tg.png"]


def test_paths_of_files_may_begin_like_comments(tmp_path):
    for name in ("#1.png", "#new/2.png"):
        make_image(tmp_path / name, 0)
    text = "path,label\n#1.png,x\n#new\\2.png,y\n./#3.png,#y\n"
    table = read_source(write_csv(tmp_path / "m.csv", text)).table
    assert [path.replace("\\", "/") for path in table["path"]] == ["#1.png", "#new/2.png", "./#3.png"]
    assert table["label"].tolist() == ["x", "y", "#y"]


def test_names_of_columns_may_have_line_breaks(tmp_path):
    csv = write_csv(tmp_path / "m.csv", 'path,label,"size\n(mm)","kind,\nif known"\na.png,x,2,oil\nb.png,y,3,ink\n')
    assert list(read_source(csv).table) == ["path", "label", "split", "size\n(mm)", "kind,\nif known"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("delimiter", "said"), [(",", None), (";", "';'"), ("\t", "tabs")])
def test_other_delimiters_and_line_ends_are_read(tmp_path, delimiter, said, end):
    rows = [
        ["path", "label", '"share, in kg; or\tless"', '"note"'],
        ["a.png", "x", '"0,5"', f'"two{end}""lines"""'],
        ['"b;c,d\te.png"', '"y"', "2", 'an 8" one'],
    ]
    text = end + "".join(delimiter.join(row) + end for row in rows) + end
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    manifest = read_source(tmp_path / "m.csv")
    assert manifest.table.to_numpy().tolist() == [
        ["a.png", "x", "", "0,5", f'two{end}"lines"'],
        ["b;c,d\te.png", "y", "", "2", 'an 8" one'],
    ]
    expected = (
        f"m.csv: its cells are separated by {said}, and are read so",
        "the column 'share, in kg; or\\tless' has decimal commas ('0,5') and stays text: write points where it is to "
        "be numbers",
    )
    assert manifest.notes == (expected if said else ())


def test_quoted_names_with_semicolons_between_them_are_a_header(tmp_path):
    csv = write_csv(tmp_path / "m.csv", '"path";"label, of 2"\n"a.png";"x"\n"b.png";"y"\n')
    assert read_source(csv, label_column="label, of 2").table["label"].tolist() == ["x", "y"]
    csv = write_csv(tmp_path / "m.csv", "sep=;\npath;label\na.png;x\nb.png;y\n")
    assert read_source(csv).table["path"].tolist() == ["a.png", "b.png"]
    # A list of paths has no delimiter.
    csv = write_csv(tmp_path / "n.csv", "path\na;b.png\nc\td.png\n")
    manifest = read_source(csv, label_column="")
    assert (manifest.table["path"].tolist(), manifest.notes[:-1]) == (["a;b.png", "c\td.png"], ())


def test_long_cells_are_read(tmp_path):
    mask = " ".join(map(str, range(50_000)))
    csv = write_csv(tmp_path / "m.csv", f"path,label,mask\na.png,x,{mask}\nb.png,y,\n")
    assert read_source(csv).table["mask"].tolist() == [mask, ""]


@pytest.mark.skipif(os.name != "posix", reason="other systems' own paths have backslashes")
def test_paths_that_another_system_wrote_are_found(tmp_path):
    names = ("a/1.png", "cafe\u0301/2.png", "caf\xe9 au lait.png", "as\\is.png", "as/is.png", "\xfc.png", "u\u0308.png")
    for name in names:
        make_image(tmp_path / name, 0)
    paths = ["a\\1.png", "caf\xe9\\2.png", "cafe\u0301 au lait.png", "as\\is.png", "u\u0308.png", "no\\file.png"]
    csv = write_csv(tmp_path / "m.csv", "path\n" + "".join(f"{path}\n" for path in paths))
    manifest = read_source(csv, label_column="")
    found = ["a/1.png", "cafe\u0301/2.png", "caf\xe9 au lait.png", *paths[3:]]
    assert manifest.table["path"].tolist() == found
    assert [note.partition("; first ")[2].partition(". Paths")[0] for note in manifest.notes[:2]] == [
        "'a\\\\1.png', a file named 'a/1.png'",
        "'no\\\\file.png'",
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in list_sources([csv])] == found
    absolute = write_csv(tmp_path / "n.csv", f"path\n{tmp_path}/caf\xe9/2.png\n")
    assert read_source(absolute, label_column="").table["path"].tolist() == [f"{tmp_path}/cafe\u0301/2.png"]
    # The same file, written in two ways.
    twice = write_csv(tmp_path / "o.csv", "path,label\na/1.png,x\na\\1.png,y\n")
    with pytest.raises(FeatxError, match=r"the first is 'a/1\.png', again in line 3"):
        read_source(twice)


@pytest.mark.skipif(os.name != "posix", reason="other systems make no two such files")
def test_a_path_that_two_files_match_names_none(tmp_path):
    for name in ("e\u0301/\xe9.png", "e\u0301/e\u0301.png"):
        make_image(tmp_path / name, 0)
    manifest = read_source(write_csv(tmp_path / "m.csv", "path\n\xe9/\xe9.png\n"), label_column="")
    assert manifest.table["path"].tolist() == ["\xe9/\xe9.png"]
    assert "nor exactly one with slashes and letters composed in another way" in manifest.notes[0]


SYSTEM_FOLDERS = (
    *("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", ".ipynb_checkpoints", "lost+found", ".hidden"),
    *("@Recently-Snapshot", "~snapshot", "Network Trash Folder", "RECYCLER", "FOUND.000", "FOUND.012"),
)


@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_folders_of_systems_are_no_classes(tmp_path, splits):
    for split in splits or ("",):
        make_tree(tmp_path / split, {"a": 2, "b": 1})
    expected = read_source(tmp_path).table
    for name in SYSTEM_FOLDERS:
        for place in ("", *splits, *([f"{split}/b" for split in splits] or ["b"])):
            make_image(tmp_path / place / name / "1.png", 0)
    make_image(tmp_path / "System Volume Information" / "1.png", 0)
    manifest = read_source(tmp_path)
    assert manifest.table.equals(expected)
    count = len(SYSTEM_FOLDERS) * (5 if splits else 2) + 1
    assert manifest.notes == (
        f"{count} folders passed over: they are hidden or of a system, and no classes; first '#recycle'",
    )
    # As where predictions are made.
    notes = []
    found = list_sources([tmp_path], echo=notes.append)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted(expected["path"])
    assert notes == [f"{tmp_path}: {manifest.notes[0]}"]


def test_class_folders_without_images_are_said(tmp_path):
    make_tree(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "c").mkdir()
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "d" / "deep" / "1.jxl").write_bytes(b"x")
    assert read_source(tmp_path).notes == (
        f"1 files passed over, by ending: .jxl 1; first {str(Path('d/deep/1.jxl'))!r}",
        "2 folders passed over: no image is in them, so they are no classes; first 'c'",
    )


def test_split_folders_without_images_are_said(tmp_path):
    make_tree(tmp_path / "train", {"a": 2, "b": 1})
    (tmp_path / "val").mkdir()
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "1.jxl").write_bytes(b"x")
    manifest = read_source(tmp_path)
    assert set(manifest.table["split"]) == {"train"}
    assert manifest.notes == (
        "no image is in the split folder 'test'",
        "no image is in the split folder 'val'",
        f"1 files passed over, by ending: .jxl 1; first {str(Path('test/1.jxl'))!r}",
        f"1 folders passed over: no image is in them, so they are no classes; first {str(Path('test/a'))!r}",
    )


def test_classes_that_hold_the_same_folders_may_be_splits(tmp_path):
    make_tree(tmp_path, {f"{split}/{name}": 2 for split in ("training_set", "test_set") for name in ("cats", "dogs")})
    manifest = read_source(tmp_path)
    assert set(manifest.table["label"]) == {"training_set", "test_set"}
    assert manifest.notes == (
        "found the same 2 folders ('cats', 'dogs') in each of the folders 'test_set', 'training_set', which are read "
        "as classes. If these are splits, rename them to train, validation, test",
    )
    # A class that holds images of its own, or other folders, is one.
    make_image(tmp_path / "test_set" / "1.png", 0)
    assert read_source(tmp_path).notes == ()
    (tmp_path / "test_set" / "1.png").unlink()
    make_image(tmp_path / "test_set" / "birds" / "1.png", 0)
    assert read_source(tmp_path).notes == ()


@pytest.mark.parametrize(
    ("place", "name"),
    [("photos", "photos"), ("photos/photos", "photos/photos"), ("photos", "photos"), ("x/train", "x"), ("x/test", "x")],
)
def test_a_folder_around_the_class_folders_is_to_be_named(tmp_path, place, name):
    make_tree(tmp_path / "photos" / place, {"ash": 2, "birch": 1, "cedar": 1, "dune": 1})
    make_image(tmp_path / "photos" / "__MACOSX" / "1.png", 0)
    root, inner = tmp_path / "photos", tmp_path / "photos" / place
    with pytest.raises(FeatxError) as caught:
        read_source(root)
    assert str(caught.value) == (
        f"{root}: one folder only, and a classifier needs two classes. Found 4 folders with images in {str(inner)!r} "
        f"('ash', 'birch', 'cedar', ...). If these are the classes, name {str(inner)!r} in place of {str(root)!r}"
    )
    assert len(read_source(inner)) == 5


def test_a_folder_around_the_class_folders_of_a_split(tmp_path):
    make_tree(tmp_path / "train" / "photos", {"ash": 2, "birch": 1})
    make_tree(tmp_path / "test" / "photos", {"ash": 2, "birch": 1})
    with pytest.raises(FeatxError, match=r"where the classes of test are expected, .* move them up into it"):
        read_source(tmp_path)


@pytest.mark.parametrize("splits", [("train", "test"), ("train",), ("val", "test")])
def test_splits_below_classes_are_refused(tmp_path, splits):
    for split in splits:
        make_tree(tmp_path, {f"a/{split}": 2, f"b/{split}": 1})
    with pytest.raises(FeatxError, match=r"like splits below those of classes \('a/(\w+)'\); expected .* \('\1/a'\)"):
        read_source(tmp_path)


def test_a_folder_named_like_a_split_is_a_part_of_a_class_with_others(tmp_path):
    make_tree(tmp_path, {"a/train": 2, "a/tram": 1, "b": 1})
    assert read_source(tmp_path).table["label"].tolist() == ["a", "a", "a", "b"]


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
