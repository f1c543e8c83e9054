"""`featx run`: every stage once, nothing twice, what differs refused, what was stopped gone on with."""

import functools
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from samples import make_tree, small_recipe

import featx
from featx.cli import main
from featx.experiment import existing, plan_experiment, stages as experiment_work
from featx.experiment.stages import choose_stages, list_stages
from featx.networks.recipes import Stage
from featx.system import read_yaml

TEXT = """
title: Do frozen features do?
source: {path: images}
split: {shares: [0.6, 0.2, 0.2]}
stores:
  tuned: {layers: "block3_conv3,fc1", weights: "run:net", batch_size: 4, engine: keras}
  plain: {layers: block1, weights: random, image_size: 32, batch_size: 4, engine: keras}
finetunes:
  net: {store: plain, recipe: small.yaml, set: {head.batch_size: 8}}
fits:
  rf: {store: plain, model: rf, grid: {n_estimators: [5, 10]}}
  svm-tuned: {store: tuned, model: svm, layers: fc1, grid: {C: [1]}}
  again: {store: plain, model: svm, grid: {C: [0.1, 1], kernel: [linear]}, repeats: 2, cv: 2}
  again-tuned: {store: tuned, model: svm, grid: {C: [0.1, 1], kernel: [linear]}, repeats: 2, cv: 2}
choices:
  best: {among: [again, again-tuned]}
"""
ORDER = [
    *("stores.plain", "finetunes.net", "stores.tuned"),
    *("fits.rf", "fits.svm-tuned", "fits.again", "fits.again-tuned", "choices.best", "report"),
]
# A study without a network to train.
SHORT = {"finetunes": {}, "choices": {}, "stores.tuned": None, "fits.*-tuned": None, "report": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, a recipe, and an experiment that has been run once."""
    folder = tmp_path_factory.mktemp("study")
    make_tree(folder / "images", {"ash": 12, "birch": 10, "cedar": 8})
    small_recipe(folder / "small.yaml", stages=(Stage("head", epochs=1, batch_size=4),))
    (folder / "experiment.yaml").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def study(folder):
    lines = []
    done = featx.run_experiment(featx.read_experiment(folder / "experiment.yaml"), echo=lines.append)
    return done, lines


@pytest.fixture(scope="module", autouse=True)
def _networks_once():
    """Build the network of a run's folder once, however often its layers are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(existing, "build_frozen", functools.cache(existing.build_frozen))
        yield


@pytest.fixture
def own(folder, study, tmp_path):
    """A copy of the whole study, to be changed."""
    shutil.copytree(folder, tmp_path / "own", copy_function=shutil.copy2)
    return tmp_path / "own" / "experiment.yaml"


@pytest.fixture
def short(folder, tmp_path):
    """The images, and the same experiment, that has not been run."""
    shutil.copytree(folder / "images", tmp_path / "images")
    small_recipe(tmp_path / "small.yaml")
    (tmp_path / "experiment.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "experiment.yaml"


def run(path, changes=None, **options):
    return featx.run_experiment(featx.read_experiment(path, changes=changes), **options)


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def what_was(done):
    return {stage.key: stage.was for stage in done.stages}


def test_every_stage_is_done_in_order(folder, study):
    done, lines = study
    assert [stage.key for stage in done.stages] == ORDER
    assert all(stage.is_done and stage.was == "missing" for stage in done.stages)
    begun = [line.partition(":")[0] for line in lines if line.endswith(": starts")]
    assert begun == ORDER
    output = folder / "output"
    assert {path.name for path in (output / "stores").iterdir()} == {"plain.h5", "tuned.h5"}
    assert {path.name for path in (output / "runs").iterdir()} == {
        *("net", "rf", "svm-tuned", "again", "again-tuned", "best")
    }
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Do frozen features do?" in page
    assert "fine-tuned VGG16" in page
    with featx.open(output / "stores/tuned.h5") as store:
        assert store.layers == ["block3_conv3", "fc1"]
        assert store.attributes["weights"] == "net"


def test_a_stage_is_what_the_library_makes(folder, study, tmp_path):
    manifest = featx.make_splits(featx.read_source(folder / "images"), (0.6, 0.2, 0.2))
    options = {"weights": "random", "image_size": 32, "batch_size": 4, "engine": "keras"}
    featx.extract_features(manifest, tmp_path / "plain.h5", layers="block1", **options)
    with featx.open(tmp_path / "plain.h5") as own, featx.open(folder / "output/stores/plain.h5") as store:
        assert np.array_equal(own.matrix(), store.matrix())
        assert own.images.equals(store.images)
    runs = folder / "output/runs"
    rf = featx.fit_grid(tmp_path / "plain.h5", "rf", tmp_path / "rf", grid={"n_estimators": (5, 10)})
    assert featx.read_run(runs / "rf").test == rf.test
    again = featx.fit_repeats(
        *(tmp_path / "plain.h5", "svm", tmp_path / "again"),
        grid={"C": (0.1, 1.0), "kernel": ("linear",)},
        n_repeats=2,
        cv=2,
    )
    record = json.loads((runs / "again/repeats.json").read_text())
    assert [entry["test"] for entry in record["repeats"]] == [repeat.test for repeat in again.repeats]
    assert featx.read_run(runs / "net").baseline["recipe"]["stages"][0]["batch_size"] == 8
    assert [entry["run"] for entry in json.loads((runs / "best/repeats.json").read_text())["protocol"]["among"]] == [
        *("again", "again-tuned")
    ]


@pytest.mark.parametrize("name", ["experiment.yaml", "output/experiment.yaml"])
def test_run_again_nothing_is_done_from_the_file_or_its_record(folder, study, name, monkeypatch):
    before = snapshot(folder)
    lines = []
    # Nothing is written, so that nothing need be writable.
    monkeypatch.setattr("featx.experiment.run.os.access", lambda path, mode: False)
    done = run(folder / name, echo=lines.append)
    assert [stage.key for stage in done.stages] == ORDER
    assert set(what_was(done).values()) == {"exists"}
    assert not any(stage.is_done for stage in done.stages)
    assert [line.partition(": exists already")[0] for line in lines] == ORDER
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fits.rf.grid.n_estimators": [5]}, {"fits.rf": "grid.n_estimators [5, 10], now [5]"}),
        ({"fits.rf.grid.max_depth": [3]}, {"fits.rf": "grid.max_depth null, now [3]"}),
        ({"fits.again.discretize": "both"}, {"fits.again": 'discretize ["none"], now ["none", "ternary"]'}),
        ({"fits.rf.model": "knn", "fits.rf.grid": {}}, {"fits.rf": 'model "rf", now "knn"'}),
        ({"fits.rf.cv": 2, "fits.again.cv": 3}, {"fits.rf": "cv null, now 2", "fits.again": "cv 2, now 3"}),
        ({"fits.rf.layers": "block1_conv2"}, {"fits.rf": "other layers, now block1_conv2"}),
        ({"fits.rf.each_layer": True}, {"fits.rf": "each_layer false, now true"}),
        ({"fits.rf.repeats": 2}, {"fits.rf": "of the images' own splits, now of random splits"}),
        ({"stores.plain.image_size": 40}, {"stores.plain": "image_size 32, now 40", "fits.rf": "stores.plain"}),
        ({"stores.plain.weights": "random:1"}, {"stores.plain": 'weights "random:0", now "random:1"'}),
        ({"stores.plain.layers": "block1_conv1"}, {"stores.plain": "it has more: layers block1_conv2"}),
        ({"stores.plain.layers": "block1,block2"}, {"fits.rf": "stores.plain (layers block2_conv1, block2_conv2)"}),
        ({"split.seed": 1}, {"fits.rf": "stores.plain (other labels, splits or columns of the images)"}),
    ],
)
def test_other_settings_are_refused_before_any_work(folder, study, changes, expected):
    refuse(folder, SHORT | changes, expected)


