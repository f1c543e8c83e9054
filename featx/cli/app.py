"""The command line: each command imports what it needs, calls the library once, and shows the result."""

import sys
from pathlib import Path

import click

from featx import __version__
from featx.cli.extract import extract, merge
from featx.cli.finetune import finetune, recipes
from featx.cli.fit import fit
from featx.cli.networks import backbones
from featx.cli.options import AS_JSON, OVERWRITE, SEED, Commands, Group, show_json
from featx.cli.plot import plot
from featx.cli.results import choose, report
from featx.cli.run import run
from featx.cli.stores import export, repair, verify_store
from featx.cli.streams import say
from featx.errors import one_line
from featx.networks import BACKBONES


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
)
@click.version_option(__version__, prog_name="featx")
def main() -> None:
    """Frozen deep features and classical classifiers, measured honestly next to a fine-tuned network."""
    import logging

    # Pillow's messages about damaged files are kept as the reasons of rejected images; they are not for the screen.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


for command in (
    *(extract, merge, fit, choose, finetune, run, backbones, recipes, export, verify_store, repair, report, plot),
):
    main.add_command(command)


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@AS_JSON
def info(store: Path, as_json: bool) -> None:
    """Describe a feature store in one screen."""
    from featx.store import Store, format_summary, summarize_store

    with Store(store) as opened:
        description = summarize_store(opened)
    if as_json:
        show_json(description)
    else:
        click.echo(format_summary(description))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
@click.option(
    "--weights",
    help="Weights of the network, where those of the run came from a file or a fine-tuned run.  [default: the run's]",
)
@click.option("--path-column", default="path", help="CSV column of the paths.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder where the paths of a CSV start.  [default: the folder of the CSV]",
)
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images per forward pass.")
@OVERWRITE
@AS_JSON
def predict(
    run: Path,
    images: tuple[Path, ...],
    output: Path | None,
    weights: str | None,
    path_column: str,
    root: Path | None,
    batch_size: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Classify IMAGES with the saved model of RUN, a folder that featx fit or featx finetune has written.

    IMAGES are files, folders of images, or CSVs with a path column. The result is a CSV: path, predicted, and one
    probability per class, or the decision value of the predicted class where the model has no probabilities.
    """
    from contextlib import nullcontext

    from featx.images import list_sources
    from featx.inference import Predictor, write_predictions
    from featx.system import check_writable, whole_file

    if output is not None:
        check_writable(output, overwrite=overwrite)
    paths = list_sources(images, path_column=path_column, root=root, echo=say)
    predictor = Predictor(run, weights=weights, batch_size=batch_size, echo=say)
    # Rows that are printed as they come show the progress.
    progress = output is not None or as_json or not sys.stdout.isatty()
    with whole_file(output) if output is not None else nullcontext(sys.stdout.buffer) as file:
        rejected = write_predictions(predictor.stream(paths, progress=progress), file, as_json=as_json)
    for path, reason in rejected.itertuples(index=False):
        say(one_line(f"{path}: {reason}"))


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cells", is_flag=True, help="Show instead every cell of every run, with its validation figures.")
@AS_JSON
def compare(runs: tuple[Path, ...], cells: bool, as_json: bool) -> None:
    """Compare runs that were scored on the same rows: figures, McNemar's test against the first run, and costs.

    For runs of random splits (--repeats, featx choose): figures over the splits, and differences on the same splits.
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
@click.option("--backbone", type=click.Choice(list(BACKBONES)), default="vgg16", help="Network of the weights.")
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
@click.option(
    "--images", "n_images", type=click.IntRange(40, 2624), help="Number of photographs.  [default: all 2,624]"
)
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images per forward pass.")
@click.option("--seed", type=SEED, default=0, help="Seed of splits, forests and fine-tuning.")
@OVERWRITE
@AS_JSON
def demo(output: Path, n_images: int | None, batch_size: int, seed: int, overwrite: bool, as_json: bool) -> None:
    """Run a whole study on photographs of solar cells: ImageNet's VGG16, RF, SVM and fine-tuning, table and report.

    2,624 photographs take 15 to 20 minutes on two cores. Finished stages are used again.
    """
    from featx.experiment import demo_table, run_demo
    from featx.results import format_table

    done = run_demo(
        output,
        n_images=n_images,
        batch_size=batch_size,
        seed=seed,
        overwrite=overwrite,
        progress=True,
        echo=say,
    )
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
    click.echo(f"\nfeatures:   {done.store_path}, by {done.engine}\nruns:       {', '.join(done.runs)}")
    click.echo(f"experiment: {done.experiment_path}: copy it, change it, and give it to featx run")
    if done.report_path is not None:
        click.echo(f"report:     {done.report_path}: open it in a browser")
