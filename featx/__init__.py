"""featx: frozen deep features and classical classifiers, measured honestly beside a fine-tuned network.

Importing featx loads neither Keras nor scikit-learn; a name's module is loaded when the name is first used.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULE_OF = {
    "DeepFeatures": "deepfeatures",
    "FeatxError": "errors",
    "GramSVC": "svm",
    "Manifest": "manifest",
    "PrefixForestClassifier": "forests",
    "Predictor": "predict",
    "Store": "store",
    "TernaryDiscretizer": "discretize",
    "choose_among": "among",
    "export_store": "export",
    "extract_features": "extract",
    "compare_runs": "compare",
    "fine_tune": "finetune",
    "fit_grid": "grid",
    "fit_repeats": "repeats",
    "fit_share": "grid",
    "make_count_splits": "splits",
    "make_splits": "splits",
    "merge_shards": "merging",
    "open": "store",
    "predict_images": "predict",
    "read_experiment": "experiment",
    "read_run": "results",
    "read_source": "manifest",
    "repeat_share": "repeats",
    "repair_store": "repair",
    "run_experiment": "experiment_run",
    "verify_store": "verify",
}

__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'featx' has no attribute {name!r}")
    return getattr(import_module(f"featx.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
