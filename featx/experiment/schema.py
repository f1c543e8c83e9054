"""Define the sections of an experiment file, their keys, and the values that each may have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from featx.extract import ExtractOptions
from featx.finetune import TuneOptions
from featx.fit import GRIDS, FitOptions, GridOptions, RepeatOptions
from featx.images import SourceOptions
from featx.system import Options, Range, Seed, option, options_of

MAX_BYTES = 1 << 20
"""The most that an experiment file has, and so its record, which writes every default out."""


OF_RUN = "run:"
"""Before the name of a fine-tuned run of the same file, in place of weights."""


Count = Annotated[int, Range(1)]


@dataclass(frozen=True, kw_only=True)
class Source(SourceOptions):
    """Where the images are: a folder or a CSV, see `featx.read_source`; or an installed data set."""

    path: str | None = option(None, "Folder with one folder per class, or CSV.")
    dataset: Literal["elpv"] | None = option(
        None, "Installed data set, in place of a path; elpv: the photographs of the package elpv-dataset."
    )
    n_images: Annotated[int, Range(8)] | None = option(
        None, "Number of images of the data set; the shares of labels and types are kept.", unset="all"
    )


@dataclass(frozen=True, kw_only=True)
class Split(Options):
    """How the images are divided; see `featx.make_splits`, and `featx.images.make_count_splits`."""

    shares: tuple[Annotated[float, Range(0, 1)], ...] | None = option(
        None, "Shares of train and test images, or of train, validation and test images."
    )
    train_per_class: Count | None = option(
        None, "Number of train images per class, in place of shares; all other images are test images."
    )
    validation_per_class: Annotated[int, Range(0)] = option(
        0, "Number of validation images per class, with train_per_class."
    )
    stratify: tuple[str, ...] = option((), "Further columns whose shares are kept, with shares.")
    seed: Seed = option(0, "Seed of the split.")


@dataclass(frozen=True, kw_only=True)
class StoreSpec(ExtractOptions):
    """A feature store to make: the options of `featx.extract_features`; weights may be `run:NAME`, too."""

    @property
    def of_run(self) -> str | None:
        """The fine-tuned run of the same file whose network it is; None for the network of a backbone."""
        return self.weights.removeprefix(OF_RUN) if self.weights.startswith(OF_RUN) else None


@dataclass(frozen=True, kw_only=True)
class FinetuneSpec(TuneOptions):
    """A network to fine-tune: the options of `featx.fine_tune`."""

    store: str = option(help="Name of a store of a backbone.")
    recipe: str = option(help="Recipe: a name that featx recipes lists, or a file.")
    set: dict[str, Any] = option(dict, "Changes of the recipe, such as {epochs: 5, head.learning_rate: 0.001}.")


@dataclass(frozen=True, kw_only=True)
class FitSpec(GridOptions):
    """A grid to fit: the options of `featx.fit_grid`; with `repeats`, those of `featx.fit_repeats`."""

    store: str = option(help="Name of a store.")
    model: str = option(help="Classifier.", choices=tuple(GRIDS))
    grid: dict[str, Any] = option(
        dict, "Lists of values by scikit-learn's names, in the ranges of featx fit.", unset="the model's own"
    )
    repeats: Annotated[int, Range(1, 10_000)] | None = option(
        None, "Number of random splits, in place of the images' own."
    )
    test_share: Annotated[float, Range(0, 1, above=True, below=True)] | None = option(
        None, options_of(RepeatOptions)["test_share"].help, unset="0.2"
    )
    train_per_class: Count | None = option(None, options_of(RepeatOptions)["train_per_class"].help)
    stratify: tuple[str, ...] | None = option(None, options_of(RepeatOptions)["stratify"].help, unset="[label]")

    def repeat_options(self) -> RepeatOptions:
        """Return the options of `featx.fit_repeats`."""
        own = {name: getattr(self, name) for name in OF_REPEATS if name != "repeats"}
        own = {name: value for name, value in own.items() if value is not None}
        return RepeatOptions.make(**self.keywords(FitOptions), **own, n_repeats=self.repeats)


@dataclass(frozen=True, kw_only=True)
class ChoiceSpec(Options):
    """A choice among fits with repeats, made on the train rows of each split; see `featx.choose_among`."""

    among: tuple[str, ...] = option(help="Names of fits with repeats.")


@dataclass(frozen=True, kw_only=True)
class ReportSpec(Options):
    """The page that is written at the end; see `featx.report.write_report`."""

    title: str | None = option(None, "Title of the page.", unset="the experiment's")
    root: str | None = option(None, "Folder where the images' paths start.", unset="where the stores say")


@dataclass(frozen=True)
class Experiment:
    """A whole study, as one file says it; checked, with every path resolved and every default written out.

    Attributes
    ----------
    path : Path
        The file.
    title : str or None
        The question that the report shows.
    output : Path
        The folder for everything.
    source : Source
    split : Split or None
    stores : dict of str to StoreSpec
    finetunes : dict of str to FinetuneSpec
    fits : dict of str to FitSpec
    choices : dict of str to ChoiceSpec
    report : ReportSpec or None
    """

    path: Path
    title: str | None
    output: Path
    source: Source
    split: Split | None
    stores: dict[str, StoreSpec]
    finetunes: dict[str, FinetuneSpec]
    fits: dict[str, FitSpec]
    choices: dict[str, ChoiceSpec]
    report: ReportSpec | None

    @property
    def report_path(self) -> Path:
        """Where the report is written."""
        return self.output / "report.html"

    @property
    def record_path(self) -> Path:
        """Where what was run is kept, everything written out."""
        return self.output / "experiment.yaml"

    def store_path(self, name: str) -> Path:
        """Return where a store is."""
        return self.output / "stores" / f"{name}.h5"

    def run_path(self, name: str) -> Path:
        """Return where the run of a fit, a fine-tuning or a choice is."""
        return self.output / "runs" / name


NAMED = {"stores": StoreSpec, "finetunes": FinetuneSpec, "fits": FitSpec, "choices": ChoiceSpec}
"""The sections that hold entries by name, and what each entry is."""


OF_REPEATS = ("repeats", "test_share", "train_per_class", "stratify")
"""Keys of a fit that have a meaning only with random splits."""
