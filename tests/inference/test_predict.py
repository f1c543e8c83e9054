"""New images by a saved model: the run's own answers, its own weights, and no row out of place."""

import json
import shutil
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from samples import SMALL, make_tree

import featx
from featx import FeatxError
from featx.cli import main
from featx.results import load_model

GRIDS = {
    "rf": {"n_estimators": (5,)},
    "svm": {"kernel": ("rbf",), "C": (1.0,)},
    "linear-svm": {"C": (0.01,)},
}


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory):
    """A store of three layers, images cut and brought to size as nobody would by default."""
    path = tmp_path_factory.mktemp("predict") / "s.h5"
    manifest = featx.make_splits(featx.read_source(tree), (0.6, 0.2, 0.2))
    options = {"layers": "block1,block2_conv1", "resize": "pad", "interpolation": "lanczos", "preprocessing": "torch"}
    featx.extract_features(manifest, path, **options, **SMALL)
    return path


@pytest.fixture(scope="module")
def runs(store):
    """A run a model, the forest on one of the store's layers only."""
    for model, grid in GRIDS.items():
        layers = "block1_conv2" if model == "rf" else "all"
        discretize = "ternary" if model == "svm" else "none"
        featx.fit_grid(store, model, store.with_name(model), grid=grid, layers=layers, discretize=discretize)
    return store.parent


@pytest.fixture
def changed_run(runs, tmp_path):
    """Return a copy of the forest's run whose record of its store is changed."""

    def change(**changes):
        folder = shutil.copytree(runs / "rf", tmp_path / "changed")
        record = json.loads((folder / "run.json").read_text())
        record["store"] |= changes
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return change


def test_one_image_is_not_its_letters(runs, tree):
    (path, *_) = sorted(tree.rglob("*.png"))
    expected = featx.predict_images(runs / "rf", [path]).table
    for image in (path, str(path)):
        assert featx.predict_images(runs / "rf", image).table.equals(expected)


