"""Fine-tune a store's backbone on the store's rows, and score it once on the test rows."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

import featx
from featx.errors import FeatxError, StoppedError
from featx.finetune.batches import RowSource
from featx.finetune.folder import TrainingFolder
from featx.finetune.options import TuneOptions
from featx.finetune.record import Outcome, format_outcome, run_record, write_fine_tuned
from featx.finetune.sources import make_batches, make_network, open_sources, time_images
from featx.finetune.stages import StagePlan, build_stage_model, count_weights, plan_stages
from featx.finetune.task import Task, choose_weights, read_task
from featx.finetune.train import is_compiled, predict_rows, train_stage
from featx.networks import load_keras
from featx.networks.recipes import (
    PREDICTIONS,
    Recipe,
    TunedNetwork,
    build_tuned_network,
    freeze_all_but,
    read_recipe,
    recipe_record,
    split_at,
)
from featx.results import Run, check_free
from featx.store import digest_rows
from featx.system import sha256_of, takes

# The most test images that are timed from file to label.
_N_TIMED = 64


@takes(TuneOptions)
def fine_tune(
    store_path: str | Path,
    recipe: str | Path,
    output: str | Path,
    *,
    changes: Mapping[str, object] | None = None,
    weights: str | None = None,
    root: str | Path | None = None,
    label: str = "label",
    where: str | None = None,
    split: str = "split",
    sample_weight: str | None = None,
    drop_duplicates: bool = False,
    engine: str = "auto",
    cache_limit: int = 20 * 10**9,
    keep_cache: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Run:
    """Fine-tune a store's backbone by a recipe, keep the epoch that is best on validation rows, score it once on test.

    The part of the network that no stage changes runs once: its activations go to a cache, and every epoch trains the
    rest. Stages that augment images, or train everything, take the pixels, decoded once; with a `cache_limit` of 0
    images are read in every epoch. A training that was stopped resumes after its last finished epoch when it is started
    again with the same arguments.

    Parameters
    ----------
    store_path : path
        A store with labels, and train and validation rows.
    recipe : str or path
        Name of a recipe of featx's, or a file; see `featx.networks.recipes.read_recipe`.
    output : path
        Folder of the run.
    changes : mapping of str to object, optional
        Changes to the recipe; see `featx.networks.recipes.read_recipe`.
    {options}
    overwrite : bool, default False
        Replace an existing run, and an unfinished training with other options.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Receives messages for the user, one line each.

    Returns
    -------
    Run
        As written to `output`, with one cell per stage.

    Raises
    ------
    FeatxError
        If recipe, store, files, disk or memory don't allow it, or the loss of the first epoch is no number.
    """
    output = Path(output)
    check_free(output, overwrite=overwrite)
    chosen_recipe = read_recipe(recipe, changes=changes)
    columns = {"label": label, "where": where, "sample_weight": sample_weight, "split": split}
    columns |= {"drop_duplicates": drop_duplicates}
    task = read_task(store_path, root=root, **columns)
    for note in task.notes:
        echo(note)
    weights = choose_weights(store_path, task.settings, weights, echo=echo)
    network = build_tuned_network(
        chosen_recipe,
        task.settings.backbone,
        len(task.classes),
        weights=weights,
        image_size=task.settings.image_size,
        preprocessing=task.settings.preprocessing,
        seed=seed,
        echo=echo,
    )
    plans = plan_stages(network, chosen_recipe, is_cached=cache_limit > 0)
    folder = TrainingFolder(output)
    with folder.lock(), _plain_errors(folder):
        # Another process may have finished it by now.
        check_free(output, overwrite=overwrite)
        folder.begin(_identify(task, chosen_recipe, network, seed), overwrite=overwrite)
        cache = {"engine": engine, "limit": cache_limit, "keep": keep_cache, "progress": progress, "echo": echo}
        started = time.monotonic()
        with open_sources(task, network, plans, **cache) as sources:
            once_seconds = round(time.monotonic() - started, 3)
            options = {"seed": seed, "progress": progress, "echo": echo}
            outcomes = _train_all(network, chosen_recipe, plans, task, sources, folder, **options)
            chosen = _choose(outcomes)
            weights_path = folder.weights_path(chosen)
            network.model.load_weights(weights_path)
            probabilities = _predict_test(network, outcomes[chosen].plan, task, sources)
        run = run_record(
            task,
            chosen_recipe,
            outcomes,
            chosen,
            probabilities,
            protocol={"seed": seed, **columns},
            n_parameters=_count_trained(network, [outcome.plan for outcome in outcomes]),
            predict_seconds=_time_prediction(network, task, engine),
            weights_sha256=sha256_of(weights_path),
            once_seconds=once_seconds,
        )
        files = {"weights_path": weights_path, "overwrite": overwrite}
        write_fine_tuned(output, run, task, outcomes, chosen_recipe, probabilities, **files)
        folder.remove()
    return run


@contextlib.contextmanager
def _plain_errors(folder: TrainingFolder) -> Iterator[None]:
    """Turn a stop, or an error of the disk, into an error that says what is kept and how to resume."""
    try:
        yield
    except KeyboardInterrupt as error:
        n_epochs = folder.n_epochs()
        if not n_epochs:
            raise StoppedError(
                "stopped before the first epoch was done; activations that are computed are kept"
            ) from error
        raise StoppedError(
            f"stopped: {n_epochs:,} epochs are done and kept in {folder.path}. Run the same command again to resume"
        ) from error
    except OSError as error:
        raise FeatxError(
            f"{error.filename or folder.path}: can't be read or written ({error.strerror or error}); finished epochs "
            "are kept. Free some disk space, or fix that file, and run the same command again"
        ) from error


def _train_all(
    network: TunedNetwork,
    recipe: Recipe,
    plans: list[StagePlan],
    task: Task,
    sources: Mapping[str, RowSource],
    folder: TrainingFolder,
    *,
    seed: int,
    progress: bool,
    echo: Callable[[str], None],
) -> list[Outcome]:
    """Train one stage after another, each from the best epoch of the one before; read finished stages."""
    outcomes = []
    for number, plan in enumerate(plans):
        trained = folder.load_stage(number)
        if trained is None:
            if number:
                network.model.load_weights(folder.weights_path(number - 1))
            train, validation = make_batches(task, plan, sources, seed=seed * 1000 + number)
            model = build_stage_model(network, plan, seed=seed)
            if recipe.compile and not is_compiled(model, recipe):
                echo(f"stage {plan.stage.name}: not compiled: XLA doesn't take its augmentation of images")
            trained = train_stage(
                model,
                plan.stage,
                recipe,
                train,
                validation,
                folder.stage(number),
                pretrained=plan.unfrozen,
                progress=progress,
            )
            if not trained.best_epoch and not number:
                raise FeatxError(
                    f"recipe {recipe.name!r}, stage {plan.stage.name!r}: the loss of the first epoch is no number, so "
                    "that there are no weights to keep. Give a smaller `learning_rate` in `changes`"
                )
            folder.finish_stage(number, trained, network.model)
        outcomes.append(Outcome(plan, trained))
        echo(format_outcome(outcomes[-1]))
        if trained.ended == "diverged":
            break
    return outcomes


def _predict_test(network: TunedNetwork, plan: StagePlan, task: Task, sources: Mapping[str, RowSource]) -> np.ndarray:
    """Return the class probabilities of the test rows."""
    model = build_stage_model(network, plan)
    test = task.rows.with_weight(task.rows.of("test"))
    return predict_rows(model, sources[plan.source], test, batch_size=plan.stage.batch_size)


def _time_prediction(network: TunedNetwork, task: Task, engine: str) -> float | None:
    """Return the seconds for a thousand images from files to labels by the whole network; None without test rows."""
    test = task.rows.with_weight(task.rows.of("test"))[:_N_TIMED]
    if not len(test):
        return None
    whole = split_at(network, [PREDICTIONS])
    try:
        runner = make_network(whole, engine=engine)
    except FeatxError:
        # The engine that ran the frozen part may not know the head's layers.
        runner = make_network(whole, engine="keras")
    return round(1000 * time_images(runner, task.images, test), 3)


def _count_trained(network: TunedNetwork, plans: list[StagePlan]) -> int:
    """Count the weights that any stage trains."""
    names = {*network.head_layers, *(name for plan in plans for name in plan.unfrozen)}
    freeze_all_but(network, names)
    return count_weights(network.model.trainable_weights)


def _choose(outcomes: list[Outcome]) -> int:
    """Return the index of the stage with the best epoch, the first of equals."""
    keep = outcomes[-1].plan.stage.keep
    sign = 1 if keep == "val_accuracy" else -1
    usable = [number for number, outcome in enumerate(outcomes) if outcome.trained.best_epoch]
    return max(usable, key=lambda number: (sign * outcomes[number].trained.best[keep], -number))


def _identify(task: Task, recipe: Recipe, network: TunedNetwork, seed: int) -> dict[str, object]:
    """Return what a training depends on, by its names in messages."""
    keras = load_keras()
    return {
        "recipe": recipe_record(recipe),
        "rows": digest_rows(task.rows),
        "images": task.images.digest,
        "weights": network.backbone.weights_sha256,
        "preprocessing": network.backbone.preprocessing,
        "seed": seed,
        "versions": [featx.__version__, keras.__version__, keras.backend.backend()],
    }
