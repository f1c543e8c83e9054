"""What a network is fine-tuned on: the labelled rows of a store and their files, checked before anything begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import FeatxError, WeightsError
from featx.finetune.activations import Images
from featx.inference import build_recorded
from featx.networks import is_file_name, is_source
from featx.store import Rows, Settings, Store, check_splits, notes_on_splits, read_rows, store_record


@dataclass(frozen=True)
class Task:
    """The rows of a store, and the files behind them.

    Attributes
    ----------
    rows : Rows
        Without features.
    images : Images
        In the rows' order.
    classes : list of str
        Of the rows that weigh something, sorted.
    settings : Settings
        Of the store: its backbone and weights, and how images become pixels.
    described : dict
        What a run's record says of the store.
    notes : tuple of str
    """

    rows: Rows
    images: Images
    classes: list[str]
    settings: Settings
    described: dict[str, object]
    notes: tuple[str, ...]

    @property
    def targets(self) -> np.ndarray:
        """A one in each row's class: ndarray of shape (n_rows, n_classes), float32.

        None in rows of weight 0 whose class has no other rows; nothing is fitted on them, and no score counts them.
        """
        return (self.rows.y.astype(str)[:, np.newaxis] == np.array(self.classes)).astype(np.float32)

    def weights_for(self, class_weight: str | None) -> np.ndarray:
        """Return what each row counts in training.

        Parameters
        ----------
        class_weight : {"balanced"} or None
            Lets every class weigh the same, as in scikit-learn: by its share of the train rows.

        Returns
        -------
        ndarray of shape (n_rows,), float32
        """
        weights = np.ones(len(self.rows)) if self.rows.weights is None else self.rows.weights
        if class_weight == "balanced":
            train = self.rows.of("train")
            places = self.targets.argmax(axis=1)
            totals = np.bincount(places[train], weights[train], minlength=len(self.classes))
            # Of a class whose train rows all weigh 0, they still do.
            factors = np.divide(totals.sum() / len(totals), totals, out=np.zeros(len(totals)), where=totals > 0)
            weights = weights * factors[places]
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
    """Read what a network is to be fine-tuned on.

    Parameters
    ----------
    store_path : path
    root : path, optional
        Where the images' paths start; default: where they did when they were extracted.
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
        attributes = store.attributes
        table = store.images
        described = store_record(store, [])
    root = Path(root if root is not None else attributes["root"])
    task = _make_task(store_path, rows, table, root, Settings.from_record(attributes), described, notes, where)
    task.images.check_there()
    return task


@dataclass(frozen=True)
class StoreToBe:
    """What is known of a store that is yet to be made, in the place of it for `featx.store.rows.read_rows`.

    Attributes
    ----------
    path : Path
        Where it will be.
    images : DataFrame
        Columns path, label, split and any further ones.
    """

    path: Path
    images: pd.DataFrame

    def matrix(self, layers: Sequence[str]) -> np.ndarray:
        """Return no features: ndarray of shape (n_images, 0), float32."""
        return np.empty((len(self.images), 0), np.float32)


def _make_task(
    store_path: str | Path,
    rows: Rows,
    table: pd.DataFrame,
    root: Path,
    settings: Settings,
    described: dict[str, object],
    notes: Sequence[str],
    where: str | None,
) -> Task:
    check_task(store_path, rows, where)
    digest_of = dict(zip(table["path"], table["sha256"], strict=True))
    images = Images(
        root=root,
        paths=rows.paths,
        sha256=np.array([digest_of[path] for path in rows.paths], dtype=object),
        image_size=settings.image_size,
        resize=settings.resize,
        interpolation=settings.interpolation,
        jpeg=settings.jpeg,
        icc=settings.icc,
    )
    return Task(
        rows=rows,
        images=images,
        classes=sorted(set(rows.y[rows.with_weight(np.arange(len(rows)))].astype(str).tolist())),
        settings=settings,
        described=described,
        notes=(*notes, *notes_on_splits(rows)),
    )


def choose_weights(
    store_path: str | Path, settings: Settings, weights: str | None, *, echo: Callable[[str], None]
) -> str:
    """Return the weights that fine-tuning starts from: those that made the store's features.

    Parameters
    ----------
    store_path : path
        For messages.
    settings : Settings
        Of the store.
    weights : str or None
        What the user names; needed where the store's came from a file.
    echo : callable
        Is told what a user should know, a line at a time.

    Raises
    ------
    WeightsError
        If they are others than the store's, or the store's came from a file that isn't named.
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
    """Refuse rows that no network can be fine-tuned on.

    Parameters
    ----------
    store_path : path
        What a message begins with.
    rows : Rows
        With features or without.
    where : str or None
        What they were chosen by.

    Raises
    ------
    FeatxError
        If there are no train or validation rows, or a class has none in train.
    """
    check_splits(store_path, rows, where)
    if not len(rows.of("validation")):
        remedy = "Extract with --split 0.6,0.2,0.2, or give --split-column"
        if "validation" in rows.emptied:
            remedy = "--drop-duplicates has left them all out: leave it out, or divide the images again"
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
            "in train, so that no network can learn it. Divide the images again, or leave the class out with --where"
        )
