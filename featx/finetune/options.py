"""Declare the options of a fine-tuning."""

from dataclasses import dataclass
from typing import Annotated, Literal

from featx.system import Options, Range, Seed, option


@dataclass(frozen=True, kw_only=True)
class TuneOptions(Options):
    """What `featx.fine_tune` is asked for, but the store, the recipe and its changes."""

    weights: str | None = option(
        None, "Weights that made the store's features, where they came from a file.", unset="the store's"
    )
    root: str | None = option(
        None, "Folder where the images' paths start.", unset="where they were extracted from", metavar="PATH"
    )
    label: str = option("label", "Column of the labels.")
    where: str | None = option(None, "Condition that chooses the rows to use, such as 'type == \"mono\"'.")
    split: str = option("split", "Column of the splits.", flag="split-column")
    sample_weight: str | None = option(None, "Column of the rows' weights; rows of weight 0 are left out.")
    drop_duplicates: bool = option(False, "Leave out images of identical files; all test images stay.")
    engine: Literal["auto", "keras", "ncnn"] = option("auto", "Library that runs the frozen part.")
    cache_limit: Annotated[int, Range(0)] = option(
        20 * 10**9,
        "Disk that activations may take, in the folder that FEATX_CACHE names.",
        unit="GB",
    )
    keep_cache: bool = option(False, "Keep the activations for the next training on the same images.")
    seed: Seed = option(0, "Seed of the head, dropout, the order of rows and augmentation.")
