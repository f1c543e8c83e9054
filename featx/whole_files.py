"""Files that belong together: all of them appear under their names, whole, or none does."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from featx.errors import FeatxError
from featx.parts import sync_folder
from featx.predictions import check_writable


def check_free_files(paths: Sequence[Path], *, overwrite: bool, keep: Path) -> None:
    """Refuse files that are taken, that can't be replaced, or that are the one to keep.

    Parameters
    ----------
    paths : sequence of Path
        The files to write.
    overwrite : bool
        Whether files that are there may be replaced.
    keep : Path
        A file that is there, and is read while the others are written.

    Raises
    ------
    FeatxError
    """
    for path in paths:
        try:
            is_kept = path.exists() and path.samefile(keep)
        except OSError as error:
            raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another --output") from error
        if is_kept:
            raise FeatxError(f"{path}: the store itself; give another --output")
        check_writable(path, overwrite=overwrite)


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a file to write for each path, in the same folder; move them to their places once all are written.

    The first is moved last. What stood in its place goes before anything is moved, so that where the first is, the
    others beside it are those that were written with it.

    Parameters
    ----------
    paths : sequence of Path
        All in one folder.

    Yields
    ------
    list of Path
        Empty files, a path each.

    Raises
    ------
    FeatxError
        If the disk doesn't take them; whatever ends it early, nothing of them is left.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            temporaries.append(path.with_name(f".featx-{uuid.uuid4().hex}.tmp"))
            temporaries[-1].open("xb").close()
        yield list(temporaries)
        for temporary in temporaries:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        _publish(temporaries, paths)
    except OSError as error:
        raise FeatxError(
            f"{paths[0]}: writing failed: {error.strerror or error}; nothing of it was kept. Mend it (free some disk, "
            "say) and run it again"
        ) from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _publish(temporaries: Sequence[Path], paths: Sequence[Path]) -> None:
    if len(paths) > 1:
        paths[0].unlink(missing_ok=True)
    moved: list[Path] = []
    try:
        for temporary, path in reversed(list(zip(temporaries, paths, strict=True))):
            temporary.replace(path)
            moved.append(path)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    sync_folder(paths[0].absolute().parent)
