"""Read the ELPV photographs of solar cells from the package that ships them."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pandas as pd

from featx.errors import SourceError
from featx.images.manifest import Manifest


def read_elpv(n_images: int | None = None, *, seed: int = 0) -> Manifest:
    """List the photographs of the installed elpv-dataset package: defective where the probability is over 0.5.

    Buerhop-Lutz et al. 2018, "A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence
    Imagery", EU PVSEC. Further columns: `type` (mono or poly), `probability`, and `weight`: what a photograph counts
    in the protocol of Deitsch et al. 2019, 1 where the annotators were sure, else its probability (0.33 or 0.67).
    """
    try:
        root = Path(importlib.metadata.distribution("elpv-dataset").locate_file("elpv_dataset/data"))
    except importlib.metadata.PackageNotFoundError as error:
        raise SourceError("the package elpv-dataset is not installed: pip install 'featx[demo]'") from error
    cells = pd.read_csv(root / "labels.csv", sep=r"\s+", names=["path", "probability", "type"])
    table = pd.DataFrame(
        {
            "path": cells["path"],
            "label": cells["probability"].gt(0.5).map({True: "defective", False: "functional"}),
            "split": "",
            "type": cells["type"],
            # As many digits as its classes are named by: 0.333333, not all sixteen that a third has in the file.
            "probability": cells["probability"].round(6),
            "weight": cells["probability"].where(~cells["probability"].isin([0.0, 1.0]), 1.0).round(2),
        }
    )
    if n_images is not None and n_images < len(table):
        from sklearn.model_selection import train_test_split

        shares = table["label"] + table["type"]
        kept, _ = train_test_split(table.index, train_size=n_images, random_state=seed, stratify=shares)
        table = table.loc[sorted(kept)].reset_index(drop=True)
    return Manifest(table, root.resolve())
