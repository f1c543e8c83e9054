"""Time featx extract next to what people write today, and engines next to each other, in one run on real photographs.

Every contender runs in a process of its own, takes the same photographs of solar cells from file to pooled activations
of VGG16's 13 convolutional layers (ImageNet's weights, 224 x 224, float32), and is timed from its first image to its
finished file; building the network is not counted. Rounds are interleaved, and medians compared. A contender whose
library isn't installed is left out: pip install torch onnxruntime tf2onnx MNN.

    python benchmarks/extract.py
    python benchmarks/extract.py --contenders featx-ncnn,forward-ncnn --images 512 --rounds 5
    python benchmarks/extract.py --memory
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

LAYERS = [f"block{b}_conv{c}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for c in range(1, n + 1)]
SCRIPT_BATCH = 32

# How many of the photographs a contender takes: a script's rate doesn't depend on it, and some are slow.
N_IMAGES = {
    "featx-ncnn": 512,
    "forward-ncnn": 512,
    "featx-keras": 128,
    "forward-keras": 128,
    "script-keras": 64,
    "script-model-a-layer": 16,
    "script-pytorch": 64,
    "script-onnxruntime": 64,
    "forward-mnn": 64,
}

WHAT = {
    "featx-ncnn": "featx extract --engine ncnn, from files to store",
    "forward-ncnn": "bare forward pass of that engine, pixels in memory",
    "featx-keras": "featx extract --engine keras, from files to store",
    "forward-keras": "bare forward pass of that engine, pixels in memory",
    "script-keras": "Keras model with all layers as outputs, predict, pooled in NumPy, h5py",
    "script-model-a-layer": "a Keras model a layer, predict with each, pooled in NumPy, h5py",
    "script-pytorch": "PyTorch, forward hooks that pool, h5py",
    "script-onnxruntime": "ONNX Runtime, pooled within the graph, h5py",
    "forward-mnn": "bare forward pass of MNN, pixels in memory",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contenders", default=",".join(N_IMAGES))
    parser.add_argument("--images", type=int, help="photographs for every contender; default: fewer for slow ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="peak memory of 500 and of 5,000 images instead")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(CONTENDERS[options.one](options.images)))
        return 0
    if options.memory:
        return compare_memory(as_json=options.json)
    figures = {name: [] for name in options.contenders.split(",")}
    for number in range(options.rounds):
        for name, rounds in figures.items():
            rounds.append(run_alone(name, options.images or N_IMAGES[name]))
            print(f"round {number + 1}, {name}: {rounds[-1]}", file=sys.stderr, flush=True)
    print(json.dumps(figures) if options.json else describe(figures))
    return 0


def run_alone(name: str, n_images: int) -> dict:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--images", str(n_images)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def describe(figures: dict[str, list[dict]]) -> str:
    """Lay out medians over the rounds, and how many times as fast featx extract on ncnn is."""
    rates = {
        name: statistics.median(entry["images"] / entry["seconds"] for entry in rounds)
        for name, rounds in figures.items()
        if not any("error" in entry for entry in rounds)
    }
    lines = ["| contender | images | images/s | featx-ncnn is | peak MB |", "| --- | --- | --- | --- | --- |"]
    for name, rounds in figures.items():
        if name not in rates:
            lines.append(f"| {name} | left out: {rounds[-1].get('error')} | | | |")
            continue
        ratio = f"{rates['featx-ncnn'] / rates[name]:.2f} times" if "featx-ncnn" in rates else ""
        peak = statistics.median(entry["peak_mb"] for entry in rounds)
        lines.append(f"| {name}: {WHAT[name]} | {rounds[0]['images']} | {rates[name]:.2f} | {ratio} | {peak:.0f} |")
    for engine in ("ncnn", "keras"):
        pairs = list(zip(figures.get(f"featx-{engine}", []), figures.get(f"forward-{engine}", []), strict=False))
        if pairs and not any("error" in entry for pair in pairs for entry in pair):
            shares = [
                (whole["seconds"] / whole["images"]) / (bare["seconds"] / bare["images"]) for whole, bare in pairs
            ]
            lines.append(f"\nfeatx extract takes {statistics.median(shares):.3f} times the bare pass of {engine}")
    return "\n".join(lines)


def compare_memory(*, as_json: bool) -> int:
    """Extract 500 and 5,000 generated photographs, and compare the peaks of memory."""
    found = {n_images: run_alone("featx-generated", n_images) for n_images in (500, 5000)}
    ratio = found[5000]["peak_mb"] / found[500]["peak_mb"]
    if as_json:
        print(json.dumps({"500": found[500], "5000": found[5000], "ratio": round(ratio, 4)}))
    else:
        for n_images, entry in found.items():
            print(f"{n_images:,} images: peak {entry['peak_mb']:.0f} MB, {n_images / entry['seconds']:.1f} images/s")
        print(f"ratio {ratio:.3f}")
    return 0 if ratio <= 1.05 else 1


def photographs(n_images: int) -> list[Path]:
    """Return paths of photographs of the installed elpv-dataset package."""
    from featx.images import read_elpv

    manifest = read_elpv(n_images)
    return [manifest.root / path for path in manifest.table["path"]]


def load_batch(paths: list[Path]) -> np.ndarray:
    """Read images as scripts do."""
    from PIL import Image

    pictures = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR) for path in paths]
    return np.stack([np.asarray(picture) for picture in pictures])


def caffe(pixels: np.ndarray) -> np.ndarray:
    """Bring RGB pixels to what VGG16's weights expect."""
    return pixels[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)


