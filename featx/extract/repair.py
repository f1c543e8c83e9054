"""Repair a store: extract its damaged rows again, as an addition does, and copy all other rows."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import ImageError, StoreError
from featx.extract.plan import LazyNetwork
from featx.extract.recompute import Reextractor, build_reextractor, read_store_settings
from featx.extract.verify import inspect_store, verify_store
from featx.images import Manifest, digest_of
from featx.inference import engines_record, run_network
from featx.store import (
    Findings,
    Outline,
    PartFiles,
    PartialStore,
    Problem,
    StoredFeatures,
    add_run,
    check_folder,
    merge_rows,
    opened,
    outline,
    part_features,
    rewrite_store,
    rows_in,
)
from featx.system import now, progress_bar


@dataclass(frozen=True)
class Repair:
    """Result of a repair: rows that the store has now, that were extracted again, and that were rejected."""

    path: str
    is_changed: bool
    n_images: int
    n_repaired: int = 0
    n_dropped: int = 0


def repair_store(
    path: str | Path,
    *,
    drop: bool = False,
    sample: int = 0,
    seed: int = 0,
    weights: str | None = None,
    root: str | Path | None = None,
    batch_size: int = 8,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Repair:
    """Verify a store, and extract its damaged rows again from their images.

    Whole rows are copied bit for bit, table and attributes stay, and the attribute `repaired` is added. The new file is
    verified and then renamed over the old one: a repair that is interrupted leaves the store as it was.

    Parameters
    ----------
    path : path
    drop : bool, default False
        Move damaged rows whose image is gone or has changed to the rejected ones, instead of raising an error.
    sample, seed, weights, root, batch_size, progress, echo
        See `featx.extract.verify_store`. Sampled rows that differ from their images are damaged, too. The weights must
        be those that the store was made with.

    Raises
    ------
    FeatxError
        If the damage can't be repaired (paths, labels, splits, further columns, attributes), images are gone or have
        changed, the weights differ, or another featx is writing the store. The store is then as it was.
    """
    path = Path(path)
    options = {"weights": weights, "batch_size": batch_size, "echo": echo}
    check_folder(path)
    with (folder := PartialStore(path)).lock():
        verification, findings = inspect_store(path, sample=sample, seed=seed, root=root, progress=progress, **options)
        if not verification.is_damaged:
            return Repair(str(path), is_changed=False, n_images=verification.n_images)
        if beyond := verification.beyond_repair:
            raise StoreError(
                f"{path}: can't be repaired: {'; '.join(map(str, beyond[:3]))}{'; ...' if beyond[3:] else ''}. Only "
                "features and digests of files can: restore a copy of the store, or extract it from scratch"
            )
        settings = read_store_settings(path, findings.attributes, findings.layers)
        rows = _DamagedRows(path, findings, verification.damage, root or str(findings.attributes["root"]), drop)
        if rows.mask.any():
            reextractor = build_reextractor(path, settings, findings.attributes, **options)
            return _replace(folder, findings, rows, reextractor, progress=progress)
        return _replace(folder, findings, rows, None, progress=progress)


class _DamagedRows:
    """Damaged rows: `mask` has those to extract again, `lost` why others can't be; `sha256` has all files' digests."""

    def __init__(
        self, path: Path, findings: Findings, damage: Iterable[Problem], root: Path | None, drop: bool
    ) -> None:
        self.paths, self.root = findings.images["path"], Path(root or str(findings.attributes["root"]))
        texts = findings.images.get("sha256", [""] * findings.n_images)
        self.sha256 = np.array([text.encode() for text in texts], dtype="S64")
        self.lost: dict[int, str] = {}
        self._store_path, self._drop = path, drop
        self.mask, is_unsure = np.zeros((2, findings.n_images), dtype=bool)
        for mask, prefix in ((self.mask, "/features/"), (is_unsure, "/images/sha256")):
            mask[rows_in(rows for problem in damage if problem.where.startswith(prefix) for rows in problem.rows)] = 1
        for row in np.flatnonzero(self.mask | is_unsure).tolist():
            try:
                digest = digest_of(self.root / self.paths[row]).encode()
            except ImageError as error:
                self.lost[row] = f"its image {error}"
                continue
            if digest != self.sha256[row] and not is_unsure[row]:
                self.lost[row] = "its image is another file now (SHA-256)"
            elif digest != self.sha256[row]:
                self.mask[row], self.sha256[row] = True, digest  # it may have changed, so its features are made again
        self.lose({})

    def lose(self, reasons: dict[int, str]) -> None:
        """Leave rows out, or raise an error."""
        self.lost |= reasons
        self.mask[list(self.lost)] = False
        if self.lost and not self._drop:
            row, reason = min(self.lost.items())
            raise StoreError(
                f"{self._store_path}: {len(self.lost):,} damaged rows can't be made again; the first, "
                f"{self.root / self.paths[row]}: {reason}. Bring the images back (see `root`), or `drop` these rows"
            )
        if len(self.lost) == len(self.paths):
            raise StoreError(f"{self._store_path}: no row would be left of {len(self.lost):,}. Extract it again")


def _replace(
    folder: PartialStore, findings: Findings, rows: _DamagedRows, reextractor: Reextractor | None, *, progress: bool
) -> Repair:
    """Compute the damaged rows, write the repaired store, verify it, and move it into place."""
    started, new_path, files = now(), folder.path / "repaired.h5.tmp", folder.further("repair")
    n_channels = findings.n_channels if reextractor is None else reextractor.n_channels
    every_row = np.arange(len(rows.paths))
    try:
        indices, features = np.full(len(every_row), -1), None
        if reextractor is not None:
            computed = _compute(files, findings, rows, reextractor, progress=progress)
            indices[computed.rows], features = np.arange(len(computed.rows)), part_features(files, computed)
        reasons = {row: f"features damaged, and {rows.lost[row]}" for row in sorted(rows.lost)}
        kept, stored = np.setdiff1d(every_row, list(reasons)), np.where(rows.mask, -1, every_row)
        result = Repair(str(folder.store_path), True, len(kept), int(rows.mask.sum()), len(reasons))
        with opened(folder.store_path) as file:
            sources = [(indices[kept], features), (stored[kept], StoredFeatures(file, list(n_channels)))]
            rewrite_store(
                new_path,
                images=findings.images,
                rejected=findings.rejected,
                parts=merge_rows(Outline.of_rows(kept, rows.sha256[kept], reasons), sources, n_channels),
                n_channels=n_channels,
                dtype=str(findings.attributes["store_dtype"]),
                describe=lambda: _describe(findings, result, reextractor, started),
            )
        if problems := verify_store(new_path).problems:
            raise StoreError(f"{folder.store_path}: the new file is damaged ({problems[0]}); the store is as it was")
        folder.publish(new_path)
    finally:
        shutil.rmtree(files.path, ignore_errors=True)
        new_path.unlink(missing_ok=True)
    return result


def _compute(
    files: PartFiles, findings: Findings, rows: _DamagedRows, reextractor: Reextractor, *, progress: bool
) -> Outline:
    """Extract the damaged rows to part files, as a pass of an addition."""
    mask, n_channels, batch_size = rows.mask.copy(), reextractor.n_channels, reextractor.network.batch_size
    network = LazyNetwork(lambda: reextractor.network, n_channels, batch_size=batch_size)
    with progress_bar(int(mask.sum()), wanted=progress) as bar:
        rest = {"wanted": mask, "largest": reextractor.largest}
        manifest, gaps = Manifest(findings.images, rows.root), [(0, len(mask))]
        run_network(manifest, files, network, reextractor.read, gaps, bar.update, **rest)
    computed = outline(files, files.read(n_channels, mask))
    changed = computed.rows[computed.sha256 != rows.sha256[computed.rows]]
    if len(changed):
        name = rows.root / rows.paths[changed[0]]
        raise StoreError(f"{name}: changed while featx was at work. Run the same command again")
    rows.lose({row: f"its image {reason}" for row, reason in computed.rejected.items()})
    return computed


def _describe(findings: Findings, result: Repair, reextractor: Reextractor | None, started: str) -> dict[str, object]:
    """Return the attributes of the repaired store."""
    stored, engines = findings.attributes, [] if reextractor is None else [reextractor.network.engine]
    n_rejected = len(findings.rejected) + result.n_dropped
    counts = {"n_images": result.n_images, "n_rejected": n_rejected, "n_computed": result.n_repaired, "n_resumed": 0}
    repaired = json.dumps({"time": now(), "rows": result.n_repaired, "dropped": result.n_dropped})
    history = add_run(stored, engines[0].device if engines else "", started, **counts)
    return {**stored, **engines_record(engines, stored), "repaired": repaired, "history": history}
