"""Random splits: as a plain loop would do them, and as often as asked for."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plain_stores import grouped_features, write_overlapping_store, write_plain_store
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import featx
from featx import FeatxError
from featx.cli import main
from featx.fit import fit_repeats, repeat_share
from featx.fit.repeats import RepeatsTask
from featx.fit.splits import draw_holdout
from featx.store import Rows
from featx.system import Shard


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    """Two classes that overlap, two types, a group and a weight a row, no splits."""
    return write_overlapping_store(tmp_path_factory.mktemp("repeats") / "s.h5")


GRID = {"kernel": ("linear", "rbf"), "C": (0.01, 1.0)}


@pytest.mark.parametrize("stratify", [(), ("label",)])
def test_every_split_is_that_of_a_plain_loop(store_path, tmp_path, stratify):
    run = fit_repeats(store_path, "svm", tmp_path / "run", n_repeats=4, stratify=stratify, cv=3, grid=GRID, seed=5)
    with featx.open(store_path) as store:
        X, y = store.matrix(), store.images["label"].to_numpy().astype(str)
    pipeline = make_pipeline(StandardScaler(), SVC())
    grid = {f"svc__{name}": values for name, values in GRID.items()}
    accuracies = []
    for seed, repeat in zip(range(5, 9), run.repeats, strict=True):
        split = train_test_split(X, y, test_size=0.2, random_state=seed, stratify=y if stratify else None)
        X_train, X_test, y_train, y_test = split
        search = GridSearchCV(pipeline, grid, cv=StratifiedKFold(3, shuffle=True, random_state=seed))
        search.fit(X_train, y_train)
        scores = search.cv_results_["mean_test_score"]
        assert repeat.seed == seed
        assert repeat.validation_accuracy == pytest.approx(scores.max())
        if (scores > scores.max() - 1e-9).sum() == 1:
            assert repeat.params == {"gamma": "scale"} | {k[5:]: v for k, v in search.best_params_.items()} or (
                repeat.params == {k[5:]: v for k, v in search.best_params_.items()}
            )
            assert repeat.test["accuracy"] == search.score(X_test, y_test)
        accuracies.append(repeat.test["accuracy"])
    assert run.mean["accuracy"] == pytest.approx(np.mean(accuracies))
    assert run.deviation["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))


@pytest.mark.parametrize(("choose_by", "scoring"), [("roc_auc", "roc_auc"), ("macro_f1", "f1_macro")])
def test_the_choice_within_a_split_is_by_the_score_asked_for(store_path, tmp_path, choose_by, scoring):
    run = fit_repeats(store_path, "svm", tmp_path / "run", n_repeats=2, cv=3, grid=GRID, choose_by=choose_by)
    with featx.open(store_path) as store:
        X, y = store.matrix(), store.images["label"].to_numpy().astype(str)
    grid = {f"svc__{name}": values for name, values in GRID.items()}
    for repeat in run.repeats:
        X_train, _, y_train, _ = train_test_split(X, y, test_size=0.2, random_state=repeat.seed, stratify=y)
        folds = StratifiedKFold(3, shuffle=True, random_state=repeat.seed)
        search = GridSearchCV(
            make_pipeline(StandardScaler(), SVC()), grid, cv=folds, scoring=[scoring, "accuracy"], refit=False
        )
        results = search.fit(X_train, y_train).cv_results_
        best = int(results[f"mean_test_{scoring}"].argmax())
        assert repeat.validation_score == pytest.approx(results[f"mean_test_{scoring}"][best])
        assert repeat.validation_accuracy == pytest.approx(results["mean_test_accuracy"][best])
        chosen = {f"svc__{name}": value for name, value in repeat.params.items() if name in GRID}
        assert results[f"mean_test_{scoring}"][results["params"].index(chosen)] == pytest.approx(
            results[f"mean_test_{scoring}"][best]
        )
    table = pd.read_csv(tmp_path / "run" / "repeats.csv")
    assert table[f"validation {choose_by}"].tolist() == [repeat.validation_score for repeat in run.repeats]
    assert run.protocol["choose_by"] == choose_by


def test_a_score_that_can_not_be_had_is_refused_before_a_split(store_path, tmp_path):
    with pytest.raises(FeatxError, match="choose_by: log_loss is not defined for GramSVC"):
        fit_repeats(store_path, "svm", tmp_path / "run", n_repeats=1, choose_by="log_loss")
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_was_stopped_goes_on(store_path, tmp_path, monkeypatch):
    plain, seeds = RepeatsTask.score, []

    def counting(task, keys):
        for key in keys:
            seeds.append(task.options.seed + key[0])
            if len(seeds) == 3:
                raise KeyboardInterrupt
            yield from plain(task, [key])

    options = {"n_repeats": 4, "cv": 2, "grid": {"n_estimators": (3, 5)}}
    monkeypatch.setattr(RepeatsTask, "score", counting)
    with pytest.raises(KeyboardInterrupt):
        fit_repeats(store_path, "rf", tmp_path / "run", **options)
    run = fit_repeats(store_path, "rf", tmp_path / "run", **options)
    assert seeds == [0, 1, 2, 2, 3]
    assert {repeat.validation_score for repeat in run.repeats} == {repeat.validation_accuracy for repeat in run.repeats}
    assert [repeat.seed for repeat in run.repeats] == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(FeatxError, match="exists"):
        fit_repeats(store_path, "rf", tmp_path / "run", **options)


def test_splits_whose_cells_were_chosen_by_another_score_are_done_anew(store_path, tmp_path, monkeypatch):
    plain, n_fitted = RepeatsTask.score, []

    def stopping(task, keys):
        for key in keys:
            n_fitted.append(1)
            if len(n_fitted) == 2:
                raise KeyboardInterrupt
            yield from plain(task, [key])

    options = {"n_repeats": 2, "cv": 2, "grid": {"n_estimators": (3, 5)}}
    monkeypatch.setattr(RepeatsTask, "score", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit_repeats(store_path, "rf", tmp_path / "run", **options)
    run = fit_repeats(store_path, "rf", tmp_path / "run", **options, choose_by="log_loss")
    assert len(n_fitted) == 4
    assert all(repeat.validation_score != repeat.validation_accuracy for repeat in run.repeats)


def test_columns_to_stratify_by_keep_their_shares(store_path, tmp_path, monkeypatch):
    seen, plain = [], RepeatsTask.score

    def watching(task, keys):
        seen.extend(task.rows.paths[task.draw(number)[1]] for (number,) in keys)
        return plain(task, keys)

    monkeypatch.setattr(RepeatsTask, "score", watching)
    options = {"grid": {"n_estimators": (2,)}, "cv": 2, "n_repeats": 3, "test_share": 0.25}
    fit_repeats(store_path, "rf", tmp_path / "run", stratify=("label", "type"), **options)
    with featx.open(store_path) as store:
        images = store.images.set_index("path")
    for paths in seen:
        assert len(paths) == 25
        for label, group in images.groupby(["label", "type"]):
            share = (images.loc[paths, ["label", "type"]].apply(tuple, axis=1) == label).sum()
            assert abs(share - len(group) / 4) < 1
    with pytest.raises(FeatxError, match=r"stratify: .*: no column 'kind'"):
        fit_repeats(store_path, "rf", tmp_path / "other", stratify=("kind",), **options)


def test_weights_count_in_the_fit_and_beside_the_plain_figures(store_path, tmp_path):
    options = {"n_repeats": 2, "cv": 2, "grid": {"kernel": ("linear",), "C": (0.01,)}}
    run = fit_repeats(store_path, "svm", tmp_path / "run", sample_weight="weight", **options)
    for repeat in run.repeats:
        assert repeat.test_weighted["accuracy"] != repeat.test["accuracy"]
        assert (repeat.test["accuracy"] * 20) == pytest.approx(round(repeat.test["accuracy"] * 20))


def test_one_cell_leaves_nothing_to_choose(store_path, tmp_path):
    run = fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=2, cv=99, grid={"n_estimators": (3,)})
    assert [repeat.validation_accuracy for repeat in run.repeats] == [None, None]
    assert run.mean["accuracy"] > 0


def test_groups_stay_whole(store_path, tmp_path):
    import h5py

    path = tmp_path / "grouped.h5"
    path.write_bytes(store_path.read_bytes())
    with h5py.File(path, "a") as file:
        names = [f"g{row // 5}".encode() for row in range(100)]
        file["images/group"] = np.array(names, dtype=h5py.string_dtype("utf-8", 8))
    run = fit_repeats(path, "rf", tmp_path / "run", n_repeats=2, cv=2, grid={"n_estimators": (2,)})
    assert all(repeat.n_test % 5 == 0 for repeat in run.repeats)
    assert not any("miss the test share" in note for note in run.notes)


def test_a_test_share_that_whole_groups_miss_is_said(tmp_path):
    labels = [*"ab"] * 20
    features = {"block1_conv1": grouped_features(labels)}
    path = write_plain_store(
        tmp_path / "s.h5", features, labels, columns={"group": ["big"] * 30 + ["h", "h", *"ijklmnop"]}
    )
    run = fit_repeats(path, "rf", tmp_path / "run", n_repeats=3, cv=2, test_share=0.5, grid={"n_estimators": (2,)})
    assert {repeat.n_test for repeat in run.repeats} <= {10, 30}
    low, high = (found(repeat.n_test for repeat in run.repeats) / 40 for found in (min, max))
    expected = f"whole groups miss the test share of 50%: random splits test on {low:.1%} to {high:.1%} of the rows"
    assert expected in run.notes


def test_classes_too_small_for_the_folds_are_named(store_path, tmp_path):
    with pytest.raises(
        FeatxError, match=r"cv: the class '\w+' has \d+ rows to train on in .* of seed 0, fewer than 60 folds"
    ):
        fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=1, cv=60, grid={"n_estimators": (2, 3)})


@pytest.mark.parametrize(
    ("n_neighbors", "message"),
    [
        ((3,), "seed 0: the cell to score, n_neighbors=3 .*, failed with ValueError: on purpose"),
        ((3, 5), "seed 0: every cell failed; the first with ValueError: on purpose"),
    ],
)
def test_what_cells_fail_with_is_told(store_path, tmp_path, n_neighbors, message, monkeypatch):
    monkeypatch.setattr(KNeighborsClassifier, "fit", lambda self, X, y: (_ for _ in ()).throw(ValueError("on purpose")))
    with pytest.raises(FeatxError, match=message):
        fit_repeats(store_path, "knn", tmp_path / "run", n_repeats=1, cv=2, grid={"n_neighbors": n_neighbors})


def test_a_class_of_one_train_row_is_not_told_to_take_fewer_folds(store_path, tmp_path):
    options = {"n_repeats": 1, "train_per_class": 1, "grid": {"n_estimators": (2, 3)}}
    with pytest.raises(FeatxError, match=r"has 1 row to train on in .*, fewer than 5 folds. Add images of it"):
        fit_repeats(store_path, "rf", tmp_path / "run", **options)


@pytest.mark.parametrize(
    ("y", "groups", "share", "message"),
    [
        ("ab" * 6, "g" * 12, 0.2, r"seed 7: 1 group of 12 rows .*: none is left to (train|test) on.*--group-column ''"),
        ("aaaabb", "gggghh", 0.001, "2 groups of 6 rows .* none is left to test on. Give another `test_share`"),
        ("a" + "b" * 9, None, 0.2, "only one row has 'a', .* out with `where`"),
        ("aabbccddee", None, 0.1, "10 rows can't be split, 0.1 for test: .* no column to `stratify` by"),
    ],
)
def test_rows_that_can_not_be_split_say_what_to_do(y, groups, share, message):
    y = np.array(list(y), dtype=object)
    groups = None if groups is None else np.array(list(groups), dtype=object)
    rows = Rows(np.zeros((len(y), 1)), y, np.full(len(y), ""), np.arange(len(y)).astype(str), groups)
    with pytest.raises(FeatxError, match=message):
        draw_holdout(rows, y, share, 7)


def test_a_random_split_of_one_class_to_train_on_is_refused():
    y = np.array(["a", "b", "b", "b"], dtype=object)
    rows = Rows(np.zeros((4, 1)), y, np.full(4, ""), np.arange(4).astype(str))
    with pytest.raises(FeatxError, match=r"one class only .* `stratify` by label"):
        for seed in range(20):
            draw_holdout(rows, None, 0.5, seed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_repeats": 0}, "n_repeats: expected a whole number from 1 to 10000, found 0"),
        ({"n_repeats": 1, "train_per_class": 0}, "train_per_class: expected a whole number from 1, found 0"),
        ({"n_repeats": 2, "seed": 2**32 - 1}, "seed: split 2 would have the seed 4294967296; expected"),
        ({"n_repeats": 1, "cv": 1}, "cv: expected a whole number from 2 to 10000, found 1"),
        (
            {"n_repeats": 1, "stratify": ("label", "group")},
            "stratify: the column 'group' can't be used: a group is in train or in test",
        ),
    ],
)
def test_what_can_not_be_asked_for_is_said(store_path, tmp_path, options, message):
    with pytest.raises(FeatxError, match=message):
        fit_repeats(store_path, "rf", tmp_path / "run", grid={"n_estimators": (2, 3)}, **options)


def test_strata_of_one_row_are_named_by_their_values(store_path, tmp_path):
    with pytest.raises(FeatxError, match=r"only one row has '(ash|birch)' and '[0-9a-f]{64}', and .* 99 more"):
        fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=1, stratify=("label", "sha256"))


def test_the_command_prints_every_split_and_their_spread(store_path, tmp_path):
    options = ("--repeats", "3", "--stratify", "label,type", "--cv", "2", "--C", "0.1", "--where", 'type == "poly"')
    done = CliRunner().invoke(main, ["fit", "svm", str(store_path), "-o", str(tmp_path / "run"), *options])
    assert done.exit_code == 0, done.stderr
    assert "3 random splits, test accuracy 0." in done.stdout
    assert "75 of 100 images are used" in done.stderr
    record = json.loads((tmp_path / "run" / "repeats.json").read_text())
    assert record["featx_repeats"] == 1
    assert len(pd.read_csv(tmp_path / "run" / "repeats.csv")) == 3
    refused = CliRunner().invoke(
        main, ["fit", "svm", str(store_path), "-o", str(tmp_path / "other"), "--test-share", "0.3"]
    )
    assert refused.exit_code == 1
    assert "give --repeats too" in refused.stderr


def test_so_many_train_rows_a_class(store_path, tmp_path, monkeypatch):
    """Every split has them of each class, the others are test rows, and another seed draws others."""
    from featx.fit import repeats as repeats_task

    drawn = []
    plain = repeats_task.draw_per_class

    def note(*arguments):
        drawn.append(plain(*arguments))
        return drawn[-1]

    monkeypatch.setattr(repeats_task, "draw_per_class", note)
    grid = {"n_estimators": (5,)}
    run = fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=2, train_per_class=12, grid=grid, seed=1)
    with featx.open(store_path) as store:
        y = store.images["label"].to_numpy()
    # The first one says beforehand how large fits are.
    for train, test in drawn:
        assert sorted([*train, *test]) == list(range(100))
        assert np.unique(y[train], return_counts=True)[1].tolist() == [12, 12]
    assert not np.array_equal(drawn[1][0], drawn[2][0])
    assert [repeat.n_train for repeat in run.repeats] == [24, 24]
    assert run.protocol["train_per_class"] == 12
    assert "test_share" not in run.protocol


def test_train_rows_a_class_that_leave_nothing_to_test_on(store_path, tmp_path):
    with pytest.raises(FeatxError, match=r"the class '(ash|birch)' has .* rows, and 60 train rows per class"):
        fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=1, train_per_class=60)
    assert not (tmp_path / "run").exists()


def test_the_command_takes_train_rows_a_class(store_path, tmp_path):
    arguments = ("fit", "rf", str(store_path), "-o", str(tmp_path / "run"), "--n-estimators", "3")
    both = ("--repeats", "2", "--train-per-class", "9", "--json")
    done = CliRunner().invoke(main, [*arguments, *both])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["protocol"]["train_per_class"] == 9
    twice = CliRunner().invoke(main, [*arguments, *both, "--test-share", "0.3", "--overwrite"])
    assert "--test-share: not used with --train-per-class" in twice.stderr
    alone = CliRunner().invoke(main, [*arguments, "--train-per-class", "9", "--overwrite"])
    assert "give --repeats too" in alone.stderr


def test_shards_of_splits_give_the_run_that_one_process_gives(store_path, tmp_path):
    options = {"n_repeats": 5, "cv": 2, "grid": {"n_estimators": (3, 5)}}
    whole = fit_repeats(store_path, "rf", tmp_path / "whole", **options)
    shares = [
        repeat_share(store_path, "rf", tmp_path / "run", shard=Shard(number, 3), **options) for number in (1, 2, 3)
    ]
    assert sum(share.n_scored for share in shares) == 5
    run = fit_repeats(store_path, "rf", tmp_path / "run", **options)
    assert [replace(repeat, seconds=0) for repeat in run.repeats] == [replace(one, seconds=0) for one in whole.repeats]
    # Made by the shards, not again.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "whole"]
    assert (run.mean, run.notes) == (whole.mean, whole.notes)


def test_a_forest_answers_by_its_trees_in_their_order(store_path, tmp_path, monkeypatch):
    # Several threads would add the trees up as they come, and a tie be decided by the last digit.
    plain, n_threads = RandomForestClassifier.predict_proba, []

    def counting(forest, X):
        n_threads.append(forest.n_jobs)
        return plain(forest, X)

    monkeypatch.setattr(RandomForestClassifier, "predict_proba", counting)
    fit_repeats(store_path, "rf", tmp_path / "run", n_repeats=1, grid={"n_estimators": (3,)})
    assert n_threads
    assert set(n_threads) == {1}