def measure(n_images: int, work: Callable[[], object]) -> dict:
    """Time some work, and say how much memory the process has taken at most."""
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images": n_images, "seconds": round(seconds, 3), "peak_mb": round(peak, 1)}


def extract_with(engine: str, n_images: int) -> dict:
    """Extract to a store, by the library call behind featx extract."""
    from featx.images import read_elpv

    return extract_manifest(read_elpv(n_images), engine)


def extract_generated(n_images: int) -> dict:
    """Extract that many generated photographs of 300 x 300, no two of them the same."""
    from PIL import Image

    import featx

    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        for number in range(n_images):
            picture = Image.fromarray(np.roll(noise, number, axis=(number % 2)) ^ np.uint8(number % 251))
            picture.resize((300, 300), Image.Resampling.BICUBIC).save(Path(folder, f"{number:05d}.png"))
        Path(folder, "images.csv").write_text(
            "path,label\n" + "".join(f"{number:05d}.png,{number % 2}\n" for number in range(n_images)), encoding="utf-8"
        )
        return extract_manifest(featx.read_source(Path(folder, "images.csv")), "ncnn")


def extract_manifest(manifest: object, engine: str) -> dict:
    import featx

    with tempfile.TemporaryDirectory() as folder:
        done = featx.extract_features(
            manifest, Path(folder, "s.h5"), layers="conv", weights="imagenet-conv", engine=engine
        )
    return measure(done.n_images, lambda: None) | {"seconds": done.seconds}


def forward_with(engine: str, n_images: int) -> dict:
    """Push pixels that are in memory through the network, in batches as featx extract has them."""
    from featx.inference import build_network

    network = build_network(layers="conv", weights="imagenet-conv", engine=engine)
    pixels = load_batch(photographs(n_images))
    network(pixels[:8])
    return measure(n_images, lambda: [network(pixels[start : start + 8]) for start in range(0, n_images, 8)])


def plain_vgg16() -> object:
    """Return Keras's own VGG16 with ImageNet's convolutions."""
    from featx.networks import BACKBONES, load_keras, load_weights

    keras = load_keras()
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(224, 224, 3))
    arrays = load_weights("imagenet-conv", BACKBONES["vgg16"], build=None, include_top=False).arrays
    for layer in LAYERS:
        network.get_layer(layer).set_weights(arrays[layer])
    return network


def write_features(compute: Callable[[list[Path]], dict[str, np.ndarray]], n_images: int) -> dict:
    """Go through the photographs in batches and write what is computed with h5py."""
    import h5py

    paths = photographs(n_images)
    compute(paths[:2])

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder, h5py.File(Path(folder, "f.h5"), "w") as file:
            collected = {layer: [] for layer in LAYERS}
            for start in range(0, n_images, SCRIPT_BATCH):
                for layer, features in compute(paths[start : start + SCRIPT_BATCH]).items():
                    collected[layer].append(features)
            for layer, batches in collected.items():
                file[layer] = np.concatenate(batches)

    return measure(n_images, work)


def script_keras(n_images: int) -> dict:
    network = plain_vgg16()
    import keras

    model = keras.Model(network.input, [network.get_layer(layer).output for layer in LAYERS])

    def compute(paths: list[Path]) -> dict[str, np.ndarray]:
        activations = model.predict(caffe(load_batch(paths)), verbose=0)
        return {layer: values.mean(axis=(1, 2)) for layer, values in zip(LAYERS, activations, strict=True)}

    return write_features(compute, n_images)


