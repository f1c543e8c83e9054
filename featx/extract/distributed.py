"""Extract on a cluster: each shard of the manifest is one task, and one store is made of all."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from featx.cluster import Cluster, KilledError, TaskResult, keep_on_worker, wait_for_lock
from featx.errors import FeatxError, SourceError, StoppedError, StoreError
from featx.extract.merge import merge_shards, was_merging
from featx.extract.options import ExtractOptions
from featx.extract.rejections import count_allowed
from featx.extract.run import Extraction, run_extraction, summarize_finished
from featx.extract.shards import (
    ShardOrigin,
    extract_shard,
    is_finished,
    list_shards,
    read_origin,
    shard_origin,
    take_shard,
)
from featx.images import Manifest
from featx.networks import is_source
from featx.store import PartialStore, Store, check_folder
from featx.system import Shard, hold, is_file, is_lock_file, progress_bar

# The fewest images of a shard.
_FEWEST = 8


# Each worker has several shards, so that all are done at about the same time.
_SHARDS_A_WORKER = 4


_N_SHOWN = 3


# Workers must see the first existing file of this many images.
_N_LOOKED_FOR = 100


# What belongs to a shard: its parts and its log.
_WITH_IT = r"\.parts|\.log|"


# The mark of a run that overwrites a store.
_OVERWRITES = "overwrites"


def extract_on(
    cluster: Cluster,
    manifest: Manifest,
    store_path: str | Path,
    request: ExtractOptions,
    *,
    max_rejected: int | float | None = None,
    overwrite: bool = False,
    log_every: float = 60.0,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Extraction:
    """Extract features by the workers of a cluster; see `featx.extract_features`.

    The manifest is divided into shards, contiguous runs of rows, of which workers make stores; the merge of these
    equals the store of one machine. When this is stopped, finished shards are kept, and the same call resumes. A single
    worker adds to an existing store.

    Parameters
    ----------
    cluster : Cluster
        See `featx.cluster.open_cluster`.
    manifest, store_path, max_rejected, overwrite, log_every, progress, echo
        As of `featx.extract_features`. Every worker must see the store's folder and the images under the same paths.
    request : ExtractOptions

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
        return summarize_finished(store_path)
    if store_path.exists() and not overwrite:
        return _add_on_one_worker(
            cluster, (manifest, store_path, _for_workers(request), max_rejected, log_every), seen, echo
        )
    started_at = time.monotonic()
    with _held_folder(store_path, overwrite) as folder:
        shards = _divide(manifest, store_path, cluster, echo)
        tasks = _make_tasks(manifest, store_path, request, shards, (counts.most, overwrite, log_every))
        _run_shards(cluster, manifest, store_path, shards, tasks, counts, [folder, *seen], progress, echo)
        merged = merge_shards(store_path, overwrite=overwrite, progress=progress)
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started_at
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
    """Counts over all shards; ends a run that has too many images that can't be read."""

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
                f"{self.n_rejected:,} of {self.n_images:,} images can't be read, and `max_rejected` allows "
                f"{self.most:,}. What is done is kept: fix the images, or allow more, and run the same command again"
            )


def _for_workers(request: ExtractOptions) -> ExtractOptions:
    """Return a request that means the same in the folder that workers were started in."""
    weights = Path(request.weights)
    is_there = not is_source(request.weights) and weights.exists()
    return replace(request, weights=str(weights.absolute())) if is_there else request


def _must_see(manifest: Manifest, request: ExtractOptions) -> list[Path]:
    """Return the paths that every worker must see, next to the output's folder."""
    # An image that is missing here, too, is rejected as by one process.
    images = (manifest.root / path for path in manifest.table["path"].iloc[:_N_LOOKED_FOR])
    seen = [*islice(filter(is_file, images), 1)]
    weights = Path(request.weights)
    return [*seen, weights] if not is_source(request.weights) and weights.exists() else seen


