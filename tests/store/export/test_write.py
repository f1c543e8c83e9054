"""Stores in other formats: equal bit for bit, complete or missing, whatever the names are."""

import csv
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner
from interrupted_runs import disk_that_takes
from sample_parts import N_CHANNELS, SETTINGS, part_of

import featx
from featx import FeatxError
from featx.cli import main
from featx.store import Store, write_store
from featx.store.export import export_store, select
from featx.store.export.matlab import check_mat, matlab_names
from featx.store.export.selection import Selection
from featx.store.export.write import FORMATS

N_ROWS = 40
ODD = [
    "=cmd|' /C calc'!A0",
    'a "quoted", b',
    "two\nlines",
    "carriage\rreturn",
    "",
    "NA",
    "007",
    " blank ",
    "ünï日本🎻",
    "'",
]

# What float32 has that is hard to print: the first is another number where its shortest digits are read as float64.
HARD = np.array([7.038531e-26, -0.0, 1e-45, 3.4028235e38, np.inf, -np.inf, np.nan, 16777217, 0.1, 1 / 3], np.float32)


def make_store(path, *, store_dtype="float32"):
    """Write a store of 40 images with cells that are hard to write in each format."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (N_ROWS, sum(N_CHANNELS.values())), dtype=np.uint32).view(np.float32)
    X = np.where(np.isnan(bits), np.float32(1), bits)
    X[: len(HARD), 5] = HARD
    if store_dtype == "float16":
        X = rng.standard_normal(X.shape).astype(np.float32)
    table = pd.DataFrame(
        {
            "path": [f"{ODD[row % 10]}/{row}.png" for row in range(N_ROWS)],
            "label": [ODD[row % 10] for row in range(N_ROWS)],
            "split": [("train", "train", "validation", "test", "")[row % 5] for row in range(N_ROWS)],
            "year": [np.nan if row % 7 == 0 else 1600 + row / 3 for row in range(N_ROWS)],
            "n": [2**53 - 1 - row for row in range(N_ROWS)],
            "a b": [ODD[-1 - row % 10] for row in range(N_ROWS)],
            "a-b": "x",
            "end": "y",
            "2nd": "z",
        }
    )
    features = dict(zip(N_CHANNELS, np.split(X, np.cumsum(list(N_CHANNELS.values()))[:-1], axis=1), strict=True))
    write_store(
        path,
        settings=replace(SETTINGS, store_dtype=store_dtype),
        table=table,
        root=Path("images"),
        parts=[replace(part_of(0, N_ROWS), features=features)],
        n_channels=N_CHANNELS,
        provenance={"keras_version": "3", "images_per_second": 41.5},
    )
    return path


@pytest.fixture(scope="module")
def odd_store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("odd") / "odd.h5")


@pytest.fixture(params=FORMATS)
def kind(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    """Read a few rows at a time."""
    blocks = Store.blocks
    monkeypatch.setattr(Store, "blocks", lambda store, layers, split, n_bytes: blocks(store, layers, split, n_bytes=99))


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, quoting=csv.QUOTE_NONNUMERIC)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def read_npy(path):
    features = read_csv(path.with_name(path.stem + ".features.csv"))
    assert features["name"] == [
        f"{layer}/{int(channel)}" for layer, channel in zip(features["layer"], features["channel"], strict=True)
    ]
    return np.load(path), read_csv(path.with_name(path.stem + ".images.csv")), features["name"]


def divide(table):
    names = [name for name in table if "/" in name]
    X = np.array([table.pop(name) for name in names]).T
    return X.astype(np.float32), table, names


def read_parquet(path):
    from pyarrow import parquet

    table = parquet.read_table(path)
    assert {str(field.type) for field in table.schema if "/" in field.name} == {"float"}
    names = [name for name in table.column_names if "/" in name]
    X = np.stack([table[name].to_numpy() for name in names], axis=1)
    return X, {name: table[name].to_pylist() for name in table.column_names if name not in names}, names


def read_mat(path):
    from scipy.io import loadmat

    found = loadmat(path)
    columns = {}
    for variable, name in texts_of(found["columns"]):
        values = found[variable]
        assert values.shape == (len(found["X"]), 1)
        columns[name] = [row[0] for row in texts_of(values)] if values.dtype == object else values[:, 0].tolist()
    assert found["X"].dtype == np.float32
    return found["X"], columns, [row[0] for row in texts_of(found["feature_names"])]


def texts_of(cells):
    return [[cell.item() if cell.size else "" for cell in row] for row in cells]


READ = {
    "npy": read_npy,
    "csv": lambda path: divide(read_csv(path)),
    "parquet": read_parquet,
    "mat": read_mat,
}


def same_bits(X, expected):
    return X.shape == expected.shape and np.array_equal(X.view(np.uint32), np.ascontiguousarray(expected).view("u4"))


def assert_same(path, store_path, *, layers=None, split=None):
    """Compare a file with what the store itself gives."""
    X, columns, names = READ[path.suffix[1:]](path)
    with featx.open(store_path) as store:
        images = store.images
        if split is not None:
            images = images[images["split"] == split]
        assert same_bits(np.ascontiguousarray(X), store.matrix(layers, split))
        assert names == [name for name in store.feature_names if layers is None or name.split("/")[0] in layers]
    assert list(columns) == images.columns.tolist()
    for name, values in images.items():
        is_text = isinstance(values.iloc[0], str)
        pairs = zip(columns[name], values.tolist(), strict=True)
        assert all(a == b or (np.isnan(b) and np.isnan(a)) for a, b in pairs), name
        assert all(isinstance(value, str) == is_text for value in columns[name]), name


def test_every_format_is_equal_to_the_bit(kind, odd_store, tmp_path, small_blocks):
    path = tmp_path / f"out.{kind}"
    done = export_store(odd_store, path)
    assert_same(path, odd_store)
    assert (done.path, done.format, done.n_images, done.n_features) == (str(path), kind, N_ROWS, 7)
    assert sorted(done.paths) == sorted(map(str, tmp_path.iterdir()))
    assert done.bytes == sum(entry.stat().st_size for entry in tmp_path.iterdir())


def test_some_layers_of_one_split(kind, odd_store, tmp_path, small_blocks):
    path = tmp_path / f"out.{kind}"
    done = export_store(odd_store, path, layers="block1_conv2", split="train")
    assert (done.n_images, done.n_features) == (16, 3)
    assert_same(path, odd_store, layers=["block1_conv2"], split="train")
    other = tmp_path / f"other.{kind}"
    export_store(odd_store, other, layers=["block1_conv2", "block1_conv1"], split="validation")
    assert_same(other, odd_store, layers=["block1_conv1", "block1_conv2"], split="validation")


def test_half_floats_become_float32(kind, tmp_path):
    store_path = make_store(tmp_path / "half.h5", store_dtype="float16")
    export_store(store_path, tmp_path / f"out.{kind}")
    assert_same(tmp_path / f"out.{kind}", store_path)


def test_npy_is_what_numpy_writes(odd_store, tmp_path):
    export_store(odd_store, tmp_path / "out.npy")
    with featx.open(odd_store) as store:
        np.save(tmp_path / "numpy.npy", store.matrix())
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert np.load(tmp_path / "out.npy", mmap_mode="r").flags.c_contiguous


def test_pandas_reads_csv_to_the_bit_by_way_of_float64(odd_store, tmp_path):
    export_store(odd_store, tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    with featx.open(odd_store) as store:
        assert same_bits(table[store.feature_names].to_numpy(np.float64).astype(np.float32), store.matrix())


def test_parquet_has_the_attributes(odd_store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export_store(odd_store, tmp_path / "out.parquet")
    with featx.open(odd_store) as store:
        assert json.loads(parquet.read_schema(tmp_path / "out.parquet").metadata[b"featx"]) == store.attributes
    assert pd.read_parquet(tmp_path / "out.parquet", columns=["path"]).shape == (N_ROWS, 1)


def test_mat_has_the_attributes_and_names_that_matlab_takes(odd_store, tmp_path):
    from scipy.io import loadmat

    export_store(odd_store, tmp_path / "out.mat")
    found = loadmat(tmp_path / "out.mat", squeeze_me=True)
    assert {name for name in found if not name.startswith("__")} == {
        *("X", "feature_names", "layers", "attributes", "columns", "path", "label", "split", "sha256", "year", "n"),
        *("a_b", "a_b_2", "xend", "x2nd"),
    }
    assert found["layers"].tolist() == list(N_CHANNELS)
    assert found["n"].dtype == np.int64
    with featx.open(odd_store) as store:
        for name, value in store.attributes.items():
            entry = found["attributes"][name].item()
            assert (entry.tolist() if isinstance(entry, np.ndarray) else entry) == value


def test_matlab_names_are_legal_and_differ():
    names = ["X", "x" * 80, "x" * 81, "", "_a", "9", "while", "é", "a.b", "a_b", "a_b_2", "X_2"]
    legal = matlab_names(names, taken=["X"])
    assert legal[:3] == ["X_2", "x" * 63, "x" * 61 + "_2"]
    assert legal[3:] == ["x", "x_a", "x9", "xwhile", "x_", "a_b", "a_b_2", "a_b_2_2", "X_2_2"]
    assert all(re.fullmatch(r"[A-Za-z]\w{0,62}", name, re.ASCII) for name in legal)


def test_a_mat_file_must_fit_into_its_format_and_the_memory(odd_store, tmp_path, monkeypatch):
    memory = psutil.virtual_memory()._replace(available=2**40)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(Selection, "n_bytes", 2**31 - 1)
    with featx.open(odd_store) as store:
        check_mat(select(store), tmp_path / "out.mat")
    monkeypatch.setattr(Selection, "n_bytes", 2**31)
    message = r"out\.mat: a variable of 2\.15 GB, more than the format .*fewer `layers`.*with MATLAB's h5read"
    with pytest.raises(FeatxError, match=message):
        export_store(odd_store, tmp_path / "out.mat")
    monkeypatch.setattr(Selection, "n_bytes", 1)
    monkeypatch.setattr(
        Selection, "columns", {"path": np.array(["x"] * 3, object), "note": np.array(["x" * 10**8] * 22, object)}
    )
    with pytest.raises(FeatxError, match=r"a variable of 2\.20 GB"):
        export_store(odd_store, tmp_path / "out.mat")
    monkeypatch.undo()
    memory = memory._replace(available=2 * N_ROWS * 7 * 4 - 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(FeatxError, match=r"out\.mat: .*half of the free memory holds\. Choose fewer `layers`"):
        export_store(odd_store, tmp_path / "out.mat")
    assert list(tmp_path.iterdir()) == []
    export_store(odd_store, tmp_path / "out.npy")


@pytest.mark.parametrize("n_bytes", [300, 2_000])
def test_a_full_disk_is_one_error_and_leaves_what_was_there(kind, n_bytes, odd_store, tmp_path):
    path = tmp_path / f"out.{kind}"
    message = rf"out\.{kind}: writing failed: File too large; nothing of it was kept"
    with disk_that_takes(n_bytes), pytest.raises(FeatxError, match=message):
        export_store(odd_store, path)
    assert list(tmp_path.iterdir()) == []
    export_store(odd_store, path, split="test")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with disk_that_takes(n_bytes), pytest.raises(FeatxError, match=message):
        export_store(odd_store, path, overwrite=True)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_ctrl_c_leaves_nothing(kind, odd_store, tmp_path, monkeypatch):
    def blocks(store, layers, split, n_bytes):
        yield store.matrix(layers, split)[:3]
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "blocks", blocks)
    done = CliRunner().invoke(main, ["export", str(odd_store), "-o", str(tmp_path / f"out.{kind}")])
    message = "featx: stopped; finished work is kept, nothing half-written is\n"
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", message)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_there_are_replaced_only_if_asked(kind, odd_store, tmp_path):
    path = tmp_path / f"out.{kind}"
    export_store(odd_store, path, split="test")
    with pytest.raises(FeatxError, match=rf"out\.{kind}: exists\. Give another `output`, or `overwrite`"):
        export_store(odd_store, path)
    assert_same(path, odd_store, split="test")
    export_store(odd_store, path, overwrite=True)
    assert_same(path, odd_store)


def test_a_file_beside_that_is_there_is_not_replaced(odd_store, tmp_path):
    (tmp_path / "out.images.csv").write_text("mine")
    with pytest.raises(FeatxError, match=r"out\.images\.csv: exists"):
        export_store(odd_store, tmp_path / "out.npy")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.images.csv"]


def test_a_missing_library_is_named(odd_store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = re.escape("out.parquet: parquet files need the package pyarrow: pip install 'featx[export]'")
    with pytest.raises(FeatxError, match=message):
        export_store(odd_store, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.xlsx", {}, r"out\.xlsx: expected a name that ends in \.npy, \.csv, \.parquet, \.mat"),
        ("out", {}, r"out: expected a name that ends in"),
        ("out.csv", {"format": "npy"}, r"out\.csv: ends in \.csv, and `format` is npy"),
        ("out", {"format": "xlsx"}, r"format: expected one of npy, csv, parquet, mat, found 'xlsx'"),
        ("out.csv", {"layers": "block9"}, r"odd\.h5: no layer 'block9'.*it has block1_conv1, block1_conv2"),
        ("out.csv", {"layers": ""}, r"odd\.h5: no layer ''"),
        ("out.csv", {"split": "dev"}, r"odd\.h5: no image is in the split 'dev'; there are '', 'test'"),
        ("nowhere/out.csv", {}, r"out\.csv: the folder .*nowhere doesn't exist"),
        ("x" * 300 + ".csv", {}, "x.csv: can't be written: File name too long"),
        ("y" * 248 + ".npy", {}, "y.images.csv: can't be written: File name too long"),
    ],
)
def test_what_can_be_mended_is_said(name, options, message, odd_store, tmp_path):
    with pytest.raises(FeatxError, match=message):
        export_store(odd_store, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_no_other_thing_is_replaced(tmp_path):
    store_path = make_store(tmp_path / "s.h5")
    before = store_path.read_bytes()
    with pytest.raises(FeatxError, match=r"s\.h5: the store itself"):
        export_store(store_path, store_path, format="npy", overwrite=True)
    assert store_path.read_bytes() == before
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FeatxError, match=r"folder\.csv: a folder"):
        export_store(store_path, tmp_path / "folder.csv", overwrite=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(FeatxError, match=r"pipe\.csv: not a regular file"):
            export_store(store_path, tmp_path / "pipe.csv", overwrite=True)


def test_a_store_of_an_unknown_backbone(tmp_path):
    import h5py

    store_path = make_store(tmp_path / "s.h5")
    with h5py.File(store_path, "a") as file:
        file.attrs["backbone"] = "other"
    with pytest.raises(FeatxError, match=r"s\.h5: the attribute backbone is 'other', expected one of vgg16"):
        export_store(store_path, tmp_path / "out.csv", layers="block1")
    export_store(store_path, tmp_path / "out.csv")
    with h5py.File(store_path, "a") as file:
        file.attrs["layers"] = json.dumps(["block1_conv1"] * 2)
    with pytest.raises(FeatxError, match="no JSON list of different names"):
        export_store(store_path, tmp_path / "out.csv", overwrite=True)


def test_command_line(odd_store, tmp_path):
    def invoke(*arguments):
        return CliRunner().invoke(main, ["export", str(odd_store), *map(str, arguments)])

    done = invoke("-o", tmp_path / "out.NPY", "--layers", "block1_conv2", "--split", "test", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert {name: record[name] for name in ("format", "n_images", "n_features")} == {
        "format": "npy",
        "n_images": 8,
        "n_features": 3,
    }
    names = ["out.NPY", "out.images.csv", "out.features.csv"]
    assert record["paths"] == [str(tmp_path / name) for name in names]
    done = invoke("-o", tmp_path / "table", "--format", "csv")
    assert re.fullmatch(r".*table: 40 images, 7 features, 0\.0 MB\n", done.stdout)
    done = invoke("-o", tmp_path / "table", "--format", "csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(r"featx: .*table: exists\. .*\n", done.stderr)
    assert invoke("-o", tmp_path / "table", "--format", "csv", "--overwrite").exit_code == 0
    assert invoke("-o", tmp_path / "x.csv", "--split", "dev").exit_code == 2
    option = next(option for option in main.commands["export"].params if option.name == "format")
    assert tuple(option.type.choices) == FORMATS
