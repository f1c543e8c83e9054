"""Run one extraction: start, resume or add; compute what is missing; make one file of everything."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, StoppedError, StoreError
from featx.extract.add import is_same_table, keep_splits, plan_addition, read_base
from featx.extract.options import ExtractOptions
from featx.extract.passes import Passes
from featx.extract.plan import Base, Plan, plan_anew
from featx.extract.rejections import Rejections
from featx.images import Manifest, digest_paths
from featx.inference import PooledNetwork
from featx.results import is_run, read_predictions, read_run
from featx.store import RunFolder, Store, as_text, check_folder


@dataclass(frozen=True)
class Extraction:
    """What an extraction did.

    Attributes
    ----------
    store_path : str
    n_images, n_features, n_rejected : int
        Of the finished store.
    n_identical : int
        Images whose file is, byte for byte, the one of another image: features are computed once and shared.
    n_computed : int
        Images that this run pushed through the network.
    n_resumed : int
        Images that an earlier, interrupted run had pushed through it.
    seconds : float
        From the first image to the finished store.
    images_per_second : float
        Of those that this run computed.
    """

    store_path: str
    n_images: int
    n_features: int
    n_rejected: int
    n_identical: int
    n_computed: int
    n_resumed: int
    seconds: float
    images_per_second: float


def run_extraction(
    manifest: Manifest,
    store_path: Path,
    request: ExtractOptions,
    *,
    max_rejected: int | float | None,
    overwrite: bool,
    log_every: float,
    progress: bool,
    echo: Callable[[str], None],
    network: PooledNetwork | None = None,
    marks: Mapping[str, str] | None = None,
) -> Extraction:
    """Make a store, go on with one, or add to one; see `featx.extract.extract_features`.

    Parameters
    ----------
    manifest, store_path, max_rejected, overwrite, log_every, progress, echo
        As there.
    request : ExtractOptions
    network : PooledNetwork, optional
        One that was built for this very request, to make a store with; default: it is built.
    marks : mapping of str to str, optional
        Further attributes of the store: those of a shard, which may be without any image that can be read.
    """
    rejections = Rejections(manifest, max_rejected)
    check_folder(store_path)
    folder = RunFolder(store_path)
    with folder.lock():
        base = _find_base(folder, overwrite)
        # A shard has the splits of its whole, or none.
        manifest = manifest if base is None or marks else keep_splits(base, manifest, echo)
        plan = plan_anew(request, echo, network) if base is None else plan_addition(request, base, manifest, echo)
        source = _describe_source(manifest)
        if note := note_seen_images(request.weights, manifest.table):
            echo(note)
        if overwrite and _is_left_over(folder, plan, source, manifest):
            return _finish_leftover(folder)
        run_id = folder.begin(plan.settings, source, replaces=overwrite, adds_to=base.run_id if base else None)
        options = {"may_be_empty": marks is not None, "progress": progress, "echo": echo, "log_every": log_every}
        passes = Passes(manifest, folder, plan, rejections=rejections, **options)
        return _finish(passes, {"run_id": run_id, "paths_sha256": source["paths_sha256"], **(marks or {})})


def _find_base(folder: RunFolder, overwrite: bool) -> Base | None:
    """Return the store that is added to, if any."""
    if overwrite or not folder.store_path.exists():
        return None
    base = read_base(folder.store_path)
    if folder.wrote(base.run_id):
        # Its run was stopped between the store's last byte and its own end.
        folder.clear()
    return base


def _is_left_over(folder: RunFolder, plan: Plan, source: dict[str, object], manifest: Manifest) -> bool:
    """Whether the store to overwrite is the very one that this run has made, but for the parts that it left."""
    try:
        with Store(folder.store_path) as store:
            stored, images = store.attributes, store.images.drop(columns="sha256")
    except StoreError:
        # It can't be read, or isn't there: in either case it is made.
        return False
    is_same = stored.get("settings_sha256") == plan.settings.sha256
    is_same = is_same and all(stored.get(name) == source[name] for name in ("root", "paths_sha256"))
    if not is_same or not folder.wrote(stored.get("run_id")):
        return False
    paths = set(images["path"])
    return is_same_table(manifest.table[[as_text(path) in paths for path in manifest.table["path"]]], images)


def _describe_source(manifest: Manifest) -> dict[str, object]:
    """Return what tells one list of images from another."""
    return {"root": str(manifest.root), "n_images": len(manifest), "paths_sha256": digest_paths(manifest)}


def _finish_leftover(folder: RunFolder) -> Extraction:
    """Clean up after a run that was stopped between its store's last byte and its own end."""
    folder.remove()
    return describe_finished(folder.store_path)


def describe_finished(store_path: Path) -> Extraction:
    """Describe a store that is there already, and that nothing was computed for."""
    with Store(store_path) as store:
        return Extraction(
            store_path=str(store_path),
            n_images=len(store),
            n_features=sum(store.n_channels.values()),
            n_rejected=len(store.rejected),
            n_identical=int(store.images["sha256"].duplicated().sum()),
            n_computed=0,
            n_resumed=len(store),
            seconds=0.0,
            images_per_second=0.0,
        )


def _finish(passes: Passes, provenance: dict[str, str]) -> Extraction:
    """Compute what is missing and make the store."""
    begun = time.monotonic()
    try:
        passes.compute()
        passes.publish(provenance)
    except KeyboardInterrupt as error:
        n_done, n_rows = passes.n_done()
        raise StoppedError(
            f"stopped: {n_done:,} of {n_rows:,} images are done and kept in {passes.folder.path}. Run the same "
            "command again to go on"
        ) from error
    except FeatxError:
        # A run that has done nothing stands in no other's way: what it was told may be to take other settings.
        # Where it can't be cleared, that may be what the run has failed with.
        with contextlib.suppress(OSError):
            if passes.folder.path.is_dir() and not passes.folder.holds_parts():
                passes.folder.clear()
        raise
    except OSError as error:
        # What becomes of images and parts has words of its own; this is the folder itself.
        raise StoreError(
            f"{error.filename or passes.folder.path}: can't be read or written ({error.strerror or error}). What is "
            f"done is kept in {passes.folder.path}; mend it and run the same command again"
        ) from error
    rows = passes.rows
    return Extraction(
        store_path=str(passes.folder.store_path),
        n_images=len(rows.rows),
        n_features=sum(passes.plan.n_channels.values()),
        n_rejected=len(rows.rejected),
        n_identical=len(rows.rows) - len(np.unique(rows.sha256)),
        n_computed=passes.n_computed,
        n_resumed=passes.n_resumed,
        seconds=round(time.monotonic() - begun, 3),
        images_per_second=passes.images_per_second,
    )


def note_seen_images(weights: str, table: pd.DataFrame) -> str:
    """Say if test images may be among those that a fine-tuned network was trained or chosen on.

    Parameters
    ----------
    weights : str
        See `build_frozen`.
    table : DataFrame
        Of the images: columns path and split.

    Returns
    -------
    str
        A note, or `` where the run's own test images have all of them, or nothing is fine-tuned.
    """
    test = table["path"][table["split"] == "test"]
    if not is_run(weights) or not len(test):
        return ""
    own = [] if read_run(weights).test is None else read_predictions(Path(weights))["path"]
    n_others = int((~test.isin(own)).sum())
    if not n_others:
        return ""
    return (
        f"{n_others:,} of {len(test):,} test images aren't test images of {weights}: its network may have been trained "
        "on them, and figures on them would be too good. Take the splits that it was fine-tuned on"
    )
