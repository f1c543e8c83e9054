"""The image files below a folder, by their names; whether they are images is found out when they are read."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from featx.errors import SourceError
from featx.images import EXTENSIONS

# What disks, network drives and programs keep next to a user's folders, in lower case. Those that are hidden, such as
# .ipynb_checkpoints, are known by their name's first character.
_OF_SYSTEMS = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "~snapshot", "network trash folder"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found", "__macosx"),
    *(f"found.{number:03}" for number in range(1000)),
}

_MOST_ENDINGS = 8


@dataclass(frozen=True)
class Found:
    """What lies in a folder; hidden files are in no list.

    Attributes
    ----------
    images : list of Path
        Whatever has an image's name, sorted, a folder's files before its folders. A folder with an image's name is one
        of them where nothing below it is, so that it is rejected by name and not lost.
    others : list of Path
        Files with other names.
    links : list of Path
        Links to folders, which are not followed: what they lead to may be what holds them.
    of_systems : list of Path
        Hidden folders and those of a system or a program, which are not looked into.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    of_systems: list[Path] = field(default_factory=list)

    def notes(self, root: Path) -> list[str]:
        """Say what was passed over; paths are shown from `root` on."""
        kinds = (
            (self.others, f"files passed over, by ending: {count_endings(self.others)}"),
            (self.links, "links to folders not followed"),
            (self.of_systems, "folders passed over: they are hidden or of a system, and no classes"),
        )
        return [describe_passed_over(paths, what, root) for paths, what in kinds if paths]


def describe_passed_over(paths: Sequence[Path], what: str, root: Path) -> str:
    """Say how many paths of one kind were passed over, and the first."""
    return f"{len(paths):,} {what}; first {os.path.relpath(paths[0], root)!r}"


def describe_no_images(folder: Path, others: Sequence[Path]) -> str:
    """Say that a folder holds no images, what it holds in their place, and what was expected."""
    passed_over = f" (files passed over, by ending: {count_endings(others)})" if others else ""
    expected = f"Expected files ending in {' '.join(sorted(EXTENSIONS))}"
    return f"{folder}: no images below this folder{passed_over}. {expected}"


def count_endings(paths: Sequence[Path]) -> str:
    """Count the endings of some files' names.

    Examples
    --------
    >>> count_endings([Path("a.jxl"), Path("b.JXL"), Path("notes")])
    '.jxl 2, none 1'
    """
    counts = Counter(path.suffix.lower() or "none" for path in paths).most_common()
    shown = ", ".join(f"{ending} {count:,}" for ending, count in counts[:_MOST_ENDINGS])
    n_left = sum(count for _, count in counts[_MOST_ENDINGS:])
    return f"{shown}, others {n_left:,}" if n_left else shown


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


def list_folders(folder: Path) -> tuple[list[Path], Found]:
    """Return the folders in a folder, sorted, links to folders among them; and what isn't taken for one.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    folders : list of Path
    passed_over : Found
        Links that lead back to the folder, and folders that are hidden or of a system.

    Raises
    ------
    SourceError
        If it can't be read.
    """
    entries = [entry for entry in _scan(folder) if _is_folder(entry)]
    of_systems = [Path(entry) for entry in entries if _is_of_system(entry)]
    real = Path(os.path.realpath(folder))
    links_back = [Path(entry) for entry in entries if _is_link(entry) and real.is_relative_to(os.path.realpath(entry))]
    folders = [path for path in map(Path, entries) if path not in links_back and path not in of_systems]
    return folders, Found(links=links_back, of_systems=of_systems)


def find_named_otherwise(paths: Sequence[str], root: Path) -> tuple[list[str], list[str]]:
    """Return paths as files are named where a table names them in another way, as another system does.

    Backslashes stand for slashes, and letters with accents are composed in one of two ways. A path that names something
    as it is written stays as it is; another is replaced if exactly one file matches it.

    Parameters
    ----------
    paths : sequence of str
        Relative to `root`, or absolute.
    root : Path

    Returns
    -------
    paths : list of str
    notes : list of str
        How many were replaced, and how many name nothing.
    """
    found, replaced, missing = list(paths), [], []
    listings: dict[Path, dict[str, list[str]]] = {}
    for number, path in enumerate(paths):
        if (path.isascii() and "\\" not in path) or os.path.lexists(root / path):
            continue
        matches = _match(path.replace("\\", "/"), root, listings)
        if len(matches) == 1:
            found[number] = matches[0]
            replaced.append((path, matches[0]))
        else:
            missing.append(path)
    notes = []
    if replaced:
        notes.append(
            f"{len(replaced):,} paths are written otherwise than their files are named (backslashes, or letters "
            f"composed in another way), and were found; first {replaced[0][0]!a}, a file named {replaced[0][1]!a}"
        )
    if missing:
        notes.append(
            f"{len(missing):,} paths with backslashes or accents name no file, nor exactly one with slashes and "
            f"letters composed in another way; first {missing[0]!a}. Paths start in {str(root)!r}; see --root"
        )
    return found, notes


def _match(path: str, root: Path, listings: dict[Path, dict[str, list[str]]]) -> list[str]:
    """Return the files that a path with slashes may mean, however their letters are composed."""
    places = [os.sep if path.startswith("/") else ""]
    for part in filter(None, path.split("/")):
        places = [
            os.path.join(place, name)  # noqa: PTH118
            for place in places
            for name in ([part] if part.isascii() else _names_like(part, root / place, listings))
        ]
    return [place for place in places if is_file(root / place)]


def _names_like(name: str, folder: Path, listings: dict[Path, dict[str, list[str]]]) -> list[str]:
    """Return the names in a folder that are the same text, and remember what the folder holds."""
    if folder not in listings:
        listings[folder] = {}
        try:
            names = os.listdir(folder)  # noqa: PTH208
        except OSError:
            # Whatever is wrong with it, it holds no file that can be found by another name.
            names = []
        for found in names:
            listings[folder].setdefault(unicodedata.normalize("NFC", found), []).append(found)
    return listings[folder].get(unicodedata.normalize("NFC", name), [])


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
            if entry.name.startswith("."):
                continue
            (found.images if has_image_name(path) else found.others).append(path)
        elif _is_of_system(entry):
            found.of_systems.append(path)
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


def _is_of_system(entry: os.DirEntry) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS


def _is_link(entry: os.DirEntry) -> bool:
    # Windows's junctions lead to folders as links do; Python tells them from 3.12 on.
    return entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())


def _scan(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
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
