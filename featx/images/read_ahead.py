"""Decode images in threads, some ahead of their use."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from featx.errors import ImageError
from featx.images.decode import Picture
from featx.images.folders import is_utf8
from featx.system import available_cores

MOST_DECODERS = 32
_N_NAMED = 3


def read_ahead(
    root: Path, paths: Sequence[str | Path], rows: Iterator[int], read: Callable[[Path], Picture], ahead: int = 0
) -> Iterator[tuple[int, Picture | str]]:
    """Decode images in threads, some ahead; close the iterator if it is left early."""
    ahead = max(ahead, 2 * n_decoders())

    def attempt(row: int) -> Picture | str:
        if not is_utf8(str(paths[row])):
            return "its name is not UTF-8: rename it"
        try:
            return read(root / paths[row])
        except ImageError as error:
            return str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(n_decoders()) as decoders:
        # What Pillow has to say of a damaged file ends as its reason, not on the screen.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        queue: deque[tuple[int, Future]] = deque()
        try:
            for row in rows:
                queue.append((row, decoders.submit(attempt, row)))
                if len(queue) > ahead:
                    first, future = queue.popleft()
                    yield first, future.result()
            while queue:
                first, future = queue.popleft()
                yield first, future.result()
        finally:
            decoders.shutdown(wait=True, cancel_futures=True)


class PictureNotes:
    """Counts what is to say of images that are read all the same; see `featx.images.Picture`.

    Parameters
    ----------
    paths : sequence of str or Path
        Paths of all images, by row.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._all_paths = paths
        self._paths: dict[str, list[str]] = {}

    def add(self, row: int, note: str) -> None:
        """Count one image."""
        self._paths.setdefault(note, []).append(str(self._all_paths[row]))

    def lines(self) -> list[str]:
        """Return a line for each kind of note: how many images, and which are the first."""
        lines = []
        for note, paths in self._paths.items():
            more = ", ..." if len(paths) > _N_NAMED else ""
            lines.append(f"images with {note}: {len(paths):,} ({', '.join(paths[:_N_NAMED])}{more})")
        return lines


def n_decoders() -> int:
    """Return how many images are decoded at the same time: one a core that this process may use, within bounds."""
    return min(max(available_cores(), 2), MOST_DECODERS)
