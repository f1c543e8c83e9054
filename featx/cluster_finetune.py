"""Fine-tuning on a cluster: a recipe is a task."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from featx.cluster_tasks import Cluster
from featx.cluster_worker import when_free
from featx.errors import FeatxError, StoppedError
from featx.finetune import fine_tune
from featx.finetune_found import digest_run, find_run
from featx.progress import progress_bar
from featx.recipes import read_recipe, recipe_record, shipped_recipes
from featx.results import Run
from featx.training_folder import TrainingFolder
from featx.weights import is_source


def tune_on(
    cluster: Cluster,
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    options: Mapping[str, object],
    *,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Path, Run | FeatxError]]:
    """Train a recipe on each worker, and yield each one's folder and its run, or what it failed with, as they end.

    A recipe whose worker is lost goes on from its last finished epoch on another.

    Parameters
    ----------
    cluster : Cluster
    store_path : path
        Every worker must see it, recipes' files and the folders to write to under the same paths.
    runs : mapping of Path to (str or path)
        Each run's folder, in one that is there, and its recipe.
    options : mapping of str to object
        Further ones of `featx.fine_tune`.
    progress : bool, default False
    echo : callable, optional
    """
    store_path = Path(store_path).absolute()
    by_key = {str(path): path for path in runs}
    recipes = {str(path): _absolute(recipe) for path, recipe in runs.items()}
    options, named = _for_workers(options)
    # What is there now is none of these tasks' work.
    tasks = [
        (key, (store_path, recipes[key], path.absolute(), options, digest_run(path))) for key, path in by_key.items()
    ]
    seen = [store_path, *(path.absolute().parent for path in runs), *named]
    seen += [recipe for recipe in recipes.values() if isinstance(recipe, Path)]
    try:
        with progress_bar(len(tasks), wanted=progress, unit="recipe") as bar:
            for key, outcome in cluster.run(tune, tasks, paths=list(dict.fromkeys(seen))):
                bar.update()
                if isinstance(outcome, FeatxError):
                    yield by_key[key], outcome
                    continue
                for line in outcome.lines:
                    echo(f"{key}: {line}")
                yield by_key[key], outcome.result
    except KeyboardInterrupt as error:
        raise StoppedError(
            "stopped: finished recipes, and finished epochs of the others, are kept. Run the same command again to go "
            "on"
        ) from error


def tune(
    store_path: Path,
    recipe: str | Path,
    run_path: Path,
    options: Mapping[str, object],
    before: str,
    *,
    echo: Callable[[str], None],
) -> Run:
    """Train a recipe on a worker; a run that another worker has made of this task, and was lost then, is the answer.

    Parameters
    ----------
    store_path, recipe, run_path, options, echo
        See `tune_on`.
    before : str
        What was there as the task was sent; see `featx.finetune_found.digest_run`.
    """
    folder = TrainingFolder(run_path)

    def train() -> Run:
        if digest_run(run_path) != before:
            record = recipe_record(read_recipe(recipe, changes=options.get("changes")))
            if (run := find_run(run_path, store_path, record, options)) is not None:
                if folder.path.exists():
                    # Not before the other one is through.
                    with folder.lock():
                        folder.remove()
                return run
        return fine_tune(store_path, recipe, run_path, echo=echo, **options)

    return when_free(train, folder.n_epochs)


def _for_workers(options: Mapping[str, object]) -> tuple[dict[str, object], list[Path]]:
    """Return options that mean the same in the folder that workers were started in, and the paths in them."""
    found = {"root": options.get("root"), "weights": options.get("weights")}
    if found["weights"] is not None and (is_source(found["weights"]) or not Path(found["weights"]).exists()):
        found["weights"] = None
    paths = {name: Path(value).absolute() for name, value in found.items() if value is not None}
    # What isn't here either is no matter of workers.
    there = [path for path in paths.values() if path.exists()]
    return {**options, **{name: str(path) for name, path in paths.items()}}, there


def _absolute(recipe: str | Path) -> str | Path:
    """Return where a recipe's file is; the name of one that comes with featx stays."""
    return recipe if recipe in shipped_recipes() else Path(recipe).absolute()
