"""The experiments in pipelines/ whose data can't be fetched, on small generated data in their layouts.

MAMe's runs whole. Of the others, the file, the images and the protocol are checked.
"""

import json
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import small_datasets
from click.testing import CliRunner
from samples import small_recipe

import featx
from featx import FeatxError
from featx.cli import main
from featx.experiment import read_experiment, run_experiment
from featx.experiment.images import check_images, read_divided_images
from featx.networks import BACKBONES
from featx.networks.recipes import Stage, parse_changes
from featx.networks.recipes.schema import AveragePool, Dense

ROOT = Path(__file__).parents[2]
PIPELINES = ROOT / "pipelines"
GENERATED = ("activities", "caltech256", "flowers", "mame", "scenes")
# What every README says, below these headings.
SECTIONS = ("What it follows", "Data", "Run it", "Time and disk", "What it gave")
# pipelines/slurm holds batch files, and is no experiment.
EXPERIMENTS = sorted(path.name for path in PIPELINES.iterdir() if path.is_dir() and path.name != "slurm")

# What is small, as --set takes it: networks of random weights on tiny images, one cell of each kind of classifier.
SMALL = (
    *("stores.*.weights=random", "stores.*.image_size=32", "stores.*.engine=keras", "stores.*.batch_size=16"),
    *("fits.rf-*.grid.n_estimators=[3]", "fits.rf-*.grid.min_samples_leaf=[2]"),
    *("fits.svm-*.grid.kernel=[linear]", "fits.svm-*.grid.C=[0.1]"),
)
# One of MAMe's five recipes is enough.
ONE_FINETUNE = ("finetunes.mame-i=null", "finetunes.mame-ii=null", "finetunes.mame-iii=null")
ONE_FINETUNE += ("finetunes.mame-augmented=null", "finetunes.*.recipe=small.yaml")
# Numbers of images, where the generated data have fewer than the real.
FEW_IMAGES = {
    "scenes": (
        "split.train_per_class=2",
        "split.validation_per_class=1",
        "fits.*.train_per_class=3",
        "fits.*-splits.cv=2",
    ),
    "caltech256": (
        *("split.train_per_class=4", "split.validation_per_class=2", "fits.*.train_per_class=4", "fits.*-splits.cv=2"),
    ),
}


def set_up(name, folder):
    """Copy a pipeline, and generate its data where it expects them."""
    pipeline = folder / name
    shutil.copytree(PIPELINES / name, pipeline, ignore=shutil.ignore_patterns("data", "output"))
    made = getattr(small_datasets, f"make_{name}")(pipeline / "data")
    if name == "activities":
        make_csv(pipeline, made, pipeline / "data" / "activities.csv")
    return pipeline


def make_csv(pipeline, annotations, output, *arguments):
    """Run make_csv.py in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_csv.py", *map(str, (annotations, "-o", output, *arguments))])
        runpy.run_path(str(pipeline / "make_csv.py"), run_name="__main__")


def record_of(output, name):
    """Return the record of a run."""
    folder = output / "runs" / name
    path = next(folder / file for file in ("run.json", "repeats.json") if (folder / file).exists())
    return json.loads(path.read_text(encoding="utf-8"))


def images_of(output, name):
    with featx.open(output / "stores" / f"{name}.h5") as store:
        return store.images


def read_small(name, pipeline):
    """Read a pipeline's experiment for the generated data."""
    weights = ("stores.*.weights=random",) if name == "activities" else ()
    changes = parse_changes((*FEW_IMAGES.get(name, ()), *weights))
    return read_experiment(pipeline / "experiment.yaml", changes=changes)


