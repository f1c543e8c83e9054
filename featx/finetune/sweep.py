"""Fine-tune several recipes on one store, one after the other or as tasks on a cluster."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featx.cluster import Cluster, wait_for_lock
from featx.errors import FeatxError, StoppedError
from featx.finetune.folder import TrainingFolder
from featx.finetune.options import TuneOptions
from featx.networks import is_source
from featx.networks.recipes import read_recipe, recipe_record, shipped_recipes
from featx.results import Run, put_back, read_run
from featx.store import Store
from featx.system import progress_bar, sha256_of, whole_file


def name_runs(recipes: Sequence[str], output: Path) -> dict[Path, str]:
    """Return the folder of each recipe's run: the output for one recipe, a folder in it per recipe for several.

    Raises
    ------
    FeatxError
        If two recipes have the same name.

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
            f"{which} have the same name, {twice}, which is the name of the run's folder; leave one out, or copy its "
            "file to another name",
            parameter="recipe",
        )
    return {output / name: recipe for name, recipe in zip(names, recipes, strict=True)}


@dataclass(frozen=True)
class Request:
    """The arguments of `featx.fine_tune` that all recipes share."""

    changes: Mapping[str, object] | None
    options: TuneOptions
    overwrite: bool


def fine_tune_all(
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    options: TuneOptions | None = None,
    *,
    changes: Mapping[str, object] | None = None,
    cluster: Cluster | None = None,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> dict[Path, Run]:
    """Fine-tune a store's backbone by each of several recipes.

    If there are several, an existing run of the same recipe, store and options is kept; with `overwrite`, only if an
    interrupted call with `overwrite` has made it. If one recipe fails, the others are trained all the same.

    Parameters
    ----------
    store_path : path
    runs : mapping of Path to (str or path)
        The folder of each run, and its recipe; see `name_runs`.
    options : TuneOptions, optional
        Default: those of `featx.fine_tune`.
    changes : mapping of str to object, optional
        Changes to every recipe; see `featx.fine_tune`.
    cluster : Cluster, optional
        Workers that train one recipe each; see `featx.cluster.open_cluster`. Default: this process trains them all.
    overwrite, progress, echo
        See `featx.fine_tune`.

    Returns
    -------
    dict of Path to Run
        The runs by their folders, in the order of `runs`.

    Raises
    ------
    FeatxError
        If a recipe can't be read, before anything is trained; or the error of the first recipe that failed.
    """
    request = Request(changes, options or TuneOptions(), overwrite)
    records = {path: recipe_record(read_recipe(recipe, changes=changes)) for path, recipe in runs.items()}
    # An error about the store comes before any folder is made.
    Store(store_path).close()
    for parent in {path.parent for path in runs}:
        _make(parent)
    done = dict(_find_done(store_path, records, request, echo)) if len(runs) > 1 else {}
    left = {path: recipe for path, recipe in runs.items() if path not in done}
    failed: dict[Path, FeatxError] = {}
    if cluster is None:
        results = _train_here(store_path, left, request, progress=progress, echo=echo)
    else:
        results = tune_on(cluster, store_path, left, request, progress=progress, echo=echo)
    for path, run in results:
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
    request: Request,
    echo: Callable[[str], None],
) -> Iterator[tuple[Path, Run]]:
    """Yield the existing runs to keep; `fine_tune` refuses or replaces the others."""
    for path, record in records.items():
        if request.overwrite and remember_replaced(path) == digest_run(path):
            continue
        if (run := find_run(path, store_path, record, request.options)) is not None:
            echo(f"{path}: exists")
            yield path, run


def _train_here(
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    request: Request,
    *,
    progress: bool,
    echo: Callable[[str], None],
) -> Iterator[tuple[Path, Run | FeatxError]]:
    for path, recipe in runs.items():
        if len(runs) > 1:
            echo(f"{path}: training")
        try:
            yield path, _fine_tune(store_path, recipe, path, request, progress=progress, echo=echo)
        except StoppedError:
            raise
        except FeatxError as error:
            yield path, error


def _fine_tune(
    store_path: str | Path,
    recipe: str | Path,
    path: Path,
    request: Request,
    *,
    progress: bool = False,
    echo: Callable[[str], None],
) -> Run:
    # Keras takes seconds to load, and one who asks for existing runs needs none.
    from featx.finetune.tune import fine_tune

    arguments = {"changes": request.changes, "overwrite": request.overwrite, "progress": progress, "echo": echo}
    return fine_tune(store_path, recipe, path, **arguments, **request.options.keywords())


