"""Define the stages of an experiment in their order, and do the work of each."""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError, one_line
from featx.experiment.option_names import explain
from featx.experiment.schema import ChoiceSpec, Experiment, FinetuneSpec, FitSpec, ReportSpec, StoreSpec
from featx.extract import ExtractOptions, extract_features
from featx.finetune import TuneOptions, fine_tune_all
from featx.fit import GridOptions, choose_among, fit_grid, fit_repeats
from featx.images import Manifest
from featx.report import gather, write_page
from featx.results import RECORD, Run, format_repeats, format_test, read_repeats, read_run
from featx.store import Store
from featx.system import close_names, sha256_of

if TYPE_CHECKING:
    from featx.cluster import Cluster


SECTIONS = ("stores", "finetunes", "fits", "choices", "report")
"""The kinds of stages, in this order but for stores of fine-tuned networks."""


_SINGULAR = {"store": "stores", "finetune": "finetunes", "fit": "fits", "choice": "choices"}


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    section : str
        One of `SECTIONS`.
    name : str
        Its name in the section; "" for the report.
    path : Path
        The store, the run's folder or the page.
    spec : StoreSpec, FinetuneSpec, FitSpec, ChoiceSpec or ReportSpec
    needs : tuple of str
        The keys of the stages whose results it uses.
    """

    section: str
    name: str
    path: Path
    spec: StoreSpec | FinetuneSpec | FitSpec | ChoiceSpec | ReportSpec
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its key in the file, such as `fits.rf`."""
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
        If one of these names no stage.
    """
    only = [only] if isinstance(only, str) else only
    chosen: set[str] = set()
    for name in only or ():
        section, _, pattern = name.partition(".")
        section = _SINGULAR.get(section, section)
        if section not in SECTIONS:
            raise FeatxError(f"{name!r}: no such section {close_names(section, SECTIONS)}", parameter="only")
        names = [stage.name for stage in stages if stage.section == section]
        matching = {
            stage.key for stage in stages if stage.section == section and fnmatchcase(stage.name, pattern or "*")
        }
        if not matching and not pattern:
            of_report = ": report is false, or there is no run on the images' own splits" if section == "report" else ""
            raise FeatxError(f"{name!r}: this experiment has none{of_report}", parameter="only")
        if not matching:
            close = close_names(pattern, names)
            raise FeatxError(f"{name!r}: no entry {pattern!r} in {section} {close}", parameter="only")
        chosen |= matching
    return [stage for stage in stages if only is None or stage.key in chosen]


@dataclass(frozen=True)
class Work:
    """Does the stages of one experiment.

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
        """Do stages that go together, and return a line about each result; None for one that couldn't be done."""
        if stages[0].section == "finetunes":
            return self.tune(stages, overwrite=overwrite)
        work = {"stores": self.extract, "fits": self.fit, "choices": self.choose, "report": self.report}
        return [work[stage.section](stage, overwrite=overwrite) for stage in stages]

    def note(self, line: str) -> None:
        """Pass a note on, with keys of the file in place of parameters."""
        self.echo(explain(FeatxError(line)))

    def extract(self, stage: Stage, *, overwrite: bool) -> str:
        """Make a store, resume it, or add to it."""
        done = extract_features(
            self.manifest,
            stage.path,
            **store_options(self.experiment, stage.spec).keywords(),
            cluster=self.cluster,
            overwrite=overwrite,
            progress=self.progress,
            echo=self.echo,
        )
        rejected = f", {done.n_rejected:,} images rejected" if done.n_rejected else ""
        return f"{done.n_images:,} images, {done.n_features:,} features{rejected}"

    def tune(self, stages: Sequence[Stage], *, overwrite: bool) -> list[str]:
        """Fine-tune a network by one recipe, or by several that differ in nothing else."""
        spec = stages[0].spec
        runs = fine_tune_all(
            self.experiment.store_path(spec.store),
            {stage.path: stage.spec.recipe for stage in stages},
            TuneOptions(**spec.keywords(TuneOptions)),
            changes=spec.set,
            cluster=self.cluster,
            overwrite=overwrite,
            progress=self.progress,
            echo=self.note,
        )
        return [format_test(runs[stage.path]) for stage in stages]

    def fit(self, stage: Stage, *, overwrite: bool) -> str:
        """Fit a grid on the images' own splits, or on random ones."""
        spec, store_path = stage.spec, self.experiment.store_path(stage.spec.store)
        work = {"cluster": self.cluster, "overwrite": overwrite, "progress": self.progress}
        if spec.repeats is None:
            run = fit_grid(store_path, spec.model, stage.path, **spec.keywords(GridOptions), **work)
        else:
            run = fit_repeats(store_path, spec.model, stage.path, **spec.repeat_options().keywords(), **work)
        for note in run.notes:
            self.note(note)
        return format_test(run) if isinstance(run, Run) else format_repeats(run)

    def choose(self, stage: Stage, *, overwrite: bool) -> str:
        """Choose the best of several fits for each random split."""
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
        for run in gathered.left_out:
            self.echo(one_line(f"left out of the report: {run.path}: {run.reason}"))
        return one_line(gathered.answer.sentence).rstrip(".")


def summarize_stage(stage: Stage) -> str:
    """Return a line about the result of a stage that exists."""
    if stage.section == "stores":
        with Store(stage.path) as store:
            return f"{len(store):,} images, {sum(store.n_channels.values()):,} features"
    if stage.section == "report":
        return ""
    if (stage.path / RECORD).is_file():
        return format_repeats(read_repeats(stage.path))
    return format_test(read_run(stage.path))


def store_options(experiment: Experiment, spec: StoreSpec) -> ExtractOptions:
    """Return the options of `featx.extract_features`, with the folder of a fine-tuned run in place of its name."""
    options = ExtractOptions(**spec.keywords())
    if spec.of_run is None:
        return options
    path = experiment.run_path(spec.of_run)
    if not path.is_dir():
        raise FeatxError(f"{path}: this fine-tuned run does not exist, and its network is asked for")
    return replace(options, weights=str(path))


_MARK = re.compile(rb"<!-- featx run ([0-9a-f]{64}) -->\s*\Z")


_LONGEST = 128


def make_mark(experiment: Experiment, stage: Stage) -> str:
    """Return an HTML comment with a digest of the page's title, root and runs.

    Raises
    ------
    FeatxError
        If the record of a run can't be read.
    """
    runs = {}
    for need in stage.needs:
        path = experiment.run_path(need.partition(".")[2])
        try:
            runs[path.name] = sha256_of(path / "run.json")
        except OSError as error:
            raise FeatxError(f"{path / 'run.json'}: can't be read: {error.strerror}") from error
    made_of = {"title": stage.spec.title or experiment.title, "root": stage.spec.root, "runs": list(runs.items())}
    return f"<!-- featx run {sha256_of(json.dumps(made_of))} -->\n"


def has_mark(path: Path, mark: str) -> bool:
    """Check whether a page ends with this comment.

    Raises
    ------
    FeatxError
        If it can't be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST))
            match = _MARK.search(file.read())
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror}") from error
    return match is not None and match[0].decode().strip() == mark.strip()
