"""Dask clusters: what they give is what one process gives, and what goes wrong on them is told or made good."""

import os
import re
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import dask
import distributed
import numpy as np
import pytest
from click.testing import CliRunner
from samples import make_image, make_tree, small_recipe
from stub_network import NOTES, stand_in
from worker_tasks import die, die_once, die_shared, divide, nap, refuse, tell, whoami

import featx
from featx import FeatxError
from featx.cli import main
from featx.cluster import Cluster, KilledError, open_cluster, parse_address
from featx.cluster.open import check_workers, dask_settings
from featx.cluster.settings import ClusterSettings
from featx.errors import TakenError
from featx.extract import ExtractOptions, take_shard
from featx.extract.distributed import make_shard
from featx.extract.shards import extract_shard, shard_origin
from featx.finetune import fine_tune_all, name_runs
from featx.fit.journal import Journal
from featx.store import PartialStore
from featx.system import Shard

pytestmark = pytest.mark.cluster

OPTIONS = {"weights": "random", "image_size": 32, "batch_size": 4}
# Workers with the stand-in for the network; a task may take one worker along, and no second.
STUB_WORKERS = {"distributed.worker.preload": ["stub_worker"], "distributed.scheduler.allowed-failures": 1}


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A file in which workers note when they build a network."""
    path = tmp_path_factory.mktemp("notes") / "notes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NOTES, str(path))
        yield path


@contextmanager
def stub_workers(where):
    with ExitStack() as stack:
        # While they start, not for the clusters of other tests.
        with dask.config.set(STUB_WORKERS):
            cluster = stack.enter_context(open_cluster(where))
        yield cluster


@pytest.fixture(scope="module")
def pair(notes):
    """Two workers."""
    with stub_workers("local:2") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def single(notes):
    """One worker of one core."""
    with stub_workers("local:1") as cluster:
        yield cluster


@pytest.fixture
def stub():
    patches = stand_in()
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


@pytest.fixture
def photos(tmp_path):
    return make_tree(tmp_path / "photos", {"oak": 40, "pine": 30})


def read(root):
    return featx.make_splits(featx.read_source(root), (0.6, 0.2, 0.2))


def assert_equal(path, other):
    with featx.open(path) as one, featx.open(other) as two:
        assert np.array_equal(one.matrix(), two.matrix())
        assert one.images.equals(two.images)
        assert one.rejected.equals(two.rejected)
        assert one.attributes["paths_sha256"] == two.attributes["paths_sha256"]
        assert one.attributes["settings_sha256"] == two.attributes["settings_sha256"]


def test_extraction_on_two_workers_is_that_of_one_process(pair, stub, photos, tmp_path, notes):
    (photos / "oak" / "003.png").write_bytes(b"no image")
    manifest, before = read(photos), len(notes.read_text().split()) if notes.exists() else 0
    lines = []
    done = featx.extract_features(manifest, tmp_path / "shared.h5", cluster=pair, echo=lines.append, **OPTIONS)
    featx.extract_features(manifest, tmp_path / "alone.h5", **OPTIONS)
    assert_equal(tmp_path / "shared.h5", tmp_path / "alone.h5")
    assert (done.n_images, done.n_rejected, done.n_computed, done.n_resumed) == (69, 1, 69, 0)
    # Said once, though there are eight shards.
    assert [line for line in lines if "2 layers" in line] == ["vgg16, 2 layers, on cpu:stub by keras 0"]
    # Once a worker, not once a shard.
    assert 1 <= notes.read_text().split()[before:].count("built") <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.h5", "photos", "shared.h5"]


def test_a_first_image_that_is_nowhere_is_rejected_as_by_one_process(single, stub, photos, tmp_path):
    manifest = read(photos)
    (photos / "oak" / "000.png").unlink()
    assert manifest.table["path"].iloc[0] == "oak/000.png"
    # No file can have such a name, which asking for it raises.
    manifest.table.loc[1, "path"] = f"oak/{'x' * 300}.png"
    done = featx.extract_features(manifest, tmp_path / "shared.h5", cluster=single, **OPTIONS)
    featx.extract_features(manifest, tmp_path / "alone.h5", **OPTIONS)
    assert_equal(tmp_path / "shared.h5", tmp_path / "alone.h5")
    assert done.n_rejected == 2


def test_a_store_that_is_there_is_added_to_by_one_worker(pair, stub, photos, tmp_path):
    manifest = read(photos)
    featx.extract_features(manifest, tmp_path / "store.h5", layers="block1_conv1", **OPTIONS)
    lines = []
    featx.extract_features(manifest, tmp_path / "store.h5", cluster=pair, echo=lines.append, **OPTIONS)
    with featx.open(tmp_path / "store.h5") as store:
        assert len(store.layers) == 2
    assert "exists; one worker adds to it" in lines[0]
    with pytest.raises(FeatxError, match="leave `shard` or `cluster` out"):
        featx.extract_features(manifest, tmp_path / "x.h5", cluster=pair, shard=Shard(1, 2), **OPTIONS)


def test_a_lost_worker_is_replaced_and_its_shard_done_again(pair, stub, photos, tmp_path):
    make_image(photos / "oak" / "once.png", seed=7)
    manifest = read(photos)
    done = featx.extract_features(manifest, tmp_path / "store.h5", cluster=pair, **OPTIONS)
    assert (photos / "oak" / "met").exists()
    assert done.n_images == 71
    (photos / "oak" / "met").unlink()
    featx.extract_features(manifest, tmp_path / "alone.h5", **OPTIONS)
    assert_equal(tmp_path / "store.h5", tmp_path / "alone.h5")


def test_a_shard_that_kills_its_workers_is_named_and_the_others_kept(pair, stub, photos, tmp_path):
    make_image(photos / "oak" / "killer.png", seed=7)
    manifest, path = read(photos), tmp_path / "store.h5"
    with pytest.raises(FeatxError, match="the worker died 2 times while it ran") as caught:
        featx.extract_features(manifest, path, cluster=pair, **OPTIONS)
    listed = re.search(r"\(all: (.*?)\)", str(caught.value))[1]
    names = open(listed).read().split()  # noqa: SIM115, PTH123
    assert str(photos / "oak" / "killer.png") in names
    assert len(names) < 20
    assert names[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.glob("store.shard-*.h5"))) == 7
    # Mended, the same call goes on.
    (photos / "oak" / "mended").touch()
    done = featx.extract_features(manifest, path, cluster=pair, **OPTIONS)
    assert done.n_images == 71
    assert done.n_computed == len(names)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["photos", "store.h5"]


def test_two_writers_never_share_a_shard(pair, stub, photos, tmp_path):
    manifest, path = read(photos), tmp_path / "store.h5"
    shard = PartialStore(Shard(3, 8).path_of(path))
    waited = []

    def hold():
        with shard.lock():
            held.set()
            while len(list(tmp_path.glob("store.shard-*.h5"))) < 7 and not over.wait(0.1):
                pass
            waited.append(sorted(tmp_path.glob("store.shard-*.h5")))

    held, over, other = threading.Event(), threading.Event(), threading.Thread(target=hold)
    other.start()
    held.wait()
    try:
        featx.extract_features(manifest, path, cluster=pair, **OPTIONS)
    finally:
        over.set()
        other.join()
    # All but the one that was held.
    assert [found.name for found in waited[0]] == [
        Shard(number, 8).path_of(path).name for number in (1, 2, 4, 5, 6, 7, 8)
    ]
    featx.extract_features(manifest, tmp_path / "alone.h5", **OPTIONS)
    assert_equal(path, tmp_path / "alone.h5")


def test_a_worker_s_network_is_of_the_weights_as_they_are(single, stub, photos, tmp_path, notes, monkeypatch):
    # Named from here, though workers were started elsewhere.
    monkeypatch.chdir(tmp_path)
    manifest, weights = read(photos), tmp_path / "own.weights.h5"
    built = []
    for number, content in enumerate(["first", "first", "second"]):
        weights.write_text(content)
        before = len(notes.read_text().splitlines()) if notes.exists() else 0
        featx.extract_features(manifest, f"{number}.h5", cluster=single, **OPTIONS | {"weights": weights.name})
        built.append([line for line in notes.read_text().splitlines()[before:] if line.startswith("built")])
    assert built == [[f"built {weights}"], [], [f"built {weights}"]]


def test_a_shard_is_made_once_though_a_store_is_overwritten(stub, photos, tmp_path, monkeypatch):
    (photos / "oak" / "003.png").write_bytes(b"no image")
    manifest, path, shard = read(photos), tmp_path / "store.h5", Shard(1, 2)
    request = ExtractOptions(weights="random", image_size=32, batch_size=4)
    origin = shard_origin(manifest, asdict(request))
    arguments = (take_shard(manifest, shard), path, request, shard, origin, None, True, 60.0)
    calls = []

    def finished_by_another(*arguments, **options):
        calls.append(extract_shard(*arguments, **options))
        raise TakenError("another featx is writing this store")

    with monkeypatch.context() as patch:
        patch.setattr("featx.extract.distributed.keep_on_worker", lambda key, make: make())
        patch.setattr("featx.extract.distributed.extract_shard", finished_by_another)
        patch.setattr("featx.cluster.worker._LOOK_SECONDS", 0)
        done = make_shard(*arguments, echo=list)
        assert (len(calls), calls[0].n_computed, done.n_computed) == (1, 35, 0)
        # What was mended, and no more.
        make_image(photos / "oak" / "003.png", seed=3)
        done = make_shard(*arguments, echo=list)
        assert (len(calls), done.n_computed, done.n_images) == (1, 1, 36)


def test_shards_that_lie_there_say_how_images_are_divided(pair, stub, photos, tmp_path):
    manifest, lines = read(photos), []
    featx.extract_features(manifest, tmp_path / "x.h5", shard=Shard(1, 2), **OPTIONS)
    done = featx.extract_features(manifest, tmp_path / "x.h5", cluster=pair, echo=lines.append, **OPTIONS)
    assert any("stay divided into 2 shards" in line and "else there would be 8" in line for line in lines)
    assert (done.n_images, done.n_computed, done.n_resumed) == (70, 34, 36)


def test_a_stopped_run_goes_on(pair, stub, photos, tmp_path):
    def stop(line):
        raise KeyboardInterrupt

    manifest, path = read(photos), tmp_path / "store.h5"
    with pytest.raises(featx.errors.StoppedError, match="Run the same command again"):
        featx.extract_features(manifest, path, cluster=pair, echo=stop, **OPTIONS)
    done = featx.extract_features(manifest, path, cluster=pair, **OPTIONS)
    assert done.n_images == 70
    assert done.n_resumed > 0
    # A store is overwritten by its shards, and those of the same stopped run are kept.
    with pytest.raises(featx.errors.StoppedError):
        featx.extract_features(manifest, path, cluster=pair, overwrite=True, echo=stop, **OPTIONS)
    again = featx.extract_features(manifest, path, cluster=pair, overwrite=True, **OPTIONS)
    assert again.n_resumed > 0
    assert sorted(found.name for found in tmp_path.iterdir()) == ["photos", "store.h5"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_merge_that_was_stopped_is_finished(pair, stub, photos, tmp_path, monkeypatch, overwrite):
    def stop(*arguments):
        raise KeyboardInterrupt

    manifest, path = read(photos), tmp_path / "store.h5"
    if overwrite:
        featx.extract_features(manifest, path, layers="block1_conv1", **OPTIONS)
    options = {"cluster": pair, "overwrite": overwrite, **OPTIONS}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("featx.extract.merge._delete", stop)
        featx.extract_features(manifest, path, **options)
    assert len(list(tmp_path.glob("store.shard-*.h5"))) == 8
    done = featx.extract_features(manifest, path, **options)
    assert (done.n_images, done.n_features, done.n_computed) == (70, 308, 0)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["photos", "store.h5"]


def test_too_many_unreadable_images_end_all_shards(pair, stub, photos, tmp_path):
    for name in ("001", "020", "039"):
        (photos / "oak" / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(FeatxError, match="`max_rejected` allows 2") as caught:
        featx.extract_features(read(photos), tmp_path / "x.h5", cluster=pair, max_rejected=2, **OPTIONS)
    assert "3 of 70 images" in str(caught.value)
    for wrong in (1.5, -0.5, -1):
        with pytest.raises(FeatxError, match="max_rejected: expected"):
            featx.extract_features(read(photos), tmp_path / "y.h5", cluster=pair, max_rejected=wrong, **OPTIONS)


def share(cluster, function, shared, *calls):
    """Return what each call of a function of something shared gives."""
    tasks = [(str(number), call) for number, call in enumerate(calls)]
    outcomes = dict(cluster.run(function, tasks, shared=shared))
    return [outcomes[key] for key, _ in tasks]


def test_tasks_run_on_workers_even_with_one_of_one_core(single, pair):
    for cluster, most in ((single, 1), (pair, 2)):
        answers = share(cluster, tell, np.ones(100_000), *[(number,) for number in range(7)])
        assert [answer.result[1:] for answer in answers] == [(number, 800_000) for number in range(7)]
        pids = {answer.pid for answer in answers}
        assert os.getpid() not in pids
        assert len(pids) <= most
        answers = dict(cluster.run(whoami, [(str(number), (number,)) for number in range(5)]))
        assert {key: (answer.result, answer.lines) for key, answer in answers.items()} == {
            str(number): (number, ("here",)) for number in range(5)
        }
        assert os.getpid() not in {answer.pid for answer in answers.values()}


def test_what_is_shared_goes_to_a_worker_once(single, monkeypatch):
    sizes, n_sent = [], []
    submit, scatter = single.client.submit, single.client.scatter

    def measure(*arguments, **options):
        sizes.append(len(distributed.protocol.pickle.dumps((arguments, options))))
        return submit(*arguments, **options)

    monkeypatch.setattr(single.client, "submit", measure)
    monkeypatch.setattr(single.client, "scatter", lambda *a, **options: (n_sent.append(1), scatter(*a, **options))[1])
    share(single, tell, np.ones(1_000_000), *[(number,) for number in range(6)])
    assert (len(sizes), len(n_sent)) == (6, 1)
    assert max(sizes) < 10_000


def test_what_is_shared_is_sent_again_where_its_last_worker_is_lost(single, tmp_path):
    answers = share(single, die_once, np.ones(1000), *[(number, tmp_path / "met") for number in range(4)])
    assert [answer.result for answer in answers] == [1000.0 * number for number in range(4)]


def test_errors_of_workers_are_the_same_here(single, capfd):
    ((_, error),) = single.run(refuse, [("key", ())])
    assert (type(error), str(error)) == (featx.errors.StoreError, "no such luck")
    with pytest.raises(ZeroDivisionError):
        share(single, divide, np.ones(3), ())
    ((_, killed),) = single.run(die, [("key", ())])
    assert isinstance(killed, KilledError)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        (killed,) = share(single, die_shared, np.ones(3), ())
    assert isinstance(killed, KilledError)
    out, err = capfd.readouterr()
    assert out + err == ""


def test_workers_that_see_other_files_or_are_of_other_versions_are_named(single, tmp_path, monkeypatch):
    ((_, error),) = single.run(whoami, [("key", (1,))], paths=[tmp_path, tmp_path / "nowhere" / "a.png"])
    assert re.search(rf"the worker on \S+ doesn't see {tmp_path}/nowhere/a.png: put it on a file system", str(error))
    wanted = {"featx": "0.0.1", "python": "2.7", "dask": dask.__version__, "distributed": distributed.__version__}
    for module in ("cluster.open", "cluster.tasks"):
        monkeypatch.setattr(f"featx.{module}.required_versions", lambda: wanted)
    with pytest.raises(
        FeatxError, match=rf"has featx {featx.__version__}, python 3.\d+; expected featx 0.0.1, python 2.7"
    ):
        check_workers(single.client, single.address)
    ((_, error),) = single.run(whoami, [("key", (1,))])
    assert re.search(rf"the worker on \S+ has featx {featx.__version__}, python", str(error))


@pytest.fixture(scope="module")
def running():
    """A scheduler and a worker of two threads, as somebody else may have started them."""
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        yield cluster


def test_a_running_scheduler_is_used_and_left_running(running):
    address, settings = running.scheduler_address, ClusterSettings(wait=1)
    with pytest.raises(FeatxError, match="has 2 threads; start workers with --nthreads 1"), open_cluster(address):
        pass
    running.scale(0)
    running.sync(running._correct_state)
    lines = []
    with (
        pytest.raises(FeatxError, match=r"no worker of tcp://\S+ for 2 seconds: start some"),
        open_cluster(address, ClusterSettings(wait=2), echo=lines.append),
    ):
        pass
    assert lines == [f"waiting for a worker of {address}, up to 2 seconds"]
    running.worker_spec.clear()
    running.new_spec["options"]["nthreads"] = 1
    running.scale(1)
    with open_cluster(address, ClusterSettings(wait=20)) as cluster:
        assert [answer.result for _, answer in cluster.run(whoami, [("a", (1,)), ("b", (2,))])] == [1, 2]
    assert running.status is distributed.Status.running
    with (
        pytest.raises(FeatxError, match=r"no scheduler answers at tcp://127.0.0.1:9 within 1 sec"),
        open_cluster("tcp://127.0.0.1:9", settings),
    ):
        pass


def test_a_scheduler_that_is_waited_for_is_named():
    address, lines = "tcp://127.0.0.1:9", []
    with (
        pytest.raises(FeatxError, match=r"no scheduler answers at tcp://127.0.0.1:9 within 2 sec"),
        open_cluster(address, ClusterSettings(wait=2), echo=lines.append),
    ):
        pass
    assert lines == [f"waiting for the scheduler at {address}, up to 2 seconds"]


@pytest.mark.parametrize("is_own", [True, False])
def test_without_workers_work_ends_in_words(is_own):
    # A scheduler of featx's own gives up by itself; one that runs elsewhere may wait for ever.
    limit = {"distributed.scheduler.no-workers-timeout": "1s" if is_own else None}
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with ExitStack() as stack:
        with dask.config.set(limit):
            cluster = stack.enter_context(distributed.LocalCluster(n_workers=0, **options))
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        workers = Cluster(client, parse_address("tcp://h:1"), ClusterSettings(wait=1), 1)
        with pytest.raises(FeatxError, match="no worker of tcp://h:1 for 1 seconds: start some"):
            list(workers.run(whoami, [("key", (1,))]))
        with pytest.raises(FeatxError, match="no worker of tcp://h:1 for 1 seconds: start some"):
            share(workers, tell, np.ones(3), (1,))


def test_a_scheduler_that_goes_away_is_one_line(capfd):
    program = """if True:
        import time
        from distributed import LocalCluster
        options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, **options)
        print(cluster.scheduler_address, flush=True)
        time.sleep(100)
    """
    command = [sys.executable, "-W", "ignore", "-c", program]
    folder = Path(__file__).parents[1] / "support"
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{folder.parents[1]}"}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **quiet) as process:
        try:
            address = process.stdout.readline().strip()
            # How long dask tries to reach it again is dask's own setting.
            short = {"distributed.comm.timeouts.connect": "3s"}
            with dask.config.set(short), open_cluster(address) as cluster:
                answers = cluster.run(nap, [("a", (0,)), ("b", (60,))])
                assert next(answers)[1].result == 0
                process.kill()
                with pytest.raises(FeatxError, match=r"the scheduler at .* is gone, or has dropped this work"):
                    next(answers)
        finally:
            process.kill()
    out, err = capfd.readouterr()
    assert out + err == ""


def test_a_wall_time_that_ends_is_a_lost_worker(monkeypatch):
    short = {"distributed.worker.lifetime.duration": "3s", "distributed.deploy.lost-worker-timeout": "1s"}
    with dask.config.set(short):
        # No sooner is a worker called lost that may only be slow.
        assert dask_settings(dask, ClusterSettings(wait=1))["distributed.deploy.lost-worker-timeout"] == "10s"
        monkeypatch.setattr("featx.cluster.open._LOST_SECONDS", 1)
        with open_cluster("local:1", uses_gpus=False) as cluster:
            answers = [answer for _, answer in cluster.run(nap, [(str(n), (1,)) for n in range(5)])]
    assert [answer.result for answer in answers] == [1] * 5
    assert len({answer.pid for answer in answers}) >= 2


GRIDS = {
    "rf": {"n_estimators": (2, 5), "min_samples_leaf": (1, 4)},
    "svm": {"kernel": ("linear", "rbf"), "C": (0.1, 1.0)},
}


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    manifest = read(make_tree(folder / "photos", {"oak": 40, "pine": 30}))
    patches = stand_in()
    for patch in patches:
        patch.start()
    featx.extract_features(manifest, folder / "store.h5", **OPTIONS)
    for patch in patches:
        patch.stop()
    return folder / "store.h5"


@pytest.mark.parametrize("model", GRIDS)
def test_grids_on_workers_are_those_of_one_process(pair, store_path, tmp_path, model):
    options = {"grid": GRIDS[model], "cv": 2, "discretize": "both"}
    alone = featx.fit_grid(store_path, model, tmp_path / "alone", **options)
    run = featx.fit_grid(store_path, model, tmp_path / "pair", cluster=pair, **options)
    cells, expected = ([asdict(cell) | {"seconds": 0} for cell in one.cells] for one in (run, alone))
    assert cells == expected
    assert (run.chosen, run.test) == (alone.chosen, alone.test)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "pair"]


def test_gram_matrices_have_to_fit_into_each_worker(pair, single, store_path, tmp_path, monkeypatch):
    assert 0 < pair.memory_each() < 0.75 * single.memory_each()
    # Room for the features, and for a part of the matrices.
    monkeypatch.setattr(pair, "memory_each", lambda: 70 * 308 * 4 + 10_000)
    options = {"grid": {"kernel": ("linear",)}, "cluster": pair}
    assert featx.fit_grid(store_path, "svm", tmp_path / "one", **options).model == "svm-large"
    run = featx.fit_repeats(store_path, "svm", tmp_path / "many", n_repeats=1, cv=2, **options)
    assert run.model == "svm-large"


def test_random_splits_on_workers_are_those_of_one_process(pair, store_path, tmp_path):
    options = {"n_repeats": 3, "grid": GRIDS["svm"], "cv": 2}
    alone = featx.fit_repeats(store_path, "svm", tmp_path / "alone", **options)
    run = featx.fit_repeats(store_path, "svm", tmp_path / "pair", cluster=pair, **options)
    assert [asdict(repeat) | {"seconds": 0} for repeat in run.repeats] == [
        asdict(repeat) | {"seconds": 0} for repeat in alone.repeats
    ]


def test_a_grid_goes_on_from_what_workers_have_scored(pair, store_path, tmp_path, monkeypatch):
    options = {"grid": GRIDS["rf"], "cv": 2, "cluster": pair}
    journal, add = tmp_path / "run.cells.jsonl", Journal.add

    def stop(self, key, record):
        add(self, key, record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("featx.fit.journal.Journal.add", stop)
        featx.fit_grid(store_path, "rf", tmp_path / "run", **options)
    assert len(journal.read_text().splitlines()) == 2
    run = featx.fit_grid(store_path, "rf", tmp_path / "run", **options)
    assert len(run.cells) == 4
    assert not journal.exists()


def test_the_command_line_on_a_cluster(photos, tmp_path):
    (tmp_path / "settings.yaml").write_text("wait: 50\nshard_size: 16\n")
    (photos / "oak" / "002.png").write_bytes(b"no image")
    arguments = ["extract", photos, "-o", tmp_path / "s.h5", "--weights", "random", "--image-size", 32]
    arguments += ["--cluster", "local:1", "--cluster-settings", tmp_path / "settings.yaml"]
    with dask.config.set(STUB_WORKERS):
        done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "69 images" in done.output
    assert "1 rejected" in done.output


def test_what_can_be_refused_at_once_waits_for_no_cluster(store_path, photos, tmp_path):
    (tmp_path / "taken").mkdir()
    fit = ["fit", "rf", store_path, "-o", tmp_path / "run"]
    finetune = ["finetune", store_path, "--recipe", "mame-i", "-o", tmp_path / "run"]
    nowhere, extract = tmp_path / "nowhere", ["extract", photos, "--weights", "random", "-o"]
    refusals = [
        ([*fit[:2], nowhere / "x.h5", "-o", tmp_path / "run"], "no such store"),
        ([*fit[:-1], tmp_path / "taken"], "holds no run|exists"),
        ([*fit, "--where", "kind == 'a'"], "kind"),
        ([*fit, "--repeats", "2", "--label", "kind"], "no column 'kind'"),
        ([*finetune[:1], nowhere / "x.h5", *finetune[2:]], "no such store"),
        ([*finetune[:-1], tmp_path / "taken"], "holds no run|exists"),
        ([*finetune, "--recipe", "mame-iii", "--split-column", "kind"], "no column 'kind'"),
        ([*extract, nowhere / "x.h5"], "doesn't exist; make it first"),
        ([*extract, tmp_path / "taken"], "a folder; give the name"),
        ([*extract, tmp_path / f"{'x' * 300}.h5"], "File name too long; give another name"),
    ]
    for arguments, said in refusals:
        # There is no scheduler there: it would have been the first thing to say.
        done = CliRunner().invoke(main, [*map(str, arguments), "--cluster", "tcp://127.0.0.1:9"])
        assert done.exit_code == 1
        assert re.search(rf"^featx: [^\n]*({said})[^\n]*\n$", done.output), done.output


def test_real_networks_on_a_worker(tuned_store, tmp_path):
    recipes = name_runs([str(small_recipe(tmp_path / f"{name}.yaml", name=name)) for name in "ab"], tmp_path / "runs")
    changes = {"epochs": 1}
    with open_cluster("local:1") as cluster:
        runs = fine_tune_all(tuned_store, recipes, changes=changes, cluster=cluster)
    assert [path.name for path in runs] == ["a", "b"]
    assert all(run.is_finetuned and (path / "network.weights.h5").exists() for path, run in runs.items())
    lines = []
    assert fine_tune_all(tuned_store, recipes, changes=changes, echo=lines.append) == runs
    assert lines == [f"{path}: exists" for path in runs]