def test_other_settings_of_networks_and_choices_are_refused(folder, study):
    refuse(
        folder,
        {"finetunes.net.set": {}, "fits.again.repeats": 3, "fits.again-tuned.repeats": 3},
        {
            "finetunes.net": "other recipe",
            "stores.tuned": "made of what is yet to change: finetunes.net (other recipe)",
            "fits.svm-tuned": "yet to change: stores.tuned",
            "fits.again": "n_repeats 2, now 3",
            "choices.best": "fits.again, fits.again-tuned",
        },
    )
    changes = {"choices.best.among": ["again-tuned", "again"], "stores.tuned.layers": "fc1"}
    refuse(
        folder,
        changes,
        {"stores.tuned": "it has more: layers block3_conv3", "choices.best": "yet to change: fits.again-tuned"},
    )
    del changes["stores.tuned.layers"]
    refuse(folder, changes, {"choices.best": "chosen among again, again-tuned as they were"})


def refuse(folder, changes, expected):
    """See that these are named, what else differs too, and nothing is touched."""
    before = snapshot(folder)
    with pytest.raises(featx.FeatxError, match="Give `overwrite` to replace what has other settings") as caught:
        run(folder / "experiment.yaml", changes)
    for key, text in expected.items():
        _, name, rest = str(caught.value).partition(f"{key}: {folder}")
        assert name
        assert text in rest.partition(f": {folder}")[0]
    assert snapshot(folder) == before


def test_overwrite_replaces_what_differs_and_what_is_made_of_it(own):
    before = snapshot(own.parent)
    done = run(own, {"fits.again.seed": 5, "fits.again-tuned.seed": 5, "report": False}, overwrite=True)
    assert {stage.key for stage in done.stages if stage.is_done} == {"fits.again", "fits.again-tuned", "choices.best"}
    assert json.loads((own.parent / "output/runs/best/repeats.json").read_text())["repeats"][0]["seed"] == 5
    kept = [path for path in before if path.parent.name in ("net", "rf", "stores")]
    assert len(kept) > 10
    assert all(path.stat().st_mtime_ns == before[path] for path in kept)
    assert "seed: 5" in (own.parent / "output/experiment.yaml").read_text(encoding="utf-8")


