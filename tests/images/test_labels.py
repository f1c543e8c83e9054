"""Labels that look like numbers or like each other: from a table to a store, to classes, and to what people read."""

import csv
import json
from io import StringIO

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import grouped_features, write_plain_store
from samples import make_image
from stub_network import StubNetwork, stand_in

import featx
from featx import FeatxError
from featx.cli import main
from featx.images import as_label, as_number, group_of_each, note_look_alikes, sort_labels
from featx.report.figures.data import count_classes
from featx.results import count_confusion, report_classes, score_columns
from featx.store import read_rows, select_rows

N_IMAGES = 24


@pytest.fixture(autouse=True)
def stub():
    """Put a stand-in where the network would be."""
    patches = stand_in()
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


@pytest.fixture
def photos(tmp_path):
    """Some images; a class of four has its own shade."""
    for row in range(N_IMAGES):
        make_image(tmp_path / f"{row:02}.png", seed=row, size=(16, 12), shade=30 * (row % 4))
    return tmp_path


def write_table(folder, name="table.csv", **columns):
    """Write a CSV of the images; each column's cells are repeated for as long as there are images."""
    columns = {
        "path": [f"{row:02}.png" for row in range(N_IMAGES)],
        "label": ["cat", "dog"],
        "split": [split for split in ("train", "validation", "test", "train") for _ in range(4)],
        **columns,
    }
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        write = csv.writer(file).writerow
        write(columns)
        for row in range(N_IMAGES):
            write([cells[row % len(cells)] for cells in columns.values()])
    return folder / name


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def extract(source, store, *options):
    done = run("extract", source, "-o", store, "--weights", "random", "--image-size", 32, "--batch-size", 4, *options)
    assert done.exit_code == 0, done.output
    return done


def columns_of(store):
    """Return a store's table, and what it says of its columns."""
    with featx.open(store) as opened:
        return opened.images, json.loads(opened.attributes["columns"])


@pytest.mark.parametrize(
    ("cells", "is_number"),
    [
        (["1E1", "10"], False),
        (["1.1", "1.10"], False),
        (["007", "7"], False),
        (["1.0", "2.5", ""], True),
        (["1", "1.0"], False),
        (["1", "2.0"], False),
        (["9007199254740993", "9007199254740992"], False),
        (["0.1234567", "1_000"], False),
        (["nan", "1"], False),
        (["inf", "1"], False),
        (["+1", "1"], False),
        (["1", "2", ""], True),
        (["0.3333333333333333", "0.6666666666666666", "0", "1"], True),
        (["1e-05", "-3", " 0.5\u00a0"], True),
        (["", " "], False),
    ],
)
def test_a_column_is_of_numbers_where_each_text_comes_back(photos, cells, is_number):
    table = featx.read_source(write_table(photos, value=cells)).table
    if is_number:
        assert table["value"].dtype == np.float64
        values = table["value"][: len(cells)].tolist()
        assert np.array_equal(values, [float(cell.strip() or "nan") for cell in cells], equal_nan=True)
        # No two texts have become one.
        assert len({as_label(value) for value in values}) == len({cell.strip() for cell in cells})
    else:
        assert table["value"].tolist()[: len(cells)] == cells


