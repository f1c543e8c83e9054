"""Runs, a store and images to report on, made without a network; their names are meant to do harm."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
from sample_parts import N_CHANNELS, SETTINGS, part_of
from samples import make_image

from featx.results import Cell, Run, count_confusion, report_classes, score, score_columns, write_run
from featx.store import write_store

SCRIPT = "<script>alert(1)</script>"
CLASSES = sorted([SCRIPT, 'ash & "birch"', "c'est</title>"])
BAD_FILE = '"><img src=x onerror=alert(2)>.png'
RUN_ID = "a" * 32

_SPLITS = ("train", "train", "validation", "test", "test")


def make_table(n_images, classes=CLASSES):
    """Return the table of a store: the first test row has a file name that would be markup."""
    rows = [
        {
            "path": f"img{row:04d}.png" if row != 3 else BAD_FILE,
            "label": classes[row % len(classes)],
            "split": _SPLITS[row % 5],
        }
        for row in range(n_images)
    ]
    return pd.DataFrame(rows)


def make_store(folder, table, *, rejected=()):
    """Write the images of a table and a store of them; some rows are no images."""
    photos = folder / "photos"
    digests = []
    for row, path in enumerate(table["path"]):
        make_image(photos / path, seed=row, size=(40, 30), shade=40 * (row % 3))
        digests.append(hashlib.sha256((photos / path).read_bytes()).hexdigest())
    part = part_of(0, len(table), rejected=rejected)
    store_path = folder / 'it\'s a "store" <b>.h5'
    write_store(
        store_path,
        settings=SETTINGS,
        table=table,
        root=photos,
        parts=[replace(part, sha256=np.array(digests, dtype="S64")[part.rows])],
        n_channels=N_CHANNELS,
        provenance={"keras_version": "3", "created": "2026-01-02T03:04:05+00:00", "run_id": RUN_ID},
    )
    return store_path


def make_run(
    folder, table, *, store_path, model="svm", right=0.8, validation=0.75, seed=0, kind="probabilities", **more
):
    """Write a run that gets about this share of the test rows right.

    `kind` says what it keeps besides the predictions: probabilities, decision or nothing.
    """
    rng = np.random.default_rng(seed)
    test = table[table["split"] == "test"]
    classes = sorted(set(table["label"]))
    y = test["label"].to_numpy(str)
    values = rng.dirichlet(np.ones(len(classes)), len(y))
    truth = np.array([classes.index(label) for label in y])
    best, is_right = values.argmax(axis=1), rng.random(len(y)) < right
    # The first test image, whose name is markup, is always among the wrong ones.
    is_right[0], values[0] = False, np.roll(np.sort(values[0]), truth[0] + 2)
    best[0] = values[0].argmax()
    rows = np.arange(len(y))
    values[rows[is_right], best[is_right]], values[rows[is_right], truth[is_right]] = (
        values[rows[is_right], truth[is_right]],
        values[rows[is_right], best[is_right]],
    )
    predicted = np.array(classes)[values.argmax(axis=1)]
    scores = {} if kind == "nothing" else {kind: values}
    finetuned = model == "finetune"
    params = (
        [{"recipe": "small", "stage": stage} for stage in ("head", "block5")]
        if finetuned
        else [{"kernel": kernel, "C": C} for kernel in ("linear", "rbf") for C in (0.1, 1.0, 10.0)]
    )
    accuracies = [validation - 0.02 * number for number in range(len(params))]
    cells = tuple(
        Cell("none", cell, accuracy, None, 0.5, validation_score=accuracy)
        for cell, accuracy in zip(params, accuracies, strict=True)
    )
    run = Run(
        model=model,
        store={"path": str(store_path), "backbone": "vgg16", "run_id": RUN_ID},
        protocol={
            **{"selection": "validation", "choose_by": "accuracy", "cv": None, "label": "label"},
            **{"classes": classes, "n_test": len(y)},
        },
        cells=cells,
        chosen=0,
        test=score(y, predicted, classes=classes, majority=classes[0], **scores),
        refit_seconds=1.0,
        versions={"featx": "0.1.0"},
        created="2026-01-01T00:00:00+00:00",
        notes=("a note with <b>markup</b>",),
        peak_memory=2_000_000_000,
        baseline={"recipe": {"name": "small"}} if finetuned else None,
    )
    labels = {"path": test["path"].to_numpy(), "label": y, "predicted": predicted}

    def add_files(path):
        if finetuned:
            (path / "network.weights.h5").write_bytes(b"weights")
            lines = [
                ("head", 1, 1.2, 0.5, 1.1, 0.5, 1e-3, 1.0),
                ("head", 2, 0.9, 0.6, 0.9, 0.7, 1e-3, 1.0),
                ("block5", 1, 0.7, 0.7, 0.8, 0.75, 1e-4, 2.0),
            ]
            names = ["stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
            pd.DataFrame(lines, columns=names).to_csv(path / "curves.csv", index=False)

    write_run(
        folder,
        replace(run, **more),
        predictions=pd.DataFrame(labels | score_columns(classes, **scores)),
        per_class=report_classes(y, predicted),
        confusion=count_confusion(y, predicted),
        add_files=add_files,
    )
    return folder


def make_results(folder, *, n_images=60):
    """Write a store and four runs: two classifiers with scores, one without, and a fine-tuned network."""
    table = make_table(n_images)
    store_path = make_store(folder, table, rejected=(7,))
    table = table.drop(index=7)
    results = folder / "results"
    options = {"store_path": store_path}
    make_run(results / "svm", table, kind="decision", right=0.7, validation=0.8, seed=1, **options)
    make_run(results / "logreg", table, model="logreg", right=0.9, validation=0.7, seed=2, **options)
    make_run(results / "bare", table, model="rf", kind="nothing", right=0.6, validation=0.6, seed=3, **options)
    make_run(results / "tuned", table, model="finetune", right=0.8, validation=0.78, seed=4, **options)
    return results
