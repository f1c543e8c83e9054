"""A dry run: near to what an extraction takes, and nothing written."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner
from samples import make_tree

import featx
from featx.cli import main
from featx.errors import FeatxError, SourceError
from featx.extract import ExtractOptions, forecast_extraction, format_forecast

SMALL = {"weights": "random", "image_size": 32, "layers": "block1,block2"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """200 images, so that a store is more than its headers."""
    return make_tree(tmp_path_factory.mktemp("photographs"), {"ash": 100, "birch": 60, "cedar": 40})


@pytest.mark.parametrize(
    ("options", "chunk_bytes"), [({}, 2**20), ({"store_dtype": "float16", "batch_size": 16, "pool": "avg,max"}, 2**14)]
)
def test_the_disk_is_foreseen_and_nothing_written(options, chunk_bytes, photographs, tmp_path, monkeypatch):
    for module in ("extract.forecast", "store.writer"):
        monkeypatch.setattr(f"featx.{module}.CHUNK_BYTES", chunk_bytes)
    manifest = featx.make_splits(featx.read_source(photographs), (0.6, 0.2, 0.2))
    forecast = forecast_extraction(manifest, tmp_path / "store.h5", ExtractOptions(**SMALL | options))
    assert list(tmp_path.iterdir()) == []
    done = featx.extract_features(manifest, tmp_path / "store.h5", **SMALL | options)
    size = (tmp_path / "store.h5").stat().st_size
    assert abs(forecast.store_bytes - size) < 0.1 * size
    assert (forecast.n_images, forecast.n_features) == (done.n_images, done.n_features)
    assert (forecast.n_tried, forecast.n_rejected) == (4 * forecast.batch_size, 0)


def test_the_parts_are_foreseen(photographs, tmp_path, monkeypatch):
    manifest = featx.read_source(photographs)
    forecast = forecast_extraction(manifest, tmp_path / "store.h5", ExtractOptions(**SMALL))
    # The parts stay where the store can't be written.
    monkeypatch.setattr("featx.extract.run.write_store", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        featx.extract_features(manifest, tmp_path / "store.h5", **SMALL)
    size = sum(path.stat().st_size for path in (tmp_path / "store.h5.parts").glob("rows-*"))
    assert abs(forecast.parts_bytes - size) < 0.1 * size


def test_figures_agree_with_one_another(tree, tmp_path):
    forecast = forecast_extraction(
        featx.read_source(tree), tmp_path / "s.h5", ExtractOptions(**SMALL, precision="bfloat16")
    )
    assert (forecast.engine, forecast.precision) == ("keras", "bfloat16")
    slower = min(forecast.decode_images_per_second, forecast.network_images_per_second)
    # On a CPU both need the same cores.
    assert 0 < forecast.images_per_second <= slower
    assert forecast.seconds == pytest.approx(
        forecast.startup_seconds + 30 / forecast.images_per_second, rel=0.1, abs=0.1
    )
    assert forecast.free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert 50e6 < forecast.memory_bytes < 50e9
    assert "too little" not in format_forecast(forecast)
    assert "too little" in format_forecast(replace(forecast, free_bytes=1000))


def test_what_cannot_be_read_is_counted(tmp_path):
    root = make_tree(tmp_path / "images", {"ash": 3, "birch": 3})
    (root / "ash" / "000.png").write_bytes(b"no image")
    forecast = forecast_extraction(featx.read_source(root), tmp_path / "s.h5", ExtractOptions(**SMALL))
    assert (forecast.n_tried, forecast.n_rejected) == (6, 1)
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"none of the 6 images tried.*000\.png: not a JPEG"):
        forecast_extraction(featx.read_source(root), tmp_path / "s.h5", ExtractOptions(**SMALL))


@pytest.mark.parametrize(("output", "message"), [("", "a folder"), ("no/s.h5", "doesn't exist; make it first")])
def test_where_no_store_can_be_made_it_is_told(tree, tmp_path, output, message):
    with pytest.raises(FeatxError, match=message):
        forecast_extraction(featx.read_source(tree), tmp_path / output, ExtractOptions(**SMALL))


def test_the_command_shows_it(tree, tmp_path):
    line = ["extract", str(tree), "-o", str(tmp_path / "s.h5"), "--weights", "random", "--image-size", "32"]
    line += ["--layers", "block1", "--dry-run"]
    shown = CliRunner().invoke(main, line)
    assert shown.exit_code == 0
    assert [row.split()[0] for row in shown.stdout.splitlines()] == [
        *("images", "network", "images/s", "time", "disk", "memory")
    ]
    record = json.loads(CliRunner().invoke(main, [*line, "--json"]).stdout)
    forecast = forecast_extraction(featx.read_source(tree), tmp_path / "s.h5", ExtractOptions(**SMALL))
    assert list(record) == list(asdict(forecast))
    assert record["n_images"] == 30
    assert list(tmp_path.iterdir()) == []
