"""Time an epoch of featx finetune, whose frozen part runs once, next to Keras's plain `fit` over the whole network.

VGG16 with ImageNet's weights at 224 x 224 on photographs of solar cells; a head alone (recipe mame-i), and a head with
block 5 (recipe solar, without mirrored images). Both sides have the same rows, batches, head and validation rows. Every
contender runs in a process of its own; its first epoch, in which Keras compiles, doesn't count. featx's epochs are with
what it takes to keep each of them on disk; the pass that computes the activations, once, is printed next to them.

    python benchmarks/finetune.py
    python benchmarks/finetune.py --images 128 --rounds 1
    python benchmarks/finetune.py --feed

`--feed` asks instead whether the network ever waits: images/s that batches are made at, from the cache of pixels, from
files, and from cached activations, next to the images/s that the whole network is trained at.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import featx
from featx.images import read_elpv

# By the stage that is timed.
RECIPES = {"head": "mame-i", "block5": "solar"}
# Cached epochs are short, so that several are timed.
EPOCHS = {("head", "featx"): 6, ("block5", "featx"): 3, ("head", "plain"): 2, ("block5", "plain"): 2}
CHANGES = {"augmentation": {"flip": "none"}, "learning_rate": 1e-5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=160, help="photographs, a fifth of them validation rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--feed", action="store_true", help="images/s of the batches, next to those of training")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        contender = {"featx": time_featx, "plain": time_plain}[options.one[1]]
        print(json.dumps(contender(options.store, options.one[0])))
        return 0
    if options.feed:
        return compare_feed(options.images, options.rounds)
    figures: dict[tuple[str, str], list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        store_path = make_store(Path(folder), options.images)
        for number in range(options.rounds):
            for task in RECIPES:
                for side in ("featx", "plain"):
                    figures.setdefault((task, side), []).append(run_alone(store_path, task, side))
                    print(f"round {number + 1}, {task}, {side}: {figures[task, side][-1]}", file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps({" ".join(key): rounds for key, rounds in figures.items()}))
    else:
        print(describe(figures))
    return 0


def make_store(folder: Path, n_images: int) -> Path:
    manifest = featx.make_splits(read_elpv(n_images), (0.8, 0.2, 0.0))
    store_path = folder / "elpv.h5"
    featx.extract_features(manifest, store_path, layers="block1_conv1", weights="imagenet-conv")
    return store_path


def run_alone(store_path: Path, task: str, side: str) -> dict:
    command = [sys.executable, __file__, "--one", task, side, "--store", str(store_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{task}, {side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def time_featx(store_path: Path, task: str) -> dict:
    """Return seconds an epoch, and of the one pass that computes the activations."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        begun = time.perf_counter()
        featx.fine_tune(
            *(store_path, RECIPES[task], output),
            changes=CHANGES | {f"{task}.epochs": EPOCHS[task, "featx"], **skip_others(task)},
            echo=lines.append,
        )
        whole = time.perf_counter() - begun
        curves = np.genfromtxt(output / "curves.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    chosen = curves[curves["stage"] == task]
    return {"epoch_s": float(np.median(chosen["seconds"][1:])), "whole_s": round(whole, 1)}


def time_plain(store_path: Path, task: str) -> dict:
    """Return seconds an epoch of the script that one would write: everything frozen but what is trained, and `fit`."""
    from featx.finetune import read_task
    from featx.finetune.stages import plan_stages
    from featx.networks import load_keras
    from featx.networks.recipes import build_tuned_network, freeze_all_but, read_recipe

    keras = load_keras()
    recipe = read_recipe(RECIPES[task], changes=CHANGES)
    rows = read_task(store_path)
    network = build_tuned_network(recipe, "vgg16", len(rows.classes), weights="imagenet-conv")
    stage = next(stage for stage in recipe.stages if stage.name == task)
    freeze_all_but(network, plan_stages(network, recipe)[recipe.stages.index(stage)].unfrozen)
    x = read_pixels(rows.images)
    train, validation = rows.rows.of("train"), rows.rows.of("validation")
    model = network.model
    model.compile(keras.optimizers.Adam(stage.learning_rate), "categorical_crossentropy", metrics=["accuracy"])

    ends = []
    model.fit(
        *(x[train], rows.targets[train]),
        validation_data=(x[validation], rows.targets[validation]),
        batch_size=stage.batch_size,
        epochs=EPOCHS[task, "plain"],
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))],
        verbose=0,
    )
    return {"epoch_s": float(np.median(np.diff(ends)))}


