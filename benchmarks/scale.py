"""Measure what featx itself adds to a network's time as the number of images grows, and what two workers give.

No network is computed: a stand-in gives each batch's features at once, or at a known speed. Every figure is of a
process of its own: its seconds, and by how much its memory grew at most. Rounds are interleaved, and medians printed.

    python benchmarks/scale.py
    python benchmarks/scale.py --images 1000,10000 --rows 1000,10000,100000 --rounds 1
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from featx.extract import ExtractOptions, merge_shards, take_shard
from featx.extract.run import run_extraction
from featx.extract.shards import extract_shard, shard_origin
from featx.images import Manifest, read_source
from featx.inference import PART_SIZE, PooledNetwork, compute_parts
from featx.store import DigestIndex, Part, PartFiles, Settings, Store, merge_rows, outline, part_features, write_store
from featx.system import Shard

CHANNELS = {"block1_conv1": 16, "block1_conv2": 16}
BATCH_SIZE, IMAGE_SIZE, N_CLASSES = 32, 32, 10
# Images a second of the stand-in where its speed is to be known, and how many of them two workers share.
SPEED, N_SHARED = 100, 4096

REQUEST = ExtractOptions(
    backbone="vgg16",
    layers=",".join(CHANNELS),
    weights="random",
    image_size=IMAGE_SIZE,
    resize="squash",
    interpolation="bilinear",
    preprocessing=None,
    pool="avg",
    views="none",
    engine="keras",
    precision="float32",
    jpeg="full",
    icc="ignore",
    store_dtype="float32",
    batch_size=BATCH_SIZE,
)
SETTINGS = Settings(
    backbone="vgg16",
    weights="random",
    weights_sha256="0" * 64,
    layers=tuple(CHANNELS),
    pooling="avg",
    image_size=IMAGE_SIZE,
    resize="squash",
    interpolation="bilinear",
    preprocessing="caffe",
    precision="float32",
    keras_backend="none",
    engine="keras",
    views="none",
    store_dtype="float32",
    jpeg="full",
    icc="convert",
)


class StandIn:
    """An engine that computes nothing: pixels give features, at once or after the time that they would take."""

    name, version, device = "keras", "0", "cpu:0"

    def __init__(self, speed: float = 0.0) -> None:
        self.n_channels = CHANNELS
        self._speed = speed

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return some of the pixels as features."""
        if self._speed:
            time.sleep(len(pixels) / self._speed)
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        return {name: flat[:, :width] for name, width in CHANNELS.items()}


