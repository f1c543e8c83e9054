"""Of several runs on the same random splits, for each split the run that its train rows say is best.

Runs of `featx.fit_repeats` choose a cell of one grid on one set of features. Which features (store, layers, poolings)
and which classifier serve best is a choice too, and test rows must have no part in it: here it is made split by split,
by the same scores of the same inner folds that each run chose its cell by.
"""

import hashlib
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

# What makes splits, folds and scores the same; classifiers, their grids and class weights may differ.
_SAME = (
    *("n_repeats", "seed", "train_per_class", "test_share", "stratify"),
    *("label", "where", "sample_weight", "cv", "choose_by"),
)


def choose_among(run_paths: Sequence[str | Path], output: str | Path, *, overwrite: bool = False) -> RepeatedRun:
    """Take for each random split the run with the best score on the inner folds of its train rows.

    Parameters
    ----------
    run_paths : sequence of path
        Two or more folders that `featx.fit_repeats` has written: the same splits of the same rows, and different
        features or classifiers. Of runs that score the same, the first is taken.
    output : path
        The folder to write: repeats.json and repeats.csv, as those of the runs.
    overwrite : bool, default False
        Replace a run that is there.

    Returns
    -------
    RepeatedRun
        Each split as the run that was chosen for it has it, with that run's name (`run`) and the seconds of all runs.
        `model` is the runs' if all have the same, else their models with commas; `store` and `protocol` say what all
        runs have in common, and ``protocol["among"]`` each run's name, path, digest of its repeats.json, model,
        store, layers, number of features and of splits it was chosen for.

    Raises
    ------
    FeatxError
        If there are fewer than two runs, one had nothing to choose and so no score, or they are not of the same splits
        of the same rows.
    """
    paths = list_paths(run_paths)
    output = Path(output)
    if len(paths) < 2:
        raise FeatxError(
            f"choosing takes two runs or more, got {len(paths)}: featx choose results/a results/b -o results/chosen"
        )
    if output.resolve() in [path.resolve() for path in paths]:
        raise FeatxError(f"{output}: is one of the runs to choose among. Give another --output")
    check_free(output, overwrite=overwrite)
    resolved = [path.resolve() for path in paths]
    repeated = [path for place, path in enumerate(paths) if resolved[place] in resolved[:place]]
    if repeated:
        raise FeatxError(f"{repeated[0]}: the same run is given twice. Give each once")
    runs = dict(zip(name_runs(paths), map(read_repeats, paths), strict=True))
    _check_scores(paths, runs)
    notes = [
        note for path, run in zip(paths, runs.values(), strict=True) for note in _check_same(paths, runs, path, run)
    ]
    repeats = tuple(_choose(runs, number) for number in range(len(next(iter(runs.values())).repeats)))
    among = [_describe(path, name, run, repeats) for path, (name, run) in zip(paths, runs.items(), strict=True)]
    first = next(iter(runs.values()))
    chosen = RepeatedRun(
        model=",".join(dict.fromkeys(run.model for run in runs.values())),
        store=_in_common([run.store for run in runs.values()]),
        protocol=_in_common([run.protocol for run in runs.values()]) | {"among": among},
        repeats=repeats,
        **dict(zip(("mean", "deviation"), summarize_repeats(repeats), strict=True)),
        notes=tuple(dict.fromkeys([*_notes_of(runs), *notes])),
        rows_sha256=first.rows_sha256,
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


def _check_same(paths: Sequence[Path], runs: dict[str, RepeatedRun], path: Path, run: RepeatedRun) -> list[str]:
    """Refuse a run whose splits are not the first one's; say what could not be looked at."""
    first = next(iter(runs.values()))
    for name in _SAME:
        if run.protocol.get(name) != first.protocol.get(name):
            option = "--repeats" if name == "n_repeats" else f"--{name.replace('_', '-')}"
            mend = "without" if first.protocol.get(name) is None else "with the same"
            raise FeatxError(
                f"{path / RECORD}: {name} is {run.protocol.get(name)!r}, of {paths[0]} {first.protocol.get(name)!r}; "
                f"runs to choose among are of the same splits. Fit it anew {mend} {option}"
            )
    digests = {run.rows_sha256, first.rows_sha256}
    same_classes = run.protocol.get("classes") == first.protocol.get("classes")
    if len(digests - {None}) == 2 or not same_classes or _shapes(run) != _shapes(first):
        raise FeatxError(
            f"{path / RECORD}: its splits are of other rows than those of {paths[0]} (images, their order, labels, "
            "groups, weights or strata). Runs to choose among are fitted on stores of the same images"
        )
    if run.rows_sha256 is None:
        return [f"{path}: written by an older featx, without a digest of its rows; only their numbers were compared"]
    return []


def _shapes(run: RepeatedRun) -> list[tuple[object, ...]]:
    """Return what every record tells of each split's rows."""
    return [(repeat.seed, repeat.n_train, repeat.n_test, repeat.test["majority_class_rate"]) for repeat in run.repeats]


def _choose(runs: dict[str, RepeatedRun], number: int) -> Repeat:
    """Return a split as the best run has it; max takes the first of equals."""
    choose_by = next(iter(runs.values())).protocol["choose_by"]
    name = max(runs, key=lambda name: signed_score(runs[name].repeats[number].validation_score, choose_by))
    seconds = sum(run.repeats[number].seconds for run in runs.values())
    return replace(runs[name].repeats[number], run=name, seconds=round(seconds, 3))


def _in_common(records: Sequence[dict[str, object]]) -> dict[str, object]:
    first, *others = records
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _describe(path: Path, name: str, run: RepeatedRun, repeats: Sequence[Repeat]) -> dict[str, object]:
    return {
        "run": name,
        "path": str(path),
        "sha256": hashlib.sha256((path / RECORD).read_bytes()).hexdigest(),
        "model": run.model,
        "store": run.store.get("path"),
        "layers": run.store.get("layers"),
        "n_features": run.store.get("n_features"),
        "n_chosen": sum(repeat.run == name for repeat in repeats),
    }
