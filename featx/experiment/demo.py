"""The whole way on real photographs: solar cells, ImageNet's VGG16, a store, RF, SVM and fine-tuning, one table."""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featx.errors import FeatxError
from featx.extract import extract_features
from featx.finetune import fine_tune
from featx.fit import fit_grid, plan_cells
from featx.images import Manifest, make_splits, read_elpv
from featx.networks.recipes import read_recipe, recipe_record
from featx.report import write_report
from featx.results import FINETUNE, Run, format_params, put_back, read_run
from featx.store import Store

SPLIT = (0.6, 0.2, 0.2)


GRIDS = {
    "rf": {"n_estimators": (50, 200), "min_samples_leaf": (2, 7, 20)},
    # The default grid.
    "svm": {},
}


RECIPE = "solar"


# Minutes less: without mirrored images one pass through the network is enough.
RECIPE_CHANGES = {"augmentation": {"flip": "none"}, "block5.epochs": 4}


PUBLISHED = (
    ("hand-made features + linear SVM", 0.824),
    ("fine-tuned VGG19", 0.884),
)
"""Accuracies of Deitsch et al. 2019 (arXiv 1807.02894) on the same photographs, 75% train and 25% test."""


_METHODS = {
    ("rf", "none"): "random forest, features as they are",
    ("rf", "ternary"): "random forest, ternary features",
    ("svm", "none"): "SVM, standardised features",
    ("svm", "ternary"): "SVM, ternary features",
    (FINETUNE, "none"): "fine-tuned VGG16: a head, then block 5",
}


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes
    ----------
    store_path : str
    engine : str
        What ran the network, and its version.
    runs : dict of str to Run
        By their folders.
    majority_class_rate : float
        Accuracy of always answering the class that is most frequent in train, on the test rows.
    report_path : str or None
        The page about the runs; None where the extra `report` is not installed.
    """

    store_path: str
    engine: str
    runs: dict[str, Run]
    majority_class_rate: float
    report_path: str | None = None


def run_demo(
    output: str | Path,
    *,
    n_images: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    echo: Callable[[str], None] = lambda line: None,
) -> Demo:
    """Extract features of the ELPV photographs, fit RF and SVM on them, and fine-tune the network on the same rows.

    What an earlier call has finished is used again.

    Parameters
    ----------
    output : path
        The folder for store and runs; made if it isn't there.
    n_images : int, optional
        Take so many of the photographs, with the labels' and types' shares kept; default: all 2,624.
    batch_size : int, default 8
    seed : int, default 0
        Of the splits, forests and fine-tuning.
    overwrite : bool, default False
        Do everything anew.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Is told what goes on, a line at a time.
    """
    manifest = make_splits(read_elpv(n_images, seed=seed), SPLIT, seed=seed, stratify=["type"])
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FeatxError(f"{folder}: this folder can't be made: {error.strerror}") from error
    store_path = folder / "elpv.h5"
    if store_path.exists() and not overwrite and _is_of(store_path, manifest):
        echo(f"{store_path}: there already")
    else:
        extract_features(
            manifest,
            store_path,
            layers="conv",
            weights="imagenet-conv",
            batch_size=batch_size,
            overwrite=overwrite,
            progress=progress,
            echo=echo,
        )
    runs = {}
    for model, grid in GRIDS.items():
        for discretize in ("none", "ternary"):
            run_path = folder / "results" / (model if discretize == "none" else f"{model}-{discretize}")
            echo(f"{run_path}: fitting")
            runs[str(run_path)] = _fit_or_read(
                run_path, store_path, model, grid, discretize, seed, overwrite=overwrite, progress=progress
            )
    run_path = folder / "results" / "finetune"
    echo(f"{run_path}: fine-tuning")
    runs[str(run_path)] = _tune_or_read(run_path, store_path, seed, overwrite=overwrite, progress=progress, echo=echo)
    with Store(store_path) as store:
        engine = f"{store.attributes.get('engine', 'keras')} {store.attributes.get('engine_version', '')}".rstrip()
    majority = next(iter(runs.values())).test["majority_class_rate"]
    report_path = _report(list(runs), folder / "report.html", progress=progress, echo=echo)
    return Demo(str(store_path), engine, runs, majority, report_path)


def _report(runs: list[str], path: Path, *, progress: bool, echo: Callable[[str], None]) -> str | None:
    """Write the page about the runs, where its libraries are there; it is the demo's own, and made anew every time."""
    if not all(map(importlib.util.find_spec, ("jinja2", "matplotlib"))):
        echo("no report of the runs: it takes pip install 'featx[report]'")
        return None
    echo(f"{path}: writing the report")
    return str(write_report(runs, path, overwrite=True, progress=progress))


def demo_table(demo: Demo) -> pd.DataFrame:
    """Return the table that the demo prints: featx's runs, the majority class, the published results."""
    rows: list[dict[str, object]] = [
        {
            "method": _METHODS[run.model, run.best.discretize],
            "chosen on validation rows": format_params(run.best.params),
            "validation": run.best.validation_accuracy,
            "test": run.test["accuracy"],
            "seconds": sum(cell.seconds for cell in run.cells) + run.refit_seconds,
        }
        for run in demo.runs.values()
    ]
    rows.append({"method": "always the majority class", "test": demo.majority_class_rate})
    rows += [{"method": f"published: {method} (other split)", "test": accuracy} for method, accuracy in PUBLISHED]
    return pd.DataFrame(rows)


def _is_of(store_path: Path, manifest: Manifest) -> bool:
    """Whether a finished store holds just these images in these splits."""
    with Store(store_path) as store:
        images = store.images
        columns = ["path", "label", "split"]
        if images[columns].to_numpy().tolist() == manifest.table[columns].to_numpy().tolist():
            return True
    raise FeatxError(
        f"{store_path}: holds other images, or other splits of them ({len(images):,}, now {len(manifest):,}). Give "
        "another --output, or --overwrite to do everything anew"
    )


def _tune_or_read(
    run_path: Path,
    store_path: Path,
    seed: int,
    *,
    overwrite: bool,
    progress: bool,
    echo: Callable[[str], None],
) -> Run:
    put_back(run_path)
    if run_path.exists() and not overwrite:
        run = read_run(run_path)
        recipe = recipe_record(read_recipe(RECIPE, changes=RECIPE_CHANGES))
        is_same = run.is_finetuned and run.baseline["recipe"] == recipe and run.protocol["seed"] == seed
        if is_same and _is_of_store(run, store_path):
            return run
        overwrite = True
    return fine_tune(
        *(store_path, RECIPE, run_path),
        changes=RECIPE_CHANGES,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
        echo=echo,
    )


def _is_of_store(run: Run, store_path: Path) -> bool:
    with Store(store_path) as store:
        return run.store.get("run_id") == store.attributes.get("run_id")


def _fit_or_read(
    run_path: Path,
    store_path: Path,
    model: str,
    grid: dict,
    discretize: str,
    seed: int,
    *,
    overwrite: bool,
    progress: bool,
) -> Run:
    put_back(run_path)
    if run_path.exists() and not overwrite:
        run = read_run(run_path)
        planned = plan_cells(model, grid, discretize)
        is_same = [(cell.discretize, cell.params) for cell in run.cells] == planned and run.protocol["seed"] == seed
        if is_same and _is_of_store(run, store_path):
            return run
        overwrite = True
    return fit_grid(
        store_path,
        model,
        run_path,
        grid=grid,
        discretize=discretize,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
