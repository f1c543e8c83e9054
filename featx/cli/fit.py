"""`featx fit`: a command a classifier, its options the axes of its grid."""

from collections.abc import Callable
from pathlib import Path

import click

from featx.cli.options import (
    AS_JSON,
    DROP_DUPLICATES,
    OVERWRITE,
    SEED,
    SHARD,
    Group,
    Numbers,
    Words,
    check_first,
    cluster_options,
    opened,
    say,
    show_json,
)
from featx.errors import FeatxError

# Options that ask something of every layer.
OF_LAYERS = ("each_layer", "leave_one_layer_out", "importance")


def c_option(default: str, more: str = "") -> Callable:
    """Make the option that SVMs and logistic regression have in common; `more` is for the end of its help."""
    text = f"Inverse strength of regularization.{more}"
    return click.option("--C", "C", type=Numbers(float, 0, is_open=True), default=default, help=text)


@click.group(cls=Group)
def fit() -> None:
    """Fit a grid on a store: choose on validation rows, refit, score once on test rows.

    Lists with commas make a grid. With --output, a grid that is stopped goes on from its last finished cell.
    """


def fit_command(name: str) -> Callable:
    """Make a command of a function, with the options that all fits have in common."""
    options = [
        click.argument("store", type=click.Path(path_type=Path)),
        click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder.  [default: results/MODEL-TIME]"),
        click.option(
            "--layers",
            default="all",
            help="Which of the store's layers: names and sets, with commas; conv:std for one pooling.",
        ),
        click.option(
            "--discretize",
            type=click.Choice(["none", "ternary", "both"]),
            default="none",
            help="Map features to -1, 0 and 1 by thresholds learned from the rows fitted on.",
        ),
        click.option(
            "--cv",
            type=click.IntRange(2),
            help="Choose by so many folds instead of the validation rows.  [default of random splits: 5]",
        ),
        click.option(
            "--choose-by",
            type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss"]),
            default="accuracy",
            help="The score that says which cell is best, on validation rows or folds.",
        ),
        click.option("--repeats", type=click.IntRange(1), help="So many random splits instead of the store's own."),
        click.option(
            "--test-share", type=click.FloatRange(0, 1, True, True), help="Of a random split.  [default: 0.2]"
        ),
        click.option(
            "--train-per-class", type=click.IntRange(1), help="Of a random split: train rows a class, the rest to test."
        ),
        click.option("--stratify", help="Columns whose shares a random split keeps; '' for none.  [default: label]"),
        click.option("--label", default="label", help="The column that holds the labels."),
        click.option("--where", help="Which rows take part, such as 'type == \"mono\"'."),
        click.option("--sample-weight", help="The column that says what each row counts."),
        click.option("--class-weight", type=click.Choice(["balanced"]), help="Let every class weigh the same."),
        DROP_DUPLICATES,
        click.option(
            "--each-layer", is_flag=True, help="Score the chosen cell on each layer, and with those before it."
        ),
        click.option("--leave-one-layer-out", is_flag=True, help="Score the chosen cell without each layer."),
        click.option("--importance", is_flag=True, help="Accuracy that is lost when a layer is shuffled."),
        click.option("--shuffles", type=click.IntRange(1), help="Of each layer, for --importance.  [default: 10]"),
        click.option("--seed", type=SEED, default=0, help="Of classifiers, folds and the first random split."),
        click.option(
            "--shard",
            type=SHARD,
            metavar="NUMBER/COUNT",
            help="Score this share of the cells (or splits) only, such as 3/16; without it, all shares are taken up.",
        ),
        cluster_options,
        OVERWRITE,
        AS_JSON,
    ]

    def decorate(function: Callable) -> click.Command:
        for option in reversed(options):
            function = option(function)
        return fit.command(name)(function)

    return decorate


