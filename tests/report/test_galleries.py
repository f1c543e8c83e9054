"""Thumbnails: small, of the very files that the store was made of, and none of anything else."""

import base64
import hashlib
import io
import os

import numpy as np
import pytest
from PIL import Image
from report_runs import make_results
from samples import make_image

from featx.errors import ImageError
from featx.images import read_size
from featx.report import gather
from featx.report.dataset import count_sizes, describe_sizes
from featx.report.galleries import MOST_WRONG, choose_galleries, make_thumbnails, most_wrong, thumbnail


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def photo(tmp_path):
    return make_image(tmp_path / "photo.png", seed=1, size=(200, 100), shade=100)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return gather(make_results(tmp_path_factory.mktemp("report")))


def test_a_thumbnail_is_the_picture_in_small(photo):
    uri = thumbnail(photo, sha256=digest(photo))
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as found:
        assert found.format == "JPEG"
        pixels = np.asarray(found).astype(float)
    assert pixels.shape == (96, 96, 3)
    # Its shape is kept, on black.
    assert pixels[:20].mean() < 5 < 120 < pixels[30:66].mean()
    assert len(uri) < 6000
    assert uri == thumbnail(photo, sha256=digest(photo))


def test_only_the_file_that_the_store_was_made_of_is_shown(photo, tmp_path):
    with pytest.raises(ImageError, match="not the file that the store's features were made of"):
        thumbnail(photo, sha256="0" * 64)
    with pytest.raises(ImageError, match="No such file or directory"):
        thumbnail(tmp_path / "gone.png", sha256=digest(photo))
    with pytest.raises(ImageError, match="a folder, not an image file"):
        thumbnail(tmp_path, sha256=digest(photo))
    with pytest.raises(ImageError, match="cannot be opened"):
        thumbnail(tmp_path / "\0", sha256="")
    text = tmp_path / "text.png"
    text.write_text("secret")
    with pytest.raises(ImageError, match="not a JPEG"):
        thumbnail(text, sha256=digest(text))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        thumbnail(tmp_path / "pipe.png", sha256="")
    assert count_sizes(["pipe.png"], tmp_path).n_unread == 1


def test_the_budget_is_kept_and_the_first_come_first(tmp_path):
    paths = [make_image(tmp_path / f"{number}.png", seed=number).name for number in range(6)]
    digests = {path: digest(tmp_path / path) for path in paths}
    whole = make_thumbnails(paths, digests, tmp_path)
    sizes = [len(whole.uris[path]) for path in paths]
    assert whole.n_over_budget == 0
    some = make_thumbnails(paths, digests, tmp_path, budget=sum(sizes[:3]))
    assert list(some.uris) == paths[:3]
    assert some.n_over_budget == 3
    # One that stands there twice takes its room twice.
    twice = make_thumbnails([paths[0], *paths], digests, tmp_path, budget=sum(sizes[:3]))
    assert len(twice.uris) < 3


def test_what_is_gone_is_told(tmp_path, photo):
    found = make_thumbnails(["photo.png", "gone.png"], {"photo.png": digest(photo)}, tmp_path)
    assert list(found.uris) == ["photo.png"]
    assert found.refused == {"gone.png": "cannot be opened: No such file or directory"}


def test_the_most_confidently_wrong_come_first(report):
    for run in report.runs:
        rows, confidence = most_wrong(run)
        wrong = np.flatnonzero(run.predictions["label"] != run.predictions["predicted"])
        assert len(rows) == min(MOST_WRONG, len(wrong))
        assert set(rows) <= set(wrong)
        if run.name == "older":
            assert confidence is None
            assert rows.tolist() == wrong[:MOST_WRONG].tolist()
            continue
        told = run.scores.probabilities if run.scores.probabilities is not None else run.scores.decision
        assert np.array_equal(confidence, told.max(axis=1))
        assert confidence[rows].tolist() == sorted(confidence[wrong], reverse=True)[:MOST_WRONG]


def test_of_two_classes_the_seconds_decision_value_tells_of_both(report):
    from dataclasses import replace

    from featx.results import Scores

    run = next(run for run in report.runs if run.name == "svm")
    names = run.classes[:2]
    table = run.predictions.iloc[:4].reset_index(drop=True)
    table = table.assign(label=names[0], predicted=[names[0], names[1], names[1], names[0]])
    two = replace(
        run,
        run=replace(run.run, protocol=run.run.protocol | {"classes": names}),
        predictions=table,
        scores=Scores(decision=np.array([-3.0, 0.5, 2.0, -1.0])),
    )
    rows, confidence = most_wrong(two)
    assert confidence.tolist() == [3.0, 0.5, 2.0, 1.0]
    assert rows.tolist() == [2, 1]


def test_galleries_tell_what_they_show(report):
    found = choose_galleries(report)
    assert set(found.wrong) == {run.name for run in report.runs}
    shown = found.wrong["logreg"]
    assert shown.heading == "Most confidently wrong"
    assert all(image.uri and image.predicted != image.label for image in shown.images)
    assert all(image.confidence.endswith("%") for image in shown.images)
    assert "no probabilities or decision values" in found.wrong["older"].caption
    assert [label for label, _ in found.examples] == sorted(
        report.classes, key=lambda label: (-(report.store.images["label"] == label).sum(), label)
    )
    assert all(1 <= len(gallery.images) <= 5 for _, gallery in found.examples)
    assert found.notes == ()


def test_images_that_are_gone_are_named(report, tmp_path):
    found = choose_galleries(report, root=tmp_path)
    assert found.examples == ()
    assert not any(image.uri for gallery in found.wrong.values() for image in gallery.images)
    assert any("images are not shown: cannot be opened: No such file or directory" in note for note in found.notes)


def test_sizes_of_files(tmp_path):
    names = [make_image(tmp_path / f"{number}.png", seed=0, size=(40, 30)).name for number in range(3)]
    assert read_size(tmp_path / names[0]) == (40, 30)
    assert describe_sizes(count_sizes(names, tmp_path)) == "40 x 30 pixels"
    names.append(make_image(tmp_path / "tall.png", seed=0, size=(20, 90)).name)
    found = count_sizes([*names, "gone.png"], tmp_path)
    assert found.counts == ((40, 30, 3), (20, 90, 1))
    told = "20 to 40 wide, 30 to 90 high; most often 40 x 30, 1 can't be read"
    assert describe_sizes(found) == told
    assert count_sizes(names, tmp_path, most=2).n_files == 2
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match="not a JPEG"):
        read_size(tmp_path / "text.png")
