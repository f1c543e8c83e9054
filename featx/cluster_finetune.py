"""Fine-tuning on a cluster: a recipe is a task."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from featx.cluster_tasks import Cluster
from featx.cluster_worker import when_free
from featx.errors import FeatxError, StoppedError
from featx.finetune import fine_tune
from featx.progress import progress_bar
from featx.results import Run
from featx.training_folder import TrainingFolder


def tune_on(
    cluster: Cluster,
    store_path: Path,
    recipes: Mapping[str, str | Path],
    output: Path,
    options: Mapping[str, object],
    *,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[str, Run | FeatxError]]:
    """Train a recipe on each worker, and yield each one's name and its run, or what it failed with, as they end.

    A recipe whose worker is lost goes on from its last finished epoch on another.

    Parameters
    ----------
    cluster : Cluster
    store_path : Path
        Every worker must see it, and the folder to write to, under the same path.
    recipes : mapping of str to (str or path)
    output : Path
        A folder that is there: each run is in it, under its name.
    options : mapping of str to object
        Further ones of `featx.fine_tune`.
    progress : bool, default False
    echo : callable, optional
    """
    store_path, output = store_path.absolute(), output.absolute()
    tasks = [(name, (store_path, _absolute(recipe), output / name, dict(options))) for name, recipe in recipes.items()]
    try:
        with progress_bar(len(tasks), wanted=progress, unit="recipe") as bar:
            for name, outcome in cluster.run(tune, tasks, paths=[store_path, output]):
                bar.update()
                if isinstance(outcome, FeatxError):
                    yield name, outcome
                    continue
                for line in outcome.lines:
                    echo(f"{name}: {line}")
                yield name, outcome.result
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped: finished recipes, and finished epochs of the others, are kept in {output}. Run the same command "
            "again to go on"
        ) from error


def tune(
    store_path: Path,
    recipe: str | Path,
    run_path: Path,
    options: Mapping[str, object],
    *,
    echo: Callable[[str], None],
) -> Run:
    """Train a recipe on a worker."""
    return when_free(
        lambda: fine_tune(store_path, recipe, run_path, echo=echo, **options), TrainingFolder(run_path).n_epochs
    )


def _absolute(recipe: str | Path) -> str | Path:
    """Return where a recipe's file is; the name of one that comes with featx stays."""
    return Path(recipe).absolute() if Path(recipe).exists() else recipe
