"""Recipes for fine-tuning: those that ship, a user's own, and every mistake in one by its key."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest
from click.testing import CliRunner

from featx import FeatxError
from featx.cli import main
from featx.networks import BACKBONES
from featx.networks.recipes import (
    Augmentation,
    Flatten,
    Recipe,
    Stage,
    parse_changes,
    read_recipe,
    recipe_from_record,
    recipe_record,
    recipe_text,
    shipped_recipes,
    write_recipe,
)
from featx.networks.recipes.schema import (
    AveragePool,
    BatchNorm,
    Bottleneck,
    CosineSchedule,
    Dense,
    Dropout,
    InverseTimeSchedule,
    MaxPool,
    Plateau,
    StepSchedule,
)

EVERYTHING = Recipe(
    name="every.thing",
    description="one of each, and 1e-4: # 'yes'",
    follows="nobody\nat all\x85é",
    backbones=("resnet50", "vgg16"),
    head=(
        Bottleneck(64, 2),
        BatchNorm(),
        MaxPool(),
        Dropout(0.5),
        Dense(10, "gelu", 0.001),
        Dense(units=5, activation="linear"),
    ),
    stages=(
        Stage("head", optimizer="sgd", momentum=0.9, schedule=StepSchedule(10, 0.5), patience=3),
        Stage(
            "last", unfreeze_last=5, schedule=InverseTimeSchedule(0.001), optimizer="rmsprop", stop_on="val_accuracy"
        ),
        Stage("some", unfreeze=("conv4", "conv5"), plateau=Plateau(0.5, 2, 1e-6), class_weight="balanced"),
        Stage("all", unfreeze="all", schedule=CosineSchedule(), label_smoothing=0.1, backbone_rate=0.1, epochs=1),
        Stage(
            "1e5", augmentation=Augmentation(10, 0.1, 0.2, "both"), learning_rate=1e-5, keep="val_loss", batch_size=1
        ),
    ),
    from_layer="conv4_block6_out",
    batch_norm="trained",
    precision="mixed_bfloat16",
    compile=True,
)

PLAIN = """
name: mine
description: mine
follows: nothing
backbones: [vgg16]
head:
  - {layer: flatten}
  - {layer: dense, units: 8}
stages:
  - name: head
  - {name: all, unfreeze: all, learning_rate: 1e-5}
"""


@pytest.fixture
def read(tmp_path):
    """Read a text as a recipe's file."""

    def read(text=PLAIN, **options):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return read_recipe(path, **options)

    return read


def refusal(call, *args, **options):
    """Return the message of a refusal."""
    with pytest.raises(FeatxError) as caught:
        call(*args, **options)
    return str(caught.value)


