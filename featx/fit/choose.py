"""Choose one of several runs for each random split, by its train rows alone.

Runs of `featx.fit_repeats` choose a cell of one grid on one set of features. Which features (store, layers, poolings)
and which classifier are best is a choice too, and test rows must not be used for it: here it is made split by split,
by the same scores on the same inner folds that each run chose its cell by.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from featx.errors import FeatxError
from featx.images import list_paths
from featx.results import (
    RECORD,
    Repeat,
    RepeatedRun,
    check_free,
    name_runs,
    read_repeats,
    signed_score,
    summarize_repeats,
    write_repeats,
)
from featx.system import sha256_of

# What makes splits, folds and scores the same; classifiers, their grids and class weights may differ.
_SAME = (
    *("n_repeats", "seed", "train_per_class", "test_share", "stratify"),
    *("label", "where", "sample_weight", "cv", "choose_by"),
)


def choose_among(run_paths: Sequence[str | Path], output: str | Path, *, overwrite: bool = False) -> RepeatedRun:
    """Choose for each random split the run with the best score on the inner folds of its train rows.

    Parameters
    ----------
    run_paths : sequence of path
        Two or more folders that `featx.fit_repeats` has written: the same splits of the same rows, and different
        features or classifiers. The first of equal runs is chosen.
    output : path
        The folder to write: repeats.json and repeats.csv, as those of the runs.
    overwrite : bool, default False
        Replace an existing run.

    Returns
    -------
    RepeatedRun
        Each split as in the run that was chosen for it, with that run's name (`run`) and the seconds of all runs.
        `model` has the runs' models, separated by commas; `store` and `protocol` have what is the same in all runs, and
        ``protocol["among"]`` has each run's name, path, digest of its repeats.json, model, store, layers, number of
        features and number of splits for which it was chosen.

    Raises
    ------
    FeatxError
        If there are fewer than two runs, one had nothing to choose and so no score, or they do not have the same splits
        of the same rows.
    """
    paths = list_paths(run_paths)
    output = Path(output)
    if len(paths) < 2:
        raise FeatxError(
            f"expected two runs or more, found {len(paths)}: featx choose results/a results/b -o results/chosen"
        )
    if output.resolve() in [path.resolve() for path in paths]:
        raise FeatxError(f"{output}: is one of the runs to choose among. Give another `output`")
    check_free(output, overwrite=overwrite)
    resolved = [path.resolve() for path in paths]
    repeated = [path for index, path in enumerate(paths) if resolved[index] in resolved[:index]]
    if repeated:
        raise FeatxError(f"{repeated[0]}: this run is given twice. Give each run once")
    runs = dict(zip(name_runs(paths), map(read_repeats, paths), strict=True))
    _check_scores(paths, runs)
    _check_same(paths, runs)
    repeats = tuple(_choose(runs, number) for number in range(len(next(iter(runs.values())).repeats)))
    among = [_run_record(path, name, run, repeats) for path, (name, run) in zip(paths, runs.items(), strict=True)]
    chosen = RepeatedRun(
        model=",".join(dict.fromkeys(run.model for run in runs.values())),
        store=_in_common([run.store for run in runs.values()]),
        protocol=_in_common([run.protocol for run in runs.values()]) | {"among": among},
        repeats=repeats,
        **dict(zip(("mean", "deviation"), summarize_repeats(repeats), strict=True)),
        notes=tuple(dict.fromkeys(_notes_of(runs))),
        rows_sha256=next(iter(runs.values())).rows_sha256,
    )
    write_repeats(output, chosen)
    return chosen


def _notes_of(runs: dict[str, RepeatedRun]) -> Iterator[str]:
    """Yield the runs' notes, with the run's name where not all of them have it."""
    for name, run in runs.items():
        for note in run.notes:
            yield note if all(note in other.notes for other in runs.values()) else f"{name}: {note}"


def _check_scores(paths: Sequence[Path], runs: dict[str, RepeatedRun]) -> None:
    for path, run in zip(paths, runs.values(), strict=True):
        for repeat in run.repeats:
            if repeat.validation_score is None:
                raise FeatxError(
                    f"{path / RECORD}: the split of seed {repeat.seed} has no score on inner folds: one cell leaves "
                    "nothing to choose. Fit it with a grid of two cells or more"
                )


def _check_same(paths: Sequence[Path], runs: dict[str, RepeatedRun]) -> None:
    """Raise an error for a run whose splits are not those of the first."""
    first = next(iter(runs.values()))
    for path, run in zip(paths, runs.values(), strict=True):
        for name in _SAME:
            value, expected = run.protocol.get(name), first.protocol.get(name)
            if value != expected:
                remedy = f"without `{name}`" if expected is None else f"with the same `{name}`"
                raise FeatxError(
                    f"{path / RECORD}: {name} is {value!r}, and {expected!r} in {paths[0]}; runs to choose among have "
                    f"the same splits. Fit it again {remedy}"
                )
        if run.rows_sha256 is None or run.rows_sha256 != first.rows_sha256:
            raise FeatxError(
                f"{path / RECORD}: its splits are of other rows than those of {paths[0]} (images, their order, labels, "
                "groups, weights or strata). Runs to choose among are fitted on stores of the same images"
            )


def _choose(runs: dict[str, RepeatedRun], number: int) -> Repeat:
    """Return a split as in the best run, the first of equals."""
    choose_by = next(iter(runs.values())).protocol["choose_by"]
    name = max(runs, key=lambda name: signed_score(runs[name].repeats[number].validation_score, choose_by))
    seconds = sum(run.repeats[number].seconds for run in runs.values())
    return replace(runs[name].repeats[number], run=name, seconds=round(seconds, 3))


def _in_common(records: Sequence[dict[str, object]]) -> dict[str, object]:
    first, *others = records
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _run_record(path: Path, name: str, run: RepeatedRun, repeats: Sequence[Repeat]) -> dict[str, object]:
    return {
        "run": name,
        "path": str(path),
        "sha256": sha256_of(path / RECORD),
        "model": run.model,
        "store": run.store.get("path"),
        "layers": run.store.get("layers"),
        "n_features": run.store.get("n_features"),
        "n_chosen": sum(repeat.run == name for repeat in repeats),
    }
