"""What every image gives before anything is trained, computed once: pixels, or a frozen network's activations."""

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from featx.errors import ImageError, SourceError
from featx.finetune.cache import RowFiles
from featx.images import ImageOptions, Picture, flip
from featx.inference import Network, PooledNetwork, compute_parts, run_frozen
from featx.networks import WHOLE, FrozenBackbone
from featx.store import Part
from featx.system import progress_bar

PIXELS = "pixels"


_UNREADABLE = (
    "{path}: {reason}; it could be read when the store was made. Put the file back as it was, or extract anew without "
    "it (--overwrite)"
)


@dataclass(frozen=True)
class Images:
    """The image files that a network is trained and tested on, just as a store knows them.

    Attributes
    ----------
    root : Path
        Where the paths start.
    paths : ndarray of str
    sha256 : ndarray of str
        Digests of the files that the store's features were made of.
    image_size, resize, interpolation, jpeg, icc
        See `featx.images.decode.decode`.
    """

    root: Path
    paths: np.ndarray
    sha256: np.ndarray
    image_size: int
    resize: str
    interpolation: str
    jpeg: str
    icc: str = "ignore"

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """Digest of the files, and of how they become pixels."""
        shape = [self.image_size, self.resize, self.interpolation, self.jpeg]
        # Digests from before there was a choice stay what they were.
        colours = [] if self.icc == "ignore" else [self.icc]
        parts = [*shape, *colours, *self.sha256.tolist()]
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()

    def check_there(self) -> None:
        """Refuse files that are not where the store says.

        Raises
        ------
        SourceError
            Naming the first, and what to give.
        """
        missing = [path for path in self.paths if not (self.root / path).exists()]
        if missing:
            mend = "give the folder that their paths start from with --root"
            if Path(missing[0]).is_absolute():
                mend = "extract again: the store has this path from its root on"
            raise SourceError(
                f"{self.root / missing[0]}: no such file ({len(missing):,} of {len(self):,} images are not there). If "
                f"they were moved since they were extracted, {mend}; if they are gone, extract the others anew "
                "(--overwrite)"
            )


class ImageReader:
    """Pixels of images by their numbers, read and decoded anew each time.

    Parameters
    ----------
    images : Images
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read images: ndarray of shape (len(rows), image_size, image_size, 3), uint8."""
        read = reader_of(self._images)
        pictures = [_read(self._images, read, row) for row in rows.tolist()]
        _check_digests(self._images, rows, [picture.sha256 for picture in pictures])
        return np.stack([picture.pixels for picture in pictures])


class MirroredRows:
    """Pixels of mirrored images by their numbers.

    Parameters
    ----------
    pixels : object
        Has `take`, which gives the images as they are.
    view : str
        See `featx.images.FLIPS`.
    """

    def __init__(self, pixels: RowFiles | ImageReader, view: str) -> None:
        self._pixels = pixels
        self._view = view

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read images: ndarray of shape (len(rows), image_size, image_size, 3), uint8."""
        return flip(self._pixels.take(rows), self._view)


class MirroredNetwork:
    """A network that sees every image mirrored.

    Parameters
    ----------
    network : Network
    view : str
        See `featx.images.FLIPS`.
    """

    def __init__(self, network: Network, view: str) -> None:
        self._network = network
        self._view = view
        self.batch_size = network.batch_size
        self.n_channels = network.n_channels
        self.has_own_device = network.has_own_device

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Begin what calling does, and return what waits for it."""
        return self._network.submit(np.ascontiguousarray(flip(pixels, self._view)))

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Push the mirrored images through the network."""
        return self._network(np.ascontiguousarray(flip(pixels, self._view)))


class PixelNetwork:
    """What takes a network's place where the pixels themselves are wanted.

    Parameters
    ----------
    image_size : int
    batch_size : int, default 32
    """

    has_own_device = False

    def __init__(self, image_size: int, *, batch_size: int = 32) -> None:
        self.batch_size = batch_size
        self.n_channels = {PIXELS: 3 * image_size**2}

    def submit(self, pixels: np.ndarray) -> Callable[[], dict[str, np.ndarray]]:
        """Return what gives the pixels back."""
        return partial(self, pixels)

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Give the pixels back, a row an image."""
        return {PIXELS: pixels.reshape(len(pixels), -1)}


