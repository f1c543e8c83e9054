"""Learning rates: Keras's schedules, and a pace of its own for pretrained layers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from featx.finetune.train import make_optimizer
from featx.networks import load_keras
from featx.networks.recipes import Stage
from featx.networks.recipes.schema import CosineSchedule, InverseTimeSchedule, StepSchedule

keras = load_keras()

STAGE = Stage("all", unfreeze="all", learning_rate=0.01)


def variables_of(*values):
    return [keras.Variable(np.array(value, np.float32)) for value in values]


def moves(stage, n_steps, *, paced=True, n_planned=100, **options):
    """How far each step takes a pretrained weight and a new one, whose gradients are the same."""
    pretrained, _ = variables = variables_of([0.0, 0.0], [0.0, 0.0])
    optimizer = make_optimizer(keras, stage, [pretrained] if paced else [], n_steps=n_planned, **options)
    optimizer.build(variables)
    found = []
    for step in range(n_steps):
        before = [keras.ops.convert_to_numpy(variable) for variable in variables]
        gradient = np.array([0.3, -2.0], np.float32) * (1 + step % 2)
        optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 2, variables)
        found.append(
            [keras.ops.convert_to_numpy(variable) - old for variable, old in zip(variables, before, strict=True)]
        )
    return np.array(found)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, {0: 0.01, 50: 0.01}),
        (StepSchedule(20, 0.1), {0: 0.01, 19: 0.01, 20: 0.001, 39: 0.001, 40: 0.0001}),
        (InverseTimeSchedule(0.001), {0: 0.01, 1: 0.01 / 1.001, 1000: 0.005}),
        (CosineSchedule(), {0: 0.01, 25: 0.005 * (1 + math.cos(math.pi / 4)), 50: 0.005, 100: 0.0}),
    ],
    ids=["none", "step", "inverse_time", "cosine"],
)
def test_schedules(schedule, expected):
    optimizer = make_optimizer(keras, replace(STAGE, schedule=schedule), [], n_steps=100)
    optimizer.build(variables_of([0.0]))
    found = {}
    for step in expected:
        optimizer.iterations.assign(step)
        found[step] = float(optimizer.learning_rate)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("optimizer", "momentum"), [("adam", 0.0), ("rmsprop", 0.0), ("sgd", 0.0), ("sgd", 0.9)])
def test_pretrained_weights_move_at_their_own_pace(optimizer, momentum):
    stage = replace(STAGE, optimizer=optimizer, momentum=momentum, backbone_rate=0.1)
    plain = moves(replace(stage, backbone_rate=1.0), 4)
    paced = moves(stage, 4)
    assert plain[:, 0] == pytest.approx(plain[:, 1])
    assert paced[:, 0] == pytest.approx(0.1 * plain[:, 0], rel=1e-3, abs=1e-7)
    assert np.array_equal(paced[:, 1], plain[:, 1])
    # Nothing is pretrained: nothing is paced.
    assert np.array_equal(moves(stage, 4, paced=False), plain)


def test_the_first_steps_are_the_optimizers_own():
    """At first Adam moves by the learning rate, RMSprop by that over sqrt(1 - rho), SGD by the gradient's share."""
    gradient = np.array([0.3, -2.0])
    assert moves(STAGE, 1)[0, 1] == pytest.approx(-0.01 * np.sign(gradient), rel=1e-4)
    rms = moves(replace(STAGE, optimizer="rmsprop"), 1)[0, 1]
    assert rms == pytest.approx(-0.01 / math.sqrt(0.1) * np.sign(gradient), rel=1e-4)
    steps = moves(replace(STAGE, optimizer="sgd", momentum=0.5), 2)[:, 1]
    assert steps[0] == pytest.approx(-0.01 * gradient, rel=1e-4)
    assert steps[1] == pytest.approx(0.5 * steps[0] - 0.01 * 2 * gradient, rel=1e-4)


def test_float16_scales_the_loss():
    stage = replace(STAGE, optimizer="sgd", backbone_rate=0.1)
    optimizer = make_optimizer(keras, stage, [], n_steps=10, scales_loss=True)
    variables = variables_of([1.0])
    optimizer.build(variables)
    scale = float(optimizer.scale_loss(keras.ops.convert_to_tensor(1.0)))
    assert scale > 1000
    optimizer.apply([keras.ops.convert_to_tensor([2 * scale])], variables)
    assert float(variables[0][0]) == pytest.approx(1 - 0.01 * 2, rel=1e-5)
    # A gradient that overflowed changes nothing but the scale.
    optimizer.apply([keras.ops.convert_to_tensor([np.inf])], variables)
    assert float(variables[0][0]) == pytest.approx(1 - 0.01 * 2, rel=1e-5)
    assert float(optimizer.scale_loss(keras.ops.convert_to_tensor(1.0))) == scale / 2


def test_scaled_losses_keep_the_pace():
    scale = moves(replace(STAGE, optimizer="sgd"), 1, scales_loss=True)
    paced = moves(replace(STAGE, optimizer="sgd", backbone_rate=0.25), 1, scales_loss=True)
    assert paced[0, 0] == pytest.approx(0.25 * scale[0, 0], rel=1e-3)
    assert paced[0, 1] == pytest.approx(scale[0, 1])
    assert np.abs(scale).min() > 0
