"""Time a grid of SVMs on shared Gram matrices next to scikit-learn's GridSearchCV, on the same folds, in one run.

Both fit 2 kernels x 5 C x 3 gammas on 3 stratified folds; every cell's accuracy must agree in every fold. At the
default size GridSearchCV takes more than twenty minutes.

    python benchmarks/fit.py --rows 2000 --features 12416 --classes 29
    python benchmarks/fit.py --store store.h5 --rows 600
"""

import argparse
import json
import sys
import time
from itertools import product

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import featx
from featx.fit.estimators import SharedGram
from featx.fit.estimators.svm import fit_cells

GRID = {"kernel": ("linear", "rbf"), "C": (0.001, 0.01, 0.1, 1.0, 10.0), "gamma": ("scale", 1e-5, 1e-4)}
N_FOLDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--features", type=int, default=12_416, help="default: all of VGG16's layers")
    parser.add_argument("--classes", type=int, default=29)
    parser.add_argument("--store", help="train rows of this store (at most --rows) instead of synthetic features")
    parser.add_argument("--jobs", type=int, default=1, help="cells fitted at once, on both sides")
    parser.add_argument(
        "--blas-threads",
        type=int,
        default=1,
        help="on both sides; OpenBLAS splits SVC's inner products of over 10,000 features among threads, which makes "
        "GridSearchCV many times slower than in one thread",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()

    if options.store:
        X, y = read_features(options.store, options.rows, options.seed)
    else:
        X, y = make_features(options.rows, options.features, options.classes, options.seed)
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=options.seed).split(X, y))
    cells = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]

    with threadpool_limits(options.blas_threads, user_api="blas"):
        cpu = [time.process_time()]
        shared_scores, shared_seconds = time_shared(X, y, folds, cells, options.jobs)
        cpu.append(time.process_time())
        plain_scores, plain_seconds, repeated_seconds = time_plain(X, y, folds, cells, options.jobs)
        cpu.append(time.process_time())
    n_differing = int((shared_scores != plain_scores).sum())
    figures = {
        "rows": X.shape[0],
        "features": X.shape[1],
        "classes": len(set(y.tolist())),
        "cells": len(cells),
        "folds": N_FOLDS,
        "jobs": options.jobs,
        "blas_threads": options.blas_threads,
        "shared_seconds": round(shared_seconds, 2),
        "plain_seconds": round(plain_seconds, 2),
        # Of this process: what other work on the machine leaves alone. Not of the processes of several jobs.
        "shared_cpu_seconds": round(cpu[1] - cpu[0], 2),
        "plain_cpu_seconds": round(cpu[2] - cpu[1], 2),
        "ratio": round(plain_seconds / shared_seconds, 1),
        "ratio_without_repeats": round((plain_seconds - repeated_seconds / options.jobs) / shared_seconds, 1),
        "best_accuracy": round(float(plain_scores.mean(axis=1).max()), 4),
        "differing_accuracies": n_differing,
    }
    print(json.dumps(figures) if options.json else describe(figures))
    return 1 if n_differing else 0


def make_features(n_rows: int, n_features: int, n_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make features like a network's after ReLU: half of them 0, scales far apart, classes that overlap."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % n_classes
    hidden = 2.5 * rng.normal(size=(n_rows, 64)) + rng.normal(size=(n_classes, 64))[y]
    X = (hidden @ rng.normal(size=(64, n_features))).astype(np.float32)
    X += 4.0 * rng.standard_normal(size=X.shape, dtype=np.float32)
    X *= np.exp(rng.normal(size=n_features)).astype(np.float32)
    return np.maximum(X, 0.0, out=X), y


def read_features(store_path: str, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    store = featx.open(store_path)
    images = store.images
    y = images["label"][images["split"] == "train"].to_numpy(dtype=object)
    rows = np.random.default_rng(seed).permutation(len(y))[:n_rows]
    return store.matrix(split="train")[rows], y[rows]


def time_shared(X: np.ndarray, y: np.ndarray, folds: list, cells: list, n_jobs: int) -> tuple[np.ndarray, float]:
    begun = time.perf_counter()
    grams = SharedGram(X)
    scores = np.empty((len(cells), len(folds)))
    for number, (fit_rows, score_rows) in enumerate(folds):
        predictions = fit_cells(grams.fold(fit_rows, score_rows), y[fit_rows], cells, n_jobs=n_jobs)
        scores[:, number] = [np.mean(prediction.predicted == y[score_rows]) for prediction in predictions]
    return scores, time.perf_counter() - begun


def time_plain(X: np.ndarray, y: np.ndarray, folds: list, cells: list, n_jobs: int) -> tuple[np.ndarray, float, float]:
    """Return scores, seconds, and how many of them went into linear cells that differ in gamma alone."""
    search = GridSearchCV(
        Pipeline([("scale", StandardScaler()), ("svm", SVC())]),
        [{f"svm__{name}": [value] for name, value in cell.items()} for cell in cells],
        cv=folds,
        refit=False,
        n_jobs=n_jobs,
        error_score="raise",
    )
    begun = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - begun
    results = search.cv_results_
    scores = np.column_stack([results[f"split{number}_test_score"] for number in range(len(folds))])
    cell_seconds = (results["mean_fit_time"] + results["mean_score_time"]) * len(folds)
    repeated = [cell["kernel"] == "linear" and cell["gamma"] != GRID["gamma"][0] for cell in cells]
    return scores, seconds, float(cell_seconds[repeated].sum())


def describe(figures: dict) -> str:
    return "\n".join(
        [
            "{rows:,} rows x {features:,} features, {classes} classes, {cells} cells x {folds} folds, {jobs} at once, "
            "BLAS threads: {blas_threads}",
            "shared Gram matrices  {shared_seconds:10.2f} s, {shared_cpu_seconds:10.2f} s of CPU",
            "GridSearchCV          {plain_seconds:10.2f} s, {plain_cpu_seconds:10.2f} s of CPU",
            "ratio                 {ratio:10.1f}   ({ratio_without_repeats:.1f} if linear cells were fitted once)",
            "accuracies that differ{differing_accuracies:10d}   of {cells} x {folds}; the best has {best_accuracy:.4f}",
        ]
    ).format(**figures)


if __name__ == "__main__":
    sys.exit(main())
