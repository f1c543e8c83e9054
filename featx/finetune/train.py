"""Train one stage of a fine-tuning with Keras's `fit`, to the weights of its best epoch."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import ModuleType

import numpy as np
from tqdm import tqdm

from featx.errors import FeatxError
from featx.finetune.batches import Batches, RowSource
from featx.finetune.folder import Curves, StageFolder, Trained
from featx.inference import is_out_of_memory
from featx.networks import compile_model, format_device, load_keras
from featx.networks.recipes import Recipe, Stage

keras = load_keras()


_MODES = {"val_accuracy": "max", "val_loss": "min"}

# The most numbers that a layer draws in a training step.
_MOST_DRAWS = 16


def train_stage(
    model: object,
    stage: Stage,
    recipe: Recipe,
    train: Batches,
    validation: Batches,
    folder: StageFolder,
    *,
    pretrained: Collection[str] = (),
    progress: bool = False,
) -> Trained:
    """Train a model through a stage, and give it the weights of its best epoch.

    The model's trainable layers are those of the stage; layers in `pretrained` learn at the stage's `backbone_rate`.
    Training resumes after the last epoch in the folder.
    """
    compile_for_training(model, stage, recipe, pretrained=pretrained, n_steps=stage.epochs * len(train))
    if not _has_ended(stage, folder.curves):
        # TerminateOnNaN writes to standard output, which is for results.
        with (
            contextlib.redirect_stdout(sys.stderr),
            _plain_errors(folder, stage, recipe, train, validation),
            _bar(stage, train, folder.curves, progress) as advance,
        ):
            model.fit(
                train,
                validation_data=validation,
                epochs=stage.epochs,
                callbacks=_make_callbacks(stage, train, folder, advance),
                # Keras would shuffle whole batches, by a state that nobody keeps.
                shuffle=False,
                verbose=0,
            )
    best = folder.best_path()
    if best is not None:
        with warnings.catch_warnings():
            # If all epochs were finished before, the optimizer has no variables yet.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(best)
    return Trained(
        curves=folder.curves,
        best_epoch=0 if best is None else int(best.name.split("-")[1].split(".")[0]),
        ended=_how_ended(stage, folder.curves),
    )


@contextlib.contextmanager
def _plain_errors(folder: StageFolder, stage: Stage, recipe: Recipe, *batches: Batches) -> Iterator[None]:
    """Raise errors that a user can fix as what they are: TensorFlow wraps those that happen in batches."""
    try:
        yield
    except Exception as error:
        for source in batches:
            if source.error is not None:
                raise source.error from error
        if isinstance(error, OSError):
            raise FeatxError(
                f"{folder.path}: writing failed ({error.strerror or error}); the epochs before are kept. Free some "
                "disk space, and run the same command again"
            ) from error
        if is_out_of_memory(error):
            raise FeatxError(
                f"recipe {recipe.name!r}, stage {stage.name!r}: a batch of {stage.batch_size:,} images doesn't fit "
                f"into the memory of {format_device(keras)}. Give a smaller `batch_size` in `changes`"
            ) from error
        raise


def is_compiled(model: object, recipe: Recipe) -> bool:
    """Return whether XLA compiles a model's steps: if the recipe says so, and all layers allow it (zoom does not)."""
    return recipe.compile and all(getattr(layer, "supports_jit", True) for layer in all_layers(model))


