"""A page of very many runs and images: still small enough to mail, and nothing left out unsaid."""

import re

import pytest
from report_runs import make_run, make_store, make_table

from featx.report import write_report

MODELS = ("svm", "logreg", "rf", "finetune")


@pytest.mark.slow
def test_thirty_runs_and_two_thousand_images_stay_under_five_megabytes(tmp_path):
    table = make_table(2000, [f"class {number:02d} of paintings" for number in range(20)])
    store_path = make_store(tmp_path, table)
    for number in range(30):
        model = MODELS[number % 4]
        make_run(
            tmp_path / "results" / f"{model}-{number:02d}",
            table,
            store_path=store_path,
            model=model,
            right=0.5 + 0.01 * number,
            validation=0.5 + 0.01 * number,
            seed=number,
            kind="decision" if model == "svm" else "probabilities",
        )
    path = write_report(tmp_path / "results", tmp_path / "report.html")
    assert path.stat().st_size < 5_000_000
    page = path.read_text(encoding="utf-8")
    assert len(set(re.findall(r'id="(run-\d+)"', page))) == 30
    # The answer's two runs have their pictures, whatever has no room; the others have them or say so.
    n_without = page.count("figures are left out, to keep the page small")
    assert n_without < 28
    assert page.count("data:image/jpeg;base64,") > 100
