"""Part files: whole, or not there."""

import os
from dataclasses import replace

import numpy as np
import pytest
from sample_parts import N_CHANNELS, SETTINGS, SOURCE, part_of

from featx import FeatxError
from featx.store import PartialStore


@pytest.fixture
def parts(tmp_path):
    folder = PartialStore(tmp_path / "store.h5")
    with folder.lock():
        folder.begin(SETTINGS, SOURCE)
        yield folder


def test_what_is_written_is_read(parts):
    parts.write(part_of(0, 8, rejected=[3]))
    parts.write(part_of(12, 20))
    assert parts.read(N_CHANNELS) == [(0, 8), (12, 20)]
    assert parts.n_done() == 16
    part = parts.load(0, 8)
    assert part.rejected == {3: "broken"}
    assert part.rows.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert np.array_equal(part.features["block1_conv2"], part_of(0, 8, rejected=[3]).features["block1_conv2"])


def test_a_flipped_byte_anywhere_is_found_or_harmless(parts):
    original = part_of(0, 8, rejected=[3])
    parts.write(original)
    (path,) = parts.path.glob("rows-*.npz")
    data = path.read_bytes()
    n_dropped = 0
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        if parts.read(N_CHANNELS):
            kept = parts.load(0, 8)
            for layer, values in original.features.items():
                assert np.array_equal(kept.features[layer], values)
            assert kept.rejected == original.rejected
            assert np.array_equal(kept.sha256, original.sha256)
        else:
            n_dropped += 1
    assert n_dropped > len(data) // 7 // 3


@pytest.mark.parametrize("length", [0, 10, 200, -1])
def test_a_part_cut_short_is_dropped(parts, length):
    parts.write(part_of(0, 8))
    (path,) = parts.path.glob("rows-*.npz")
    path.write_bytes(path.read_bytes()[:length])
    assert parts.read(N_CHANNELS) == []
    assert not path.exists()


def test_parts_that_overlap_or_have_other_layers_are_dropped(parts):
    parts.write(part_of(0, 8))
    parts.write(part_of(4, 12))
    assert parts.read(N_CHANNELS) == [(0, 8)]
    assert parts.read({"block1_conv1": 4}) == []


def test_temporary_files_are_cleared_away(parts):
    (parts.path / "rows-0000000000-0000000008.npz.tmp").write_bytes(b"half")
    assert parts.read(N_CHANNELS) == []
    assert sorted(path.name for path in parts.path.iterdir()) == ["lock", "lock.by", "run.json"]


def test_other_settings_or_images_are_refused_by_name(parts):
    with pytest.raises(FeatxError, match=r"started with image_size 32, now 64.*`overwrite`"):
        parts.begin(replace(SETTINGS, image_size=64), SOURCE)
    with pytest.raises(FeatxError, match=r"layers .*now \['fc1'\]; resize 'squash', now 'pad'"):
        parts.begin(replace(SETTINGS, layers=("fc1",), resize="pad"), SOURCE)
    with pytest.raises(FeatxError, match=r"another list of images \(20 of them, now 21\)"):
        parts.begin(SETTINGS, SOURCE | {"paths_sha256": "other", "n_images": 21})
    with pytest.raises(FeatxError, match=r"root '/a', now '/b'"):
        parts.begin(SETTINGS, SOURCE | {"root": "/b"})


def test_the_same_settings_go_on(parts):
    parts.write(part_of(0, 8))
    assert parts.begin(SETTINGS, SOURCE) == parts.begin(SETTINGS, SOURCE)
    assert parts.read(N_CHANNELS) == [(0, 8)]


def test_a_run_that_replaces_goes_on_only_as_such(parts):
    parts.write(part_of(0, 8))
    first = parts.begin(SETTINGS, SOURCE, replaces=True)
    assert parts.read(N_CHANNELS) == []
    parts.write(part_of(0, 8))
    assert parts.begin(SETTINGS, SOURCE, replaces=True) == first
    assert parts.read(N_CHANNELS) == [(0, 8)]
    assert parts.begin(replace(SETTINGS, image_size=64), SOURCE, replaces=True) != first
    assert parts.read(N_CHANNELS) == []


