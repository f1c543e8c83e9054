"""The command line: each command imports what it needs, calls the library once, and shows the result."""

import sys
from pathlib import Path

import click

from featx import __version__
from featx.cli.extract import extract, merge
from featx.cli.finetune import finetune, recipes
from featx.cli.fit import fit
from featx.cli.networks import backbones
from featx.cli.options import AS_JSON, OVERWRITE, SEED, Commands, Group, say, show_json
from featx.cli.plot import plot
from featx.cli.results import choose, report
from featx.cli.run import run
from featx.cli.stores import export, repair
from featx.cli.stores import verify as verify_a_store
from featx.errors import one_line
from featx.networks import BACKBONES


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
)
@click.version_option(__version__, prog_name="featx")
def main() -> None:
    """Frozen deep features and classical classifiers, measured honestly beside a fine-tuned network."""
    import logging

    # What Pillow has to say of damaged files ends as their reasons, not on the screen.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


main.add_command(extract)


main.add_command(merge)


main.add_command(fit)


main.add_command(choose)


main.add_command(finetune)


main.add_command(run)


main.add_command(backbones)


main.add_command(recipes)


main.add_command(export)


main.add_command(verify_a_store)


main.add_command(repair)


main.add_command(report)


main.add_command(plot)


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@AS_JSON
def info(store: Path, as_json: bool) -> None:
    """Describe a feature store in one screen."""
    from featx.store import Store, describe_store, format_description

    with Store(store) as opened:
        description = describe_store(opened)
    if as_json:
        show_json(description)
    else:
        click.echo(format_description(description))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@click.option(
    "--weights",
    help="Of the network, where the run's came from a file or a fine-tuned run.  [default: those of the run]",
)
@click.option("--path-column", default="path", help="Of a CSV.")
@click.option("--root", type=click.Path(path_type=Path), help="Where a CSV's paths start.  [default: its folder]")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images a forward pass.")
@OVERWRITE
@AS_JSON
def predict(
    run: Path,
    images: tuple[Path, ...],
    output: Path | None,
    path_column: str,
    root: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Classify IMAGES with the saved model of RUN, a folder that featx fit or featx finetune has written.

    IMAGES are files, folders of images, or CSVs with a path column. The result is a CSV: path, predicted, and a
    probability a class, or the decision value of the predicted class where the model has no probabilities.
    """
    from contextlib import nullcontext

    from featx.images import list_sources
    from featx.inference import Predictor, write_predictions
    from featx.system import check_writable, open_whole

    if output is not None:
        check_writable(output, overwrite=overwrite)
    paths = list_sources(images, path_column=path_column, root=root, echo=say)
    predictor = Predictor(run, echo=say, **options)
    # Rows that run over the screen as they come are progress enough.
    progress = output is not None or as_json or not sys.stdout.isatty()
    with open_whole(output) if output is not None else nullcontext(sys.stdout.buffer) as file:
        rejected = write_predictions(predictor.stream(paths, progress=progress), file, as_json=as_json)
    for path, reason in rejected.itertuples(index=False):
        say(one_line(f"{path}: {reason}"))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cells", is_flag=True, help="Instead: every cell of every run, with its figures on validation rows.")
@AS_JSON
def compare(runs: tuple[Path, ...], cells: bool, as_json: bool) -> None:
    """Compare runs that were scored on the same rows: figures, McNemar's test against the first, and costs.

    Runs of random splits (--repeats, featx choose): figures over their splits, and on the same splits differences.
    """
    from dataclasses import asdict

    from featx.results import (
        are_repeats,
        cells_of_runs,
        compare_repeats,
        compare_runs,
        compared_repeats_table,
        comparison_table,
        format_table,
    )

    if cells:
        table = cells_of_runs(runs)
        if as_json:
            show_json([row.dropna().to_dict() for _, row in table.iterrows()])
        else:
            click.echo(format_table(table))
        return
    if are_repeats(runs):
        compared = compare_repeats(runs)
        if as_json:
            show_json({"runs": [asdict(run) for run in compared]})
        else:
            click.echo(format_table(compared_repeats_table(compared)))
        return
    comparison = compare_runs(runs)
    if as_json:
        show_json(asdict(comparison))
        return
    for note in comparison.notes:
        say(note)
    click.echo(format_table(comparison_table(comparison)))


@main.group(cls=Group)
def weights() -> None:
    """List and verify weights."""


@weights.command("list")
@AS_JSON
def list_weights(as_json: bool) -> None:
    """List the weights that featx can get, and where they would come from."""
    from featx.networks import SOURCES, where_found
    from featx.system import cache_dir

    rows = [{"weights": name, "what": what, "here": where_found(name)} for name, what in SOURCES.items()]
    if as_json:
        show_json({"cache": str(cache_dir()), "weights": rows})
        return
    for row in rows:
        click.echo(f"{row['weights']:<15}{row['what']}\n{'':<15}{row['here'] or 'not here yet'}")
    click.echo(f"{'FILE':<15}.weights.h5, .h5 or .keras of Keras; .onnx")
    click.echo(f"{'RUN':<15}the folder of a fine-tuned run: its network, head and all\ncache: {cache_dir()}")


@weights.command()
@click.argument("name")
@click.option("--backbone", type=click.Choice(list(BACKBONES)), default="vgg16")
@AS_JSON
def verify(name: str, backbone: str, as_json: bool) -> None:
    """Load the weights NAME (or a file), and compare every layer that has a published digest."""
    from featx.networks import verify_weights

    report = verify_weights(name, backbone=backbone)
    if as_json:
        show_json(report)
    else:
        wide = max(map(len, report["layers"]))
        for layer, entry in report["layers"].items():
            shown = "  ".join(digest[:16] for digest in entry["sha256"])
            click.echo(f"{layer:<{wide}}  {shown}  {entry['published']}".rstrip())
        published = f"{report['n_same']} of {report['n_published']} published layers are the same"
        click.echo(f"{report['weights']}: {published if report['n_published'] else 'there are no published digests'}")
    if report["n_same"] < report["n_published"] and name.partition(":")[0] != "random":
        sys.exit(1)


@main.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="demo", help="Folder for the store and the runs."
)
@click.option("--images", "n_images", type=click.IntRange(40, 2624), help="Take so many.  [default: all 2,624]")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images a forward pass.")
@click.option("--seed", type=SEED, default=0, help="Of splits, forests and fine-tuning.")
@OVERWRITE
@AS_JSON
def demo(output: Path, as_json: bool, **options: object) -> None:
    """Go the whole way on real photographs of solar cells: ImageNet's VGG16, RF, SVM and fine-tuning, table and report.

    2,624 photographs take a quarter of an hour on two cores; what is finished is used again.
    """
    from featx.experiment import demo_table, run_demo
    from featx.results import format_table

    done = run_demo(output, progress=True, echo=say, **options)
    table = demo_table(done)
    if as_json:
        show_json(
            {
                "store": done.store_path,
                "engine": done.engine,
                "runs": list(done.runs),
                "report": done.report_path,
                "table": table.to_dict("records"),
            }
        )
        return
    click.echo(format_table(table))
    for path, fitted in done.runs.items():
        if fitted.best.note:
            say(f"{path}: {fitted.best.note}")
    click.echo(f"\nfeatures: {done.store_path}, by {done.engine}\nruns:     {', '.join(done.runs)}")
    if done.report_path is not None:
        click.echo(f"report:   {done.report_path}: open it in a browser")