@pytest.mark.slow
def test_mame_runs(tmp_path, monkeypatch):
    """A whole study from its file: stores, fine-tuning, features of the fine-tuned network, fits, and the report."""
    pipeline = set_up("mame", tmp_path)
    stages = (Stage("head", epochs=1, batch_size=16),)
    small_recipe(pipeline / "small.yaml", from_layer="block2_pool", head=(AveragePool(), Dense(4)), stages=stages)
    experiment = read_experiment(pipeline / "experiment.yaml", changes=parse_changes((*SMALL, *ONE_FINETUNE)))
    run_experiment(experiment)
    output = pipeline / "output"
    assert {path.name for path in (output / "runs").iterdir()} == {*experiment.finetunes, *experiment.fits}

    images = images_of(output, "frozen")
    # The blank at the end of a label is gone, val is validation, and the other columns are there.
    assert sorted(set(images["label"])) == ["Albumen photograph", "Bronze", "Hand-colored engraving"]
    assert images["split"].value_counts().to_dict() == {"train": 18, "validation": 9, "test": 9}
    assert {"Museum", "Museum-based instance ID", "Width", "Aspect ratio"} < set(images.columns)

    # The report's sets of layers, each by the same grid.
    features = {"rf-all": 4224, "rf-block-ends": 1472, "rf-block5_conv3": 512, "rf-all-fc": 12416}
    assert {name: record_of(output, name)["store"]["n_features"] for name in features} == features
    for name in ("rf-all", "svm-all"):
        assert {cell["discretize"] for cell in record_of(output, name)["cells"]} == {"none", "ternary"}

    # A forest on features of the network that mame-steps has fine-tuned, by the same splits.
    tuned = record_of(output, "rf-tuned")
    assert Path(tuned["store"]["weights"]).name == "mame-steps"
    assert "fc1" in tuned["store"]["layers"]
    assert images_of(output, "tuned")["split"].tolist() == images["split"].tolist()

    # The tables that the README names.
    monkeypatch.chdir(pipeline)
    named = re.search(r"`featx (compare --cells output/runs/rf-all [^`]*)`", read_readme("mame"))
    compared = CliRunner().invoke(main, [*named[1].split(), "--json"])
    cells = pd.DataFrame(json.loads(compared.stdout))
    assert cells.groupby("run")["features"].first().to_dict() == {name: features[name] for name in list(features)[:3]}
    assert cells["validation"].notna().all()
    per_class = pd.read_csv("output/runs/mame-steps/per_class.csv")
    assert {"precision", "recall", "f1", "support"} < set(per_class.columns)
    assert len(per_class) == 3
    assert {"accuracy", "balanced_accuracy", "macro_f1"} < set(record_of(output, "mame-steps")["test"])
    assert Path("output/runs/mame-steps/curves.csv").is_file()
    page = (output / "report.html").read_text(encoding="utf-8")
    assert all(run_name in page for run_name in (*experiment.finetunes, *experiment.fits))


def test_mame_keeps_its_grid_and_recipes(tmp_path):
    """What the tests cut down is there in full: the report's grid for every forest, its five recipes."""
    experiment = read_experiment(set_up("mame", tmp_path) / "experiment.yaml")
    forests = [fit for fit in experiment.fits.values() if fit.model == "rf"]
    assert {fit.layers for fit in forests} == {"all", "block-ends", "block5_conv3"}
    for fit in forests:
        assert fit.grid["n_estimators"] == (12, 50, 100)
        assert fit.grid["min_samples_leaf"] == (2, 7, 20)
        assert fit.discretize == "both"
    recipes = {finetune.recipe for finetune in experiment.finetunes.values()}
    assert recipes == {"mame-i", "mame-ii", "mame-iii", "mame-steps", "mame-augmented"}
    assert experiment.stores["frozen"].image_size == 256


