"""Define the sections of an experiment file, their keys, and the values that each may have."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict
from pydantic_core import PydanticCustomError

from featx.fit import AXES, CHOOSE_BY, DISCRETIZATIONS
from featx.images import ICCS, INTERPOLATIONS, JPEGS, RESIZES, VIEWS
from featx.inference import AUTO, LARGEST
from featx.inference.engines import ENGINES, PRECISIONS
from featx.networks import BACKBONES, PREPROCESSINGS
from featx.networks.recipes import Checked, Count
from featx.store import STORE_DTYPES

MAX_BYTES = 1 << 20
"""The most that an experiment file has, and so its record, which writes every default out."""


OF_RUN = "run:"
"""Before the name of a fine-tuned run of the same file, in place of weights."""


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _expect(expected: str, is_right: Callable[[object], bool]) -> BeforeValidator:
    def check(value: object) -> object:
        if not is_right(value):
            raise PydanticCustomError("expected", "{expected}", {"expected": expected})
        return value

    return BeforeValidator(check)


def _join(value: object) -> object:
    """Turn a list of names into text with commas, as the library takes several."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return ",".join(value)
    return value


Names = Annotated[
    str, _expect("text, or a list of names", lambda value: isinstance(value, str)), BeforeValidator(_join)
]


Seed = Annotated[int, Strict(), Field(ge=0, le=2**32 - 1)]


Flag = Annotated[bool, Strict()]


Number = Annotated[float, Strict()]


Folds = Annotated[int, Strict(), Field(ge=2, le=10_000)]


Times = Annotated[int, Strict(), Field(ge=0, le=10_000)]


BatchSize = Annotated[
    int | str,
    _expect(
        f"auto, or a whole number from 1 to {LARGEST}",
        lambda value: value == AUTO or (_is_whole(value) and 1 <= value <= LARGEST),
    ),
]


Rejected = Annotated[
    int | float,
    _expect(
        "a number of images (10) or a share of them (0.01)",
        lambda value: (_is_whole(value) and value >= 0) or (isinstance(value, float) and 0 <= value <= 1),
    ),
]


Bytes = Annotated[
    int,
    BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value),
    Strict(),
    Field(ge=0),
]


@dataclass(frozen=True)
class Source(Checked):
    """Where the images are: a folder or a CSV, see `featx.read_source`; or a data set that is installed.

    Attributes
    ----------
    path : str or None
    root, path_column, label_column, split_column, group_column
        See `featx.read_source`.
    dataset : str or None
        elpv: the photographs of solar cells that the package elpv-dataset brings; in place of a path.
    n_images : int or None
        So many of the data set's, with the labels' and types' shares kept; None: all.
    """

    path: str | None = None
    root: str | None = None
    path_column: str = "path"
    label_column: str = "label"
    split_column: str | None = None
    group_column: str | None = None
    dataset: Literal["elpv"] | None = None
    n_images: Annotated[int, Strict(), Field(ge=8)] | None = None


@dataclass(frozen=True)
class Split(Checked):
    """How the images are divided; see `featx.make_splits`, and `featx.images.make_count_splits`.

    Attributes
    ----------
    shares : tuple of float or None
        Of train and test, or of train, validation and test.
    train_per_class : int or None
        So many train images of every class, in place of shares; those that are left are test images.
    validation_per_class : int
        With that, so many validation images of every class.
    stratify : tuple of str
        With shares, further columns whose shares are kept.
    seed : int
    """

    shares: tuple[Annotated[Number, Field(ge=0, le=1)], ...] | None = None
    train_per_class: Count | None = None
    validation_per_class: Annotated[int, Strict(), Field(ge=0)] = 0
    stratify: tuple[str, ...] = ()
    seed: Seed = 0


