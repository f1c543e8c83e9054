"""Keras's optimizers as a recipe asks for them: a schedule, and a rate of its own for pretrained layers."""

from collections.abc import Collection
from types import ModuleType

from featx.recipes import Stage


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
