"""Whether an experiment's page is the one that would be written now: it says what it was made of."""

import hashlib
import json
import os
import re
from pathlib import Path

from featx.errors import FeatxError
from featx.experiment_parts import Experiment
from featx.experiment_stages import Stage

_MARK = re.compile(rb"<!-- featx run ([0-9a-f]{64}) -->\s*\Z")
_LONGEST = 128


def make_mark(experiment: Experiment, stage: Stage) -> str:
    """Return a comment of HTML that is another for another title, root or list of runs, or another run among them.

    Raises
    ------
    FeatxError
        If the record of a run can't be read.
    """
    runs = {}
    for need in stage.needs:
        path = experiment.run_path(need.partition(".")[2])
        try:
            runs[path.name] = hashlib.sha256((path / "run.json").read_bytes()).hexdigest()
        except OSError as error:
            raise FeatxError(f"{path / 'run.json'}: can't be read: {error.strerror}") from error
    made_of = {"title": stage.spec.title or experiment.title, "root": stage.spec.root, "runs": list(runs.items())}
    return f"<!-- featx run {hashlib.sha256(json.dumps(made_of).encode()).hexdigest()} -->\n"


def has_mark(path: Path, mark: str) -> bool:
    """Whether a page ends with this comment.

    Raises
    ------
    FeatxError
        If it can't be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST))
            found = _MARK.search(file.read())
    except OSError as error:
        raise FeatxError(f"{path}: can't be read: {error.strerror}") from error
    return found is not None and found[0].decode().strip() == mark.strip()
