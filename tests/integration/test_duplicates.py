"""Images of identical files: said wherever they flatter, and left out on demand."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import write_plain_store

import featx
from featx import FeatxError
from featx.cli import main
from featx.finetune import read_task

REMEDY = "give identical images one group (group_column), or leave them out (drop_duplicates)"
GRID = {"n_neighbors": (1, 5)}


def noise_store(path, pictures, splits=None, labels=None, **options):
    """Write a store of random features and labels, the same for the same picture: nothing can be learned of others."""
    rng = np.random.default_rng(0)
    of_picture = rng.normal(size=(max(pictures) + 1, 6))
    classes = rng.choice([*"ab"], max(pictures) + 1)
    labels = labels or [str(classes[picture]) for picture in pictures]
    return write_plain_store(
        path, {"block1_conv1": of_picture[pictures]}, labels, splits=splits, pictures=pictures, **options
    )


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    """All 20 validation images are train images as well, and 4 of the 20 test images."""
    pictures = [*range(40), *range(20), *range(20, 24), *range(40, 56)]
    splits = ["train"] * 40 + ["validation"] * 20 + ["test"] * 20
    return noise_store(tmp_path_factory.mktemp("leaky") / "s.h5", pictures, splits)


def test_validation_images_that_are_train_images_are_said_and_can_be_left_out(leaky, tmp_path):
    run = featx.fit_grid(leaky, "knn", tmp_path / "run", grid=GRID)
    assert (run.best.params["n_neighbors"], run.best.validation_accuracy) == (1, 1.0)
    first = "the first is images/060.png (to images/020.png)"
    assert (
        f"4 test images are identical to train images, {first}: the test is easier than new images are; {REMEDY}"
        in (run.notes)
    )
    assert (
        "20 validation images are identical to train images, the first is images/040.png (to images/000.png): a choice "
        f"by validation images favours models that only remember images; {REMEDY}"
    ) in run.notes
    clean = featx.fit_grid(leaky, "knn", tmp_path / "clean", grid=GRID, drop_duplicates=True)
    assert clean.notes == ("24 images of identical files are left out: drop_duplicates",)
    assert (clean.protocol["n_train"], clean.protocol["n_validation"], clean.protocol["n_test"]) == (16, 20, 20)
    assert clean.cells[0].validation_accuracy < 0.8
    # On the same test images, so that runs can be compared.
    assert featx.compare_runs([tmp_path / "run", tmp_path / "clean"]).n_rows == 20


@pytest.mark.parametrize("lost", ["validation", "train"])
def test_a_split_that_is_left_out_as_a_whole_is_said(tmp_path, lost):
    kept = "validation" if lost == "train" else "train"
    pictures = [*range(20), *range(20, 40), *(range(20) if lost == "train" else range(20, 40))]
    path = noise_store(tmp_path / "s.h5", pictures, [kept] * 20 + ["test"] * 20 + [lost] * 20)
    options = ["--n-neighbors", "1,5", "--drop-duplicates", "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(main, ["fit", "knn", str(path), *options])
    assert done.exit_code == 1
    assert "rows: --drop-duplicates has left them all out" in done.output
    assert "leave --drop-duplicates out" in done.output
    assert "xtract" not in done.output
    with pytest.raises(FeatxError, match=f"no .*{lost} rows.*`drop_duplicates` has left them all out"):
        read_task(path, drop_duplicates=True)


def test_every_image_is_left_out(tmp_path):
    path = noise_store(tmp_path / "s.h5", [0, 0, 1, 1], labels=[*"abab"])
    with pytest.raises(FeatxError, match="`drop_duplicates` leaves out every image"):
        featx.fit_repeats(path, "knn", tmp_path / "run", n_repeats=1, drop_duplicates=True)


def test_what_is_left_out_is_as_if_it_had_never_been_there(leaky, tmp_path):
    clean = featx.fit_grid(leaky, "knn", tmp_path / "clean", grid=GRID, drop_duplicates=True)
    pictures = [*range(24, 40), *range(20), *range(20, 24), *range(40, 56)]
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(56, 6)), rng.choice([*"ab"], 56)
    splits = ["train"] * 16 + ["validation"] * 20 + ["test"] * 20
    labels = [str(classes[picture]) for picture in pictures]
    path = write_plain_store(tmp_path / "s.h5", {"block1_conv1": features[pictures]}, labels, splits=splits)
    plain = featx.fit_grid(path, "knn", tmp_path / "plain", grid=GRID)
    assert [cell.validation_accuracy for cell in clean.cells] == [cell.validation_accuracy for cell in plain.cells]
    assert clean.test == plain.test


def test_identical_images_in_several_folds_are_said(leaky, tmp_path):
    run = featx.fit_grid(leaky, "knn", tmp_path / "run", grid=GRID, cv=4)
    (note,) = [note for note in run.notes if "another fold" in note]
    assert note.endswith(f"a choice by folds favours models that only remember images; {REMEDY}")
    # Train and validation are one here.
    assert not any("validation images are identical to train" in note for note in run.notes)
    clean = featx.fit_grid(leaky, "knn", tmp_path / "clean", grid=GRID, cv=4, drop_duplicates=True)
    assert not any("identical to" in note for note in clean.notes)
    assert clean.cells[0].validation_accuracy < run.cells[0].validation_accuracy


def test_identical_images_of_one_group_stay_in_one_fold(tmp_path):
    pictures = [*range(20)] * 2 + [*range(20, 30)]
    splits = ["train"] * 40 + ["test"] * 10
    path = noise_store(tmp_path / "s.h5", pictures, splits, columns={"group": [f"g{n}" for n in pictures]})
    run = featx.fit_grid(path, "knn", tmp_path / "run", grid=GRID, cv=4)
    assert run.notes == ()


def test_random_splits_say_it_and_leave_them_out(tmp_path):
    path = noise_store(tmp_path / "s.h5", [*range(30), *range(30)])
    options = {"n_repeats": 2, "cv": 3, "grid": {"n_neighbors": (1, 3)}}
    run = featx.fit_repeats(path, "knn", tmp_path / "run", **options)
    assert run.notes == (
        "60 images are identical to others, the first is images/000.png (to images/030.png), from which random splits "
        "and folds may part them: tests are easier than new images are, and choices favour models that only remember "
        f"images; {REMEDY}",
    )
    clean = featx.fit_repeats(path, "knn", tmp_path / "clean", **options, drop_duplicates=True)
    assert clean.notes == ("30 images of identical files are left out: drop_duplicates",)
    assert [repeat.n_train + repeat.n_test for repeat in clean.repeats] == [30, 30]
    assert clean.mean["accuracy"] < run.mean["accuracy"]
    assert clean.protocol["drop_duplicates"] is True


def test_identical_images_of_two_labels_are_said_and_left_out(tmp_path):
    pictures = [0, 1, 2, 3, 0, 1, 4, 5, 6, 7]
    labels = [*"ababb", "b", *"abab"]
    path = noise_store(tmp_path / "s.h5", pictures, ["train"] * 8 + ["test"] * 2, labels)
    run = featx.fit_grid(path, "rf", tmp_path / "run", grid={"n_estimators": (2,)})
    assert run.notes == (
        "2 images are identical to images of another label, the first is images/000.png ('a', and 'b' of "
        "images/004.png): at most one of the labels is right",
    )
    clean = featx.fit_grid(path, "rf", tmp_path / "clean", grid={"n_estimators": (2,)}, drop_duplicates=True)
    # Both of picture 0, and the second of picture 1.
    assert clean.protocol["n_train"] == 5


def test_fine_tuning_says_it_and_leaves_them_out(leaky):
    assert any("20 validation images are identical to train images" in note for note in read_task(leaky).notes)
    task = read_task(leaky, drop_duplicates=True)
    assert task.notes == ("24 images of identical files are left out: drop_duplicates",)
    assert len(task.rows) == len(task.images.paths) == 56


def test_the_command_leaves_them_out(leaky, tmp_path):
    arguments = ["fit", "knn", str(leaky), "-o", str(tmp_path / "run"), "--n-neighbors", "1,5"]
    done = CliRunner().invoke(main, [*arguments, "--drop-duplicates"])
    assert done.exit_code == 0, done.stderr
    assert "24 images of identical files are left out" in done.stderr
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == 20


def test_a_store_that_does_not_know_its_files_says_so(leaky):
    class Unknowing:
        path, images = "s.h5", featx.open(leaky).images.drop(columns="sha256")

    from featx.store import read_rows

    with pytest.raises(FeatxError, match=r"s\.h5 has no digests of its files, which `drop_duplicates` needs"):
        read_rows(Unknowing(), [], drop_duplicates=True)
