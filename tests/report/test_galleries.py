"""Thumbnails: small, of the very files that the store was made of, and none of anything else."""

import base64
import hashlib
import io
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_runs import make_results
from samples import make_image

from featx.errors import ImageError
from featx.images import read_size
from featx.report import gather
from featx.report.dataset import count_sizes, format_sizes
from featx.report.galleries import MOST_WRONG, choose_galleries, make_thumbnails, most_wrong
from featx.results import Scores


def listed(*paths):
    """Return the images as a store lists them."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in paths]
    return pd.DataFrame({"path": [path.name for path in paths], "sha256": digests})


@pytest.fixture
def photo(tmp_path):
    return make_image(tmp_path / "photo.png", seed=1, size=(200, 100), shade=100)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return gather(make_results(tmp_path_factory.mktemp("report")))


def test_a_thumbnail_is_the_picture_in_small(photo, tmp_path):
    uri = make_thumbnails(listed(photo), tmp_path)["photo.png"].uri
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as found:
        assert found.format == "JPEG"
        pixels = np.asarray(found).astype(float)
    assert pixels.shape == (96, 96, 3)
    # Its shape is kept, on black.
    assert pixels[:20].mean() < 5 < 120 < pixels[30:66].mean()
    assert len(uri) < 6000
    assert uri == make_thumbnails(listed(photo), tmp_path)["photo.png"].uri


def test_only_the_file_that_the_store_was_made_of_is_shown(photo, tmp_path):
    (tmp_path / "text.png").write_text("secret")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    names = ("text.png", "gone.png", "folder.png", "pipe.png", "\0")
    images = listed(photo, *(tmp_path / name for name in names))
    images.loc[0, "sha256"] = "0" * 64
    thumbnails = make_thumbnails(images, tmp_path)
    assert not any(thumbnail.uri for thumbnail in thumbnails.values())
    reasons = [thumbnail.reason for thumbnail in thumbnails.values()]
    assert reasons[0] == "not the file that the store's features were made of"
    assert reasons[1].startswith("not a JPEG")
    assert reasons[2] == "cannot be opened: No such file or directory"
    assert reasons[3:5] == ["a folder, not an image file", "not a regular file"]
    assert reasons[5].startswith("cannot be opened")
    # Nor is a pipe waited for.
    assert count_sizes(["pipe.png"], tmp_path).n_unread == 1


def test_every_gallery_has_an_equal_share_of_the_images(report, monkeypatch):
    """Four runs and three classes."""
    monkeypatch.setattr("featx.report.galleries.MOST_IMAGES", 15)
    galleries = choose_galleries(report)
    n_wrong = [int((~run.saved.correct).sum()) for run in report.runs]
    assert [len(gallery.images) for gallery in galleries.wrong.values()] == [min(n, 2) for n in n_wrong]
    assert [len(gallery.images) for _, gallery in galleries.examples] == [2, 2, 2]
    assert galleries.wrong["svm"].caption.startswith("2 of ")
    monkeypatch.setattr("featx.report.galleries.MOST_IMAGES", 6)
    galleries = choose_galleries(report)
    assert not any(gallery.images for gallery in galleries.wrong.values())
    assert galleries.examples == ()


def test_the_most_confidently_wrong_come_first(report):
    for run in report.runs:
        rows, confidence = most_wrong(run)
        wrong = np.flatnonzero(~run.saved.correct)
        assert len(rows) == min(MOST_WRONG, len(wrong))
        assert set(rows) <= set(wrong)
        if run.name == "bare":
            assert confidence is None
            assert rows.tolist() == wrong[:MOST_WRONG].tolist()
            continue
        assert np.array_equal(confidence, run.scores.values.max(axis=1))
        assert confidence[rows].tolist() == sorted(confidence[wrong], reverse=True)[:MOST_WRONG]


def test_of_two_classes_one_decision_value_says_the_confidence_in_both():
    predictions = pd.DataFrame({"label": ["a"] * 4, "predicted": ["a", "b", "b", "a"]})
    correct = np.array([True, False, False, True])
    saved = SimpleNamespace(classes=["a", "b"], predictions=predictions, correct=correct)
    run = SimpleNamespace(saved=saved, scores=Scores(decision=np.array([-3.0, 0.5, 2.0, -1.0])))
    rows, confidence = most_wrong(run)
    assert confidence.tolist() == [3.0, 0.5, 2.0, 1.0]
    assert rows.tolist() == [2, 1]


def test_galleries_say_what_they_show(report):
    found = choose_galleries(report)
    assert set(found.wrong) == {run.name for run in report.runs}
    shown = found.wrong["logreg"]
    assert shown.heading == "Most confidently wrong"
    assert all(image.uri and image.predicted != image.label for image in shown.images)
    assert all(image.confidence.endswith("%") for image in shown.images)
    assert "no probabilities or decision values" in found.wrong["bare"].caption
    assert [label for label, _ in found.examples] == sorted(
        report.classes, key=lambda label: (-(report.store.images["label"] == label).sum(), label)
    )
    assert all(1 <= len(gallery.images) <= 5 for _, gallery in found.examples)
    assert found.notes == ()


def test_images_that_are_gone_are_named(report, tmp_path):
    found = choose_galleries(report, tmp_path)
    assert found.examples == ()
    assert not any(image.uri for gallery in found.wrong.values() for image in gallery.images)
    assert any("images are not shown: cannot be opened: No such file or directory" in note for note in found.notes)


def test_sizes_of_files(tmp_path):
    names = [make_image(tmp_path / f"{number}.png", seed=0, size=(40, 30)).name for number in range(3)]
    assert read_size(tmp_path / names[0]) == (40, 30)
    assert format_sizes(count_sizes(names, tmp_path)) == "40 x 30 pixels"
    names.append(make_image(tmp_path / "tall.png", seed=0, size=(20, 90)).name)
    found = count_sizes([*names, "gone.png"], tmp_path)
    assert found.counts == ((40, 30, 3), (20, 90, 1))
    assert format_sizes(found) == "20 to 40 wide, 30 to 90 high; most often 40 x 30, 1 can't be read"
    assert count_sizes(names, tmp_path, most=2).n_files == 2
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match="not a JPEG"):
        read_size(tmp_path / "text.png")
