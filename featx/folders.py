"""The image files below a folder, by their names; whether they are images is found out when they are read."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from featx.errors import SourceError
from featx.images import EXTENSIONS


@dataclass(frozen=True)
class Found:
    """What lies in a folder; hidden files and folders are in no list.

    Attributes
    ----------
    images : list of Path
        Whatever has an image's name, sorted, a folder's files before its folders. A folder with an image's name is one
        of them where nothing below it is, so that it is rejected by name and not lost.
    others : list of Path
        Files with other names.
    links : list of Path
        Links to folders, which are not followed: what they lead to may be what holds them.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def list_paths(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return paths as a list; a single one is a list of one, not of its letters.

    Examples
    --------
    >>> [path.as_posix() for path in list_paths("photos/a.png")]
    ['photos/a.png']
    """
    return [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]


def has_image_name(path: Path) -> bool:
    """Whether a name ends like an image's.

    Examples
    --------
    >>> has_image_name(Path("a/photo.JPG")), has_image_name(Path("a/notes.txt"))
    (True, False)
    """
    return path.suffix.lower() in EXTENSIONS


def list_images(folder: Path, *, recurse: bool) -> Found:
    """List the images in a folder, or also in those below it.

    Parameters
    ----------
    folder : Path
    recurse : bool

    Raises
    ------
    SourceError
        If a folder can't be read.
    """
    found = Found()
    # A stack of its own: strangers' folders may lie deeper within one another than calls can. After a folder with an
    # image's name and all below it, it comes up again, with how many images there were before.
    left: list[tuple[Path, int | None]] = [(folder, None)]
    while left:
        path, n_before = left.pop()
        if n_before is not None:
            if len(found.images) == n_before:
                found.images.append(path)
            continue
        if has_image_name(path) and path != folder:
            left.append((path, len(found.images)))
        below = _look_into(path, found)
        if recurse:
            left += [(inner, None) for inner in reversed(below)]
    return found


def list_folders(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder, sorted, links to folders among them, and the links that lead back to it.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    SourceError
        If it can't be read.
    """
    entries = [entry for entry in _scan(folder) if _is_folder(entry)]
    real = Path(os.path.realpath(folder))
    links_back = [Path(entry) for entry in entries if _is_link(entry) and real.is_relative_to(os.path.realpath(entry))]
    return [path for path in map(Path, entries) if path not in links_back], links_back


def is_utf8(name: str) -> bool:
    """Whether a file's name is text: others come with surrogates in place of their bytes."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _look_into(folder: Path, found: Found) -> list[Path]:
    """Sort in what lies in one folder; return the folders in it."""
    folders = []
    for entry in _scan(folder):
        path = Path(entry)
        if not _is_folder(entry):
            (found.images if has_image_name(path) else found.others).append(path)
        elif _is_link(entry):
            found.links.append(path)
        else:
            folders.append(path)
    return folders


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or leads to one; links that lead in circles, or nowhere, do not."""
    if _is_link(entry):
        # Path's own raises where the link leads through a folder that may not be read.
        return os.path.isdir(entry)  # noqa: PTH112
    return entry.is_dir(follow_symlinks=False)


def _is_link(entry: os.DirEntry) -> bool:
    # Windows's junctions lead to folders as links do; Python tells them from 3.12 on.
    return entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())


def _scan(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        _refuse_unreadable(error)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise SourceError(f"{error.filename}: this folder can't be read: {error.strerror}") from error


def is_file(path: Path) -> bool:
    """Whether it is a file or leads to one; not if there is no telling, as where a name is too long."""
    # Path's own raises there.
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether it is a folder or leads to one; not if there is no telling."""
    return os.path.isdir(path)  # noqa: PTH112
