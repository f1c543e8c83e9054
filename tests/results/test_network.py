"""The network of a fine-tuned run: its layers as features, its own predictions, and its errors."""

import json
import shutil
from hashlib import sha256
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from samples import SMALL, make_tree, relative_error

import featx
from featx import FeatxError
from featx.cli import main
from featx.errors import WeightsError
from featx.extract.run import note_seen_images
from featx.finetune import fine_tune
from featx.inference import build_frozen, build_network, own_image_size
from featx.networks import build_backbone, load_keras, preprocess
from featx.networks.recipes import build_tuned_network, recipe_from_record
from featx.results import is_run

RECIPE = """
name: tiny
description: a head of two small layers and the block before it
follows: nobody
backbones: [vgg16, resnet50]
from_layer: block3_pool
head:
  - {layer: flatten}
  - {layer: batch_norm}
  - {layer: dense, units: 16}
  - {layer: dropout, rate: 0.3}
  - {layer: dense, units: 8, activation: tanh}
stages:
  - {name: top, unfreeze: [block3], epochs: 6, batch_size: 3, learning_rate: 1e-3}
"""
CONVOLUTIONS = [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3), 1) for c in range(1, n + 1)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("tuned") / "images", {"ash": 14, "birch": 12, "cedar": 10})


@pytest.fixture(scope="module")
def run(images):
    """A network fine-tuned on images of no default size, shape or preprocessing."""
    folder = images.parent
    manifest = featx.make_splits(featx.read_source(images), (0.5, 0.2, 0.3))
    options = SMALL | {"layers": "block1", "resize": "pad", "interpolation": "lanczos", "preprocessing": "torch"}
    featx.extract_features(manifest, folder / "frozen.h5", **options)
    (folder / "tiny.yaml").write_text(RECIPE)
    fine_tune(folder / "frozen.h5", folder / "tiny.yaml", folder / "net")
    return folder / "net"


@pytest.fixture
def copy_run(run, tmp_path):
    """Return a copy of the run with changes to its record, as part__key; None leaves a key out."""

    def copy(**changes):
        folder = shutil.copytree(run, tmp_path / "copy")
        record = json.loads((folder / "run.json").read_text())
        for name, value in changes.items():
            part, key = name.split("__")
            record[part][key] = value
            if value is None:
                del record[part][key]
        (folder / "run.json").write_text(json.dumps(record))
        return folder

    return copy


@pytest.fixture
def make_run(run, copy_run):
    """Return a run of another recipe, as if it had been trained, and its network, whose weights were drawn."""

    def make(**changes):
        record = json.loads((run / "run.json").read_text())["baseline"]["recipe"] | changes
        options = {"weights": "random:5", "image_size": 32, "seed": 6}
        network = build_tuned_network(recipe_from_record(record), "vgg16", 3, **options)
        path = copy_run(baseline__recipe=record) / "network.weights.h5"
        network.model.save_weights(path)
        record = json.loads(path.with_name("run.json").read_text())
        record["baseline"]["weights_sha256"] = sha256(path.read_bytes()).hexdigest()
        path.with_name("run.json").write_text(json.dumps(record))
        return path.parent, network.model

    return make


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def draw_pixels(size=32, n=5):
    return np.random.default_rng(3).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def plain_features(model, names, pixels, mode="torch"):
    """Return what layers of a Keras model give, height and width averaged."""
    model = load_keras().Model(model.inputs[0], {name: model.get_layer(name).output for name in names})
    outputs = model(preprocess(np, pixels.astype(np.float32), mode), training=False)
    values = {name: np.asarray(output, dtype=np.float32) for name, output in outputs.items()}
    return {name: value.mean(axis=(1, 2)) if value.ndim == 4 else value for name, value in values.items()}


