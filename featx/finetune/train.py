"""Train one stage of a fine-tuning with Keras's `fit`, from where it stopped to its best epoch."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from tqdm import tqdm

from featx.errors import FeatxError
from featx.finetune.batches import Batches, RowSource
from featx.finetune.checkpoints import BeginEpochs, Curves, KeepEpochs, NoteEpochs, Retell, StageFolder, all_layers
from featx.inference import is_out_of_memory
from featx.networks import compile_model, format_device, load_keras
from featx.networks.recipes import Recipe, Stage

keras = load_keras()


_MODES = {"val_accuracy": "max", "val_loss": "min"}


@dataclass(frozen=True)
class Trained:
    """What a stage came to.

    Attributes
    ----------
    curves : list of dict
        An entry an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate, seconds; None where a
        figure is no number.
    best_epoch : int
        Whose weights the model has now; 0 if the first epoch's loss was no number already, so that there are none.
    ended : str
        epochs, patience, or diverged.
    """

    curves: Curves
    best_epoch: int
    ended: str

    @property
    def best(self) -> dict[str, float]:
        """The figures of the best epoch; those of the first, without validation figures, if there is none."""
        return self.curves[max(self.best_epoch, 1) - 1]

    @property
    def seconds(self) -> float:
        """Of all epochs, whichever process ran them."""
        return round(sum(figures["seconds"] for figures in self.curves), 3)


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

    Parameters
    ----------
    model : keras.Model
        Its trainable layers are those of the stage.
    stage : Stage
    recipe : Recipe
        For what counts in every stage: precision and compilation.
    train, validation : Batches
    folder : StageFolder
        Epochs that are there are taken up.
    pretrained : collection of str
        Layers that learn at the stage's `backbone_rate`.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Raises
    ------
    FeatxError
        If a batch can't be read or doesn't fit into the device's memory, or an epoch can't be written.
    """
    compile_for_training(model, stage, recipe, pretrained=pretrained, n_steps=stage.epochs * len(train))
    if not _has_ended(stage, folder.curves):
        # TerminateOnNaN has something to say, on standard output, which is for results.
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
            # Where all epochs were there already, the optimizer has nothing yet that a file's would fit.
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            model.load_weights(best)
    return Trained(
        curves=folder.curves,
        best_epoch=0 if best is None else int(best.name.split("-")[1].split(".")[0]),
        ended=_how_ended(stage, folder.curves),
    )


@contextlib.contextmanager
def _plain_errors(folder: StageFolder, stage: Stage, recipe: Recipe, *batches: Batches) -> Iterator[None]:
    """Raise what a user can mend as what it is: TensorFlow wraps what happens while it waits for a batch."""
    try:
        yield
    except Exception as error:
        for source in batches:
            if source.error is not None:
                raise source.error from error
        if isinstance(error, OSError):
            raise FeatxError(
                f"{folder.path}: writing failed ({error.strerror or error}); the epochs before are kept. Free some "
                "disk, and run the same command again"
            ) from error
        if is_out_of_memory(error):
            raise too_large_batch(stage, recipe) from error
        raise


def too_large_batch(stage: Stage, recipe: Recipe) -> FeatxError:
    """Return the error of a batch that doesn't fit into the device's memory."""
    return FeatxError(
        f"recipe {recipe.name!r}, stage {stage.name!r}: a batch of {stage.batch_size:,} images doesn't fit into the "
        f"memory of {format_device(keras)}. Give a smaller one (--set batch_size=...)"
    )


def is_compiled(model: object, recipe: Recipe) -> bool:
    """Whether XLA compiles a model's steps: if the recipe says so, and no layer forbids it, as those that zoom do."""
    return recipe.compile and all(getattr(layer, "supports_jit", True) for layer in all_layers(model))