@fit_command("rf")
@click.option("--n-estimators", type=Numbers(int, 1), default="50", help="Trees.")
@click.option("--min-samples-leaf", type=Numbers(int, 1), default="2", help="Fewest rows a leaf.")
@click.option(
    "--max-features",
    type=Numbers(float, 0, is_open=True, high=1, words=["sqrt", "log2"], counts=True),
    default="sqrt",
    help="Features a split looks at: sqrt or log2 of their number, a share (0.1), or a count (100).",
)
@click.option("--max-depth", type=Numbers(int, 1), help="Deepest tree.  [default: no limit]")
def rf(store: Path, **options: object) -> None:
    """Random forests: --n-estimators 50,100 --min-samples-leaf 2,7,20."""
    run_fit("rf", store, ("n_estimators", "min_samples_leaf", "max_features", "max_depth"), options)


@fit_command("svm")
@click.option("--kernel", type=Words(["linear", "rbf"]), default="linear,rbf", help="linear, rbf.")
@c_option("0.001,0.01,0.1,1,10,100,1000", " By default, the linear kernel takes it up to 10.")
@click.option(
    "--gamma",
    type=Numbers(float, 0, is_open=True, words=["scale", "auto"]),
    help="Of the RBF kernel.  [default: scale]",
)
def svm(store: Path, **options: object) -> None:
    """Support vector machines: --kernel linear,rbf --C 0.001,0.01,1,10."""
    if options["gamma"] is not None and "rbf" not in options["kernel"]:
        raise FeatxError("--gamma is of the RBF kernel: leave it out, or give --kernel linear,rbf")
    run_fit("svm", store, ("kernel", "C", "gamma"), options)


@fit_command("linear-svm")
@c_option("0.0001,0.001,0.01,0.1,1")
def linear_svm(store: Path, **options: object) -> None:
    """Linear SVMs, one class against the rest (LinearSVC): the full-network embedding's own classifier, with --C 1."""
    run_fit("linear-svm", store, ("C",), options)


@fit_command("logreg")
@c_option("0.0001,0.001,0.01,0.1,1")
def logreg(store: Path, **options: object) -> None:
    """Logistic regression."""
    run_fit("logreg", store, ("C",), options)


@fit_command("knn")
@click.option("--n-neighbors", type=Numbers(int, 1), default="1,5,15", help="How many neighbours vote.")
@click.option("--weights", type=Words(["uniform", "distance"]), default="uniform", help="uniform, distance.")
@click.option("--metric", type=Words(["euclidean", "cosine"]), default="euclidean", help="euclidean, cosine.")
def knn(store: Path, **options: object) -> None:
    """Nearest neighbours."""
    run_fit("knn", store, ("n_neighbors", "weights", "metric"), options)


@fit_command("lda")
@click.option(
    "--shrinkage",
    type=Numbers(float, 0, high=1, words=["auto", "none"]),
    default="auto",
    help="Of the covariance: auto (Ledoit and Wolf), none, or a share. Memory grows with the square of the features.",
)
def lda(store: Path, **options: object) -> None:
    """Linear discriminant analysis."""
    run_fit("lda", store, ("shrinkage",), options)


