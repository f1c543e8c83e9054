"""The rows of a damaged store as they should be: good ones as they are, others made again of their images."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.damage import Problem, ranges_of, rows_in
from featx.errors import StoreError
from featx.file_checks import Findings
from featx.image_files import digest_of
from featx.images import ImageError
from featx.parts import Part
from featx.progress import progress_bar
from featx.recompute import Recomputer

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
