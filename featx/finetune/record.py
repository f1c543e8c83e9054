"""Write the record of a fine-tuning, in the form of every run's."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import featx
from featx.finetune.stages import StagePlan
from featx.finetune.task import Task
from featx.finetune.train import Trained
from featx.images import write_table
from featx.networks import load_keras
from featx.networks.recipes import Recipe, recipe_record, write_recipe
from featx.results import (
    FINETUNE,
    NETWORK_FILE,
    Cell,
    Run,
    count_confusion,
    report_classes,
    score,
    score_columns,
    write_run,
)
from featx.system import now, peak_memory

_NO_NUMBER = "the loss of its first epoch is no number"


@dataclass(frozen=True)
class Outcome:
    """A stage's plan and its result."""

    plan: StagePlan
    trained: Trained

    @property
    def record(self) -> dict[str, object]:
        """The stage in the run's record."""
        return {
            "name": self.plan.stage.name,
            "epochs": len(self.trained.curves),
            "best_epoch": self.trained.best_epoch,
            "n_trainable": self.plan.n_trainable,
            "n_frozen": self.plan.n_frozen,
            "computed_once": self.plan.source,
            "seconds": self.trained.seconds,
            "ended": self.trained.ended,
        }


def format_outcome(outcome: Outcome) -> str:
    """Return a line about a stage's result."""
    trained, best = outcome.trained, outcome.trained.best
    if not trained.best_epoch:
        return f"stage {outcome.plan.stage.name}: {_NO_NUMBER}, so that training ended there"
    endings = {
        "epochs": "",
        "patience": ", then no better for its patience",
        "diverged": "; the loss of the last is no number, so that training ended there",
    }
    return (
        f"stage {outcome.plan.stage.name}: {len(trained.curves)} epochs, {trained.seconds:.1f} s; the best is "
        f"{trained.best_epoch}: validation accuracy {best['val_accuracy']:.4f}, loss {best['val_loss']:.4f}"
        f"{endings[trained.ended]}"
    )


def run_record(
    task: Task,
    recipe: Recipe,
    outcomes: Sequence[Outcome],
    chosen: int,
    probabilities: np.ndarray,
    *,
    protocol: Mapping[str, object],
    n_parameters: int,
    predict_seconds: float | None,
    weights_sha256: str,
    once_seconds: float,
) -> Run:
    """Return the record of a fine-tuning.

    Parameters
    ----------
    task : Task
    recipe : Recipe
    outcomes : sequence of Outcome
        The stages that were run.
    chosen : int
        Index of the stage whose weights are kept.
    probabilities : ndarray of shape (n_test, n_classes)
        Of the test rows.
    protocol : mapping of str to object
        The seed, and the options that choose rows.
    n_parameters : int
        Weights that any stage trained.
    predict_seconds : float or None
        For a thousand images, from their files to their labels.
    weights_sha256 : str
        Digest of the file of weights.
    once_seconds : float
        To compute, or to find, the inputs of all epochs.
    """
    keras = load_keras()
    rows = task.rows
    keep = outcomes[-1].plan.stage.keep
    return Run(
        model=FINETUNE,
        store=task.store,
        protocol={
            "selection": "validation",
            "cv": None,
            "class_weight": outcomes[chosen].plan.stage.class_weight,
            **protocol,
            # The training's loss includes L2 and smoothed labels: it is no log loss to compare with a classifier's.
            "choose_by": "accuracy" if keep == "val_accuracy" else "loss",
            "classes": task.classes,
            **{f"n_{split}": len(rows.with_weight(rows.of(split))) for split in ("train", "validation", "test")},
        },
        cells=tuple(_as_cell(recipe, outcome, keep) for outcome in outcomes),
        chosen=chosen,
        test=_score_test(task, probabilities, int(protocol["seed"])) if len(probabilities) else None,
        refit_seconds=0.0,
        versions={
            "featx": featx.__version__,
            "keras": f"{keras.__version__} on {keras.backend.backend()}",
            "python": platform.python_version(),
        },
        created=now(),
        notes=(*task.notes, *(format_outcome(outcome) for outcome in outcomes)),
        peak_memory=peak_memory(),
        n_parameters=n_parameters,
        predict_seconds=predict_seconds,
        baseline={
            "recipe": recipe_record(recipe),
            "stages": [outcome.record for outcome in outcomes],
            "weights_sha256": weights_sha256,
            "once_seconds": once_seconds,
        },
    )


def write_fine_tuned(
    output: Path,
    run: Run,
    task: Task,
    outcomes: Sequence[Outcome],
    recipe: Recipe,
    probabilities: np.ndarray,
    *,
    weights_path: Path,
    overwrite: bool,
) -> None:
    """Write a fine-tuned run's folder, with a copy of the weights' file: all of it, or nothing.

    The probabilities are those of the test rows.
    """
    test = task.rows.with_weight(task.rows.of("test"))
    y_test = task.rows.y[test].astype(str)
    predicted = np.array(task.classes, dtype=object)[probabilities.argmax(axis=1)].astype(str)
    labels = {"path": task.rows.paths[test], "label": y_test, "predicted": predicted}

    def add_files(folder: Path) -> None:
        shutil.copyfile(weights_path, folder / NETWORK_FILE)
        write_table(curves_table(outcomes), folder / "curves.csv", index=False)
        write_recipe(recipe, folder / "recipe.yaml")

    write_run(
        output,
        run,
        predictions=pd.DataFrame(labels | score_columns(task.classes, probabilities=probabilities)),
        per_class=report_classes(y_test, predicted),
        confusion=count_confusion(y_test, predicted),
        add_files=add_files,
        overwrite=overwrite,
    )


def curves_table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row per epoch: stage, epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds."""
    lines = [
        {"stage": outcome.plan.stage.name, **figures} for outcome in outcomes for figures in outcome.trained.curves
    ]
    columns = ["stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
    return pd.DataFrame(lines)[columns]


def _as_cell(recipe: Recipe, outcome: Outcome, keep: str) -> Cell:
    stage, best = outcome.plan.stage, outcome.trained.best
    return Cell(
        discretize="none",
        params={
            "recipe": recipe.name,
            "stage": stage.name,
            "unfrozen": "all" if stage.unfreeze == "all" else ",".join(stage.unfreeze) or "head",
            "optimizer": stage.optimizer,
            "learning_rate": stage.learning_rate,
            "batch_size": stage.batch_size,
            "epoch": outcome.trained.best_epoch,
        },
        validation_accuracy=best["val_accuracy"],
        validation_deviation=None,
        seconds=outcome.trained.seconds,
        error=None if outcome.trained.best_epoch else _NO_NUMBER,
        validation_score=best[keep],
    )


def _score_test(task: Task, probabilities: np.ndarray, seed: int) -> dict[str, object]:
    rows, classes = task.rows, np.array(task.classes, dtype=object)
    test, known = rows.with_weight(rows.of("test")), rows.of("train", "validation")
    return score(
        rows.y[test].astype(str),
        classes[probabilities.argmax(axis=1)].astype(str),
        classes=task.classes,
        majority=rows.most_frequent(known),
        probabilities=probabilities,
        sample_weight=rows.weights_of(test),
        seed=seed,
    )
