"""Read what a network is fine-tuned on: the labelled rows of a store and their image files, checked before training."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, ImageError, SourceError, WeightsError
from featx.images import ImageOptions, Picture
from featx.inference import build_recorded
from featx.networks import is_file_name, is_source
from featx.store import Rows, Settings, Store, check_splits, notes_on_splits, read_rows, store_record
from featx.system import sha256_of


@dataclass(frozen=True)
class ImageDataset:
    """The image files of a task, in the order of its rows.

    Attributes
    ----------
    root : Path
        Folder that the paths start from.
    paths : ndarray of str
    sha256 : ndarray of str
        Digests of the files that the store's features were made of.
    options : ImageOptions
        How the files become pixels.
    """

    root: Path
    paths: np.ndarray
    sha256: np.ndarray
    options: ImageOptions

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """Digest of the files, and of how they become pixels."""
        return sha256_of("\n".join(map(str, (*astuple(self.options), *self.sha256.tolist()))))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read and decode images: ndarray of shape (len(rows), image_size, image_size, 3), uint8."""
        pictures = [self._read(row) for row in rows.tolist()]
        self.check_digests(rows, [picture.sha256 for picture in pictures])
        return np.stack([picture.pixels for picture in pictures])

    def _read(self, row: int) -> Picture:
        try:
            return self.options.read(self.root / self.paths[row])
        except ImageError as error:
            raise self.unreadable(row, str(error)) from error

    def unreadable(self, row: int, reason: str) -> SourceError:
        """Return the error of a file that can't be read."""
        return SourceError(
            f"{self.root / self.paths[row]}: {reason}; it could be read when the store was made. Restore the file, or "
            "extract again without it, with `overwrite`"
        )

    def check_exists(self) -> None:
        """Check that all files exist."""
        missing = [path for path in self.paths if not (self.root / path).exists()]
        if missing:
            remedy = "give the folder that their paths start from as `root`"
            if Path(missing[0]).is_absolute():
                remedy = "extract again: the store has absolute paths"
            raise SourceError(
                f"{self.root / missing[0]}: no such file ({len(missing):,} of {len(self):,} images are missing). If "
                f"they were moved since they were extracted, {remedy}; if they are gone, extract the others again, "
                "with `overwrite`"
            )

    def check_digests(self, rows: np.ndarray, digests: Sequence[str]) -> None:
        """Check that files that were read are those that the store's features were made of."""
        for row, digest in zip(rows.tolist(), digests, strict=True):
            if digest != self.sha256[row]:
                raise SourceError(
                    f"{self.root / self.paths[row]}: not the file that the store's features were made of (SHA-256 "
                    f"{digest[:12]}..., expected {self.sha256[row][:12]}...). Restore that file, or extract again"
                )


@dataclass(frozen=True)
class Task:
    """The rows of a store, and their image files.

    Attributes
    ----------
    rows : Rows
        Without features.
    images : ImageDataset
        In the rows' order.
    classes : list of str
        The labels of rows with a weight, sorted.
    settings : Settings
        The store's: its backbone and weights, and how images become pixels.
    store : dict
        The record of the store in the run's record.
    notes : tuple of str
    """

    rows: Rows
    images: ImageDataset
    classes: list[str]
    settings: Settings
    store: dict[str, object]
    notes: tuple[str, ...]

    @property
    def targets(self) -> np.ndarray:
        """Each row's class as a one: ndarray of shape (n_rows, n_classes), float32.

        A row of weight 0 has none if no other row has its class; nothing is fitted or scored on it.
        """
        return (self.rows.y.astype(str)[:, np.newaxis] == np.array(self.classes)).astype(np.float32)

    def weights_for(self, class_weight: str | None) -> np.ndarray:
        """Return the rows' weights in training: ndarray of shape (n_rows,), float32.

        With `class_weight` "balanced", all classes have the same weight in the train rows, as in scikit-learn.
        """
        weights = np.ones(len(self.rows)) if self.rows.weights is None else self.rows.weights
        if class_weight == "balanced":
            train = self.rows.of("train")
            classes = self.targets.argmax(axis=1)
            totals = np.bincount(classes[train], weights[train], minlength=len(self.classes))
            # A class whose train rows all have the weight 0 keeps it.
            factors = np.divide(totals.sum() / len(totals), totals, out=np.zeros(len(totals)), where=totals > 0)
            weights = weights * factors[classes]
        return weights.astype(np.float32)


