"""One stage of training: Keras's `fit` to the digit, from wherever it was stopped, with what is wrong said plainly."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest

from featx import FeatxError
from featx.errors import SourceError
from featx.finetune.batches import Batches
from featx.finetune.folder import StageFolder, count_epochs
from featx.finetune.train import KeepEpochs, compile_for_training, is_compiled, predict_rows, train_stage
from featx.networks import load_keras
from featx.networks.recipes import Augmentation, Recipe, Stage
from featx.networks.recipes.schema import AveragePool, CosineSchedule, Plateau

keras = load_keras()

STAGE = Stage("head", epochs=6, batch_size=8, learning_rate=0.01)
RECIPE = Recipe("toy", "toy", "nobody", ("vgg16",), (AveragePool(),), (STAGE,))
N_TRAIN, N_ROWS, N_CLASSES = 42, 60, 3


class Stopped(BaseException):
    """What ends a process, as far as the process can tell."""


class Rows:
    """Rows of noise, a little farther from zero for each class."""

    def __init__(self, n_rows=N_ROWS, fails_at=None):
        rng = np.random.default_rng(0)
        self.classes = np.arange(n_rows) % N_CLASSES
        self.values = (rng.standard_normal((n_rows, 6)) + 0.7 * self.classes[:, None]).astype(np.float32)
        self.targets = np.eye(N_CLASSES, dtype=np.float32)[self.classes]
        self.weights = np.linspace(0.5, 1.5, n_rows).astype(np.float32)
        self.fails_at = fails_at

    def take(self, rows):
        if self.fails_at in rows.tolist():
            raise SourceError("ash/3.png: not the file that it was")
        return self.values[rows]

    def batches(self, rows, **options):
        return Batches(self, rows, self.targets[rows], self.weights[rows], 8, **options)


def make_model():
    layers = keras.layers
    values = keras.Input((6,))
    hidden = layers.Dense(5, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(1))(values)
    hidden = layers.Dropout(0.4, seed=5)(layers.BatchNormalization()(hidden))
    start = keras.initializers.GlorotUniform(2)
    return keras.Model(values, layers.Dense(N_CLASSES, activation="softmax", kernel_initializer=start)(hidden))


def train(path, stage=STAGE, rows=None, *, recipe=RECIPE, n_workers=1):
    rows = rows or Rows()
    model = make_model()
    split = np.arange(N_TRAIN), np.arange(N_TRAIN, N_ROWS)
    batches = [rows.batches(part, seed=seed, n_workers=n_workers) for part, seed in zip(split, (3, None), strict=True)]
    return train_stage(model, stage, recipe, *batches, StageFolder(path)), model


def without_seconds(curves):
    return [{name: value for name, value in figures.items() if name != "seconds"} for figures in curves]


def same(first, second):
    """Whether two trainings went the same way, to the last bit."""
    (trained, model), (other, other_model) = first, second
    weights = zip(model.get_weights(), other_model.get_weights(), strict=True)
    return (
        without_seconds(trained.curves) == without_seconds(other.curves)
        and (trained.best_epoch, trained.ended) == (other.best_epoch, other.ended)
        and all(np.array_equal(*pair) for pair in weights)
    )


def test_it_is_what_keras_gives(tmp_path):
    """The first epoch, whose dropout begins where Keras's does, and the weights of the best one."""
    trained, model = train(tmp_path, replace(STAGE, label_smoothing=0.1))
    rows, plain = Rows(), make_model()
    order = np.random.default_rng([3, 0]).permutation(N_TRAIN)
    test = slice(N_TRAIN, N_ROWS)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    plain.compile(keras.optimizers.Adam(0.01), loss, weighted_metrics=["accuracy"])
    history = plain.fit(
        rows.values[order],
        rows.targets[order],
        sample_weight=rows.weights[order],
        validation_data=(rows.values[test], rows.targets[test], rows.weights[test]),
        batch_size=8,
        shuffle=False,
        verbose=0,
    ).history
    first = {name: trained.curves[0][name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
    assert first == pytest.approx({name: values[0] for name, values in history.items()}, rel=1e-5)
    # The model has the weights of the best epoch: its validation figures are that epoch's.
    accuracies = [figures["val_accuracy"] for figures in trained.curves]
    assert trained.best_epoch == 1 + int(np.argmax(accuracies))
    answers = predict_rows(model, rows, np.arange(N_TRAIN, N_ROWS), batch_size=8)
    right = answers.argmax(axis=1) == rows.classes[test]
    assert np.average(right, weights=rows.weights[test]) == pytest.approx(max(accuracies))
    assert trained.ended == "epochs"


STAGES = {
    # Its schedule needs the number of steps, its momentum what the optimizer kept.
    "cosine": replace(STAGE, schedule=CosineSchedule(), optimizer="sgd", momentum=0.9, keep="val_loss"),
    "plateau": replace(STAGE, plateau=Plateau(0.5, 1), learning_rate=1.0, epochs=12),
    "patience": replace(STAGE, patience=2, learning_rate=0.3, epochs=20),
}


def stop_in(monkeypatch, epoch, *, is_whole):
    """End the process in an epoch: when all of it is written, or before its folder is renamed."""
    original = KeepEpochs.on_epoch_end

    def on_epoch_end(self, number, logs=None):
        if is_whole or number + 1 < epoch:
            original(self, number, logs)
        if number + 1 == epoch:
            raise Stopped

    monkeypatch.setattr(KeepEpochs, "on_epoch_end", on_epoch_end)


@pytest.mark.parametrize("name", STAGES)
def test_stopped_within_it_ends_the_same(name, tmp_path):
    stage = STAGES[name]
    undisturbed = train(tmp_path / "undisturbed", stage)
    n_epochs = len(undisturbed[0].curves)
    losses = [figures["val_loss"] for figures in undisturbed[0].curves]
    if name == "patience":
        assert (undisturbed[0].ended, n_epochs) == ("patience", int(np.argmin(losses)) + 1 + 2)
    if stage.keep == "val_loss":
        assert undisturbed[0].best_epoch == 1 + int(np.argmin(losses))
    if name == "plateau":
        # It fell more than once: what was counted before a stop matters.
        assert len({figures["learning_rate"] for figures in undisturbed[0].curves}) > 2
    # A count that was begun before the stop goes on after it; the schedule's stop is within an epoch.
    epoch, is_whole = (2, False) if name == "cosine" else (n_epochs - 1, True)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_in(patch, epoch, is_whole=is_whole)
        train(tmp_path / "stopped", stage)
    assert count_epochs(tmp_path / "stopped") == epoch - (not is_whole)
    assert same(train(tmp_path / "stopped", stage), undisturbed)


def test_half_written_files_are_left_alone(tmp_path):
    undisturbed = train(tmp_path / "undisturbed")
    path = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_in(patch, 3, is_whole=False)
        train(path)
    weights = path / "backup" / "latest.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    (path / "best-000003.weights.h5").write_bytes(b"half")
    # Killed between the rename and the deletion of the epoch before.
    shutil.copytree(path / "epoch-000002", path / "epoch-000001")
    (path / "epoch-000001" / "latest.weights.h5").unlink()
    assert same(train(path), undisturbed)
    # Once more: there is nothing left to train, nor to warn of.
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert same(train(path), undisturbed)


def test_one_epoch_and_the_best_are_kept(tmp_path):
    trained, _ = train(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"epoch-000006", f"best-{trained.best_epoch:06d}.weights.h5"}
    kept = json.loads((tmp_path / "epoch-000006" / "curves.json").read_text())
    assert kept == trained.curves
    columns = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"]
    assert sorted(kept[0]) == sorted(columns)


def test_every_epoch_has_an_order_of_its_own(tmp_path):
    """With threads, too, each batch is the one whose turn it is."""
    seen = set()

    class Seen(Rows):
        def take(self, rows):
            seen.add(tuple(rows.tolist()))
            return super().take(rows)

    stage = replace(STAGE, epochs=3)
    alone = train(tmp_path / "alone", stage, Seen())
    orders = [np.random.default_rng([3, epoch]).permutation(N_TRAIN) for epoch in range(3)] + [
        np.arange(N_TRAIN, N_ROWS)
    ]
    assert seen == {tuple(order[start : start + 8].tolist()) for order in orders for start in range(0, len(order), 8)}
    assert same(train(tmp_path / "threads", stage, n_workers=3), alone)


def test_batches():
    rows = Rows()
    batches = rows.batches(np.array([7, 3, 50]), seed=None)
    inputs, targets, weights = batches[0]
    assert len(batches) == 1
    assert np.array_equal(inputs, rows.values[[7, 3, 50]])
    assert targets.argmax(axis=1).tolist() == [1, 0, 2]
    assert np.array_equal(weights, rows.weights[[7, 3, 50]])
    assert len(rows.batches(np.arange(17), seed=0)) == 3
    batches = rows.batches(np.arange(20), seed=9)
    epochs = []
    for batches.epoch in (0, 1, 0):
        epochs.append(np.concatenate([batches[number][2] for number in range(len(batches))]))
    assert np.array_equal(epochs[0], epochs[2])
    assert not np.array_equal(epochs[0], epochs[1])
    assert sorted(epochs[1]) == sorted(rows.weights[:20])


@pytest.mark.parametrize(("row", "n_workers"), [(N_TRAIN - 1, 2), (N_ROWS - 1, 1)])
def test_a_row_that_can_not_be_read_is_what_is_said(row, n_workers, tmp_path):
    """Not what TensorFlow makes of it; in train and in validation, whichever batch it is in."""
    with pytest.raises(SourceError, match=r"^ash/3\.png: not the file that it was$"):
        train(tmp_path, rows=Rows(fails_at=row), n_workers=n_workers)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def save_weights(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save_weights", save_weights)
    message = r"writing failed .*No space left on device.*; the epochs before are kept. Free some disk"
    with pytest.raises(FeatxError, match=message):
        train(tmp_path)


def test_a_batch_that_is_too_large_is_said_in_one_line(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3GiB")

    monkeypatch.setattr("keras.Model.fit", fail)
    with pytest.raises(
        FeatxError, match=r"stage 'head': a batch of 8 images doesn't fit .*Give a smaller `batch_size` in `changes`$"
    ):
        train(tmp_path)


def test_a_first_loss_that_is_no_number(tmp_path):
    rows = Rows()
    rows.values[:] = np.inf
    trained, _ = train(tmp_path, rows=rows)
    assert (trained.best_epoch, trained.ended, len(trained.curves)) == (0, "diverged", 1)
    assert trained.best["val_accuracy"] is None
    assert count_epochs(tmp_path) == 0


def test_a_later_loss_that_is_no_number(tmp_path):
    """The epochs before it are as ever; a stop right after it changes nothing."""

    class Later(Rows):
        n_taken = 0

        def take(self, rows):
            # Beside the epochs' own batches, Keras looks at a few before the first.
            self.n_taken += rows[0] >= N_TRAIN
            return super().take(rows) * (np.inf if self.n_taken > 3 * 3 + 2 and len(rows) else 1)

    undisturbed, _ = train(tmp_path / "undisturbed")
    trained, model = train(tmp_path / "diverged", rows=Later())
    assert trained.ended == "diverged"
    n_good = len(trained.curves) - 1
    assert 1 <= n_good < 5
    assert without_seconds(trained.curves[:n_good]) == without_seconds(undisturbed.curves[:n_good])
    assert trained.curves[-1]["val_loss"] is None
    assert 1 <= trained.best_epoch <= n_good
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
    again, _ = train(tmp_path / "diverged", rows=Later())
    assert again == trained


@pytest.mark.parametrize("is_nested", [False, True])
def test_pretrained_layers_have_their_pace_wherever_they_are(is_nested):
    """A stage that takes pixels has the network within its model."""
    model = make_model()
    inner = [layer for layer in model.layers if layer.weights]
    if is_nested:
        pixels = keras.Input((6,))
        model = keras.Model(pixels, model(keras.layers.Rescaling(1.0)(pixels)))
    stage = replace(STAGE, optimizer="sgd", backbone_rate=0.1)
    compile_for_training(model, stage, RECIPE, pretrained=[inner[0].name], n_steps=10)
    variables = model.trainable_variables
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    model.optimizer.build(variables)
    model.optimizer.apply([keras.ops.ones_like(variable) for variable in variables], variables)
    paced = {id(variable) for variable in inner[0].trainable_variables}
    assert len(paced) == 2
    for variable, old in zip(variables, before, strict=True):
        rate = 0.001 if id(variable) in paced else 0.01
        assert keras.ops.convert_to_numpy(variable) - old == pytest.approx(-rate, rel=1e-3, abs=1e-7)


def test_augmentation_is_the_same_again_and_never_of_validation(tmp_path):
    """Whatever is drawn at random is drawn by the stage's epoch, not by what the process did before."""
    from featx.finetune.stages import make_augmentation

    class Pictures(Rows):
        def __init__(self):
            super().__init__()
            self.values = np.random.default_rng(0).integers(0, 256, (N_ROWS, 8, 8, 3), dtype=np.uint8)

    def run(path, augmentation, epochs=2):
        rows = Pictures()
        pixels = keras.Input((8, 8, 3), dtype="uint8")
        values = keras.ops.cast(pixels, "float32")
        for layer in make_augmentation(augmentation, seed=1):
            values = layer(values)
        values = keras.layers.Flatten()(values / 255)
        start = keras.initializers.GlorotUniform(2)
        model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax", kernel_initializer=start)(values))
        train = rows.batches(np.arange(N_TRAIN), seed=3)
        validation = rows.batches(np.arange(N_TRAIN, N_ROWS))
        trained = train_stage(model, replace(STAGE, epochs=epochs), RECIPE, train, validation, StageFolder(path))
        figures = [model.evaluate(validation, verbose=0, return_dict=True) for _ in range(2)]
        return trained, figures

    turned = Augmentation(rotation=30, shift=0.2, zoom=0.2, flip="both")
    trained, (figures, again) = run(tmp_path / "a", turned)
    assert figures == again
    assert figures["loss"] == pytest.approx(trained.best["val_loss"], rel=1e-6)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_in(patch, 1, is_whole=True)
        run(tmp_path / "d", turned)
    assert without_seconds(run(tmp_path / "d", turned)[0].curves) == without_seconds(trained.curves)


def test_no_rows_have_no_probabilities():
    assert predict_rows(make_model(), Rows(), np.array([], dtype=int), batch_size=8).shape == (0, N_CLASSES)


def test_probabilities_are_in_the_rows_order():
    model, rows = make_model(), Rows()
    answers = predict_rows(model, rows, np.array([9, 2, 30, 2, 11]), batch_size=2)
    expected = np.asarray(model(rows.values[[9, 2, 30, 2, 11]]))
    assert answers == pytest.approx(expected, rel=1e-5)


def test_nothing_goes_to_standard_output(tmp_path, capfd):
    rows = Rows()
    rows.values[:] = np.nan
    train(tmp_path, rows=rows)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("name", "expected"), [("RandomFlip", True), ("RandomZoom", False)])
def test_what_xla_does_not_take_is_not_compiled_and_nothing_is_said_of_it(name, expected, recwarn):
    pixels = keras.Input((8, 8, 3))
    moved = getattr(keras.layers, name)(*([] if name == "RandomFlip" else [0.1]))(pixels)
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(moved))
    model, recipe = keras.Model(pixels, outputs), replace(RECIPE, compile=True)
    assert is_compiled(model, recipe) == expected
    assert not is_compiled(model, RECIPE)
    compile_for_training(model, STAGE, recipe, n_steps=10)
    assert model.jit_compile == expected
    assert not [warning for warning in recwarn if "jit_compile" in str(warning.message)]