@pytest.mark.parametrize("name", GENERATED)
def test_images_have_what_every_fit_and_fine_tuning_asks_for(name, tmp_path):
    """Columns, splits, folds and classes, as `featx run` checks them before it begins."""
    experiment = read_small(name, set_up(name, tmp_path))
    manifest = read_divided_images(experiment)
    check_images(experiment, manifest, {})
    images = manifest.table
    by_class = images.groupby(["label", "split"]).size().unstack()
    if name == "caltech256":
        # Clutter is a class, and what is no image is none.
        assert by_class.index.tolist() == list(small_datasets.CALTECH_CLASSES)
        assert by_class.to_dict("list") == {"train": [4] * 4, "validation": [2] * 4, "test": [3] * 4}
    elif name == "flowers":
        assert images.groupby("label").size().to_dict() == dict.fromkeys(small_datasets.FLOWERS, 6)
        assert by_class.notna().all(axis=None)
    elif name == "scenes":
        assert by_class.index.tolist() == sorted(small_datasets.SCENES)
        assert images["split"].value_counts().to_dict() == {"train": 30, "test": 30, "validation": 15}
    elif name == "activities":
        assert by_class.index.tolist() == sorted(small_datasets.ACTIVITIES)
        # Images of a video stay on one side.
        assert (images.groupby("group")["split"].nunique() == 1).all()
        assert by_class.notna().all(axis=None)


def test_caltech256_keeps_the_published_protocol(tmp_path):
    experiment = read_experiment(set_up("caltech256", tmp_path) / "experiment.yaml")
    assert experiment.split.train_per_class + experiment.split.validation_per_class == 60
    several = [fit for fit in experiment.fits.values() if fit.repeats]
    assert {(fit.repeats, fit.train_per_class) for fit in several} == {(3, 60)}
    assert experiment.fits["linear-svm-fc2"].layers == "fc2"


