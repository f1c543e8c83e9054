"""The command line: each command imports what it needs, calls the library once, and shows the result."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from featx import __version__
from featx.errors import FeatxError, StoppedError, one_line


class Failure(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, error: FeatxError) -> None:
        super().__init__(one_line(str(error)))
        self.exit_code = error.exit_code

    def show(self, file: object = None) -> None:
        """Print the line."""
        click.echo(f"featx: {self.message}", err=True)


class Commands(click.Group):
    """A group whose commands turn what a user can mend into one line."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FeatxError as error:
            raise Failure(error) from error
        except KeyboardInterrupt as error:
            raise Failure(StoppedError("stopped; nothing was changed")) from error


class Numbers(click.ParamType):
    """A list of numbers with commas, each within a range.

    Parameters
    ----------
    kind : type
        int or float.
    low : number
        The smallest that is taken.
    is_open : bool
        Whether `low` itself is too small.
    words : sequence of str
        Words that may stand for a number.
    """

    name = "list"

    def __init__(self, kind: type, low: float, *, is_open: bool = False, words: Sequence[str] = ()) -> None:
        self.kind = kind
        self.low = low
        self.is_open = is_open
        self.words = words

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Return a tuple of numbers and words."""
        if isinstance(value, tuple):
            return value
        return tuple(self._convert_one(part.strip(), param, ctx) for part in str(value).split(","))

    def _convert_one(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if text in self.words:
            return text
        try:
            number = self.kind(text)
        except ValueError:
            number = None
        # A NaN compares false with everything.
        if (
            number is None
            or not (number > self.low or (number == self.low and not self.is_open))
            or number == float("inf")
        ):
            bound = f"over {self.low:g}" if self.is_open else f"from {self.low:g}"
            kind = "a whole number" if self.kind is int else "a number"
            others = f" or {', '.join(self.words)}" if self.words else ""
            self.fail(f"{text!r} is not {kind} {bound}{others} (several: with commas)", param, ctx)
        return number


class Words(click.ParamType):
    """A list of words with commas, each one of a few."""

    name = "list"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return a tuple of words."""
        chosen = value if isinstance(value, tuple) else tuple(part.strip() for part in str(value).split(","))
        for word in chosen:
            if word not in self.words:
                self.fail(f"{word!r} is none of {', '.join(self.words)}", param, ctx)
        return chosen


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")


def say(line: str) -> None:
    """Show a line that is not the result: results alone go to standard output."""
    click.echo(line, err=True)


