"""Label new images with a run's saved model or network, and write the predictions as CSV or JSON."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from featx.errors import FeatxError, SourceError
from featx.images import ImageOptions, PictureNotes, sort_labels, write_table
from featx.inference.pipeline import compute_parts, join_layers
from featx.inference.rebuild import read_layers, read_settings, rebuild_finetuned, rebuild_network
from featx.networks.recipes import PREDICTIONS
from featx.results import load_model, read_finetuned, read_run
from featx.store import Part
from featx.system import progress_bar


class NetworkClassifier:
    """A classifier whose features are the probabilities that a network gives its classes.

    Parameters
    ----------
    classes : sequence of str
        In the order of the probabilities.

    Attributes
    ----------
    classes_ : ndarray of str, object
    n_features_in_ : int
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes_ = np.array(list(classes), dtype=object)
        self.n_features_in_ = len(self.classes_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row; of equals the first."""
        return self.classes_[X.argmax(axis=1)]

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probabilities as they are."""
        return X


@dataclass(frozen=True)
class Block:
    """Predictions for some consecutive images.

    Attributes
    ----------
    table : DataFrame
        One row per image that could be read, in the order of the images. Columns `path` and `predicted`; then
        `probability_<class>` of every class where the model knows probabilities, else `score`, the decision value of
        the predicted class, where it knows those.
    rejected : DataFrame
        Columns `path` and `reason`, of the images that could not be read.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame


def write_predictions(blocks: Iterable[Block], file: BinaryIO, *, as_json: bool = False) -> pd.DataFrame:
    """Write predictions.

    Parameters
    ----------
    blocks : iterable of Block
    file : binary file
    as_json : bool, default False
        Write one JSON object, `predictions` and `rejected`, once it is complete; else CSV as it comes, with six digits
        per number.

    Returns
    -------
    DataFrame
        `path` and `reason` of the images that could not be read.
    """
    rejected = [pd.DataFrame({"path": [], "reason": []}, dtype=object)]
    records: list[dict[str, object]] = []
    has_header = False
    for block in blocks:
        rejected.append(block.rejected)
        if as_json:
            records += block.table.to_dict("records")
        elif len(block.table):
            text = io.StringIO()
            write_table(block.table, text, index=False, header=not has_header, float_format="%.6g", lineterminator="\n")
            file.write(text.getvalue().encode())
            file.flush()
            has_header = True
    refused = pd.concat(rejected, ignore_index=True)
    if as_json:
        record = {"predictions": records, "rejected": refused.to_dict("records")}
        file.write((json.dumps(record, indent=1) + "\n").encode())
    return refused


# A model sees about this many rows at a time: some classifiers do as much work for one row as for many.
_BLOCK_ROWS = 512


class Predictor:
    """A run's saved model and the network that made the features it was fitted on; or a fine-tuned network by itself.

    Parameters
    ----------
    run_path : path
        The folder of a run, as `featx fit` or `featx finetune` writes it.
    weights : str, optional
        The network's weights; default: those on the run's record. A run whose weights came from a file, or from a
        fine-tuned run, needs that; a fine-tuned run takes none but its own.
    batch_size : int, default 8
        Images per forward pass.
    echo : callable, optional
        Receives what a user should know, one line at a time.

    Attributes
    ----------
    run : Run
    classes : list of str
        The classes that the model chooses from.
    settings : Settings
        Those of the store that the model was fitted on, or the network fine-tuned on.

    Raises
    ------
    FeatxError
        If there is no such run, its record or its model is not as featx writes them, or the weights are others.
    """

    def __init__(
        self,
        run_path: str | Path,
        *,
        weights: str | None = None,
        batch_size: int = 8,
        echo: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._echo = echo
        self.run = read_run(run_path)
        self.settings = read_settings(run_path, self.run)
        options = {"weights": weights, "batch_size": batch_size, "echo": echo}
        if self.run.is_finetuned:
            self._layers = [PREDICTIONS]
            self._model = NetworkClassifier(read_finetuned(run_path).classes)
            self._network = rebuild_finetuned(run_path, self.settings, **options)
        else:
            self._layers = read_layers(run_path, self.run, self.settings)
            self._model = load_model(run_path)
            self._network = rebuild_network(run_path, self.settings, **options)
        n_features = sum(self._network.n_channels[layer] for layer in self._layers)
        if not hasattr(self._model, "predict") or getattr(self._model, "n_features_in_", None) != n_features:
            raise FeatxError(
                f"{run_path}: model.skops is no classifier of the {n_features:,} features in run.json; "
                "was one of the two replaced? Fit the run again"
            )
        self.classes = [str(label) for label in self._model.classes_]

    def stream(self, images: str | Path | Sequence[str | Path], *, progress: bool = False) -> Iterator[Block]:
        """Classify images and yield what was found, some hundred at a time; memory doesn't grow with their number.

        Parameters
        ----------
        images : path, or sequence of path
            See `featx.images.list_sources`.
        progress : bool, default False
            Show a progress bar, if standard error is a terminal.

        Yields
        ------
        Block

        Raises
        ------
        FeatxError
            If none of the images could be read.
        """
        # As they were given, since predictions name them so.
        images = [images] if isinstance(images, str | Path) else images
        if not len(images):
            raise SourceError("no images to classify: give at least one")
        read = ImageOptions.of(self.settings).reader()
        whole = [(0, len(images))]
        n_read = 0
        first: tuple[str, str] | None = None
        notes = PictureNotes(images)
        with (
            progress_bar(len(images), wanted=progress) as bar,
            contextlib.closing(compute_parts(self._network, Path(), images, read, whole, note=notes.add)) as parts,
        ):
            for block in map(partial(self._predict, images), _gather(parts, bar.update)):
                n_read += len(block.table)
                if first is None and len(block.rejected):
                    first = tuple(block.rejected.iloc[0])
                yield block
        for line in notes.lines():
            self._echo(line)
        if not n_read:
            raise SourceError(f"none of the {len(images):,} images could be read; the first, {first[0]}: {first[1]}")

    def _predict(self, images: Sequence[str | Path], parts: Sequence[Part]) -> Block:
        rows = np.concatenate([part.rows for part in parts])
        reasons = {row: reason for part in parts for row, reason in part.rejected.items()}
        rejected = {"path": [str(images[row]) for row in reasons], "reason": list(reasons.values())}
        X = np.concatenate([join_layers(part, self._layers) for part in parts])
        columns: dict[str, object] = {"path": [str(images[row]) for row in rows]}
        return Block(pd.DataFrame(columns | self._predict_columns(X)), pd.DataFrame(rejected, dtype=object))

    def _predict_columns(self, X: np.ndarray) -> dict[str, object]:
        """Return the columns that the model has for some rows of features, maybe none."""
        if not len(X):
            return {"predicted": []}
        model = self._model
        columns: dict[str, object] = {"predicted": model.predict(X)}
        if hasattr(model, "predict_proba"):
            probability_of = dict(zip(self.classes, model.predict_proba(X).T, strict=True))
            columns |= {f"probability_{name}": probability_of[name] for name in sort_labels(self.classes)}
        elif hasattr(model, "decision_function"):
            indices = np.searchsorted(model.classes_, columns["predicted"])
            columns["score"] = _score_of(model.decision_function(X), indices)
        return columns


def predict_images(
    run_path: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    weights: str | None = None,
    batch_size: int = 8,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Block:
    """Classify images with a run's saved model, or with the network of a fine-tuned run.

    Parameters
    ----------
    run_path : path
        The folder of a run, as `featx fit` or `featx finetune` writes it.
    images : path, or sequence of path
        See `featx.images.list_sources`.
    weights, batch_size, echo
        See `Predictor`.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Block
        Of all images. `Predictor.stream` gives the same piece by piece.

    Raises
    ------
    FeatxError
        If the run or its weights are not as they should be, or none of the images could be read.
    """
    predictor = Predictor(run_path, weights=weights, batch_size=batch_size, echo=echo)
    blocks = list(predictor.stream(images, progress=progress))
    return Block(
        table=pd.concat([block.table for block in blocks if len(block.table)], ignore_index=True),
        rejected=pd.concat([block.rejected for block in blocks], ignore_index=True),
    )


def _gather(parts: Iterator[Part], advance: Callable[[int], object]) -> Iterator[list[Part]]:
    """Yield lists of parts of about `_BLOCK_ROWS` rows together."""
    gathered: list[Part] = []
    for part in parts:
        gathered.append(part)
        advance(part.stop - part.start)
        if part.stop - gathered[0].start >= _BLOCK_ROWS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _score_of(decision: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return each row's decision value for the class at its index; for two classes there is one value, the second's."""
    if decision.ndim == 1:
        return np.where(indices == 1, decision, -decision)
    return decision[np.arange(len(decision)), indices]