def test_labels_that_look_like_numbers_are_classes_of_their_own(photos):
    table = write_table(
        photos,
        well=["1E1", "10", "2E1", "2"],
        version=["1.1", "1.10"],
        fraction=["0.12345678", "0.12345679"],
        count=["10", "9"],
    )
    store = photos / "s.h5"
    extract(table, store)
    images, kinds = columns_of(store)
    assert images["well"].tolist()[:4] == ["1E1", "10", "2E1", "2"]
    assert [kinds[name] for name in ("well", "version", "fraction", "count")] == ["text", "text", "float64", "float64"]
    done = run("fit", "lda", store, "-o", photos / "wells", "--label", "well")
    assert done.exit_code == 0, done.output
    assert "the labels '1E1' and '10' differ only in how a number is written: 6 and 6 images" in done.output
    record = json.loads((photos / "wells/run.json").read_text(encoding="utf-8"))
    # As scikit-learn sorts them: what a model answers in.
    assert record["protocol"]["classes"] == ["10", "1E1", "2", "2E1"]
    # As people do.
    for name in ("per_class.csv", "confusion.csv"):
        assert [line.partition(",")[0] for line in (photos / "wells" / name).read_text().splitlines()[1:]] == [
            *("2", "10", "1E1", "2E1")
        ]
    for column, classes in (("version", {"1.1", "1.10"}), ("fraction", {"0.12345678", "0.12345679"})):
        with featx.open(store) as opened:
            assert set(read_rows(opened, [], label=column)[0].y) == classes


def test_scores_stand_below_their_own_class_however_classes_are_sorted(photos, monkeypatch):
    store = photos / "s.h5"
    extract(write_table(photos, label=["1", "2", "10", "9"]), store)
    assert run("fit", "rf", store, "-o", photos / "run", "--n-estimators", 5).exit_code == 0
    answers = pd.read_csv(photos / "run/predictions.csv", dtype=str)
    names = ["probability_1", "probability_2", "probability_9", "probability_10"]
    assert list(answers)[3:] == names
    best = answers[names].astype(float).idxmax(axis=1).str.removeprefix("probability_")
    assert best.tolist() == answers["predicted"].tolist()
    assert {"2", "10"} & set(best)
    found = run("info", store).output
    assert "test       4 images: 1 1, 2 1, 9 1, 10 1" in found
    monkeypatch.setattr(
        "featx.inference.predict.rebuild_network", lambda *args, **options: StubNetwork(layers="all", batch_size=4)
    )
    new = run("predict", photos / "run", *(photos / path for path in answers["path"]))
    assert new.exit_code == 0, new.output
    table = pd.read_csv(StringIO(new.stdout), dtype=str)
    assert list(table) == ["path", "predicted", *names]
    assert table[names].astype(float).round(6).equals(answers[names].astype(float).round(6))


def test_weights_and_comparisons_take_numbers_that_stay_text(photos):
    store = photos / "s.h5"
    extract(
        write_table(photos, weight=["0.50", "1", "0.25"], year=["1799.0", "1801", ""], flag=["True", "False"]), store
    )
    with featx.open(store) as opened:
        rows, notes = read_rows(opened, [], sample_weight="weight", where="year < 1800")
        assert rows.weights.tolist() == [0.5] * 8
        assert notes == ["8 of 24 images are used: year < 1800"]
        images = opened.images
        assert np.flatnonzero(select_rows(images, "year in [1799, 1801] and flag == True")).tolist() == [
            row for row in range(24) if row % 3 < 2 and row % 2 == 0
        ]
        assert not select_rows(images, 'year == "1799.0" or year > 1800')[2::3].any()
        with pytest.raises(FeatxError, match="1 is compared with a column of text: 'flag' has 'True'"):
            select_rows(images, "flag == 1")
        with pytest.raises(FeatxError, match=r"'flag' of 00\.png is 'True'; weights are numbers from 0 up"):
            read_rows(opened, [], sample_weight="flag")
    done = run("fit", "rf", store, "-o", photos / "run", "--sample-weight", "year")
    assert done.exit_code == 1
    assert done.stderr == f"featx: {store}: 'year' of 02.png is ''; weights are numbers from 0 up\n"


def test_long_whole_numbers_are_compared_exactly():
    table = pd.DataFrame({"id": ["9007199254740992", "9007199254740993"]})
    assert select_rows(table, "id == 9007199254740993").tolist() == [False, True]
    assert select_rows(table, "id in [9007199254740993, 0.5]").tolist() == [False, True]


