"""SVMs for more rows than a Gram matrix can hold: near to `SVC`, not equal to it."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.kernel_approximation import Nystroem
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted, validate_data

from featx.fit.estimators.gram import choose_gamma
from featx.fit.estimators.row_weights import rows_to_fit
from featx.fit.estimators.svm import KERNELS, variance


class LargeSVC(ClassifierMixin, BaseEstimator):
    """A linear SVM in the primal, on the features themselves or on an approximation of the RBF kernel's.

    The linear kernel is scikit-learn's `LinearSVC` (squared hinge loss, one class against the rest). The RBF kernel is
    approximated by its values at some of the rows (Nyström's method: Williams and Seeger 2001, "Using the Nyström
    method to speed up kernel machines", NIPS 13), and `LinearSVC` fitted on these.

    Parameters
    ----------
    kernel : {"linear", "rbf"}, default "rbf"
    C : float, default 1.0
        Inverse strength of the regularization.
    gamma : {"scale", "auto"} or float, default "scale"
        As of `SVC`.
    class_weight : dict or "balanced", optional
    n_components : int, default 2000
        Number of rows that approximate the RBF kernel; all rows if there are fewer.
    random_state : int or RandomState, optional
        Chooses these rows.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    svc_ : LinearSVC
    map_ : Nystroem or None
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 3.0], [3.0, 4.0]])
    >>> LargeSVC(random_state=0).fit(X, ["a", "a", "b", "b"]).predict([[0.5, 0.5], [2.5, 3.0]])
    array(['a', 'b'], dtype='<U1')
    """

    def __init__(
        self,
        *,
        kernel: str = "rbf",
        C: float = 1.0,
        gamma: str | float = "scale",
        class_weight: dict | str | None = None,
        n_components: int = 2000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.kernel = kernel
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> "LargeSVC":
        """Fit the linear SVM, after the map if the kernel is not linear.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
            A row of weight 0 is not fitted on, as if it were not there.
        """
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {', '.join(KERNELS)}, got {self.kernel!r}")
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        kept, sample_weight = rows_to_fit(y, sample_weight)
        X, y = X[kept], y[kept]
        self.map_ = None
        if self.kernel == "rbf":
            gamma = choose_gamma(self.gamma, X.shape[1], variance(X))
            n_components = min(self.n_components, len(X))
            self.map_ = Nystroem(gamma=gamma, n_components=n_components, random_state=self.random_state)
            X = self.map_.fit_transform(X)
        self.svc_ = LinearSVC(
            C=self.C, class_weight=self.class_weight, random_state=self.random_state, max_iter=10_000
        ).fit(X, y, sample_weight)
        self.classes_ = self.svc_.classes_
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return how far each row lies on the side of the second class, or of each of three classes or more."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.svc_.decision_function(X if self.map_ is None else self.map_.transform(X))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return each row's class."""
        decision = self.decision_function(X)
        return self.classes_.take(decision > 0 if decision.ndim == 1 else decision.argmax(axis=1))


# The name that saved models hold, wherever the class lies.
LargeSVC.__module__ = "featx"
