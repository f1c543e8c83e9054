"""Repair a store: extract damaged rows again, copy everything else, and replace the file."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import ImageError, StoreError
from featx.extract.recompute import Recomputer, read_store_settings, rebuild_recomputer
from featx.extract.verify import inspect_store, is_unfinished, read_part_widths, verify_store
from featx.images import digest_of
from featx.inference import engines_record
from featx.store import (
    MENDABLE,
    MOST_RUNS,
    NO_DAMAGE,
    Findings,
    Part,
    Problem,
    RunFolder,
    describe_process,
    opened,
    probe,
    ranges_of,
    read_history,
    rewrite_store,
    rows_in,
)
from featx.system import now, progress_bar

if TYPE_CHECKING:
    import h5py


# Features of about so many bytes are in memory at a time.
_BLOCK_BYTES = 2**24


class Mender:
    """What has to be done to which row; the images' files are read, and nothing is computed yet.

    Parameters
    ----------
    path : Path
        The store, for messages.
    findings : Findings
        What is in it.
    problems : sequence of Problem
        Damage, of features and of the column sha256 alone.
    root : Path
        Where the images' paths start.
    drop : bool
        Whether rows that can't be made again go to the rejected ones.
    progress : bool
        Show progress bars, if standard error is a terminal.

    Attributes
    ----------
    images : DataFrame
        The store's table.
    n_repaired, n_digests, n_dropped : int
        Rows whose features and whose digests are made anew, and those that go; once `mend` is through.

    Raises
    ------
    StoreError
        If images are gone or have changed, and their rows are not to be dropped; or no row would be left.
    """

    def __init__(
        self, path: Path, findings: Findings, problems: Sequence[Problem], *, root: Path, drop: bool, progress: bool
    ) -> None:
        self.images = findings.images
        self.n_repaired = self.n_digests = self.n_dropped = 0
        self._path = path
        self._findings = findings
        self._root = root
        self._drop = drop
        self._progress = progress
        self._is_bad = _mask(findings, problems, "/features/")
        is_unsure = _mask(findings, problems, "/images/sha256")
        if "sha256" not in self.images:
            self.images = self.images.assign(sha256="")
        self._sha256 = np.array([text.encode() for text in self.images["sha256"]], dtype="S64")
        # Rows with good features, whose file is to be known by giving the same.
        self._is_asked = np.zeros(findings.n_images, dtype=bool)
        self._lost: dict[int, str] = {}
        self._read_files(is_unsure)
        self._refuse_losses()

    @property
    def needs_network(self) -> bool:
        """Whether features have to be computed."""
        return bool(self._wanted().any())

    def mend(self, file: "h5py.File", recomputer: Recomputer | None) -> Iterator[Part]:
        """Yield all rows in blocks, in the type that they are stored in; close the iterator if it is left early.

        Parameters
        ----------
        file : h5py.File
            The damaged store.
        recomputer : Recomputer or None
            None where nothing has to be computed.

        Raises
        ------
        FeatxError
            If images can't be decoded, or are others than a moment ago.
        """
        n_channels = self._findings.n_channels if recomputer is None else recomputer.n_channels
        block = max(1, _BLOCK_BYTES // (4 * sum(n_channels.values())))
        wanted = self._wanted()
        with (
            progress_bar(int(wanted.sum()), wanted=self._progress and recomputer is not None) as bar,
            contextlib.closing(self._compute(recomputer, wanted)) as computed,
        ):
            for start in range(0, len(self.images), block):
                rows = np.arange(start, min(start + block, len(self.images)))
                features = _read_good(file, n_channels, rows, ~self._is_bad[rows])
                for row in rows[wanted[rows]].tolist():
                    self._put(row, next(computed), features, row - start, recomputer)
                    bar.update(1)
                yield self._part_of(rows, features)

    def _read_files(self, is_unsure: np.ndarray) -> None:
        """Find out which rows' files are still those of the store."""
        for row in np.flatnonzero(self._is_bad | is_unsure).tolist():
            try:
                found = digest_of(self._root / self.images["path"].iloc[row]).encode()
            except ImageError as error:
                self._lost[row] = f"its image {error}"
                continue
            if found == self._sha256[row]:
                continue
            if not is_unsure[row]:
                self._lost[row] = "its image is another file now (SHA-256)"
            elif self._is_bad[row]:
                self._lost[row] = "its digest is damaged as well, so that nothing tells whether its image is the same"
            else:
                self._is_asked[row] = True
                self._sha256[row] = found

    def _refuse_losses(self) -> None:
        if self._lost and not self._drop:
            row, reason = min(self._lost.items())
            raise StoreError(
                f"{self._path}: {len(self._lost):,} damaged rows can't be made again; the first, "
                f"{self._root / self.images['path'].iloc[row]}: {reason}. Bring the images back (--root says where "
                "they are), or --drop these rows"
            )
        if len(self._lost) == len(self.images):
            raise StoreError(f"{self._path}: no row would be left of {len(self.images):,}: extract with --overwrite")

    def _wanted(self) -> np.ndarray:
        wanted = self._is_bad | self._is_asked
        wanted[list(self._lost)] = False
        return wanted

    def _compute(
        self, recomputer: Recomputer | None, wanted: np.ndarray
    ) -> Iterator[tuple[bytes, dict[str, np.ndarray]] | str]:
        """Yield, for each wanted row in their order, its file's digest and features, or why there are none."""
        if recomputer is None:
            return
        with contextlib.closing(recomputer.compute(self._root, self.images, wanted)) as parts:
            for part in parts:
                places = {row: place for place, row in enumerate(part.rows.tolist())}
                for row in sorted([*places, *part.rejected]):
                    if row in part.rejected:
                        yield part.rejected[row]
                    else:
                        place = places[row]
                        yield part.sha256[place], {layer: values[place] for layer, values in part.features.items()}

    def _put(
        self,
        row: int,
        computed: tuple[bytes, dict[str, np.ndarray]] | str,
        features: dict[str, np.ndarray],
        place: int,
        recomputer: Recomputer,
    ) -> None:
        """Lay what was computed into a block, or note that the row is lost."""
        if isinstance(computed, str):
            self._lose(row, f"its image {computed}")
            return
        sha256, values = computed
        if sha256 != self._sha256[row]:
            name = self._root / self.images["path"].iloc[row]
            raise StoreError(f"{name}: changed while featx was at work. Run the same command again")
        if self._is_bad[row]:
            self.n_repaired += 1
            for layer, into in features.items():
                into[place] = values[layer].astype(into.dtype)
        elif recomputer.find_differing(values, {layer: stored[place] for layer, stored in features.items()}):
            self._lose(row, "its image gives other features: it must have changed")
        else:
            self.n_digests += 1

    def _lose(self, row: int, reason: str) -> None:
        self._lost[row] = reason
        self._refuse_losses()

    def _part_of(self, rows: np.ndarray, features: dict[str, np.ndarray]) -> Part:
        lost = {row: self._lost[row] for row in rows.tolist() if row in self._lost}
        self.n_dropped += len(lost)
        is_kept = ~np.isin(rows, list(lost))
        return Part(
            start=int(rows[0]),
            stop=int(rows[-1]) + 1,
            rows=rows[is_kept],
            sha256=self._sha256[rows[is_kept]],
            own=np.ones(int(is_kept.sum()), dtype=bool),
            features={layer: values[is_kept] for layer, values in features.items()},
            rejected={
                row: f"{'features' if self._is_bad[row] else 'digest'} damaged, and {reason}"
                for row, reason in lost.items()
            },
        )


def _mask(findings: Findings, problems: Sequence[Problem], prefix: str) -> np.ndarray:
    mask = np.zeros(findings.n_images, dtype=bool)
    mask[rows_in(rows for problem in problems if problem.where.startswith(prefix) for rows in problem.rows)] = True
    return mask


def _read_good(
    file: "h5py.File", n_channels: dict[str, int], rows: np.ndarray, is_good: np.ndarray
) -> dict[str, np.ndarray]:
    """Return a block of features as they are stored; chunks that hold no good row are not touched."""
    runs = ranges_of(rows[is_good])
    features = {}
    for layer, channels in n_channels.items():
        dataset = file[f"features/{layer}"] if runs else None
        values = np.zeros((len(rows), channels), np.float32 if dataset is None else dataset.dtype)
        for start, stop in runs:
            values[start - rows[0] : stop - rows[0]] = dataset[start:stop]
        features[layer] = values
    return features


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
        See `featx.extract.verify_store`. Sampled rows that are not their images' are damaged, too. The weights must be
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
        **engines_record(engines, stored),
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
