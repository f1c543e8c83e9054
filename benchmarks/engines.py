"""Time ncnn next to Keras on each backbone, in turns in one process, on a CPU: bare forward passes, random weights.

python benchmarks/engines.py
python benchmarks/engines.py --backbones resnet50,densenet121 --rounds 9
"""

import argparse
import json
import statistics
import time

import numpy as np

from featx.inference import build_network
from featx.networks import BACKBONES

ENGINES = ("ncnn", "keras")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--layers", default="last", help="the whole network up to its last activations")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = {}
    for backbone in options.backbones.split(","):
        figures[backbone] = compare(backbone, options.layers, options.batch_size, options.rounds)
        if not options.json:
            print(
                "{0}: ncnn {ncnn:.2f}, keras {keras:.2f} images/s; ratio {ratio:.2f}, of CPU seconds {cpu_ratio:.2f}; "
                "relative difference {difference:.1e}".format(backbone, **figures[backbone]),
                flush=True,
            )
    if options.json:
        print(json.dumps(figures))


def compare(backbone: str, layers: str, batch_size: int, n_rounds: int) -> dict[str, float]:
    """Return images/s of both engines (medians), the median of the rounds' ratios, and how far the features differ."""
    networks = {
        engine: build_network(backbone, layers=layers, weights="random", engine=engine, batch_size=batch_size)
        for engine in ENGINES
    }
    size = networks["keras"].image_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    features = {engine: np.concatenate(list(network(pixels).values()), axis=1) for engine, network in networks.items()}
    walls, cpus = ({engine: [] for engine in ENGINES} for _ in range(2))
    for _ in range(n_rounds):
        for engine, network in networks.items():
            begun, cpu_begun = time.perf_counter(), time.process_time()
            network(pixels)
            walls[engine].append(time.perf_counter() - begun)
            cpus[engine].append(time.process_time() - cpu_begun)
    error = np.linalg.norm(features["ncnn"] - features["keras"]) / np.linalg.norm(features["keras"])
    return {
        **{engine: round(batch_size / statistics.median(seconds), 3) for engine, seconds in walls.items()},
        "ratio": round(ratio_of(walls), 3),
        "cpu_ratio": round(ratio_of(cpus), 3),
        "difference": float(error),
    }


def ratio_of(seconds: dict[str, list[float]]) -> float:
    """Return how many times as long Keras took, the median over the rounds."""
    return statistics.median(keras / ncnn for keras, ncnn in zip(seconds["keras"], seconds["ncnn"], strict=True))


if __name__ == "__main__":
    main()
