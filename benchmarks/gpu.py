"""Time a frozen network in each precision next to a large bf16 matrix product, in one run, on any Keras backend.

Needs neither weights nor images: it makes both. On a GPU the batch size is found by trying.

    KERAS_BACKEND=jax python benchmarks/gpu.py --precision float32,float16,bfloat16
    KERAS_BACKEND=torch python benchmarks/gpu.py --precision bfloat16 --batch-size 256
    python benchmarks/gpu.py --image-size 64 --seconds 1
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from types import ModuleType

import numpy as np

from featx.errors import FeatxError
from featx.inference import AUTO
from featx.inference.batch_size import time_overlapped
from featx.inference.engines import PRECISIONS
from featx.inference.engines.base import make_engine
from featx.networks import BACKBONES, build_backbone, format_device, load_keras


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=list(BACKBONES), default="vgg16")
    parser.add_argument("--layers", default="conv", help="see featx extract")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--precision", default="float32,float16,bfloat16", help="several with commas")
    parser.add_argument("--batch-size", default=AUTO, help="auto, or a number")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each figure")
    parser.add_argument("--product-size", type=int, help="of the matrices  [default: 8192; 1024 on a CPU]")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    precisions = options.precision.split(",")
    if not set(precisions) <= set(PRECISIONS):
        parser.error(f"--precision {options.precision}: expected some of {', '.join(PRECISIONS)}")
    if options.batch_size != AUTO and not options.batch_size.isdecimal():
        parser.error(f"--batch-size {options.batch_size}: expected auto or a number")
    try:
        figures = measure(options, precisions)
    except FeatxError as error:
        parser.exit(1, f"{error}\n")
    print(json.dumps(figures) if options.json else describe(figures))
    return 0


def measure(options: argparse.Namespace, precisions: list[str]) -> dict:
    keras = load_keras()
    device = format_device(keras)
    product_size = options.product_size or (1024 if device.startswith("cpu") else 8192)
    product_tflops = time_product(keras, product_size, options.seconds)
    frozen = build_backbone(
        options.backbone, layers=options.layers, weights="random", image_size=options.image_size, preprocessing="caffe"
    )
    flops = count_flops(frozen.model)
    batch_size = AUTO if options.batch_size == AUTO else int(options.batch_size)
    rows = []
    for precision in precisions:
        engine = make_engine("keras", frozen, ("avg",), batch_size=batch_size, precision=precision)
        side = options.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (engine.batch_size, side, side, 3), dtype=np.uint8)
        overlapped = engine.batch_size / time_overlapped(engine.submit, pixels, seconds=options.seconds)
        one_by_one = engine.batch_size / time_each(engine, pixels, options.seconds)
        rows.append(
            {
                "precision": precision,
                "batch_size": engine.batch_size,
                "images_per_second": round(overlapped, 1),
                "images_per_second_one_batch_at_a_time": round(one_by_one, 1),
                "tflops": round(overlapped * flops / 1e12, 4),
                "share_of_product": round(overlapped * flops / 1e12 / product_tflops, 4),
            }
        )
    return {
        "backbone": options.backbone,
        "layers": options.layers,
        "image_size": options.image_size,
        "gflop_per_image": round(flops / 1e9, 3),
        "device": device,
        "keras": engine.version,
        "product_size": product_size,
        "product_tflops": round(product_tflops, 4),
        "rows": rows,
    }


def count_flops(model: object) -> int:
    """Count two operations for each multiplication and addition of convolutions and dense layers, an image."""
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            total += count_flops(layer)
            continue
        kernels = [weight for weight in layer.weights if "kernel" in weight.name]
        if kernels:
            # A kernel is used once at every place of the output; a dense layer's output has one place.
            places = int(np.prod(layer.output.shape[1:-1]))
            total += sum(2 * places * int(np.prod(kernel.shape)) for kernel in kernels)
    return total


def time_product(keras: ModuleType, size: int, seconds: float) -> float:
    """Return the TFLOP/s of a square bf16 matrix product; of random numbers, since zeros are faster."""
    ops = keras.ops
    rng = np.random.default_rng(0)
    left, right = (ops.cast(rng.standard_normal((size, size), dtype=np.float32), "bfloat16") for _ in range(2))

    def wait(product: object) -> None:
        # One number comes back only when the product, and those before it, are done.
        ops.convert_to_numpy(ops.cast(product[0, 0], "float32"))

    def multiply(n_times: int) -> float:
        begun = time.perf_counter()
        for _ in range(n_times):
            product = ops.matmul(left, right)
        wait(product)
        return time.perf_counter() - begun

    multiply(3)
    n_times = 1
    while (spent := multiply(n_times)) < min(seconds, 1.0):
        n_times *= 2
    return n_times * 2 * size**3 / spent / 1e12


def time_each(engine: Callable, pixels: np.ndarray, seconds: float) -> float:
    """Return the seconds of a batch that is fetched before the next is handed over."""
    begun, n_batches = time.perf_counter(), 0
    while not n_batches or time.perf_counter() - begun < seconds:
        engine(pixels)
        n_batches += 1
    return (time.perf_counter() - begun) / n_batches


def describe(figures: dict) -> str:
    head = (
        "{backbone}, {layers}, {image_size} pixels: {gflop_per_image:,} GFLOP an image; Keras {keras}, {device}\n"
        "bf16 matrix product, {product_size} x {product_size} x {product_size}: {product_tflops:,.4g} TFLOP/s\n"
        "precision   batch     images/s   one at a time      TFLOP/s   share of the product"
    ).format(**figures)
    line = (
        "{precision:<10}{batch_size:>7,}{images_per_second:>13,.1f}{images_per_second_one_batch_at_a_time:>16,.1f}"
        "{tflops:>13,.4g}{share_of_product:>23.1%}"
    )
    return "\n".join([head, *(line.format(**row) for row in figures["rows"])])


if __name__ == "__main__":
    sys.exit(main())