def script_model_a_layer(n_images: int) -> dict:
    network = plain_vgg16()
    import keras

    models = {layer: keras.Model(network.input, network.get_layer(layer).output) for layer in LAYERS}

    def compute(paths: list[Path]) -> dict[str, np.ndarray]:
        pixels = caffe(load_batch(paths))
        return {layer: model.predict(pixels, verbose=0).mean(axis=(1, 2)) for layer, model in models.items()}

    return write_features(compute, n_images)


def script_pytorch(n_images: int) -> dict:
    import torch

    from featx.networks import BACKBONES, load_weights

    arrays = load_weights("imagenet-conv", BACKBONES["vgg16"], build=None, include_top=False).arrays
    modules, pooled = [], {}
    for layer in LAYERS:
        kernel, bias = arrays[layer]
        conv = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
        conv.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        conv.bias.data = torch.from_numpy(np.array(bias))
        relu = torch.nn.ReLU(inplace=True)
        relu.register_forward_hook(lambda _, __, out, layer=layer: pooled.__setitem__(layer, out.mean((2, 3)).numpy()))
        if modules and layer.endswith("conv1"):
            modules.append(torch.nn.MaxPool2d(2))
        modules += [conv, relu]
    network = torch.nn.Sequential(*modules).eval()

    def compute(paths: list[Path]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            network(torch.from_numpy(np.ascontiguousarray(caffe(load_batch(paths)).transpose(0, 3, 1, 2))))
        return dict(pooled)

    return write_features(compute, n_images)


def export_onnx(folder: str) -> Path:
    """Write VGG16 with every layer's mean as an ONNX file."""
    network = plain_vgg16()
    import keras

    means = [keras.ops.mean(network.get_layer(layer).output, axis=(1, 2)) for layer in LAYERS]
    model = keras.Model(network.input, means)
    model(np.zeros((1, 224, 224, 3), np.float32))
    model.export(Path(folder, "vgg16.onnx"), format="onnx", verbose=False)
    return Path(folder, "vgg16.onnx")


def script_onnxruntime(n_images: int) -> dict:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(str(export_onnx(folder)), providers=["CPUExecutionProvider"])

    def compute(paths: list[Path]) -> dict[str, np.ndarray]:
        return dict(
            zip(LAYERS, session.run(None, {session.get_inputs()[0].name: caffe(load_batch(paths))}), strict=True)
        )

    return write_features(compute, n_images)


def forward_mnn(n_images: int) -> dict:
    """Convert within this process, by the library's own function: its command-line converter reports usage."""
    import _tools
    import MNN
    import onnx

    from featx.system import available_cores

    with tempfile.TemporaryDirectory() as folder:
        onnx_path, mnn_path = export_onnx(folder), str(Path(folder, "vgg16.mnn"))
        _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(onnx_path), "--MNNModel", mnn_path, "--bizCode", "x"])
        graph = onnx.load(onnx_path).graph
        names = [[value.name for value in values] for values in (graph.input, graph.output)]
        options = {"backend": "CPU", "numThread": available_cores(), "precision": "high"}
        manager = MNN.nn.create_runtime_manager((options,))
        module = MNN.nn.load_module_from_file(mnn_path, *names, runtime_manager=manager, shape_mutable=False)
    pixels = caffe(load_batch(photographs(n_images)))

    def forward(batch: np.ndarray) -> list[np.ndarray]:
        inputs = MNN.expr.const(np.ascontiguousarray(batch), list(batch.shape), MNN.expr.NCHW, MNN.expr.float)
        return [np.array(output.read()) for output in module.onForward([inputs])]

    found = dict(zip(LAYERS, forward(pixels[:8]), strict=True))
    from featx.inference import build_network

    reference = build_network(layers="conv", weights="imagenet-conv", engine="keras")(
        load_batch(photographs(n_images)[:8])
    )
    errors = [np.linalg.norm(found[layer] - reference[layer]) / np.linalg.norm(reference[layer]) for layer in LAYERS]
    figures = measure(n_images, lambda: [forward(pixels[start : start + 8]) for start in range(0, n_images, 8)])
    return figures | {"largest_relative_error": float(max(errors))}


CONTENDERS = {
    "featx-ncnn": lambda n_images: extract_with("ncnn", n_images),
    "forward-ncnn": lambda n_images: forward_with("ncnn", n_images),
    "featx-keras": lambda n_images: extract_with("keras", n_images),
    "forward-keras": lambda n_images: forward_with("keras", n_images),
    "script-keras": script_keras,
    "script-model-a-layer": script_model_a_layer,
    "script-pytorch": script_pytorch,
    "script-onnxruntime": script_onnxruntime,
    "forward-mnn": forward_mnn,
    "featx-generated": extract_generated,
}


if __name__ == "__main__":
    sys.exit(main())