def test_features_are_those_of_the_trained_network(run):
    recipe = recipe_from_record(json.loads((run / "run.json").read_text())["baseline"]["recipe"])
    model = build_tuned_network(recipe, "vgg16", 3, weights="random:9", image_size=32).model
    model.load_weights(run / "network.weights.h5")
    head = ["flatten", "head_norm1", "fc1", "head_dropout1", "fc2", "predictions"]
    names = [*CONVOLUTIONS, *head]
    expected = plain_features(model, names, draw_pixels())
    for engine in ("keras", "ncnn"):
        # All of them have fc1 and fc2.
        layers = "predictions,all,head_dropout1,head_norm1,flatten"
        found = build_network(layers=layers, weights=str(run), engine=engine)(draw_pixels())
        assert list(found) == names
        for name in names:
            assert relative_error(found[name], expected[name]) < 1e-4, (engine, name)


def test_the_digest_changes_with_training(run):
    options = {"layers": "block3_conv1", "image_size": 32}
    tuned, frozen = build_frozen(weights=str(run), **options), build_backbone(weights="random:0", **options)
    assert tuned.layers == frozen.layers == ("block3_conv1",)
    assert tuned.weights_name == "net"
    assert tuned.weights_sha256 != frozen.weights_sha256


@pytest.fixture(scope="module")
def store(run, images):
    """Features of the fine-tuned network, by the command line."""
    path = images.parent / "tuned.h5"
    splits = ("--split", "0.5,0.2,0.3", "--resize", "pad", "--interpolation", "lanczos")
    done = invoke("extract", images, "-o", path, "--weights", run, "--layers", "block3_conv3,fc", *splits)
    assert done.exit_code == 0, done.output
    return path


def test_a_store_is_made_as_the_network_was_trained(run, store):
    with featx.open(store) as opened:
        attributes = opened.attributes
        assert dict(opened.n_channels) == {"block3_conv3": 256, "fc1": 16, "fc2": 8}
    found = {name: attributes[name] for name in ("weights", "image_size", "preprocessing", "backbone")}
    assert found == {"weights": "net", "image_size": 32, "preprocessing": "torch", "backbone": "vgg16"}
    assert own_image_size("vgg16", str(run)) == 32
    assert own_image_size("vgg16", "imagenet") == 224


def test_a_classifier_on_its_features_predicts_with_the_runs_folder(run, store, images, tmp_path):
    featx.fit_grid(store, "rf", tmp_path / "rf", grid={"n_estimators": (5,)}, layers="fc1,fc2")
    expected = pd.read_csv(tmp_path / "rf" / "predictions.csv")
    files = [images / path for path in expected["path"]]
    done = invoke("predict", tmp_path / "rf", *files)
    assert done.exit_code == 1
    assert "its weights came from the folder of the fine-tuned run 'net': give its path as --weights" in done.stderr
    done = invoke("predict", tmp_path / "rf", *files, "--weights", run)
    assert done.exit_code == 0, done.output
    assert pd.read_csv(StringIO(done.stdout))["predicted"].tolist() == expected["predicted"].tolist()
    with pytest.raises(WeightsError, match="weights 'random:0': not those that made the features of"):
        featx.predict_images(tmp_path / "rf", files, weights="random:0")
    with pytest.raises(WeightsError, match="a run of rf, which has no network"):
        build_frozen(weights=str(tmp_path / "rf"))


def test_a_store_is_added_to_with_the_same_folder(run, store, images, tmp_path):
    path = shutil.copy(store, tmp_path / "more.h5")
    manifest = featx.read_source(images)
    options = {"layers": "block1_conv1,predictions", "resize": "pad", "interpolation": "lanczos"}
    with pytest.raises(FeatxError, match=r"was made with image_size 32, now 224"):
        featx.extract_features(manifest, path, weights="random", preprocessing="torch", **options)
    with pytest.raises(FeatxError, match=r"was made with weights 'net' \(SHA-256 .*, now 'random:1'"):
        others = {"weights": "random:1", "preprocessing": "torch", "image_size": 32}
        featx.extract_features(manifest, path, **others, **options)
    done = featx.extract_features(manifest, path, weights=str(run), **options)
    assert done.n_features == 64 + 256 + 16 + 8 + 3
    with featx.open(path) as opened, featx.open(store) as before:
        assert opened.layers == ["block1_conv1", "block3_conv3", "fc1", "fc2", "predictions"]
        assert opened.attributes["weights"] == "net"
        assert np.array_equal(opened.matrix(["fc1", "fc2"]), before.matrix(["fc1", "fc2"]))
        assert np.allclose(opened.matrix(["predictions"]).sum(axis=1), 1, atol=1e-5)