def test_another_network_of_the_same_name_is_noticed(own):
    (own.parent / "output/runs/net").rename(own.parent / "old")
    tuned = run(own, {"finetunes.net.seed": 3}, only=["finetunes"])
    assert what_was(tuned) == {"finetunes.net": "missing"}
    with pytest.raises(featx.FeatxError, match=r"stores.tuned: .*other weights that are called 'net' too"):
        run(own, {"finetunes.net.seed": 3})


def test_a_network_may_come_out_of_another_folder(folder, study, short):
    """A run's folder in place of weights: its own preprocessing and size, and the layers of its head."""
    store = {"weights": str(folder / "output/runs/net"), "layers": "fc1", "batch_size": 4, "engine": "keras"}
    changes = SHORT | {"stores": {"plain": store}, "fits.rf.layers": "fc1", "fits.again": None}
    of_fit = {"stores.plain.weights": str(folder / "output/runs/rf")}
    with pytest.raises(featx.FeatxError, match=r"stores.plain.weights: .*a run of rf, which has no network"):
        featx.read_experiment(short, changes=changes | of_fit)
    with pytest.raises(featx.FeatxError, match=r"stores.plain.weights: .*a network of vgg16, not of vgg19"):
        featx.read_experiment(short, changes=changes | {"stores.plain.backbone": "vgg19"})
    assert set(what_was(run(short, changes)).values()) == {"missing"}
    assert set(what_was(run(short, changes)).values()) == {"exists"}
    with (
        featx.open(short.parent / "output/stores/plain.h5") as own,
        featx.open(folder / "output/stores/tuned.h5") as old,
    ):
        assert np.allclose(own.matrix(["fc1"]), old.matrix(["fc1"]), rtol=1e-5)