def compile_for_training(
    model: object, stage: Stage, recipe: Recipe, *, pretrained: Collection[str] = (), n_steps: int
) -> None:
    """Give a model its loss and its optimizer.

    Parameters
    ----------
    model, stage, recipe, pretrained
        See `train_stage`.
    n_steps : int
        Batches of the whole stage.
    """
    slow = [
        variable for layer in all_layers(model) if layer.name in pretrained for variable in layer.trainable_variables
    ]
    scales_loss = recipe.precision == "mixed_float16"
    model.compile(
        optimizer=make_optimizer(keras, stage, slow, n_steps=n_steps, scales_loss=scales_loss),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=stage.label_smoothing),
        # Where rows have weights, they count in accuracies as they do in the classifiers'.
        weighted_metrics=["accuracy"],
        # JAX runs compiled or hardly at all.
        jit_compile="auto" if keras.backend.backend() == "jax" else is_compiled(model, recipe),
    )
    # What training would create in its first step, there already: TensorFlow would trace the step once more for it.
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, int(model.outputs[0].shape[-1])))
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def predict_rows(model: object, source: RowSource, rows: np.ndarray, *, batch_size: int) -> np.ndarray:
    """Return a model's class probabilities of some rows.

    Parameters
    ----------
    model : keras.Model
    source : RowSource
    rows : ndarray of int
    batch_size : int

    Returns
    -------
    ndarray of shape (len(rows), n_classes), float32
    """
    run = compile_model(keras, model, exact=True)
    starts = range(0, len(rows), batch_size)
    batches = [keras.ops.convert_to_numpy(run(source.take(rows[start : start + batch_size]))) for start in starts]
    return np.concatenate(batches) if batches else np.empty((0, int(model.outputs[0].shape[-1])), np.float32)


def _make_callbacks(stage: Stage, train: Batches, folder: StageFolder, advance: Callable[[dict], None]) -> list[object]:
    """Return the callbacks of a stage, in the order in which they must be told."""
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
        # Never None, with which the first epoch would be taken for the best even where its figures are no numbers.
        initial_value_threshold=_best_so_far(stage, folder.curves),
    )
    return [
        callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: advance(logs)),
        BeginEpochs(train),
        callbacks.TerminateOnNaN(),
        NoteEpochs(folder),
        *counting,
        Retell(counting, folder.curves),
        keep_best,
        folder.make_backup(),
        KeepEpochs(folder),
    ]


def _make_counter(stage: Stage) -> object:
    return keras.callbacks.EarlyStopping(monitor=stage.stop_on, mode=_MODES[stage.stop_on], patience=stage.patience)


def _best_so_far(stage: Stage, curves: Curves) -> float:
    figures = [figures[stage.keep] for figures in curves if figures[stage.keep] is not None]
    return max(figures, default=-np.inf) if _MODES[stage.keep] == "max" else min(figures, default=np.inf)


def _has_ended(stage: Stage, curves: Curves) -> bool:
    """Whether nothing of a stage is left to run."""
    return bool(curves) and (len(curves) >= stage.epochs or _how_ended(stage, curves) != "epochs")


def _how_ended(stage: Stage, curves: Curves) -> str:
    """Return why the last of these epochs is, or would be, the last; epochs if nothing but their number ends it."""
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
    """What EarlyStopping says that a model is to do."""

    stop_training = False


@contextlib.contextmanager
def _bar(stage: Stage, train: Batches, curves: Curves, wanted: bool) -> Iterator[Callable[[dict], None]]:
    """Show a bar that counts batches, where it is wanted and standard error is a terminal."""
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

    Parameters
    ----------
    keras : module
    stage : Stage
    pretrained : collection of keras.Variable
        Those of the weights to train that learn at the stage's `backbone_rate`.
    n_steps : int
        Batches of the whole stage, for the cosine schedule.
    scales_loss : bool, default False
        Whether the loss is scaled against underflow, as float16 needs.
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
    """Return a kind of optimizer that trains some variables at a part of the learning rate.

    The step itself is scaled, not its gradient, to whose scale Adam and RMSprop are blind.
    """

    class Paced(kind):
        def build(self, variables: list) -> None:
            super().build(variables)
            self._paces = [rate if id(variable) in slow else 1.0 for variable in variables]

        def update_step(self, gradient: object, variable: object, learning_rate: object) -> None:
            pace = self._paces[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * pace)

    return Paced
