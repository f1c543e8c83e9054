"""One definition of each option: functions, registries and the command line agree with the records."""

import importlib.util
import inspect
from dataclasses import MISSING
from pathlib import Path

import click
import pytest

import featx
from featx.cli import main
from featx.extract import ExtractOptions
from featx.finetune import TuneOptions
from featx.fit import CHOOSE_BY, DISCRETIZATIONS, GRIDS, MODELS, FitOptions, GridOptions, RepeatOptions
from featx.images import ICCS, INTERPOLATIONS, JPEGS, RESIZES, VIEWS, ImageOptions, SourceOptions
from featx.inference import AUTO, LARGEST, DeepFeatures, NetworkOptions, build_network
from featx.inference.engines import ENGINES, PRECISIONS
from featx.networks import BACKBONES, PREPROCESSINGS
from featx.store import STORE_DTYPES
from featx.system import options_of

# What a function takes next to its options: data, where the work is done, and what is shown meanwhile.
OTHERS = {"changes", "shard", "cluster", "overwrite", "log_every", "progress", "echo"}


@pytest.mark.parametrize(
    ("function", "records", "without"),
    [
        (featx.extract_features, [ExtractOptions], ()),
        (featx.fit_grid, [GridOptions], ()),
        (featx.fit_repeats, [RepeatOptions], ()),
        (featx.fine_tune, [TuneOptions], ()),
        (featx.read_source, [SourceOptions], ()),
        # 8 images per batch by default.
        (build_network, [NetworkOptions], ("backbone", "batch_size")),
        (DeepFeatures.__init__, [NetworkOptions, ImageOptions], ("batch_size",)),
    ],
)
def test_functions_have_the_options_of_their_records_with_the_same_defaults(function, records, without):
    expected = {name: each.default for record in records for name, each in options_of(record).items()}
    found = {
        name: MISSING if parameter.default is parameter.empty else parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    expected = {name: value for name, value in expected.items() if name not in without}
    shared = {name: value for name, value in found.items() if name in expected}
    assert shared == expected
    image_size = {"image_size"} if function is build_network else set()
    assert set(found) - set(expected) - set(without) - image_size <= OTHERS


@pytest.mark.parametrize(
    ("record", "registries"),
    [
        (ImageOptions, {"resize": RESIZES, "interpolation": INTERPOLATIONS, "jpeg": JPEGS, "icc": ICCS}),
        (
            ExtractOptions,
            {
                "backbone": BACKBONES,
                "preprocessing": PREPROCESSINGS,
                "views": VIEWS,
                "engine": ENGINES,
                "precision": PRECISIONS,
                "store_dtype": STORE_DTYPES,
            },
        ),
        (FitOptions, {"discretize": DISCRETIZATIONS, "choose_by": CHOOSE_BY}),
        (TuneOptions, {"engine": ENGINES}),
    ],
)
def test_choices_are_those_of_the_registries(record, registries):
    for name, registry in registries.items():
        assert options_of(record)[name].values.words == tuple(registry)


def test_numbers_are_those_of_the_library():
    known = options_of(ExtractOptions)
    assert (known["batch_size"].values.words, known["batch_size"].values.range.high) == ((AUTO,), LARGEST)
    assert known["image_size"].values.range.low == min(spec.min_image_size for spec in BACKBONES.values())


def test_every_model_has_its_axes():
    assert {*GRIDS, "svm-large"} == set(MODELS)
    for model, grid in GRIDS.items():
        assert {name: axis.default for name, axis in options_of(grid).items()} == MODELS[model].grid


@pytest.mark.parametrize(
    ("path", "records"),
    [("extract", [ExtractOptions, SourceOptions]), ("finetune", [TuneOptions])]
    + [(f"fit {model}", [GridOptions, RepeatOptions, grid]) for model, grid in GRIDS.items()],
)
def test_commands_have_the_options_of_the_records(path, records):
    command = main
    for name in path.split():
        command = command.commands[name]
    found = {each.name: each for each in command.params if isinstance(each, click.Option)}
    for record in records:
        for name, each in options_of(record).items():
            if name == "grid":
                # Each of its axes is an option.
                continue
            if name in ("cv", "importance"):
                # One for both kinds of splits; a flag, and a number of shuffles.
                assert name in found
            else:
                assert found[name].help.startswith(each.help)


def test_tables_of_docs_are_those_of_the_records():
    docs = Path(__file__).parents[2] / "docs"
    spec = importlib.util.spec_from_file_location("write_tables", docs / "write_tables.py")
    write_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_tables)
    page = (docs / "experiments.md").read_text(encoding="utf-8")
    assert page.count("<!-- options of featx.") == 5
    assert write_tables.fill(page) == page, "run docs/write_tables.py"
