"""Several recipes on one store: a run each, one after the other or a task each on a cluster."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.finetune import fine_tune
from featx.recipes import read_recipe, recipe_record
from featx.results import Run, read_run
from featx.store import Store

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster

_PROTOCOL = {"seed": 0, "label": "label", "where": None, "sample_weight": None, "split": "split"}


def fine_tune_all(
    store_path: str | Path,
    recipes: Sequence[str | Path],
    output: str | Path,
    *,
    changes: Mapping[str, object] | None = None,
    cluster: "Cluster | None" = None,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
    **options: object,
) -> dict[str, Run]:
    """Fine-tune a store's backbone by each of several recipes.

    A run that is there already, of the same recipe, store and options, stays as it is. Where one recipe fails, the
    others are trained all the same.

    Parameters
    ----------
    store_path : path
    recipes : sequence of str or path
        Each as of `featx.fine_tune`; their names (those of files, without the ending) must differ.
    output : path
        A folder: each recipe's run is in it, under the recipe's name.
    changes : mapping of str to object, optional
        In every recipe.
    cluster : Cluster, optional
        Workers that train a recipe each; default: this process, one after the other.
    overwrite, progress, echo, **options
        As of `featx.fine_tune`.

    Returns
    -------
    dict of str to Run
        By recipe, in their order.

    Raises
    ------
    FeatxError
        If a recipe can't be read, before anything is trained; or with what the first that failed has met.
    """
    output = Path(output)
    by_name = {Path(recipe).stem: recipe for recipe in recipes}
    if len(by_name) < len(recipes):
        names = [Path(recipe).stem for recipe in recipes]
        twice = next(name for name in names if names.count(name) > 1)
        raise FeatxError(f"--recipe {twice}: given twice; each recipe's run is a folder of its name")
    records = {name: recipe_record(read_recipe(recipe, changes=changes)) for name, recipe in by_name.items()}
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(f"{output}: this folder can't be made: {error.strerror or error}") from error
    runs = {} if overwrite else _read_finished(store_path, output, records, options, echo)
    missing = [name for name in by_name if name not in runs]
    options |= {"changes": changes, "overwrite": overwrite}
    failed: dict[str, FeatxError] = {}
    train = _train_here if cluster is None else _train_there
    given = {name: by_name[name] for name in missing}
    for name, run in train(cluster, Path(store_path), given, output, options, progress, echo):
        if isinstance(run, FeatxError):
            failed[name] = run
            echo(f"{name}: {run}")
        else:
            runs[name] = run
    if failed:
        name, error = next(iter(failed.items()))
        others = f" ({len(runs):,} of {len(by_name):,} recipes are done and kept)" if len(by_name) > 1 else ""
        raise FeatxError(f"recipe {name}: {error}{others}") from error
    return {name: runs[name] for name in by_name}


def _read_finished(
    store_path: str | Path,
    output: Path,
    records: Mapping[str, object],
    options: Mapping[str, object],
    echo: Callable[[str], None],
) -> dict[str, Run]:
    """Return the runs that are there; what is there and is something else is left for `fine_tune` to refuse."""
    with Store(store_path) as store:
        run_id = store.attributes.get("run_id")
    wanted = {name: options.get(name, default) for name, default in _PROTOCOL.items()}
    found = {}
    for name, record in records.items():
        if (output / name / "run.json").exists():
            run = read_run(output / name)
            same = run.is_finetuned and run.store.get("run_id") == run_id
            same = same and json.loads(json.dumps(record)) == run.baseline["recipe"]
            if same and all(run.protocol.get(key) == value for key, value in wanted.items()):
                echo(f"{output / name}: there already")
                found[name] = run
    return found


def _train_here(
    cluster: None,
    store_path: Path,
    recipes: Mapping[str, str | Path],
    output: Path,
    options: Mapping[str, object],
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[tuple[str, Run | FeatxError]]:
    from featx.errors import StoppedError

    for name, recipe in recipes.items():
        echo(f"{output / name}: {name}")
        try:
            yield name, fine_tune(store_path, recipe, output / name, progress=progress, echo=echo, **options)
        except StoppedError:
            raise
        except FeatxError as error:
            yield name, error


def _train_there(
    cluster: "Cluster",
    store_path: Path,
    recipes: Mapping[str, str | Path],
    output: Path,
    options: Mapping[str, object],
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[tuple[str, Run | FeatxError]]:
    # Imported here: dask is an extra.
    from featx.cluster_finetune import tune_on

    return tune_on(cluster, store_path, recipes, output, options, progress=progress, echo=echo)