def test_groups_and_paths_that_look_like_numbers_keep_their_text(photos):
    (photos / "t.csv").write_text("path,label,patient\n007,a,1.10\n7,b,1.1\n1E1,a,007\n10,b,7\n", encoding="utf-8")
    table = featx.read_source(photos / "t.csv", group_column="patient").table
    assert table["path"].tolist() == ["007", "7", "1E1", "10"]
    assert group_of_each(table).tolist() == ["1.10", "1.1", "007", "7"]


def test_a_column_that_gets_text_becomes_text_as_it_stands(photos):
    store, shards = photos / "s.h5", photos / "m.h5"
    numbers = [str(row) for row in range(N_IMAGES)]
    extract(write_table(photos, n=numbers), store)
    for number in (1, 2):
        extract(photos / "table.csv", shards, "--shard", f"{number}/2")
    assert columns_of(store)[0]["n"].tolist() == list(range(N_IMAGES))
    # One cell, and in the second shard.
    cells = [*numbers[:20], "007", *numbers[21:]]
    write_table(photos, n=cells)
    done = extract(photos / "table.csv", store)
    assert "s.h5: 1 values of n" in done.output
    for number in (1, 2):
        extract(photos / "table.csv", shards, "--shard", f"{number}/2")
    assert run("merge", shards).exit_code == 0
    for path in (store, shards):
        images, kinds = columns_of(path)
        assert (images["n"].tolist(), kinds["n"]) == (cells, "text")
        assert run("verify", path).exit_code == 0


