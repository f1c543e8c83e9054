"""Every mistake in a recipe by its key, all at once."""

import re

import pytest

from featx import FeatxError
from featx.networks.recipes import read_recipe, recipe_from_record, recipe_record
from featx.networks.recipes.schema import Dense

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


HEAD = "head:\n  - {layer: flatten}\n  - {layer: dense, units: 8}\n"
ALL = "{name: all, unfreeze: all, learning_rate: 1e-5}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mine", "name: my own", "name: expected a word of letters, digits, '.', '_' and '-', at most 60, that"),
        ("description: mine", "description: ''", "description: expected one line of text, found ''"),
        ("follows: nothing\n", "", "follows: missing"),
        ("follows: nothing", "folows: nothing", "follows: missing; folows: unknown key (close: follows)"),
        ("follows: nothing", "follows: 3", "follows: expected text, found 3"),
        ("[vgg16]", "vgg16", "backbones: expected a list, found 'vgg16'"),
        ("[vgg16]", "[]", "backbones: expected at least one"),
        ("[vgg16]", "[vgg16, vgg61]", "backbones[1]: expected a backbone, found 'vgg61' (close: vgg1"),
        ("units: 8", "units: 0", "head[1].units: expected 1 or more, found 0"),
        ("units: 8", "units: 65537", "head[1].units: expected 65536 or less, found 65537"),
        ("units: 8", "units: true", "head[1].units: expected a whole number, found true"),
        ("units: 8", "units: 8.0", "head[1].units: expected a whole number, found 8.0"),
        ("units: 8", "units: '8'", "head[1].units: expected a whole number, found '8'"),
        ("units: 8", "unit: 8", "head[1].units: missing; head[1].unit: unknown key (close: units)"),
        ("units: 8", "units: 8, l2: -1", "head[1].l2: expected 0 or more, found -1"),
        ("units: 8", "units: 8, l2: .nan", "head[1].l2: expected a finite number, found NaN"),
        ("units: 8", "units: 8, dense: 1", "head[1].dense: unknown key (there are: layer, units, activation, l2)"),
        (
            "dense, units: 8",
            "danse, units: 8",
            "head[1].layer: expected one of flatten, average_pool, max_pool, dense, ",
        ),
        ("{layer: dense, units: 8}", "{units: 8}", "head[1].layer: missing: expected one of flatten, average_pool"),
        ("{layer: dense, units: 8}", "dense", "head[1]: expected a mapping, found 'dense'"),
        ("dense, units: 8", "dropout, rate: 1", "head[1].rate: expected less than 1, found 1"),
        (
            "{layer: flatten}",
            "{layer: dropout, rate: 0}",
            "head[1]: expected one of flatten, average_pool, max_pool befor",
        ),
        (HEAD, "head: []\n", "head: expected one of flatten, average_pool, max_pool: the softmax needs a vector"),
        (HEAD, "head: 3\n", "head: expected a list, found 3"),
        ("units: 8}", "units: 8}\n  - {layer: flatten}", "head[2]: flatten has nothing to do: flatten before it gives"),
        ("dense, units: 8", "max_pool", "head[1]: max_pool has nothing to do: flatten before it gives a vector"),
        (
            "dense, units: 8",
            "bottleneck, filters: 8",
            "head[1]: a bottleneck needs height and width, and flatten before",
        ),
        (f"  - name: head\n  - {ALL}", "  []", "stages: expected at least one"),
        ("name: all", "name: head", "stages[1].name (head): another stage has that name"),
        (
            "name: all",
            "name: a.b",
            "stages[1].name (a.b): expected a word of letters, digits, '_' and '-', at most 60, found 'a.b'",
        ),
        ("name: all, ", "", "stages[1].name: missing"),
        (
            "name: mine",
            "name: .mine",
            "name: expected a word of letters, digits, '.', '_' and '-', at most 60, that beg",
        ),
        ("name: mine", "name: mine\ntrainings: {}", "trainings: unknown key (close: training)"),
        (
            "name: mine",
            "name: mine\ntraining: null",
            "training: expected a mapping of settings for all stages, found nu",
        ),
        ("- name: head", "- head", "stages[0]: expected a mapping, found 'head'"),
        ("1e-5", "0", "stages[1].learning_rate (all): expected more than 0, found 0"),
        ("1e-5", ".inf", "stages[1].learning_rate (all): expected a finite number, found Infinity"),
        ("1e-5", ".nan", "stages[1].learning_rate (all): expected a finite number, found NaN"),
        ("1e-5", "true", "stages[1].learning_rate (all): expected a number, found true"),
        ("1e-5", "fast", "stages[1].learning_rate (all): expected a number, found 'fast'"),
        ("learning_rate", "learningrate", "stages[1].learningrate (all): unknown key (close: learning_rate)"),
        (
            "unfreeze: all",
            "unfreeze: block5",
            "stages[1].unfreeze (all): expected all, or a list of names such as [block5",
        ),
        ("unfreeze: all", "unfreeze: [5]", "stages[1].unfreeze[0] (all): expected all, or a list of names such as"),
        ("unfreeze: all", "unfreeze: [all]", "stages[1].unfreeze (all): all is no layer: expected 'unfreeze: all'"),
        ("unfreeze: all", "unfreeze: all, unfreeze_last: 3", "stages[1].unfreeze_last (all): unfreeze is all"),
        (
            "1e-5",
            "1e-5, momentum: 0.9",
            "stages[1].momentum (all): of sgd alone, and the optimizer is adam: expected 0, or no such key",
        ),
        ("1e-5", "1e-5, optimizer: sgd, momentum: 1", "stages[1].momentum (all): expected less than 1, found 1"),
        (
            "1e-5",
            "1e-5, optimizer: adamw",
            "stages[1].optimizer (all): expected 'adam', 'rmsprop' or 'sgd', found 'adamw'",
        ),
        ("1e-5", "1e-5, label_smoothing: 1", "stages[1].label_smoothing (all): expected less than 1, found 1"),
        ("1e-5", "1e-5, backbone_rate: 0", "stages[1].backbone_rate (all): expected more than 0, found 0"),
        ("1e-5", "1e-5, epochs: 1e2", "stages[1].epochs (all): expected a whole number, found 100.0"),
        ("1e-5", "1e-5, patience: 0", "stages[1].patience (all): expected 1 or more, found 0"),
        ("1e-5", "1e-5, schedule: cosine", "stages[1].schedule (all): expected a mapping, found 'cosine'"),
        (
            "1e-5",
            "1e-5, schedule: {}",
            "stages[1].schedule.kind (all): missing: expected one of step, inverse_time, cosin",
        ),
        (
            "1e-5",
            "1e-5, schedule: {kind: x}",
            "stages[1].schedule.kind (all): expected one of step, inverse_time, cosine, ",
        ),
        (
            "1e-5",
            "1e-5, schedule: {kind: step, step: 5, factor: 2}",
            "stages[1].schedule.steps (all): missing; stages[1].schedule.factor (all): expected 1 or less, found 2; "
            "stages[1].schedule.step (all): unknown key (close: steps)",
        ),
        ("1e-5", "1e-5, schedule: {kind: cosine}, plateau: {}", "stages[1].plateau (all): schedule is given too"),
        ("1e-5", "1e-5, plateau: {factor: 1}", "stages[1].plateau.factor (all): expected less than 1, found 1"),
        ("1e-5", "1e-5, augmentation: {zoom: 1}", "stages[1].augmentation.zoom (all): expected less than 1, found 1"),
        ("1e-5", "1e-5, augmentation: {flop: both}", "stages[1].augmentation.flop (all): unknown key (close: flip)"),
        (
            "name: mine",
            "name: mine\nprecision: float16",
            "precision: expected 'float32', 'mixed_float16' or 'mixed_bflo",
        ),
        ("name: mine", "name: mine\ncompile: 1", "compile: expected true or false, found 1"),
        ("name: mine", "name: mine\nbatch_norm: true", "batch_norm: expected 'frozen' or 'trained', found true"),
        ("name: mine", "name: mine\ntraining: 3", "training: expected a mapping of settings for all stages, found 3"),
        ("name: mine", "name: mine\ntraining: {name: x}", "training.name: each stage has a name of its own"),
        ("name: mine", "name: mine\ntraining: {epoch: 3}", "training.epoch: unknown key (close: epochs)"),
        ("name: mine", "name: mine\ntraining: {epochs: 0}", "training.epochs: expected 1 or more, found 0"),
    ],
)
def test_a_mistake_is_named_by_its_key(read, old, new, message):
    assert old in PLAIN
    found = refusal(read, PLAIN.replace(old, new, 1))
    assert re.match(r".*mine\.yaml: (\d mistakes: )?", found).end() == found.index(message)


