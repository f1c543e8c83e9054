"""Run `featx report` and `featx choose`."""

from pathlib import Path

import click

from featx.cli.options import AS_JSON, OVERWRITE, Command, show_json
from featx.cli.streams import say
from featx.errors import one_line


@click.command(cls=Command)
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default="report.html", help="HTML file to write.")
@click.option("--title", help="Title of the page.  [default: Frozen features and a fine-tuned network]")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the images.  [default: the store's]")
@OVERWRITE
@AS_JSON
def report(
    results: tuple[Path, ...], output: Path, title: str | None, root: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Write one HTML page about RESULTS, folders of runs or folders that hold some: answer, table, figures, images.

    The page needs no network and no server. All runs in it have the same test rows; others are named with the reason.
    """
    from dataclasses import asdict

    from featx.report import gather, write_page
    from featx.system import check_writable

    check_writable(output, overwrite=overwrite)
    gathered = gather(results)
    written = write_page(gathered, output, title=title, root=root, overwrite=overwrite, progress=True)
    for left in gathered.left_out:
        say(one_line(f"left out: {left.path}: {left.reason}"))
    if as_json:
        show_json(
            {
                "report": str(written),
                "bytes": written.stat().st_size,
                "runs": [run.name for run in gathered.runs],
                "left_out": [asdict(left) for left in gathered.left_out],
                "answer": asdict(gathered.answer),
            }
        )
        return
    click.echo(one_line(gathered.answer.sentence))
    click.echo(f"{written}: {len(gathered.runs):,} runs, {written.stat().st_size / 1e6:.2f} MB")


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@OVERWRITE
@AS_JSON
def choose(runs: tuple[Path, ...], output: Path, overwrite: bool, as_json: bool) -> None:
    """Choose, for each random split, the run of RUNS that is best on its train rows.

    RUNS are folders of featx fit --repeats: the same splits of the same images, with other features or classifiers.
    """
    from dataclasses import asdict

    from featx.fit import choose_among
    from featx.results import format_repeats, format_table, repeats_table

    run = choose_among(runs, output, overwrite=overwrite)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(repeats_table(run)))
    counts = ", ".join(f"{entry['run']} {entry['n_chosen']}" for entry in run.protocol["among"])
    click.echo(f"\nchosen: {counts} of {len(run.repeats)} splits\n{format_repeats(run)}")
    click.echo(f"{output}: repeats.json, repeats.csv")