def test_the_table_of_activities(tmp_path, capsys):
    pipeline = set_up("activities", tmp_path)
    said = capsys.readouterr()
    assert "36 images, 3 categories" in said.out
    assert "left out: 'volunteer activities' (3 images of fewer than 3 videos)" in said.err
    table = pd.read_csv(pipeline / "data" / "activities.csv")
    assert list(table.columns) == ["path", "label", "activity", "video"]
    assert table["label"].value_counts().to_dict() == dict.fromkeys(small_datasets.ACTIVITIES, 12)
    assert table.loc[0].to_dict() == {
        "path": "000000100.jpg",
        "label": "sports",
        "activity": "sports, general",
        "video": 1,
    }
    # Images of the data set's test part, without an activity, are none of them.
    assert "000000099.jpg" not in set(table["path"])
    annotations = pipeline / "data" / "annot" / "mpii_human_pose_v1_u12_1.mat"
    make_csv(pipeline, annotations, tmp_path / "all.csv", "--fewest-videos", 1)
    assert pd.read_csv(tmp_path / "all.csv")["label"].nunique() == 4
    with pytest.raises(SystemExit, match="exists"):
        make_csv(pipeline, annotations, tmp_path / "all.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not the annotations"), (b"MATLAB 5.0 MAT-file, and nothing of the kind" * 9, "not the annotations")],
)
def test_annotations_that_are_none(tmp_path, content, message):
    shutil.copy(PIPELINES / "activities" / "make_csv.py", tmp_path)
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        make_csv(tmp_path, tmp_path / "a.mat", tmp_path / "a.csv")
    with pytest.raises(SystemExit, match=r"missing\.mat: can't be read: No such file or directory"):
        make_csv(tmp_path, tmp_path / "missing.mat", tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def read_readme(name):
    return (PIPELINES / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_pipeline_has_an_experiment_that_is_right(name, tmp_path):
    """Sources that aren't here are generated; files of weights are replaced."""
    path = PIPELINES / name / "experiment.yaml"
    assert path.is_file()
    changes = {}
    if name in GENERATED:
        path = set_up(name, tmp_path) / "experiment.yaml"
        changes = {"stores.*.weights": "random"} if name == "activities" else {}
    experiment = read_experiment(path, changes=changes)
    assert experiment.title
    assert experiment.fits


@pytest.mark.parametrize("name", GENERATED)
def test_an_experiment_without_its_data_says_what_is_missing(name):
    with pytest.raises(FeatxError, match=r"source\.path: no such folder or CSV file"):
        read_experiment(PIPELINES / name / "experiment.yaml")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_pipeline_says_what_it_is(name):
    text = read_readme(name)
    for section in ("What it follows", "Run it", "What it gave"):
        assert section in text


@pytest.mark.parametrize("name", GENERATED)
def test_a_pipeline_that_was_not_run_says_so_and_how_to(name):
    text = read_readme(name)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)
    assert "**Not run here: the data can't be fetched.**" in text
    assert f"featx run pipelines/{name}/experiment.yaml" in text
    assert "sbatch" in text
    # What it names of the experiment is there.
    experiment = (PIPELINES / name / "experiment.yaml").read_text(encoding="utf-8")
    for named in re.findall(r"output/(?:runs|stores)/([\w-]*\w)(?![\w*-])", text):
        assert f"\n  {named}:" in experiment, named


def list_commands(name):
    """Return the commands of a README that are featx's, or are handed on to it by a batch file, as lists of words."""
    text = read_readme(name).replace("\\\n", " ")
    arrays = dict(re.findall(r"^ +(\w+)=\((.*)\)$", text, re.MULTILINE))
    for array, words in arrays.items():
        text = text.replace(f'"${{{array}[@]}}"', words)
    batch = {"extract-array.sh": ["extract"], "fit.sh": ["fit"], "merge.sh": ["merge"], "dask.sh": []}
    found = []
    for line in re.findall(r"^    (.*)$", text, re.MULTILINE):
        if match := re.search(r"slurm/([\w-]+\.sh) (.*?)\)?$", line):
            found.append([*batch[match[1]], *shlex.split(match[2])])
        elif match := re.search(r"^ *featx (.*)$|--wrap 'featx ([^']*)'", line):
            found.append(shlex.split(match[1] or match[2], comments=True))
    return found + [
        shlex.split(command) for command in re.findall(r"`featx ((?:compare|plot covariance) [^`]+)`", text)
    ]


def parse(words):
    """Let click take a command's words without running it; return the command's name and its options."""
    command, context = main, None
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    context = command.make_context(name, list(words))
    return name, context.params


@pytest.mark.parametrize("name", GENERATED)
def test_commands_of_a_readme_are_taken_and_make_the_experiments_stores(name, tmp_path):
    changes = {"stores.*.weights": "random"} if name == "activities" else {}
    experiment = read_experiment(set_up(name, tmp_path) / "experiment.yaml", changes=changes)
    parsed = [parse(words) for words in list_commands(name)]
    assert [command for command, _ in parsed].count("run") >= 4
    for command, options in parsed:
        if command == "extract" and options["output"].parent.name == "stores":
            store = experiment.stores[options["output"].stem]
            assert {key: options[key] for key in ("backbone", "layers", "image_size")} == {
                "backbone": store.backbone,
                "layers": store.layers,
                # A size that is left out is the network's own.
                "image_size": options["image_size"] and store.image_size,
            }
            assert options["image_size"] or store.image_size in (None, BACKBONES[store.backbone].image_size)
            source = experiment.source
            assert {key: options[key] for key in ("path_column", "label_column", "split_column", "group_column")} == {
                key: getattr(source, key) for key in ("path_column", "label_column", "split_column", "group_column")
            }
            split = experiment.split
            assert options["split"] == (split.shares if split else None)
            counts = (split.train_per_class, split.validation_per_class) if split and not split.shares else None
            assert options["split_per_class"] == counts
        elif command in ("rf", "svm", "linear-svm") and options["output"] is not None:
            fit = experiment.fits[options["output"].name]
            assert (options["layers"], options["discretize"], command) == (fit.layers, fit.discretize, fit.model)
            assert all(options[axis] == values for axis, values in fit.grid.items() if axis != "max_features")