@dataclass(frozen=True)
class StoreSpec(Checked):
    """A feature store to make: the options of `featx.extract_features`.

    Attributes
    ----------
    backbone, layers, image_size, resize, interpolation, preprocessing, pool, views, engine, precision, jpeg, icc
        See `featx.extract_features`.
    weights : str
        As there, or `run:NAME` for the network of a fine-tuned run of the same file.
    store_dtype, batch_size, max_rejected
        See `featx.extract_features`.
    """

    backbone: Literal[tuple(BACKBONES)] = "vgg16"
    layers: Names = "all"
    weights: str = "imagenet"
    image_size: Annotated[int, Strict(), Field(ge=32, le=4096)] | None = None
    resize: Literal[RESIZES] = "squash"
    interpolation: Literal[tuple(INTERPOLATIONS)] = "bilinear"
    preprocessing: Literal[tuple(PREPROCESSINGS)] | None = None
    pool: Names = "avg"
    views: Literal[tuple(VIEWS)] = "none"
    engine: Literal[tuple(ENGINES)] = "auto"
    precision: Literal[tuple(PRECISIONS)] = "float32"
    jpeg: Literal[tuple(JPEGS)] = "full"
    icc: Literal[tuple(ICCS)] = "convert"
    store_dtype: Literal[STORE_DTYPES] = "float32"
    batch_size: BatchSize = AUTO
    max_rejected: Rejected | None = None

    @property
    def of_run(self) -> str | None:
        """The fine-tuned run whose network it is; None where it is a backbone's."""
        return self.weights.removeprefix(OF_RUN) if self.weights.startswith(OF_RUN) else None


@dataclass(frozen=True)
class FinetuneSpec(Checked):
    """A network to fine-tune: the options of `featx.fine_tune`.

    Attributes
    ----------
    store : str
        The store's name.
    recipe : str
        The name of one that ships, or a file.
    set : dict of str to object
        What is to be other than in the recipe; there, `changes`.
    weights : str or None
        Default: the store's.
    root, label, where, split, sample_weight, drop_duplicates, engine, cache_limit, keep_cache, seed
        See `featx.fine_tune`.
    """

    store: str
    recipe: str
    set: dict[str, object] = field(default_factory=dict)
    weights: str | None = None
    root: str | None = None
    label: str = "label"
    where: str | None = None
    split: str = "split"
    sample_weight: str | None = None
    drop_duplicates: Flag = False
    engine: Literal[tuple(ENGINES)] = "auto"
    cache_limit: Bytes = 20 * 10**9
    keep_cache: Flag = False
    seed: Seed = 0


@dataclass(frozen=True)
class FitSpec(Checked):
    """A grid to fit: the options of `featx.fit_grid`; with `repeats`, those of `featx.fit_repeats`.

    Attributes
    ----------
    store : str
        The store's name.
    model : str
    grid : dict of str to tuple
        Values by axis; see `featx.fit.AXES`.
    layers, discretize, cv, choose_by, label, where, sample_weight, class_weight, drop_duplicates, seed
        See `featx.fit_grid`.
    each_layer, leave_one_layer_out, importance
        See `featx.fit_grid`; not with repeats.
    repeats : int or None
        So many random splits instead of the source's own.
    test_share, train_per_class, stratify
        See `featx.fit_repeats`; with repeats alone.
    """

    store: str
    model: Literal[tuple(AXES)]
    grid: dict[str, object] = field(default_factory=dict)
    layers: Names = "all"
    discretize: Literal[tuple(DISCRETIZATIONS)] = "none"
    cv: Folds | None = None
    choose_by: Literal[CHOOSE_BY] = "accuracy"
    label: str = "label"
    where: str | None = None
    sample_weight: str | None = None
    class_weight: Literal["balanced"] | None = None
    drop_duplicates: Flag = False
    each_layer: Flag = False
    leave_one_layer_out: Flag = False
    importance: Times = 0
    seed: Seed = 0
    repeats: Annotated[Times, Field(ge=1)] | None = None
    test_share: Annotated[Number, Field(gt=0, lt=1)] | None = None
    train_per_class: Count | None = None
    stratify: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ChoiceSpec(Checked):
    """A choice among fits with repeats, made anew on each split's train rows; see `featx.choose_among`.

    Attributes
    ----------
    among : tuple of str
        Their names.
    """

    among: tuple[str, ...]


@dataclass(frozen=True)
class ReportSpec(Checked):
    """The page that is written at the end; see `featx.report.write_report`.

    Attributes
    ----------
    title : str or None
        Default: the experiment's.
    root : str or None
        Where the images are, if not where the stores say.
    """

    title: str | None = None
    root: str | None = None


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


OF_ONE_SPLIT = ("each_layer", "leave_one_layer_out", "importance")
"""Keys of a fit that mean something only with random splits, and only without."""
