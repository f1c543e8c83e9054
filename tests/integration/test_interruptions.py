"""Whatever stops an extraction, the next one ends with the features of an undisturbed run."""

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import filelock
import numpy as np
import pytest
from samples import make_tree
from stub_network import DELAY, NOTES, features_of, stand_in

import featx
from featx import FeatxError
from featx.images import read_picture
from featx.store import PartFiles, PartialStore

SUPPORT = Path(__file__).parents[1] / "support"
OPTIONS = {"weights": "random", "layers": "all", "image_size": 32, "batch_size": 4}
COMMAND = ("--weights", "random", "--image-size", "32", "--batch-size", "4")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, mounts and forks are of POSIX")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_tree(tmp_path_factory.mktemp("photos"), {"ash": 60, "birch": 50, "cedar": 50})


@pytest.fixture
def stub():
    """Put the stand-in where the network would be; gives the stack, for patches of one's own."""
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        yield stack


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store.h5"
    with ExitStack() as stack:
        for patch in stand_in():
            stack.enter_context(patch)
        featx.extract_features(featx.read_source(photos), path, **OPTIONS)
    return path


def content_of(path):
    with featx.open(path) as store:
        return store.matrix().tobytes(), store.images.to_csv(), store.rejected.to_csv()


def extract(photos, path, **options):
    return featx.extract_features(featx.read_source(photos), path, **OPTIONS | options)


