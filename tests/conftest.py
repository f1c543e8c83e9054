"""What tests share: tiny generated images, a network of random weights at 32 x 32, stores made of both."""

import gc
import os
from pathlib import Path

from samples import SMALL, make_tree

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests side by side have the cores already: threads of one would only wait for those of another.
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(variable, "1")

import pytest

TESTS = Path(__file__).parent

# Files that take longest, longest first. Tests side by side take one file after the other: a long one that is begun
# last would be waited for alone.
LONGEST = (
    *(
        "integration/test_pipelines_data.py",
        "cluster/test_open.py",
        "integration/test_slurm.py",
        "experiment/test_demo.py",
    ),
    *(
        "finetune/test_tune.py",
        "integration/test_other_backends.py",
        "networks/test_applications.py",
        "experiment/test_run.py",
    ),
    *(
        "networks/test_weights.py",
        "inference/engines/ncnn/test_ncnn_graph.py",
        "integration/test_pipelines.py",
        "extract/test_features.py",
        "integration/test_interruptions.py",
    ),
    *(
        "networks/recipes/test_network.py",
        "extract/test_add.py",
        "networks/test_backbone.py",
        "integration/test_report_browser.py",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order within a file stays."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(
        key=lambda item: rank.get(
            item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else "", len(LONGEST)
        )
    )


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Keep what tests convert out of the user's cache, unless a cache is named; tests side by side have one each."""
    if "FEATX_CACHE" not in os.environ:
        os.environ["FEATX_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    elif worker := os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ["FEATX_CACHE"] = str(Path(os.environ["FEATX_CACHE"], worker))


@pytest.fixture(scope="module", autouse=True)
def _settled():
    """Take what is loaded out of the garbage collector's sight: it would walk through all of TensorFlow each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Three classes of 12, 10 and 8 images."""
    return make_tree(tmp_path_factory.mktemp("images"), {"ash": 12, "birch": 10, "cedar": 8})


@pytest.fixture(scope="session")
def small_store(tree, tmp_path_factory):
    """A finished store of the tree: every layer, split 0.6, 0.2, 0.2."""
    import featx

    path = tmp_path_factory.mktemp("store") / "small.h5"
    manifest = featx.make_splits(featx.read_source(tree), (0.6, 0.2, 0.2))
    featx.extract_features(manifest, path, layers="all", **SMALL)
    return path


@pytest.fixture(scope="session")
def tuned_store(tree, tmp_path_factory):
    """A store to fine-tune on: 20 train, 5 validation and 5 test rows of three classes.

    Further columns: weight; grade (1 or 2) for two classes that are numbers; and splits without validation, without
    test, and without cedar in train.
    """
    import pandas as pd

    import featx

    folder = tmp_path_factory.mktemp("tuned")
    lines = []
    for path in sorted(tree.rglob("*.png")):
        number = int(path.stem)
        split = "train" if number % 5 < 3 else "validation" if number % 5 == 3 else "test"
        lines.append(
            {
                "path": path.relative_to(tree).as_posix(),
                "label": path.parent.name,
                "split": split,
                "weight": (0.5, 1.0, 2.0)[number % 3],
                "grade": 1 + number % 2,
                "unjudged": split.replace("validation", "train"),
                "untested": split.replace("test", ""),
                "unlearned": "test" if path.parent.name == "cedar" else split,
            }
        )
    pd.DataFrame(lines).to_csv(folder / "images.csv", index=False)
    manifest = featx.read_source(folder / "images.csv", root=tree)
    featx.extract_features(manifest, folder / "store.h5", layers="block1_conv1", **SMALL)
    return folder / "store.h5"


@pytest.fixture(scope="session")
def chunked(tmp_path_factory):
    """Twelve images and an empty file, and their store, whose chunks hold four rows; rows 1 and 6 are one file."""
    import shutil

    import pandas as pd

    import featx
    from featx.store import writer as store_writer

    folder = tmp_path_factory.mktemp("chunked")
    make_tree(folder / "images", {"ash": 6, "birch": 6})
    shutil.copyfile(folder / "images/ash/001.png", folder / "images/birch/000.png")
    (folder / "images/ash/003a.png").write_bytes(b"")
    table = featx.read_source(folder / "images").table.assign(year=range(1600, 1613), artist="Zoë")
    table["split"] = pd.Series(["train", "validation", "test"] * 5)[: len(table)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_writer, "CHUNK_BYTES", 4 * 64 * 4)
        manifest = featx.Manifest(table, folder / "images")
        featx.extract_features(manifest, folder / "store.h5", layers="block1", **SMALL)
    return folder / "store.h5"


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of one node, for as long as the tests run."""
    from slurm_node import running_slurm, why_not

    if reason := why_not():
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started
