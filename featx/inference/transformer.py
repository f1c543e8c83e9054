"""Pooled activations of a frozen network, as a scikit-learn transformer: image paths in, features out."""

import contextlib
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.errors import SourceError, WeightsError
from featx.images import ImageOptions, PictureNotes
from featx.inference.network import PooledNetwork, build_network
from featx.inference.options import NetworkOptions
from featx.inference.pipeline import compute_parts, join_layers
from featx.system import WrongValue, options_of


class DeepFeatures(TransformerMixin, BaseEstimator):
    """Turn image files into the pooled activations of a frozen network.

    The features are those that `featx extract` writes with the same settings. Nothing is learned from the images, so
    fitting on any rows gives the same features. For many fits on the same images a store is far cheaper; in a grid
    search, give the pipeline `memory=` so that each fold's features are computed once.

    Parameters
    ----------
    backbone, layers, weights, image_size, preprocessing, pool, views, engine, precision, batch_size
        See `featx.inference.build_network`.
    resize, interpolation, jpeg, icc : str
        See `featx.images.decode.decode`.

    Attributes
    ----------
    network_ : PooledNetwork
        Built by `fit`. Pickles and copies leave it out, and build it again from the parameters when `transform` first
        needs it: Keras models don't travel between processes, and half a gigabyte of weights should not.
    weights_sha256_ : str
        Digest of the weights that are used. Building the network again with others is an error.
    n_channels_ : dict of str to int
        Features per layer, in the order of the columns.
    n_features_out_ : int
    n_features_in_ : int
        1: the path.
    feature_names_in_ : ndarray of shape (1,), object
        Only if X was a DataFrame.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import LinearSVC
    >>> pipeline = make_pipeline(DeepFeatures(layers="block5"), LinearSVC())
    >>> pipeline.fit(train_paths, train_labels).predict(["new.jpg"])     # doctest: +SKIP
    array(['ash'], dtype='<U5')
    """

    def __init__(
        self,
        *,
        backbone: str = "vgg16",
        layers: str = "all",
        weights: str = "imagenet",
        image_size: int | None = None,
        resize: str = "squash",
        interpolation: str = "bilinear",
        preprocessing: str | None = None,
        pool: str = "avg",
        views: str = "none",
        engine: str = "auto",
        precision: str = "float32",
        jpeg: str = "full",
        icc: str = "convert",
        batch_size: int | str = 8,
    ) -> None:
        self.backbone = backbone
        self.layers = layers
        self.weights = weights
        self.image_size = image_size
        self.resize = resize
        self.interpolation = interpolation
        self.preprocessing = preprocessing
        self.pool = pool
        self.views = views
        self.engine = engine
        self.precision = precision
        self.jpeg = jpeg
        self.icc = icc
        self.batch_size = batch_size

    def fit(self, X: object, y: object = None) -> "DeepFeatures":
        """Build the network; no image is opened.

        Parameters
        ----------
        X : array-like of str or Path, of shape (n_images,) or (n_images, 1)
        y : ignored

        Raises
        ------
        ValueError, TypeError
            If a parameter is not one of its choices, or X holds no paths.
        FeatxError
            If a layer is unknown, or the weights or its part of them are missing.
        """
        self._check_parameters()
        self._check_paths(X, reset=True)
        notes: list[str] = []
        self.network_ = self._build(echo=notes.append)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        self.weights_sha256_ = self.network_.weights_sha256
        self.n_channels_ = dict(self.network_.n_channels)
        self.n_features_out_ = sum(self.n_channels_.values())
        return self

    def transform(self, X: object) -> np.ndarray:
        """Read images and push them through the network; memory holds the result and a few batches.

        Parameters
        ----------
        X : array-like of str or Path, of shape (n_images,) or (n_images, 1)

        Returns
        -------
        ndarray of shape (n_images, n_features_out_), float32

        Raises
        ------
        FeatxError
            If an image can't be read; it is named.
        """
        check_is_fitted(self)
        paths = self._check_paths(X, reset=False)
        network = self._ready_network()
        features = np.empty((len(paths), self.n_features_out_), dtype=np.float32)
        read = replace(ImageOptions.of(self), image_size=network.image_size).reader()
        whole = [(0, len(paths))]
        notes = PictureNotes(paths)
        with contextlib.closing(compute_parts(network, Path(), paths, read, whole, note=notes.add)) as parts:
            for part in parts:
                for row, reason in part.rejected.items():
                    raise SourceError(f"{paths[row]}: {reason}. Leave this image out, or fix it")
                features[part.start : part.stop] = join_layers(part, self.n_channels_)
        for line in notes.lines():
            warnings.warn(line, stacklevel=2)
        return features

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return `<layer>/<channel>` of every feature.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_features_out_,), object
        """
        check_is_fitted(self)
        names = [f"{layer}/{channel}" for layer, width in self.n_channels_.items() for channel in range(width)]
        return np.array(names, dtype=object)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in super().__getstate__().items() if name != "network_"}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_sha256_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        # A column of paths is taken too, but two_d_array would promise that columns of numbers are.
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _check_parameters(self) -> None:
        for name, option in (options_of(NetworkOptions) | options_of(ImageOptions)).items():
            try:
                option.check(getattr(self, name))
            except WrongValue as error:
                raise ValueError(str(error)) from error

    def _check_paths(self, X: object, *, reset: bool) -> list[str]:
        """Return X's paths; like scikit-learn, remember or compare the name of its column."""
        column = X if hasattr(X, "columns") else np.asarray(X, dtype=object)
        if getattr(column, "ndim", None) == 1:
            column = column[:, None]
        if column.ndim != 2 or column.shape[1] != 1:
            raise ValueError(f"X: expected paths of images, (n,) or (n, 1), got shape {column.shape}")
        column = validate_data(self, column, dtype=object, ensure_all_finite=False, reset=reset)
        for row, path in enumerate(column[:, 0]):
            if not isinstance(path, str | os.PathLike):
                raise TypeError(f"X: expected paths of images, got {path!r} in row {row}")
        return [os.fspath(path) for path in column[:, 0]]

    def _build(self, echo: Callable[[str], None] = lambda line: None) -> PooledNetwork:
        return build_network(
            self.backbone,
            layers=self.layers,
            weights=self.weights,
            image_size=self.image_size,
            preprocessing=self.preprocessing,
            pool=self.pool,
            views=self.views,
            engine=self.engine,
            precision=self.precision,
            batch_size=self.batch_size,
            echo=echo,
        )

    def _ready_network(self) -> PooledNetwork:
        """Return the network, built again where a pickle or a copy left it out."""
        if not hasattr(self, "network_"):
            network = self._build()
            if network.weights_sha256 != self.weights_sha256_:
                raise WeightsError(
                    f"weights {self.weights!r}: not those that this was fitted with (SHA-256 "
                    f"{network.weights_sha256[:16]}..., expected {self.weights_sha256_[:16]}...). Fit it again"
                )
            self.network_ = network
        return self.network_