def compare_feed(n_images: int, n_rounds: int) -> int:
    """Print images/s of batches by themselves, and of training the whole network."""
    from featx.finetune import read_task
    from featx.finetune.batches import Batches
    from featx.finetune.cache import open_cache
    from featx.finetune.sources import PixelNetwork, compute_rows, make_network
    from featx.finetune.stages import PIXELS
    from featx.networks import build_backbone
    from featx.system import available_cores

    with tempfile.TemporaryDirectory() as folder:
        task = read_task(make_store(Path(folder), n_images))
        frozen = build_backbone("vgg16", layers="block4_pool", weights="imagenet-conv")
        shapes = {PIXELS: ((224, 224, 3), "uint8"), "block4_pool": ((14, 14, 512), "float32")}
        with open_cache("feed", len(task.images), shapes, limit=10**10) as files:
            compute_rows(PixelNetwork(224), task.images, {PIXELS: files[PIXELS]})
            compute_rows(make_network(frozen), task.images, {"block4_pool": files["block4_pool"]})
            rows, weights = np.arange(len(task.images)), task.weights_for(None)
            sources = {**files, "files": task.images}
            rates: dict[str, list[float]] = {name: [] for name in (*sources, "training")}
            for _ in range(n_rounds):
                for name, source in sources.items():
                    batches = Batches(source, rows, task.targets, weights, 32, seed=0)
                    rates[name].append(rate_of(lambda batches=batches: [batches[i] for i in range(len(batches))], rows))
                rates["training"].append(train_whole(task, files[PIXELS]))
    lines = ["| what | images/s | times training |", "| --- | --- | --- |"]
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, rates["training"], strict=True))
        lines.append(f"| {name} | {statistics.median(found):.1f} | {ratio:.1f} |")
    print("\n".join(lines) + f"\n(batches by one thread; of files, featx takes one a core, {available_cores()} here)")
    return 0


def rate_of(action: object, rows: np.ndarray) -> float:
    begun = time.perf_counter()
    action()
    return len(rows) / (time.perf_counter() - begun)


def train_whole(task: object, pixels: object) -> float:
    """Return images/s of training the whole network, of 64 images after the first 32."""
    from featx.finetune.stages import build_stage_model, plan_stages
    from featx.finetune.train import compile_for_training
    from featx.networks.recipes import build_tuned_network, read_recipe

    recipe = read_recipe("mame-steps")
    network = build_tuned_network(recipe, "vgg16", len(task.classes), weights="imagenet-conv")
    plan = plan_stages(network, recipe)[-1]
    model = build_stage_model(network, plan)
    compile_for_training(model, plan.stage, recipe, n_steps=3)
    train = {rows: (pixels.take(np.arange(*rows)), task.targets[slice(*rows)]) for rows in ((0, 32), (32, 96))}
    model.fit(*train[0, 32], batch_size=32, verbose=0)
    return rate_of(lambda: model.fit(*train[32, 96], batch_size=32, verbose=0), np.arange(64))


def read_pixels(images: object) -> np.ndarray:
    """Decode all images, and prepare them as VGG16 expects."""
    from featx.networks import preprocess

    pixels = images.take(np.arange(len(images)))
    return np.ascontiguousarray(preprocess(np, pixels.astype(np.float32), "caffe"), dtype=np.float32)


def skip_others(task: str) -> dict[str, int]:
    """Give the stages before the one that is timed a single epoch."""
    return {"head.epochs": 1} if task == "block5" else {}


def describe(figures: dict[tuple[str, str], list[dict]]) -> str:
    lines = ["| trained | featx, s an epoch | plain fit, s an epoch | plain / featx |", "| --- | --- | --- | --- |"]
    for task in RECIPES:
        ours, plain = ([entry["epoch_s"] for entry in figures[task, side]] for side in ("featx", "plain"))
        ratio = statistics.median(b / a for a, b in zip(ours, plain, strict=True))
        lines.append(f"| {task} | {statistics.median(ours):.2f} | {statistics.median(plain):.2f} | {ratio:.1f} |")
        whole = statistics.median(entry["whole_s"] for entry in figures[task, "featx"])
        lines.append(f"| (featx finetune as a whole, {EPOCHS[task, 'featx']} epochs) | {whole:.1f} s | | |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
