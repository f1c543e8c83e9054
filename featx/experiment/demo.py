"""Run the demo, an experiment on real photographs of solar cells, and lay out its table next to published results."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featx.experiment.file import read_experiment
from featx.experiment.run import run_experiment
from featx.results import FINETUNE, Run, format_params, read_run
from featx.store import Store

EXPERIMENT = Path(__file__).with_name("demo.yaml")


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
    """Results of the demo.

    Attributes
    ----------
    store_path : str
    engine : str
        The engine that ran the network, and its version.
    runs : dict of str to Run
        By their folders.
    majority_class_rate : float
        Accuracy of always answering the most frequent class of the train rows, on the test rows.
    experiment_path : str
        The experiment file with every default written out.
    report_path : str or None
        The page about the runs; None where the extra `report` is not installed.
    """

    store_path: str
    engine: str
    runs: dict[str, Run]
    majority_class_rate: float
    experiment_path: str
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
    """Run the experiment that ships with featx; what an earlier call has finished is used again.

    Parameters
    ----------
    output : path
        The folder for the store, the runs and the report.
    n_images : int, optional
        Number of photographs, with the labels' and types' shares kept; default: all 2,624.
    batch_size : int, default 8
    seed : int, default 0
        Of the splits, forests and fine-tuning.
    overwrite : bool, default False
        Replace what exists with other settings.
    progress : bool, default False
        Show progress bars, if standard error is a terminal.
    echo : callable, optional
        Receives a line for each step.

    Returns
    -------
    Demo

    Examples
    --------
    >>> demo = run_demo("demo", n_images=300)    # doctest: +SKIP
    """
    changes = {
        "output": str(Path(output).absolute()),
        "source.n_images": n_images,
        "stores.*.batch_size": batch_size,
        **{f"{key}.seed": seed for key in ("split", "finetunes.*", "fits.*")},
    }
    experiment = read_experiment(EXPERIMENT, changes=changes)
    done = run_experiment(experiment, overwrite=overwrite, progress=progress, echo=echo)
    folder = Path(output)
    runs = {str(folder / "runs" / name): read_run(experiment.run_path(name)) for name in (*experiment.fits, "finetune")}
    store_path = experiment.store_path("elpv")
    with Store(store_path) as store:
        engine = f"{store.attributes['engine']} {store.attributes.get('engine_version', '')}".rstrip()
    return Demo(
        store_path=str(folder / "stores" / store_path.name),
        engine=engine,
        runs=runs,
        majority_class_rate=next(iter(runs.values())).test["majority_class_rate"],
        experiment_path=str(folder / experiment.record_path.name),
        report_path=None if done.report is None else str(folder / experiment.report_path.name),
    )


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
