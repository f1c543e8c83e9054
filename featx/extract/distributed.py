"""Extract on a cluster: each shard of the manifest is one task, and one store is made of all."""

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from featx.cluster import Cluster, KilledError, TaskResult, keep_on_worker, wait_for_lock
from featx.errors import FeatxError, SourceError, StoppedError, StoreError
from featx.extract.merge import merge_shards, was_merging
from featx.extract.plan import Request
from featx.extract.rejections import count_allowed
from featx.extract.run import Extraction, describe_finished, run_extraction
from featx.extract.shards import ShardOrigin, describe_origin, extract_shard, is_finished, read_origin, take_shard
from featx.images import Manifest
from featx.networks import is_source
from featx.store import RunFolder, Store, check_folder
from featx.system import Shard, hold, is_file, is_lock_file, progress_bar

# Where images are few, still so many of them make a shard.
_FEWEST = 8


# Each worker has several shards, so that all are done at about the same time.
_SHARDS_A_WORKER = 4


_N_SHOWN = 3


# Of so many images, the first that is there is what workers must see.
_N_LOOKED_FOR = 100


# The mark of a run that overwrites a store.
_BEGUN = "overwrites"


def extract_on(
    cluster: Cluster,
    manifest: Manifest,
    store_path: str | Path,
    request: Request,
    *,
    max_rejected: int | float | None = None,
    overwrite: bool = False,
    log_every: float = 60.0,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Extraction:
    """Extract features by the workers of a cluster; see `featx.extract_features`.

    The manifest is divided into shards, contiguous runs of rows, that workers make stores of; these are merged into one
    that is equal to the store of one machine. Shards that are done are kept when this is stopped, and the same call
    goes on. A store that is there already is added to by a single worker.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.open_cluster`.
    manifest, store_path, max_rejected, overwrite, log_every, progress, echo
        As of `featx.extract_features`. Every worker must see the store's folder and the images under the same paths.
    request : Request

    Raises
    ------
    FeatxError
        As `featx.extract_features`; if a worker doesn't see the files; or if a shard's worker dies whenever it is
        tried, once all others are done.
    """
    store_path = Path(store_path).absolute()
    check_folder(store_path)
    counts = _Counts(manifest, max_rejected)
    seen = _must_see(manifest, request)
    if _finish_merge(store_path, overwrite, progress, echo) and overwrite:
        return describe_finished(store_path)
    if store_path.exists() and not overwrite:
        return _add_on_one_worker(
            cluster, (manifest, store_path, _for_workers(request), max_rejected, log_every), seen, echo
        )
    begun = time.monotonic()
    with _begun(store_path, overwrite) as folder:
        shards = _divide(manifest, store_path, cluster, echo)
        tasks = _make_tasks(manifest, store_path, request, shards, (counts.most, overwrite, log_every))
        _run_shards(cluster, manifest, store_path, shards, tasks, counts, [folder, *seen], progress, echo)
        merged = merge_shards(store_path, overwrite=overwrite, progress=progress)
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - begun
    return Extraction(
        store_path=str(store_path),
        n_images=merged.n_images,
        n_features=merged.n_features,
        n_rejected=merged.n_rejected,
        n_identical=merged.n_identical,
        n_computed=counts.n_computed,
        n_resumed=counts.n_resumed,
        seconds=round(seconds, 3),
        images_per_second=round(counts.n_computed / max(seconds, 1e-9), 2),
    )


class _Counts:
    """What all shards have come to so far; ends a run that has too many images that can't be read."""

    def __init__(self, manifest: Manifest, max_rejected: int | float | None) -> None:
        self.n_computed = self.n_resumed = self.n_rejected = 0
        self.n_images = len(manifest)
        self.most = count_allowed(max_rejected, len(manifest))

    def add(self, done: Extraction) -> None:
        self.n_computed += done.n_computed
        self.n_resumed += done.n_resumed
        self.n_rejected += done.n_rejected
        if self.most is not None and self.n_rejected > self.most:
            raise SourceError(
                f"{self.n_rejected:,} of {self.n_images:,} images can't be read, and --max-rejected allows "
                f"{self.most:,}. What is done is kept: mend the images, or allow more, and run the same command again"
            )


def _for_workers(request: Request) -> Request:
    """Return a request that means the same in the folder that workers were started in."""
    weights = Path(request.weights)
    is_there = not is_source(request.weights) and weights.exists()
    return replace(request, weights=str(weights.absolute())) if is_there else request


def _must_see(manifest: Manifest, request: Request) -> list[Path]:
    """Return what every worker must see beside the output's folder."""
    # An image that isn't here either is rejected as by one process, and tells nothing of workers.
    images = (manifest.root / path for path in manifest.table["path"].iloc[:_N_LOOKED_FOR])
    seen = [*islice(filter(is_file, images), 1)]
    weights = Path(request.weights)
    return [*seen, weights] if not is_source(request.weights) and weights.exists() else seen


def _divide(manifest: Manifest, store_path: Path, cluster: Cluster, echo: Callable[[str], None]) -> list[Shard]:
    """Return the shards that have rows: as many as there are of them already, or several for each worker."""
    n_images = len(manifest)
    counts = sorted({count for _, count in _find_shards(store_path)})
    if len(counts) > 1:
        raise StoreError(
            f"{store_path}: shards of {' and of '.join(map(str, counts))} lie beside it; delete those that aren't meant"
        )
    most = max(1, n_images // _FEWEST)
    wanted = max(-(-n_images // cluster.settings.shard_size), min(_SHARDS_A_WORKER * cluster.n_workers, most))
    count = counts[0] if counts else wanted
    if count != wanted:
        echo(
            f"{store_path}: the images stay divided into {count:,} shards, since some of them lie beside it (else they "
            f"would be {wanted:,}); delete those that aren't meant"
        )
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return [shard for shard in shards if shard.rows(n_images)[0] < shard.rows(n_images)[1]]


def _make_tasks(
    manifest: Manifest, store_path: Path, request: Request, shards: list[Shard], options: tuple
) -> Iterator[tuple[str, tuple]]:
    """Yield every shard's task; its rows are taken as it leaves."""
    origin = describe_origin(manifest, asdict(request))
    for shard in shards:
        yield str(shard), (take_shard(manifest, shard), store_path, _for_workers(request), shard, origin, *options)


def _run_shards(
    cluster: Cluster,
    manifest: Manifest,
    store_path: Path,
    shards: list[Shard],
    tasks: Iterator[tuple[str, tuple]],
    counts: _Counts,
    paths: list[Path],
    progress: bool,
    echo: Callable[[str], None],
) -> None:
    """Have every shard made, or say which can't be."""
    by_key = {str(shard): shard for shard in shards}
    killers: list[tuple[Shard, FeatxError]] = []
    n_done = 0
    said: set[str] = set()
    try:
        with progress_bar(len(manifest), wanted=progress) as bar:
            for key, outcome in cluster.run(make_shard, tasks, paths=paths):
                start, stop = by_key[key].rows(len(manifest))
                if isinstance(outcome, KilledError):
                    killers.append((by_key[key], outcome))
                elif isinstance(outcome, FeatxError):
                    raise outcome
                else:
                    _tell(outcome, said, echo)
                    counts.add(outcome.result)
                    n_done += stop - start
                bar.update(stop - start)
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped: the shards of {n_done:,} of {len(manifest):,} images are done and kept beside {store_path}. Run "
            "the same command again to go on"
        ) from error
    if killers:
        raise _blame(manifest, store_path, paths[0], killers)


def _tell(answer: TaskResult, said: set[str], echo: Callable[[str], None]) -> None:
    """Say once what all shards have to say."""
    for line in answer.lines:
        if line not in said and not line.startswith("going on"):
            said.add(line)
            echo(line)


def _blame(manifest: Manifest, store_path: Path, folder: Path, killers: list[tuple[Shard, FeatxError]]) -> FeatxError:
    """Name the images of shards whose workers died whenever they were tried: those that are not done."""
    shard, error = killers[0]
    start, stop = shard.rows(len(manifest))
    names = [str(manifest.root / path) for path in manifest.table["path"].iloc[start:stop]]
    done = {row for first, end in RunFolder(shard.path_of(store_path)).ranges() for row in range(first, end)}
    left = [name for row, name in enumerate(names) if row not in done]
    list_path = folder / f"shard-{shard.number:04d}-of-{shard.count:04d}.txt"
    list_path.write_text("\n".join(left) + "\n", encoding="utf-8", errors="surrogateescape")
    others = f"; and {len(killers) - 1:,} further shards" if len(killers) > 1 else ""
    return FeatxError(
        f"shard {shard} of {store_path}: {error}{others}. One of its {len(left):,} undone images may be why, "
        f"{', '.join(left[:_N_SHOWN])}{', ...' if len(left) > _N_SHOWN else ''} (all: {list_path}); or it needs more "
        "memory than a worker has. The other shards are done and kept; mend it and run the same command again"
    )


def _finish_merge(store_path: Path, overwrite: bool, progress: bool, echo: Callable[[str], None]) -> bool:
    """Finish what an earlier call of this kind was stopped in, if that was the merge; return whether it was."""
    folder = _folder_of(store_path)
    if overwrite != (folder / _BEGUN).exists() or not was_merging(RunFolder(store_path)):
        return False
    merge_shards(store_path, overwrite=overwrite, progress=progress, echo=echo)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _folder_of(store_path: Path) -> Path:
    return store_path.with_name(f"{store_path.name}.cluster")


def _add_on_one_worker(cluster: Cluster, arguments: tuple, seen: list[Path], echo: Callable[[str], None]) -> Extraction:
    """Have a store that is there added to, as a whole: its layers and images are not divided into shards."""
    store_path = arguments[1]
    echo(f"{store_path}: is there and is added to, by one worker")
    _, outcome = next(cluster.run(add_to, [("all", arguments)], paths=[store_path, *seen]))
    if isinstance(outcome, KilledError):
        raise FeatxError(f"{store_path}: {outcome}. What is done is kept; mend it and run the same command again")
    if isinstance(outcome, FeatxError):
        raise outcome
    _tell(outcome, set(), echo)
    return outcome.result


@contextlib.contextmanager
def _begun(store_path: Path, overwrite: bool) -> Iterator[Path]:
    """Hold the folder `<store>.cluster/`, by which workers know that they see the same files.

    It remembers whether shards beside the store are of a run that overwrites it: those of another are deleted.
    """
    folder = _folder_of(store_path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: this folder can't be made: {error.strerror or error}") from error
    with hold(folder / "lock", f"{store_path}: another featx is making this store on a cluster"):
        note = folder / _BEGUN
        if overwrite and not note.exists():
            for path, _ in _find_shards(store_path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        note.touch() if overwrite else note.unlink(missing_ok=True)
        try:
            yield folder
        finally:
            if folder.is_dir() and all(map(is_lock_file, folder.iterdir())):
                shutil.rmtree(folder, ignore_errors=True)


def _find_shards(store_path: Path) -> list[tuple[Path, int]]:
    """Return the shards beside a store's place, finished or not, with their logs, and of how many each is."""
    name = re.compile(
        rf"{re.escape(store_path.stem)}\.shard-\d+-of-(\d+){re.escape(store_path.suffix)}(\.parts|\.log)?"
    )
    found = [(path, name.fullmatch(path.name)) for path in sorted(store_path.parent.iterdir())]
    return [(path, int(match[1])) for path, match in found if match]


def make_shard(
    manifest: Manifest,
    store_path: Path,
    request: Request,
    shard: Shard,
    origin: ShardOrigin,
    max_rejected: int | None,
    overwrite: bool,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Make one shard's store on a worker, by the network that it keeps.

    Parameters
    ----------
    manifest : Manifest
        Of the shard's rows.
    store_path, request, shard, origin, max_rejected, overwrite, log_every, echo
        See `featx.extract.shards.extract_shard`. A shard that is there was made by the same run, and stays.
    """
    path = shard.path_of(store_path)
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}

    def make() -> Extraction:
        # Asked each time: the worker that was waited for may have finished it.
        if is_finished(path, manifest, shard, origin):
            return describe_finished(path)
        if _is_of(path, manifest, shard, origin):
            # Of its images that can't be read, some may be mended; the others are not computed again.
            marks = {"shard": str(shard), "shard_of": origin.to_json()}
            return run_extraction(manifest, path, request, overwrite=False, progress=False, marks=marks, **options)
        # Weights under the same name may be others by now, and workers outlive a command.
        key = (request, origin.request["weights_sha256"])
        network = keep_on_worker(key, lambda: request.build(echo))
        options_of_shard = {"shard": shard, "origin": origin, "overwrite": overwrite, "network": network}
        return extract_shard(manifest, store_path, request, **options_of_shard, **options)

    return wait_for_lock(make, RunFolder(path).n_done)


def add_to(
    manifest: Manifest,
    store_path: Path,
    request: Request,
    max_rejected: int | float | None,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Add to a store, on a worker."""
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}
    return wait_for_lock(
        lambda: run_extraction(manifest, store_path, request, overwrite=False, progress=False, **options),
        RunFolder(store_path).n_done,
    )


def _is_of(path: Path, manifest: Manifest, shard: Shard, origin: ShardOrigin) -> bool:
    """Whether a store that is there is this shard, of the same whole."""
    if not path.exists():
        return False
    with Store(path) as store:
        attributes = store.attributes
    if str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)
