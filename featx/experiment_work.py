"""The work of each stage of an experiment: one call of the library each, and a line on what it came to."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from featx.among import choose_among
from featx.errors import FeatxError, one_line
from featx.experiment_page import make_mark
from featx.experiment_parts import Experiment, FinetuneSpec, FitSpec, StoreSpec
from featx.experiment_stages import Stage
from featx.experiment_words import in_keys
from featx.extract import extract_features
from featx.finetune_all import fine_tune_all
from featx.grid import fit_grid
from featx.manifest import Manifest
from featx.repeated import RECORD, RepeatedRun, describe_repeats, read_repeats
from featx.repeats import fit_repeats
from featx.report import write_page
from featx.report_data import gather
from featx.results import Run, describe_test, read_run
from featx.store import Store

if TYPE_CHECKING:
    from featx.cluster_tasks import Cluster

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
        return [describe_test(runs[stage.path]) for stage in stages]

    def fit(self, stage: Stage, *, overwrite: bool) -> str:
        """Fit a grid on the images' own splits, or on random ones."""
        spec = stage.spec
        options = {"grid": spec.grid, "cluster": self.cluster, "overwrite": overwrite, "progress": self.progress}
        run = self._fit(self.experiment.store_path(spec.store), spec, stage.path, options)
        for note in run.notes:
            self.echo(in_keys(note))
        return describe_test(run) if isinstance(run, Run) else describe_repeats(run)

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
        return describe_repeats(run)

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
        return describe_repeats(read_repeats(stage.path))
    return describe_test(read_run(stage.path))


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
