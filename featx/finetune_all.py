"""Several recipes on one store: a run each, one after the other or a task each on a cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError, StoppedError
from featx.finetune import fine_tune
from featx.finetune_found import digest_run, find_run, forget_replaced, remember_replaced
from featx.recipes import read_recipe, recipe_record
from featx.results import Run
from featx.store import Store

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster


def name_runs(recipes: Sequence[str], output: Path) -> dict[Path, str]:
    """Return where each recipe's run goes: one to the output itself, several into it, each under its recipe's name.

    Raises
    ------
    FeatxError
        If two have the same name.

    Examples
    --------
    >>> [path.as_posix() for path in name_runs(["mame-i", "own/b5.yaml"], Path("runs"))]
    ['runs/mame-i', 'runs/b5']
    """
    if len(recipes) == 1:
        return {output: recipes[0]}
    names = [Path(recipe).stem for recipe in recipes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        which = " and ".join(recipe for recipe in recipes if Path(recipe).stem == twice)
        raise FeatxError(
            f"--recipe: {which} have one name, {twice}, and each recipe's run is a folder of its name: leave one out, "
            "or copy its file to another name"
        )
    return {output / name: recipe for name, recipe in zip(names, recipes, strict=True)}


def fine_tune_all(
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    *,
    changes: Mapping[str, object] | None = None,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
    **options: object,
) -> dict[Path, Run]:
    """Fine-tune a store's backbone by each of several recipes.

    Of several runs, one that is there already, of the same recipe, store and options, stays as it is; with `overwrite`,
    if a call with `overwrite` that was stopped has made it. Where one fails, the others are trained all the same.

    Parameters
    ----------
    store_path : path
    runs : mapping of Path to (str or path)
        Each run's folder, and its recipe, as of `featx.fine_tune`; see `name_runs`.
    changes : mapping of str to object, optional
        In every recipe.
    cluster : Cluster, optional
        Workers that train a recipe each; see `featx.cluster.open_cluster`. Default: this process, one after the other.
    overwrite, progress, echo, **options
        As of `featx.fine_tune`.

    Returns
    -------
    dict of Path to Run
        By their folders, in their order.

    Raises
    ------
    FeatxError
        If a recipe can't be read, before anything is trained; or with what the first that failed has met.
    """
    records = {path: recipe_record(read_recipe(recipe, changes=changes)) for path, recipe in runs.items()}
    # Before any folder is made.
    Store(store_path).close()
    for parent in {path.parent for path in runs}:
        _make(parent)
    done = _find_done(store_path, records, options, echo, overwrite=overwrite) if len(runs) > 1 else {}
    left = {path: recipe for path, recipe in runs.items() if path not in done}
    options |= {"changes": changes, "overwrite": overwrite}
    failed: dict[Path, FeatxError] = {}
    train = _train_here if cluster is None else _train_there
    for path, run in train(cluster, store_path, left, options, progress, echo):
        if isinstance(run, FeatxError):
            failed[path] = run
        else:
            done[path] = run
    if failed:
        path, error = next(iter(failed.items()))
        if len(runs) == 1:
            raise error
        raise FeatxError(f"{path}: {error} ({len(done):,} of {len(runs):,} recipes are done and kept)") from error
    for path in runs:
        forget_replaced(path)
    return {path: done[path] for path in runs}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(f"{folder}: this folder can't be made: {error.strerror or error}") from error


def _find_done(
    store_path: str | Path,
    records: Mapping[Path, Mapping[str, object]],
    options: Mapping[str, object],
    echo: Callable[[str], None],
    *,
    overwrite: bool,
) -> dict[Path, Run]:
    """Return the runs that stay; what is there and is something else is left for `fine_tune` to refuse or replace."""
    found = {}
    for path, record in records.items():
        if overwrite and remember_replaced(path) == digest_run(path):
            continue
        if (run := find_run(path, store_path, record, options)) is not None:
            echo(f"{path}: there already")
            found[path] = run
    return found


def _train_here(
    cluster: None,
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    options: Mapping[str, object],
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[tuple[Path, Run | FeatxError]]:
    for path, recipe in runs.items():
        if len(runs) > 1:
            echo(f"{path}: training")
        try:
            yield path, fine_tune(store_path, recipe, path, progress=progress, echo=echo, **options)
        except StoppedError:
            raise
        except FeatxError as error:
            yield path, error


def _train_there(
    cluster: "Cluster",
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    options: Mapping[str, object],
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[tuple[Path, Run | FeatxError]]:
    # Imported here: dask is an extra.
    from featx.cluster_finetune import tune_on

    return tune_on(cluster, store_path, runs, options, progress=progress, echo=echo)
