"""A bar that counts what is done."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int, *, initial: int = 0, wanted: bool = True, unit: str = "img") -> Iterator:
    """Show a bar that counts images, or other units, where it is wanted and standard error is a terminal."""
    from tqdm import tqdm

    # disable=None: only where standard error is a terminal.
    with tqdm(total=total, initial=initial, unit=unit, disable=None if wanted else True, smoothing=0.1) as bar:
        yield bar
