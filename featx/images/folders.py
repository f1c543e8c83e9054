"""List the image files of folders, and read a folder tree as a table of classes."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pandas as pd

from featx.errors import SourceError
from featx.images.decode import EXTENSIONS
from featx.system import is_file

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
    """The contents of a folder; hidden files are in no list.

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
        """Format what was passed over, with paths relative to `root`."""
        kinds = (
            (self.others, f"files passed over, by ending: {count_endings(self.others)}"),
            (self.links, "links to folders not followed"),
            (self.of_systems, "folders passed over: they are hidden or of a system, and no classes"),
        )
        return [format_passed_over(paths, what, root) for paths, what in kinds if paths]


def format_passed_over(paths: Sequence[Path], what: str, root: Path) -> str:
    """Format how many paths of one kind were passed over, and the first."""
    return f"{len(paths):,} {what}; first {os.path.relpath(paths[0], root)!r}"


def format_no_images(folder: Path, others: Sequence[Path]) -> str:
    """Format the message on a folder without images: what it holds, and what was expected."""
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
    """Return whether a name ends like an image's.

    Examples
    --------
    >>> has_image_name(Path("a/photo.JPG")), has_image_name(Path("a/notes.txt"))
    (True, False)
    """
    return path.suffix.lower() in EXTENSIONS


def list_images(folder: Path, *, recurse: bool) -> Found:
    """List the images in a folder, or also in those below it."""
    found = Found()
    # A stack of its own: untrusted folders may lie deeper within one another than calls can. After a folder with an
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
    """Return the folders in a folder (sorted, with links), and what was passed over: links back, folders of systems."""
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
            f"{len(replaced):,} paths differ from their files' names in backslashes or composed letters, and were "
            f"found; first {replaced[0][0]!a}, a file named {replaced[0][1]!a}"
        )
    if missing:
        notes.append(
            f"{len(missing):,} paths with backslashes or accents name no file, nor exactly one with slashes and "
            f"letters composed in another way; first {missing[0]!a}. Paths start in {str(root)!r}; see `root`"
        )
    return found, notes


def _match(path: str, root: Path, listings: dict[Path, dict[str, list[str]]]) -> list[str]:
    """Return the files that a path with slashes may mean, however their letters are composed."""
    paths = [os.sep if path.startswith("/") else ""]
    for part in filter(None, path.split("/")):
        paths = [
            os.path.join(path, name)  # noqa: PTH118
            for path in paths
            for name in ([part] if part.isascii() else _names_like(part, root / path, listings))
        ]
    return [path for path in paths if is_file(root / path)]


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
    """Return whether a file's name is text: other names have surrogates in place of their bytes."""
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
    """Return whether a path is a folder or a link to one; links in circles, or to nothing, are not."""
    if _is_link(entry):
        # Path's own raises where the link leads through a folder that may not be read.
        return os.path.isdir(entry)  # noqa: PTH112
    return entry.is_dir(follow_symlinks=False)


def _is_of_system(entry: os.DirEntry) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS


def _is_link(entry: os.DirEntry) -> bool:
    # Windows's junctions lead to folders as links do; Python recognizes them from 3.12 on.
    return entry.is_symlink() or (hasattr(entry, "is_junction") and entry.is_junction())


def _scan(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        _raise_unreadable(error)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise SourceError(f"{error.filename}: this folder can't be read: {error.strerror}") from error


SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "": "",
}