def test_all_mistakes_come_at_once(read):
    text = (
        PLAIN.replace("[vgg16]", "[vgg]").replace("units: 8", "units: x").replace("1e-5", "-1, momentum: 0.9, epoch: 3")
    )
    found = refusal(read, text + "training: {patience: 0}\nprecision: half\n")
    keys = [
        "backbones[0]",
        "head[1].units",
        "training.patience",
        "stages[1].learning_rate (all)",
        "stages[1].epoch (all)",
    ]
    for key in [*keys, "stages[1].momentum (all)", "precision"]:
        assert found.count(f"{key}: ") == 1
    assert "mine.yaml: 7 mistakes: " in found


def test_a_file_of_nothing_but_mistakes_is_answered_in_bounds(read):
    stages = "".join(f"  - {{name: s{i}, epochs: 0}}\n" for i in range(1000))
    found = refusal(read, PLAIN + stages)
    assert found.endswith("; and 950 more")
    assert len(found) < 5000


def test_a_dense_layer_may_follow_a_layer_that_gives_a_vector(read):
    text = PLAIN.replace(HEAD, "from_layer: fc2\nhead:\n  - {layer: dense, units: 8}\n")
    assert read(text).head == (Dense(8),)
    assert read(PLAIN.replace(HEAD, "from_layer: fc2\nhead: []\n")).head == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "recipe: name: expected a word"),
        ({"training": {}}, "recipe solar: training: unknown key (there are: name, "),
        ({"stages": []}, "recipe solar: stages: expected at least one"),
        ({"stages": None}, "recipe solar: stages: expected a list, found null"),
        ({"compile": "yes"}, "recipe solar: compile: expected true or false, found 'yes'"),
        ({3: 4}, "recipe solar: [3]: expected a key that is text, found 3"),
    ],
)
def test_a_record_is_checked_as_a_file_is(change, message):
    assert message in refusal(recipe_from_record, recipe_record(read_recipe("solar")) | change)


@pytest.mark.parametrize("record", [None, [], 3, "mine"])
def test_what_is_no_record_is_refused(record):
    assert refusal(recipe_from_record, record).startswith("recipe: expected a mapping, found ")
