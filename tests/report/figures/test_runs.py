"""Figures show the data: points where the numbers are, untrusted names as they are, no more names than can be read."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score

from featx import FeatxError
from featx.report.figures import (
    CLASSICAL,
    FINE_TUNED,
    list_grid_axes,
    plot_accuracies,
    plot_class_counts,
    plot_confusion,
    plot_curves,
    plot_grid,
    plot_layers,
    plot_reliability,
    plot_roc,
)
from featx.report.figures.answers import calibration_bins
from featx.report.figures.data import count_classes
from featx.report.figures.style import COLOURS

STRANGE = ["<script>alert(1)</script>", "$a_1$ & $b$", "two\nlines\x00", "x" * 300]


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def assert_labelled(figure):
    for ax in figure.axes:
        # An axis that is shared has its label below; a colour bar has one axis.
        assert ax.get_xlabel() or ax.get_ylabel(), ax


def test_runs_are_drawn_at_their_accuracies():
    names = ["rf", "svm", "network", "old"]
    figure = plot_accuracies(
        names,
        [0.85, 0.87, 0.9, 0.5],
        [[0.8, 0.9], [0.82, 0.92], [0.85, 0.95], None],
        [CLASSICAL, CLASSICAL, FINE_TUNED, CLASSICAL],
        0.6876,
    )
    (ax,) = figure.axes
    assert labels_of(ax.yaxis) == names
    lines = lines_of(ax)
    classical, tuned = lines["classifier on frozen features"], lines["fine-tuned network"]
    assert classical.get_xydata().tolist() == [[0.85, 0], [0.87, 1], [0.5, 3]]
    assert tuned.get_xydata().tolist() == [[0.9, 2]]
    assert classical.get_marker() != tuned.get_marker()
    assert classical.get_color() != tuned.get_color()
    bars = [line for line in ax.get_lines() if line.get_label().startswith("_")]
    assert [bar.get_xydata().tolist() for bar in bars] == [
        [[0.8, 0], [0.9, 0]],
        [[0.82, 1], [0.92, 1]],
        [[0.85, 2], [0.95, 2]],
    ]
    assert lines["always the majority class"].get_xdata() == [0.6876, 0.6876]
    assert {text.get_text() for text in ax.texts} == {
        *("85.0% [80.0, 90.0]", "87.0% [82.0, 92.0]", "90.0% [85.0, 95.0]", "50.0%")
    }
    # The first is on top, and the line and every interval are within the axes.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert ax.get_xlim()[0] < 0.5
    assert ax.get_xlim()[1] > 0.95
    assert_labelled(figure)


def test_no_run_and_no_majority():
    with pytest.raises(FeatxError, match="one run or more"):
        plot_accuracies([], [], [], [], None)
    (ax,) = plot_accuracies(["a"], [0.5], [None], [FINE_TUNED], None).axes
    assert set(lines_of(ax)) == {"fine-tuned network"}


def square(n, seed=0):
    names = [f"c{number:03d}" for number in range(n)]
    return pd.DataFrame(np.random.default_rng(seed).integers(0, 50, (n, n)), index=names, columns=names)


def test_confusion_counts_and_shares():
    counts = pd.DataFrame([[8, 2, 0], [1, 1234, 0], [0, 0, 0]], index=list("abc"), columns=list("abc"))
    ax = plot_confusion(counts).axes[0]
    assert ax.images[0].get_array().tolist() == counts.to_numpy().tolist()
    assert [text.get_text() for text in ax.texts] == ["8", "2", "1", "1,234"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    figure = plot_confusion(counts, shares=True)
    shares = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert shares[0].tolist() == [0.8, 0.2, 0]
    assert np.isnan(shares[2]).all()
    # A class without rows stays empty; each number stands on its own cell.
    texts = {(text.get_position(), text.get_text()) for text in figure.axes[0].texts}
    assert texts == {((0, 0), "80%"), ((1, 0), "20%"), ((1, 1), "100%")}
    assert figure.axes[1].get_ylabel() == "share of the true class"
    with pytest.raises(FeatxError, match="one class or more"):
        plot_confusion(pd.DataFrame())


@pytest.mark.parametrize(("n", "n_named"), [(20, 20), (21, 11), (29, 15), (200, 20)])
def test_no_more_than_twenty_classes_are_named(n, n_named):
    ax = plot_confusion(square(n)).axes[0]
    assert ax.images[0].get_array().shape == (n, n)
    for axis in (ax.xaxis, ax.yaxis):
        assert len(labels_of(axis)) == n_named
        assert [int(name[1:]) for name in labels_of(axis)] == list(axis.get_ticklocs())
    assert bool(ax.texts) == (n <= 20)


def test_numbers_on_cells_are_read_on_dark_and_on_light():
    ax = plot_confusion(pd.DataFrame([[100, 1], [1, 100]], index=list("ab"), columns=list("ab"))).axes[0]
    assert [text.get_color() for text in ax.texts] == ["#000000", "#ffffff", "#ffffff", "#000000"]


def test_calibration_by_hand():
    highest = np.array([0.95, 0.9, 0.85, 0.6, 0.6])
    probabilities = np.stack([highest, 1 - highest], axis=1)
    bins, error = calibration_bins(["a", "a", "b", "a", "z"], probabilities, ["a", "b"])
    assert bins["n_rows"].tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 2, 1]
    # 0.9 is in the bin that ends there, and a label that no class is of is never right.
    assert bins["accuracy"].tolist()[5::3] == [0.5, 0.5]
    assert bins["accuracy"].iloc[9] == 1
    assert bins["probability"].iloc[8] == pytest.approx(0.875)
    assert error == pytest.approx((2 * 0.1 + 2 * 0.375 + 0.05) / 5)


def test_the_reliability_curve_is_that_of_the_bins():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 400)
    y = np.array(list("abc"))[rng.integers(0, 3, 400)]
    bins, error = calibration_bins(y, probabilities, list("abc"))
    figure = plot_reliability(y, probabilities, list("abc"))
    curve, rows = figure.axes
    there = bins["n_rows"] > 0
    assert (
        lines_of(curve)["this run"].get_xydata().tolist()
        == bins.loc[there, ["probability", "accuracy"]].to_numpy().tolist()
    )
    assert lines_of(curve)["as often as predicted"].get_xydata().tolist() == [[0, 0], [1, 1]]
    assert [bar.get_height() for bar in rows.patches] == bins["n_rows"].tolist()
    assert [text.get_text() for text in rows.texts] == [str(n) if n else "" for n in bins["n_rows"]]
    assert curve.get_title(loc="left") == f"expected calibration error {100 * error:.1f}%, 400 images"
    assert (rows.get_xlabel(), rows.get_ylabel()) == ("probability of the predicted class", "images")


@pytest.mark.parametrize("wrong", [1.5, -0.1, np.nan])
def test_scores_that_are_no_probabilities_are_refused(wrong):
    with pytest.raises(FeatxError, match=r"probabilities|not finite"):
        plot_reliability(["a", "b"], np.array([[wrong, 0.5], [0.5, 0.5]]), ["a", "b"])
    with pytest.raises(FeatxError, match="no test rows"):
        plot_reliability([], np.empty((0, 2)), ["a", "b"])


def many_scores(n_classes, n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"c{number:02d}" for number in range(n_classes)]
    places = rng.integers(0, n_classes, n_rows)
    scores = rng.normal(size=(n_rows, n_classes))
    scores[np.arange(n_rows), places] += 1
    return np.array(names)[places], scores, names


def test_two_classes_have_one_curve():
    y, scores, names = many_scores(2)
    decision = scores[:, 1] - scores[:, 0]
    (ax,) = plot_roc(y, decision, names).axes
    area = roc_auc_score(y == "c01", decision)
    curve = lines_of(ax)[f"c01, AUC {area:.3f}"]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(area)
    assert set(lines_of(ax)) == {f"c01, AUC {area:.3f}", "by chance, AUC 0.500"}
    assert ax.get_xlabel() == "share of c00 that is taken for c01"
    assert ax.get_ylabel() == "share of c01 that is found"


def test_each_class_against_the_rest():
    y, scores, names = many_scores(4)
    (ax,) = plot_roc(np.where(y == "c03", "c02", y), scores, names).axes
    areas = {
        name: roc_auc_score(np.where(y == "c03", "c02", y) == name, scores[:, place])
        for place, name in enumerate(names[:3])
    }
    assert {f"{name}, AUC {area:.3f}" for name, area in areas.items()} < set(lines_of(ax))
    assert ax.get_title(loc="left") == "1 of 4 classes: no curve, as they have no test images"
    styles = {(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
    assert len(styles) == 4


def test_more_classes_than_can_be_distinguished_are_averaged():
    y, scores, names = many_scores(29, n_rows=2000)
    figure = plot_roc(y, scores, names)
    (ax,) = figure.axes
    area = np.mean([roc_auc_score(y == name, scores[:, place]) for place, name in enumerate(names)])
    curve = lines_of(ax)[f"mean of 29 classes, AUC {area:.3f}"]
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(area, abs=0.01)
    assert len(ax.get_lines()) == 2
    assert "80% of the classes" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_rows_of_one_class_have_no_curve():
    with pytest.raises(FeatxError, match="all of one class"):
        plot_roc(["a", "a"], np.array([[1.0, 0], [0, 1]]), ["a", "b"])
    with pytest.raises(FeatxError, match="test row 2 are not finite"):
        plot_roc(["a", "b"], np.array([[1.0, 0], [np.inf, 1]]), ["a", "b"])


def svm_cells():
    cells = [
        {"model": "svm", "kernel": kernel, "C": C, "gamma": gamma, "validation": 0.5 + C / 100 + (gamma == 0.1) / 10}
        for kernel, gammas in (("linear", [None]), ("rbf", ["scale", 0.1]))
        for gamma in gammas
        for C in (10.0, 0.1, 1.0)
    ]
    return pd.DataFrame(cells).assign(seconds=1.0, chosen=["*" if row == 6 else "" for row in range(9)])


def test_the_axes_of_a_grid_are_what_differs():
    cells = svm_cells()
    assert list_grid_axes(cells) == ["kernel", "C", "gamma"]
    # With one gamma, the kernel alone says which cells have it.
    assert list_grid_axes(cells[cells["gamma"] != 0.1]) == ["kernel", "C"]
    assert list_grid_axes(cells.iloc[:1]) == []


def test_heat_maps_hold_each_cell_in_its_place():
    cells = svm_cells()
    figure = plot_grid(cells, ["kernel", "gamma", "C"], "validation")
    linear, rbf, bar = figure.axes
    assert [ax.get_title(loc="left") for ax in (linear, rbf)] == ["kernel=linear", "kernel=rbf"]
    assert labels_of(rbf.xaxis) == ["0.1", "1", "10"]
    assert labels_of(rbf.yaxis) == ["0.1", "scale"]
    np.testing.assert_allclose(rbf.images[0].get_array(), [[0.601, 0.61, 0.7], [0.501, 0.51, 0.6]])
    np.testing.assert_allclose(linear.images[0].get_array(), [[0.501, 0.51, 0.6]])
    assert [text.get_text() for text in linear.texts] == ["0.501", "0.510", "0.600"]
    (chosen,) = rbf.patches
    assert (chosen.get_x() + 0.46, chosen.get_y() + 0.46) == (2, 0)
    assert not linear.patches
    assert (rbf.get_xlabel(), rbf.get_ylabel(), bar.get_ylabel()) == ("C", "gamma", "validation accuracy")


def test_one_axis_is_a_line():
    cells = svm_cells().iloc[3:6].assign(deviation=[0.01, 0.02, 0.03], chosen=["*", "", ""])
    (ax,) = plot_grid(cells, ["C"], "validation").axes
    assert labels_of(ax.xaxis) == ["0.1", "1", "10"]
    line, *_, chosen = ax.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.501], [1, 0.51], [2, 0.6]])
    assert chosen.get_xydata().tolist() == [[2, 0.6]]
    (bars,) = ax.collections
    heights = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, [0.04, 0.06, 0.02])


def test_too_many_heat_maps_become_one_of_the_best():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame(
        {"a": a, "b": b, "c": c, "d": d, "validation log_loss": rng.random()}
        for a in range(4)
        for b in "wxyz"
        for c in range(2)
        for d in range(3)
    )
    cells.loc[0, "validation log_loss"] = np.nan
    figure = plot_grid(cells, ["a", "b", "c", "d"], "validation log_loss")
    ax, bar = figure.axes
    best = cells.pivot_table(values="validation log_loss", index="c", columns="d", aggfunc="min")
    np.testing.assert_allclose(ax.images[0].get_array(), best)
    assert figure.get_suptitle() == "the best over a, b"
    assert bar.get_ylabel() == "validation log loss (less is better)"


def test_a_failed_cell_is_named_and_a_grid_without_scores_is_an_error():
    cells = svm_cells().assign(error=None)
    cells.loc[0, "validation"] = np.nan
    figure = plot_grid(cells, ["kernel", "gamma", "C"], "validation")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.501", "0.510", "failed"]
    with pytest.raises(FeatxError, match="no axis to plot over"):
        plot_grid(cells, [], "validation")
    with pytest.raises(FeatxError, match="no column 'depth'"):
        plot_grid(cells, ["depth"], "validation")
    with pytest.raises(FeatxError, match="no cell has a validation"):
        plot_grid(cells.assign(validation=np.nan), ["C"], "validation")


def make_curves(stages=("head", "head", "block5", "block5", "block5")):
    n = len(stages)
    return pd.DataFrame(
        {
            "stage": stages,
            "epoch": range(1, n + 1),
            "loss": np.linspace(1, 0.5, n),
            "accuracy": np.linspace(0.5, 0.9, n),
            "val_loss": np.linspace(1.1, 0.7, n),
            "val_accuracy": np.linspace(0.4, 0.8, n),
            "learning_rate": [1e-3, *[5e-5] * (n - 2), 0.0][:n],
            "seconds": 1.0,
        }
    )


def test_curves_follow_the_epochs_with_their_stages():
    curves = make_curves()
    figure = plot_curves(curves)
    loss, accuracy, rate = figure.axes
    for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
        assert lines_of(ax)["train"].get_xydata().tolist() == list(map(list, enumerate(curves[name], 1)))
        assert lines_of(ax)["validation"].get_ydata().tolist() == curves[f"val_{name}"].tolist()
        assert [line.get_xdata()[0] for line in ax.get_lines()[2:]] == [2.5]
    assert [ax.get_ylabel() for ax in figure.axes] == ["loss", "accuracy", "learning rate"]
    # A rate of 0 leaves a gap on the logarithmic axis.
    rates = rate.get_lines()[0].get_ydata()
    assert rates[:4].tolist() == [1e-3, 5e-5, 5e-5, 5e-5]
    assert np.isnan(rates[4])
    assert rate.get_yscale() == "log"
    assert rate.get_xlabel() == "epoch, over all stages"
    (top,) = loss.child_axes
    assert labels_of(top.xaxis) == ["head", "block5"]
    assert top.xaxis.get_ticklocs().tolist() == [1.5, 4]


@pytest.mark.parametrize("rate", [1e-4, 3.1e-5])
def test_a_rate_that_never_changes_has_a_number_next_to_it(rate):
    shown = texts_of(plot_curves(make_curves(["head"]).assign(learning_rate=rate)))
    assert {"0.0001", "1e-05"} & set(shown)
    assert not any("mathdefault" in text for text in shown)


def test_an_epoch_that_is_no_number_leaves_a_gap():
    curves = make_curves()
    curves.loc[3, "loss"] = np.nan
    assert np.isnan(lines_of(plot_curves(curves).axes[0])["train"].get_ydata()[3])
    with pytest.raises(FeatxError, match="one epoch or more"):
        plot_curves(curves.iloc[:0])


def make_layers(n=6):
    rng = np.random.default_rng(0)
    names = ["alone", "cumulative", "without", "importance", "importance_deviation"]
    figures = pd.DataFrame(rng.random((n, 5)), columns=names)
    return pd.concat([pd.DataFrame({"layer": [f"conv{i}" for i in range(n)], "n_features": 8}), figures], axis=1)


def test_layers_are_in_network_order():
    layers = make_layers()
    accuracy, importance = plot_layers(layers).axes
    lines = lines_of(accuracy)
    for name, label in {
        "alone": "this layer alone",
        "cumulative": "this layer and all before it",
        "without": "all layers but this one",
    }.items():
        assert lines[label].get_ydata().tolist() == layers[name].tolist()
        assert lines[label].get_xdata().tolist() == list(range(6))
    assert [bar.get_height() for bar in importance.patches] == layers["importance"].tolist()
    (bars,) = next(bar for bar in importance.containers if hasattr(bar, "errorbar")).errorbar.lines[2]
    np.testing.assert_allclose(
        [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()], layers["importance_deviation"]
    )
    assert labels_of(importance.xaxis) == layers["layer"].tolist()
    assert importance.get_xlabel() == "layer, in network order"


def test_layers_have_the_panels_that_were_asked_for():
    layers = make_layers(50)
    figure = plot_layers(layers[["layer", "alone"]])
    (ax,) = figure.axes
    assert ax.get_ylabel() == "validation accuracy"
    assert labels_of(ax.xaxis) == [f"conv{i}" for i in range(0, 50, 3)]
    (ax,) = plot_layers(layers[["layer", "importance"]]).axes
    assert "accuracy lost" in ax.get_ylabel()
    with pytest.raises(FeatxError, match="each_layer"):
        plot_layers(layers[["layer", "n_features"]])


def make_images(n_classes=3):
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    lines = [(f"c{i:02d}", split) for i in range(n_classes) for split in splits * (n_classes - i)]
    return pd.DataFrame(lines, columns=["label", "split"])


def test_counts_and_shares_by_split():
    table = make_images()
    counts = count_classes(table)
    assert counts.to_dict("list") == {"train": [18, 12, 6], "validation": [6, 4, 2], "test": [6, 4, 2]}
    figure = plot_class_counts(table)
    bars, shares = figure.axes
    assert labels_of(bars.yaxis) == ["c00", "c01", "c02"]
    drawn = [[bar.get_width() for bar in split] for split in bars.containers]
    assert drawn == counts.T.to_numpy().tolist()
    assert [bar.get_x() for bar in bars.containers[2]] == [24, 16, 8]
    assert [text.get_text() for text in bars.texts] == ["30", "20", "10"]
    for line in shares.get_lines():
        np.testing.assert_allclose(line.get_xdata(), [1 / 2, 1 / 3, 1 / 6])
    assert len({line.get_marker() for line in shares.get_lines()}) == 3
    assert shares.get_xlim()[1] > 0.5
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "train, 36 images",
        "validation, 12 images",
        "test, 12 images",
    ]


def test_classes_beyond_twenty_are_one():
    table = make_images(29)
    counts = count_classes(table)
    assert len(counts) == 21
    assert counts.index[-1] == "9 more classes"
    assert counts.to_numpy().sum() == len(table)
    assert counts.loc["9 more classes", "train"] == sum(6 * size for size in range(1, 10))
    assert count_classes(make_images(20)).index[-1] == "c19"
    assert count_classes(make_images(21)).index[-1] == "1 more class"


def test_labels_that_are_numbers_are_named_as_classifiers_see_them():
    table = pd.DataFrame({"p": [1.0, 1.0, 1.0, 0.5, 0.5, np.nan], "split": "train"})
    assert count_classes(table, label="p").index.tolist() == ["1", "0.5", "(no label)"]


def test_images_without_label_or_split_are_counted():
    table = pd.DataFrame({"label": ["a", "", ""], "split": ["", "train", "train"], "kind": ["x", "y", "y"]})
    counts = count_classes(table)
    assert (counts.index.tolist(), counts.columns.tolist()) == (["(no label)", "a"], ["train", ""])
    assert count_classes(table, label="kind").index.tolist() == ["y", "x"]
    with pytest.raises(FeatxError, match="no column 'medium'"):
        plot_class_counts(table, label="medium")
    with pytest.raises(FeatxError, match="the column 'kind' has 'x'; expected train, validation, test or ''"):
        plot_class_counts(table, split="kind")
    with pytest.raises(FeatxError, match="no images"):
        plot_class_counts(table.iloc[:0])


def strange_figures():
    """Draw each figure with untrusted names."""
    counts = pd.DataFrame(np.eye(4) * 5, index=STRANGE, columns=STRANGE)
    scores = np.eye(4)[[0, 1, 2, 3, 0]]
    y = np.array([*STRANGE, STRANGE[1]], dtype=object)
    yield plot_accuracies(STRANGE, [0.5] * 4, [None] * 4, [CLASSICAL] * 4, None)
    yield plot_confusion(counts)
    yield plot_roc(y, scores, STRANGE)
    yield plot_class_counts(pd.DataFrame({"label": STRANGE * 3, "split": ["train", "test", ""] * 4}))
    yield plot_grid(pd.DataFrame({"p": STRANGE, "validation": [0.1, 0.2, 0.3, 0.4]}), ["p"], "validation")
    yield plot_layers(pd.DataFrame({"layer": STRANGE, "alone": 0.5}))
    yield plot_curves(make_curves([STRANGE[0], STRANGE[1], STRANGE[2], STRANGE[3], "end"]))


def texts_of(figure):
    for axis in figure.findobj(Axis):
        axis.get_ticklabels()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_untrusted_names_are_text_in_every_figure():
    for figure in strange_figures():
        found = texts_of(figure)
        for start in ("<script>", "$a_1$ & $b$", r"two lines\x00"):
            assert any(text.startswith(start) for text in found), (start, found)
        assert any(re.match(r"x+…", text) for text in found)
        assert max(map(len, found)) < 80
        assert not any(text.get_parse_math() for text in figure.findobj(Text) if "$" in text.get_text())


def test_reliability_takes_strange_classes():
    figure = plot_reliability(STRANGE, np.eye(4), STRANGE)
    assert "expected calibration error 0.0%, 4 images" in texts_of(figure)


def test_splits_differ_in_grey():
    from matplotlib.colors import to_rgb

    bars = plot_class_counts(make_images()).axes[0].containers
    grey = [np.dot((0.2126, 0.7152, 0.0722), to_rgb(split[0].get_facecolor())) for split in bars]
    assert np.abs(np.diff(grey)).min() > 0.1
    assert {split[0].get_facecolor() for split in bars} <= {(*to_rgb(colour), 1.0) for colour in COLOURS.values()}