def compile_for_training(
    model: object, stage: Stage, recipe: Recipe, *, pretrained: Collection[str] = (), n_steps: int
) -> None:
    """Give a model its loss and its optimizer; `n_steps` is the number of batches in the whole stage."""
    slow = [
        variable for layer in all_layers(model) if layer.name in pretrained for variable in layer.trainable_variables
    ]
    scales_loss = recipe.precision == "mixed_float16"
    model.compile(
        optimizer=make_optimizer(keras, stage, slow, n_steps=n_steps, scales_loss=scales_loss),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=stage.label_smoothing),
        # Weights of rows count in accuracies, as they do for classifiers.
        weighted_metrics=["accuracy"],
        # JAX runs compiled or hardly at all.
        jit_compile="auto" if keras.backend.backend() == "jax" else is_compiled(model, recipe),
    )
    # Otherwise training creates these in its first step, and TensorFlow traces the step twice.
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, int(model.outputs[0].shape[-1])))
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def predict_rows(model: object, source: RowSource, rows: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Return a model's class probabilities for some rows: ndarray of shape (len(rows), n_classes), float32."""
    run = compile_model(keras, model, exact=True)
    starts = range(0, len(rows), batch_size)
    batches = [keras.ops.convert_to_numpy(run(source.take(rows[start : start + batch_size]))) for start in starts]
    return np.concatenate(batches) if batches else np.empty((0, int(model.outputs[0].shape[-1])), np.float32)


def _make_callbacks(stage: Stage, train: Batches, folder: StageFolder, advance: Callable[[dict], None]) -> list[object]:
    """Return the callbacks of a stage, in the order in which Keras must call them."""
    callbacks = keras.callbacks
    counting = [] if stage.patience is None else [_make_counter(stage)]
    if stage.plateau is not None:
        plateau = stage.plateau
        counting.append(
            callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                mode="min",
                factor=plateau.factor,
                patience=plateau.patience,
                min_lr=plateau.min_learning_rate,
            )
        )
    keep_best = callbacks.ModelCheckpoint(
        folder.best_pattern,
        monitor=stage.keep,
        mode=_MODES[stage.keep],
        save_best_only=True,
        save_weights_only=True,
        # With None, the first epoch would be the best even if its figures are no numbers.
        initial_value_threshold=_best_so_far(stage, folder.curves),
    )
    return [
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: advance(logs)),
        BeginEpochs(train),
        callbacks.TerminateOnNaN(),
        NoteEpochs(folder),
        *counting,
        CountAgain(counting, folder.curves),
        keep_best,
        callbacks.BackupAndRestore(folder.backup_path, delete_checkpoint=False),
        KeepEpochs(folder),
    ]


