"""Check what an experiment names: files, recipes, layers, scores that a model can be chosen by."""

import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

from sklearn.utils.validation import has_fit_parameter

from featx.errors import FeatxError
from featx.experiment.existing import name_weights
from featx.experiment.option_names import explain
from featx.experiment.schema import OF_RUN, Experiment, FinetuneSpec, FitSpec, Source, StoreSpec
from featx.fit import check_choice, make_estimator, plan_cells
from featx.networks import (
    BACKBONES,
    Backbone,
    build_application,
    choose_layers,
    choose_poolings,
    expand_layers,
    is_file_name,
    is_source,
    named_outputs,
)
from featx.networks.recipes import Recipe, head_source, is_named_by, read_recipe
from featx.results import is_run, read_finetuned
from featx.store import check_expression

_OF_CSV = ("root", "path_column", "label_column", "split_column", "group_column")


# The layers of a fine-tuned network's head; see `featx.networks.recipes.head`.
_OF_HEADS = re.compile(r"(fc\d+|flatten\d*|(head_pool|head_dropout|head_norm)\d+|new_block\d+_\w+|predictions)")


def list_missing(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield what an experiment names and does not exist, by dotted key. Paths are resolved.

    Parameters
    ----------
    experiment : Experiment
        Its rules hold; see `featx.experiment.checks.list_broken_rules`.
    """
    yield from _source_problems(experiment.source)
    stores, fits = experiment.stores, experiment.fits
    for name, store in stores.items():
        yield from _in_entry(f"stores.{name}", _store_problems(store))
    for name, finetune in experiment.finetunes.items():
        yield from _in_entry(f"finetunes.{name}", _finetune_problems(finetune, stores.get(finetune.store)))
    for name, fit in fits.items():
        yield from _in_entry(f"fits.{name}", _fit_problems(fit, stores.get(fit.store)))
    if experiment.source.path == str(experiment.output):
        yield "output", "the folder of the images: give another one"
    report = experiment.report
    if report is not None and report.root is not None and not Path(report.root).is_dir():
        yield "report.root", f"no such folder: {report.root}"


def _in_entry(key: str, problems: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    yield from ((f"{key}.{name}", text) for name, text in problems)


def _source_problems(source: Source) -> Iterator[tuple[str, str]]:
    if source.path is not None and not Path(source.path).exists():
        yield "source.path", f"no such folder or CSV file: {source.path}"
    if source.root is not None and not Path(source.root).is_dir():
        yield "source.root", f"no such folder: {source.root}"
    elif source.path is not None and Path(source.path).is_dir():
        for known in fields(Source):
            if known.name in _OF_CSV and getattr(source, known.name) != known.default:
                yield f"source.{known.name}", "of a CSV, and path is a folder: leave it out"
    if source.dataset == "elpv":
        try:
            importlib.metadata.distribution("elpv-dataset")
        except importlib.metadata.PackageNotFoundError:
            yield "source.dataset", "the package elpv-dataset is not installed: pip install 'featx[demo]'"


def _store_problems(store: StoreSpec) -> Iterator[tuple[str, str]]:
    spec = BACKBONES[store.backbone]
    yield from _weights_problems(store.weights, store.backbone, may_be_run=True)
    yield from _engine_problems(store)
    problem = _problem_of(lambda: choose_poolings(store.pool))
    if problem:
        yield "pool", problem
    size = spec.image_size if store.image_size is None else store.image_size
    problem = _problem_of(lambda: spec.check_image_size(size))
    if problem:
        yield "image_size", problem
    elif problem := _layers_problem(store):
        yield "layers", problem
    else:
        yield from _top_problems(store)


def _weights_problems(weights: str, backbone: str, *, may_be_run: bool) -> Iterator[tuple[str, str]]:
    spec, path = BACKBONES[backbone], Path(weights)
    if weights.startswith(OF_RUN):
        return
    if weights == "imagenet" and spec.application is None:
        yield "weights", f"there are no imagenet weights for {backbone}: give a file, or random"
    elif weights == "imagenet-conv" and backbone != "vgg16":
        yield "weights", f"imagenet-conv is of vgg16, not of {backbone}"
    elif weights.startswith("random:") and not weights.removeprefix("random:").isdecimal():
        yield "weights", f"expected random:SEED with a whole number, found {weights!r}"
    elif is_source(weights):
        return
    elif not path.exists():
        others = f"{OF_RUN}NAME nor a file or a run's folder" if may_be_run else "nor a file"
        yield "weights", f"neither imagenet, imagenet-conv, random[:SEED]{',' * may_be_run} {others}: {weights}"
    elif path.is_dir():
        problem = f"{weights}: a folder; expected a file" if not may_be_run else _problem_of_run(path, backbone)
        if problem:
            yield "weights", problem
    elif not is_file_name(weights):
        yield "weights", f"{weights}: expected a file ending in .weights.h5, .h5, .keras or .onnx"


def _problem_of_run(path: Path, backbone: str) -> str | None:
    """Return a message if a folder is no fine-tuned network of a backbone."""
    try:
        tuned = read_finetuned(path)
    except FeatxError as error:
        return _text_of(error)
    return None if tuned.backbone == backbone else f"{path}: a network of {tuned.backbone}, not of {backbone}"


def _engine_problems(store: StoreSpec) -> Iterator[tuple[str, str]]:
    if store.engine != "ncnn":
        return
    if store.precision != "float32":
        yield "precision", f"ncnn computes in float32 only, not in {store.precision}: give engine keras"
    if importlib.util.find_spec("ncnn") is None:
        yield "engine", "ncnn is not installed: pip install 'featx[cpu]'"


def _top_problems(store: StoreSpec) -> Iterator[tuple[str, str]]:
    """Yield layers of a backbone's top that its weights can't give, or not at this size."""
    spec = BACKBONES[store.backbone]
    if _is_tuned(store):
        return
    image_size = spec.image_size if store.image_size is None else store.image_size
    layers = expand_layers(store.layers, spec)
    of_top = [layer for layer in layers if layer in spec.top]
    if store.weights == "imagenet-conv" and store.backbone == "vgg16":
        beyond = spec.top[spec.top.index(spec.top_weighted[0]) :]
        absent = [layer for layer in layers if layer in beyond]
        parts = [expand_layers(part, spec) for part in store.layers.split(",")]
        by_name = [layer for layer in absent if any(layer in part and set(part) <= set(beyond) for part in parts)]
        if by_name or (absent and len(absent) == len(layers)):
            yield "layers", f"imagenet-conv has no {', '.join(by_name or absent)}: ask for other layers or weights"
    elif of_top and spec.takes_one_size and image_size != spec.image_size and not store.weights.startswith("random"):
        yield "image_size", f"{of_top[0]} of published weights takes {spec.image_size} pixels, found {image_size}"


def _layers_problem(store: StoreSpec) -> str | None:
    spec = BACKBONES[store.backbone]
    names = expand_layers(store.layers, spec)
    if _is_tuned(store):
        names = tuple(name for name in names if not _OF_HEADS.fullmatch(name))
    if all(map(spec.knows, names)):
        return None
    # Only the network itself knows its other layers.
    return _problem_of(lambda: choose_layers(",".join(names), spec, _layers_of(spec.name)))


def _is_tuned(store: StoreSpec) -> bool:
    """Check whether a store is of a fine-tuned network, of this file or of another folder."""
    return store.of_run is not None or is_run(store.weights)


@cache
def _layers_of(backbone: str) -> tuple[str, ...]:
    spec: Backbone = BACKBONES[backbone]
    return (*named_outputs(build_application(spec, spec.image_size, include_top=False)), *spec.top)


def _finetune_problems(finetune: FinetuneSpec, store: StoreSpec | None) -> Iterator[tuple[str, str]]:
    yield from _where_problems(finetune)
    if finetune.root is not None and not Path(finetune.root).is_dir():
        yield "root", f"no such folder: {finetune.root}"
    if finetune.weights is not None and store is not None and finetune.weights != store.weights:
        yield from _other_weights_problems(finetune.weights, store)
    try:
        read_recipe(finetune.recipe)
        key = "set"
    except FeatxError:
        key = "recipe"
    try:
        recipe = read_recipe(finetune.recipe, changes=finetune.set)
    except FeatxError as error:
        yield key, str(error)
    else:
        if store is not None and store.backbone not in recipe.backbones:
            yield "recipe", f"{recipe.name} is for {', '.join(recipe.backbones)}, and the store is of {store.backbone}"
        elif store is not None and (problem := _recipe_layers_problem(recipe, BACKBONES[store.backbone])):
            yield ("set" if finetune.set else "recipe"), problem


def _other_weights_problems(weights: str, store: StoreSpec) -> Iterator[tuple[str, str]]:
    """Yield a problem if the weights can't be those of the store's features, which fine-tuning starts from."""
    are_sources = is_source(weights) and is_source(store.weights)
    if weights.startswith(OF_RUN):
        yield "weights", "of a fine-tuned network, and only a backbone can be fine-tuned: leave it out"
    elif are_sources and _of_one_training(weights) != _of_one_training(store.weights):
        yield "weights", f"{weights}, and the store's features are of {store.weights}: leave it out"
    else:
        yield from _weights_problems(weights, store.backbone, may_be_run=False)


def _of_one_training(weights: str) -> str:
    # The same convolutions, with and without what follows them: a head on fc2 takes imagenet, to features of the other.
    return "imagenet" if weights == "imagenet-conv" else name_weights(weights)


def _recipe_layers_problem(recipe: Recipe, spec: Backbone) -> str | None:
    """Return a message about a layer that a recipe names and its backbone does not have."""
    if recipe.from_layer:
        problem = _problem_of(lambda: head_source(recipe, spec, spec.image_size))
        names = expand_layers(recipe.from_layer, spec)
        if problem or not all(map(spec.knows, names)):
            return problem or _problem_of(lambda: choose_layers(recipe.from_layer, spec, _layers_of(spec.name)))
    for stage in recipe.stages:
        for name in stage.unfreeze if stage.unfreeze != "all" else ():
            known = (layer for layers in spec.layer_sets.values() for layer in layers)
            if not any(is_named_by(name, layer) for layer in (*known, *spec.top)) and not any(
                is_named_by(name, layer) for layer in _layers_of(spec.name)
            ):
                return (
                    f"stage {stage.name!r}: unfreeze names {name!r}, and {spec.name} has no such layer; 'featx "
                    f"backbones {spec.name}' lists them"
                )
    return None


def _fit_problems(fit: FitSpec, store: StoreSpec | None) -> Iterator[tuple[str, str]]:
    if store is not None and (problem := _stored_layers_problem(store, fit)):
        yield "layers", problem
    yield from _where_problems(fit)
    try:
        params = plan_cells(fit.model, fit.grid, fit.discretize)[0][1]
        estimator = make_estimator(fit.model, "none", params, class_weight=fit.class_weight)
    except FeatxError as error:
        yield "class_weight", _text_of(error)
        return
    if problem := _problem_of(lambda: check_choice(fit.choose_by, estimator, rows=None)):
        yield "choose_by", problem
    if fit.sample_weight is not None and not has_fit_parameter(estimator[-1], "sample_weight"):
        yield "sample_weight", f"{fit.model} takes no sample weights: leave it out"


def _where_problems(spec: FitSpec | FinetuneSpec) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an expression by itself; its columns are checked with the images."""
    if spec.where is not None and (problem := _problem_of(lambda: check_expression(spec.where))):
        yield "where", problem


def _stored_layers_problem(store: StoreSpec, fit: FitSpec) -> str | None:
    """Return a message about a layer that a fit's store won't have; see `featx.store.choose_stored_layers`."""
    if _problem_of(lambda: choose_poolings(store.pool)):
        return None
    spec, poolings = BACKBONES[store.backbone], choose_poolings(store.pool)
    stored = expand_layers(store.layers, spec)
    for part in fit.layers.split(","):
        name, _, pooling = part.strip().partition(":")
        if pooling and pooling not in poolings:
            return f"the store {fit.store} has no pooling {pooling!r}; it has {', '.join(poolings)}"
        absent = [] if name == "all" else [layer for layer in expand_layers(name, spec) if layer not in stored]
        if _is_tuned(store):
            absent = [layer for layer in absent if not _OF_HEADS.fullmatch(layer)]
        if absent:
            return f"the store {fit.store} has no {absent[0]!r}; it has {', '.join(stored)}"
    return None


def _problem_of(attempt: Callable[[], object]) -> str | None:
    """Return the message of a check that fails; None where nothing is wrong."""
    try:
        attempt()
    except FeatxError as error:
        return _text_of(error)
    return None


def _text_of(error: FeatxError) -> str:
    # The key says already which parameter it is.
    return explain(FeatxError(error.text))