def run_fit(model: str, store: Path, axes: tuple[str, ...], options: dict) -> None:
    """Fit a model's grid and show its cells."""
    from dataclasses import asdict
    from datetime import datetime

    from featx.fit import fit_grid
    from featx.results import cells_table, format_table, format_test, layers_table

    shard = options.pop("shard")
    if shard is not None and options["output"] is None:
        raise FeatxError("--shard leaves its scores beside --output: give it, the same for every shard")
    random = {name: options.pop(name) for name in ("repeats", "test_share", "train_per_class", "stratify")}
    grid = {name: values for name in axes if (values := options.pop(name)) is not None}
    as_json = options.pop("as_json")
    output = options.pop("output") or Path("results", f"{model}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    shuffles = options.pop("shuffles")
    if shuffles is not None and not options["importance"]:
        raise FeatxError("--shuffles is of --importance: give that too")
    options["importance"] = (shuffles or 10) if options["importance"] else 0
    cluster, cluster_settings = options.pop("cluster"), options.pop("cluster_settings")
    if random["repeats"] is None and any(
        random[name] is not None for name in ("test_share", "train_per_class", "stratify")
    ):
        raise FeatxError("--test-share, --train-per-class and --stratify are of random splits: give --repeats too")
    if random["repeats"] is not None and any(options[name] for name in OF_LAYERS):
        raise FeatxError("--each-layer, --leave-one-layer-out and --importance are of one split: leave --repeats out")
    if shard is not None:
        if cluster is not None or cluster_settings is not None:
            raise FeatxError("--cluster divides the work by itself: leave --shard out")
        run_share(model, store, output, grid, random, options, shard=shard, as_json=as_json)
        return
    columns = {name: options[name] for name in ("label", "where", "sample_weight", "drop_duplicates")}
    check_first(cluster, store, output, overwrite=options["overwrite"], **columns)
    if random["repeats"] is not None:
        for name in OF_LAYERS:
            options.pop(name)
        with opened(cluster, cluster_settings, uses_gpus=False) as options["cluster"]:
            run_repeats(model, store, output, grid, random, options, as_json=as_json)
        return
    with opened(cluster, cluster_settings, uses_gpus=False) as workers:
        run = fit_grid(store, model, output, grid=grid, cluster=workers, progress=True, **options)
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(cells_table(run)))
    if run.layers:
        click.echo(f"\n{format_table(layers_table(run))}")
    click.echo(f"\n{format_test(run)}")
    layers = "layers.csv, " if run.layers else ""
    click.echo(f"{output}: run.json, cells.csv, {layers}predictions.csv, per_class.csv, confusion.csv, model.skops")


def run_repeats(
    model: str, store: Path, output: Path, grid: dict, random: dict, options: dict, *, as_json: bool
) -> None:
    """Fit a model's grid on random splits and show the figures' spread."""
    from dataclasses import asdict

    from featx.fit import fit_repeats
    from featx.results import format_repeats, format_table, repeats_table

    run = fit_repeats(store, model, output, grid=grid, progress=True, **repeat_options(random, options))
    if as_json:
        show_json({"output": str(output)} | asdict(run))
        return
    for note in run.notes:
        say(note)
    click.echo(format_table(repeats_table(run)))
    click.echo(f"\n{format_repeats(run)}\n{output}: repeats.json, repeats.csv")


def repeat_options(random: dict, options: dict) -> dict:
    """Return the options of random splits; what isn't given stands at the library's default."""
    given = {name: value for name, value in options.items() if name != "cv" or value is not None}
    given["n_repeats"] = random["repeats"]
    if random["train_per_class"] is not None:
        if random["test_share"] is not None or random["stratify"] is not None:
            raise FeatxError("--train-per-class says it all: leave --test-share and --stratify out")
        given["train_per_class"] = random["train_per_class"]
    if random["stratify"] is not None:
        given["stratify"] = [name.strip() for name in random["stratify"].split(",") if name.strip()]
    if random["test_share"] is not None:
        given["test_share"] = random["test_share"]
    return given


def run_share(
    model: str,
    store: Path,
    output: Path,
    grid: dict,
    random: dict,
    options: dict,
    *,
    shard: object,
    as_json: bool,
) -> None:
    """Score one share of a grid's cells, or of random splits, and say where the scores are."""
    from dataclasses import asdict

    from featx.fit import fit_share, repeat_share
    from featx.results import check_free

    check_free(output, overwrite=options.pop("overwrite"))
    # Questions about the chosen cell wait for the choice.
    for name in OF_LAYERS:
        options.pop(name)
    if random["repeats"] is None:
        share = fit_share(store, model, output, shard=shard, grid=grid, progress=True, **options)
    else:
        share = repeat_share(
            store, model, output, shard=shard, grid=grid, progress=True, **repeat_options(random, options)
        )
    if as_json:
        show_json({"output": str(output)} | asdict(share))
        return
    for note in share.notes:
        say(note)
    click.echo(
        f"{share.journal_path}: {share.n_units:,} scores of shard {shard}, {share.n_scored:,} of them made now. Once "
        "all shards are done, the same command without --shard makes the run"
    )