def test_tables_of_python_are_text_or_numbers_that_come_back(photos):
    n = np.arange(N_IMAGES)
    table = pd.DataFrame(
        {
            "path": [f"{row:02}.png" for row in n],
            "label": n % 2,
            "split": "train",
            "group": np.where(n < 20, n // 2, np.nan),
            "long": 2**53 + n,
            "single": (n / 10).astype(np.float32),
            "flag": n % 2 == 0,
            "kind": pd.Categorical(np.where(n % 2, "a", "b ")),
            "grade": pd.Categorical(n % 3),
            "maybe": pd.array([None, *n[1:]], dtype="Int64"),
            "mixed": pd.Series([1.5, None, "1.50", 2] * 6, dtype=object),
            "half": pd.Series([1, None, 2.5, 3] * 6, dtype=object),
        }
    )
    manifest = featx.Manifest(table, photos)
    featx.extract_features(manifest, photos / "s.h5", weights="random", image_size=32, batch_size=4)
    images, kinds = columns_of(photos / "s.h5")
    assert images["label"].tolist()[:2] == ["0", "1"]
    assert images["group"].tolist()[::23] == ["0", ""]
    assert images["long"].tolist()[:2] == ["9007199254740992", "9007199254740993"]
    assert images["single"].tolist()[:4] == [0.0, 0.1, 0.2, 0.3]
    assert images["flag"].tolist()[:2] == ["True", "False"]
    assert images["kind"].tolist()[:2] == ["b ", "a"]
    assert images["grade"].tolist()[:3] == [0.0, 1.0, 2.0]
    assert images["mixed"].tolist()[:4] == ["1.5", "", "1.50", "2"]
    assert set(kinds.values()) == {"text", "float64"}
    # Nobody can keep a table from being changed later.
    manifest.table["label"] = manifest.table["grade"]
    featx.extract_features(manifest, photos / "s.h5", weights="random", image_size=32, batch_size=4)
    assert columns_of(photos / "s.h5")[0]["label"].tolist()[:4] == ["0", "1", "2", "0"]
    with featx.open(photos / "s.h5") as store:
        for column, classes in (
            ("flag", ["False", "True"]),
            ("kind", ["a", "b"]),
            ("maybe", [*map(str, range(1, N_IMAGES))]),
            ("half", ["1", "2.5", "3"]),
            ("mixed", ["1.5", "1.50", "2"]),
        ):
            assert sort_labels(set(read_rows(store, [], label=column)[0].y)) == classes


def test_an_older_store_keeps_distinct_numbers_apart(tmp_path):
    labels = ["a", "b"] * 6
    path = write_plain_store(
        tmp_path / "s.h5", {"block1_conv1": grouped_features(labels)}, labels, splits=["train"] * 12
    )
    columns = {
        "fraction": np.array([0.12345678, 0.12345679] * 6),
        "whole": np.arange(12) + 2**53,
        "single": np.array([0.1, 2, np.nan] * 4, np.float32),
        "flag": np.array([True, False] * 6),
    }
    with h5py.File(path, "a") as file:
        for name, values in columns.items():
            file["images"][name] = values
    with featx.open(path) as store:
        found = {name: sort_labels(set(read_rows(store, [], label=name)[0].y)) for name in columns}
    assert found["fraction"] == ["0.12345678", "0.12345679"]
    assert found["whole"] == [str(2**53 + row) for row in range(12)]
    assert found["single"] == ["0.1", "2"]
    assert found["flag"] == ["False", "True"]


def test_blanks_at_the_ends_make_no_class_whichever_column_is_the_label(photos):
    labels = ["cat", "cat ", "\u00a0dog", "dog\u3000"]
    table = write_table(photos, label=labels, kind=labels, part=["train ", "validation", " test"])
    manifest = featx.read_source(table)
    assert set(manifest.table["label"]) == {"cat", "dog"}
    # Of a table that isn't a CSV, too.
    assert set(featx.Manifest(pd.read_csv(table), photos).table["label"]) == {"cat", "dog"}
    store = photos / "s.h5"
    extract(table, store)
    with featx.open(store) as opened:
        rows, notes = read_rows(opened, [], label="kind", where='kind == "cat" or kind == "dog"', split="part")
        assert set(rows.y) == {"cat", "dog"}
        assert len(rows.of("train")) == 8
        assert notes == ['24 of 24 images are used: kind == "cat" or kind == "dog"']
        assert opened.images["kind"].tolist()[:4] == labels


LOOK_ALIKES = [
    (["Cat", "cat", "cat", "dog"], "'Cat' and 'cat' differ only in case: 1 and 2 images"),
    (["caf\xe9", "cafe\u0301"], r"'caf\xe9' and 'cafe\u0301' differ only in how their characters are composed (NFC or"),
    (["cat", "cat\u200b"], r"'cat' and 'cat\u200b' differ only in zero-width characters: 1 and 1 images"),
    (["\u2764", "\u2764\ufe0f"], r"'\u2764' and '\u2764\ufe0f' differ only in zero-width characters: 1 and 1 images"),
    (["cat", "c\u034fat", ""], r"'cat' and 'c\u034fat' differ only in zero-width characters: 1 and 1 images"),
    (["a b", "a\u00a0b"], r"'a b' and 'a\xa0b' differ only in the kind or number of their blanks: 1 and 1 images"),
    (["1.1", "1.10"], "'1.1' and '1.10' differ only in how a number is written: 1 and 1 images"),
    (["1E1", "1e1"], "'1E1' and '1e1' differ only in case: 1 and 1 images"),
    (["Cat\ufeff", "cat"], r"'Cat\ufeff' and 'cat' differ only in zero-width characters and in case: 1 and 1 images"),
    (["\u041a\u043e\u0442", "\u043a\u043e\u0442"], "'\u041a\u043e\u0442' and '\u043a\u043e\u0442' differ only in case"),
]


@pytest.mark.parametrize(("labels", "note"), LOOK_ALIKES)
def test_labels_that_look_alike_are_named_with_their_difference(labels, note):
    (found,) = note_look_alikes(pd.Series(labels))
    assert found.startswith(f"the labels {note}")
    assert found.endswith("; they are two classes")


def test_one_note_tells_of_all_labels_that_look_alike():
    (note,) = note_look_alikes(pd.Series(["A", "a", "b", "B", "\u1e9e", "1", "01", "", "c"]))
    assert note.startswith("the labels 'A' and 'a' differ only in case: 1 and 1 images; they are two classes")
    assert note.endswith(". Further pairs that look alike: 2")
    assert note_look_alikes(pd.Series(["a", "b", "ab", "1", "2", ""])) == ()
    # No label is no class.
    assert note_look_alikes(pd.Series(["", "\u200b", "a"])) == ()


def test_look_alikes_are_noted_wherever_labels_are_read(photos):
    labels = ["Cat", "cat", "dog", "dog"]
    note = "the labels 'Cat' and 'cat' differ only in case"
    folder = photos / "folders"
    for row, label in enumerate(labels):
        make_image(folder / label / f"{row}.png", row, size=(16, 12))
    assert note in extract(folder, photos / "f.h5").output
    store = photos / "s.h5"
    assert note in extract(write_table(photos, label=labels, kind=labels), store).output
    for column in ("label", "kind"):
        done = run("fit", "lda", store, "-o", photos / column, "--label", column)
        assert done.exit_code == 0, done.output
        assert note in done.output
        record = json.loads((photos / column / "run.json").read_text(encoding="utf-8"))
        assert any(text.startswith(note) for text in record["notes"])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["10", "9", "1", "2"], ["1", "2", "9", "10"]),
        (["b", "10", "a", "9", ""], ["", "9", "10", "a", "b"]),
        (["-1", "-10", "007", "7"], ["-10", "-1", "007", "7"]),
        (["1", "0.3333333333333333", "0", "1E1", "10"], ["0", "0.3333333333333333", "1", "10", "1E1"]),
        ([10, 9, 100], [9, 10, 100]),
        (["nan", "inf", "1_0", "2"], ["2", "1_0", "inf", "nan"]),
        ([str(2**60 + 1), str(2**60)], [str(2**60), str(2**60 + 1)]),
    ],
)
def test_labels_that_are_numbers_are_sorted_by_value(labels, expected):
    assert sort_labels(labels) == expected