def test_a_stopped_grid_goes_on(short, monkeypatch):
    from featx.fit import grid as cell_scores

    plain = cell_scores.score_cells

    def stopping(*arguments, **options):
        yield next(plain(*arguments, **options))
        raise KeyboardInterrupt

    def counting(model, cells, *arguments, **options):
        scored.extend(cells)
        return plain(model, cells, *arguments, **options)

    scored = []
    with monkeypatch.context() as patch:
        patch.setattr(cell_scores, "score_cells", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(short, SHORT)
    experiment = featx.read_experiment(short, changes=SHORT)
    planned = {stage.key: stage for stage in plan_experiment(experiment).stages}
    assert planned["stores.plain"].status == "exists"
    assert planned["fits.rf"].status == "unfinished"
    assert planned["fits.rf"].what == "2 cells"
    scored = []
    with monkeypatch.context() as patch:
        patch.setattr(cell_scores, "score_cells", counting)
        done = run(short, SHORT)
    assert what_was(done) == {"stores.plain": "exists", "fits.rf": "unfinished", "fits.again": "missing"}
    assert len(scored) == 1


def test_a_stopped_store_goes_on_and_parts_of_others_are_refused(short, monkeypatch):
    stop_extraction(monkeypatch, short, SHORT)
    for changes, expected in (
        ({"stores.plain.image_size": 40}, "image_size 32, now 40"),
        (
            {"stores.plain.layers": "block2"},
            r'layers \["block1_conv1", "block1_conv2"\], now \["block2_conv1", "block2_conv2"\]',
        ),
        ({"stores.plain.pool": "max"}, r'pooling \["avg"\], now \["max"\]'),
    ):
        with pytest.raises(featx.FeatxError, match=f"stores.plain: .*unfinished store, started with {expected}"):
            run(short, SHORT | changes)
    make_tree(short.parent / "images", {"dogwood": 5})
    with pytest.raises(featx.FeatxError, match=r"unfinished store, started with another list of images"):
        run(short, SHORT)
    shutil.rmtree(short.parent / "images/dogwood")
    done = run(short, SHORT, only=["stores"])
    assert what_was(done) == {"stores.plain": "unfinished"}


def stop_extraction(monkeypatch, path, changes):
    """Stop the extraction of the only store after a few batches."""
    from featx.inference import PooledNetwork

    plain, seen = PooledNetwork.__call__, []

    def stopping(self, pixels):
        seen.append(len(pixels))
        if len(seen) > 3:
            raise KeyboardInterrupt
        return plain(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(PooledNetwork, "__call__", stopping)
        patch.setattr("featx.inference.pipeline.PART_SIZE", 4)
        with pytest.raises(featx.errors.StoppedError, match="Run the same command again to"):
            run(path, changes, only=["stores"])


def test_an_unfinished_store_of_other_features_starts_from_scratch_with_overwrite(short, monkeypatch):
    stop_extraction(monkeypatch, short, SHORT)
    done = run(short, SHORT | {"stores.plain.pool": "max"}, only=["stores"], overwrite=True)
    assert what_was(done) == {"stores.plain": "other"}
    assert not (short.parent / "output/stores/plain.h5.parts").exists()


def test_a_stopped_addition_of_other_features_is_begun_anew_with_overwrite_and_the_store_kept(short, monkeypatch):
    run(short, SHORT | {"stores.plain.layers": "block1_conv1"}, only=["stores"])
    store = short.parent / "output/stores/plain.h5"
    with featx.open(store) as opened:
        first = opened.matrix(["block1_conv1"])
    stop_extraction(monkeypatch, short, SHORT)
    assert find(featx.read_experiment(short, changes=SHORT))["stores.plain"].status == "incomplete"
    changes = SHORT | {"stores.plain.layers": "block1_conv1,block2_conv1"}
    expected = r"plain.h5.parts: an unfinished addition to it, started with layers "
    with pytest.raises(featx.FeatxError, match=expected):
        run(short, changes, only=["stores"])
    before = store.stat().st_mtime_ns
    monkeypatch.setattr("featx.experiment.stages.Work.extract", failing)
    with pytest.raises(featx.FeatxError, match="on purpose"):
        run(short, changes, only=["stores"], overwrite=True)
    assert store.stat().st_mtime_ns == before
    monkeypatch.undo()
    assert what_was(run(short, changes, only=["stores"])) == {"stores.plain": "incomplete"}
    with featx.open(store) as opened:
        assert opened.layers == ["block1_conv1", "block2_conv1"]
        assert np.array_equal(opened.matrix(["block1_conv1"]), first)


def test_a_stopped_training_goes_on_or_is_begun_anew(short, monkeypatch):
    from featx.finetune import tune as finetune

    plain, stages = finetune.train_stage, []

    def stopping(model, stage, *arguments, **options):
        stages.append(stage.name)
        if stages != ["head"]:
            raise KeyboardInterrupt
        return plain(model, stage, *arguments, **options)

    changes = {"fits": {}, "choices": {}, "report": False, "finetunes.net.set": {"epochs": 1}}
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "train_stage", stopping)
        with pytest.raises(featx.errors.StoppedError, match="1 epochs are done"):
            run(short, changes)
        with pytest.raises(
            featx.FeatxError, match=r"finetunes.net: .*an unfinished training, started with other recipe"
        ):
            run(short, changes | {"finetunes.net.set": {"epochs": 2}})
        # Of other rows: it is the training itself that knows.
        with pytest.raises(featx.FeatxError, match="this unfinished training was started with other rows"):
            run(short, changes | {"split.seed": 1}, only=["stores.plain", "finetunes"])
        lines = []
        with pytest.raises((KeyboardInterrupt, featx.errors.StoppedError)):
            run(short, changes | {"split.seed": 1}, overwrite=True, echo=lines.append)
    assert stages == ["head", "block3", "head"]
    assert "finetunes.net: resumes" in lines


def test_a_store_is_added_to_and_then_it_is_another(short):
    run(short, SHORT | {"stores.plain.layers": "block1_conv1"}, only=["stores"])
    lines = []
    done = run(short, SHORT, echo=lines.append)
    assert what_was(done) == {"stores.plain": "incomplete", "fits.rf": "missing", "fits.again": "missing"}
    assert any("is added to, layers block1_conv2" in line for line in lines)
    (short.parent / "images/ash/003.png").unlink()
    with pytest.raises(featx.FeatxError, match=r"stores.plain: .*1 images that the source no longer has"):
        run(short, SHORT)
    make_tree(short.parent / "images", {"ash": 13})
    make_tree(short.parent / "elsewhere", {"ash": 12, "birch": 10, "cedar": 8}, seed=50)
    (short.parent / "images/ash/012.png").unlink()
    assert set(what_was(run(short, SHORT)).values()) == {"exists"}
    with pytest.raises(featx.FeatxError, match=r"plain.h5 exists with other settings: /.*the same names, but "):
        run(short, SHORT | {"source.path": "elsewhere"})


def test_a_part_needs_what_comes_before_it(short, study):
    with pytest.raises(featx.FeatxError) as caught:
        run(short, only=["fits", "report"])
    text = str(caught.value)
    assert "fits.rf: needs stores.plain, which does not exist: do stores.plain first" in text
    assert "report: needs finetunes.net, which does not exist: do finetunes.net first" in text
    assert not (short.parent / "output").exists()
    with pytest.raises(featx.FeatxError, match=r"only: 'fitz': no such section \(close: fits\)"):
        run(short, only=["fitz"])
    with pytest.raises(featx.FeatxError, match=r"fits.rf: needs stores.plain, .*; fits.again: needs"):
        # The command's own name for it.
        run(short, only=["fit"])
    with pytest.raises(featx.FeatxError, match=r"only: 'fits.rg': no entry 'rg' in fits \(there are: rf"):
        run(short, only=["fits.rg"])
    with pytest.raises(featx.FeatxError, match=r"only: 'choices': this experiment has none"):
        run(short, SHORT, only=["choices"])
    with pytest.raises(featx.FeatxError, match=r"only: 'report': .*there is no run on the images' own splits"):
        run(short, SHORT | {"fits.rf": None, "report": True}, only=["report"])
    stages = list_stages(featx.read_experiment(short))
    chosen = choose_stages(stages, ["fits.again*", "stores.plain", "report"])
    assert [stage.key for stage in chosen] == ["stores.plain", "fits.again", "fits.again-tuned", "report"]


def test_a_part_needs_no_images_and_a_report_is_renewed_with_its_runs(own):
    shutil.rmtree(own.parent / "output/runs/rf")
    shutil.rmtree(own.parent / "images")
    (own.parent / "images").mkdir()
    assert what_was(run(own, only=["fits"]))["fits.rf"] == "missing"
    (planned,) = plan_experiment(featx.read_experiment(own), only=["report"]).stages
    assert (planned.status, planned.details) == ("unfinished", ("the page is of other runs or has another title",))


def record_of(path):
    return read_yaml(path.parent / "output/experiment.yaml")


def test_the_record_says_only_what_was_run(own, monkeypatch):
    """Of what a run leaves alone, or fails at, the record says what it said."""
    before = record_of(own)
    whole = snapshot(own.parent)
    with pytest.raises(featx.FeatxError, match=r"the stores were made with split.seed 0, now 1\. No store is"):
        run(own, {"split.seed": 1}, only=["fits"])
    run(own, {"fits.rf.seed": 7, "stores.plain.batch_size": 8, "split": None}, only=["stores.plain", "fits.svm-tuned"])
    assert {path: at for path, at in snapshot(own.parent).items() if path.name != "experiment.yaml"} == {
        path: at for path, at in whole.items() if path.name != "experiment.yaml"
    }
    after = record_of(own)
    assert after.pop("source")["path"] == str(own.parent / "images")
    # Copied, the recipe of the same content lies elsewhere too.
    assert after["finetunes"]["net"].pop("recipe") == str(own.parent / "small.yaml")
    del before["source"], before["finetunes"]["net"]["recipe"]
    assert after == before
    # A stage that fails hasn't been run.
    monkeypatch.setattr(experiment_work.Work, "fit", failing)
    with pytest.raises(featx.FeatxError, match="on purpose"):
        run(own, {"fits.rf.seed": 7, "title": "Other"}, only=["fits.rf"], overwrite=True)
    assert record_of(own)["fits"]["rf"]["seed"] == 0


def failing_by_option(*arguments, **options):
    raise featx.FeatxError("on purpose; give `choose_by`", parameter="cv")


def failing(self, stage, *, overwrite):
    raise featx.FeatxError("on purpose")


def test_the_record_leaves_out_what_was_made_of_what_is_other_now(short):
    run(short, SHORT | {"title": "First"})
    run(short, SHORT | {"fits.knn": {"store": "plain", "model": "knn"}}, only=["fits.knn"])
    record = record_of(short)
    assert sorted(record["fits"]) == ["again", "knn", "rf"]
    assert record["report"] is False
    run(short, SHORT | {"split.seed": 1}, only=["stores"])
    record = record_of(short)
    assert (record["split"]["seed"], list(record["stores"]), record["fits"]) == (1, ["plain"], {})
    assert what_was(run(short.parent / "output/experiment.yaml")) == {"stores.plain": "exists"}


def test_a_record_that_could_not_be_read_back_is_refused_before_any_work(short, monkeypatch):
    monkeypatch.setattr("featx.experiment.record.MAX_BYTES", 2048)
    with pytest.raises(featx.FeatxError, match=r"larger than 2 KiB, and its record couldn't be read back"):
        run(short, SHORT)
    assert not (short.parent / "output").exists()


def test_a_page_is_renewed_for_another_title_and_other_runs(own):
    changed = featx.read_experiment(own, changes={"title": "Other", "report.title": None})
    assert find(changed)["report"].status == "unfinished"
    fewer = featx.read_experiment(own, changes={"fits.rf": None})
    assert find(fewer)["report"].details == ("the page is of other runs or has another title",)
    (own.parent / "output/experiment.yaml").touch()
    assert find(featx.read_experiment(own))["report"].status == "exists"
    assert run(own, {"report": False}, only=["fits.rf"]).report is None


def test_identical_images_are_said_by_the_keys_that_leave_them_out(short):
    shutil.copy(short.parent / "images/ash/000.png", short.parent / "images/ash/copy.png")
    lines = []
    run(short, SHORT, echo=lines.append)
    assert any("2 images are identical to others" in line and "drop_duplicates" in line for line in lines)
    changes = SHORT | {"fits.*.drop_duplicates": True}
    with pytest.raises(featx.FeatxError, match=r"fits.rf: .*drop_duplicates false, now true"):
        run(short, changes)
    run(short, changes, overwrite=True, echo=lines.append)
    assert "1 images of identical files are left out: drop_duplicates" in lines


def find(experiment):
    stages = list_stages(experiment)
    return existing.find_existing(experiment, stages, stages, None)


def test_a_dry_run_writes_nothing_and_says_what_is_known(short, folder, study):
    before = snapshot(short.parent)
    result = CliRunner().invoke(main, ["run", str(short), "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    stages = {stage["key"]: stage for stage in plan["stages"]}
    assert list(stages) == ORDER
    assert (plan["title"], plan["n_images"]) == ("Do frozen features do?", 30)
    store = stages["stores.plain"]
    assert store["seconds"] > 0
    assert store["disk_bytes"] > 30 * 128 * 4
    assert store["memory_bytes"] > 10**7
    assert "30 images, 128 features" in store["what"]
    tuned, trained = stages["stores.tuned"], stages["finetunes.net"]
    assert tuned["notes"] == ["no figures before finetunes.net is done"]
    assert trained["what"] == "small: 2 stages, at most 4 epochs"
    assert stages["fits.rf"]["what"] == "2 cells"
    assert stages["fits.again"]["what"] == "2 cells x 2 folds x 2 splits"
    assert (stages["choices.best"]["what"], stages["report"]["what"]) == ("2 runs", "3 runs")
    # What no trial measures has no number.
    for key in set(stages) - {"stores.plain"}:
        assert [stages[key][name] for name in ("seconds", "disk_bytes", "memory_bytes")] == [None] * 3
    assert snapshot(short.parent) == before
    again = CliRunner().invoke(main, ["run", str(folder / "experiment.yaml"), "--dry-run"])
    assert again.exit_code == 0
    assert "everything exists" in again.stdout
    other = CliRunner().invoke(main, ["run", str(folder / "experiment.yaml"), "--dry-run", "--set", "fits.rf.seed=3"])
    assert other.exit_code == 1
    assert "fits.rf: " in other.stdout
    assert "seed 0, now 3" in other.stdout
    assert "overwrite replaces what has other settings" in other.stdout
    again = CliRunner().invoke(
        main, ["run", str(folder / "experiment.yaml"), "--dry-run", "--set", "split.seed=3", "--json"]
    )
    store = json.loads(again.stdout)["stages"][0]
    assert (store["status"], store["what"], store["seconds"]) == ("incomplete", "no image is computed again", 0)


def test_a_dry_run_names_what_a_fit_can_not_be_fitted_on(short):
    for path in (short.parent / "images").glob("*/*"):
        path.rename(short.parent / "images" / f"{path.parent.name}-{path.name}")
    for path in [each for each in (short.parent / "images").iterdir() if each.is_dir()]:
        path.rmdir()
    with pytest.raises(featx.FeatxError, match=r"split: 30 images have no label"):
        plan_experiment(featx.read_experiment(short, changes=SHORT))
    with pytest.raises(featx.FeatxError, match=r"fits.again.*: no image has a label"):
        plan_experiment(featx.read_experiment(short, changes=SHORT | {"split": None, "fits.rf": None}))


def refuse_images(path, changes, expected):
    """See that the run is refused before any work, with this key and these words."""
    with pytest.raises(featx.FeatxError) as caught:
        run(path, changes)
    key, words = expected
    assert f": {key}" in str(caught.value)
    assert words in str(caught.value).partition(f": {key}")[2]
    assert not (path.parent / "output").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fits.rf.label": "labels"}, ("fits.rf.label", "no column 'labels' (close: label)")),
        ({"fits.rf.where": 'label == "ash"'}, ("fits.rf", "one class only")),
        ({"fits.again.stratify": ["type"]}, ("fits.again", "no column 'type'")),
        ({"fits.again.stratify": ["group"]}, ("fits.again.stratify", "the column 'group' can't be used")),
        ({"fits.rf.where": 'type == "mono"'}, ("fits.rf", "no column 'type'")),
        ({"fits.rf.sample_weight": "weight"}, ("fits.rf.sample_weight", "no column 'weight'")),
        ({"split": None}, ("fits.rf", "no image has a split")),
        ({"fits.rf.sample_weight": "label"}, ("fits.rf", "weights are numbers from 0 up")),
        (
            {"fits.again": {"store": "plain", "model": "svm", "repeats": 2, "train_per_class": 9, "cv": 2}},
            ("fits.again", "the class 'cedar' has 8 rows"),
        ),
        ({"fits.rf.cv": 8}, ("fits.rf", "the class 'cedar' has 6 rows outside test, fewer than 8 folds")),
        ({"split.shares": [0.8, 0.2]}, ("fits.rf", "2 cells to choose from and no validation rows")),
        (
            {"split.shares": [0.8, 0.2], "fits.rf.grid": {"n_estimators": [5]}, "fits.rf.importance": 2},
            ("fits.rf.importance", "scored on validation rows, and there are none; give cv"),
        ),
        ({"split.stratify": ["zz"]}, ("split.stratify", "no column 'zz' (there are: path, ")),
        ({"split": {"train_per_class": 50}}, ("split", "the class 'ash' has 12 images")),
        ({"source.path": "output.yaml"}, ("source", "")),
    ],
)
def test_images_without_what_a_run_asks_for(short, changes, expected):
    (short.parent / "output.yaml").mkdir()
    refuse_images(short, SHORT | changes, expected)


def test_every_stage_that_the_images_do_not_serve_is_named(short):
    with pytest.raises(featx.FeatxError, match=r"2 mistakes: fits\.rf\.label: .*; fits\.again.*: ") as caught:
        run(short, SHORT | {"fits.rf.label": "labels", "fits.again.stratify": ["type"]}, only=["stores"])
    assert "labels" in str(caught.value)
    # A fit that is left out, and whose store nobody makes, is nobody's mistake.
    with pytest.raises(featx.FeatxError, match=r"fits\.again: needs stores\.plain"):
        run(short, SHORT | {"fits.rf.label": "labels"}, only=["fits.again"])


def test_images_that_do_not_serve_a_fine_tuning(short):
    only = {"fits": {}, "choices": {}, "report": False}
    refuse_images(short, only | {"split": {"train_per_class": 5}}, ("finetunes.net", "no validation rows"))
    refuse_images(short, only | {"finetunes.net.split": "label"}, ("finetunes.net", "the column 'label' has 'ash'"))
    rows = [
        f"images/{label}/{n:03d}.png,{label},{'train' if n < 7 else 'validation'}"
        for label in ("ash", "birch")
        for n in range(9)
    ]
    (short.parent / "t.csv").write_text("\n".join(["path,label,split", *rows, "images/cedar/000.png,cedar,validation"]))
    listed = {"source.path": "t.csv", "split": None}
    refuse_images(short, only | listed, ("finetunes.net", "the class 'cedar' (1 rows) has none in train"))
    fit = {"fits.rf": {"store": "plain", "model": "rf", "cv": 2}}
    refuse_images(short, SHORT | listed | fit, ("fits.rf", "the class 'cedar' has 1 row outside test"))


@pytest.fixture
def listed(short):
    """The same images in a CSV: one weight is missing, one image is alone of its kind, and there are two groups."""
    lines = ["path,label,split,weight,kind,group"]
    for label, count in (("ash", 12), ("birch", 10), ("cedar", 8)):
        for n in range(count):
            split = "test" if n < 2 else "validation" if n < 4 and label != "cedar" else "train"
            weight = "" if (label, n) == ("birch", 7) else "0" if split == "validation" else "1.5"
            kind = "odd" if (label, n) == ("ash", 5) else "even"
            lines.append(f"images/{label}/{n:03d}.png,{label},{split},{weight},{kind},{'gh'[n % 2]}")
    (short.parent / "listed.csv").write_text("\n".join(lines), encoding="utf-8")
    return short


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"fits.rf.sample_weight": "weight"},
            ("fits.rf", "'weight' of images/birch/007.png is nan; weights are numbers from 0 up"),
        ),
        (
            {"fits.again.sample_weight": "weight"},
            ("fits.again", "'weight' of images/birch/007.png is nan; weights are numbers from 0 up"),
        ),
        (
            {"fits.rf.sample_weight": "weight", "fits.rf.where": "label != 'birch'"},
            ("fits.rf", "the weights of all validation rows are 0: give some a weight over 0"),
        ),
        (
            {"fits.again.stratify": ["label", "kind"]},
            ("fits.again.stratify", "only one row has 'ash' and 'odd'"),
        ),
        (
            {"fits.rf.choose_by": "roc_auc"},
            ("fits.rf.choose_by", "roc_auc is not defined: no row to score has the class 'cedar'"),
        ),
        (
            {"fits.rf": {"store": "plain", "model": "knn", "grid": {"n_neighbors": [3, 21]}}},
            ("fits.rf.grid.n_neighbors", "expected 20 or less, found 21"),
        ),
        (
            {"fits.rf": {"store": "plain", "model": "knn", "grid": {"n_neighbors": [1, 15]}, "cv": 2}},
            ("fits.rf.grid.n_neighbors", "expected 12 or less"),
        ),
        (
            {"fits.again.model": "knn", "fits.again.grid": {"n_neighbors": [1, 13]}},
            ("fits.again.grid.n_neighbors", "expected 12 or less"),
        ),
        (
            {"fits.again.model": "knn", "fits.again.grid": {"n_neighbors": [25]}},
            ("fits.again.grid.n_neighbors", "expected 24 or less"),
        ),
        (
            {"fits.again.cv": 7},
            (
                "fits.again.cv",
                "the class 'cedar' has 6 rows to train on in the random split of seed 0, fewer than 7 folds",
            ),
        ),
        (
            {"fits.rf.cv": 3, "source.group_column": "group"},
            ("fits.rf.cv", "only 2 groups outside test, fewer than 3 folds. Give cv 2"),
        ),
        (
            {"fits.again.test_share": 0.9},
            ("fits.again.cv", "has 1 row to train on in the random split of seed 0, fewer than 2 folds"),
        ),
    ],
)
def test_rows_that_a_fit_would_fail_on_are_named_before_any_work(listed, changes, expected):
    source = {"path": "listed.csv", "group_column": ""}
    refuse_images(listed, SHORT | {"split": None, "source": source} | changes, expected)


