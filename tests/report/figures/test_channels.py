"""Figures of channels: what a reader sees in them."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from featx.report.figures.channels import MOST_LAYERS, plot_dead, plot_filters, plot_top_images
from featx.report.figures.style import to_svg


def dead_table(n_layers):
    return pd.DataFrame(
        {
            "layer": [f"layer{number}" for number in range(n_layers)],
            "n_features": 64,
            "dead": np.arange(n_layers) % 7,
            "constant": np.arange(n_layers) % 3,
            "zeros": np.linspace(0, 1, n_layers),
        }
    )


def test_dead_and_constant_features_are_next_to_each_other_in_network_order():
    table = dead_table(5)
    left, right = plot_dead(table).axes
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in left.patches]
    places = range(5)
    assert [bar[2] for bar in bars[:5]] == table["dead"].tolist()
    assert [bar[1:] for bar in bars[5:]] == list(zip(table["dead"], table["constant"], strict=True))
    np.testing.assert_allclose([bar[0] for bar in bars], [*places, *places])
    # The first layer is on top.
    assert left.get_ylim()[0] > left.get_ylim()[1]
    assert [text.get_text() for text in left.get_yticklabels()] == table["layer"].tolist()
    np.testing.assert_allclose(right.lines[0].get_xdata(), 100 * table["zeros"])
    assert [text.get_text() for text in left.texts] == ["0 of 64", "2 of 64", "4 of 64", "3 of 64", "5 of 64"]


def test_names_of_many_layers_are_thinned_out():
    table = dead_table(3 * MOST_LAYERS)
    figure = plot_dead(table)
    left = figure.axes[0]
    assert [text.get_text() for text in left.get_yticklabels()] == table["layer"][::3].tolist()
    assert left.get_yticks().tolist() == list(range(0, 3 * MOST_LAYERS, 3))
    assert figure.get_figheight() < 15


@pytest.mark.parametrize(("n_filters", "side"), [(1, 3), (64, 3), (96, 4)])
def test_every_filter_is_there_once_in_order(n_filters, side):
    pictures = np.random.default_rng(0).uniform(0, 1, (n_filters, side, side, 3)).astype(np.float32)
    (axes,) = plot_filters(pictures).axes
    page = np.asarray(axes.images[0].get_array())
    firsts = [int(text.get_text()) for text in axes.get_yticklabels()]
    n_columns = firsts[1] if len(firsts) > 1 else n_filters
    for number, picture in enumerate(pictures):
        row, column = divmod(number, n_columns)
        cell = page[row * (side + 1) :, column * (side + 1) :][:side, :side]
        np.testing.assert_array_equal(cell[..., :3], picture)
        assert (cell[..., 3] == 1).all()
    assert page[..., 3].sum() == n_filters * side**2
    assert f"{n_filters} filters, {side} x {side} pixels" in axes.get_xlabel()


def test_images_are_shown_with_value_name_and_label_or_a_text_if_gone():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    figure = plot_top_images(
        [picture, None, picture, picture, picture],
        [3.14159265, 2, 1, 0.5, 0.25],
        ["a/b/first.png", "gone.png", "<script>.png", "$x$.png", "C:\\folder\\windows.png"],
        labels=["ash", "birch", "<b>", "", "elm"],
        title="channel 3",
    )
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles[0] == "feature 3.142\nfirst.png\nash"
    assert "windows.png" in titles[4]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), picture)
    svg = to_svg(figure, title="top")
    assert "not there" in svg
    assert "<script" not in svg
    assert "<b>" not in svg
    assert "$x$.png" in svg
