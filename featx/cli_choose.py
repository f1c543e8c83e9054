"""`featx choose`: of several runs on the same random splits, for each split the run that its train rows say is best."""

from pathlib import Path

import click

from featx.cli_options import AS_JSON, OVERWRITE, say, show_json


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@OVERWRITE
@AS_JSON
def choose(runs: tuple[Path, ...], output: Path, overwrite: bool, as_json: bool) -> None:
    """Of RUNS on the same random splits, take for each split the one that its train rows say is best.

    RUNS are folders of featx fit --repeats: the same splits of the same images, other features or another classifier.
    """
    from dataclasses import asdict

    from featx.among import choose_among
    from featx.repeated import describe_repeats, repeats_table
    from featx.results import format_table

    run = choose_among(runs, output, overwrite=overwrite)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(repeats_table(run)))
    counts = ", ".join(f"{entry['run']} {entry['n_chosen']}" for entry in run.protocol["among"])
    click.echo(f"\nchosen: {counts} of {len(run.repeats)} splits\n{describe_repeats(run)}")
    click.echo(f"{output}: repeats.json, repeats.csv")
