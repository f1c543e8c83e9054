"""Random forests whose prefixes serve a grid's whole n_estimators axis."""

import copy
from collections.abc import Sequence

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.fit.estimators.row_weights import rows_to_fit


def fit_forest(
    forest: RandomForestClassifier, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
) -> RandomForestClassifier:
    """Fit a forest, as its own `fit` does; labels of digits may have balanced class weights too."""
    if forest.class_weight != "balanced":
        return forest.fit(X, y, sample_weight)
    classes, codes = np.unique(y, return_inverse=True)
    forest.fit(X, codes, sample_weight)
    forest.classes_ = classes
    return forest


class PrefixForestClassifier(ClassifierMixin, BaseEstimator):
    """A random forest that holds every smaller forest of its seed.

    scikit-learn draws its trees' seeds one after the other, so the first n trees of a forest are the forest of n trees
    (Breiman 2001, doi:10.1023/A:1010933404324, for the method). Fitting the largest one is enough.

    Parameters
    ----------
    n_estimators : int, default 100
        Trees of the largest forest.
    min_samples_leaf : int or float, default 1
    max_features : {"sqrt", "log2"}, int, float or None, default "sqrt"
    max_depth : int, optional
    class_weight : dict, "balanced" or "balanced_subsample", optional
    random_state : int or RandomState, optional
        All as those of `RandomForestClassifier`.
    n_jobs : int, optional
        Trees grown at once.

    Attributes
    ----------
    forest_ : RandomForestClassifier
        The largest one.
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X, y = np.arange(20.0).reshape(-1, 1), np.repeat(["a", "b"], 10)
    >>> forest = PrefixForestClassifier(n_estimators=30, random_state=0).fit(X, y)
    >>> [labels.tolist() for labels in forest.staged_predict([[1.0], [18.0]], [10, 30])]
    [['a', 'b'], ['a', 'b']]
    """

    def __init__(
        self,
        *,
        n_estimators: int = 100,
        min_samples_leaf: int | float = 1,
        max_features: str | int | float | None = "sqrt",
        max_depth: int | None = None,
        class_weight: dict | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.max_features = max_features
        self.max_depth = max_depth
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> "PrefixForestClassifier":
        """Grow the largest forest.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Trees compare float32 values.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
            A row of weight 0 is not fitted on, as if it were not there.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        kept, sample_weight = rows_to_fit(y, sample_weight)
        self.forest_ = fit_forest(RandomForestClassifier(**self.get_params()), X[kept], y[kept], sample_weight)
        self.classes_ = self.forest_.classes_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return each row's class by the largest forest."""
        probabilities = self.predict_proba(X)
        return self.classes_.take(probabilities.argmax(axis=1))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return each class's probability by the largest forest, shape (n_samples, n_classes), float64."""
        check_is_fitted(self)
        return self.staged_predict_proba(X, [len(self.forest_.estimators_)])[0]

    def staged_predict(self, X: np.ndarray, n_estimators: Sequence[int]) -> list[np.ndarray]:
        """Return each row's class by the first n trees, for every n.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        n_estimators : sequence of int
            Numbers of trees, from 1 to all, ascending.

        Returns
        -------
        list of ndarray of shape (n_samples,)
            What `RandomForestClassifier` of n trees with the same seed predicts.
        """
        staged = self.staged_predict_proba(X, n_estimators)
        return [self.classes_.take(probabilities.argmax(axis=1)) for probabilities in staged]

    def staged_predict_proba(self, X: np.ndarray, n_estimators: Sequence[int]) -> list[np.ndarray]:
        """Return each class's probability by the first n trees, for every n; each tree predicts once.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        n_estimators : sequence of int
            Numbers of trees, from 1 to all, ascending.

        Returns
        -------
        list of ndarray of shape (n_samples, n_classes), float64
            Trees are added up in their order, as by `RandomForestClassifier` in one thread; several threads add them
            up in any order, which may change the last digit.

        Raises
        ------
        ValueError
            If a number of trees is out of range or smaller than the one before.
        """
        check_is_fitted(self)
        self._check_sizes(n_estimators)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        total = np.zeros((len(X), len(self.classes_)))
        n_added = 0
        staged = []
        for n in n_estimators:
            for tree in self.forest_.estimators_[n_added:n]:
                total += tree.predict_proba(X, check_input=False)
            n_added = n
            staged.append(total / n)
        return staged

    def prefix(self, n_estimators: int) -> RandomForestClassifier:
        """Return the forest of the first trees, which it shares with this one.

        Parameters
        ----------
        n_estimators : int
            From 1 to all.

        Returns
        -------
        RandomForestClassifier
            As if fitted with this number of trees and the same seed.
        """
        check_is_fitted(self)
        self._check_sizes([n_estimators])
        forest = copy.copy(self.forest_)
        forest.n_estimators = n_estimators
        forest.estimators_ = self.forest_.estimators_[:n_estimators]
        return forest

    def _check_sizes(self, n_estimators: Sequence[int]) -> None:
        n_trees = len(self.forest_.estimators_)
        previous = 1
        for n in n_estimators:
            if not previous <= n <= n_trees:
                raise ValueError(
                    f"n_estimators: expected numbers from 1 to {n_trees}, ascending, got {list(n_estimators)}"
                )
            previous = n
