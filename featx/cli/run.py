"""Run `featx run`: a whole experiment from one file."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featx.cli.options import AS_JSON, OVERWRITE, Command, cluster_options, note_of_dry_run, opened, show_json
from featx.cli.streams import say

if TYPE_CHECKING:
    from featx.cluster import Address
    from featx.experiment import ExperimentPlan, ExperimentRun


def split_sections(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Split a list of names with commas."""
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter("a name is empty: expected stores,fits or the like", ctx, param)
    return names


@click.command(cls=Command)
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option(
    "--only",
    callback=split_sections,
    help="Stages to do: stores, finetunes, fits, choices, report, or fits.NAME, with commas.  [default: all]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value of the file, by dotted key: split.seed=1; * stands for every name. Repeat it for more.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show stages, existing results and remaining work; for stores, predict time, disk and memory. Write nothing.",
)
@cluster_options
@OVERWRITE
@AS_JSON
def run(
    experiment: Path,
    only: tuple[str, ...] | None,
    changes: tuple[str, ...],
    dry_run: bool,
    cluster: "Address | None",
    cluster_settings: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Do a whole study from EXPERIMENT, a YAML file: stores, fine-tunings, fits, choices and the report.

    Existing results with the same settings are kept, and stopped stages resume. Results with other settings are an
    error, unless --overwrite is given.
    """
    from featx.experiment import EXAMPLE, plan_experiment, read_experiment, run_experiment
    from featx.networks.recipes import parse_changes

    study = read_experiment(experiment, changes=parse_changes(changes, example=EXAMPLE))
    if dry_run:
        note_of_dry_run(cluster, cluster_settings)
        show_plan(plan_experiment(study, only=only, overwrite=overwrite, echo=say), as_json=as_json)
        return
    with opened(cluster, cluster_settings) as workers:
        done = run_experiment(study, only=only, overwrite=overwrite, cluster=workers, progress=True, echo=say)
    if as_json:
        show_json(asdict(done))
    else:
        show_stages(done, click.echo)


def show_plan(plan: "ExperimentPlan", *, as_json: bool) -> None:
    """Show what an experiment would do; exit with 1 if one of its stages can't be done."""
    from featx.experiment import format_plan, plan_table
    from featx.results import format_table

    if as_json:
        show_json(asdict(plan))
    else:
        click.echo(f"{format_table(plan_table(plan))}\n")
        for line in format_plan(plan):
            click.echo(line)
    if not plan.is_possible:
        sys.exit(1)


def show_stages(done: "ExperimentRun", show: Callable[[str], None]) -> None:
    """Show one line per stage."""
    wide = max((len(stage.key) for stage in done.stages), default=0)
    for stage in done.stages:
        what = "left out"
        if stage.is_done:
            what = f"{stage.summary}; {stage.seconds:,.1f} s"
        elif stage.was == "exists":
            what = f"exists already{f'; {stage.summary}' if stage.summary else ''}"
        show(f"{stage.key:<{wide}}  {what}")
    show(f"\n{done.output}: stores, runs, and experiment.yaml, which says what was run")
    if done.report is not None:
        show(f"{done.report}: open it in a browser")
