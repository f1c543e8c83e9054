"""Verify a store, and extract a sample of its rows again to compare."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from featx.errors import FeatxError
from featx.extract.recompute import Reextractor, build_reextractor, read_store_settings
from featx.store import (
    DAMAGE,
    FEATURES_DIFFER,
    IMAGE_CHANGED,
    IMAGE_GONE,
    NO_DAMAGE,
    NO_SAMPLE,
    REPAIRABLE,
    Findings,
    Part,
    PartialStore,
    Problem,
    check_file,
    opened,
    probe,
    ranges_of,
    rows_in,
)
from featx.system import progress_bar


@dataclass(frozen=True)
class Verification:
    """Result of a verification.

    Attributes
    ----------
    path : str
        The store.
    is_unfinished : bool
        Whether there is only an unfinished store, whose parts were verified.
    n_images, n_features : int
        Numbers of what can be read.
    n_sampled : int
        Rows that were extracted again and compared.
    problems : tuple of Problem
    notes : tuple of str
        Lines for a person.
    """

    path: str
    is_unfinished: bool
    n_images: int
    n_features: int
    n_sampled: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def damage(self) -> tuple[Problem, ...]:
        """Problems of the store itself, without images that have changed since."""
        return tuple(problem for problem in self.problems if problem.what not in NO_DAMAGE)

    @property
    def is_damaged(self) -> bool:
        """Whether the store itself has problems."""
        return bool(self.damage)

    @property
    def beyond_repair(self) -> tuple[Problem, ...]:
        """Damage that `featx.repair_store` can't repair."""
        return tuple(problem for problem in self.damage if not problem.where.startswith(REPAIRABLE))

    @property
    def bad_rows(self) -> np.ndarray:
        """Rows with damaged features or a damaged digest of their file: ndarray of int64, sorted."""
        return rows_in(rows for problem in self.damage if problem.where.startswith(REPAIRABLE) for rows in problem.rows)


def verify_store(
    path: str | Path,
    *,
    sample: int = 0,
    seed: int = 0,
    weights: str | None = None,
    root: str | Path | None = None,
    batch_size: int = 8,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Verification:
    """Check a store, or the parts of an unfinished one; nothing is changed.

    Every chunk is compared with its checksum, every dataset and the attributes with their digests, shapes and types
    with the contract; values must be finite, and the tables must make sense. Memory doesn't grow with the features.

    Parameters
    ----------
    path : path
    sample : int, default 0
        Rows, drawn at random, that are extracted again and compared: the file's SHA-256, and the features of each
        layer, by the norm of the difference over the norm. The limit is 1e-4; 1e-3 for stores of float16, or where
        another engine or device computes; 1e-2 for the precision float16, 5e-2 for bfloat16.
    seed : int, default 0
        Seed of that draw.
    weights : str, optional
        The network's, where the store's came from a file or a fine-tuned run; default: those on record.
    root : path, optional
        Where the images' paths start; default: where they did when they were extracted.
    batch_size : int, default 8
        Images a forward pass.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Returns
    -------
    Verification

    Raises
    ------
    StoreError
        If there is no such store, HDF5 can't open it, or it is no store at all.
    """
    path = Path(path)
    if is_unfinished(path):
        return _verify_parts(path, sample)
    return inspect_store(
        path, sample=sample, seed=seed, weights=weights, root=root, batch_size=batch_size, progress=progress, echo=echo
    )[0]


def inspect_store(
    path: Path,
    *,
    sample: int,
    seed: int,
    weights: str | None,
    root: str | Path | None,
    batch_size: int,
    progress: bool,
    echo: Callable[[str], None],
) -> tuple[Verification, Findings]:
    """Check a finished store as `verify_store` does; return its contents, too."""
    probe(path)
    # disable=None: only where standard error is a terminal.
    with (
        opened(path) as file,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, disable=None if progress else True) as bar,
    ):
        findings = check_file(file, path, bar.update)
    n_sampled, problems = 0, ()
    if sample and findings.n_images:
        n_sampled, problems = sample_rows(
            path,
            findings,
            sample,
            seed=seed,
            weights=weights,
            root=root,
            batch_size=batch_size,
            progress=progress,
            echo=echo,
        )
    verification = Verification(
        path=str(path),
        is_unfinished=False,
        n_images=findings.n_images,
        n_features=sum(findings.n_channels.values()),
        n_sampled=n_sampled,
        problems=(*findings.problems, *problems),
        notes=(),
    )
    return verification, findings


def is_unfinished(path: Path) -> bool:
    """Return whether there is no store, but parts of one."""
    return not path.exists() and PartialStore(path).path.is_dir()


def read_part_widths(path: Path) -> dict[str, int]:
    """Return the features per layer of most parts of an unfinished store."""
    widths = Counter(_widths_of(part) for _, part in PartialStore(path).look() if part is not None)
    return dict(widths.most_common(1)[0][0]) if widths else {}