def test_the_shipped_recipes_are_these():
    mame = ["mame-augmented", "mame-i", "mame-ii", "mame-iii", "mame-steps"]
    flowers = ["flowers-5", "flowers-6", "flowers-7"]
    assert shipped_recipes() == sorted(["activities", "caltech", *flowers, *mame, "scenes", "solar"])


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_what_it_follows(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe_text(name).startswith("# ")
    assert recipe.follows
    assert "own choice" in recipe.follows
    assert len(f"{name}: {recipe.description}") < 110


@pytest.mark.parametrize("recipe", [*map(read_recipe, shipped_recipes()), EVERYTHING], ids=lambda recipe: recipe.name)
def test_a_recipe_is_read_back_equal(recipe, tmp_path):
    write_recipe(recipe, tmp_path / "again.yaml")
    assert read_recipe(tmp_path / "again.yaml") == recipe
    assert recipe_from_record(json.loads(json.dumps(recipe_record(recipe)))) == recipe
    assert [file.name for file in tmp_path.iterdir()] == ["again.yaml"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_names_layers_that_its_backbones_have(name):
    recipe = read_recipe(name)
    for backbone in (BACKBONES[each] for each in recipe.backbones):
        known = [*backbone.top, *(layer for layers in backbone.layer_sets.values() for layer in layers)]
        assert not recipe.from_layer or recipe.from_layer in known
        for stage in recipe.stages:
            for group in () if stage.unfreeze == "all" else stage.unfreeze:
                assert any(layer == group or layer.startswith(f"{group}_") for layer in known)


def test_mame_steps_has_the_published_steps():
    recipe = read_recipe("mame-steps")
    assert [(stage.name, stage.unfreeze) for stage in recipe.stages] == [
        ("head", ()),
        ("blocks", ("block4", "block5")),
        ("all", "all"),
    ]
    assert [stage.learning_rate for stage in recipe.stages] == [1e-4, 1e-5, 1e-5]
    assert {(stage.patience, stage.stop_on, stage.keep) for stage in recipe.stages} == {
        (20, "val_loss", "val_accuracy")
    }
    assert recipe.head == read_recipe("mame-iii").head == read_recipe("mame-augmented").head
    assert recipe.head == (
        Flatten(),
        BatchNorm(),
        Dense(256, l2=0.01),
        Dropout(0.4),
        Dense(256, l2=0.01),
        Dense(256, l2=0.01),
    )


def test_the_published_settings_of_the_others():
    assert read_recipe("mame-i").head == (Flatten(), Dense(512), Dropout(0.2), Dense(512))
    augmented = read_recipe("mame-augmented")
    assert {stage.augmentation for stage in augmented.stages} == {Augmentation(20, 0.2, 0.2, "horizontal")}
    (activities,) = read_recipe("activities").stages
    assert activities.schedule == StepSchedule(2000, 0.1)
    assert (activities.learning_rate, activities.backbone_rate, activities.unfreeze) == (0.0005, 0.1, "all")
    for name in ("flowers-5", "flowers-6", "flowers-7"):
        (stage,) = read_recipe(name).stages
        assert (stage.schedule, stage.patience, stage.optimizer) == (InverseTimeSchedule(0.001), 10, "adam")
    assert read_recipe("flowers-7").head[:4] == (Bottleneck(512, 2), Bottleneck(512), Bottleneck(512), AveragePool())
    assert [stage.epochs for stage in read_recipe("scenes").stages] == [20, 30]
    assert read_recipe("caltech").from_layer == "fc2"


def test_scenes_takes_the_other_published_choice():
    recipe = read_recipe("scenes", changes=parse_changes(["all.unfreeze=[]", "all.unfreeze_last=60"]))
    assert (recipe.stages[1].unfreeze, recipe.stages[1].unfreeze_last) == ((), 60)


def test_what_a_file_leaves_out_has_its_default(read):
    recipe = read()
    assert recipe.stages == (Stage("head"), Stage("all", unfreeze="all", learning_rate=1e-5))
    assert (recipe.from_layer, recipe.batch_norm, recipe.precision, recipe.compile) == ("", "frozen", "float32", False)


def test_training_is_for_stages_that_do_not_say_otherwise(read):
    recipe = read(PLAIN + "training: {learning_rate: 0.01, patience: 3, augmentation: {flip: both}}\n")
    assert [stage.learning_rate for stage in recipe.stages] == [0.01, 1e-5]
    assert [stage.patience for stage in recipe.stages] == [3, 3]
    assert {stage.augmentation for stage in recipe.stages} == {Augmentation(flip="both")}
    assert "training" not in recipe_record(recipe)


def test_a_stage_takes_away_what_training_gives(read):
    text = PLAIN.replace("- name: head", "- {name: head, schedule: null, plateau: {}, patience: null}")
    recipe = read(text + "training: {schedule: {kind: cosine}, patience: 3}\n")
    assert (recipe.stages[0].schedule, recipe.stages[0].plateau, recipe.stages[0].patience) == (None, Plateau(), None)
    assert (recipe.stages[1].schedule, recipe.stages[1].patience) == (CosineSchedule(), 3)


def test_numbers_are_numbers_of_their_kind(read):
    recipe = read(PLAIN.replace("units: 8", "units: 8, l2: 0").replace("learning_rate: 1e-5", "learning_rate: 1"))
    assert isinstance(recipe.head[1].l2, float)
    assert isinstance(recipe.stages[1].learning_rate, float)


def test_records_are_frozen_and_augmentation_knows_that_it_does_nothing():
    with pytest.raises(FrozenInstanceError):
        EVERYTHING.name = "other"
    assert Augmentation().is_none
    assert Augmentation(rotation=0, flip="none").is_none
    assert not any(Augmentation(**one).is_none for one in ({"rotation": 1}, {"shift": 0.1}, {"zoom": 0.1}))


@pytest.mark.parametrize("text", ["- name: mine\n", "mine\n", "3\n"])
def test_a_file_that_is_no_mapping_is_answered_with_the_keys(read, text):
    assert "mine.yaml: expected a mapping with the keys name, description, follows, " in refusal(read, text)


def test_a_file_that_is_no_plain_yaml_is_refused(read, tmp_path):
    assert "mine.yaml: line 12: the key 'name' occurs twice" in refusal(read, PLAIN + "name: other\n")
    assert "mine.yaml: it is empty" in refusal(read, "")
    assert "found a folder" in refusal(read_recipe, tmp_path)
    assert "found a folder" in refusal(read_recipe, str(tmp_path))


def test_a_recipe_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    assert "(close: mame-i, " in refusal(read_recipe, "mame-1")
    assert "(there are: activities, caltech, " in refusal(read_recipe, str(tmp_path / "zzz.yaml"))
    assert "'featx recipes' describes them" in refusal(recipe_text, "solr")
    # No way out of the folder.
    assert "no recipe '../recipes/solar'" in refusal(recipe_text, "../recipes/solar")


def test_a_path_is_a_file_even_where_a_shipped_recipe_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solar").write_text(PLAIN, encoding="utf-8")
    assert read_recipe("solar").name == "solar"
    assert read_recipe("./solar").name == "mine"
    assert read_recipe(tmp_path / "solar").name == "mine"


def test_changes_are_for_all_stages_or_one(read):
    changes = {"head.epochs": 5, "epochs": 2, "precision": "mixed_float16", "from_layer": "fc2", "unfreeze": ["block5"]}
    recipe = read(changes=changes)
    assert [stage.epochs for stage in recipe.stages] == [5, 2]
    assert {stage.unfreeze for stage in recipe.stages} == {("block5",)}
    assert (recipe.precision, recipe.from_layer) == ("mixed_float16", "fc2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 5}, "change epoch: no setting 'epoch' (close: epochs)"),
        ({"name": "x"}, "change name: no setting 'name' (there are: unfreeze, "),
        ({"head.name": "x"}, "change head.name: no setting 'name' (there are: unfreeze, "),
        ({"stages": []}, "change stages: no setting 'stages' (there are: unfreeze, "),
        ({"head.precision": "float32"}, "change head.precision: no setting 'precision'"),
        ({"haed.epochs": 5}, "change haed.epochs: no stage 'haed' (close: head)"),
        (
            {"x.epochs": 5, "y.epochs": 5},
            "x.epochs: no stage 'x' (there are: head, all); change y.epochs: no stage 'y'",
        ),
        ({"head.epochs": 0}, "mine.yaml: change head.epochs: expected 1 or more, found 0"),
        ({"epochs": "x"}, "mine.yaml: change epochs: expected a whole number, found 'x'"),
        ({"plateau": {"factor": 3}}, "mine.yaml: change plateau.factor: expected less than 1, found 3"),
        ({"precision": "half"}, "mine.yaml: precision: expected 'float32', 'mixed_float16' or 'mixed_bfloat16', found"),
    ],
)
def test_a_change_that_cannot_be_is_named(read, changes, message):
    assert message in refusal(read, changes=changes)


def test_changes_are_read_as_yaml():
    texts = ["head.epochs=5", "learning_rate=1e-4", "unfreeze=all", "plateau={factor: 0.5}", "schedule = null", "a=b=c"]
    assert parse_changes(texts) == {
        "head.epochs": 5,
        "learning_rate": 1e-4,
        "unfreeze": "all",
        "plateau": {"factor": 0.5},
        "schedule": None,
        "a": "b=c",
    }
    assert parse_changes([]) == {}


@pytest.mark.parametrize("text", ["epochs", "epochs=", "=5", "", "epochs=[1", "epochs=&x 1"])
def test_a_change_that_is_none_is_named(text):
    assert refusal(parse_changes, [text]).startswith(f"change {text!r}: ")


def test_empty_text_is_given_with_quotes_within_quotes():
    """A shell takes those of KEY='' away."""
    assert refusal(parse_changes, ["from_layer="]).endswith("""; empty text, in a shell: "from_layer=''\"""")
    assert parse_changes(["from_layer=''"]) == {"from_layer": ""}


def test_a_key_is_changed_once():
    assert "epochs is changed twice" in refusal(parse_changes, ["epochs=5", "epochs=6"])


def test_a_recipe_that_could_not_be_read_is_not_written(tmp_path):
    recipe = replace(EVERYTHING, stages=(Stage("head", epochs=0),))
    assert "stages[0].epochs (head): expected 1 or more" in refusal(write_recipe, recipe, tmp_path / "x.yaml")
    assert "nowhere" in refusal(write_recipe, EVERYTHING, tmp_path / "nowhere" / "x.yaml")
    assert not list(tmp_path.iterdir())


def test_importing_recipes_loads_no_network():
    script = (
        "import sys, featx.networks.recipes.files\n"
        "print([m for m in ('keras', 'tensorflow', 'sklearn', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_neither_pydantic_nor_yaml():
    script = (
        "import sys\nfrom featx.cli import main\ntry:\n    main(['recipes', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(str({'pydantic', 'yaml'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == ""


def run(*args):
    return CliRunner().invoke(main, ["recipes", *args])


def test_the_command_lists_every_recipe_with_its_backbones():
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == shipped_recipes()
    assert "scenes          resnet101, inception_resnet_v2: the head for 20 epochs" in "\n".join(lines)
    assert max(map(len, lines)) <= 120
    rows = json.loads(run("--json").stdout)
    assert [row["name"] for row in rows] == shipped_recipes()
    assert rows[-1] == {
        "name": "solar",
        "backbones": ["vgg16"],
        "description": read_recipe("solar").description,
    }


def test_the_command_prints_a_file_that_can_be_copied(tmp_path):
    printed = run("mame-steps").stdout
    assert printed == recipe_text("mame-steps")
    (tmp_path / "copy.yaml").write_text(printed, encoding="utf-8")
    assert read_recipe(tmp_path / "copy.yaml") == read_recipe("mame-steps")
    assert json.loads(run("mame-steps", "--json").stdout) == recipe_record(read_recipe("mame-steps"))


def test_the_command_answers_an_unknown_name_in_one_line():
    done = run("mame")
    assert done.exit_code == 1
    assert done.stderr.startswith("featx: no recipe 'mame' (close: mame-i")
    assert done.stderr.count("\n") == 1