def test_another_size_fits_what_comes_before_a_flatten(run):
    pixels = draw_pixels(64)
    # The first blocks were not trained.
    frozen = build_backbone(layers="block2", weights="random:0", image_size=64)
    tuned = build_frozen(layers="block2", weights=str(run), image_size=64)
    assert (tuned.image_size, tuned.preprocessing) == (64, "torch")
    assert tuned.weights_sha256 == frozen.weights_sha256
    found = build_network(layers="block3_pool,flatten", weights=str(run), image_size=64, engine="keras")(pixels)
    assert found["flatten"].shape == (5, 8 * 8 * 256)
    assert np.allclose(found["flatten"].reshape(5, 64, 256).mean(axis=1), found["block3_pool"], rtol=1e-4)
    with pytest.raises(FeatxError, match=r"image_size: expected 32 for fc1 of .*net, found 64\. Use 32"):
        build_frozen(layers="all", weights=str(run), image_size=64)


def test_a_pooled_head_fits_any_size(make_run):
    head = [{"layer": "max_pool"}, {"layer": "batch_norm"}, {"layer": "dense", "units": 6}]
    folder, model = make_run(head=head, from_layer="block2_pool")
    recipe = recipe_from_record(json.loads((folder / "run.json").read_text())["baseline"]["recipe"])
    larger = build_tuned_network(recipe, "vgg16", 3, weights="random", image_size=64).model
    larger.set_weights(model.get_weights())
    names = ["block2_conv2", "head_pool1", "fc1", "predictions"]
    expected = plain_features(larger, names, draw_pixels(64))
    for engine in ("keras", "ncnn"):
        network = build_network(
            layers="block2_conv2,head_pool1,fc,predictions", weights=str(folder), image_size=64, engine=engine
        )
        found = network(draw_pixels(64))
        assert list(found) == names
        for name in names:
            assert relative_error(found[name], expected[name]) < 1e-4, (engine, name)


def test_features_are_float32_of_a_network_trained_in_less(make_run):
    head = [{"layer": "bottleneck", "filters": 8}, {"layer": "average_pool"}, {"layer": "dense", "units": 4}]
    folder, model = make_run(head=head, from_layer="block1_pool", precision="mixed_bfloat16")
    trained = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    frozen = build_frozen(layers="all,new_block1_out,predictions", weights=str(folder))
    assert list(frozen.layers) == ["block1_conv1", "block1_conv2", "new_block1_out", "fc1", "predictions"]
    for layer in frozen.model.layers:
        assert layer.compute_dtype == "float32"
        for found, expected in zip(layer.get_weights(), trained.get(layer.name, ()), strict=True):
            assert np.array_equal(found, expected)


def test_the_backbone_is_that_of_the_run(copy_run):
    with pytest.raises(WeightsError, match=r"a fine-tuned resnet50, not vgg16\. Use `backbone` resnet50"):
        build_frozen(weights=str(copy_run(store__backbone="resnet50")))


def test_the_network_answers_by_itself(run, images, monkeypatch):
    expected = pd.read_csv(run / "predictions.csv")
    assert expected["predicted"].nunique() > 1
    files = [images / path for path in expected["path"]]
    done = invoke("predict", run, *files)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(StringIO(done.stdout))
    numbers = [f"probability_{name}" for name in ("ash", "birch", "cedar")]
    assert list(table.columns) == ["path", "predicted", *numbers]
    assert table["path"].tolist() == list(map(str, files))
    assert table["predicted"].tolist() == expected["predicted"].tolist()
    assert np.allclose(table[numbers].sum(axis=1), 1, atol=1e-4)
    # Where the reference is what runs it.
    monkeypatch.setattr("featx.inference.engines.base._serves_cpu", lambda: False)
    by_keras = pd.DataFrame(json.loads(invoke("predict", run, *files, "--json").stdout)["predictions"])
    assert list(by_keras) == list(table)
    assert by_keras["predicted"].tolist() == expected["predicted"].tolist()
    assert relative_error(by_keras[numbers].to_numpy(), table[numbers].to_numpy()) < 1e-4


