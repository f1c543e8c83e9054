"""What of an experiment is there already, as stores and runs themselves tell, and whether it is what is asked for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment.existing_stores import Found, find_store
from featx.experiment.schema import ChoiceSpec, Experiment, FinetuneSpec, FitSpec
from featx.experiment.stages import Stage, has_mark, make_mark
from featx.fit import plan_cells
from featx.images import Manifest
from featx.networks.recipes import read_recipe, recipe_record
from featx.results import RECORD, put_back, read_repeats, read_run
from featx.store import Store, choose_stored_layers
from featx.system import sha256_of

# What runs do not say that were made before there was a choice.
_SINCE_THEN = {"drop_duplicates": False}


_LAYER_QUESTIONS = {"each_layer": "alone", "leave_one_layer_out": "without", "importance": "importance"}


def find_all(
    experiment: Experiment, stages: Sequence[Stage], wanted: Sequence[Stage], manifest: Manifest | None
) -> dict[str, Found]:
    """Say of stages what is there of them.

    Parameters
    ----------
    experiment : Experiment
    stages : sequence of Stage
        All of them, in order.
    wanted : sequence of Stage
        Those that are looked for, with all that they need.
    manifest : Manifest or None
        The images as they should be in stores; None: whatever images a store has are taken for right.

    Returns
    -------
    dict of str to Found
        By the stages' keys.
    """
    keys = {stage.key for stage in wanted}
    for stage in reversed(stages):
        keys |= set(stage.needs) if stage.key in keys else set()
    found: dict[str, Found] = {}
    for stage in stages:
        if stage.key in keys:
            if stage.section in _DIFFERENCES:
                put_back(stage.path)
            found[stage.key] = _find(experiment, stage, found, manifest)
    return found


def _find(experiment: Experiment, stage: Stage, found: Mapping[str, Found], manifest: Manifest | None) -> Found:
    pending = [need for need in stage.needs if found[need].status != "there"]
    if stage.section == "report":
        return _find_report(experiment, stage, pending)
    if stage.path.exists() and pending:
        why = "".join(f" ({detail})" for detail in found[pending[0]].details[:1])
        return Found("other", (f"made of what is yet to change: {', '.join(pending)}{why}",))
    if stage.section == "stores":
        run_path = None if stage.spec.of_run is None else experiment.run_path(stage.spec.of_run)
        alone = find_store(stage.spec, stage.path, manifest, run_path=run_path)
    else:
        alone = _find_run(experiment, stage)
    if pending and alone.status == "unfinished" and stage.section == "stores":
        return Found("other", (f"unfinished, of a network that is yet to change: {', '.join(pending)}",))
    return alone


def _find_run(experiment: Experiment, stage: Stage) -> Found:
    """Say what is there of a fine-tuning, a fit or a choice, whatever it is made of being there."""
    if not stage.path.exists():
        return _find_unfinished(stage)
    try:
        differences = list(_DIFFERENCES[stage.section](experiment, stage))
    except FeatxError as error:
        differences = [str(error)]
    return Found("other", tuple(differences)) if differences else Found("there")


def _find_unfinished(stage: Stage) -> Found:
    """Look for what a run that was stopped has left beside its place."""
    journal = _journal_of(stage)
    if journal is not None and journal.is_file():
        return Found("unfinished", tuple(_journal_differences(stage, journal)))
    training = stage.path.with_name(f"{stage.name}.training") / "training.json"
    if stage.section != "finetunes" or not training.is_file():
        return Found("missing")
    try:
        begun = json.loads(training.read_text(encoding="utf-8"))
        recipe, seed = begun["recipe"], begun["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return Found("unfinished")
    spec = stage.spec
    wanted = recipe_record(read_recipe(spec.recipe, changes=spec.set))
    differences = [*_compare({"recipe": recipe, "seed": seed}, {"recipe": wanted, "seed": spec.seed})]
    if differences:
        return Found("other", (f"an unfinished training, begun with {'; '.join(differences)}",))
    return Found("unfinished")


def _journal_of(stage: Stage) -> Path | None:
    """Return where a fit keeps what it has scored while it isn't through."""
    if not isinstance(stage.spec, FitSpec):
        return None
    return stage.path.with_name(f"{stage.name}.{'cells' if stage.spec.repeats is None else 'repeats'}.jsonl")