def _divide(manifest: Manifest, store_path: Path, cluster: Cluster, echo: Callable[[str], None]) -> list[Shard]:
    """Return the shards that have rows: as many as there are of them already, or several for each worker."""
    n_images = len(manifest)
    counts = sorted({count for _, _, count in list_shards(store_path, _WITH_IT)})
    if len(counts) > 1:
        raise StoreError(
            f"{store_path}: shards of {' and of '.join(map(str, counts))} lie next to it; delete the wrong ones"
        )
    most = max(1, n_images // _FEWEST)
    wanted = max(-(-n_images // cluster.settings.shard_size), min(_SHARDS_A_WORKER * cluster.n_workers, most))
    count = counts[0] if counts else wanted
    if count != wanted:
        echo(
            f"{store_path}: the images stay divided into {count:,} shards, since some of them lie next to it (else "
            f"there would be {wanted:,}); delete the wrong ones"
        )
    shards = [Shard(number, count) for number in range(1, count + 1)]
    return [shard for shard in shards if shard.rows(n_images)[0] < shard.rows(n_images)[1]]


def _make_tasks(
    manifest: Manifest, store_path: Path, request: ExtractOptions, shards: list[Shard], options: tuple
) -> Iterator[tuple[str, tuple]]:
    """Yield every shard's task; its rows are taken as it leaves."""
    origin = shard_origin(manifest, request.record())
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
                    _show(outcome, said, echo)
                    counts.add(outcome.result)
                    n_done += stop - start
                bar.update(stop - start)
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped: the shards of {n_done:,} of {len(manifest):,} images are done and kept next to {store_path}. "
            "Run the same command again to resume"
        ) from error
    if killers:
        raise _blame(manifest, store_path, paths[0], killers)


def _show(answer: TaskResult, said: set[str], echo: Callable[[str], None]) -> None:
    """Show lines of several shards once."""
    for line in answer.lines:
        if line not in said and not line.startswith("resuming"):
            said.add(line)
            echo(line)


def _blame(manifest: Manifest, store_path: Path, folder: Path, killers: list[tuple[Shard, FeatxError]]) -> FeatxError:
    """Name the images of shards whose workers died whenever they were tried: those that are not done."""
    shard, error = killers[0]
    start, stop = shard.rows(len(manifest))
    names = [str(manifest.root / path) for path in manifest.table["path"].iloc[start:stop]]
    done = {row for first, end in PartialStore(shard.path_of(store_path)).ranges() for row in range(first, end)}
    left = [name for row, name in enumerate(names) if row not in done]
    list_path = folder / f"shard-{shard.number:04d}-of-{shard.count:04d}.txt"
    list_path.write_text("\n".join(left) + "\n", encoding="utf-8", errors="surrogateescape")
    others = f"; and {len(killers) - 1:,} further shards" if len(killers) > 1 else ""
    return FeatxError(
        f"shard {shard} of {store_path}: {error}{others}. One of its {len(left):,} undone images may be why, "
        f"{', '.join(left[:_N_SHOWN])}{', ...' if len(left) > _N_SHOWN else ''} (all: {list_path}); or it needs more "
        "memory than a worker has. The other shards are done and kept; fix it and run the same command again"
    )


def _finish_merge(store_path: Path, overwrite: bool, progress: bool, echo: Callable[[str], None]) -> bool:
    """Finish what an earlier call of this kind was stopped in, if that was the merge; return whether it was."""
    folder = _folder_of(store_path)
    if overwrite != (folder / _OVERWRITES).exists() or not was_merging(PartialStore(store_path)):
        return False
    merge_shards(store_path, overwrite=overwrite, progress=progress, echo=echo)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _folder_of(store_path: Path) -> Path:
    return store_path.with_name(f"{store_path.name}.cluster")


def _add_on_one_worker(cluster: Cluster, arguments: tuple, seen: list[Path], echo: Callable[[str], None]) -> Extraction:
    """Have a store that is there added to, as a whole: its layers and images are not divided into shards."""
    store_path = arguments[1]
    echo(f"{store_path}: exists; one worker adds to it")
    _, outcome = next(cluster.run(add_to, [("all", arguments)], paths=[store_path, *seen]))
    if isinstance(outcome, KilledError):
        raise FeatxError(f"{store_path}: {outcome}. What is done is kept; fix it and run the same command again")
    if isinstance(outcome, FeatxError):
        raise outcome
    _show(outcome, set(), echo)
    return outcome.result


@contextlib.contextmanager
def _held_folder(store_path: Path, overwrite: bool) -> Iterator[Path]:
    """Hold the folder `<store>.cluster/`, by which workers know that they see the same files.

    It records whether shards next to the store belong to a run that overwrites it; those of another run are deleted.
    """
    folder = _folder_of(store_path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: this folder can't be made: {error.strerror or error}") from error
    with hold(folder / "lock", f"{store_path}: another featx is making this store on a cluster"):
        note = folder / _OVERWRITES
        if overwrite and not note.exists():
            for path, _, _ in list_shards(store_path, _WITH_IT):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        note.touch() if overwrite else note.unlink(missing_ok=True)
        try:
            yield folder
        finally:
            if folder.is_dir() and all(map(is_lock_file, folder.iterdir())):
                shutil.rmtree(folder, ignore_errors=True)


def make_shard(
    manifest: Manifest,
    store_path: Path,
    request: ExtractOptions,
    shard: Shard,
    origin: ShardOrigin,
    max_rejected: int | None,
    overwrite: bool,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Make one shard on a worker, with the network that it keeps; an existing one is of the same run, and stays."""
    path = shard.path_of(store_path)
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}

    def make() -> Extraction:
        # Asked each time: the worker that was waited for may have finished it.
        if is_finished(path, manifest, shard, origin):
            return summarize_finished(path)
        if _is_of(path, manifest, shard, origin):
            # Rejected images are read again; the others are not computed again.
            marks = {"shard": str(shard), "shard_of": origin.to_json()}
            return run_extraction(manifest, path, request, overwrite=False, progress=False, marks=marks, **options)
        # Weights under the same name may be others by now, and workers outlive a command.
        key = (request, origin.request["weights_sha256"])
        network = keep_on_worker(key, lambda: request.build(echo))
        options_of_shard = {"shard": shard, "origin": origin, "overwrite": overwrite, "network": network}
        return extract_shard(manifest, store_path, request, **options_of_shard, **options)

    return wait_for_lock(make, PartialStore(path).n_done)


def add_to(
    manifest: Manifest,
    store_path: Path,
    request: ExtractOptions,
    max_rejected: int | float | None,
    log_every: float,
    *,
    echo: Callable[[str], None],
) -> Extraction:
    """Add to a store, on a worker."""
    options = {"max_rejected": max_rejected, "log_every": log_every, "echo": echo}
    return wait_for_lock(
        lambda: run_extraction(manifest, store_path, request, overwrite=False, progress=False, **options),
        PartialStore(store_path).n_done,
    )


def _is_of(path: Path, manifest: Manifest, shard: Shard, origin: ShardOrigin) -> bool:
    """Return whether an existing store is this shard, of the same whole."""
    if not path.exists():
        return False
    with Store(path) as store:
        attributes = store.attributes
    if str(manifest.root) != attributes.get("root"):
        return False
    return "shard" in attributes and read_origin(attributes, path) == (shard, origin)