def show_json(record: object) -> None:
    """Print a record as JSON."""
    click.echo(json.dumps(record, indent=1, default=str))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110},
)
@click.version_option(__version__, prog_name="featx")
def main() -> None:
    """Frozen deep features and classical classifiers, measured honestly beside a fine-tuned network."""


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The HDF5 store to make.")
@click.option("--backbone", type=click.Choice(["vgg16"]), default="vgg16", help="The network.")
@click.option("--layers", default="all", help="all, conv, fc, block-ends, block1 ... block5, or names, with commas.")
@click.option(
    "--weights",
    default="imagenet",
    help="imagenet, imagenet-conv, random[:SEED], or a .weights.h5, .h5, .keras or .onnx.",
)
@click.option("--image-size", type=click.IntRange(32, 4096), default=224, help="Height and width, pixels.")
@click.option(
    "--resize", type=click.Choice(["squash", "crop", "pad"]), default="squash", help="What becomes of other shapes."
)
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic", "lanczos"]), default="bilinear")
@click.option(
    "--preprocessing",
    type=click.Choice(["caffe", "torch", "tf", "none"]),
    help="What the weights expect.  [default: the backbone's own]",
)
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images a forward pass.")
@click.option("--split", type=Numbers(float, 0), help="Make splits: shares of train,validation,test or train,test.")
@click.option("--stratify", default="", help="Further columns whose shares a split keeps, with commas.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the split.")
@click.option("--path-column", default="path", help="Of a CSV.")
@click.option("--label-column", default="label", help="Of a CSV; '' for images without labels.")
@click.option("--split-column", help="Of a CSV.  [default: split, if it is there]")
@click.option("--group-column", help="Of a CSV: images of one group stay together.  [default: group, if it is there]")
@click.option("--root", type=click.Path(path_type=Path), help="Where a CSV's paths start.  [default: its folder]")
@OVERWRITE
@AS_JSON
def extract(
    source: Path,
    output: Path,
    split: tuple[float, ...] | None,
    stratify: str,
    seed: int,
    path_column: str,
    label_column: str,
    split_column: str | None,
    group_column: str | None,
    root: Path | None,
    as_json: bool,
    **options: object,
) -> None:
    """Push the images of SOURCE through a frozen network and write its pooled activations to a feature store.

    SOURCE is a folder with one folder a class (below train, validation and test folders, if you like), or a CSV with
    path and label columns. A run that is stopped goes on where it was when it is started again.
    """
    from dataclasses import asdict

    from featx.extract import extract_features
    from featx.manifest import read_source
    from featx.splits import make_splits

    manifest = read_source(
        source,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        root=root,
    )
    for note in manifest.notes:
        say(note)
    if split is not None:
        columns = [name.strip() for name in stratify.split(",") if name.strip()]
        manifest = make_splits(manifest, split, seed=seed, stratify=columns)
    done = extract_features(manifest, output, progress=True, echo=say, **options)
    if as_json:
        show_json(asdict(done))
        return
    click.echo(
        f"{done.store_path}: {done.n_images:,} images, {done.n_features:,} features, {done.n_rejected:,} rejected; "
        f"{done.seconds:.1f} s, {done.images_per_second:.1f} images/s"
    )
    if done.n_rejected:
        say(f"{done.n_rejected:,} images could not be read: featx info {done.store_path} lists them with their reasons")


@main.group()
def fit() -> None:
    """Fit a grid on a store: choose on validation rows, refit, score once on test rows."""