def start_featx(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / "stub_network.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )


def test_the_stand_in_tells_images_apart(photos, undisturbed):
    with featx.open(undisturbed) as store:
        X, images = store.matrix(), store.images
    assert len(np.unique(X, axis=0)) == 160
    picture = read_picture(photos / images["path"][77], image_size=32, resize="squash", interpolation="bilinear")
    expected = np.concatenate([values[0] for values in features_of(picture.pixels[None]).values()])
    assert np.array_equal(X[77], expected)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "n_steps", "n_kills"), [("addition", 2, 30), ("shards", 4, 12)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(how, n_steps, n_kills, tmp_path):
    photos = make_tree(tmp_path / "photos", {"ash": 20, "birch": 20, "cedar": 20})
    (tmp_path / "stores").mkdir()
    command = [
        sys.executable,
        SUPPORT / "kill_and_resume.py",
        how,
        photos,
        tmp_path / "stores" / "store.h5",
        str(n_kills),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    result = json.loads(done.stdout)
    assert result["codes"] == [0] * n_steps, done.stderr
    assert result["n_killed"] == n_kills
    assert result["n_whole"] >= 1
    assert result["n_different"] == 0
    assert result["left"] == ["undisturbed.h5"]


def test_sigterm_commits_the_batch_in_hand(photos, undisturbed, tmp_path):
    path, notes = tmp_path / "store.h5", tmp_path / "notes"
    process = start_featx("extract", photos, "-o", path, *COMMAND, **{DELAY: "0.15", NOTES: str(notes)})
    while process.poll() is None and (not notes.exists() or notes.read_text().count("begun") < 3):
        time.sleep(0.01)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    n_begun = notes.read_text().count("begun")
    assert process.returncode == 143, stderr
    assert n_begun == notes.read_text().count("done") < 40
    stopped = [line for line in stderr.splitlines() if line.startswith("featx: stopped: ")]
    assert stopped[0].startswith(f"featx: stopped: {4 * n_begun} of 160 images are done and kept in ")
    assert "Traceback" not in stderr
    again = start_featx("extract", photos, "-o", path, *COMMAND)
    assert again.wait(60) == 0
    assert content_of(path) == content_of(undisturbed)


def test_sigterm_before_the_first_batch_and_a_second_one(photos, tmp_path):
    """The first waits for a batch that takes minutes; the second doesn't."""
    path, notes = tmp_path / "store.h5", tmp_path / "notes"
    process = start_featx("extract", photos, "-o", path, *COMMAND, **{DELAY: "100", NOTES: str(notes)})
    while process.poll() is None and not notes.exists():
        time.sleep(0.01)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "featx: stopped: 0 of 160 images" in stderr


def test_the_second_process_is_told_who_writes(photos, tmp_path):
    path, notes = tmp_path / "store.h5", tmp_path / "notes"
    first = start_featx("extract", photos, "-o", path, *COMMAND, **{DELAY: "1", NOTES: str(notes)})
    while first.poll() is None and not notes.exists():
        time.sleep(0.01)
    _, stderr = (second := start_featx("extract", photos, "-o", path, *COMMAND)).communicate(timeout=60)
    first.kill()
    first.wait()
    assert second.returncode == 1
    assert f"featx: {path}: another featx is writing this store (process {first.pid} on " in stderr


def mount(*arguments):
    """Return why it didn't work, or nothing."""
    if shutil.which("mount") is None:
        return "there is no program called mount"
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stderr.strip() if done.returncode else ""


def unmount(folder):
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if problem := mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", folder):
        pytest.skip(f"a small disk can't be mounted here: {problem}")
    yield folder
    unmount(folder)


def fill(folder, n_left):
    """Leave so many bytes of a disk."""
    with (folder / "filler").open("wb") as file:
        file.write(b"x" * max(0, shutil.disk_usage(folder).free - n_left))


@pytest.mark.parametrize(
    ("n_batches", "n_left", "message"),
    [(20, 0, "images are done and kept; fix it"), (40, 60_000, "All features are kept in the parts")],
)
def test_a_disk_that_fills_up(photos, undisturbed, small_disk, stub, monkeypatch, n_batches, n_left, message):
    from stub_network import StubNetwork

    path = small_disk / "store.h5"
    plain, seen = StubNetwork.__call__, []

    def filling(self, pixels):
        seen.append(len(pixels))
        if len(seen) == n_batches:
            # What is handed to the writer is on disk, or isn't: let it be.
            time.sleep(0.2)
            fill(small_disk, n_left)
        return plain(self, pixels)

    with monkeypatch.context() as patch, pytest.raises(FeatxError, match=rf"writing failed \(No space left.*{message}"):
        patch.setattr(StubNetwork, "__call__", filling)
        extract(photos, path)
    assert not path.exists()
    (small_disk / "filler").unlink()
    assert extract(photos, path).n_images == 160
    assert content_of(path) == content_of(undisturbed)


def interrupted(photos, path, stub, n_batches):
    """Leave the parts of a run that was stopped after so many batches."""
    from stub_network import StubNetwork

    plain, seen = StubNetwork.__call__, []

    def stopping(self, pixels):
        seen.append(1)
        if len(seen) > n_batches:
            raise KeyboardInterrupt
        return plain(self, pixels)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(FeatxError, match="stopped"):
        patch.setattr(StubNetwork, "__call__", stopping)
        extract(photos, path)


def test_parts_cut_short_or_with_flipped_bits(photos, undisturbed, stub, tmp_path):
    """Each is found, whatever byte it is; one whose content is as it was may stay."""
    path = tmp_path / "store.h5"
    interrupted(photos, path, stub, 39)
    folder = PartialStore(path)
    kept = {part.name: part.read_bytes() for part in folder.path.glob("rows-*.npz")}
    widths = {"block1_conv1": 8, "block1_conv2": 300}
    chance = random.Random(0)  # noqa: S311
    plain = {span: folder.load(*span) for span in folder.read(widths)}
    n_found = 0
    for trial in range(300):
        name = chance.choice(sorted(kept))
        data = bytearray(kept[name])
        if trial % 10:
            place = chance.randrange(len(data))
            # Half of them where the names and places of arrays stand.
            place = len(data) - 1 - place % 700 if trial % 2 else place
            data[place] ^= 1 << chance.randrange(8)
        else:
            del data[chance.randrange(len(data)) :]
        (folder.path / name).write_bytes(data)
        spans = PartFiles(folder.path).read(widths)
        n_found += len(spans) < len(plain)
        for span in spans:
            found, expected = folder.load(*span), plain[span]
            assert found.rejected == expected.rejected
            assert np.array_equal(found.rows, expected.rows)
            assert np.array_equal(found.sha256, expected.sha256)
            for layer, values in expected.features.items():
                assert np.array_equal(found.features[layer], values)
        for part_name, part in kept.items():
            (folder.path / part_name).write_bytes(part)
    assert n_found > 200
    first, second = sorted(kept)[:2]
    (folder.path / first).write_bytes(kept[first][:-200])
    (folder.path / second).write_bytes(kept[second].replace(b"\x00\x00\x80", b"\x00\x01\x80", 1)[:-1] + b"?")
    assert extract(photos, path).n_resumed < 156
    assert content_of(path) == content_of(undisturbed)


def test_ten_readers_while_it_is_added_to(photos, undisturbed, stub, tmp_path):
    """Every one sees the store before or after an addition, whole."""
    path = tmp_path / "store.h5"
    manifest = featx.read_source(photos)
    expected = dict(zip(manifest.table["path"], content_rows(undisturbed), strict=True))
    part = manifest.table.iloc[:40].reset_index(drop=True)
    featx.extract_features(featx.Manifest(part, manifest.root), path, **OPTIONS)
    readers = [fork_reader(path, expected, tmp_path / "over") for _ in range(10)]
    for n_images in (80, 120, 160):
        part = manifest.table.iloc[:n_images].reset_index(drop=True)
        featx.extract_features(featx.Manifest(part, manifest.root), path, **OPTIONS)
    (tmp_path / "over").touch()
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in readers] == [0] * 10
    assert content_of(path) == content_of(undisturbed)


def content_rows(path):
    with featx.open(path) as store:
        return list(store.matrix())


def fork_reader(path, expected, over):
    """Read again and again, at least once after the end, and exit with 0 if every row was its image's."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        is_last = False
        while True:
            with featx.open(path) as store:
                pairs = list(zip(store.images["path"], store.matrix(), strict=True))
            if not all(np.array_equal(expected[name], row) for name, row in pairs):
                break
            if is_last:
                code = 0 if len(pairs) == 160 else 2
                break
            is_last = over.exists()
            time.sleep(0.1)
    finally:
        os._exit(code)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(photos, undisturbed, stub, tmp_path, monkeypatch, number):
    """What flock answers there; the switch works without it, and refuses a second writer."""

    def without_locks(*arguments):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "store.h5"
    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(FeatxError, match=r"store\.h5\.parts.lock: can't be locked .*set FEATX_LOCKS=files"):
        extract(photos, path)
    monkeypatch.setenv("FEATX_LOCKS", "files")
    message = r"another featx is writing .*; if it is gone, delete .*parts.lock\.file$"
    with PartialStore(path).lock(), pytest.raises(FeatxError, match=message):
        extract(photos, path)
    extract(photos, path)
    assert content_of(path) == content_of(undisturbed)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store.h5"]


def test_a_lock_file_of_a_process_that_was_killed_is_taken_over(photos, tmp_path):
    path, notes = tmp_path / "store.h5", tmp_path / "notes"
    variables = {"FEATX_LOCKS": "files"}
    first = start_featx("extract", photos, "-o", path, *COMMAND, **variables, **{DELAY: "1", NOTES: str(notes)})
    while first.poll() is None and not notes.exists():
        time.sleep(0.01)
    second = start_featx("extract", photos, "-o", path, *COMMAND, **variables)
    assert second.wait(60) == 1
    first.kill()
    first.wait()
    assert isinstance(filelock.SoftFileLock(tmp_path / "store.h5.parts" / "lock.file").pid, int)
    third = start_featx("extract", photos, "-o", path, *COMMAND, **variables)
    assert third.wait(60) == 0, third.stderr.read()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_can_not_flush_folders(photos, undisturbed, stub, tmp_path, monkeypatch, number):
    plain, refused = os.fsync, []

    def of_files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refused.append(descriptor)
            raise OSError(number, os.strerror(number))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_alone)
    extract(photos, tmp_path / "store.h5")
    assert refused
    assert content_of(tmp_path / "store.h5") == content_of(undisturbed)


def test_a_store_that_can_not_be_moved_into_place(photos, undisturbed, stub, tmp_path, monkeypatch):
    path = tmp_path / "store.h5"

    def refuse(self, store_path):
        raise PermissionError(errno.EACCES, "Permission denied", str(store_path))

    with monkeypatch.context() as patch:
        patch.setattr(PartialStore, "publish", lambda self, whole_path: refuse(self, path))
        with pytest.raises(FeatxError, match=r"store\.h5: can't be read or written \(Permission denied\)\. .* kept in"):
            extract(photos, path)
    assert extract(photos, path).n_resumed == 160
    assert content_of(path) == content_of(undisturbed)


def test_a_switch_that_is_none(photos, tmp_path, stub, monkeypatch):
    monkeypatch.setenv("FEATX_LOCKS", "maybe")
    with pytest.raises(FeatxError, match="FEATX_LOCKS=maybe: expected system or files"):
        extract(photos, tmp_path / "store.h5")
    assert not (tmp_path / "store.h5.parts").exists()


def test_images_are_only_read(photos, undisturbed, stub, tmp_path):
    """A folder that can't be written is as good as another."""
    folder = tmp_path / "photos"
    folder.mkdir()
    if problem := mount("--bind", photos, folder):
        pytest.skip(f"a folder can't be mounted read-only here: {problem}")
    try:
        assert not mount("-o", "remount,ro,bind", folder)
        with pytest.raises(OSError, match="Read-only"):
            (folder / "x").touch()
        extract(folder, tmp_path / "store.h5")
    finally:
        unmount(folder)
    assert content_of(tmp_path / "store.h5") == content_of(undisturbed)


def test_temporary_files_lie_beside_the_store(photos, undisturbed, stub, tmp_path, monkeypatch):
    """The temporary folder may be on another file system, or not there at all."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "store.h5"
    extract(photos, path)
    assert content_of(path) == content_of(undisturbed)


def test_a_clock_that_jumps(photos, undisturbed, stub, tmp_path, monkeypatch):
    """Hours back and forth at every look change neither features nor speeds."""
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 + (next(jumps) % 7 - 3) * 3600)
    path = tmp_path / "store.h5"
    interrupted(photos, path, stub, 20)
    done = extract(photos, path, log_every=0.001)
    assert content_of(path) == content_of(undisturbed)
    assert done.n_resumed == 80
    assert 0 < done.seconds < 60
    assert done.images_per_second > 1


def test_paths_over_a_thousand_characters(photos, stub, tmp_path):
    folder = tmp_path / "photos"
    deep = Path("ash", *(f"{level:02d}{'x' * 198}" for level in range(6)))
    (folder / deep).mkdir(parents=True)
    (folder / "birch").mkdir()
    for number in range(4):
        shutil.copy(photos / "ash" / f"{number:03d}.png", folder / deep)
        shutil.copy(photos / "birch" / f"{number:03d}.png", folder / "birch")
    store_path = tmp_path.joinpath(*("y" * 200 for _ in range(6)), "store.h5")
    store_path.parent.mkdir(parents=True)
    assert len(str(store_path)) > 1000
    extract(folder, store_path)
    with featx.open(store_path) as store:
        assert store.images["path"][0] == (deep / "000.png").as_posix()
        assert len(store.images["path"][0]) > 1000
        assert store.images["label"].tolist() == ["ash"] * 4 + ["birch"] * 4


def test_a_long_run_leaves_a_log(photos, stub, tmp_path, monkeypatch):
    path, log_path = tmp_path / "store.h5", tmp_path / "store.h5.log"
    monkeypatch.setenv(DELAY, "0.05")
    interrupted(photos, path, stub, 20)
    assert not log_path.exists()
    extract(photos, path, log_every=0.1)
    title, *lines = log_path.read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 3
    for line in [title, *lines]:
        assert datetime.fromisoformat(line[:25]).tzinfo is not None
    done = [int(line[27:].split(" of 160 rows; ")[0]) for line in lines[:-1]]
    assert done == sorted(done)
    assert 80 <= done[0] < done[-1] <= 160
    assert "0 rejected; " in lines[0]
    assert "MB of memory" in lines[0]
    # What this run waits for is the stand-in's sleep.
    assert lines[-1][27:].startswith("done after ")
    shares = dict(part.rsplit(" ", 1) for part in lines[-1].split("waited for ")[1].split(";")[0].split(", "))
    assert set(shares) == {"decoding", "network", "writing"}
    assert int(shares["network"].rstrip("%")) > 50


def test_a_log_that_can_not_be_written_stops_nothing(photos, undisturbed, stub, tmp_path):
    path = tmp_path / "store.h5"
    (tmp_path / "store.h5.log").mkdir()
    extract(photos, path, log_every=0.001)
    assert content_of(path) == content_of(undisturbed)


def test_a_store_tells_where_it_came_from(photos, stub, tmp_path, monkeypatch):
    from featx.store import format_summary, summarize_store

    path = tmp_path / "store.h5"
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/featx", "extract", "my photos", "-o", "store.h5"])
    extract(photos, path, layers="block1_conv1")
    extract(photos, path)
    with featx.open(path) as store:
        description = summarize_store(store)
    first, second = description["history"]
    assert first["command"] == "featx extract 'my photos' -o store.h5"
    assert datetime.fromisoformat(first["started"]) <= datetime.fromisoformat(first["ended"])
    assert (first["n_computed"], first["n_rejected"], second["n_computed"]) == (160, 0, 160)
    assert {"featx", "python", "numpy", "h5py", "pillow"} <= set(first["versions"])
    assert "cores" in first["machine"]
    text = format_summary(description)
    assert "featx extract 'my photos' -o store.h5" in text
    assert f"{first['started']} to {first['ended']}: 160 images computed at " in text


def test_signals_of_a_program_that_uses_featx_are_its_own(photos, stub, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    extract(photos, tmp_path / "store.h5")
    assert signal.getsignal(signal.SIGTERM) is before
