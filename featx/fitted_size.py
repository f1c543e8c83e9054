"""How many numbers a fitted classifier keeps: what stands beside the trainable weights of a network."""

from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featx.discretize import TernaryDiscretizer
from featx.large_svm import LargeSVC
from featx.svm import GramSVC

_LINEAR = ("coef_", "intercept_")

# What each kind reads to predict; a variance that is kept beside its deviation, say, isn't read.
_ARRAYS: dict[type[BaseEstimator], tuple[str, ...]] = {
    StandardScaler: ("mean_", "scale_"),
    TernaryDiscretizer: ("lower_", "upper_"),
    GramSVC: ("support_vectors_", "dual_coef_", "intercept_"),
    Nystroem: ("components_", "normalization_"),
    LinearSVC: _LINEAR,
    LogisticRegression: _LINEAR,
    LinearDiscriminantAnalysis: _LINEAR,
    # scikit-learn has no public name for the rows, and their labels, that it looks for neighbours among.
    KNeighborsClassifier: ("_fit_X", "_y"),
}


def count_parameters(estimator: BaseEstimator) -> int:
    """Count the numbers that a fitted estimator keeps and reads to predict.

    Means, deviations and thresholds of what comes before a classifier count too; names of classes, and what was given
    rather than fitted (a kernel's gamma, say), don't. An SVM keeps its support vectors, and nearest neighbours all rows
    that were fitted. A node of a tree is its feature, its threshold, its two children and a value a class.

    Parameters
    ----------
    estimator : fitted estimator
        A pipeline of `featx.classifiers.make_estimator`, or a part of one.

    Raises
    ------
    TypeError
        If it is of a kind that featx doesn't fit.

    Examples
    --------
    >>> count_parameters(LinearSVC().fit([[0.0, 0.0], [1.0, 1.0]], ["a", "b"]))
    3
    """
    if isinstance(estimator, Pipeline):
        return sum(count_parameters(step) for _, step in estimator.steps)
    if isinstance(estimator, RandomForestClassifier):
        return sum(tree.tree_.node_count * 4 + tree.tree_.value.size for tree in estimator.estimators_)
    if isinstance(estimator, LargeSVC):
        return count_parameters(estimator.svc_) + (count_parameters(estimator.map_) if estimator.map_ else 0)
    if type(estimator) not in _ARRAYS:
        raise TypeError(f"the size of a fitted {type(estimator).__name__} is not known")
    return sum(getattr(estimator, name).size for name in _ARRAYS[type(estimator)])
