"""The stages of an experiment, in the order in which they are done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from featx.demo import read_elpv
from featx.errors import FeatxError
from featx.experiment_parts import ChoiceSpec, Experiment, FinetuneSpec, FitSpec, ReportSpec, StoreSpec
from featx.manifest import Manifest, read_source
from featx.mistakes import close_names
from featx.splits import make_count_splits, make_splits

SECTIONS = ("stores", "finetunes", "fits", "choices", "report")
"""What the stages of an experiment are of, in this order but for stores of fine-tuned networks."""

_SINGULAR = {"store": "stores", "finetune": "finetunes", "fit": "fits", "choice": "choices"}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    section : str
        One of `SECTIONS`.
    name : str
        Its name in there; "" of the report.
    path : Path
        What it makes: a store, a run's folder, a page.
    spec : StoreSpec, FinetuneSpec, FitSpec, ChoiceSpec or ReportSpec
    needs : tuple of str
        The keys of the stages whose results it takes.
    """

    section: str
    name: str
    path: Path
    spec: StoreSpec | FinetuneSpec | FitSpec | ChoiceSpec | ReportSpec
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Where it stands in the file, such as `fits.rf`."""
        return f"{self.section}.{self.name}" if self.name else self.section


def list_stages(experiment: Experiment) -> list[Stage]:
    """List all stages: stores of backbones, fine-tunings, stores of their networks, fits, choices, the report."""
    of_backbones, of_runs = [], []
    for name, store in experiment.stores.items():
        needs = (f"finetunes.{store.of_run}",) if store.of_run is not None else ()
        (of_runs if needs else of_backbones).append(
            Stage("stores", name, experiment.store_path(name), store, needs),
        )
    finetunes = [
        Stage("finetunes", name, experiment.run_path(name), spec, (f"stores.{spec.store}",))
        for name, spec in experiment.finetunes.items()
    ]
    fits = [
        Stage("fits", name, experiment.run_path(name), spec, (f"stores.{spec.store}",))
        for name, spec in experiment.fits.items()
    ]
    choices = [
        Stage("choices", name, experiment.run_path(name), spec, tuple(f"fits.{fit}" for fit in spec.among))
        for name, spec in experiment.choices.items()
    ]
    stages = [*of_backbones, *finetunes, *of_runs, *fits, *choices]
    # A report is of one split of the images, not of random ones.
    runs = tuple(stage.key for stage in (*finetunes, *fits) if getattr(stage.spec, "repeats", None) is None)
    if experiment.report is not None and runs:
        stages.append(Stage("report", "", experiment.report_path, experiment.report, runs))
    return stages


def choose_stages(stages: Sequence[Stage], only: str | Sequence[str] | None) -> list[Stage]:
    """Return some of the stages, in order.

    Parameters
    ----------
    stages : sequence of Stage
    only : str, sequence of str, or None
        Sections (`fits`, or `fit`), stages (`fits.rf`) and patterns of them (`fits.rf-*`); None: all.

    Raises
    ------
    FeatxError
        If one of these is no stage's.
    """
    only = [only] if isinstance(only, str) else only
    chosen: set[str] = set()
    for name in only or ():
        section, _, pattern = name.partition(".")
        section = _SINGULAR.get(section, section)
        if section not in SECTIONS:
            raise FeatxError(f"--only {name}: no such part {close_names(section, SECTIONS)}")
        found = [stage.key for stage in stages if stage.section == section and fnmatchcase(stage.name, pattern or "*")]
        if not found and not pattern:
            of_report = ": report is false, or there is no run on the images' own splits" if section == "report" else ""
            raise FeatxError(f"--only {name}: this experiment has none{of_report}")
        if not found:
            names = [stage.name for stage in stages if stage.section == section]
            raise FeatxError(f"--only {name}: no entry {pattern!r} in {section} {close_names(pattern, names)}")
        chosen |= set(found)
    return [stage for stage in stages if only is None or stage.key in chosen]


def read_images(experiment: Experiment, *, echo: Callable[[str], None] = lambda line: None) -> Manifest:
    """List the images of an experiment's source, not divided yet.

    Raises
    ------
    SourceError
        If the source isn't usable.
    """
    source = experiment.source
    if source.dataset is not None:
        manifest = read_elpv(source.n_images)
    else:
        manifest = read_source(
            source.path,
            path_column=source.path_column,
            label_column=source.label_column,
            split_column=source.split_column,
            group_column=source.group_column,
            root=source.root,
        )
    for note in manifest.notes:
        echo(note)
    return manifest


def divide_images(experiment: Experiment, manifest: Manifest) -> Manifest:
    """Divide an experiment's images as it says.

    Raises
    ------
    SourceError
        If they can't be divided so.
    """
    split = experiment.split
    if split is None:
        return manifest
    if split.shares is not None:
        return make_splits(manifest, split.shares, seed=split.seed, stratify=split.stratify)
    return make_count_splits(
        manifest, train=split.train_per_class, validation=split.validation_per_class, seed=split.seed
    )
