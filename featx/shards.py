"""A share of an extraction for each of many jobs: contiguous runs of the manifest's rows, a store of its own each."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from featx.errors import FeatxError, StoreError
from featx.image_files import digest_of
from featx.labels import text_of
from featx.manifest import Manifest

_MOST, _MOST_IMAGES = 100_000, 10**10
# Where batches end: usual batch sizes are divisors of it.
_STEP = 128
# Shards differ in size by no more than one in so many.
_EVENNESS = 8


@dataclass(frozen=True, order=True)
class Shard:
    """One of the equal shares that work is divided into.

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
                f"shard {self.number}/{self.count}: expected NUMBER/COUNT with 1 <= NUMBER <= COUNT <= {_MOST:,}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def tag(self) -> str:
        """What stands in names of files: shard-0002-of-0003."""
        return f"shard-{self.number:04d}-of-{self.count:04d}"

    def rows(self, n_rows: int) -> tuple[int, int]:
        """Return the first row of this shard and the end of it; equal where a shard has none.

        Where there are enough rows, shards begin at multiples of 128, so that batches are those of one run over all
        rows, as long as no image is rejected and no two are identical.
        """
        share = n_rows // self.count // _EVENNESS
        step = min(_STEP, 1 << max(0, share.bit_length() - 1))
        first, end = (round(n_rows * place / self.count / step) * step for place in (self.number - 1, self.number))
        return min(first, n_rows), n_rows if self.number == self.count else min(end, n_rows)

    def path_of(self, path: str | Path) -> Path:
        """Return where this shard's part of a file lies: beside it, with the shard in its name."""
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
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if not found:
        raise FeatxError(f"shard {text!r}: expected NUMBER/COUNT, such as 3/16")
    return Shard(int(found[1]), int(found[2]))


def take_shard(manifest: Manifest, shard: Shard) -> Manifest:
    """Return the manifest of one shard's rows."""
    start, stop = shard.rows(len(manifest))
    return replace(manifest, table=manifest.table.iloc[start:stop].reset_index(drop=True))


@dataclass(frozen=True)
class ShardOrigin:
    """What a shard is a part of, as its store keeps it: shards make one store only where this is the same.

    Attributes
    ----------
    n_images : int
        Of the whole manifest.
    paths_sha256 : str
        Of its paths, as the whole store has it.
    table_sha256 : str
        Of all its columns.
    request : dict
        What was asked for, see `featx.extract.extract_features`; and weights_sha256, of weights that are a file.
    """

    n_images: int
    paths_sha256: str
    table_sha256: str
    request: dict[str, object]

    def to_json(self) -> str:
        """Return the text that `read_origin` reads."""
        return json.dumps(asdict(self), sort_keys=True)


def describe_origin(manifest: Manifest, request: Mapping[str, object]) -> ShardOrigin:
    """Describe the whole that shards are made of."""
    table = manifest.table
    request = {**request, "weights_sha256": digest_weights(str(request["weights"]))}
    digest = hashlib.sha256()
    for name in sorted(table):
        text = "\0".join(map(text_of, [name, *table[name]]))
        digest.update(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())
    return ShardOrigin(len(table), digest_paths(manifest), digest.hexdigest(), request)


def digest_weights(weights: str) -> str | None:
    """Return the digest of weights that are a file or a fine-tuned run's folder; None of those that have a name."""
    path = Path(weights)
    path = path / "network.weights.h5" if path.is_dir() else path
    return digest_of(path) if path.is_file() else None


def digest_paths(manifest: Manifest) -> str:
    """Return the digest of a manifest's paths, in their order."""
    text = "\0".join(manifest.table["path"]).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()


def read_origin(attributes: Mapping[str, object], path: Path) -> tuple[Shard, ShardOrigin]:
    """Return which shard a store is, and of what.

    Raises
    ------
    StoreError
        If its attributes don't tell.
    """
    try:
        origin = ShardOrigin(**json.loads(attributes["shard_of"]))
        if type(origin.n_images) is not int or not 0 <= origin.n_images <= _MOST_IMAGES:
            raise ValueError(f"n_images is {origin.n_images!r}")
        if not isinstance(origin.request, dict) or not isinstance(origin.paths_sha256, str):
            raise TypeError("shard_of has entries of other kinds")
        return parse_shard(str(attributes["shard"])), origin
    except (KeyError, TypeError, ValueError, RecursionError, FeatxError) as error:
        raise StoreError(f"{path}: no shard of a store (featx extract --shard makes them): {error}") from error