def test_a_run_that_adds_goes_on_beside_its_own_store_only(parts):
    parts.clear()
    first = parts.begin(SETTINGS, SOURCE, adds_to="abc")
    assert parts.begin(SETTINGS, SOURCE, adds_to="abc") == first
    with pytest.raises(
        FeatxError, match=r"started with store abc to add to, now store def to add to\. .*delete this folder"
    ):
        parts.begin(SETTINGS, SOURCE, adds_to="def")
    assert parts.begin(SETTINGS, SOURCE, replaces=True) != first
    with pytest.raises(FeatxError, match=r"started with `overwrite`, now without\. .*`overwrite` to resume, or delete"):
        parts.begin(SETTINGS, SOURCE, adds_to="abc")
    parts.clear()
    parts.begin(SETTINGS, SOURCE)
    with pytest.raises(FeatxError, match=r"no store to add to, now store abc to add to\. Move the store"):
        parts.begin(SETTINGS, SOURCE, adds_to="abc")


def test_parts_that_hold_any_of_some_rows_are_dropped(parts):
    for start in (0, 8, 16):
        parts.write(part_of(start, start + 8))
    parts.drop([3, 17, 18])
    assert parts.read(N_CHANNELS) == [(8, 16)]


def rows_of(parts):
    """Return every row's digest and own features, or its reason, as they lie in the parts."""
    found = {}
    for start, stop in parts.read(N_CHANNELS):
        part = parts.load(start, stop)
        places = np.cumsum(part.own) - 1
        for row, digest, own, place in zip(part.rows.tolist(), part.sha256, part.own, places, strict=True):
            found[row] = (digest, part.features["block1_conv2"][place].tolist() if own else None)
        found |= part.rejected
    return found


@pytest.mark.parametrize("rows", [[3], [0], [7], [3, 4], [0, 3, 5, 7], [6, 2, 2], range(8), [], [50]])
def test_rows_are_forgotten_and_no_others(parts, rows):
    part = part_of(0, 8, rejected=[3, 6])
    # The last row's file is identical to another.
    own = np.array([True] * 5 + [False])
    features = {layer: values[own] for layer, values in part.features.items()}
    parts.write(replace(part, own=own, features=features))
    parts.write(part_of(8, 12))
    before = rows_of(parts)
    parts.forget(rows)
    assert rows_of(parts) == {row: found for row, found in before.items() if row not in rows}


@pytest.mark.parametrize("n_written", [0, 1, 2])
def test_whatever_stops_forgetting_no_row_is_lost_or_there_twice(parts, monkeypatch, n_written):
    parts.write(part_of(0, 8, rejected=[2, 5]))
    before = rows_of(parts)
    plain, written = parts.write, []

    def write(part):
        if len(written) == n_written:
            raise KeyboardInterrupt
        written.append(part)
        plain(part)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(parts, "write", write)
        parts.forget([2, 5])
    assert rows_of(parts) == before
    assert parts.read(N_CHANNELS) == [(0, 8)]


def test_parts_without_a_record_are_of_no_use(parts):
    parts.write(part_of(0, 8))
    (parts.path / "run.json").unlink()
    parts.begin(SETTINGS, SOURCE)
    assert parts.read(N_CHANNELS) == []


@pytest.mark.parametrize("text", ["", "not json", "[]", "{}", '{"id": 1, "settings": {}, "source": {}}'])
def test_a_record_that_is_none_is_refused_or_replaced(parts, text):
    parts.write(part_of(0, 8))
    (parts.path / "strange").mkdir()
    (parts.path / "run.json").write_text(text)
    with pytest.raises(FeatxError, match=r"run\.json: not a record of featx's.*`overwrite`"):
        parts.begin(SETTINGS, SOURCE)
    parts.begin(SETTINGS, SOURCE, replaces=True)
    assert sorted(path.name for path in parts.path.iterdir()) == ["lock", "lock.by", "run.json"]


def test_a_second_writer_is_refused_by_name(parts):
    message = (
        rf"store.h5: another featx is writing this store \(process {os.getpid()} on .*, since 20.*\)\. Wait for it"
    )
    with pytest.raises(FeatxError, match=message), PartialStore(parts.store_path).lock():
        raise AssertionError("two writers")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FeatxError, match="can't be made"), PartialStore(tmp_path / "file" / "s.h5").lock():
        raise AssertionError("no folder")
