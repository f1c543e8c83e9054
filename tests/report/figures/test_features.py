"""Figures of images by their features: what a reader sees in them."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.text import Text

from featx.report.figures.features import MOST_CELLS, plot_correlation, plot_embedding
from featx.report.figures.style import MOST_CLASSES, to_svg

LABELS = ["ash"] * 6 + ["birch"] * 3 + ["cedar"] * 3


def block_matrix(labels):
    labels = np.asarray(labels)
    return np.where(labels[:, None] == labels, 0.8, -0.2)


def texts_of(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_a_correlation_is_drawn_as_it_is_with_borders_and_names_at_their_classes():
    matrix = block_matrix(LABELS)
    figure = plot_correlation(matrix, LABELS, title="block5")
    axes, bar = figure.axes
    (image,) = axes.images
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert (image.norm.vmin, image.norm.vmax) == (-1, 1)
    assert texts_of(axes) == ["ash", "birch", "cedar"]
    assert axes.get_yticks().tolist() == [3, 7.5, 10.5]
    assert sorted(line.get_ydata()[0] for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1]) == [6, 9]
    assert axes.get_xlabel() == "12 images, sorted by class"
    assert "(r)" in bar.get_ylabel()
    # 0 is white, and images that correlate with nothing are none of the map's colours.
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.9
    assert len(set(image.cmap(np.nan)[:3])) == 1


def test_of_many_images_a_cell_is_the_mean_of_its_neighbours():
    rng = np.random.default_rng(0)
    labels = np.repeat(["ash", "birch"], MOST_CELLS)
    matrix = rng.uniform(-1, 1, (2 * MOST_CELLS, 2 * MOST_CELLS))
    (image,) = plot_correlation(matrix, labels).axes[0].images
    expected = matrix.reshape(MOST_CELLS, 2, MOST_CELLS, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(image.get_array(), expected)
    assert list(image.get_extent()) == [0, 2 * MOST_CELLS, 2 * MOST_CELLS, 0]


def test_covariances_have_0_in_the_middle_or_at_the_end():
    matrix = 3 * block_matrix(LABELS) + 50 * np.eye(12)
    (image,) = plot_correlation(matrix, LABELS, "covariance").axes[0].images
    # An image's own variance is beyond the scale.
    assert -image.norm.vmin == image.norm.vmax == pytest.approx(2.4)
    (image,) = plot_correlation(np.abs(matrix), LABELS, "covariance").axes[0].images
    assert image.norm.vmin == 0
    (image,) = plot_correlation(np.zeros((1, 1)), ["ash"], "covariance").axes[0].images
    assert image.norm.vmax > image.norm.vmin


def test_of_many_classes_the_largest_are_named_where_there_is_room():
    sizes = [1] * 30 + [40] * 25
    labels = np.repeat([f"class {number:02d}" for number in range(55)], sizes)
    axes = plot_correlation(block_matrix(labels), labels).axes[0]
    named = texts_of(axes)
    assert 10 <= len(named) <= MOST_CLASSES
    # All the small ones together have room for one name.
    assert sum(int(name[-2:]) < 30 for name in named) <= 1
    assert np.diff(axes.get_yticks()).min() >= len(labels) / (MOST_CLASSES + 2)
    assert axes.get_ylabel() == f"Class ({55 - len(named)} of 55 not named)"


def test_every_point_is_where_its_image_lies_in_the_look_of_its_class():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 2))
    labels = rng.permutation(LABELS)
    (axes,) = plot_embedding(points, labels, "pca", (0.4, 0.125)).axes
    shown = {scatter.get_label(): np.asarray(scatter.get_offsets()) for scatter in axes.collections}
    assert sorted(shown) == ["ash (6)", "birch (3)", "cedar (3)"]
    for name, found in shown.items():
        np.testing.assert_array_equal(found, points[labels == name.split()[0]])
    looks = {(tuple(s.get_facecolor()[0]), len(s.get_paths()[0].vertices)) for s in axes.collections}
    assert len(looks) == 3
    assert axes.get_xlabel() == "Principal component 1 (40.0% of the variance)"
    assert axes.get_ylabel() == "Principal component 2 (12.5% of the variance)"


@pytest.mark.parametrize(("n_classes", "n_named"), [(20, 20), (21, 19), (50, 19)])
def test_of_many_classes_the_smallest_are_one_group(n_classes, n_named):
    labels = np.repeat([f"c{number:02d}" for number in range(n_classes)], np.arange(1, n_classes + 1))
    points = np.random.default_rng(0).normal(size=(len(labels), 2))
    (axes,) = plot_embedding(points, labels, "tsne").axes
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    looks = {(s.get_facecolor()[0].tobytes(), s.get_paths()[0].vertices.tobytes()) for s in axes.collections}
    assert len(looks) == len(named)
    n_rest = n_classes - n_named
    assert sum(len(s.get_offsets()) for s in axes.collections) == len(labels)
    assert axes.get_xlabel() == "t-SNE 1"
    if n_rest:
        assert named[-1] == f"{n_rest} more classes ({n_rest * (n_rest + 1) // 2})"
        # The smallest ones are those without a name.
        assert named[0].startswith(f"c{n_rest:02d} ")


def test_many_points_are_one_small_picture_and_few_are_marks():
    rng = np.random.default_rng(0)
    for n_points, is_picture in ((2000, True), (100, False)):
        labels = rng.choice(["ash", "birch", "cedar"], n_points)
        svg = to_svg(plot_embedding(rng.normal(size=(n_points, 2)), labels, "pca"), title="embedding")
        assert svg.count("<image") == int(is_picture)
        assert len(svg) < 100_000


def test_untrusted_names_are_text():
    labels = ["<script>alert(1)</script>"] * 3 + ["$x^2$"] * 3 + ["a\nb" + "c" * 300] * 3
    for figure in (
        plot_correlation(block_matrix(labels), labels, title="<b>$"),
        plot_embedding(np.arange(18.0).reshape(9, 2), labels, "pca", title="<b>$"),
    ):
        figure.axes[0].get_yticklabels()
        found = [text.get_text() for text in figure.findobj(Text)]
        for start in ("<script>alert", "$x^2$", "a bccc", "<b>$"):
            assert any(text.startswith(start) for text in found), start
        assert not any("c" * 50 in text for text in found)
