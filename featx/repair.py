"""Repairing a store: damaged rows are extracted again, everything else is copied, and a new file takes its place."""

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from featx.damage import MENDABLE, NO_DAMAGE, Problem
from featx.errors import StoreError
from featx.file_checks import Findings
from featx.mending import Mender
from featx.probe import probe
from featx.provenance import MOST_RUNS, describe_engines, describe_process, now, read_history
from featx.recompute import Recomputer, read_store_settings, rebuild_recomputer
from featx.run_folder import RunFolder
from featx.store_file import opened
from featx.store_writer import rewrite_store
from featx.verify import inspect_store, is_unfinished, read_part_widths, verify_store

_SHOWN = 3


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes
    ----------
    path : str
        The store.
    is_unfinished : bool
        Whether there is no store yet, and its parts were seen to.
    is_changed : bool
        False where nothing was wrong.
    n_images : int
        Of the store as it is now; of an unfinished one, those that are done.
    n_repaired : int
        Rows whose features were extracted again.
    n_digests : int
        Rows whose file's digest was made again.
    n_dropped : int
        Rows that went to the rejected ones; of an unfinished store, its damaged parts, which were deleted.
    """

    path: str
    is_unfinished: bool
    is_changed: bool
    n_images: int
    n_repaired: int = 0
    n_digests: int = 0
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

    Rows that are whole are copied bit for bit; table, attributes and the time when the store was created stay; the
    attribute `repaired` is added, and the history goes on. The new file is written beside the store, verified, and
    renamed over it: a repair that is interrupted leaves the store as it was. Of an unfinished store, damaged parts are
    deleted, so that the extraction does them again.

    Parameters
    ----------
    path : path
    drop : bool, default False
        Move damaged rows whose image is gone or has changed to the rejected ones, instead of refusing.
    sample, seed, weights, root, batch_size, progress, echo
        See `featx.verify.verify_store`. Sampled rows that are not their images' are damaged, too. The weights must be
        those that the store was made with.

    Returns
    -------
    Repair

    Raises
    ------
    FeatxError
        If what is damaged can't be made again (paths, labels, splits, further columns, attributes), images are gone or
        have changed, the weights are others, or another featx is writing the store. The store is then as it was.
    """
    path = Path(path)
    unfinished = is_unfinished(path)
    if not unfinished:
        # Refused here, what is no store gets no folder for a lock beside it.
        probe(path)
        with opened(path):
            pass
    folder = RunFolder(path)
    options = {"weights": weights, "batch_size": batch_size, "echo": echo}
    with folder.lock():
        if unfinished:
            return _repair_parts(folder)
        found, findings = inspect_store(path, sample=sample, seed=seed, root=root, progress=progress, **options)
        problems = [problem for problem in found.problems if problem.what not in NO_DAMAGE]
        if not problems:
            return Repair(str(path), is_unfinished=False, is_changed=False, n_images=found.n_images)
        _refuse_beyond_repair(path, problems)
        settings = read_store_settings(path, findings.attributes, findings.layers)
        mender = Mender(
            path,
            findings,
            problems,
            root=Path(root if root is not None else str(findings.attributes["root"])),
            drop=drop,
            progress=progress,
        )
        recomputer = None
        if mender.needs_network:
            recomputer = rebuild_recomputer(path, settings, findings.attributes, **options)
        return _replace(folder, findings, mender, recomputer, settings.store_dtype)


def _refuse_beyond_repair(path: Path, problems: Iterable[Problem]) -> None:
    """Refuse damage to what can't be made of images and network."""
    beyond = [problem for problem in problems if not problem.where.startswith(MENDABLE)]
    if beyond:
        shown = "; ".join(map(str, beyond[:_SHOWN])) + ("; ..." if len(beyond) > _SHOWN else "")
        raise StoreError(
            f"{path}: can't be repaired: {shown}. Features and files' digests can be made again, this can't: "
            "restore a copy of the store, or extract it anew with --overwrite"
        )


def _replace(
    folder: RunFolder, findings: Findings, mender: Mender, recomputer: Recomputer | None, dtype: str
) -> Repair:
    """Write the mended store, verify it, and move it into place."""
    path, started = folder.store_path, now()
    new_path = folder.path / "repaired.h5.tmp"
    try:
        with opened(path) as file, contextlib.closing(mender.mend(file, recomputer)) as parts:
            rewrite_store(
                new_path,
                images=mender.images,
                rejected=findings.rejected,
                parts=parts,
                n_channels=findings.n_channels if recomputer is None else recomputer.n_channels,
                dtype=dtype,
                describe=partial(_describe, findings, mender, recomputer, started),
            )
        found = verify_store(new_path)
        if not found.ok:
            raise StoreError(f"{path}: the new file came out wrong ({found.problems[0]}); the store is as it was")
        folder.publish(new_path)
    finally:
        new_path.unlink(missing_ok=True)
    return Repair(
        str(path),
        is_unfinished=False,
        is_changed=True,
        n_images=found.n_images,
        n_repaired=mender.n_repaired,
        n_digests=mender.n_digests,
        n_dropped=mender.n_dropped,
    )


def _describe(findings: Findings, mender: Mender, recomputer: Recomputer | None, started: str) -> dict[str, object]:
    """Return the attributes of the mended store: what made features is named beside what made them before."""
    stored = findings.attributes
    engines = [recomputer.network.engine] if recomputer is not None else []
    repaired = {"time": now(), "rows": mender.n_repaired, "dropped": mender.n_dropped}
    run = {
        **describe_process(),
        "device": ", ".join(engine.device for engine in engines),
        "started": started,
        "ended": repaired["time"],
        "n_images": len(mender.images) - mender.n_dropped,
        "n_rejected": len(findings.rejected) + mender.n_dropped,
        "n_computed": mender.n_repaired,
        "n_resumed": 0,
    }
    return {
        **stored,
        **describe_engines(engines, stored),
        "repaired": json.dumps(repaired),
        "history": json.dumps([*read_history(stored), run][-MOST_RUNS:]),
    }


def _repair_parts(folder: RunFolder) -> Repair:
    """Delete damaged parts of an unfinished store; what was done of it stays."""
    path = folder.store_path
    before = verify_store(path)
    if any(problem.what == "record" for problem in before.problems):
        raise StoreError(
            f"{path}: can't be repaired: {before.problems[0]}. Run the extraction again, with --overwrite if it refuses"
        )
    if not before.ok:
        folder.read(read_part_widths(path))
    return Repair(
        str(path),
        is_unfinished=True,
        is_changed=not before.ok,
        n_images=before.n_images,
        n_dropped=len(before.problems),
    )