def _journal_differences(stage: Stage, journal: Path) -> Sequence[str]:
    try:
        with journal.open(encoding="utf-8") as file:
            return [f"{text}: begun anew" for text in _identity_differences(stage.spec, json.loads(file.readline()))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["its journal can't be read: begun anew"]


def _identity_differences(spec: FitSpec, identity: Mapping) -> Sequence[str]:
    protocol = identity["protocol"]
    wanted = _protocol_of(spec) | {"cells": _cells_of(spec, identity["model"])}
    wanted.pop("n_repeats", None)
    return list(_compare({**_SINCE_THEN, **protocol, "cells": identity["cells"]}, wanted))


def _fit_differences(experiment: Experiment, stage: Stage) -> Sequence[str]:
    spec = stage.spec
    if (stage.path / RECORD).is_file() != (spec.repeats is not None):
        kinds = ("random splits", "the images' own splits")
        return ["of {}, now of {}".format(*(kinds if spec.repeats is None else reversed(kinds)))]
    if spec.repeats is not None:
        run = read_repeats(stage.path)
        made = {"model": run.model, **_SINCE_THEN, **run.protocol}
    else:
        run = read_run(stage.path)
        cells = [[cell.discretize, cell.params] for cell in run.cells]
        made = {"model": run.model, **_SINCE_THEN, **run.protocol, "cells": cells}
        made |= {key: any(figure in row for row in run.layers) for key, figure in _LAYER_QUESTIONS.items()}
    # Where Gram matrices don't fit into memory, another model stands for the one asked for.
    wanted = {"model": spec.model, **_protocol_of(spec), "cells": _cells_of(spec, made["model"])}
    made["model"] = {"svm-large": "svm"}.get(made["model"], made["model"])
    if spec.repeats is None:
        wanted |= {key: bool(getattr(spec, key)) for key in _LAYER_QUESTIONS}
    return [*_compare(made, wanted), *_store_differences(experiment, spec, run.store)]


def _finetune_differences(experiment: Experiment, stage: Stage) -> Sequence[str]:
    spec = stage.spec
    run = read_run(stage.path)
    if not run.is_finetuned:
        return [f"a run of {run.model}, now a fine-tuned network"]
    names = ("seed", "label", "where", "sample_weight", "drop_duplicates", "split")
    wanted = {name: getattr(spec, name) for name in names}
    wanted["recipe"] = recipe_record(read_recipe(spec.recipe, changes=spec.set))
    made = {"split": "split", **_SINCE_THEN, **run.protocol, "recipe": (run.baseline or {}).get("recipe")}
    return [*_compare(made, wanted), *_store_differences(experiment, spec, run.store)]


def _choice_differences(experiment: Experiment, stage: Stage) -> Sequence[str]:
    """Compare the records of the runs that were chosen among."""
    among = read_repeats(stage.path).protocol.get("among")
    if not isinstance(among, list):
        return ["not a choice among runs"]
    made = [entry.get("sha256") for entry in among if isinstance(entry, dict)]
    records = [experiment.run_path(name) / RECORD for name in stage.spec.among]
    if made == [sha256_of(path) for path in records]:
        return []
    return [f"chosen among {', '.join(str(entry.get('run')) for entry in among)} as they were"]


_DIFFERENCES = {"fits": _fit_differences, "finetunes": _finetune_differences, "choices": _choice_differences}


def _protocol_of(spec: FitSpec) -> dict[str, object]:
    """Return what a run's protocol says if it is the one asked for."""
    names = ("cv", "choose_by", "label", "where", "sample_weight", "class_weight", "drop_duplicates", "seed")
    protocol = {name: getattr(spec, name) for name in names}
    if spec.repeats is None:
        return protocol
    drawn_by = ("test_share", "stratify") if spec.train_per_class is None else ("train_per_class",)
    return protocol | {"n_repeats": spec.repeats, **{name: getattr(spec, name) for name in drawn_by}}


def _cells_of(spec: FitSpec, made_by: object) -> list[list[object]]:
    model = "svm-large" if (spec.model, made_by) == ("svm", "svm-large") else spec.model
    return [list(cell) for cell in plan_cells(model, spec.grid, spec.discretize)]


def _compare(made: Mapping[str, object], wanted: Mapping[str, object]) -> Sequence[str]:
    """Name what differs, as JSON tells it."""
    differences = []
    for name, value in wanted.items():
        before, now = (json.loads(json.dumps(each)) for each in (made.get(name), value))
        if before != now and name == "cells" and (axes := _compare_axes(before, now)):
            differences += axes
        elif before != now:
            texts = [json.dumps(each) for each in (before, now)]
            is_short = max(map(len, texts)) <= 60
            differences.append(f"{name} {texts[0]}, now {texts[1]}" if is_short else f"other {name}")
    return differences


def _compare_axes(before: object, now: object) -> Sequence[str]:
    """Name the axes in which two grids differ."""
    made, wanted = _axes_of(before), _axes_of(now)
    return _compare(made, {name: wanted.get(name) for name in made | wanted})


def _axes_of(cells: object) -> dict[str, list[object]]:
    """Return the values of each axis of a grid, in the order of its cells; none of what is no list of cells."""
    axes: dict[str, list[object]] = {}
    try:
        for discretize, params in cells:
            for name, value in (("discretize", discretize), *((f"grid.{name}", each) for name, each in params.items())):
                if value not in axes.setdefault(name, []):
                    axes[name].append(value)
    except (TypeError, ValueError, AttributeError):
        return {}
    return axes


def _store_differences(
    experiment: Experiment, spec: FitSpec | FinetuneSpec | ChoiceSpec, described: Mapping
) -> Sequence[str]:
    """Say if a run is of another store than the one that is there, or of other layers of it."""
    with Store(experiment.store_path(spec.store)) as store:
        if described.get("run_id") != store.attributes.get("run_id"):
            return [f"of the store {spec.store} as it was before it was made anew or added to"]
        if isinstance(spec, FitSpec) and described.get("layers") != choose_stored_layers(store, spec.layers):
            return [f"other layers, now {spec.layers}"]
    return []


def _find_report(experiment: Experiment, stage: Stage, pending: Sequence[str]) -> Found:
    """Take a page for the one of the runs that are there if it says so."""
    if not stage.path.exists():
        return Found("missing")
    if pending:
        return Found("unfinished", ("the page is of fewer or other runs",))
    try:
        is_same = has_mark(stage.path, make_mark(experiment, stage))
    except FeatxError as error:
        return Found("unfinished", (str(error),))
    return Found("there") if is_same else Found("unfinished", ("the page is of other runs, or has another title",))
