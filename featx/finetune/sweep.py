"""Fine-tune several recipes on one store, one after the other or each as a task on a cluster."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from featx.cluster import Cluster, wait_for_lock
from featx.errors import FeatxError, StoppedError
from featx.finetune.folder import TrainingFolder
from featx.finetune.tune import fine_tune
from featx.networks import is_source
from featx.networks.recipes import read_recipe, recipe_record, shipped_recipes
from featx.results import Run, put_back, read_run
from featx.store import Store
from featx.system import progress_bar


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

    return tune_on(cluster, store_path, runs, options, progress=progress, echo=echo)


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
        What was there as the task was sent; see `featx.finetune.sweep.digest_run`.
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

    return wait_for_lock(train, folder.n_epochs)


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


_PROTOCOL = {
    **{"seed": 0, "label": "label", "where": None, "sample_weight": None, "split": "split"},
    # Runs that were made before there was a choice do not say it.
    "drop_duplicates": False,
}


_NOTHING = "nothing"


def find_run(
    run_path: Path, store_path: str | Path, recipe: Mapping[str, object], options: Mapping[str, object]
) -> Run | None:
    """Return the run that is there, if it is of this recipe, store and options.

    Parameters
    ----------
    run_path : Path
    store_path : path
    recipe : mapping of str to object
        Its record; see `featx.networks.recipes.recipe_record`.
    options : mapping of str to object
        Of `featx.fine_tune`.

    Raises
    ------
    FeatxError
        If store or run can't be read.
    """
    put_back(run_path)
    if not (run_path / "run.json").exists():
        return None
    with Store(store_path) as store:
        run_id = store.attributes.get("run_id")
    run = read_run(run_path)
    same = run.is_finetuned and run.store.get("run_id") == run_id
    same = same and run.baseline["recipe"] == json.loads(json.dumps(recipe))
    wanted = {name: options.get(name, default) for name, default in _PROTOCOL.items()}
    made = _PROTOCOL | run.protocol
    return run if same and all(made[name] == value for name, value in wanted.items()) else None


def digest_run(run_path: Path) -> str:
    """Return what tells the run that is there from another, made of the same even; a word where there is none."""
    put_back(run_path)
    try:
        return hashlib.sha256((run_path / "run.json").read_bytes()).hexdigest()
    except OSError:
        return _NOTHING


def remember_replaced(run_path: Path) -> str:
    """Return the digest of what was there when a call with `overwrite` began, this one or a stopped one before it.

    It is noted in a file beside the run's place until `forget_replaced`.

    Raises
    ------
    FeatxError
        If the file can't be read or written.
    """
    note = _note(run_path)
    try:
        if note.exists():
            return note.read_text(encoding="ascii", errors="replace").strip()
        temporary = note.with_name(f"{note.name}.tmp")
        temporary.write_text(digest_run(run_path), encoding="ascii")
        temporary.replace(note)
    except OSError as error:
        raise FeatxError(f"{note}: can't be read or written: {error.strerror or error}") from error
    return digest_run(run_path)


def forget_replaced(run_path: Path) -> None:
    """Delete what `remember_replaced` has noted: the next call with `overwrite` replaces what is there then."""
    _note(run_path).unlink(missing_ok=True)


def _note(run_path: Path) -> Path:
    return run_path.with_name(f".{run_path.name}.replaced")
