"""Experiment files: what is read, what is changed for one run, and every mistake by its key."""

import re
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

import featx
from featx.experiment import EXAMPLE
from featx.experiment.file import change_record, experiment_record
from featx.experiment.schema import (
    MAX_BYTES,
    OF_REPEATS,
    FitSpec,
)
from featx.fit import CHOOSE_BY, OF_REPEATS as OF_RANDOM_SPLITS, RepeatOptions
from featx.networks.recipes import parse_changes
from featx.system import options_of, to_yaml

ROOT = Path(__file__).parents[2]

TEXT = """
title: Do frozen features do?
source: {path: images}
split: {shares: [0.6, 0.2, 0.2]}
stores:
  plain: {layers: [block1, block2], weights: random, image_size: 32}
  tuned: {weights: "run:net", layers: "fc1,block3_conv3"}
finetunes:
  net: {store: plain, recipe: mame-i, set: {head.epochs: 5}}
fits:
  rf: {store: plain, model: rf, layers: block2, grid: {n_estimators: [5, 10]}}
  svm: {store: plain, model: svm, repeats: 3}
  svm-tuned: {store: tuned, model: svm, repeats: 3, layers: fc1}
choices:
  best: {among: [svm, svm-tuned]}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "experiment.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "experiment.yaml"


def mistakes_of(path, **changes):
    with pytest.raises(featx.FeatxError) as caught:
        featx.read_experiment(path, changes={key.replace("__", "."): value for key, value in changes.items()})
    return str(caught.value)


def test_paths_start_from_the_files_folder_and_defaults_are_written_out(path, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    experiment = featx.read_experiment(path)
    assert experiment.source.path == str(path.parent / "images")
    assert experiment.output == path.parent / "output"
    assert experiment.store_path("plain") == path.parent / "output/stores/plain.h5"
    assert experiment.run_path("rf") == path.parent / "output/runs/rf"
    assert experiment.stores["plain"].layers == "block1,block2"
    assert experiment.stores["tuned"].of_run == "net"
    assert experiment.fits["rf"].grid == {
        "n_estimators": (5, 10),
        "min_samples_leaf": (2,),
        "max_features": ("sqrt",),
    }
    svm = experiment.fits["svm"]
    assert (svm.cv, svm.test_share, svm.stratify) == (5, 0.2, ("label",))
    assert svm.grid["C"] == (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
    assert experiment.report is not None


def test_paths_start_from_where_links_lead(path, monkeypatch):
    """As the system opens them, not by the look of the text."""
    folder = path.parent
    (folder / "studies/one").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    (folder / "studies/images").mkdir()
    (folder / "elsewhere/link").symlink_to(folder / "studies/one")
    (folder / "studies/one/e.yaml").write_text(TEXT, encoding="utf-8")
    linked = featx.read_experiment(folder / "elsewhere/link/e.yaml", changes={"source.path": "../images"})
    assert linked.source.path == str(folder / "studies/images")
    assert linked.output == folder / "studies/one/output"
    through = featx.read_experiment(path, changes={"source.path": "elsewhere/link/../images"})
    assert through.source.path == str(folder / "studies/images")
    monkeypatch.setenv("HOME", str(folder))
    assert featx.read_experiment(path, changes={"output": "~/mine"}).output == folder / "mine"


def test_a_record_of_many_fits_is_read_back(path):
    """Every default is written out, so that a small file makes a large record."""
    fits = {f"svm-{number}": {"store": "plain", "model": "svm"} for number in range(170)}
    experiment = featx.read_experiment(path, changes={"fits": fits, "choices": {}})
    record = path.parent / "record.yaml"
    record.write_text(to_yaml(experiment_record(experiment)), encoding="utf-8")
    assert record.stat().st_size > 1 << 16
    assert featx.read_experiment(record).fits == experiment.fits
    record.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "larger than 1024 KiB" in mistakes_of(record)


def test_the_record_is_read_back_as_the_same_experiment(path):
    experiment = featx.read_experiment(path)
    record = path.parent / "output/experiment.yaml"
    record.parent.mkdir()
    record.write_text(to_yaml(experiment_record(experiment)), encoding="utf-8")
    assert replace(featx.read_experiment(record), path=path) == experiment
    of_data_set = featx.read_experiment(path, changes={"source": {"dataset": "elpv", "n_images": 40}})
    record.write_text(to_yaml(experiment_record(of_data_set)), encoding="utf-8")
    assert replace(featx.read_experiment(record), path=path) == of_data_set


def test_keys_of_random_splits_take_what_the_library_takes():
    library, keys = options_of(RepeatOptions), options_of(FitSpec)
    assert {*OF_RANDOM_SPLITS} - {"n_repeats"} == {*OF_REPEATS} - {"repeats"}
    for name in OF_RANDOM_SPLITS:
        key = keys["repeats" if name == "n_repeats" else name]
        assert (key.values, key.is_list) == (library[name].values, library[name].is_list)


def test_every_mistake_is_named_at_once_with_its_key(path):
    """First keys and values; once these are right, what they name."""
    path.write_text(
        TEXT + "  .hidden: {among: [svm, svm-tuned]}\n  rf: {among: [svm-tuned, sv]}\nnote: 1\n",
        encoding="utf-8",
    )
    text = mistakes_of(
        path,
        source__path="nowhere",
        source__labels=3,
        split__seed=-1,
        stores__plain__bakbone="vgg16",
        stores__tuned__batch_size=0,
        finetunes__net__seed=-1,
        fits__rf__n_repeats=3,
        fits__svm__grid={"C": [0, 1], "gama": ["scale"]},
        report={"title": 3},
    )
    assert text.startswith(f"{path}: 11 mistakes: ")
    for expected in (
        "note: unknown key (there are: title, ",
        "source.labels: unknown key",
        "split.seed: expected a whole number from 0 to 4294967295, found -1",
        "stores.plain.bakbone: unknown key (close: backbone)",
        "stores.tuned.batch_size: expected a whole number from 1 to 4096 or auto, found 0",
        "finetunes.net.seed: expected a whole number from 0 to 4294967295, found -1",
        "fits.rf.n_repeats: unknown key (close: repeats)",
        "fits.svm.grid.C[0]: expected a number over 0, found 0",
        "fits.svm.grid.gama: svm has no such parameter (close: gamma)",
        "choices..hidden: a name is letters, digits, '.', '_' and '-', at most 60, and does not begin with a dot",
        "report.title: expected text, found 3",
    ):
        assert expected in text, expected
    path.write_text(TEXT + "  rf: {among: [svm-tuned, sv]}\n", encoding="utf-8")
    text = mistakes_of(
        path,
        source__path="nowhere",
        split__shares=[0.6, 0.2],
        stores__plain__layers="block9",
        stores__plain__pool="avg,min",
        stores__tuned__weights="run:nte",
        finetunes__net__recipe="mame-x",
        fits__rf__where="a ==",
        fits__svm__each_layer=True,
        fits__svm__choose_by="log_loss",
        report={"root": "no"},
    )
    for expected in (
        f"source.path: no such folder or CSV file: {path.parent / 'nowhere'}",
        "split.shares: expected two (train, test) or three",
        "stores.plain.layers: vgg16 has no layer 'block9'",
        "stores.plain.pool: expected avg, max, std, or several with commas, found",
        "stores.tuned.weights: no fine-tuned run 'nte' in finetunes (close: net)",
        "finetunes.net.recipe: mame-x: no such file, and no recipe of that name (close: mame-i",
        "fits.rf.where: ",
        "fits.svm.each_layer: of one split, and repeats is given",
        "fits.svm.choose_by: ",
        "choices.rf: fits.rf is in the same folder: give another name",
        "choices.rf.among: no fit 'sv' in fits (close: svm)",
        f"report.root: no such folder: {path.parent / 'no'}",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": None}, "source: expected a mapping, found null"),
        ({"source": {}}, "source: expected either path or dataset"),
        ({"source": {"dataset": "elpv", "root": "images"}}, "source.root: of a path, and dataset is elpv"),
        ({"source.n_images": 40}, "source.n_images: of a dataset alone"),
        ({"source.root": "nowhere"}, "source.root: no such folder"),
        ({"split": {"seed": 1}}, "split: expected either shares or train_per_class"),
        ({"split": {"train_per_class": 3, "stratify": ["type"]}}, "split.stratify: of shares"),
        ({"split.shares": [0.0, 1.0]}, "split.shares[0]: nothing can be fitted"),
        ({"split.shares": [0.5, -0.5, 1.0]}, "split.shares[1]: expected a number from 0 to 1, found -0.5"),
        ({"stores": {}}, "stores: expected at least one"),
        ({"stores": ["plain"]}, "stores: expected a mapping of names"),
        ({"stores.plain.backbone": "vgg"}, "stores.plain.backbone: expected vgg16, "),
        ({"stores.plain.image_size": 16}, "stores.plain.image_size: expected a whole number from 32 to 4096, found 16"),
        ({"stores.plain.pool": "avg,min"}, "stores.plain.pool: expected avg, max, std, or several with commas, found"),
        ({"stores.plain.max_rejected": 1.5}, "stores.plain.max_rejected: expected a number from 0 to 1 or a count"),
        ({"stores.plain.layers": "block1_conv7"}, "stores.plain.layers: vgg16 has no layer 'block1_conv7' (close: "),
        ({"stores.plain.weights": "own.h5"}, "stores.plain.weights: neither imagenet, imagenet-conv, random[:SEED], "),
        ({"stores.plain.weights": "random:x"}, "stores.plain.weights: expected random:SEED with a whole number"),
        (
            {"stores.plain": {"backbone": "vgg19", "weights": "imagenet-conv"}},
            "imagenet-conv is of vgg16, not of vgg19",
        ),
        (
            {"stores.tuned.weights": "run:nat"},
            "stores.tuned.weights: no fine-tuned run 'nat' in finetunes (close: net)",
        ),
        ({"stores.tuned.backbone": "vgg19"}, "stores.tuned.backbone: vgg19, and the run 'net' is of vgg16"),
        ({"finetunes.net.store": "tuned"}, "finetunes.net.store: tuned is of a fine-tuned network"),
        ({"finetunes.net.store": "plane"}, "finetunes.net.store: no store 'plane' in stores (close: plain)"),
        ({"finetunes.net.set.epoch": 3}, "finetunes.net.set: recipe mame-i: change epoch: no setting"),
        (
            {"finetunes.net.recipe": "flowers-5", "finetunes.net.set": {}},
            "finetunes.net.recipe: flowers-5 is for resnet50",
        ),
        ({"fits.rf.store": "plane"}, "fits.rf.store: no store 'plane' in stores (close: plain)"),
        ({"fits.rf.model": "forest"}, "fits.rf.model: expected rf, svm"),
        ({"fits.rf.layers": "block3"}, "fits.rf.layers: the store plain has no 'block3_conv1'"),
        ({"fits.rf.layers": "block1:max"}, "fits.rf.layers: the store plain has no pooling 'max'; it has avg"),
        ({"fits.rf.grid.n_estimators": 5}, "fits.rf.grid.n_estimators: expected a list of values, found 5"),
        (
            {"fits.rf.grid.n_estimators": [2.5]},
            "fits.rf.grid.n_estimators[0]: expected a whole number from 1, found 2.5",
        ),
        ({"fits.rf.cv": True}, "fits.rf.cv: expected a whole number from 2 to 10000, found true"),
        ({"fits.rf.stratify": ["type"]}, "fits.rf.stratify: of random splits: give repeats too"),
        ({"fits.svm.each_layer": True}, "fits.svm.each_layer: of one split, and repeats is given"),
        (
            {"fits.rf.model": "knn", "fits.rf.grid": {}, "fits.rf.sample_weight": "w"},
            "fits.rf.sample_weight: knn takes no",
        ),
        ({"fits.rf.where": "type = 'mono'"}, "can't be read; expected comparisons"),
        ({"finetunes.net.where": "type in 'mono'"}, "a list, other comparisons one value"),
        ({"source.path": "photos", "output": "./photos/"}, "output: the folder of the images: give another one"),
        ({"fits.svm.choose_by": "log_loss"}, "fits.svm.choose_by: log_loss is not defined for GramSVC"),
        (
            {"fits.new": {"store": "plain", "model": "knn", "class_weight": "balanced"}},
            "fits.new.class_weight: knn takes no class weights: leave it out",
        ),
        ({"choices.best.among": ["svm"]}, "choices.best.among: expected two fits or more"),
        ({"choices.best.among": ["svm", "rf"]}, "choices.best.among: rf has no repeats"),
        ({"fits.svm.seed": 3}, "choices.best.among: svm-tuned and svm have other seed"),
        ({"fits.svm.grid": {"C": [1], "kernel": ["rbf"]}}, "choices.best.among: the grid of svm has one cell"),
        ({"report": 3}, "report: expected true, false, or a mapping of title and root, found 3"),
        ({"report": None}, "report: expected true, false, or a mapping of title and root, found null"),
        ({"source.root": "images"}, "source.root: of a CSV, and path is a folder: leave it out"),
        ({"source.label_column": "medium"}, "source.label_column: of a CSV, and path is a folder: leave it out"),
        ({"finetunes.net.weights": "run:net"}, "finetunes.net.weights: of a fine-tuned network, and only a backbone"),
        ({"finetunes.net.weights": "imagenet"}, "finetunes.net.weights: imagenet, and the store's features are of ra"),
        (
            {"finetunes.net.weights": "no.h5"},
            "finetunes.net.weights: neither imagenet, imagenet-conv, random[:SEED] nor",
        ),
        (
            {"finetunes.net.set.unfreeze": ["block9"]},
            "finetunes.net.set: stage 'head': unfreeze names 'block9', and vgg",
        ),
        (
            {"finetunes.net.cache_limit": 0, "finetunes.net.keep_cache": True},
            "finetunes.net.keep_cache: a cache_limit of 0 leaves",
        ),
        ({"finetunes.net.set.from_layer": "block9"}, "finetunes.net.set: vgg16 has no layer 'block9'"),
        ({"finetunes.net.set.from_layer": "block5"}, "from_layer 'block5' stands for 3 layers; name one"),
        ({"finetunes.net.set.from_layer": "predictions"}, "name a layer before them, such as fc2"),
        ({"fits.rf.repeats": 20_000}, "fits.rf.repeats: expected a whole number from 1 to 10000, found 20000"),
        ({"fits.rf.cv": 20_000}, "fits.rf.cv: expected a whole number from 2 to 10000"),
        ({"fits.rf.importance": 20_000}, "fits.rf.importance: expected a whole number from 0 to 10000"),
        (
            {"fits.rf.grid": {"n_estimators": list(range(1, 3000)), "min_samples_leaf": list(range(1, 3000))}},
            "fits.rf.grid: a grid of 8,994,001 cells: expected 10,000 or fewer",
        ),
        ({"split.shares": [1.0, 0.0]}, "split.shares: nothing is left to test on"),
        ({"stores.plain": {"backbone": "googlenet"}}, "stores.plain.weights: there are no imagenet weights for goog"),
        (
            {"stores.plain": {"layers": "fc1", "image_size": 256}},
            "stores.plain.image_size: fc1 of published weights takes 224 pixels, found 256",
        ),
        (
            {"stores.plain": {"layers": "block1,fc1", "weights": "imagenet-conv"}},
            "stores.plain.layers: imagenet-conv has no fc1",
        ),
        (
            {"stores.plain.engine": "ncnn", "stores.plain.precision": "bfloat16"},
            "stores.plain.precision: ncnn computes in float32 only, not in bfloat16",
        ),
        ({"stores.plain.weights": "experiment.yaml"}, "experiment.yaml: expected a file ending in .weights.h5, .h5"),
        ({"stores.plain.weights": "images"}, "stores.plain.weights: "),
        ({"finetunes.net.weights": "images"}, "images: a folder; expected a file"),
        ({"output": "a\0b"}, "output: a character that no file can hold"),
        ({"title": "\ud800"}, "title: a character that no file can hold"),
        ({"title": 3}, "title: expected text, found 3"),
        ({"fits": {"a.training": {"store": "plain", "model": "rf"}}}, "fits.a.training: a name does not end with"),
        ({"fits": {"a/../b": {"store": "plain", "model": "rf"}}}, "fits.a/../b: a name is letters, digits"),
        ({"fits": {"NET": {"store": "plain", "model": "rf"}}}, "fits.NET: finetunes.net is in the same folder"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(path, changes, expected):
    if "fits" in changes:
        changes["choices"] = {}
    with pytest.raises(featx.FeatxError, match=r"experiment\.yaml: ") as caught:
        featx.read_experiment(path, changes=changes)
    assert expected in str(caught.value)


def test_what_networks_can_do_is_not_refused(path):
    for store in (
        {"layers": "fc1", "image_size": 256, "weights": "random"},
        {"layers": "all", "weights": "imagenet-conv"},
        {"backbone": "googlenet", "weights": "random"},
        {"backbone": "resnet50", "image_size": 256},
    ):
        changes = {"stores.plain": store, "finetunes": {}, "choices": {}, "stores.tuned": None, "fits": {}}
        assert featx.read_experiment(path, changes=changes).stores["plain"].weights == store.get("weights", "imagenet")


def test_fine_tuning_takes_the_dense_layers_that_the_weights_of_a_stores_convolutions_lack(path):
    changes = {"stores.plain": {"layers": "conv", "weights": "imagenet-conv"}, "finetunes.net.weights": "imagenet"}
    assert featx.read_experiment(path, changes=changes).finetunes["net"].weights == "imagenet"


def test_an_engine_that_is_not_installed_is_named(path, monkeypatch):
    monkeypatch.setattr("featx.experiment.references.importlib.util.find_spec", lambda name: None)
    assert "stores.plain.engine: ncnn is not installed: pip" in mistakes_of(path, stores__plain__engine="ncnn")


def test_a_file_that_is_no_mapping(path):
    path.write_text("- 1\n", encoding="utf-8")
    assert "expected a mapping with the keys source, stores and fits" in mistakes_of(path)
    path.write_text("stores: &x {}\n", encoding="utf-8")
    assert "the anchor &x" in mistakes_of(path)


def test_patterns_change_every_entry_that_the_key_has_a_meaning_for(path):
    changes = parse_changes(
        [
            "stores.*.weights=random:7",
            "stores.*.batch_size=4",
            "fits.*.grid.C=[1, 10]",
            "fits.*.repeats=2",
            "fits.svm*.cv=3",
            "fits.*.importance=1",
            "finetunes.*.set.epochs=1",
            "report=false",
            "split.seed=4",
        ],
        example=EXAMPLE,
    )
    experiment = featx.read_experiment(path, changes=changes)
    assert [store.weights for store in experiment.stores.values()] == ["random:7", "run:net"]
    assert [store.batch_size for store in experiment.stores.values()] == [4, 4]
    assert [fit.grid.get("C") for fit in experiment.fits.values()] == [None, (1.0, 10.0), (1.0, 10.0)]
    assert [fit.repeats for fit in experiment.fits.values()] == [None, 2, 2]
    assert [fit.importance for fit in experiment.fits.values()] == [1, 0, 0]
    assert [fit.cv for fit in experiment.fits.values()] == [None, 3, 3]
    # What is said of all stages goes before what the file says of one.
    assert experiment.finetunes["net"].set == {"epochs": 1}
    assert experiment.report is None
    assert experiment.split.seed == 4
    named = {"stores.tuned": {"weights": "random"}, "choices.best": None, "fits.svm-tuned": None}
    assert featx.read_experiment(path, changes=named).stores["tuned"].weights == "random"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"stores.plane.pool": "max"},
            "stores.plane.pool: can't be changed: no entry 'plane' in stores (close: plain)",
        ),
        (
            {"fits.knn*.seed": 1},
            "fits.knn*.seed: can't be changed: no entry 'knn*' in fits (there are: rf, svm, svm-tuned)",
        ),
        (
            {"fits.*.grid.n_neighbors": [1]},
            "fits.*.grid.n_neighbors: can't be changed: none of these has 'grid.n_neighbors' to change",
        ),
        ({"fits.knn*": None}, "fits.knn*: can't be changed: no entry 'knn*' in fits"),
        ({"fits.rf": 3, "fits.rf.seed": 3}, "fits.rf.seed: can't be changed: fits.rf is no mapping"),
        ({"fits": 3, "fits.rf.seed": 3}, "fits.rf.seed: can't be changed: fits is no mapping"),
        ({"title.text": 1}, "title.text: can't be changed: title is no mapping"),
    ],
)
def test_a_change_of_nothing_is_refused(path, changes, expected):
    with pytest.raises(featx.FeatxError) as caught:
        featx.read_experiment(path, changes=changes)
    assert expected in str(caught.value)


def test_wrong_changes_are_named_with_the_files_own_mistakes(path):
    path.write_text(TEXT.replace("title: Do frozen features do?", "title: 3"), encoding="utf-8")
    text = mistakes_of(path, stores__plane__pool="max", fits__rf__seed=-1)
    assert ": 3 mistakes: " in text
    for expected in (
        "stores.plane.pool: can't be changed: no entry",
        "fits.rf.seed: expected a whole number",
        "title: ",
    ):
        assert expected in text


def test_whole_entries_come_and_go(path):
    changes = {"choices.*": None, "fits.svm*": None, "fits.knn": {"store": "plain", "model": "knn"}}
    experiment = featx.read_experiment(path, changes=changes)
    assert list(experiment.fits) == ["rf", "knn"]
    assert experiment.choices == {}


def test_names_with_dots_are_told_from_keys():
    record = {"fits": {"a.b": {"model": "svm"}, "a": {"model": "svm"}}}
    changed, _ = change_record(record, {"fits.a.b.seed": 1, "fits.a.grid.C": [1]})
    assert changed["fits"] == {"a.b": {"model": "svm", "seed": 1}, "a": {"model": "svm", "grid": {"C": [1]}}}
    assert record["fits"]["a"] == {"model": "svm"}


def test_a_fine_tuning_takes_its_stores_file_of_weights(path):
    (path.parent / "own.h5").write_bytes(b"")
    experiment = featx.read_experiment(path, changes={"stores.plain.weights": "own.h5"})
    assert experiment.finetunes["net"].weights == experiment.stores["plain"].weights == str(path.parent / "own.h5")


def test_every_score_can_be_named(path):
    for name in CHOOSE_BY:
        assert featx.read_experiment(path, changes={"fits.rf.choose_by": name}).fits["rf"].choose_by == name


def test_the_examples_are_experiments(path):
    readme, page = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/experiments.md"))
    (in_readme,) = re.findall(r"^`experiment.yaml`:\n\n(.+?)\n\nStores, ", readme, re.DOTALL | re.MULTILINE)
    (on_page,) = re.findall(r"^```yaml\n(.+?)^```", page, re.DOTALL | re.MULTILINE)
    for text, changes in ((textwrap.dedent(in_readme), {"source.path": "images"}), (on_page, {})):
        path.write_text(text, encoding="utf-8")
        experiment = featx.read_experiment(path, changes=changes)
        assert list(experiment.choices) == ["best"]
        assert len(experiment.fits) == 5


def test_a_section_with_nothing_below_its_name_takes_an_entry(path):
    path.write_text(TEXT.replace("choices:\n  best: {among: [svm, svm-tuned]}", "choices:"), encoding="utf-8")
    experiment = featx.read_experiment(path, changes={"choices.best": {"among": ["svm", "svm-tuned"]}})
    assert experiment.choices["best"].among == ("svm", "svm-tuned")


def test_layers_that_only_the_network_itself_knows_may_be_unfrozen(path):
    changes = {"stores.plain.backbone": "resnet50", "stores.plain.layers": "all", "stores.tuned": None}
    changes |= {"finetunes.net.recipe": "flowers-5", "finetunes.net.set": {"unfreeze": ["conv5_block3_2_conv"]}}
    changes |= {"fits.svm-tuned": None, "fits.rf.layers": "all", "choices": {}}
    assert featx.read_experiment(path, changes=changes).finetunes["net"].set == {"unfreeze": ["conv5_block3_2_conv"]}