def fit_options(command: click.Command) -> click.Command:
    """Give a command what all fits have in common."""
    options = [
        click.argument("store", type=click.Path(path_type=Path)),
        click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder.  [default: results/MODEL-TIME]"),
        click.option("--layers", default="all", help="Which of the store's layers: names and sets, with commas."),
        click.option("--discretize", type=click.Choice(["none", "ternary", "both"]), default="none"),
        click.option("--cv", type=click.IntRange(2), help="Choose by so many folds instead of the validation rows."),
        click.option("--seed", type=click.IntRange(0), default=0, help="Of forests and folds."),
        OVERWRITE,
        AS_JSON,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@fit.command()
@fit_options
@click.option("--n-estimators", type=Numbers(int, 1), default="50", help="Trees.")
@click.option("--min-samples-leaf", type=Numbers(int, 1), default="2", help="Fewest rows a leaf.")
@click.option("--max-features", type=Numbers(float, 0, is_open=True, words=["sqrt", "log2"]), default="sqrt")
@click.option("--max-depth", type=Numbers(int, 1), help="Deepest tree.  [default: no limit]")
def rf(store: Path, **options: object) -> None:
    """Random forests. Lists with commas make a grid: --n-estimators 50,100 --min-samples-leaf 2,7,20."""
    _fit("rf", store, ("n_estimators", "min_samples_leaf", "max_features", "max_depth"), options)


@fit.command()
@fit_options
@click.option("--kernel", type=Words(["linear", "rbf"]), default="linear,rbf")
@click.option("--C", "C", type=Numbers(float, 0, is_open=True), default="0.001,0.01,0.1,1,10", help="Penalty.")
@click.option(
    "--gamma", type=Numbers(float, 0, is_open=True, words=["scale", "auto"]), default="scale", help="Of the RBF kernel."
)
def svm(store: Path, **options: object) -> None:
    """Support vector machines. Lists with commas make a grid: --kernel linear,rbf --C 0.001,0.01,1,10."""
    _fit("svm", store, ("kernel", "C", "gamma"), options)


def _fit(model: str, store: Path, axes: tuple[str, ...], options: dict) -> None:
    from dataclasses import asdict
    from datetime import datetime

    from featx.grid import fit_grid
    from featx.results import cells_table, format_table

    grid = {name: values for name in axes if (values := options.pop(name)) is not None}
    as_json = options.pop("as_json")
    output = options.pop("output") or Path("results", f"{model}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    run = fit_grid(store, model, output, grid=grid, progress=True, **options)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(cells_table(run)))
    click.echo()
    if run.test:
        click.echo(
            f"test accuracy {run.test['accuracy']:.4f} on {run.protocol['n_test']:,} images "
            f"(always the majority class: {run.test['majority_class_rate']:.4f})"
        )
    else:
        click.echo("no test rows: no test accuracy")
    click.echo(f"{output}: run.json, cells.csv, predictions.csv, per_class.csv, confusion.csv, model.skops")


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@AS_JSON
def info(store: Path, as_json: bool) -> None:
    """Describe a feature store in one screen."""
    from featx.describe import describe_store, format_description
    from featx.store import Store

    with Store(store) as opened:
        description = describe_store(opened)
    if as_json:
        show_json(description)
    else:
        click.echo(format_description(description))


@main.group()
def weights() -> None:
    """List and verify weights."""


@weights.command("list")
@AS_JSON
def list_weights(as_json: bool) -> None:
    """List the weights that featx can get, and where they would come from."""
    from featx.weights import SOURCES, cache_dir, where_found

    rows = [{"weights": name, "what": what, "here": where_found(name)} for name, what in SOURCES.items()]
    if as_json:
        show_json({"cache": str(cache_dir()), "weights": rows})
        return
    for row in rows:
        click.echo(f"{row['weights']:<15}{row['what']}\n{'':<15}{row['here'] or 'not here yet'}")
    click.echo(f"{'FILE':<15}.weights.h5, .h5 or .keras of Keras; .onnx\ncache: {cache_dir()}")


@weights.command()
@click.argument("name")
@click.option("--backbone", type=click.Choice(["vgg16"]), default="vgg16")
@AS_JSON
def verify(name: str, backbone: str, as_json: bool) -> None:
    """Load the weights NAME (or a file), and compare every layer that has a published digest."""
    from featx.backbones import verify_weights

    report = verify_weights(name, backbone=backbone)
    if as_json:
        show_json(report)
    else:
        for layer, entry in report["layers"].items():
            click.echo(f"{layer:<14}{entry['kernel_sha256'][:16]}  {entry['bias_sha256'][:16]}  {entry['published']}")
        click.echo(f"{report['weights']}: {report['n_same']} of {report['n_published']} published layers are the same")
    if report["n_same"] < report["n_published"] and name.partition(":")[0] != "random":
        sys.exit(1)


@main.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default="demo", help="Folder for the store and the runs."
)
@click.option("--images", "n_images", type=click.IntRange(40, 2624), help="Take so many.  [default: all 2,624]")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=8, help="Images a forward pass.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of splits and forests.")
@OVERWRITE
@AS_JSON
def demo(output: Path, as_json: bool, **options: object) -> None:
    """Go the whole way on real photographs of solar cells: features of ImageNet's VGG16, RF and SVM, one table.

    2,624 photographs take minutes on two cores; what is finished is used again.
    """
    from featx.demo import demo_table, run_demo
    from featx.results import format_table

    done = run_demo(output, progress=True, echo=say, **options)
    table = demo_table(done)
    if as_json:
        show_json({"store": done.store_path, "runs": list(done.runs), "table": table.to_dict("records")})
        return
    click.echo(format_table(table))
    click.echo(f"\nfeatures: {done.store_path}\nruns:     {', '.join(done.runs)}")
