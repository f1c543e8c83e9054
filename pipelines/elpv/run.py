"""Published protocols on ELPV's solar cells, from one store of features; see the README next to this file."""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
# Weights are kept in the checkout, as by the Makefile.
os.environ.setdefault("FEATX_CACHE", str(HERE.parents[1] / "cache"))

import featx  # noqa: E402
from featx.fit import CHOOSE_BY, fit_repeats, plan_cells, read_strata  # noqa: E402
from featx.fit.splits import draw_holdout  # noqa: E402
from featx.images import read_elpv  # noqa: E402
from featx.networks.recipes import read_recipe, recipe_record  # noqa: E402
from featx.results import RepeatedRun  # noqa: E402
from featx.store import read_rows  # noqa: E402

# One cell: nothing to choose.
RF = {"grid": {"n_estimators": (200,), "min_samples_leaf": (2,)}}
KERNELS = {"kernel": ("linear", "rbf"), "C": (0.0003, 0.001, 0.01, 1.0, 3.0, 10.0, 30.0), "gamma": ("scale", 3e-5)}
CHOICES = {"svm": {"grid": KERNELS, "discretize": "both"}, "rf": RF}
# Of the train rows, so many choose the epoch; the rest is trained on.
VALIDATION_SHARE = 0.15
SMALL_RECIPE = {"epochs": 1}
SMALL_CHOICES = {"svm": {"grid": {"kernel": ("rbf",), "C": (10.0,)}}, "rf": {"grid": {"n_estimators": (5,)}}}

FOUR_CLASSES = """Song et al. 2024 (arXiv 2408.06229): four classes, mono and poly apart, 50 random 80/20 splits"""
BINARY = """Deitsch et al. 2019 (arXiv 1807.02894): probability over 0.5, 75/25 stratified by label and type"""
FINE_TUNED = (
    """the binary protocol's first splits: VGG16 fine-tuned (head, then block 5), next to the SVM on the same rows"""
)

BINARY_SPLITS = {"test_share": 0.25, "stratify": ("label", "type"), "sample_weight": "weight"}

