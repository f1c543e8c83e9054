"""Name one share of many, and divide rows into shares."""

import re
from dataclasses import dataclass
from pathlib import Path

from featx.errors import FeatxError

_MOST = 100_000

# Where batches end: usual batch sizes are divisors of it.
_STEP = 128

# Sizes of shards differ by at most one part in this many.
_EVENNESS = 8


@dataclass(frozen=True, order=True)
class Shard:
    """One of the (nearly) equal shares of some work.

    Attributes
    ----------
    number : int
        From 1 to `count`.
    count : int

    Examples
    --------
    >>> Shard(2, 3).rows(1000)
    (320, 672)
    >>> str(Shard(2, 3)), Shard(2, 3).path_of("cells/store.h5").name
    ('2/3', 'store.shard-0002-of-0003.h5')
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= _MOST:
            raise FeatxError(
                f"expected NUMBER/COUNT with 1 <= NUMBER <= COUNT <= {_MOST:,}, found {self.number}/{self.count}",
                parameter="shard",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def tag(self) -> str:
        """Return the shard as file names have it: shard-0002-of-0003."""
        return f"shard-{self.number:04d}-of-{self.count:04d}"

    def rows(self, n_rows: int) -> tuple[int, int]:
        """Return the first row of this shard and the end of it; equal where a shard has none.

        Where there are enough rows, shards begin at multiples of 128, so that batches are those of one run over all
        rows, as long as no image is rejected and no two are identical.
        """
        share = n_rows // self.count // _EVENNESS
        step = min(_STEP, 1 << max(0, share.bit_length() - 1))
        first, end = (round(n_rows * number / self.count / step) * step for number in (self.number - 1, self.number))
        return min(first, n_rows), n_rows if self.number == self.count else min(end, n_rows)

    def path_of(self, path: str | Path) -> Path:
        """Return the path of this shard's part of a file: next to the file, with the shard in its name."""
        path = Path(path)
        return path.with_name(f"{path.stem}.{self.tag}{path.suffix}")


def parse_shard(text: str) -> Shard:
    """Read NUMBER/COUNT.

    Raises
    ------
    FeatxError
        If it is anything else.

    Examples
    --------
    >>> parse_shard("3/16")
    Shard(number=3, count=16)
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if not match:
        raise FeatxError(f"expected NUMBER/COUNT, such as 3/16, found {text!r}", parameter="shard")
    return Shard(int(match[1]), int(match[2]))
