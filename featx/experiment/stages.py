"""Define the stages of an experiment in their order, and do the work of each."""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError, one_line
from featx.experiment.option_names import in_keys
from featx.experiment.schema import ChoiceSpec, Experiment, FinetuneSpec, FitSpec, ReportSpec, StoreSpec
from featx.extract import extract_features
from featx.finetune import fine_tune_all
from featx.fit import choose_among, fit_grid, fit_repeats
from featx.images import Manifest, make_count_splits, make_splits, read_elpv, read_source
from featx.report import gather, write_page
from featx.results import RECORD, RepeatedRun, Run, format_repeats, format_test, read_repeats, read_run
from featx.store import Store
from featx.system import close_names

if TYPE_CHECKING:
    from featx.cluster import Cluster


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


_OF_REPEATS = ("test_share", "train_per_class", "stratify")


_OF_ONE_SPLIT = ("each_layer", "leave_one_layer_out", "importance")


@dataclass(frozen=True)
class Work:
    """How the stages of one experiment are done.

    Attributes
    ----------
    experiment : Experiment
    manifest : Manifest or None
        The images; None where no store is made.
    progress : bool
    echo : callable
    cluster : Cluster, optional
        Whose workers extract, fine-tune and fit; default: this process.
    """

    experiment: Experiment
    manifest: Manifest | None
    progress: bool
    echo: Callable[[str], None]
    cluster: "Cluster | None" = None

    def do(self, stages: Sequence[Stage], *, overwrite: bool) -> list[str | None]:
        """Do stages that go together, and say in a line what each came to; None of one that couldn't be done."""
        if stages[0].section == "finetunes":
            return self.tune(stages, overwrite=overwrite)
        work = {"stores": self.extract, "fits": self.fit, "choices": self.choose, "report": self.report}
        return [work[stage.section](stage, overwrite=overwrite) for stage in stages]

    def extract(self, stage: Stage, *, overwrite: bool) -> str:
        """Make a store, go on with it, or add to it."""
        done = extract_features(
            self.manifest,
            stage.path,
            **network_options(self.experiment, stage.spec),
            max_rejected=stage.spec.max_rejected,
            cluster=self.cluster,
            overwrite=overwrite,
            progress=self.progress,
            echo=self.echo,
        )
        rejected = f", {done.n_rejected:,} images rejected" if done.n_rejected else ""
        return f"{done.n_images:,} images, {done.n_features:,} features{rejected}"

    def tune(self, stages: Sequence[Stage], *, overwrite: bool) -> list[str]:
        """Fine-tune a network by one recipe, or by several that differ in nothing else; see `tuning_options`."""
        spec = stages[0].spec
        runs = fine_tune_all(
            self.experiment.store_path(spec.store),
            {stage.path: stage.spec.recipe for stage in stages},
            **tuning_options(spec),
            cluster=self.cluster,
            overwrite=overwrite,
            progress=self.progress,
            echo=lambda line: self.echo(in_keys(line)),
        )
        return [format_test(runs[stage.path]) for stage in stages]

    def fit(self, stage: Stage, *, overwrite: bool) -> str:
        """Fit a grid on the images' own splits, or on random ones."""
        spec = stage.spec
        options = {"grid": spec.grid, "cluster": self.cluster, "overwrite": overwrite, "progress": self.progress}
        run = self._fit(self.experiment.store_path(spec.store), spec, stage.path, options)
        for note in run.notes:
            self.echo(in_keys(note))
        return format_test(run) if isinstance(run, Run) else format_repeats(run)

    def _fit(self, store_path: Path, spec: FitSpec, path: Path, options: dict[str, object]) -> Run | RepeatedRun:
        names = ("layers", "discretize", "choose_by", "label", "where", "sample_weight", "class_weight")
        names += ("drop_duplicates", "cv", "seed")
        options = options | {name: getattr(spec, name) for name in names}
        if spec.repeats is None:
            return fit_grid(store_path, spec.model, path, **options, **_given(spec, _OF_ONE_SPLIT))
        return fit_repeats(store_path, spec.model, path, n_repeats=spec.repeats, **options, **_given(spec, _OF_REPEATS))

    def choose(self, stage: Stage, *, overwrite: bool) -> str:
        """Take for each random split the best of several fits."""
        paths = [self.experiment.run_path(name) for name in stage.spec.among]
        run = choose_among(paths, stage.path, overwrite=overwrite)
        for note in run.notes:
            self.echo(note)
        return format_repeats(run)

    def report(self, stage: Stage, *, overwrite: bool) -> str | None:
        """Write the page about all runs on one split; it is the experiment's own, and replaced whenever it is old."""
        if not all(map(importlib.util.find_spec, ("jinja2", "matplotlib"))):
            self.echo("no report of the runs: it takes pip install 'featx[report]'")
            return None
        experiment, spec = self.experiment, stage.spec
        gathered = gather([experiment.run_path(key.partition(".")[2]) for key in stage.needs])
        title = spec.title or experiment.title
        options = {"overwrite": True, "progress": self.progress, "mark": make_mark(experiment, stage)}
        write_page(gathered, stage.path, title=title, root=spec.root, **options)
        for left in gathered.left_out:
            self.echo(one_line(f"left out of the report: {left.path}: {left.reason}"))
        return one_line(gathered.answer.sentence).rstrip(".")


