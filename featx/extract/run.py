"""Run one extraction: start, resume or add; compute what is missing; write one file."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featx.errors import FeatxError, SourceError, StoppedError, StoreError
from featx.extract.add import describe_changes, is_same_table, keep_splits, plan_addition, read_existing
from featx.extract.options import ExtractOptions
from featx.extract.plan import ExistingStore, LazyNetwork, Plan, plan_new
from featx.extract.rejections import Rejections, find_changed, none_readable
from featx.images import Manifest, PictureNotes, digest_paths
from featx.inference import Network, PooledNetwork, engines_record, find_gaps, run_network
from featx.results import is_run, read_predictions, read_run
from featx.store import (
    DigestIndex,
    Outline,
    PartFiles,
    PartialStore,
    SplitFeatures,
    Store,
    add_run,
    as_text,
    check_folder,
    merge_rows,
    outline,
    part_features,
    write_store,
)
from featx.system import RunLog, Tally, format_command, progress_bar


@dataclass(frozen=True)
class Extraction:
    """Result of an extraction.

    Attributes
    ----------
    store_path : str
    n_images, n_features, n_rejected : int
        Numbers of the finished store.
    n_identical : int
        Images whose file is, byte for byte, the one of another image: features are computed once and shared.
    n_computed : int
        Images that went through the network in this run.
    n_resumed : int
        Images that went through it in an earlier, interrupted run.
    seconds : float
        From the first image to the finished store.
    images_per_second : float
        Speed for the images that this run computed.
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


