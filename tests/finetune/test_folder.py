"""The folder of a training: one writer, one recipe, nothing left of what never began."""

import json

import pytest

from featx import FeatxError
from featx.finetune.folder import Trained, TrainingFolder

IDENTITY = {"recipe": {"name": "small", "stages": ("head",)}, "rows": "abc", "seed": 0}


class Weights:
    """What a model's weights are written by."""

    def save_weights(self, path):
        path.write_bytes(b"weights")


def curves(n_epochs):
    return [{"epoch": epoch + 1, "val_loss": 1.0, "seconds": 1.5} for epoch in range(n_epochs)]


@pytest.fixture
def folder(tmp_path):
    """With a stage of two epochs."""
    folder = TrainingFolder(tmp_path / "run")
    with folder.lock():
        folder.begin(IDENTITY, overwrite=False)
        folder.stage(0)
        folder.finish_stage(0, Trained(curves(2), 1, "epochs"), Weights())
    return folder


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_a_finished_stage_comes_back(folder):
    assert folder.path.name == "run.training"
    assert names(folder) == ["lock", "stage-0.json", "stage-0.weights.h5", "training.json"]
    trained = folder.load_stage(0)
    assert trained == Trained(curves(2), 1, "epochs")
    assert trained.seconds == 3.0
    assert trained.best == curves(2)[0]
    assert folder.load_stage(1) is None
    assert folder.n_epochs() == 2


def test_the_same_goes_on(folder):
    before = names(folder)
    with folder.lock():
        folder.begin(IDENTITY, overwrite=False)
        folder.begin(IDENTITY, overwrite=True)
    assert names(folder) == before


def test_another_is_refused_by_name(folder):
    other = IDENTITY | {"rows": "abd", "seed": 1}
    with folder.lock():
        with pytest.raises(FeatxError, match=r"run\.training: .* started with other rows, other seed, 0, now 1\. Give"):
            folder.begin(other, overwrite=False)
        assert folder.n_epochs() == 2
        folder.begin(other, overwrite=True)
        assert names(folder) == ["lock", "lock.by", "training.json"]
        folder.stage(0)
        folder.finish_stage(0, Trained(curves(1), 1, "epochs"), Weights())
    assert json.loads((folder.path / "training.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", r"training\.json: can't be read .*Give `overwrite` to start again"),
        ("[]x", r"training\.json: can't be read .*Give `overwrite` to start again"),
        ("[]", r"training\.json: can't be read .*Give `overwrite` to start again"),
        ('{"rows": "abc"}', "started with other "),
    ],
)
def test_a_record_that_can_not_be_read(folder, record, message):
    (folder.path / "training.json").write_text(record)
    with folder.lock():
        with pytest.raises(FeatxError, match=message):
            folder.begin(IDENTITY, overwrite=False)
        folder.begin(IDENTITY, overwrite=True)


def test_one_writer(folder):
    other = TrainingFolder(folder.path.with_name("run"))
    with folder.lock(), pytest.raises(FeatxError, match=r"another featx trains this run .*\. Wait for it, or stop it"):
        other.lock().__enter__()
    with other.lock():
        pass
    assert folder.n_epochs() == 2


def test_what_never_began_leaves_nothing(tmp_path):
    folder = TrainingFolder(tmp_path / "new" / "run")
    with pytest.raises(KeyError), folder.lock():
        folder.begin(IDENTITY, overwrite=False)
        folder.stage(0)
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []
    # Nor is it in anyone's way, where a kill has left it.
    folder.path.mkdir()
    (folder.path / "training.json").write_text(json.dumps(IDENTITY))
    with folder.lock():
        folder.begin(IDENTITY | {"seed": 2}, overwrite=False)
        assert json.loads((folder.path / "training.json").read_text())["seed"] == 2


def test_a_stage_that_was_all_but_finished_counts_once(folder):
    (folder.path / "stage-0" / "epoch-000002").mkdir(parents=True)
    (folder.path / "stage-0" / "best-000001.weights.h5").touch()
    assert folder.n_epochs() == 2
    (folder.path / "stage-1" / "epoch-000003").mkdir(parents=True)
    assert folder.n_epochs() == 2
    (folder.path / "stage-1" / "best-000003.weights.h5").touch()
    assert folder.n_epochs() == 2 + 3


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FeatxError, match="this folder can't be made"):
        TrainingFolder(tmp_path / "file" / "run").lock().__enter__()
    (tmp_path / "run.training" / "lock").mkdir(parents=True)
    with pytest.raises(FeatxError, match=r"lock: can.t be locked .*nothing can be written there, use another folder"):
        TrainingFolder(tmp_path / "run").lock().__enter__()


def test_it_is_gone_in_the_end(folder):
    with folder.lock():
        folder.remove()
    assert not folder.path.exists()