def describe_stage(stage: Stage) -> str:
    """Say in a line what a stage that is there came to."""
    if stage.section == "stores":
        with Store(stage.path) as store:
            return f"{len(store):,} images, {sum(store.n_channels.values()):,} features"
    if stage.section == "report":
        return ""
    if (stage.path / RECORD).is_file():
        return format_repeats(read_repeats(stage.path))
    return format_test(read_run(stage.path))


def tuning_options(spec: FinetuneSpec) -> dict[str, object]:
    """Return the options of `featx.fine_tune`, but the recipe; where they are equal, recipes go together."""
    names = (
        "weights",
        "root",
        "label",
        "where",
        "split",
        "sample_weight",
        "drop_duplicates",
        "engine",
        "cache_limit",
        "keep_cache",
        "seed",
    )
    return {"changes": spec.set} | {name: getattr(spec, name) for name in names}


def network_options(experiment: Experiment, spec: StoreSpec) -> dict[str, object]:
    """Return the options of `featx.extract_features` that a store's features depend on."""
    options = store_options(spec)
    if spec.of_run is not None:
        path = experiment.run_path(spec.of_run)
        if not path.is_dir():
            raise FeatxError(f"{path}: this fine-tuned run isn't there, and its network is asked for")
        options["weights"] = str(path)
    return options


def store_options(spec: StoreSpec) -> dict[str, object]:
    """Return the same as the experiment has them: `run:NAME` where it is the network of a run of its own."""
    return {entry.name: getattr(spec, entry.name) for entry in fields(spec) if entry.name != "max_rejected"}


def _given(spec: FitSpec, names: tuple[str, ...]) -> dict[str, object]:
    return {name: value for name in names if (value := getattr(spec, name)) is not None}


_MARK = re.compile(rb"<!-- featx run ([0-9a-f]{64}) -->\s*\Z")


_LONGEST = 128


def make_mark(experiment: Experiment, stage: Stage) -> str:
    """Return a comment of HTML that is another for another title, root or list of runs, or another run among them.

    Raises
    ------
    FeatxError
        If the record of a run can't be read.
    """
    runs = {}
    for need in stage.needs:
        path = experiment.run_path(need.partition(".")[2])
        try:
            runs[path.name] = hashlib.sha256((path / "run.json").read_bytes()).hexdigest()
        except OSError as error:
            raise FeatxError(f"{path / 'run.json'}: can't be read: {error.strerror}") from error
    made_of = {"title": stage.spec.title or experiment.title, "root": stage.spec.root, "runs": list(runs.items())}
    return f"<!-- featx run {hashlib.sha256(json.dumps(made_of).encode()).hexdigest()} -->\n"


def has_mark(path: Path, mark: str) -> bool:
    """Whether a page ends with this comment.

    Raises
    ------
    FeatxError
        If it can't be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST))
            found = _MARK.search(file.read())
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror}") from error
    return found is not None and found[0].decode().strip() == mark.strip()
