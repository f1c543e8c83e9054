"""The full-network embedding's discretization, as a scikit-learn transformer."""

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

# Columns are summed in blocks of about this many values, so that no double-precision copy of the matrix is made.
_BLOCK_VALUES = 2**22


class TernaryDiscretizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Standardise each feature on the rows it is fitted on, then map it to -1, 0 or 1.

    A value is -1 if its standard score lies below `low`, 1 if above `high`, else 0; a feature that is constant in the
    fitted rows becomes 0. Thresholds and method are those of the full-network embedding: Garcia-Gasulla et al. 2017,
    arXiv 1705.07706.

    Parameters
    ----------
    low : float, default -0.25
    high : float, default 0.15
        Standard scores; `low` is at most `high`.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,), float64
    scale_ : ndarray of shape (n_features,), float64
        Standard deviation (of the population); 0 for constant features.
    lower_, upper_ : ndarray of shape (n_features,), float64
        The thresholds in the features' own units; infinite for constant features.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]])
    >>> TernaryDiscretizer().fit_transform(X)
    array([[-1.,  0.],
           [ 0.,  0.],
           [ 1.,  0.]])
    """

    def __init__(self, *, low: float = -0.25, high: float = 0.15) -> None:
        self.low = low
        self.high = high

    def fit(self, X: np.ndarray, y: object = None) -> "TernaryDiscretizer":
        """Learn each feature's mean, deviation and thresholds.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Train rows only: nothing may be learned from others.
        y : ignored
        """
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got low={self.low!r} and high={self.high!r}")
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self.mean_, self.scale_ = _mean_and_deviation(X)
        constant = (self.scale_ == 0) | (X[:1] == X).all(axis=0)
        self.scale_[constant] = 0.0
        self.lower_ = np.where(constant, -np.inf, self.mean_ + self.low * self.scale_)
        self.upper_ = np.where(constant, np.inf, self.mean_ + self.high * self.scale_)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Map features to -1, 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            float32 for float32 input, else float64.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        discrete = (self.upper_ < X).astype(X.dtype)
        discrete -= self.lower_ > X
        return discrete

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _mean_and_deviation(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute mean and deviation of every column in double precision, some columns at a time."""
    mean, deviation = np.empty(X.shape[1]), np.empty(X.shape[1])
    width = max(1, _BLOCK_VALUES // len(X))
    for first in range(0, X.shape[1], width):
        block = X[:, first : first + width].astype(np.float64)
        mean[first : first + width] = block.mean(axis=0)
        deviation[first : first + width] = block.std(axis=0)
    return mean, deviation


# The name that saved models hold, wherever the class lies.
TernaryDiscretizer.__module__ = "featx"