def invoke(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


@pytest.mark.parametrize("model", GRIDS)
def test_a_stores_test_images_get_the_runs_predictions(runs, tree, model):
    expected = pd.read_csv(runs / model / "predictions.csv")
    found = featx.predict_images(runs / model, [tree / path for path in expected["path"]])
    assert found.table["path"].tolist() == [str(tree / path) for path in expected["path"]]
    assert found.table["predicted"].tolist() == expected["predicted"].tolist()
    assert found.rejected.empty


@pytest.mark.parametrize("model", GRIDS)
def test_numbers_are_the_models(runs, store, tree, model):
    estimator = load_model(runs / model)
    with featx.open(store) as opened:
        X = opened.matrix(["block1_conv2"] if model == "rf" else None)
        paths = [tree / path for path in opened.images["path"]]
    table = featx.predict_images(runs / model, paths, batch_size=7).table
    classes = ["ash", "birch", "cedar"]
    if model == "rf":
        assert list(table.columns) == ["path", "predicted", *(f"probability_{name}" for name in classes)]
        assert np.allclose(table[[f"probability_{name}" for name in classes]], estimator.predict_proba(X), atol=1e-6)
    else:
        assert list(table.columns) == ["path", "predicted", "score"]
        places = [classes.index(name) for name in table["predicted"]]
        assert np.allclose(table["score"], estimator.decision_function(X)[np.arange(30), places], atol=1e-3)


def test_of_two_classes_the_score_is_the_predicted_ones(tmp_path):
    tree = make_tree(tmp_path / "images", {"ash": 8, "birch": 8})
    manifest = featx.make_splits(featx.read_source(tree), (0.5, 0.5))
    featx.extract_features(manifest, tmp_path / "s.h5", layers="block1", **SMALL)
    featx.fit_grid(tmp_path / "s.h5", "linear-svm", tmp_path / "run", grid={"C": (1.0,)})
    table = featx.predict_images(tmp_path / "run", sorted(tree.rglob("*.png"))).table
    assert set(table["predicted"]) == {"ash", "birch"}
    assert (table["score"] > 0).all()


def test_predictions_stream_in_blocks(runs, tree, monkeypatch):
    monkeypatch.setattr("featx.inference.predict._BLOCK_ROWS", 8)
    paths = sorted(tree.rglob("*.png"))
    blocks = list(featx.Predictor(runs / "rf", batch_size=4).stream(paths))
    assert [len(block.table) for block in blocks] == [8, 8, 8, 6]
    assert [path for block in blocks for path in block.table["path"]] == list(map(str, paths))


def test_unreadable_images_are_listed_and_shift_no_row(runs, tree, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.inference.predict._BLOCK_ROWS", 4)
    (tmp_path / "words.png").write_text("words")
    (tmp_path / "empty.png").write_bytes(b"")
    bad = [tmp_path / "words.png", tmp_path / "empty.png", tmp_path / "missing.png", tmp_path / "words.png"]
    good = sorted(tree.rglob("*.png"))
    # A whole block of unreadable images comes first, and others in the middle.
    done = invoke(runs / "rf", "--batch-size", 4, *bad, *good[:11], *bad, *good[11:])
    assert done.exit_code == 0
    table = pd.read_csv(StringIO(done.stdout))
    expected = featx.predict_images(runs / "rf", good).table
    assert table[["path", "predicted"]].equals(expected[["path", "predicted"]])
    lines = done.stderr.splitlines()
    assert len(lines) == 8
    assert lines[1] == f"{bad[1]}: empty file"
    assert lines[2].endswith("missing.png: cannot be opened: No such file or directory")


def test_none_readable_is_an_error(runs, tmp_path):
    done = invoke(runs / "rf", tmp_path / "missing.png")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "none of the 1 images could be read; the first, " in done.stderr


def test_folders_and_tables_are_sources(runs, tree, tmp_path):
    whole = pd.read_csv(StringIO(invoke(runs / "rf", tree).stdout))
    assert whole["path"].tolist() == [str(path) for path in sorted(tree.rglob("*.png"))]
    (tmp_path / "t.csv").write_text("file,label\ncedar/001.png,x\nash/002.png,x\n")
    options = ["--path-column", "file", "--root", tree]
    some = pd.read_csv(StringIO(invoke(runs / "rf", tmp_path / "t.csv", *options).stdout))
    assert some["path"].tolist() == [str(tree / "cedar/001.png"), str(tree / "ash/002.png")]
    assert some["predicted"].tolist() == whole.set_index("path").loc[some["path"], "predicted"].tolist()


def test_what_is_passed_over_is_said_and_new_formats_are_read(runs, tree, tmp_path):
    source = tree / "ash" / "000.png"
    with Image.open(source) as picture:
        picture.save(tmp_path / "a.ppm")
        picture.save(tmp_path / "b.avif", quality=100, subsampling="4:4:4")
    shutil.copy(source, tmp_path / "c.png")
    for name in ("1.jxl", "2.jxl", "x.txt", "@eaDir/c.png/thumb.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    done = invoke(runs / "rf", tmp_path)
    table = pd.read_csv(StringIO(done.stdout))
    assert table["path"].tolist() == [str(tmp_path / name) for name in ("a.ppm", "b.avif", "c.png")]
    assert table.iloc[0, 1:].equals(table.iloc[2, 1:])
    assert done.stderr.splitlines()[:2] == [
        f"{tmp_path}: 3 files passed over, by ending: .jxl 2, .txt 1; first '1.jxl'",
        f"{tmp_path}: 1 folders passed over: they are hidden or of a system, and no classes; first '@eaDir'",
    ]


def test_json_and_files(runs, tree, tmp_path):
    sources = [tree / "ash" / "000.png", tmp_path / "missing.png"]
    record = json.loads(invoke(runs / "rf", *sources, "--json").stdout)
    (prediction,) = record["predictions"]
    assert sum(value for name, value in prediction.items() if name.startswith("probability_")) == pytest.approx(1)
    assert [entry["path"] for entry in record["rejected"]] == [str(sources[1])]
    output = tmp_path / "out" / "p.csv"
    assert "out doesn't exist; make it first" in invoke(runs / "rf", *sources, "-o", output).stderr
    assert "a folder; give the name of a file" in invoke(runs / "rf", *sources, "-o", tmp_path).stderr
    output.parent.mkdir()
    assert invoke(runs / "rf", *sources, "-o", output).stdout == ""
    assert pd.read_csv(output)["path"].tolist() == [str(sources[0])]
    assert "exists" in invoke(runs / "rf", *sources, "-o", output).stderr
    assert invoke(runs / "rf", tmp_path / "missing.png", "-o", output, "--overwrite").exit_code == 1
    assert pd.read_csv(output)["path"].tolist() == [str(sources[0])]
    assert [path.name for path in output.parent.iterdir()] == ["p.csv"]


def test_names_that_are_no_text_are_refused_by_name(runs, tree, tmp_path):
    shutil.copy(tree / "ash" / "000.png", tmp_path / "ash.png")
    shutil.copy(tree / "ash" / "000.png", tmp_path / b"\xff.png".decode("utf-8", "surrogateescape"))
    found = featx.predict_images(runs / "rf", sorted(tmp_path.iterdir()))
    assert found.table["path"].tolist() == [str(tmp_path / "ash.png")]
    assert found.rejected["reason"].tolist() == ["its name is not UTF-8: rename it"]


def test_other_weights_are_refused(runs, tree):
    with pytest.raises(
        FeatxError, match=r"weights 'random:1': not those that made the features of .*rf \(SHA-256 .* of 'random:0'"
    ):
        featx.Predictor(runs / "rf", weights="random:1")


def test_weights_of_a_file_must_be_named(tree, tmp_path):
    from featx.networks import load_keras

    network = load_keras().applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "own.weights.h5"
    network.save_weights(path)
    manifest = featx.make_splits(featx.read_source(tree), (0.5, 0.5))
    featx.extract_features(manifest, tmp_path / "s.h5", layers="block1", **(SMALL | {"weights": str(path)}))
    featx.fit_grid(tmp_path / "s.h5", "rf", tmp_path / "run", grid=GRIDS["rf"])
    with pytest.raises(FeatxError, match=r"came from the file 'own\.weights\.h5': give its path as `weights`"):
        featx.Predictor(tmp_path / "run")
    expected = pd.read_csv(tmp_path / "run" / "predictions.csv")
    images = [tree / name for name in expected["path"]]
    found = featx.predict_images(tmp_path / "run", images, weights=str(path)).table
    assert found["predicted"].tolist() == expected["predicted"].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store_layers": None}, "has no layers of the store"),
        ({"resize": "stretch"}, "this featx doesn't know resize 'stretch' of this run"),
        ({"resize": "squash"}, "not those of the store"),
        ({"store_layers": ["block1_conv2"]}, "not those of the store"),
        ({"layers": ["block5_conv1"]}, r"'block5_conv1'.* not among its store's"),
        ({"layers": ["block1_conv1", "block1_conv2"]}, "no classifier of the 128 features"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changed_run, changes, message):
    with pytest.raises(FeatxError, match=message):
        featx.Predictor(changed_run(**changes))


def test_another_backend_is_told_of(runs, monkeypatch):
    another = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "another"))
    monkeypatch.setattr("featx.inference.rebuild.load_keras", lambda: another)
    lines = []
    featx.Predictor(runs / "rf", echo=lines.append)
    assert lines == ["features were made by Keras on tensorflow, now on another: last digits may differ"]