def read_task(
    store_path: str | Path,
    *,
    root: str | Path | None = None,
    label: str = "label",
    where: str | None = None,
    split: str = "split",
    sample_weight: str | None = None,
    drop_duplicates: bool = False,
) -> Task:
    """Read the rows and the image files that a network is fine-tuned on.

    Parameters
    ----------
    store_path : path
    root : path, optional
        Folder that the images' paths start from; default: the one that they were extracted from.
    label, where, split, sample_weight, drop_duplicates
        See `featx.store.rows.read_rows`.

    Raises
    ------
    FeatxError
        If rows, splits or files don't allow it.
    """
    with Store(store_path) as store:
        options = {"split": split, "sample_weight": sample_weight, "drop_duplicates": drop_duplicates}
        rows, notes = read_rows(store, [], label=label, where=where, **options)
        settings = Settings.from_record(store.attributes)
        sha256_by_path = store.images.set_index("path")["sha256"]
        root = Path(root if root is not None else store.attributes["root"])
        record = store_record(store, [])
    check_task(store_path, rows, where)
    sha256 = sha256_by_path.loc[rows.paths].to_numpy(dtype=object)
    images = ImageDataset(root, rows.paths, sha256, ImageOptions.of(settings))
    images.check_exists()
    return Task(
        rows=rows,
        images=images,
        classes=sorted(set(rows.y[rows.with_weight(np.arange(len(rows)))].astype(str).tolist())),
        settings=settings,
        store=record,
        notes=(*notes, *notes_on_splits(rows)),
    )


@dataclass(frozen=True)
class PlannedStore:
    """The path and the table of images of a store that doesn't exist yet, for `featx.store.rows.read_rows`."""

    path: Path
    images: pd.DataFrame

    def matrix(self, layers: Sequence[str]) -> np.ndarray:
        """Return no features: ndarray of shape (n_images, 0), float32."""
        return np.empty((len(self.images), 0), np.float32)


def choose_weights(
    store_path: str | Path, settings: Settings, weights: str | None, *, echo: Callable[[str], None]
) -> str:
    """Return the weights that fine-tuning starts from: those that made the store's features.

    Parameters
    ----------
    store_path : path
        For messages.
    settings : Settings
        The store's.
    weights : str or None
        The user's choice; needed if the store's weights came from a file.
    echo : callable
        Receives messages for the user, one line each.

    Raises
    ------
    WeightsError
        If they are not the store's, or the store's came from a file and none is named.
    """
    if not is_source(settings.weights) and not is_file_name(settings.weights):
        raise WeightsError(
            f"{store_path}: its features are of the fine-tuned network {settings.weights!r}, and only a backbone can "
            "be fine-tuned: give the store that it was fine-tuned on"
        )
    if weights is None:
        if is_source(settings.weights):
            return settings.weights
        raise WeightsError(
            f"{store_path}: its features' weights came from the file {settings.weights!r}: give its path as `weights`"
        )
    build_recorded(store_path, settings, weights, echo=echo)
    return weights


def check_task(store_path: str | Path, rows: Rows, where: str | None) -> None:
    """Check that a network can be fine-tuned on rows: train and validation rows, and train rows of every class.

    Parameters
    ----------
    store_path : path
        For messages.
    rows : Rows
        With or without features.
    where : str or None
        The expression that chose them.

    Raises
    ------
    FeatxError
    """
    check_splits(store_path, rows, where)
    if not len(rows.of("validation")):
        remedy = "Extract with three shares, as 0.6,0.2,0.2, or name another column as `split`"
        if "validation" in rows.emptied:
            remedy = "`drop_duplicates` has left them all out: leave it out, or divide the images again"
        raise FeatxError(
            f"{store_path}: no validation rows, by which fine-tuning chooses its epoch; test rows are never used "
            f"for it. {remedy}"
        )
    labels = rows.y[rows.with_weight(np.arange(len(rows)))]
    absent = sorted(set(labels) - set(rows.y[rows.with_weight(rows.of("train"))]))
    if absent:
        of_weight = "" if rows.weights is None else " of a weight over 0"
        raise FeatxError(
            f"{store_path}: the class {absent[0]!r} ({int((labels == absent[0]).sum()):,} rows{of_weight}) has none "
            "in train, so that no network can learn it. Divide the images again, or leave the class out by `where`"
        )