def test_a_run_takes_no_weights_but_its_own(run, images):
    done = invoke("predict", run, images, "--weights", "random")
    assert done.exit_code == 1
    assert "net is a fine-tuned network with its own weights; leave " in done.stderr


def test_a_folder_is_no_word_for_weights(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "random")
    assert not is_run("random")
    assert is_run("./random")
    assert featx.Predictor("random").classes == ["ash", "birch", "cedar"]


def test_a_folder_is_refused_where_a_file_is_expected(run):
    done = invoke("weights", "verify", run)
    assert done.exit_code == 1
    assert "net': a folder." in done.stderr
    assert "RUN " in invoke("weights", "list").stdout


@pytest.mark.parametrize("layers", ["block4", "last", "block3,fc3"])
def test_layers_that_the_network_does_not_have(run, layers):
    missing = layers.split(",")[-1]
    with pytest.raises(
        FeatxError, match=f"up to block3_pool, with the run's head on it, vgg16 has no layer '{missing}'"
    ):
        build_frozen(layers=layers, weights=str(run))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline__weights_sha256": None}, r"baseline\.weights_sha256: not as featx finetune writes it"),
        ({"baseline__recipe": None}, r"baseline\.recipe: not as"),
        ({"baseline__recipe": {"name": "x"}}, r"run\.json: baseline\.recipe: recipe x: "),
        ({"protocol__classes": ["ash", 2]}, r"protocol\.classes: not as"),
        ({"protocol__classes": []}, r"protocol\.classes: not as"),
        ({"protocol__classes": ["ash", "birch"]}, "no usable weights for predictions in this file"),
        ({"store__backbone": ["vgg16"]}, r"store\.backbone: not as"),
        ({"store__image_size": "32"}, r"store\.image_size: not as"),
        ({"store__preprocessing": None}, r"store\.preprocessing: not as"),
        ({"baseline__weights_sha256": "0" * 64}, r"not the file that the run was scored with .*expected 0000"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(copy_run, changes, message):
    with pytest.raises(WeightsError, match=message):
        build_frozen(layers="fc1", weights=str(copy_run(**changes)))


def test_weights_that_are_not_whole_are_refused(copy_run):
    folder = copy_run()
    path = folder / "network.weights.h5"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="it was cut or replaced"):
        build_frozen(layers="fc1", weights=str(folder))
    path.unlink()
    with pytest.raises(WeightsError, match=r"network\.weights\.h5: can't be read: No such file"):
        build_frozen(layers="fc1", weights=str(folder))
    with pytest.raises(FeatxError, match="no such run; expected a folder"):
        build_frozen(layers="fc1", weights=str(folder.parent))


def test_test_images_that_the_network_may_have_seen_are_named(run, images, tmp_path):
    source = featx.read_source(images)
    same, other = (featx.make_splits(source, (0.5, 0.2, 0.3), seed=seed) for seed in (0, 1))
    assert note_seen_images(str(run), same.table) == ""
    lines = []
    options = {"layers": "block1_conv1", "weights": str(run), "resize": "pad", "interpolation": "lanczos"}
    featx.extract_features(other, tmp_path / "s.h5", **options, echo=lines.append)
    known = pd.read_csv(run / "predictions.csv")["path"]
    test = other.table["path"][other.table["split"] == "test"]
    (note,) = (line for line in lines if "may have been trained on them" in line)
    assert note.startswith(f"{int((~test.isin(known)).sum())} of {len(test)} test images")


def test_a_run_without_test_rows_may_have_seen_them_all(copy_run, images):
    folder = copy_run()
    record = json.loads((folder / "run.json").read_text()) | {"test": None}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "predictions.csv").write_text("path,label,predicted\n")
    table = featx.make_splits(featx.read_source(images), (0.5, 0.2, 0.3)).table
    n_test = int((table["split"] == "test").sum())
    assert note_seen_images(str(folder), table).startswith(f"{n_test} of {n_test} test images aren't test images of")
