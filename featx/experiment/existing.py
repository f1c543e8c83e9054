"""Find existing results of an experiment, and compare them with the results that it asks for."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment.schema import ChoiceSpec, Experiment, FinetuneSpec, FitSpec, StoreSpec
from featx.experiment.stages import Stage, has_mark, make_mark
from featx.extract import ExistingStore, check_same_images, find_lost_images, is_same_table, read_existing
from featx.fit import plan_cells
from featx.images import Manifest, digest_paths
from featx.inference import build_frozen, own_image_size
from featx.networks import BACKBONES, choose_poolings, expand_layers, is_source, layer_of
from featx.networks.recipes import read_recipe, recipe_record
from featx.results import RECORD, is_run, put_back, read_finetuned, read_repeats, read_run
from featx.store import PartialStore, Store, choose_stored_layers

OTHER_ORDER, OTHER_TABLE = "another order of the images", "other labels, splits or columns of the images"
"""Differences of a store's table alone, for which no features are computed."""


_MAX_SHOWN = 60


@dataclass(frozen=True)
class Existing:
    """The existing result of a stage.

    Attributes
    ----------
    status : str
        missing; unfinished: it was stopped, and resumes; incomplete: a store without some layers or images, which are
        added; exists; or other: made with other settings.
    details : tuple of str
        Missing or different parts.
    is_addition : bool
        True if the store is right, and an unfinished addition to it has other settings.
    """

    status: str
    details: tuple[str, ...] = ()
    is_addition: bool = False