def test_weights_that_a_network_would_fail_on_are_named_before_any_work(listed):
    changes = {"split": None, "source": {"path": "listed.csv"}, "fits": {}, "choices": {}, "report": False}
    changes |= {"finetunes.net.sample_weight": "weight"}
    refuse_images(listed, changes, ("finetunes.net", "'weight' of images/birch/007.png is nan"))


def test_a_record_that_is_no_yaml_says_what_to_do(short):
    (short.parent / "output").mkdir()
    record = short.parent / "output/experiment.yaml"
    record.write_text("# featx run\nx: [\n")
    with pytest.raises(featx.FeatxError, match=r"experiment.yaml: line 3: not YAML: .*\. Delete this file, and it is"):
        run(short, SHORT, only=["stores"])
    record.unlink()
    assert run(short, SHORT, only=["stores"]).record == str(record)


def test_a_stage_that_fails_is_named_and_those_before_it_are_kept(short, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("featx.fit.repeats.RepeatsTask.score", failing_by_option)
        with pytest.raises(featx.FeatxError, match=r"^fits.again.cv: on purpose; give choose_by"):
            run(short, SHORT | {"fits.again.cv": 3})
    # The journal that it had started is of another protocol, and of no use.
    lines = []
    done = run(short, SHORT, echo=lines.append)
    assert what_was(done) == {"stores.plain": "exists", "fits.rf": "exists", "fits.again": "unfinished"}
    assert "fits.again: resumes" in lines


def refusing(self, **options):
    raise OSError(28, "No space left on device")


def test_no_file_of_others_is_replaced(short, monkeypatch):
    with pytest.raises(featx.FeatxError, match="stands where featx run keeps its record, and is none"):
        run(short, SHORT | {"output": "."})
    (short.parent / "output").write_text("mine")
    with pytest.raises(featx.FeatxError, match=r"output: expected a folder, found a file"):
        run(short, SHORT)
    (short.parent / "output").unlink()
    (short.parent / "output").mkdir()
    (short.parent / "output/stores").write_text("mine")
    with pytest.raises(featx.FeatxError, match=r"output/stores: expected a folder, found a file"):
        run(short, SHORT)
    (short.parent / "output/stores").unlink()
    with monkeypatch.context() as patch:
        # What tests run as may write anywhere.
        patch.setattr("featx.experiment.run.os.access", lambda path, mode: False)
        with pytest.raises(featx.FeatxError, match=r"output: this folder can't be written to"):
            run(short, SHORT)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.mkdir", refusing)
        with pytest.raises(featx.FeatxError, match=r"output/stores: this folder can't be made: No space left"):
            run(short, SHORT)
    (short.parent / "output/runs/rf").mkdir(parents=True)
    (short.parent / "output/runs/rf/notes.txt").write_text("mine")
    with pytest.raises(featx.FeatxError, match=r"fits.rf: .*contains 'notes.txt', so it is not replaced"):
        run(short, SHORT, overwrite=True)


def test_without_the_extra_there_is_a_line_instead_of_a_report(own, monkeypatch):
    (own.parent / "output/report.html").unlink()
    monkeypatch.setattr(experiment_work.importlib.util, "find_spec", lambda name: None)
    lines = []
    done = run(own, echo=lines.append)
    assert lines[-1] == "no report of the runs: it takes pip install 'featx[report]'"
    assert done.report is None
    assert not done.stages[-1].is_done


def test_a_study_of_random_splits_alone_has_no_report(folder):
    changes = {"fits.rf": None, "fits.svm-tuned": None, "finetunes": {}, "stores.tuned": None, "fits.again-tuned": None}
    stages = list_stages(featx.read_experiment(folder / "experiment.yaml", changes=changes | {"choices": {}}))
    assert [stage.key for stage in stages] == ["stores.plain", "fits.again"]


def test_the_command_shows_a_line_a_stage(short):
    options = ["--set", "finetunes={}", "--set", "choices={}", "--set", "stores.tuned=null", "--set", "report=false"]
    options += ["--set", "fits.*-tuned=null", "--set", "fits.*.grid.n_estimators=[3]"]
    result = CliRunner().invoke(main, ["run", str(short), *options])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["stores.plain", "fits.rf", "fits.again"]
    assert "30 images, 128 features; " in lines[0]
    assert "test accuracy" in lines[1]
    again = CliRunner().invoke(main, ["run", str(short), *options, "--only", "fits", "--json"])
    record = json.loads(again.stdout)
    assert [stage["is_done"] for stage in record["stages"]] == [False, False]
    assert record["stages"][0]["summary"] in lines[1]
    assert record["stages"][1]["summary"] in lines[2]
    assert record["report"] is None
    assert CliRunner().invoke(main, ["run", str(short), "--only", "fits,"]).exit_code == 2
    wrong = CliRunner().invoke(main, ["run", str(short), "--set", "fits.rf.model=tree"])
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith(f"featx: {short}: fits.rf.model: expected rf, ")
    assert wrong.stderr.count("\n") == 1
