"""Fine-tuned runs that are there already: whether they are what is asked for, and of this call or from before it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from featx.errors import FeatxError
from featx.results import Run, put_back, read_run
from featx.store import Store

_PROTOCOL = {
    **{"seed": 0, "label": "label", "where": None, "sample_weight": None, "split": "split"},
    # Runs that were made before there was a choice do not say it.
    "drop_duplicates": False,
}

_NOTHING = "nothing"


def find_run(
    run_path: Path, store_path: str | Path, recipe: Mapping[str, object], options: Mapping[str, object]
) -> Run | None:
    """Return the run that is there, if it is of this recipe, store and options.

    Parameters
    ----------
    run_path : Path
    store_path : path
    recipe : mapping of str to object
        Its record; see `featx.recipes.recipe_record`.
    options : mapping of str to object
        Of `featx.fine_tune`.

    Raises
    ------
    FeatxError
        If store or run can't be read.
    """
    put_back(run_path)
    if not (run_path / "run.json").exists():
        return None
    with Store(store_path) as store:
        run_id = store.attributes.get("run_id")
    run = read_run(run_path)
    same = run.is_finetuned and run.store.get("run_id") == run_id
    same = same and run.baseline["recipe"] == json.loads(json.dumps(recipe))
    wanted = {name: options.get(name, default) for name, default in _PROTOCOL.items()}
    made = _PROTOCOL | run.protocol
    return run if same and all(made[name] == value for name, value in wanted.items()) else None


def digest_run(run_path: Path) -> str:
    """Return what tells the run that is there from another, made of the same even; a word where there is none."""
    put_back(run_path)
    try:
        return hashlib.sha256((run_path / "run.json").read_bytes()).hexdigest()
    except OSError:
        return _NOTHING


def remember_replaced(run_path: Path) -> str:
    """Return the digest of what was there when a call with `overwrite` began, this one or a stopped one before it.

    It is noted in a file beside the run's place until `forget_replaced`.

    Raises
    ------
    FeatxError
        If the file can't be read or written.
    """
    note = _note(run_path)
    try:
        if note.exists():
            return note.read_text(encoding="ascii", errors="replace").strip()
        temporary = note.with_name(f"{note.name}.tmp")
        temporary.write_text(digest_run(run_path), encoding="ascii")
        temporary.replace(note)
    except OSError as error:
        raise FeatxError(f"{note}: can't be read or written: {error.strerror or error}") from error
    return digest_run(run_path)


def forget_replaced(run_path: Path) -> None:
    """Delete what `remember_replaced` has noted: the next call with `overwrite` replaces what is there then."""
    _note(run_path).unlink(missing_ok=True)


def _note(run_path: Path) -> Path:
    return run_path.with_name(f".{run_path.name}.replaced")