def differences(made: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Name the values that something was made with and that are others now; both as JSON holds them.

    Parameters
    ----------
    made : mapping of str to object
    wanted : mapping of str to object
        Names that it doesn't have are not compared.

    Examples
    --------
    >>> differences({"seed": 0, "cv": 5}, {"seed": 1})
    ['seed 0, now 1']
    """
    different = []
    for name, value in wanted.items():
        before, now = (json.dumps(each) for each in (made.get(name), value))
        if json.loads(before) != json.loads(now):
            is_short = max(len(before), len(now)) <= _MAX_SHOWN
            different.append(f"{name} {before}, now {now}" if is_short else f"other {name}")
    return different


def find_existing(
    experiment: Experiment, stages: Sequence[Stage], chosen: Sequence[Stage], manifest: Manifest | None
) -> dict[str, Existing]:
    """Find the existing results of stages, and of those that they need.

    Parameters
    ----------
    experiment : Experiment
    stages : sequence of Stage
        All of them, in order.
    chosen : sequence of Stage
    manifest : Manifest or None
        The images that stores should have; None: any.

    Returns
    -------
    dict of str to Existing
        By the stages' keys.
    """
    keys = {stage.key for stage in chosen}
    for stage in reversed(stages):
        keys |= set(stage.needs) if stage.key in keys else set()
    existing: dict[str, Existing] = {}
    for stage in stages:
        if stage.key in keys:
            existing[stage.key] = _find_stage(experiment, stage, existing, manifest)
    return existing


def _find_stage(
    experiment: Experiment, stage: Stage, existing: Mapping[str, Existing], manifest: Manifest | None
) -> Existing:
    pending = [need for need in stage.needs if existing[need].status != "exists"]
    if stage.section == "report":
        return _find_report(experiment, stage, pending)
    if stage.section != "stores":
        put_back(stage.path)
    if stage.path.exists() and pending:
        why = "".join(f" ({detail})" for detail in existing[pending[0]].details[:1])
        return Existing("other", (f"made of what is yet to change: {', '.join(pending)}{why}",))
    if stage.section != "stores":
        return _find_run(experiment, stage)
    run_path = None if stage.spec.of_run is None else experiment.run_path(stage.spec.of_run)
    store = find_store(stage.spec, stage.path, manifest, run_path=run_path)
    if pending and store.status == "unfinished":
        return Existing("other", (f"unfinished, of a network that is yet to change: {', '.join(pending)}",))
    return store


def _find_report(experiment: Experiment, stage: Stage, pending: Sequence[str]) -> Existing:
    """Compare the mark of a page with that of the runs that exist."""
    if not stage.path.exists():
        return Existing("missing")
    if pending:
        return Existing("unfinished", ("the page is of fewer or other runs",))
    try:
        is_same = has_mark(stage.path, make_mark(experiment, stage))
    except FeatxError as error:
        return Existing("unfinished", (str(error),))
    return (
        Existing("exists") if is_same else Existing("unfinished", ("the page is of other runs or has another title",))
    )


def _find_run(experiment: Experiment, stage: Stage) -> Existing:
    """Compare an existing fine-tuning, fit or choice with what is asked for."""
    if not stage.path.exists():
        return _find_unfinished_run(stage)
    try:
        different = _DIFFERENCES[type(stage.spec)](experiment, stage.spec, stage.path)
    except FeatxError as error:
        different = [str(error)]
    return Existing("other", tuple(different)) if different else Existing("exists")


def _find_unfinished_run(stage: Stage) -> Existing:
    """Find the files of a stopped run, next to its place."""
    spec, path = stage.spec, stage.path
    if isinstance(spec, FitSpec):
        journal = path.with_name(f"{stage.name}.{'cells' if spec.repeats is None else 'repeats'}.jsonl")
        return Existing("unfinished" if journal.is_file() else "missing")
    training = path.with_name(f"{stage.name}.training") / "training.json"
    if not isinstance(spec, FinetuneSpec) or not training.is_file():
        return Existing("missing")
    try:
        started = json.loads(training.read_text(encoding="utf-8"))
        different = differences({name: started[name] for name in ("recipe", "seed")}, _tuning_request(spec))
    except (OSError, ValueError, KeyError, TypeError):
        different = []
    if different:
        return Existing("other", (f"an unfinished training, started with {'; '.join(different)}",))
    return Existing("unfinished")


def _tuning_request(spec: FinetuneSpec) -> dict[str, object]:
    return {"recipe": recipe_record(read_recipe(spec.recipe, changes=spec.set)), "seed": spec.seed}


def _finetune_differences(experiment: Experiment, spec: FinetuneSpec, path: Path) -> list[str]:
    run = read_run(path)
    if not run.is_finetuned:
        return [f"a run of {run.model}, now a fine-tuned network"]
    names = ("label", "where", "sample_weight", "drop_duplicates", "split")
    made = run.protocol | {"recipe": (run.baseline or {}).get("recipe")}
    wanted = {name: getattr(spec, name) for name in names} | _tuning_request(spec)
    return differences(made, wanted) + _input_differences(experiment, spec, run.store)


_LAYER_QUESTIONS = {"each_layer": "alone", "leave_one_layer_out": "without", "importance": "importance"}


def _fit_differences(experiment: Experiment, spec: FitSpec, path: Path) -> list[str]:
    kinds = ("of the images' own splits", "of random splits")
    is_repeated = (path / RECORD).is_file()
    if is_repeated != (spec.repeats is not None):
        return [f"{kinds[is_repeated]}, now {kinds[not is_repeated]}"]
    names = ["cv", "choose_by", "label", "where", "sample_weight", "class_weight", "drop_duplicates", "seed"]
    if is_repeated:
        run = read_repeats(path)
        names += ["test_share", "stratify"] if spec.train_per_class is None else ["train_per_class"]
        made, cells = dict(run.protocol), run.protocol.get("cells")
        wanted = {"n_repeats": spec.repeats}
    else:
        run = read_run(path)
        made, cells = dict(run.protocol), [[cell.discretize, cell.params] for cell in run.cells]
        made |= {name: any(figure in row for row in run.layers) for name, figure in _LAYER_QUESTIONS.items()}
        wanted = {name: bool(getattr(spec, name)) for name in _LAYER_QUESTIONS}
    # Where Gram matrices don't fit into memory, another model takes the place of the one asked for.
    made["model"] = "svm" if run.model == "svm-large" else run.model
    wanted |= {"model": spec.model} | {name: getattr(spec, name) for name in names}
    model = run.model if made["model"] == spec.model else spec.model
    different = differences(made, wanted) + _cell_differences(cells, plan_cells(model, spec.grid, spec.discretize))
    return different + _input_differences(experiment, spec, run.store)


def _cell_differences(made: object, wanted: object) -> list[str]:
    """Name the axes in which two grids differ."""
    axes = [_axes_of(cells) for cells in (made, wanted)]
    names = axes[0] | axes[1]
    return differences(axes[0], {name: axes[1].get(name) for name in names}) or differences(
        {"cells": made}, {"cells": wanted}
    )


def _axes_of(cells: object) -> dict[str, list[object]]:
    """Return the values of each axis of a grid, in the order of its cells; {} for what is no list of cells."""
    axes: dict[str, list[object]] = {}
    try:
        for discretize, params in cells:
            for name, value in (("discretize", discretize), *((f"grid.{name}", each) for name, each in params.items())):
                if value not in axes.setdefault(name, []):
                    axes[name].append(value)
    except (TypeError, ValueError, AttributeError):
        return {}
    return axes


def _choice_differences(experiment: Experiment, spec: ChoiceSpec, path: Path) -> list[str]:
    """Compare the digests of the runs that were chosen among."""
    among = read_repeats(path).protocol.get("among")
    if not isinstance(among, list):
        return ["not a choice among runs"]
    made = [entry.get("sha256") for entry in among if isinstance(entry, dict)]
    records = [experiment.run_path(name) / RECORD for name in spec.among]
    if made == [hashlib.sha256(record.read_bytes()).hexdigest() for record in records]:
        return []
    return [f"chosen among {', '.join(str(entry.get('run')) for entry in among)} as they were"]


_DIFFERENCES: dict[type, Callable[..., list[str]]] = {
    FitSpec: _fit_differences,
    FinetuneSpec: _finetune_differences,
    ChoiceSpec: _choice_differences,
}


def _input_differences(experiment: Experiment, spec: FitSpec | FinetuneSpec, made_of: Mapping) -> list[str]:
    """Name the inputs of a run that are others now: the store, or its layers."""
    with Store(experiment.store_path(spec.store)) as store:
        if made_of.get("run_id") != store.attributes.get("run_id"):
            return [f"of the store {spec.store} as it was before it was made again or added to"]
        if isinstance(spec, FitSpec) and made_of.get("layers") != choose_stored_layers(store, spec.layers):
            return [f"other layers, now {spec.layers}"]
    return []


_PLAIN = ("backbone", "resize", "interpolation", "precision", "jpeg", "icc", "views", "store_dtype")


def find_store(spec: StoreSpec, path: Path, manifest: Manifest | None, *, run_path: Path | None = None) -> Existing:
    """Find an existing store, or its parts.

    Parameters
    ----------
    spec : StoreSpec
    path : Path
        Where it should be.
    manifest : Manifest or None
        The images that it should have; None: any.
    run_path : Path, optional
        The fine-tuned run whose network it is of.
    """
    if run_path is None and is_run(spec.weights):
        run_path = Path(spec.weights)
    started = PartialStore(path).settings_and_source()
    if not path.exists() and started is None:
        return Existing("missing")
    if run_path is not None and not run_path.exists():
        return Existing("other", (f"of a network that does not exist: {run_path}",))
    if path.exists():
        try:
            return _compare_store(spec, read_existing(path), manifest, run_path)
        except FeatxError as error:
            return Existing("other", (str(error),))
    settings, source = started
    try:
        different = differences(settings, _store_request(spec, run_path))
        if not different:
            different = differences(_features_of(settings), _wanted_features(spec, settings, run_path))
    except FeatxError as error:
        different = [str(error)]
    different += _image_differences(source, manifest)
    if different:
        return Existing("other", (f"an unfinished store, started with {'; '.join(different)}",))
    return Existing("unfinished")


def _store_request(spec: StoreSpec, run_path: Path | None) -> dict[str, object]:
    """Return the settings of the store that is asked for, but for those that can be added to."""
    weights = str(run_path) if run_path is not None else spec.weights
    own = (read_finetuned(run_path) if run_path is not None else BACKBONES[spec.backbone]).preprocessing
    request = {name: getattr(spec, name) for name in _PLAIN}
    request["image_size"] = spec.image_size or own_image_size(spec.backbone, weights)
    request["preprocessing"] = spec.preprocessing or own
    request["weights"] = name_weights(weights)
    return request if spec.engine == "auto" else request | {"engine": spec.engine}


def name_weights(weights: str) -> str:
    """Return the name that a store's settings have for weights."""
    if weights.partition(":")[0] == "random":
        return f"random:{int(weights.partition(':')[2] or 0)}"
    return weights if is_source(weights) else Path(weights).resolve().name


def _compare_store(spec: StoreSpec, base: ExistingStore, manifest: Manifest | None, run_path: Path | None) -> Existing:
    different = differences(base.attributes, _store_request(spec, run_path))
    if manifest is not None and (n_lost := len(find_lost_images(base, manifest))):
        different.append(f"{n_lost:,} images that the source no longer has")
    if different:
        return Existing("other", tuple(different))
    made = _features_of({"layers": base.settings.layers, "pooling": base.settings.pooling})
    wanted = _wanted_features(spec, {"layers": base.settings.layers, **base.attributes}, run_path)
    # A fit may take all features of its store, so those that nobody asks for change its result.
    if further := _list_absent(made, wanted):
        return Existing("other", (f"it has more: {' and '.join(further)}",))
    absent = _list_absent(wanted, made)
    if manifest is not None:
        check_same_images(base, manifest)
        absent += _compare_tables(base, manifest)
    if not absent:
        return Existing("exists")
    if different := _addition_differences(base, made, wanted, manifest):
        text = f"{PartialStore(base.path).path}: an unfinished addition to it, started with {'; '.join(different)}"
        return Existing("other", (text,), is_addition=True)
    return Existing("incomplete", tuple(absent))


Features = dict[str, list[str]]
"""Layers and poolings, by the keys `layers` and `pooling`; sorted."""


def _features_of(settings: Mapping[str, object]) -> Features:
    return {
        "layers": sorted(set(map(layer_of, settings["layers"]))),
        "pooling": sorted(str(settings["pooling"]).split(",")),
    }


def _wanted_features(spec: StoreSpec, made: Mapping[str, object], run_path: Path | None) -> Features:
    """Return the features that are asked for; only the network itself knows those of a file or a run.

    Raises
    ------
    FeatxError
        If what exists was made by other weights of the same name.
    """
    if run_path is None and is_source(spec.weights):
        layers = expand_layers(spec.layers, BACKBONES[spec.backbone])
        if spec.weights == "imagenet-conv":
            layers = tuple(name for name in layers if name not in BACKBONES[spec.backbone].top)
    else:
        frozen = build_frozen(
            spec.backbone,
            layers=spec.layers,
            weights=str(run_path) if run_path is not None else spec.weights,
            image_size=spec.image_size,
            preprocessing=spec.preprocessing,
        )
        layers = frozen.layers
        # Other layers use other weights; extraction compares those of the layers that a store has.
        is_of_same_layers = set(layers) == set(map(layer_of, made["layers"]))
        if is_of_same_layers and frozen.weights_sha256 != made.get("weights_sha256"):
            raise FeatxError(f"other weights that are called {made.get('weights')!r} too")
    return {"layers": sorted(layers), "pooling": sorted(choose_poolings(spec.pool))}


def _list_absent(these: Features, those: Features) -> list[str]:
    """Name the layers and poolings that only the first have."""
    texts = []
    for name in these:
        others = [each for each in these[name] if each not in those[name]]
        if others:
            texts.append(f"{name} {', '.join([*others[:3], *(['...'] if len(others) > 3 else [])])}")
    return texts


def _addition_differences(
    base: ExistingStore, made: Features, wanted: Features, manifest: Manifest | None
) -> list[str]:
    """Name what an unfinished addition to a store was started with, if not with this; see `featx.extract.add`."""
    folder = PartialStore(base.path)
    started = folder.settings_and_source()
    if started is None:
        return []
    if folder.adds_to() != base.run_id:
        return ["another store to add to" if folder.adds_to() else "`overwrite`, to replace it"]
    settings, source = started
    whole = {name: sorted({*made[name], *wanted[name]}) for name in made}
    return differences(_features_of(settings), whole) + _image_differences(source, manifest)


def _image_differences(source: Mapping[str, object], manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return []
    now = {"folder of images": str(manifest.root), "list of images": digest_paths(manifest)}
    before = {"folder of images": source.get("root"), "list of images": source.get("paths_sha256")}
    return [f"another {name}" for name in now if now[name] != before[name]]


def _compare_tables(base: ExistingStore, manifest: Manifest) -> list[str]:
    """Name what differs between the table of a store and that of the images; files are not read."""
    table = manifest.table[~manifest.table["path"].isin(set(base.rejected["path"]))]
    stored = base.images
    if not manifest.has_splits:
        table = table.assign(split=table["path"].map(stored.set_index("path")["split"]).fillna(""))
    n_new = len(set(table["path"]) - set(stored["path"]))
    if n_new:
        return [f"{n_new:,} images"]
    if list(table["path"]) != list(stored["path"]):
        return [OTHER_ORDER]
    is_same = is_same_table(table.assign(sha256=stored["sha256"].to_numpy()), stored)
    return [] if is_same else [OTHER_TABLE]