PUBLISHED = {
    "four-classes": [
        ("VGG16 block5_pool flattened + RBF SVM", "79.0", "74.5"),
        ("the same features + random forest", "not given", "72.7"),
        ("fine-tuned VGG19", "81.2", "80.2"),
        ("fine-tuned ResNet50", "78.4", "79.9"),
    ],
    "binary": [("hand-made features + linear SVM", "82.4", "0.885"), ("fine-tuned VGG19", "88.4", "0.944")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=["four-classes", "binary", "fine-tuned"])
    parser.add_argument("-o", "--output", type=Path, default=HERE / "output", help="folder for the store and the runs")
    parser.add_argument("--repeats", type=count, help="default: 50 for four-classes, 10 for binary, 3 for fine-tuned")
    parser.add_argument("--models", type=list_models, default=("svm", "rf"), help="svm, rf, or both with a comma")
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--choose-by", choices=CHOOSE_BY, help="default: accuracy for four-classes, roc_auc for binary")
    parser.add_argument("--recipe", default="solar", help="of fine-tuned")
    parser.add_argument("--small", action="store_true", help="one cell a model, one epoch a stage, to try this out")
    parser.add_argument("--images", type=count, help="take so many of the 2,624 photographs")
    options = parser.parse_args()
    try:
        run(options)
    except featx.FeatxError as error:
        sys.exit(f"run.py: {error}")


def count(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, found {text!r}")
    return int(text)


def list_models(text: str) -> tuple[str, ...]:
    """Read models with commas."""
    models = tuple(name.strip() for name in text.split(","))
    for name in models:
        if name not in CHOICES:
            raise argparse.ArgumentTypeError(f"expected {' or '.join(CHOICES)}, found {name!r}")
    return models


def run(options: argparse.Namespace) -> None:
    """Run a protocol, print its table and write it."""
    options.output.mkdir(parents=True, exist_ok=True)
    store_path = make_store(options.output, options.images)
    run_protocol = {"four-classes": run_four_classes, "binary": run_binary, "fine-tuned": run_fine_tuned}[
        options.protocol
    ]
    choices = SMALL_CHOICES if options.small else CHOICES
    models = ("svm",) if options.protocol == "fine-tuned" else options.models
    choices = {model: choices[model] for model in models}
    table = run_protocol(store_path, options.output, choices, options)
    text = table.to_markdown(index=False)
    (options.output / f"{options.protocol}.md").write_text(text + "\n", encoding="utf-8")
    titles = {"four-classes": FOUR_CLASSES, "binary": BINARY, "fine-tuned": FINE_TUNED}
    print(f"{titles[options.protocol]}\n\n{text}")


def make_store(output: Path, n_images: int | None) -> Path:
    """Extract the 13 convolutions' means at 224 pixels, unless that is done."""
    store_path = output / "elpv.h5"
    if store_path.exists():
        with featx.open(store_path) as store:
            if n_images not in (None, len(store)):
                raise featx.FeatxError(
                    f"{store_path}: is there with {len(store):,} images, not {n_images:,}: leave --images out, or give "
                    "another --output"
                )
    else:
        manifest = read_elpv(n_images)
        featx.extract_features(manifest, store_path, layers="conv", weights="imagenet-conv", progress=True, echo=print)
    return store_path


def run_four_classes(store_path: Path, output: Path, choices: dict, options: argparse.Namespace) -> pd.DataFrame:
    rows = []
    for model, choice in choices.items():
        cells = []
        for kind in ("mono", "poly"):
            run = repeat(
                *(store_path, output / f"four-classes-{model}-{kind}", model),
                **choice,
                n_repeats=options.repeats or 50,
                seed=options.seed,
                choose_by=options.choose_by or "accuracy",
                test_share=0.2,
                stratify=(),
                label="probability",
                where=f'type == "{kind}"',
            )
            cells.append(f"{100 * run.mean['accuracy']:.1f} ± {100 * run.deviation.get('accuracy', np.nan):.1f}")
        rows.append((f"featx, {model} on the means of 13 layers", *cells))
    rows += [(f"published: {name}", mono, poly) for name, mono, poly in PUBLISHED["four-classes"]]
    return pd.DataFrame(rows, columns=["method", "mono, accuracy %", "poly, accuracy %"])


def run_fine_tuned(store_path: Path, output: Path, choices: dict, options: argparse.Namespace) -> pd.DataFrame:
    n_splits = options.repeats or 3
    seeds = range(options.seed, options.seed + n_splits)
    add_splits(store_path, seeds)
    figures = [
        # The activations of all photographs serve every split.
        tune(store_path, output / f"fine-tuned-{seed}", seed, options, keep_cache=seed != seeds[-1])
        for seed in seeds
    ]
    svm_path = output / "fine-tuned-svm"
    repeat(
        *(store_path, svm_path, "svm"),
        **choices["svm"],
        n_repeats=n_splits,
        seed=options.seed,
        choose_by=options.choose_by or "roc_auc",
        **BINARY_SPLITS,
    )
    svm = json.loads((svm_path / "repeats.json").read_text(encoding="utf-8"))
    methods = {
        f"featx, fine-tuned VGG16 ({options.recipe})": figures,
        "featx, svm on the means of 13 layers": [entry["test"] for entry in svm["repeats"]],
    }
    rows = []
    for name, tests in methods.items():
        for figure in ("accuracy", "roc_auc"):
            values = [test[figure] for test in tests]
            print(f"{name}: {figure} {np.mean(values):.6f} before rounding; {', '.join(f'{v:.4f}' for v in values)}")
        accuracy, auc = ([test[figure] for test in tests] for figure in ("accuracy", "roc_auc"))
        rows.append(
            (
                name,
                f"{100 * np.mean(accuracy):.1f} ± {100 * np.std(accuracy):.1f}",
                f"{np.mean(auc):.3f} ± {np.std(auc):.3f}",
            )
        )
    rows += [(f"published: {name}", accuracy, auc) for name, accuracy, auc in PUBLISHED["binary"]]
    return pd.DataFrame(rows, columns=["method", "accuracy %", "ROC AUC"])


def add_splits(store_path: Path, seeds: range) -> None:
    """Write the splits of the binary protocol into the store: for each seed a column of splits, and one of weights."""
    with featx.open(store_path) as store:
        table, root = store.images, Path(store.attributes["root"])
        options = {name: store.attributes[name] for name in ("backbone", "weights", "image_size", "pooling")}
        layers = store.layers
        if all(f"split_{seed}" in table for seed in seeds):
            return
        rows, _ = read_rows(store, [], needs_split=False)
        strata = read_strata(store, rows, BINARY_SPLITS["stratify"], "label")
    for seed in seeds:
        known, test = draw_holdout(rows, strata, BINARY_SPLITS["test_share"], seed)
        _, validation = train_test_split(known, test_size=VALIDATION_SHARE, random_state=seed, stratify=strata[known])
        split = np.full(len(rows), "train", dtype=object)
        split[test], split[validation] = "test", "validation"
        # Weights are for training: the choice of an epoch and the test figures count every photograph once.
        weight = np.where(split == "train", table["weight"], 1.0)
        table = table.assign(**{f"split_{seed}": split, f"weight_{seed}": weight})
    manifest = featx.Manifest(table.drop(columns="sha256"), root)
    pool = options.pop("pooling")
    featx.extract_features(
        manifest, store_path, layers=",".join(layers), pool=pool, progress=True, echo=print, **options
    )


def tune(store_path: Path, output: Path, seed: int, options: argparse.Namespace, *, keep_cache: bool) -> dict:
    """Fine-tune on one split, or read what an earlier call has done; return the test figures."""
    changes = SMALL_RECIPE if options.small else {}
    if (output / "run.json").exists():
        run = featx.read_run(output)
        recipe = recipe_record(read_recipe(options.recipe, changes=changes))
        if run.baseline and run.baseline["recipe"] == recipe and run.protocol["seed"] == seed:
            return run.test
    return featx.fine_tune(
        *(store_path, options.recipe, output),
        changes=changes,
        split=f"split_{seed}",
        sample_weight=f"weight_{seed}",
        keep_cache=keep_cache,
        seed=seed,
        overwrite=output.exists(),
        progress=True,
        echo=print,
    ).test


def run_binary(store_path: Path, output: Path, choices: dict, options: argparse.Namespace) -> pd.DataFrame:
    rows = []
    for model, choice in choices.items():
        run = repeat(
            *(store_path, output / f"binary-{model}", model),
            **choice,
            n_repeats=options.repeats or 10,
            seed=options.seed,
            # Published by accuracy and by ROC AUC; a cell that is best by the first need not rank rows well.
            choose_by=options.choose_by or "roc_auc",
            **BINARY_SPLITS,
        )
        accuracy = f"{100 * run.mean['accuracy']:.1f} ± {100 * run.deviation.get('accuracy', np.nan):.1f}"
        auc = f"{run.mean['roc_auc']:.3f} ± {run.deviation.get('roc_auc', np.nan):.3f}"
        print(f"{model}: accuracy {run.mean['accuracy']:.6f}, ROC AUC {run.mean['roc_auc']:.6f} before rounding")
        rows.append((f"featx, {model} on the means of 13 layers", accuracy, auc))
    rows += [(f"published: {name}", accuracy, auc) for name, accuracy, auc in PUBLISHED["binary"]]
    return pd.DataFrame(rows, columns=["method", "accuracy %", "ROC AUC"])


def repeat(store_path: Path, output: Path, model: str, **options: object) -> RepeatedRun:
    """Fit a model's grid on random splits, or read what an earlier call has fitted."""
    if (output / "repeats.json").exists():
        record = json.loads((output / "repeats.json").read_text(encoding="utf-8"))
        cells = plan_cells(model, options["grid"], options.get("discretize", "none"))
        protocol = {"choose_by": "accuracy", **record["protocol"]}
        asked = {name: options[name] for name in ("n_repeats", "seed", "choose_by")}
        if protocol == {**protocol, **asked, "cells": json.loads(json.dumps(cells))}:
            del record["featx_repeats"]
            return RepeatedRun(**record)
    return fit_repeats(
        *(store_path, model, output),
        overwrite=True,
        progress=True,
        **options,
    )


if __name__ == "__main__":
    main()
