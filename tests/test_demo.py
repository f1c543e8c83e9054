"""The demo on a part of the real photographs, with the real weights."""

import json

import pandas as pd
import pytest
from conftest import run_featx

import featx
from featx.demo import read_elpv


def test_the_real_data_set_is_whole():
    table = read_elpv().table
    assert len(table) == 2624
    counts = pd.crosstab(table["label"], table["type"])
    assert counts.loc["defective"].to_dict() == {"mono": 369, "poly": 452}
    assert table["probability"].round(2).value_counts().to_dict() == {0.0: 1508, 0.33: 295, 0.67: 106, 1.0: 715}


def test_a_part_keeps_the_shares():
    whole, part = read_elpv().table, read_elpv(300).table
    assert len(part) == 300
    for column in ("label", "type"):
        shares = part[column].value_counts(normalize=True) - whole[column].value_counts(normalize=True)
        assert shares.abs().max() < 0.005


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path):
    done = run_featx("demo", "--images", 300, "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("random forest") == 2
    assert "always the majority class" in done.stdout
    assert "published: fine-tuned VGG19" in done.stdout
    store_path = tmp_path / "demo" / "elpv.h5"
    with featx.open(store_path) as store:
        assert store.matrix().shape == (300, 4224)
        assert len(store.rejected) == 0
    again = run_featx("demo", "--images", 300, "-o", tmp_path / "demo", "--json")
    assert "there already" in again.stderr
    report = json.loads(again.stdout)
    assert len(report["runs"]) == 4
    accuracies = {row["method"]: row["test"] for row in report["table"]}
    majority = accuracies["always the majority class"]
    # 60 test images: the features must tell something, and no more can be asked of so few.
    assert max(accuracies["SVM, standardised features"], accuracies["SVM, ternary features"]) > majority + 0.05
    other = run_featx("demo", "--images", 320, "-o", tmp_path / "demo")
    assert other.returncode == 1
    assert "holds other images" in other.stderr
