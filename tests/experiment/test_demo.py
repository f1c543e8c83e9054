"""The demo on a part of the real photographs, with the real weights."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx import TernaryDiscretizer
from featx.cli import main
from featx.experiment import demo as demo_module
from featx.fit import plan_cells
from featx.fit.estimators import SharedGram
from featx.fit.estimators.svm import fit_cells
from featx.images import as_label, read_elpv


def test_the_real_data_set_is_whole():
    table = read_elpv().table
    assert len(table) == 2624
    counts = pd.crosstab(table["label"], table["type"])
    assert counts.loc["defective"].to_dict() == {"mono": 369, "poly": 452}
    assert table["probability"].round(2).value_counts().to_dict() == {0.0: 1508, 0.33: 295, 0.67: 106, 1.0: 715}
    assert set(table["probability"].map(as_label)) == {"0", "0.333333", "0.666667", "1"}
    assert table["weight"].value_counts().to_dict() == {1.0: 1508 + 715, 0.33: 295, 0.67: 106}


def test_a_part_keeps_the_shares():
    whole, part = read_elpv().table, read_elpv(300).table
    assert len(part) == 300
    for column in ("label", "type"):
        shares = part[column].value_counts(normalize=True) - whole[column].value_counts(normalize=True)
        assert shares.abs().max() < 0.005


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo on 60 photographs, one epoch a stage: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    text = demo_module.EXPERIMENT.read_text(encoding="utf-8")
    (folder.parent / "copy.yaml").write_text(text.replace("block5.epochs: 4", "epochs: 1"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "EXPERIMENT", folder.parent / "copy.yaml")
        yield folder, CliRunner().invoke(main, ["demo", "--images", "60", "-o", str(folder)])


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(demo):
    folder, done = demo
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("random forest") == 2
    assert "always the majority class" in done.stdout
    assert "published: fine-tuned VGG19" in done.stdout
    assert "fine-tuned VGG16: a head, then block 5" in done.stdout
    assert "stage block5: 1 epochs" in done.stderr
    with featx.open(folder / "stores/elpv.h5") as store:
        assert store.matrix().shape == (60, 4224)
        assert len(store.rejected) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"report:     {folder / 'report.html'}" in done.stdout
    assert "on frozen features" in page
    assert "fine-tuned VGG16" in page
    assert page.count("data:image/jpeg;base64,") > 5
    # The record is the experiment that people copy.
    assert list(featx.read_experiment(folder / "experiment.yaml").fits) == ["rf", "rf-ternary", "svm", "svm-ternary"]
    again = CliRunner().invoke(main, ["demo", "--images", "60", "-o", str(folder), "--json"])
    assert again.exit_code == 0, again.stderr
    assert "exists already" in again.stderr
    assert "stage block5" not in again.stderr
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    report = json.loads(again.stdout)
    assert len(report["runs"]) == 5
    accuracies = {row["method"]: row["test"] for row in report["table"]}
    majority = accuracies["always the majority class"]
    # 12 test images: no more can be asked of so few; the next test asks all photographs what the features tell.
    assert max(accuracies["SVM, standardised features"], accuracies["SVM, ternary features"]) > majority + 0.05
    other = CliRunner().invoke(main, ["demo", "--images", "50", "-o", str(folder)])
    assert other.exit_code == 1
    assert "stores.elpv: " in other.stderr


@pytest.mark.slow
def test_cells_on_shared_gram_matrices_predict_as_plain_pipelines_on_real_features(demo):
    with featx.open(demo[0] / "stores/elpv.h5") as store:
        X, y = store.matrix(), store.images["label"].to_numpy().astype(str)
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    plans = plan_cells("svm", {"C": (0.001, 1.0, 10.0), "gamma": ("scale", 1e-4)}, "both")
    for discretize, scaler in (("none", StandardScaler()), ("ternary", TernaryDiscretizer())):
        cells = [params for step, params in plans if step == discretize]
        shared, decisions = SharedGram(X, discretize=discretize), {}
        for fit, score in folds:
            X_fit, X_score = scaler.fit(X[fit]).transform(X[fit]), scaler.transform(X[score])
            for params, found in zip(cells, fit_cells(shared.fold(fit, score), y[fit], cells), strict=True):
                plain = SVC(**params).fit(X_fit, y[fit])
                assert np.array_equal(found.predicted, plain.predict(X_score)), params
                assert found.decision == pytest.approx(plain.decision_function(X_score), abs=1e-6)
                decisions.setdefault(str(params), np.empty(len(y)))[score] = found.decision
        # The features tell something of photographs that no cell was fitted on: chance gives 0.5, give or take 0.07.
        assert max(roc_auc_score(y == "functional", values) for values in decisions.values()) > 0.65


@pytest.mark.slow
def test_a_grid_on_real_features_is_that_of_grid_search_cv(demo, tmp_path):
    grid = {"kernel": ("linear", "rbf"), "C": (0.001, 1.0, 10.0)}
    run = featx.fit_grid(demo[0] / "stores/elpv.h5", "svm", tmp_path / "run", grid=grid, cv=3)
    with featx.open(demo[0] / "stores/elpv.h5") as store:
        is_known = (store.images["split"] != "test").to_numpy()
        X, y = store.matrix()[is_known], store.images["label"].to_numpy()[is_known].astype(str)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC()),
        {f"svc__{name}": values for name, values in grid.items()},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(X, y)
    plain = dict(zip(map(str, search.cv_results_["params"]), search.cv_results_["mean_test_score"], strict=True))
    for cell in run.cells:
        params = {f"svc__{name}": cell.params[name] for name in ("C", "kernel")}
        assert cell.validation_accuracy == pytest.approx(plain[str(params)], abs=1e-12)