def make_network(frozen: FrozenBackbone, *, engine: str = "auto") -> PooledNetwork:
    """Make what gives the whole activations of a frozen network's layers, by the fastest engine.

    Parameters
    ----------
    frozen : FrozenBackbone
    engine : str, default "auto"
        See `featx.inference.engines.base.make_engine`.
    """
    return run_frozen(frozen, (WHOLE,), engine=engine)


def compute_rows(
    network: Network, images: Images, files: Mapping[str, RowFiles], *, what: str = "", progress: bool = False
) -> int:
    """Push images through a network, and write what it gives into files; what is there already isn't computed again.

    Parameters
    ----------
    network : Network
        Gives rows by the files' names.
    images : Images
    files : mapping of str to RowFiles
        All of the same blocks.
    what : str, optional
        What a progress bar says.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    int
        How many images went through the network.

    Raises
    ------
    SourceError
        If a file can't be read, or is another one than the store's features were made of.
    """
    blocks = next(iter(files.values())).blocks()
    gaps = [(start, stop) for start, stop in blocks if not all(rows.has(start) for rows in files.values())]
    n_computed = 0
    with (
        progress_bar(len(images), initial=len(images) - sum(b - a for a, b in gaps), wanted=progress) as bar,
        contextlib.closing(compute_parts(network, images.root, images.paths, reader_of(images), gaps)) as parts,
    ):
        bar.set_description(what)
        for start, stop in gaps:
            n_done = start
            block = {
                name: np.empty((stop - start, int(np.prod(rows.shape))), rows.dtype) for name, rows in files.items()
            }
            while n_done < stop:
                part = next(parts)
                _check_files(images, part)
                for name, rows in block.items():
                    rows[part.start - start : part.stop - start] = part.features[name]
                n_done = part.stop
                bar.update(part.stop - part.start)
            for name, rows in block.items():
                files[name].write(start, rows)
            n_computed += stop - start
    return n_computed


def time_images(network: Network, images: Images, rows: np.ndarray) -> float:
    """Return the seconds an image takes, from its file to what the network gives; the first batch doesn't count.

    Parameters
    ----------
    network : Network
    images : Images
    rows : ndarray of int
        At least one.
    """
    paths = images.paths[rows]
    warm = [(0, min(network.batch_size, len(paths)))]
    for gaps in (warm, [(0, len(paths))]):
        begun = time.monotonic()
        with contextlib.closing(compute_parts(network, images.root, paths, reader_of(images), gaps)) as parts:
            deque(parts, maxlen=0)
    return (time.monotonic() - begun) / len(paths)


def reader_of(images: Images) -> Callable[[Path], Picture]:
    """Return what turns the path of an image into its picture."""
    return ImageOptions.of(images).reader()


def _read(images: Images, read: Callable[[Path], Picture], row: int) -> Picture:
    try:
        return read(images.root / images.paths[row])
    except ImageError as error:
        raise SourceError(_UNREADABLE.format(path=images.root / images.paths[row], reason=error)) from error


def _check_files(images: Images, part: Part) -> None:
    for row, reason in part.rejected.items():
        raise SourceError(_UNREADABLE.format(path=images.root / images.paths[row], reason=reason))
    _check_digests(images, part.rows, [digest.decode() for digest in part.sha256.tolist()])


def _check_digests(images: Images, rows: np.ndarray, found: Sequence[str]) -> None:
    for row, digest in zip(rows.tolist(), found, strict=True):
        if digest != images.sha256[row]:
            raise SourceError(
                f"{images.root / images.paths[row]}: not the file that the store's features were made of (SHA-256 "
                f"{digest[:12]}..., expected {images.sha256[row][:12]}...). Put that one back, or extract again"
            )
