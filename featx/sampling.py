"""Whether a store's features are those of its images: some rows, drawn at random, extracted again and compared."""

import contextlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featx.damage import FEATURES_DIFFER, IMAGE_CHANGED, IMAGE_GONE, NO_SAMPLE, Problem, ranges_of, rows_in
from featx.errors import FeatxError
from featx.file_checks import Findings
from featx.parts import Part
from featx.progress import progress_bar
from featx.recompute import Recomputer, read_store_settings, rebuild_recomputer
from featx.store_file import DAMAGE, opened

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
    """Extract some rows again and compare them with the store's.

    Parameters
    ----------
    path : Path
        The store.
    findings : Findings
        What is in it; rows that are known to be damaged are not drawn.
    n_rows : int
        How many; all, where there are fewer.
    seed, weights, root, batch_size, progress, echo
        See `featx.verify.verify_store`.

    Returns
    -------
    int
        Rows that were compared.
    tuple of Problem
    """
    wanted = _draw(findings, n_rows, seed)
    if not wanted.any():
        return 0, (Problem(NO_SAMPLE, "/", (), "no row could be sampled: mend what else is wrong first"),)
    try:
        settings = read_store_settings(path, findings.attributes, findings.layers)
        recomputer = rebuild_recomputer(
            path, settings, findings.attributes, weights=weights, batch_size=batch_size, echo=echo
        )
    except FeatxError as error:
        return 0, (Problem(NO_SAMPLE, "/", (), f"no row could be sampled: {str(error).removeprefix(f'{path}: ')}"),)
    comparison = _Comparison(findings, recomputer)
    start = Path(root if root is not None else str(findings.attributes["root"]))
    with (
        opened(path) as file,
        progress_bar(int(wanted.sum()), wanted=progress) as bar,
        contextlib.closing(recomputer.compute(start, findings.images, wanted)) as parts,
    ):
        for part in parts:
            comparison.add(part, lambda layer, row: file[f"features/{layer}"][row])
            bar.update(len(part.rows) + len(part.rejected))
    return comparison.n_compared, comparison.describe(start)


def _draw(findings: Findings, n_rows: int, seed: int) -> np.ndarray:
    wanted = np.zeros(findings.n_images, dtype=bool)
    is_whole = all(name in findings.images for name in _NEEDED) and set(findings.layers) == set(findings.n_channels)
    if is_whole and "root" in findings.attributes:
        of = ("/features/", "/images/path", "/images/sha256")
        bad = rows_in(rows for problem in findings.problems if problem.where.startswith(of) for rows in problem.rows)
        good = np.setdiff1d(np.arange(findings.n_images), bad)
        wanted[np.random.default_rng(seed).choice(good, min(n_rows, len(good)), replace=False)] = True
    return wanted


class _Comparison:
    """Collects what was compared, and what differs."""

    def __init__(self, findings: Findings, recomputer: Recomputer) -> None:
        self.n_compared = 0
        self._images = findings.images
        self._recomputer = recomputer
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
            for layer, value in self._recomputer.find_differing(computed, stored).items():
                self._differing[layer][row] = value

    def describe(self, root: Path) -> tuple[Problem, ...]:
        """Return what was found, one problem a kind and layer."""
        found = []
        if self._gone:
            row, reason = min(self._gone.items())
            detail = f"{root / self._images['path'].iloc[row]}: {reason} (no damage of the store; --root says where)"
            found.append(Problem(IMAGE_GONE, "/images/path", ranges_of(sorted(self._gone)), detail))
        if self._changed:
            first = root / self._images["path"].iloc[min(self._changed)]
            detail = (
                f"{first} is another file than when it was extracted (SHA-256; no damage of the store: the same featx "
                "extract takes it in)"
            )
            found.append(Problem(IMAGE_CHANGED, "/images/path", ranges_of(sorted(self._changed)), detail))
        for layer, rows in self._differing.items():
            detail = (
                f"not the features of their images: they differ by {max(rows.values()):.2g} (norm, relative), and "
                f"{self._recomputer.tolerance:g} is the most that rounding explains"
            )
            found.append(Problem(FEATURES_DIFFER, f"/features/{layer}", ranges_of(sorted(rows)), detail))
        return tuple(found)