class ExtractionRun:
    """Computes what a plan asks for, and writes the store.

    The first pass reads every image of the manifest; files whose digest is known, from the existing store or from
    another row, are not decoded. The second pass is for images of the existing store, and only for its missing layers.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: PartialStore,
        plan: Plan,
        *,
        rejections: Rejections,
        may_be_empty: bool,
        progress: bool,
        echo: Callable[[str], None],
        log_every: float,
    ) -> None:
        self.manifest = manifest
        self.folder = folder
        self.plan = plan
        self.rows: Outline
        self.n_computed = self.n_resumed = 0
        self.seconds = 0.0
        self._rejections = rejections
        self._may_be_empty = may_be_empty
        self._progress = progress
        self._log_every = log_every
        self._echo = echo
        self._further_files = folder.further("further")
        self._further: Outline | None = None
        self._now: tuple[PartFiles, int] = (folder, len(manifest))
        self._engines: list = []
        base = plan.base
        self._in_base = DigestIndex(base.sha256 if base else np.empty(0, "S64"))

    def run(self, provenance: dict[str, str]) -> Extraction:
        """Compute what is missing and write the store, with further attributes; nothing, if nothing is new."""
        started_at = time.monotonic()
        try:
            self.compute()
            self.publish(provenance)
        except KeyboardInterrupt as error:
            n_done, n_rows = self.n_done()
            raise StoppedError(
                f"stopped: {n_done:,} of {n_rows:,} images are done and kept in {self.folder.path}. Run the same "
                "command again to resume"
            ) from error
        except FeatxError:
            # A run that has done nothing must not block another one with other settings. If the folder can't be
            # cleared, that may be the error of the run.
            with contextlib.suppress(OSError):
                if self.folder.path.is_dir() and not self.folder.holds_parts():
                    self.folder.clear()
            raise
        except OSError as error:
            # Errors of images and parts have their own messages; this is the folder itself.
            raise StoreError(
                f"{error.filename or self.folder.path}: can't be read or written ({error.strerror or error}). What is "
                f"done is kept in {self.folder.path}; fix it and run the same command again"
            ) from error
        rows = self.rows
        return Extraction(
            store_path=str(self.folder.store_path),
            n_images=len(rows.rows),
            n_features=sum(self.plan.n_channels.values()),
            n_rejected=len(rows.rejected),
            n_identical=len(rows.rows) - len(np.unique(rows.sha256)),
            n_computed=self.n_computed,
            n_resumed=self.n_resumed,
            seconds=round(time.monotonic() - started_at, 3),
            images_per_second=self.images_per_second,
        )

    @property
    def images_per_second(self) -> float:
        """Of those that went through the network in this run."""
        return round(self.n_computed / max(self.seconds, 1e-9), 2)

    def compute(self) -> None:
        """Compute what is missing; a run that is resumed keeps its parts."""
        self.rows = self._compute_rows()
        self._check_readable()
        if self.plan.further is not None:
            self._further = self._compute_further()

    def n_done(self) -> tuple[int, int]:
        """Return how many images of the present pass are done, and how many it has."""
        files, n_rows = self._now
        return min(files.n_done(), n_rows), n_rows

    def publish(self, provenance: dict[str, str]) -> None:
        """Write one file, move it into place, delete the parts; do nothing, if nothing is new."""
        plan, base = self.plan, self.plan.base
        if base is not None:
            table = self.manifest.table.iloc[self.rows.rows].assign(sha256=self.rows.sha256.astype(str))
            if self._is_complete(table, provenance):
                self._echo(f"{base.path}: nothing is missing, and nothing was computed")
                self.folder.remove()
                return
            changes = describe_changes(base, plan, table) or ["another order, folder or list of rejected files"]
            self._echo(f"{base.path}: {', '.join(changes)}")
        whole_path = self.folder.path / "whole.h5.tmp"
        with ExitStack() as stack:
            store = stack.enter_context(Store(base.path)) if base is not None else None
            write_store(
                whole_path,
                settings=plan.settings,
                table=self.manifest.table,
                root=self.manifest.root,
                parts=merge_rows(self.rows, self._sources(store), plan.n_channels),
                n_channels=plan.n_channels,
                provenance=provenance | self._describe_run(),
            )
        self.folder.publish(whole_path)
        self.folder.remove()

    def _compute_rows(self) -> Outline:
        """Run the first pass until every row is there, with its features or those of an identical file."""
        is_first = True
        notes = PictureNotes(self.manifest.table["path"].to_numpy())
        while True:
            ranges = self.folder.read(self.plan.n_channels)
            outlined = outline(self.folder, ranges)
            if is_first:
                if self._try_again(outlined.rejected):
                    ranges = self.folder.read(self.plan.n_channels)
                    outlined = outline(self.folder, ranges)
                self.n_resumed = len(outlined.own_sha256)
                self._begin(sum(stop - start for start, stop in ranges))
                is_first = False
            self._rejections.begin(outlined.rejected)
            gaps = find_gaps(ranges, len(self.manifest))
            if not gaps:
                # A damaged part was computed again after its images had changed: rows that shared them have none.
                without = (self._own_indices(outlined) < 0) & (self._in_base.find(outlined.sha256) < 0)
                if not without.any():
                    for line in notes.lines():
                        self._echo(line)
                    return outlined
                self.folder.drop(outlined.rows[without])
                continue
            base = self.plan.base
            known = {digest.decode() for digest in outlined.own_sha256.tolist()}
            known |= set(base.images["sha256"]) if base is not None else set()
            first_pass = {"known": known, "reject": self._rejections.add, "note": notes.add}
            self._run(self.folder, self.plan.network, gaps, len(self.manifest), first_pass)

    def _try_again(self, rejected: dict[int, str]) -> bool:
        """Read what an earlier run rejected; return whether rows are to be done again."""
        read = self.plan.request.reader(frozenset())
        changed = find_changed(self.manifest, rejected, read, progress=self._progress, echo=self._echo)
        self.folder.forget(changed)
        return bool(changed)

    def _begin(self, n_done: int) -> None:
        if n_done:
            self._echo(f"resuming: {n_done:,} of {len(self.manifest):,} images were done before")
        self._check_disk(n_done)

    def _compute_further(self) -> Outline:
        """Run the second pass: each file of the store's once, for the missing layers."""
        files, network = self._further_files, self.plan.further
        rows = self.rows
        is_stored = np.flatnonzero(self._base_indices() >= 0)
        _, first = np.unique(rows.sha256[is_stored], return_index=True)
        chosen = is_stored[first]
        mask = np.zeros(len(self.manifest), dtype=bool)
        mask[rows.rows[chosen]] = True
        ranges = files.read(network.n_channels, mask)
        self.n_resumed += len(outline(files, ranges).own_sha256)
        while gaps := find_gaps(ranges, len(self.manifest)):
            self._run(files, network, gaps, int(mask.sum()), {"wanted": mask})
            ranges = files.read(network.n_channels, mask)
        outlined = outline(files, ranges)
        digests = dict(zip(outlined.rows.tolist(), outlined.sha256.tolist(), strict=True))
        expected = dict(zip(rows.rows[chosen].tolist(), rows.sha256[chosen].tolist(), strict=True))
        self._check_unchanged([row for row in expected if digests.get(row) != expected[row]], outlined.rejected)
        return outlined

    def _run(
        self,
        files: PartFiles,
        network: Network,
        gaps: Iterable[tuple[int, int]],
        n_rows: int,
        options: dict[str, Any],
    ) -> None:
        """Run the network for rows that are missing in some part files; options: see `compute_parts`."""
        started_at = time.monotonic()
        self._now = (files, n_rows)
        read = self.plan.request.reader(options.get("known", frozenset()))
        tally = Tally(n_done=min(files.n_done(), n_rows))
        with (
            progress_bar(n_rows, initial=tally.n_done, wanted=self._progress) as bar,
            RunLog(self.folder.log_path, format_command(), n_rows, tally, every=self._log_every),
        ):
            self.n_computed += run_network(
                self.manifest, files, network, read, gaps, bar.update, tally=tally, largest=self.plan.largest, **options
            )
        self.seconds += time.monotonic() - started_at
        network = network.release() if isinstance(network, LazyNetwork) else network
        self._engines += [network.engine] if network is not None else []

    def _own_indices(self, outlined: Outline) -> np.ndarray:
        """Return the index of each row's features in the first pass, or -1."""
        return DigestIndex(outlined.own_sha256).find(outlined.sha256)

    def _base_indices(self) -> np.ndarray:
        """Return the index of each row's features in the existing store, or -1 where the first pass has them."""
        return np.where(self._own_indices(self.rows) < 0, self._in_base.find(self.rows.sha256), -1)

    def _sources(self, store: Store | None) -> list[tuple[np.ndarray, Store | SplitFeatures]]:
        sources: list = [(self._own_indices(self.rows), part_features(self.folder, self.rows))]
        if store is not None:
            sources.append((self._base_indices(), store))
        if self._further is not None:
            indices = DigestIndex(self._further.own_sha256).find(self.rows.sha256)
            indices = np.where(self._base_indices() < 0, -1, indices)
            sources.append((indices, part_features(self._further_files, self._further)))
        return sources

    def _is_complete(self, table: pd.DataFrame, provenance: Mapping[str, str]) -> bool:
        """Return whether the existing store has everything already."""
        base = self.plan.base
        paths = map(as_text, self.manifest.table["path"].iloc[list(self.rows.rejected)])
        rejected = pd.DataFrame({"path": list(paths), "reason": list(self.rows.rejected.values())}, dtype=object)
        return (
            self.plan.further is None
            and all(base.attributes.get(name) == provenance.get(name) for name in ("shard", "shard_of"))
            and str(self.manifest.root) == base.attributes.get("root")
            and is_same_table(table, base.images)
            and is_same_table(rejected, base.rejected)
        )

    def _describe_run(self) -> dict[str, object]:
        """Return the attributes that describe this run."""
        stored = self.plan.base.attributes if self.plan.base is not None else {}
        # A new store's network is there, even where all that was left to do was to make one file of its parts.
        engines = self._engines if self.plan.base is not None else [self.plan.network.engine]
        speed = {"images_per_second": self.images_per_second} if self.n_computed else {}
        history = add_run(
            stored,
            ", ".join(dict.fromkeys(engine.device for engine in engines)),
            self.folder.started(),
            n_images=len(self.rows.rows),
            n_rejected=len(self.rows.rejected),
            n_computed=self.n_computed,
            n_resumed=self.n_resumed,
            **speed,
        )
        return {
            **engines_record(engines, stored),
            # A run that computed nothing keeps the speed of the store that it adds to.
            **{name: value for name, value in (stored | speed).items() if name == "images_per_second"},
            "batch_size": self.plan.network.batch_size,
            "history": history,
        }

    def _check_disk(self, n_done: int) -> None:
        """Raise an error if the disk is too small for the missing parts and the store."""
        plan, base = self.plan, self.plan.base
        n_features = sum(plan.n_channels.values())
        n_missing = len(self.manifest) - n_done
        needed = len(self.manifest) * n_features * np.dtype(plan.settings.store_dtype).itemsize
        if base is not None:
            n_new = int((~self.manifest.table["path"].isin(set(base.images["path"]))).sum())
            n_missing = max(0, n_new - self.n_resumed)
        if plan.further is not None:
            n_further = max(0, len(base.images) - self._further_files.n_done())
            needed += n_further * sum(plan.further.n_channels.values()) * 4
        needed = int((needed + n_missing * n_features * 4) * 1.02) + 2**20
        free = shutil.disk_usage(self.folder.path).free
        if needed > free:
            raise StoreError(
                f"{self.folder.store_path}: {needed / 1e6:,.0f} MB needed (parts and store), {free / 1e6:,.0f} MB "
                "free. Free some disk, write to another, or choose fewer `layers`"
            )

    def _check_readable(self) -> None:
        """Raise an error if no image can be read, or an image of the existing store can't be read any more."""
        base, paths = self.plan.base, self.manifest.table["path"]
        rejected = self.rows.rejected
        if not len(self.rows.rows) and base is None and not self._may_be_empty:
            row, reason = next(iter(rejected.items()))
            self.folder.remove()
            raise none_readable(f"{len(self.manifest):,} images", self.manifest.root / paths.iloc[row], reason)
        stored = set(base.images["path"]) if base is not None else set()
        lost = [row for row in rejected if paths.iloc[row] in stored]
        if lost:
            self.folder.drop(lost)
            keep = f", or delete {self.folder.path} to do without" if self.folder.holds_parts() else ""
            raise SourceError(
                f"{len(lost):,} images of {base.path} can't be read any more; the first, "
                f"{self.manifest.root / paths.iloc[lost[0]]}: {rejected[lost[0]]}. Their features would be lost, so "
                f"that the store stays as it is: fix them and run the same command again{keep}"
            )

    def _check_unchanged(self, rows: list[int], reasons: dict[int, str]) -> None:
        """Raise an error for files that had changed when the second pass read them; both passes compute them again."""
        if not rows:
            return
        self.folder.drop(rows)
        self._further_files.drop(rows)
        path = self.manifest.root / self.manifest.table["path"].iloc[rows[0]]
        raise SourceError(
            f"{path}: {reasons.get(rows[0], 'changed')} while featx was at work ({len(rows):,} such files). Run the "
            "same command again"
        )


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
    """Make a store, resume one, or add to one; marks are further attributes, those of a shard, which may be empty."""
    rejections = Rejections(manifest, max_rejected)
    check_folder(store_path)
    folder = PartialStore(store_path)
    with folder.lock():
        base = _find_base(folder, overwrite)
        # A shard has the splits of its whole, or none.
        manifest = manifest if base is None or marks else keep_splits(base, manifest, echo)
        plan = plan_new(request, echo, network) if base is None else plan_addition(request, base, manifest, echo)
        source = _describe_source(manifest)
        if note := note_seen_images(request.weights, manifest.table):
            echo(note)
        if overwrite and _is_left_over(folder, plan, source, manifest):
            return _finish_leftover(folder)
        run_id = folder.begin(plan.settings, source, replaces=overwrite, adds_to=base.run_id if base else None)
        options = {"may_be_empty": marks is not None, "progress": progress, "echo": echo, "log_every": log_every}
        run = ExtractionRun(manifest, folder, plan, rejections=rejections, **options)
        return run.run({"run_id": run_id, "paths_sha256": source["paths_sha256"], **(marks or {})})


def _find_base(folder: PartialStore, overwrite: bool) -> ExistingStore | None:
    """Return the store that is added to, if any."""
    if overwrite or not folder.store_path.exists():
        return None
    base = read_existing(folder.store_path)
    if folder.wrote(base.run_id):
        # Its run was stopped between the store's last byte and its own end.
        folder.clear()
    return base


def _is_left_over(folder: PartialStore, plan: Plan, source: dict[str, object], manifest: Manifest) -> bool:
    """Return whether the store to overwrite is the one that this run has made, so that only its parts are left."""
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
    """Return what distinguishes lists of images."""
    return {"root": str(manifest.root), "n_images": len(manifest), "paths_sha256": digest_paths(manifest)}


def _finish_leftover(folder: PartialStore) -> Extraction:
    """Clean up after a run that was stopped between its store's last byte and its own end."""
    folder.remove()
    return summarize_finished(folder.store_path)


def summarize_finished(store_path: Path) -> Extraction:
    """Describe an existing store for which nothing was computed."""
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


def note_seen_images(weights: str, table: pd.DataFrame) -> str:
    """Return a note if test images may be among those that a fine-tuned network was trained on, else an empty text."""
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
