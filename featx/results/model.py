"""Load the fitted model of a run without running untrusted code."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.results.folder import NETWORK_FILE, put_back

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

# The only types beyond skops's own that a model of featx contains.
TRUSTED_TYPES = (
    "featx.TernaryDiscretizer",
    "featx.LargeSVC",
    "featx.GramSVC",
    "sklearn.tree._tree.Tree",
)


def load_model(run_path: str | Path) -> "BaseEstimator":
    """Load a run's fitted estimator, unless the file contains a type that no model of featx has.

    Parameters
    ----------
    run_path : path
        The run's folder.

    Returns
    -------
    scikit-learn estimator

    Raises
    ------
    FeatxError
        If there is no model, it is damaged, or it contains another type: it is then not built.
    """
    import skops.io

    put_back(run_path)
    path = Path(run_path) / "model.skops"
    try:
        untrusted = set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES)
        if untrusted:
            raise FeatxError(
                f"{path}: contains {sorted(untrusted)[0]}, which no model of featx has: don't trust this file, make "
                "the run again"
            )
        return skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except FileNotFoundError as error:
        if path.with_name(NETWORK_FILE).exists():
            raise FeatxError(
                f"{path}: no such model: this run is a fine-tuned network. Use featx predict {path.parent}, or featx "
                f"extract --weights {path.parent} for its features"
            ) from error
        raise FeatxError(f"{path}: no such model; was the run's folder copied whole?") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise FeatxError(f"{path}: damaged, or no model of featx: {error}. Fit the run again") from error
