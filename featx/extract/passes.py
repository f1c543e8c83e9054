"""The passes of an extraction: every row once, the store's own images for the layers it lacks, and one file of all."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

import numpy as np
import pandas as pd

from featx.errors import SourceError, StoreError
from featx.extract.add import describe_changes, is_same_table
from featx.extract.plan import OnDemand, Plan
from featx.extract.rejections import Rejections, find_changed, none_readable
from featx.images import Manifest, PictureNotes
from featx.inference import Network, engines_record, find_gaps, run_network
from featx.store import (
    MOST_RUNS,
    DigestIndex,
    Outline,
    PartFeatures,
    PartFiles,
    RunFolder,
    Store,
    as_text,
    describe_process,
    merge_rows,
    outline,
    read_history,
    write_store,
)
from featx.system import RunLog, Tally, format_command, now, progress_bar


class Passes:
    """What turns a plan into a store.

    The first pass reads every image of the manifest: those that are known by their file's digest, be it from the store
    that is added to or from another row, are not even decoded. The second is for images of the store that is added to,
    and only for the layers that it lacks.

    Parameters
    ----------
    manifest : Manifest
    folder : RunFolder
        Locked, and begun.
    plan : Plan
    rejections : Rejections
        Ends the first pass where too many images can't be read.
    may_be_empty : bool
        Whether a store without any image that can be read is one.
    progress : bool
        Show progress bars, if standard error is a terminal.
    echo : callable
        Is told what a user should know, a line at a time.
    log_every : float
        Seconds between two lines of the log beside the store.

    Attributes
    ----------
    rows : Outline
        Of the first pass, once `compute` is through.
    n_computed, n_resumed : int
        Images that went through the network, in this run and in those before it that were interrupted.
    seconds : float
        What the passes took.
    """

    def __init__(
        self,
        manifest: Manifest,
        folder: RunFolder,
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

    @property
    def images_per_second(self) -> float:
        """Of those that went through the network in this run."""
        return round(self.n_computed / max(self.seconds, 1e-9), 2)

    def compute(self) -> None:
        """Compute what is missing; a run that goes on keeps what is there.

        Raises
        ------
        FeatxError
            If the images, the weights or the disk don't allow it.
        """
        self.rows = self._compute_rows()
        self._raise_unreadable()
        if self.plan.further is not None:
            self._further = self._compute_further()

    def n_done(self) -> tuple[int, int]:
        """Return how many images of the present pass are done, and how many it has."""
        files, n_rows = self._now
        return min(files.n_done(), n_rows), n_rows

    def publish(self, provenance: dict[str, str]) -> None:
        """Make one file of everything, move it into place whole, delete the parts; nothing, if nothing is new.

        Parameters
        ----------
        provenance : dict of str to str
            Further attributes of the store.
        """
        plan, base = self.plan, self.plan.base
        if base is not None:
            table = self.manifest.table.iloc[self.rows.rows].assign(sha256=self.rows.sha256.astype(str))
            if self._is_there(table, provenance):
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
                # A damaged part was done again, and its images had changed: who shared their features lacks them.
                lacking = (self._own_places(outlined) < 0) & (self._in_base.find(outlined.sha256) < 0)
                if not lacking.any():
                    for line in notes.lines():
                        self._echo(line)
                    return outlined
                self.folder.drop(outlined.rows[lacking])
                continue
            base = self.plan.base
            known = {digest.decode() for digest in outlined.own_sha256.tolist()}
            known |= set(base.images["sha256"]) if base is not None else set()
            options = {"known": known, "reject": self._rejections.add, "note": notes.add}
            self._run(self.folder, self.plan.network, gaps, len(self.manifest), **options)

    def _try_again(self, rejected: dict[int, str]) -> bool:
        """Read what an earlier run rejected; return whether rows are to be done again."""
        read = self.plan.request.reader(frozenset())
        changed = find_changed(self.manifest, rejected, read, progress=self._progress, echo=self._echo)
        self.folder.forget(changed)
        return bool(changed)

    def _begin(self, n_done: int) -> None:
        if n_done:
            self._echo(f"going on: {n_done:,} of {len(self.manifest):,} images were done before")
        self._check_disk(n_done)

    def _compute_further(self) -> Outline:
        """Run the second pass: each file of the store's once, for the layers that are lacking."""
        files, network = self._further_files, self.plan.further
        rows = self.rows
        is_stored = np.flatnonzero(self._base_places() >= 0)
        _, first = np.unique(rows.sha256[is_stored], return_index=True)
        chosen = is_stored[first]
        wanted = np.zeros(len(self.manifest), dtype=bool)
        wanted[rows.rows[chosen]] = True
        ranges = files.read(network.n_channels, wanted)
        self.n_resumed += len(outline(files, ranges).own_sha256)
        while gaps := find_gaps(ranges, len(self.manifest)):
            self._run(files, network, gaps, int(wanted.sum()), wanted=wanted)
            ranges = files.read(network.n_channels, wanted)
        outlined = outline(files, ranges)
        found = dict(zip(outlined.rows.tolist(), outlined.sha256.tolist(), strict=True))
        expected = dict(zip(rows.rows[chosen].tolist(), rows.sha256[chosen].tolist(), strict=True))
        self._refuse_changed([row for row in expected if found.get(row) != expected[row]], outlined.rejected)
        return outlined

    def _run(
        self, files: PartFiles, network: Network, gaps: Iterable[tuple[int, int]], n_rows: int, **options: object
    ) -> None:
        begun = time.monotonic()
        self._now = (files, n_rows)
        read = self.plan.request.reader(options.get("known", frozenset()))
        options["largest"] = self.plan.largest
        tally = Tally(n_done=min(files.n_done(), n_rows))
        with (
            progress_bar(n_rows, initial=tally.n_done, wanted=self._progress) as bar,
            RunLog(self.folder.log_path, format_command(), n_rows, tally, every=self._log_every),
        ):
            self.n_computed += run_network(
                self.manifest, files, network, read, gaps, bar.update, tally=tally, **options
            )
        self.seconds += time.monotonic() - begun
        network = network.release() if isinstance(network, OnDemand) else network
        self._engines += [network.engine] if network is not None else []

    def _own_places(self, outlined: Outline) -> np.ndarray:
        """Return where each row's features lie in the first pass, -1 where they don't."""
        return DigestIndex(outlined.own_sha256).find(outlined.sha256)

    def _base_places(self) -> np.ndarray:
        """Return where each row's features lie in the store that is added to, -1 where the first pass has them."""
        return np.where(self._own_places(self.rows) < 0, self._in_base.find(self.rows.sha256), -1)

    def _sources(self, store: Store | None) -> list[tuple[np.ndarray, Store | PartFeatures]]:
        sources: list = [(self._own_places(self.rows), PartFeatures(self.folder, self.rows))]
        if store is not None:
            sources.append((self._base_places(), store))
        if self._further is not None:
            places = DigestIndex(self._further.own_sha256).find(self.rows.sha256)
            places = np.where(self._base_places() < 0, -1, places)
            sources.append((places, PartFeatures(self._further_files, self._further)))
        return sources

    def _is_there(self, table: pd.DataFrame, provenance: Mapping[str, str]) -> bool:
        """Whether the store that is added to has everything already; of a shard, what it is a part of, too."""
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
        """Return what the store is to tell of this run: of its last part, where it was stopped and went on."""
        stored = self.plan.base.attributes if self.plan.base is not None else {}
        # A new store's network is there, even where all that was left to do was to make one file of its parts.
        engines = self._engines if self.plan.base is not None else [self.plan.network.engine]
        speed = {"images_per_second": self.images_per_second} if self.n_computed else {}
        run = {
            **describe_process(),
            "device": ", ".join(dict.fromkeys(engine.device for engine in engines)),
            "started": self.folder.started(),
            "ended": now(),
            "n_images": len(self.rows.rows),
            "n_rejected": len(self.rows.rejected),
            "n_computed": self.n_computed,
            "n_resumed": self.n_resumed,
            **speed,
        }
        return {
            **engines_record(engines, stored),
            # A run that computed nothing leaves what the store that is added to says.
            **{name: value for name, value in (stored | speed).items() if name == "images_per_second"},
            "batch_size": self.plan.network.batch_size,
            "history": json.dumps([*read_history(stored), run][-MOST_RUNS:]),
        }

    def _check_disk(self, n_done: int) -> None:
        """Refuse a disk too small for the missing parts and the store; parts go only once the store is there."""
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
                "free. Free some disk, write to another, or take fewer --layers"
            )

    def _raise_unreadable(self) -> None:
        """Refuse to go on where no image can be read, or one that the store has can't be any more."""
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
                f"that the store stays as it is: mend them and run the same command again{keep}"
            )

    def _refuse_changed(self, rows: list[int], reasons: dict[int, str]) -> None:
        """Refuse files that were others when the second pass read them; both passes do them again."""
        if not rows:
            return
        self.folder.drop(rows)
        self._further_files.drop(rows)
        path = self.manifest.root / self.manifest.table["path"].iloc[rows[0]]
        raise SourceError(
            f"{path}: {reasons.get(rows[0], 'changed')} while featx was at work ({len(rows):,} such files). Run the "
            "same command again"
        )
