"""Stage 2, store to results: fit a grid, choose on validation rows, refit, score once on test rows."""

import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx.discretize import TernaryDiscretizer
from featx.errors import FeatxError
from featx.layers import BACKBONES, choose_layers
from featx.results import Cell, Run, check_free, write_run
from featx.rows import Rows, folds, notes_on_splits, read_rows
from featx.store import Store

DISCRETIZATIONS = {"none": ("none",), "ternary": ("ternary",), "both": ("none", "ternary")}

DEFAULT_GRIDS: dict[str, dict[str, tuple]] = {
    "rf": {"n_estimators": (50,), "min_samples_leaf": (2,), "max_features": ("sqrt",)},
    "svm": {"kernel": ("linear", "rbf"), "C": (0.001, 0.01, 0.1, 1.0, 10.0), "gamma": ("scale",)},
}


def fit_grid(
    store_path: str | Path,
    model: str,
    output: str | Path,
    *,
    grid: Mapping[str, Sequence] | None = None,
    layers: str = "all",
    discretize: str = "none",
    cv: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> Run:
    """Fit every cell of a grid, choose the best, refit it on all rows but the test rows, score it there once.

    Cells are compared on the validation rows after fitting on the train rows, or by cross-validation over both. An SVM
    sees features standardised on the rows it is fitted on, or discretized; a forest sees them as they are, or
    discretized.

    Parameters
    ----------
    store_path : path
        A store with labels and splits.
    model : {"rf", "svm"}
        `RandomForestClassifier` or `SVC` of scikit-learn.
    output : path
        The folder to write, one a run.
    grid : mapping of str to sequence, optional
        Values of scikit-learn's parameters; those left out stand at `DEFAULT_GRIDS`.
        gamma counts for every kernel but linear.
    layers : str, default "all"
        Names and sets of the store's layers, separated by commas; see `featx.layers.choose_layers`.
    discretize : {"none", "ternary", "both"}, default "none"
        See `featx.TernaryDiscretizer`; "both" makes it an axis of the grid.
    cv : int, optional
        Number of folds; stratified, and grouped where the store has a group column.
    seed : int, default 0
        Of forests and folds.
    overwrite : bool, default False
        Replace a run that is there.
    progress : bool, default False
        Show a progress bar, if standard error is a terminal.

    Returns
    -------
    Run
        As it was written to `output`.

    Raises
    ------
    FeatxError
        If the store has nothing to fit or to choose on, or the output is taken.
    """
    check_free(Path(output), overwrite=overwrite)
    cells = plan_cells(model, grid or {}, discretize)
    with Store(store_path) as store:
        chosen_layers = _choose_stored_layers(store, layers)
        train, validation, test, notes = read_rows(store, chosen_layers)
        described = _describe_store(store, chosen_layers)
    selection = _check_protocol(train, validation, test, cells, cv, store_path)
    fitted = []
    for cell in _with_progress(cells, progress):
        fitted.append(_try_cell(model, cell, train, validation, selection, cv, seed))
    scores = [-1.0 if cell.validation_accuracy is None else cell.validation_accuracy for cell in fitted]
    chosen = int(np.argmax(scores))

    begun = time.monotonic()
    known = train.join(validation)
    best = make_estimator(model, *cells[chosen], seed=seed).fit(known.X, known.y)
    refit_seconds = time.monotonic() - begun
    predicted = best.predict(test.X) if len(test) else np.array([], dtype=object)
    run = Run(
        model=model,
        store=described,
        protocol={
            "selection": selection,
            "cv": cv,
            "seed": seed,
            "classes": sorted(set(known.y.tolist())),
            "n_train": len(train),
            "n_validation": len(validation),
            "n_test": len(test),
        },
        cells=tuple(fitted),
        chosen=chosen,
        test=_score(known.y, test.y, predicted) if len(test) else None,
        refit_seconds=round(refit_seconds, 3),
        versions={
            "featx": featx.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*notes, *notes_on_splits(train, validation, test)),
    )
    write_run(
        Path(output),
        run,
        predictions=pd.DataFrame({"path": test.paths, "label": test.y, "predicted": predicted}),
        per_class=_report_classes(test.y, predicted),
        confusion=_count_confusion(test.y, predicted),
        estimator=best,
        overwrite=overwrite,
    )
    return run


def plan_cells(model: str, grid: Mapping[str, Sequence], discretize: str) -> list[tuple[str, dict[str, object]]]:
    """List (discretization, parameters) of every cell, in the order of the grid's axes."""
    axes = {**DEFAULT_GRIDS[model], **{name: tuple(values) for name, values in grid.items() if values}}
    unknown = [name for name in axes if name not in DEFAULT_GRIDS[model] and name != "max_depth"]
    if unknown:
        raise FeatxError(f"{model} has no parameter {unknown[0]!r}; there are {', '.join(DEFAULT_GRIDS[model])}")
    cells = []
    for step in DISCRETIZATIONS[discretize]:
        for values in product(*axes.values()):
            params = dict(zip(axes, values, strict=True))
            if params.get("kernel") == "linear":
                del params["gamma"]
            if (step, params) not in cells:
                cells.append((step, params))
    return cells


def make_estimator(model: str, discretize: str, params: Mapping[str, object], *, seed: int = 0) -> Pipeline:
    """Build the plain scikit-learn pipeline of one cell."""
    classifier: BaseEstimator
    if model == "rf":
        classifier = RandomForestClassifier(**params, random_state=seed, n_jobs=-1)
    else:
        classifier = SVC(**params)
    steps: list[tuple[str, BaseEstimator]] = []
    if discretize == "ternary":
        steps.append(("discretize", TernaryDiscretizer()))
    elif model == "svm":
        steps.append(("standardise", StandardScaler()))
    return Pipeline([*steps, ("classifier", classifier)])


def _choose_stored_layers(store: Store, text: str) -> list[str]:
    """Return the layers asked for; `all` is all that the store has."""
    if text == "all":
        return store.layers
    return list(choose_layers(text, BACKBONES[store.attributes["backbone"]]))


def _describe_store(store: Store, layers: Sequence[str]) -> dict[str, object]:
    attributes = store.attributes
    kept = (
        "backbone",
        "weights",
        "weights_sha256",
        "pooling",
        "image_size",
        "preprocessing",
        "settings_sha256",
    )
    return {
        "path": str(store.path),
        "layers": list(layers),
        "n_features": sum(store.n_channels[layer] for layer in layers),
        **{name: attributes[name] for name in kept},
    }


def _check_protocol(
    train: Rows, validation: Rows, test: Rows, cells: list, cv: int | None, store_path: str | Path
) -> str:
    """Return how cells are compared: `validation`, `cv`, or `none` where there is only one."""
    if not len(train):
        raise FeatxError(f"{store_path}: no labelled train rows. Extract again with --split 0.6,0.2,0.2")
    counts = pd.Series(np.concatenate([train.y, validation.y])).value_counts()
    if len(counts) < 2:
        raise FeatxError(f"{store_path}: one class only ({counts.index[0]!r}) in train; a classifier needs two")
    if cv is not None:
        if counts.min() < cv:
            raise FeatxError(
                f"--cv {cv}: the class {counts.idxmin()!r} has {counts.min()} rows outside test, fewer than folds. "
                f"Use --cv {max(2, counts.min())} or add images"
            )
        return "cv"
    if len(set(train.y)) < 2:
        raise FeatxError(f"{store_path}: one class only ({train.y[0]!r}) in train; a classifier needs two")
    if len(validation):
        return "validation"
    if len(cells) > 1:
        raise FeatxError(
            f"{store_path}: {len(cells)} cells to choose from and no validation rows. Use --cv 5, or extract with "
            "--split 0.6,0.2,0.2; test rows are never used to choose"
        )
    return "none"


def _try_cell(
    model: str,
    cell: tuple[str, dict],
    train: Rows,
    validation: Rows,
    selection: str,
    cv: int | None,
    seed: int,
) -> Cell:
    """Fit one cell and score it where cells are compared."""
    estimator = make_estimator(model, *cell, seed=seed)
    begun = time.monotonic()
    scores: list[float] = []
    if selection == "validation":
        scores.append(estimator.fit(train.X, train.y).score(validation.X, validation.y))
    elif selection == "cv":
        known = train.join(validation)
        for fit_rows, score_rows in folds(known, cv, seed):
            fold = clone(estimator).fit(known.X[fit_rows], known.y[fit_rows])
            scores.append(fold.score(known.X[score_rows], known.y[score_rows]))
    return Cell(
        discretize=cell[0],
        params=cell[1],
        validation_accuracy=float(np.mean(scores)) if scores else None,
        validation_deviation=float(np.std(scores)) if selection == "cv" else None,
        seconds=round(time.monotonic() - begun, 3),
    )


def _with_progress(cells: list, wanted: bool) -> Sequence:
    from tqdm import tqdm

    # disable=None: only where standard error is a terminal.
    return tqdm(cells, unit="cell", disable=None if wanted else True)


def _score(y_known: np.ndarray, y_test: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    majority = pd.Series(y_known).value_counts().index[0]
    return {
        "accuracy": float(accuracy_score(y_test, predicted)),
        "balanced_accuracy": float(balanced_accuracy_score(y_test, predicted)),
        "macro_f1": float(f1_score(y_test, predicted, average="macro", zero_division=0)),
        "majority_class_rate": float(np.mean(y_test == majority)),
    }


def _report_classes(y_test: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Return precision, recall, F1 and support of each class."""
    classes = sorted({*y_test, *predicted})
    columns = ["precision", "recall", "f1", "support"]
    if not classes:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="class"))
    figures = precision_recall_fscore_support(y_test, predicted, labels=classes, zero_division=0)
    return pd.DataFrame(dict(zip(columns, figures, strict=True)), index=pd.Index(classes, name="class"))


def _count_confusion(y_test: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Return counts with a row a true class and a column a predicted one."""
    classes = sorted({*y_test, *predicted})
    counts = confusion_matrix(y_test, predicted, labels=classes) if classes else np.empty((0, 0), dtype=int)
    return pd.DataFrame(counts, index=pd.Index(classes, name="label"), columns=classes)