class KeepEpochs(keras.callbacks.Callback):
    """Have the stage's folder keep each epoch; it comes after `BackupAndRestore`."""

    def __init__(self, folder: StageFolder) -> None:
        super().__init__()
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep the epoch."""
        self._folder.keep_epoch()


class NoteEpochs(keras.callbacks.Callback):
    """Add each epoch's figures to the curves before anything of the epoch is kept; it comes first.

    An epoch whose loss is no number is the last, and gets no validation figures: weights that are no numbers would
    have an accuracy.
    """

    def __init__(self, folder: StageFolder) -> None:
        super().__init__()
        self._folder = folder
        self._started = 0.0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add an entry."""
        if not all(np.isfinite(logs[name]) for name in ("loss", "val_loss")):
            # The callbacks that follow are given the same dictionary.
            logs |= dict.fromkeys((name for name in logs if name.startswith("val_")), float("nan"))
            self.model.stop_training = True
        figures = {name: float(value) for name, value in logs.items()}
        figures["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        # With what it took to keep the epoch before.
        now = time.monotonic()
        figures["seconds"], self._started = round(now - self._started, 3), now
        self._folder.curves.append(
            {"epoch": epoch + 1} | {name: value if np.isfinite(value) else None for name, value in figures.items()}
        )


class CountAgain(keras.callbacks.Callback):
    """Have EarlyStopping and ReduceLROnPlateau count the epochs that an earlier process has run.

    It comes after them, and before `BackupAndRestore`, which has the last word on the learning rate.
    """

    def __init__(self, callbacks: Sequence[object], curves: Curves) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._curves = list(curves)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Count."""
        for figures in self._curves:
            known = {name: float("nan") if value is None else value for name, value in figures.items()}
            for callback in self._callbacks:
                callback.on_epoch_end(int(figures["epoch"]) - 1, dict(known))


class BeginEpochs(keras.callbacks.Callback):
    """Set order, dropout and augmentation to the epoch's, so that a resumed training draws the same numbers."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Set what is drawn at random."""
        self._batches.epoch = epoch
        for generator in _generators(self.model):
            state = np.array(keras.ops.convert_to_numpy(generator.state))
            # A seed and a count: a training step takes a few numbers, validation none.
            state[1] = _MOST_DRAWS * epoch * len(self._batches)
            generator.state.assign(state)


def all_layers(layer: object) -> Iterator[object]:
    """Yield a layer and all layers within it, also those of models within models."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from all_layers(inner)


def _generators(model: object) -> list[object]:
    """Return the random generators of a model's layers."""
    return [
        value
        for layer in all_layers(model)
        for value in vars(layer).values()
        if isinstance(value, keras.random.SeedGenerator)
    ]


def _make_counter(stage: Stage) -> object:
    return keras.callbacks.EarlyStopping(monitor=stage.stop_on, mode=_MODES[stage.stop_on], patience=stage.patience)


def _best_so_far(stage: Stage, curves: Curves) -> float:
    figures = [figures[stage.keep] for figures in curves if figures[stage.keep] is not None]
    return max(figures, default=-np.inf) if _MODES[stage.keep] == "max" else min(figures, default=np.inf)


def _has_ended(stage: Stage, curves: Curves) -> bool:
    """Return whether all epochs of a stage are finished."""
    return bool(curves) and (len(curves) >= stage.epochs or _how_ended(stage, curves) != "epochs")


def _how_ended(stage: Stage, curves: Curves) -> str:
    """Return why the stage ends after these epochs; `epochs` if only their number can end it."""
    if any(value is None for value in curves[-1].values()):
        return "diverged"
    if stage.patience is None:
        return "epochs"
    counter = _make_counter(stage)
    counter.set_model(_Stop())
    counter.on_train_begin()
    for figures in curves:
        counter.on_epoch_end(int(figures["epoch"]) - 1, dict(figures))
    return "patience" if counter.model.stop_training else "epochs"


class _Stop:
    """A model for EarlyStopping, which sets this one attribute."""

    stop_training = False


@contextlib.contextmanager
def _bar(stage: Stage, train: Batches, curves: Curves, wanted: bool) -> Iterator[Callable[[dict], None]]:
    """Show a bar that counts batches, if standard error is a terminal."""
    total, done = stage.epochs * len(train), len(curves) * len(train)
    # disable=None: only where standard error is a terminal.
    with tqdm(
        total=total, initial=done, unit="batch", desc=f"stage {stage.name}", disable=None if wanted else True
    ) as bar:

        def advance(logs: dict) -> None:
            bar.update()
            if not bar.disable:
                bar.set_postfix(epoch=bar.n // len(train), loss=f"{logs['loss']:.3g}", refresh=False)

        yield advance


def make_optimizer(
    keras: ModuleType, stage: Stage, pretrained: Collection[object], *, n_steps: int, scales_loss: bool = False
) -> object:
    """Make the optimizer of a stage.

    Variables in `pretrained` learn at the stage's `backbone_rate`; `n_steps`, the number of batches in the whole stage,
    is for the cosine schedule; float16 needs `scales_loss` against underflow.
    """
    kind = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop, "sgd": keras.optimizers.SGD}[
        stage.optimizer
    ]
    if stage.backbone_rate != 1.0 and pretrained:
        kind = _pace(kind, {id(variable) for variable in pretrained}, stage.backbone_rate)
    options = {"momentum": stage.momentum} if stage.optimizer == "sgd" else {}
    optimizer = kind(learning_rate=_plan_rate(keras, stage, n_steps), **options)
    return keras.optimizers.LossScaleOptimizer(optimizer) if scales_loss else optimizer


def _plan_rate(keras: ModuleType, stage: Stage, n_steps: int) -> object:
    schedules, schedule, rate = keras.optimizers.schedules, stage.schedule, stage.learning_rate
    if schedule is None:
        return rate
    if schedule.kind == "step":
        return schedules.ExponentialDecay(rate, schedule.steps, schedule.factor, staircase=True)
    if schedule.kind == "inverse_time":
        return schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=schedule.decay)
    return schedules.CosineDecay(rate, n_steps)


def _pace(kind: type, slow: Collection[int], rate: float) -> type:
    """Return a kind of optimizer that trains some variables at a fraction of the learning rate.

    It scales the step, not the gradient, whose scale Adam and RMSprop ignore.
    """

    class Paced(kind):
        def build(self, variables: list) -> None:
            super().build(variables)
            self._paces = [rate if id(variable) in slow else 1.0 for variable in variables]

        def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
            pace = self._paces[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * pace)

    return Paced