def stand_in(speed: float = 0.0) -> PooledNetwork:
    return PooledNetwork(StandIn(speed), BATCH_SIZE, "none", "avg", IMAGE_SIZE, "caffe", "random", "0" * 64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="1000,10000,100000", help="files that are made and read")
    parser.add_argument("--rows", default="1000,10000,100000,1000000", help="rows of features without images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        stage, size, folder = options.one
        print(json.dumps(measure(STAGES[stage], int(size), Path(folder))))
        return 0
    sizes = {"images": [int(n) for n in options.images.split(",")], "rows": [int(n) for n in options.rows.split(",")]}
    with tempfile.TemporaryDirectory() as folder:
        figures = run_rounds(sizes, options.rounds, Path(folder))
    print(json.dumps(figures) if options.json else describe(figures))
    return 0


def run_rounds(sizes: dict[str, list[int]], n_rounds: int, folder: Path) -> dict[str, list[dict]]:
    """Measure every stage at every size, so many times; return the rounds under `stage size`."""
    for size in {*sizes["images"], N_SHARED}:
        make_images(folder / f"images-{size}", size)
    plan = [(stage, size) for size in sizes["images"] for stage in ("manifest", "reading", "extraction")]
    plan += [(stage, size) for size in sizes["rows"] for stage in ("parts", "merge", "matrix", "shards")]
    plan += [("one-worker", N_SHARED), ("two-workers", N_SHARED)]
    figures: dict[str, list[dict]] = {f"{stage} {size}": [] for stage, size in plan}
    for number in range(n_rounds):
        for stage, size in plan:
            command = [sys.executable, __file__, "--one", stage, str(size), str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            figures[f"{stage} {size}"].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {stage}, {size:,}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    return figures


def measure(stage: Callable[[int, Path], Iterator[None]], size: int, folder: Path) -> dict[str, float]:
    """Return what a stage takes between what it prepares and what it clears away."""
    steps = stage(size, folder)
    next(steps)
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    next(steps)
    seconds = time.perf_counter() - begun
    grown = max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
    next(steps, None)
    return {"seconds": round(seconds, 4), "megabytes": round(grown / 1e6, 1)}


def measure_manifest(size: int, folder: Path) -> Iterator[None]:
    yield
    read_source(folder / f"images-{size}")
    yield


def measure_reading(size: int, folder: Path) -> Iterator[None]:
    """Decode and batch, and write nothing."""
    manifest, network = read_source(folder / f"images-{size}"), stand_in()
    paths = manifest.table["path"].to_numpy()
    yield
    for _ in compute_parts(network, manifest.root, paths, REQUEST.reader(frozenset()), [(0, size)]):
        pass
    yield


def measure_extraction(size: int, folder: Path) -> Iterator[None]:
    """Go from files to the store."""
    manifest = read_source(folder / f"images-{size}")
    # What is loaded once, whatever the number of images.
    extract(take_shard(manifest, Shard(1, max(1, size // 64))), folder / "first.h5")
    yield
    extract(manifest, folder / "store.h5")
    yield
    for path in (folder / "first.h5", folder / "store.h5"):
        path.unlink()


def measure_parts(size: int, folder: Path) -> Iterator[None]:
    files = PartFiles(folder / f"parts-{size}")
    shutil.rmtree(files.path, ignore_errors=True)
    yield
    for start in range(0, size, PART_SIZE):
        files.write(make_part(start, min(start + PART_SIZE, size)))
    yield


def measure_merge(size: int, folder: Path) -> Iterator[None]:
    """Check every part and make one file of all."""
    files, manifest = PartFiles(folder / f"parts-{size}"), make_manifest(size)
    yield
    outlined = outline(files, files.read(CHANNELS))
    places = DigestIndex(outlined.own_sha256).find(outlined.sha256)
    write_store(
        folder / f"rows-{size}.h5",
        settings=SETTINGS,
        table=manifest.table,
        root=manifest.root,
        parts=merge_rows(outlined, [(places, part_features(files, outlined))], CHANNELS),
        n_channels=CHANNELS,
        provenance={"run_id": "0" * 32},
    )
    yield


def measure_matrix(size: int, folder: Path) -> Iterator[None]:
    with Store(folder / f"rows-{size}.h5") as store:
        yield
        store.matrix()
        yield


def measure_shards(size: int, folder: Path) -> Iterator[None]:
    """Make one store of eight shards."""
    manifest, count = make_manifest(size), 8
    origin = shard_origin(manifest, {"weights": "random"})
    for number in range(1, count + 1):
        shard = Shard(number, count)
        start, stop = shard.rows(size)
        write_store(
            shard.path_of(folder / "sharded.h5"),
            settings=SETTINGS,
            table=take_shard(manifest, shard).table,
            root=manifest.root,
            parts=(
                make_part(first, min(first + PART_SIZE, stop), origin=start) for first in range(start, stop, PART_SIZE)
            ),
            n_channels=CHANNELS,
            provenance={"run_id": "0" * 32, "shard": str(shard), "shard_of": origin.to_json()},
        )
    yield
    merge_shards(folder / "sharded.h5")
    yield
    (folder / "sharded.h5").unlink()


def measure_one_worker(size: int, folder: Path) -> Iterator[None]:
    """Extract with a stand-in of known speed."""
    manifest = read_source(folder / f"images-{size}")
    extract(take_shard(manifest, Shard(1, 64)), folder / "first.h5")
    yield
    extract(manifest, folder / "store.h5", speed=SPEED)
    yield
    for path in (folder / "first.h5", folder / "store.h5"):
        path.unlink()


def measure_two_workers(size: int, folder: Path) -> Iterator[None]:
    """Extract two shards at once, in a process each, and merge them; starting processes is not counted."""
    command = [sys.executable, __file__, "--one"]
    workers = [
        subprocess.Popen(  # noqa: S603
            [*command, f"shard-{number}", str(size), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    for worker in workers:
        worker.stdout.readline()
    yield
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda worker: worker.communicate("go\n"), workers))
    merge_shards(folder / "store.h5")
    yield
    (folder / "store.h5").unlink()


def measure_shard(number: int) -> Callable[[int, Path], Iterator[None]]:
    def measure_one(size: int, folder: Path) -> Iterator[None]:
        manifest, shard = read_source(folder / f"images-{size}"), Shard(number, 2)
        extract(take_shard(manifest, Shard(1, 64)), folder / f"first-{number}.h5")
        print("ready", flush=True)
        sys.stdin.readline()
        yield
        extract_shard(
            *(take_shard(manifest, shard), folder / "store.h5", REQUEST),
            shard=shard,
            origin=shard_origin(manifest, {"weights": "random"}),
            network=stand_in(SPEED),
        )
        yield
        (folder / f"first-{number}.h5").unlink()

    return measure_one


STAGES = {
    "manifest": measure_manifest,
    "reading": measure_reading,
    "extraction": measure_extraction,
    "parts": measure_parts,
    "merge": measure_merge,
    "matrix": measure_matrix,
    "shards": measure_shards,
    "one-worker": measure_one_worker,
    "two-workers": measure_two_workers,
    "shard-1": measure_shard(1),
    "shard-2": measure_shard(2),
}

WHAT = {
    "manifest": "list the files of a folder tree",
    "reading": "read, decode, resize, batch; nothing is written",
    "extraction": "from the list to the store, with a network that takes no time",
    "parts": "write parts of 128 rows, each flushed to disk",
    "merge": "check every part, make one file",
    "matrix": "read all features",
    "shards": "make one store of eight shards",
    "one-worker": f"from the list to the store, with a network of {SPEED} images/s",
    "two-workers": "the same in two shards at once, and merged",
}


def extract(manifest: Manifest, store_path: Path, speed: float = 0.0) -> None:
    options = {"max_rejected": None, "overwrite": False, "log_every": 60.0, "progress": False}
    run_extraction(manifest, store_path, REQUEST, **options, echo=lambda line: None, network=stand_in(speed))


def make_images(folder: Path, size: int) -> None:
    """Write small files, each one other pixels."""
    rng = np.random.default_rng(0)
    for number in range(N_CLASSES):
        (folder / f"class-{number}").mkdir(parents=True)
    for row in range(size):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        pixels[0, 0], pixels[0, 1] = (row % 256, row // 256 % 256, row // 65536), 255
        Image.fromarray(pixels).save(folder / f"class-{row % N_CLASSES}" / f"{row:08d}.png", compress_level=1)


def make_manifest(size: int) -> Manifest:
    import pandas as pd

    paths = [f"class-{row % N_CLASSES}/{row:08d}.png" for row in range(size)]
    labels = [f"class-{row % N_CLASSES}" for row in range(size)]
    return Manifest(pd.DataFrame({"path": paths, "label": labels, "split": "train"}), Path("/nowhere"))


def make_part(start: int, stop: int, origin: int = 0) -> Part:
    rows = np.arange(start, stop)
    rng = np.random.default_rng(start)
    return Part(
        start=start - origin,
        stop=stop - origin,
        rows=rows - origin,
        sha256=np.array([f"{row:064x}".encode() for row in rows], dtype="S64"),
        own=np.ones(len(rows), dtype=bool),
        features={name: rng.random((len(rows), width), dtype=np.float32) for name, width in CHANNELS.items()},
        rejected={},
    )


def describe(figures: dict[str, list[dict]]) -> str:
    """Return a table: medians of seconds, of microseconds a row, and of the growth of memory."""
    lines = [
        "| stage | rows | seconds | rows/s | microseconds a row | memory grows by, MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    medians = {
        name: tuple(statistics.median(one[key] for one in rounds) for key in ("seconds", "megabytes"))
        for name, rounds in figures.items()
    }
    for name, (seconds, megabytes) in medians.items():
        stage, size = name.rsplit(" ", 1)
        rate, cost = int(size) / max(seconds, 1e-9), 1e6 * seconds / int(size)
        lines.append(
            f"| {stage}: {WHAT[stage]} | {int(size):,} | {seconds:.2f} | {rate:,.0f} | {cost:,.0f} | {megabytes:,.0f} |"
        )
    one, two = (medians[f"{stage} {N_SHARED}"][0] for stage in ("one-worker", "two-workers"))
    bare = N_SHARED / SPEED
    lines.append(
        f"\nTwo workers take 1/{one / two:.2f} of one's time; one takes {one / bare:.3f} times the stand-in's own "
        f"{bare:.1f} s."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