def read_classes(root: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a table (path, label, split) of `<class>/...`, `<split>/<class>/...` or images alone, and notes."""
    tree = _Tree(root)
    folders = tree.class_folders(root)
    split_of = {folder: SPLIT_NAMES.get(folder.name.lower(), "") for folder in folders}
    named = [folder.name for folder in folders if split_of[folder]]

    rows: list[tuple[str, str, str]] = []
    notes = []
    if named and len(named) == len(folders):
        for folder in folders:
            _check_no_loose_images(folder, tree.look_into(folder))
            of_split = tree.read_classes(tree.class_folders(folder), split_of[folder])
            if not of_split:
                notes.append(f"no image is in the split folder {folder.name!r}")
            rows += of_split
    elif "train" in split_of.values() and len(set(split_of.values()) - {""}) > 1:
        others = [folder.name for folder in folders if not split_of[folder]]
        raise SourceError(
            f"{root}: the folders {', '.join(named)} are splits, but {others[0]!r} is next to them. "
            "Move it away, or list the images in a CSV"
        )
    else:
        rows += tree.read_classes(folders, "")
        _check_no_splits_below(root, tree.classes)
        notes += _note_same_folders(root, rows)

    loose = tree.look_into(root)
    if rows:
        _check_no_loose_images(root, loose)
    if rows and named and len(named) < len(folders):
        notes.append(f"the folders {', '.join(named)} are read as classes, since others are next to them")
    if loose:
        # Without classes, a folder with an image's name is no class without images but a file that is none.
        rows = [(str(path), "", "") for path in sorted([*loose, *tree.hollow])]
        tree.hollow.clear()
        notes.append("no class folders: the images get no label")
    if not rows:
        raise SourceError(f"{format_no_images(root, tree.found.others)}, in one folder per class")
    if len({label for _, label, _ in rows} - {""}) == 1:
        _check_folder_around(root, tree.classes[0], rows[0][2])
    paths, labels, splits = zip(*rows, strict=True)
    columns = {
        # Names that are no text don't fit into pandas's own strings where these are Arrow's.
        "path": pd.Series([os.path.relpath(path, root) for path in paths], dtype=object),
        "label": pd.Series(labels, dtype=str),
        "split": pd.Series(splits, dtype=str),
    }
    return pd.DataFrame(columns), (*notes, *tree.notes())


class _Tree:
    """The images of a folder tree, and what was passed over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found = Found()
        self.hollow: list[Path] = []
        self.empty: list[Path] = []
        self.classes: list[Path] = []

    def class_folders(self, folder: Path) -> list[Path]:
        """Return the folders that may be classes or splits: not those named like an image that hold none."""
        folders, passed_over = list_folders(folder)
        self.found.links.extend(passed_over.links)
        self.found.of_systems.extend(passed_over.of_systems)
        hollow = [path for path in folders if has_image_name(path) and not list_images(path, recurse=True).images]
        self.hollow += hollow
        return [path for path in folders if path not in hollow]

    def read_classes(self, folders: list[Path], split: str) -> list[tuple[str, str, str]]:
        """Return (path, class name, split) of the images in each class folder."""
        rows = []
        for folder in folders:
            paths = self.look_into(folder, recurse=True)
            if paths and not is_utf8(folder.name):
                raise SourceError(f"{folder!r}: a class's name must be UTF-8: rename this folder")
            (self.classes if paths else self.empty).append(folder)
            rows += [(str(path), folder.name, split) for path in paths]
        return rows

    def look_into(self, folder: Path, *, recurse: bool = False) -> list[Path]:
        """Return the images in a folder."""
        found = list_images(folder, recurse=recurse)
        self.found.others.extend(found.others)
        if recurse:
            # In the root itself, links to folders are classes, and folders of systems are listed already.
            self.found.links.extend(found.links)
            self.found.of_systems.extend(found.of_systems)
        return found.images

    def notes(self) -> list[str]:
        """Format what was passed over."""
        kinds = (
            (self.hollow, "folders passed over: their names end like an image's, and no image is in them"),
            (self.empty, "folders passed over: no image is in them, so they are no classes"),
        )
        more = [format_passed_over(paths, what, self.root) for paths, what in kinds if paths]
        return [*self.found.notes(self.root), *more]


def _check_no_splits_below(root: Path, classes: list[Path]) -> None:
    """Raise an error for splits below the classes: they are expected above them, and would be lost."""
    below = [list_folders(folder)[0] for folder in classes]
    named = [path for folders in below for path in folders if _is_split(path)]
    are_all = all(folders and all(map(_is_split, folders)) for folders in below)
    splits = {SPLIT_NAMES[path.name.lower()] for path in named}
    if len(classes) > 1 and named and (are_all or ("train" in splits and len(splits) > 1)):
        found = named[0].relative_to(root)
        raise SourceError(
            f"{root}: found folders named like splits below those of classes ({str(found)!r}); expected the splits "
            f"above the classes ({str(Path(*reversed(found.parts)))!r}). Move the folders, or list the images in a CSV "
            "with a split column"
        )


def _note_same_folders(root: Path, rows: list[tuple[str, str, str]]) -> list[str]:
    """Note classes that all hold the same folders and nothing else, as splits do that have names of their own."""
    below: dict[str, set[str]] = {}
    for path, label, _ in rows:
        folders = Path(path).relative_to(root).parts[1:-1]
        below.setdefault(label, set()).add(folders[0] if folders else "")
    inner = next(iter(below.values()), set())
    if len(below) == 1 or len(inner) < 2 or "" in inner or any(folders != inner for folders in below.values()):
        return []
    classes, same = (
        ", ".join([*map(repr, sorted(names)[:3]), *["..."] * (len(names) > 3)]) for names in (below, inner)
    )
    return [
        f"found the same {len(inner):,} folders ({same}) in each of the folders {classes}, which are read as "
        "classes. If these are splits, rename them to train, validation, test"
    ]


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_NAMES


def _check_folder_around(root: Path, folder: Path, split: str) -> None:
    """Raise an error if a folder around the class folders is in their place, as in unpacked archives.

    A folder that holds images is a class.
    """
    n_inner = 1
    while n_inner == 1:
        if list_images(folder, recurse=False).images:
            return
        inner = [path for path in list_folders(folder)[0] if list_images(path, recurse=True).images]
        n_inner = len(inner)
        if n_inner == 1:
            folder = inner[0]
    if n_inner:
        names = ", ".join([repr(path.name) for path in inner[:3]] + ["..."] * (n_inner > 3))
        what_to_do = "move them up into it" if split else f"name {str(folder)!r} in place of {str(root)!r}"
        where = f" where the classes of {split} are expected" if split else ""
        raise SourceError(
            f"{root}: one folder only{where}, and a classifier needs two classes. Found {n_inner} folders with images "
            f"in {str(folder)!r} ({names}). If these are the classes, {what_to_do}"
        )


def _check_no_loose_images(folder: Path, images: list[Path]) -> None:
    if images:
        raise SourceError(
            f"{folder}: {len(images):,} images (first: {images[0].name!r}) are in this folder itself, where class "
            "folders are expected. Move each into its class's folder"
        )