def _verify_parts(path: Path, sample: int) -> Verification:
    folder = PartialStore(path)
    widths = read_part_widths(path)
    problems = list(_check_record(folder.path / "run.json"))
    n_images, end = 0, 0
    for place, part in folder.look():
        if part is None or _widths_of(part) != tuple(widths.items()) or part.start < end:
            n_rows = () if part is None else ((part.start, part.stop),)
            problems.append(Problem("part", place.name, n_rows, "damaged: the same extraction does it again"))
        else:
            n_images, end = n_images + len(part.rows), part.stop
    restarts = any(problem.what == "record" for problem in problems)
    does = "starts from scratch" if restarts else f"does {'just ' if problems else ''}what is missing"
    notes = [f"not finished: run the same extraction again, which {does}"]
    if sample:
        notes.append("no row was sampled: samples are of finished stores")
    return Verification(
        path=str(path),
        is_unfinished=True,
        n_images=n_images,
        n_features=sum(widths.values()),
        n_sampled=0,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _widths_of(part: Part) -> tuple[tuple[str, int], ...]:
    return tuple((layer, values.shape[1]) for layer, values in part.features.items())


def _check_record(path: Path) -> Iterator[Problem]:
    try:
        is_record = isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError, RecursionError):
        is_record = False
    if not is_record:
        detail = "damaged or missing: parts without a record are not used, and the extraction starts from scratch"
        yield Problem("record", path.name, (), detail)


_NEEDED = ("path", "sha256")


def sample_rows(
    path: Path,
    findings: Findings,
    n_rows: int,
    *,
    seed: int,
    weights: str | None,
    root: str | Path | None,
    batch_size: int,
    progress: bool,
    echo: Callable[[str], None],
) -> tuple[int, tuple[Problem, ...]]:
    """Extract some rows again, without damaged ones; return how many were compared, and what differs."""
    mask = _draw(findings, n_rows, seed)
    if not mask.any():
        return 0, (Problem(NO_SAMPLE, "/", (), "no row could be sampled: repair the store first"),)
    try:
        settings = read_store_settings(path, findings.attributes, findings.layers)
        reextractor = build_reextractor(
            path, settings, findings.attributes, weights=weights, batch_size=batch_size, echo=echo
        )
    except FeatxError as error:
        return 0, (Problem(NO_SAMPLE, "/", (), f"no row could be sampled: {error}"),)
    comparison = _Comparison(findings, reextractor)
    start = Path(root if root is not None else str(findings.attributes["root"]))
    with (
        opened(path) as file,
        progress_bar(int(mask.sum()), wanted=progress) as bar,
        contextlib.closing(reextractor.compute(start, findings.images, mask)) as parts,
    ):
        for part in parts:
            comparison.add(part, lambda layer, row: file[f"features/{layer}"][row])
            bar.update(len(part.rows) + len(part.rejected))
    return comparison.n_compared, comparison.problems(start)


def _draw(findings: Findings, n_rows: int, seed: int) -> np.ndarray:
    mask = np.zeros(findings.n_images, dtype=bool)
    is_whole = all(name in findings.images for name in _NEEDED) and set(findings.layers) == set(findings.n_channels)
    if is_whole and "root" in findings.attributes:
        of = ("/features/", "/images/path", "/images/sha256")
        bad = rows_in(rows for problem in findings.problems if problem.where.startswith(of) for rows in problem.rows)
        good = np.setdiff1d(np.arange(findings.n_images), bad)
        mask[np.random.default_rng(seed).choice(good, min(n_rows, len(good)), replace=False)] = True
    return mask


class _Comparison:
    """Collects the results of a comparison."""

    def __init__(self, findings: Findings, reextractor: Reextractor) -> None:
        self.n_compared = 0
        self._images = findings.images
        self._reextractor = reextractor
        self._gone: dict[int, str] = {}
        self._changed: list[int] = []
        self._differing: dict[str, dict[int, float]] = defaultdict(dict)

    def add(self, part: Part, read_row: Callable[[str, int], np.ndarray]) -> None:
        """Compare the rows of a part with those of the store."""
        self._gone |= part.rejected
        for place, row in enumerate(part.rows.tolist()):
            if part.sha256[place].decode() != self._images["sha256"].iloc[row]:
                self._changed.append(row)
                continue
            computed = {layer: values[place] for layer, values in part.features.items()}
            try:
                stored = {layer: read_row(layer, row) for layer in computed}
            except DAMAGE:
                # Its chunk is among the damaged ones already.
                continue
            self.n_compared += 1
            for layer, value in self._reextractor.find_differing(computed, stored).items():
                self._differing[layer][row] = value

    def problems(self, root: Path) -> tuple[Problem, ...]:
        """Return the problems, one per kind and layer."""
        problems = []
        if self._gone:
            row, reason = min(self._gone.items())
            detail = f"{root / self._images['path'].iloc[row]}: {reason} (no damage of the store; see `root`)"
            problems.append(Problem(IMAGE_GONE, "/images/path", ranges_of(sorted(self._gone)), detail))
        if self._changed:
            first = root / self._images["path"].iloc[min(self._changed)]
            detail = (
                f"{first} has changed since it was extracted (SHA-256; no damage of the store: the same featx extract "
                "adds it again)"
            )
            problems.append(Problem(IMAGE_CHANGED, "/images/path", ranges_of(sorted(self._changed)), detail))
        for layer, rows in self._differing.items():
            detail = (
                f"not the features of their images: they differ by {max(rows.values()):.2g} (norm, relative), and "
                f"{self._reextractor.tolerance:g} is the most that rounding explains"
            )
            problems.append(Problem(FEATURES_DIFFER, f"/features/{layer}", ranges_of(sorted(rows)), detail))
        return tuple(problems)