def tune_on(
    cluster: Cluster,
    store_path: str | Path,
    runs: Mapping[Path, str | Path],
    request: Request,
    *,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Path, Run | FeatxError]]:
    """Train recipes on workers, and yield each run's folder with the run, or with its error, as they end.

    A recipe whose worker is lost resumes after its last finished epoch on another. Every worker must see the store, the
    recipes' files and the folders of the runs under the same paths.
    """
    store_path = Path(store_path).absolute()
    by_key = {str(path): path for path in runs}
    recipes = {str(path): _absolute(recipe) for path, recipe in runs.items()}
    options, named = _for_workers(request.options)
    request = replace(request, options=options)
    # Existing runs are not of these tasks.
    tasks = [
        (key, (store_path, recipes[key], path.absolute(), request, digest_run(path))) for key, path in by_key.items()
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
            "stopped: finished recipes, and finished epochs of the others, are kept. Run the same command again to "
            "resume"
        ) from error


def tune(
    store_path: Path, recipe: str | Path, run_path: Path, request: Request, before: str, *, echo: Callable[[str], None]
) -> Run:
    """Train a recipe on a worker, unless a worker that was lost has finished the run.

    `before` is the digest of what existed when the task was sent; see `digest_run`.
    """
    folder = TrainingFolder(run_path)

    def train() -> Run:
        if digest_run(run_path) != before:
            record = recipe_record(read_recipe(recipe, changes=request.changes))
            if (run := find_run(run_path, store_path, record, request.options)) is not None:
                if folder.path.exists():
                    # The other worker may still hold it.
                    with folder.lock():
                        folder.remove()
                return run
        return _fine_tune(store_path, recipe, run_path, request, echo=echo)

    return wait_for_lock(train, folder.n_epochs)


def _for_workers(options: TuneOptions) -> tuple[TuneOptions, list[Path]]:
    """Return options with absolute paths, as workers run in another folder, and those of the paths that exist."""
    weights = options.weights
    is_path = weights is not None and not is_source(weights) and Path(weights).exists()
    named = {"root": options.root, "weights": weights if is_path else None}
    paths = {name: Path(value).absolute() for name, value in named.items() if value is not None}
    options = replace(options, **{name: str(path) for name, path in paths.items()})
    # The error about a path that doesn't exist is not about workers.
    return options, [path for path in paths.values() if path.exists()]


def _absolute(recipe: str | Path) -> str | Path:
    """Return the absolute path of a recipe's file, or the name of a recipe that comes with featx."""
    return recipe if recipe in shipped_recipes() else Path(recipe).absolute()


# The options that a run's protocol records.
_PROTOCOL = ("seed", "label", "where", "sample_weight", "split", "drop_duplicates")


_NOTHING = "nothing"


def find_run(run_path: Path, store_path: str | Path, recipe: Mapping[str, object], options: TuneOptions) -> Run | None:
    """Return the existing run if it is of this recipe (its record), this store and these options."""
    put_back(run_path)
    if not (run_path / "run.json").exists():
        return None
    with Store(store_path) as store:
        run_id = store.attributes.get("run_id")
    run = read_run(run_path)
    if not run.is_finetuned or run.store.get("run_id") != run_id:
        return None
    if run.baseline["recipe"] != json.loads(json.dumps(recipe)):
        return None
    return run if all(run.protocol.get(name) == getattr(options, name) for name in _PROTOCOL) else None


def digest_run(run_path: Path) -> str:
    """Return the digest of an existing run's record, which two runs of one request don't share; or a word for none."""
    put_back(run_path)
    try:
        return sha256_of(run_path / "run.json")
    except OSError:
        return _NOTHING


def remember_replaced(run_path: Path) -> str:
    """Return the digest of what existed when a call with `overwrite` began, this one or an interrupted one before it.

    A file next to the run keeps it until `forget_replaced`.
    """
    note = _note(run_path)
    try:
        if note.exists():
            return note.read_text(encoding="ascii", errors="replace").strip()
        with whole_file(note) as file:
            file.write(digest_run(run_path).encode())
    except OSError as error:
        raise FeatxError(f"{note}: can't be read or written: {error.strerror or error}") from error
    return digest_run(run_path)


def forget_replaced(run_path: Path) -> None:
    """Delete the file of `remember_replaced`: the next call with `overwrite` replaces what exists then."""
    _note(run_path).unlink(missing_ok=True)


def _note(run_path: Path) -> Path:
    return run_path.with_name(f".{run_path.name}.replaced")
