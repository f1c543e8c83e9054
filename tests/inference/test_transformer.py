"""Images to features as a scikit-learn transformer: the store's features, and scikit-learn's conventions."""

import multiprocessing
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags

import featx
from featx import DeepFeatures, FeatxError

OPTIONS = {"layers": "block1", "weights": "random", "image_size": 32, "batch_size": 4}


@pytest.fixture(scope="module")
def images(tree):
    """Paths and labels of the tree's images."""
    paths = sorted(tree.rglob("*.png"))
    return paths, [path.parent.name for path in paths]


@pytest.fixture(scope="module")
def fitted(images):
    return DeepFeatures(**OPTIONS).fit(images[0])


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
    ],
)
def test_scikit_learns_checks_that_need_no_numbers(check):
    check("DeepFeatures", DeepFeatures())


def test_tags_tell_of_paths():
    tags = get_tags(DeepFeatures()).input_tags
    assert (tags.string, tags.one_d_array, tags.two_d_array) == (True, True, False)


@pytest.mark.parametrize(
    "further",
    [
        {"resize": "crop", "interpolation": "bicubic", "preprocessing": "tf"},
        {"pool": "avg,std", "views": "flip", "engine": "ncnn"},
        {"precision": "bfloat16", "jpeg": "scaled", "icc": "ignore"},
    ],
)
def test_features_are_the_stores(tree, tmp_path, further):
    options = OPTIONS | further
    featx.extract_features(featx.read_source(tree), tmp_path / "s.h5", **options)
    with featx.open(tmp_path / "s.h5") as store:
        paths = [tree / path for path in store.images["path"]]
        transformer = DeepFeatures(**options)
        X = transformer.fit_transform(paths)
        assert np.array_equal(X, store.matrix())
        assert X.dtype == np.float32
        assert transformer.get_feature_names_out().tolist() == store.feature_names
        assert transformer.weights_sha256_ == store.attributes["weights_sha256"]
    assert transformer.n_features_out_ == 128 * len(transformer.pool.split(","))


def test_paths_come_in_every_form(images, fitted):
    paths = images[0][:5]
    expected = fitted.transform(paths)
    texts = [str(path) for path in paths]
    for form in (texts, np.array(texts), np.array(paths, dtype=object)[:, None], pd.Series(texts), tuple(paths)):
        assert np.array_equal(fitted.transform(form), expected)


def test_a_frame_has_its_columns_name(images, fitted):
    frame = pd.DataFrame({"file": [str(path) for path in images[0][:3]]})
    transformer = clone(fitted).set_output(transform="pandas").fit(frame)
    found = transformer.transform(frame)
    assert transformer.feature_names_in_.tolist() == ["file"]
    assert transformer.n_features_in_ == 1
    assert list(found.columns[:2]) == ["block1_conv1/0", "block1_conv1/1"]
    with pytest.raises(ValueError, match="feature names should match"):
        transformer.transform(frame.rename(columns={"file": "other"}))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a.png", ValueError, r"expected paths of images, \(n,\) or \(n, 1\), got shape \(\)"),
        ([["a.png", "b.png"]], ValueError, r"got shape \(1, 2\)"),
        ([], ValueError, "0 sample"),
        ([1.5, 2.5], TypeError, "got 1.5 in row 0"),
        (["a.png", None], TypeError, "got None in row 1"),
    ],
)
def test_what_holds_no_paths_is_refused(fitted, X, error, message):
    with pytest.raises(error, match=message):
        DeepFeatures(**OPTIONS).fit(X)
    with pytest.raises(error, match=message):
        fitted.transform(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "vgg11"}, "backbone: expected vgg16, .*, found 'vgg11'"),
        ({"resize": "stretch"}, "resize: expected squash, crop or pad"),
        ({"interpolation": "box"}, "interpolation: expected bilinear"),
        ({"preprocessing": "caffee"}, "preprocessing: expected caffe"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 to 4096 or auto, found 0"),
        ({"batch_size": "many"}, "batch_size: .* found 'many'"),
        ({"batch_size": 2.5}, "batch_size: .* found 2.5"),
    ],
)
def test_parameters_are_checked_in_fit(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepFeatures(**parameters).fit(["a.png"])


def test_the_batch_size_may_be_found_by_itself(images):
    paths = images[0][:9]
    automatic = DeepFeatures(**OPTIONS | {"batch_size": "auto"}).fit_transform(paths)
    assert np.allclose(automatic, DeepFeatures(**OPTIONS).fit_transform(paths), rtol=1e-4)


def test_an_image_that_cannot_be_read_is_named(images, fitted, tmp_path):
    (tmp_path / "words.png").write_text("words")
    with pytest.raises(FeatxError, match=r"words\.png: not a JPEG"):
        fitted.transform([*images[0][:6], tmp_path / "words.png"])


def test_layers_that_the_weights_lack_are_told_of(images):
    options = OPTIONS | {"weights": "imagenet-conv"}
    with pytest.raises(FeatxError, match="have no fc1"):
        DeepFeatures(**(options | {"layers": "fc1"})).fit(images[0])
    with pytest.warns(UserWarning, match="have no fc1 and fc2: 13 layers"):
        assert DeepFeatures(**(options | {"layers": "all"})).fit(images[0]).n_features_out_ == 4224


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        DeepFeatures().transform(["a.png"])
    with pytest.raises(NotFittedError):
        DeepFeatures().get_feature_names_out()


def test_pickles_leave_the_network_out_and_build_it_again(images, fitted):
    data = pickle.dumps(fitted)
    assert len(data) < 10_000
    assert hasattr(fitted, "network_")
    again = pickle.loads(data)  # noqa: S301
    assert again.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
    assert np.array_equal(again.transform(images[0][:5]), fitted.transform(images[0][:5]))


def test_a_pickle_refuses_weights_that_have_changed(images, fitted):
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    again.set_params(weights="random:1")
    with pytest.raises(FeatxError, match="not those that this was fitted with"):
        again.transform(images[0])


def test_it_works_in_pipelines_and_searches(images):
    paths, y = images
    pipeline = make_pipeline(DeepFeatures(**OPTIONS), KNeighborsClassifier(3))
    search = GridSearchCV(pipeline, {"deepfeatures__layers": ["block1_conv1", "block1"]}, cv=2, error_score="raise")
    search.fit(paths, y)
    assert search.best_estimator_["deepfeatures"].n_features_out_ in (64, 128)
    assert search.predict(paths[:2]).shape == (2,)
    assert len(cross_val_score(search.best_estimator_, paths, y, cv=2, error_score="raise")) == 2
    assert clone(search.best_estimator_)["deepfeatures"].get_params() == search.best_estimator_[0].get_params()


def test_another_process_gives_the_same_features(images, fitted):
    """As joblib does with n_jobs; a process that is spawned shares nothing with this one but the pickle."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(fitted.transform, (images[0][:5],)), fitted.transform(images[0][:5]))
