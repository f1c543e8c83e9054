"""`featx run`: a whole experiment from one file."""

from collections.abc import Callable
from pathlib import Path

import click

from featx.cli.options import AS_JSON, OVERWRITE, Command, cluster_options, note_of_dry_run, opened, say, show_json


def split_sections(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Read names with commas."""
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
    help="What to do of it: stores, finetunes, fits, choices, report, or fits.NAME, with commas.  [default: all]",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="What is to be other than in the file, by dotted key: split.seed=1; * stands for every name. Again for more.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show every stage, what exists, and what is to do; of stores, predicted time, disk and memory. Write nothing.",
)
@cluster_options
@OVERWRITE
@AS_JSON
def run(
    experiment: Path,
    only: tuple[str, ...] | None,
    changes: tuple[str, ...],
    dry_run: bool,
    cluster: object,
    cluster_settings: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Do a whole study from EXPERIMENT, a YAML file: stores, fine-tunings, fits, choices and the report.

    What is there already with the same settings is kept, and what was stopped goes on. With other settings it is
    refused, unless --overwrite is given.
    """
    from featx.experiment import EXAMPLE, read_experiment
    from featx.networks.recipes import parse_changes

    wanted = read_experiment(experiment, changes=parse_changes(changes, example=EXAMPLE))
    options = {"only": only, "overwrite": overwrite, "echo": say}
    if dry_run:
        note_of_dry_run(cluster, cluster_settings)
        show_plan(wanted, options, as_json=as_json)
        return
    with opened(cluster, cluster_settings) as options["cluster"]:
        do_all(wanted, options, as_json=as_json)


def show_plan(experiment: object, options: dict[str, object], *, as_json: bool) -> None:
    """Show what an experiment would do; exit with 1 if a stage of it can't be done."""
    import sys
    from dataclasses import asdict

    from featx.experiment import format_plan, plan_experiment, plan_table
    from featx.results import format_table

    plan = plan_experiment(experiment, **options)
    if as_json:
        show_json(asdict(plan))
    else:
        click.echo(f"{format_table(plan_table(plan))}\n")
        for line in format_plan(plan):
            click.echo(line)
    if not plan.is_possible:
        sys.exit(1)


def do_all(experiment: object, options: dict[str, object], *, as_json: bool) -> None:
    """Do an experiment and show what became of each stage."""
    from dataclasses import asdict

    from featx.experiment import run_experiment

    done = run_experiment(experiment, progress=True, **options)
    if as_json:
        show_json(asdict(done))
        return
    show_stages(done, click.echo)


def show_stages(done: object, show: Callable[[str], None]) -> None:
    """Show a line a stage."""
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