def test_tables_and_figures_list_numbers_by_value():
    y, predicted = np.array(["10", "9", "2", "10"]), np.array(["9", "9", "2", "2"])
    assert report_classes(y, predicted).index.tolist() == ["2", "9", "10"]
    counts = count_confusion(y, predicted)
    assert counts.index.tolist() == counts.columns.tolist() == ["2", "9", "10"]
    assert counts.loc["10"].tolist() == [1, 1, 0]
    table = pd.DataFrame({"label": ["10", "9", "2", "9"], "split": "train"})
    assert count_classes(table).index.tolist() == ["9", "2", "10"]
    assert score_columns(["10", "9"], probabilities=np.array([[0.25, 0.75]])) == {
        "probability_9": ["0.75"],
        "probability_10": ["0.25"],
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.10", 1.1), (" 007 ", 7), ("1e5", 1e5), ("9" * 5000, None), ("1e999", None), ("0x10", None), ("\u0669", None)],
)
def test_texts_that_are_numbers(text, number):
    assert as_number(text) == number


def test_exports_keep_text_and_write_whole_numbers_without_a_point(photos):
    extract(write_table(photos, code=["007", "7"], year=["1620", ""], share=["0.5", "2"]), photos / "s.h5")
    assert run("export", photos / "s.h5", "-o", photos / "out.csv", "--layers", "block1_conv1").exit_code == 0
    header, *lines = (photos / "out.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith('"path","label","split","sha256","code","year","share","block1_conv1/0"')
    assert [line.split(",")[4:7] for line in lines[:2]] == [['"007"', "1620", "0.5"], ['"7"', "nan", "2"]]
    assert run("export", photos / "s.h5", "-o", photos / "out.npy", "--layers", "block1_conv1").exit_code == 0
    lines = (photos / "out.images.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1].endswith(',"007",1620,0.5')
