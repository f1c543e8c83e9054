"""A folder tree as a table of images: one folder a class, below folders of splits where there are some."""

import os
from pathlib import Path

import pandas as pd

from featx.errors import SourceError
from featx.folders import (
    Found,
    describe_no_images,
    describe_passed_over,
    has_image_name,
    is_utf8,
    list_folders,
    list_images,
)

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
    """List the images of a tree `<class>/...` or `<split>/<class>/...`, or of a folder of images alone.

    Parameters
    ----------
    root : Path

    Returns
    -------
    table : DataFrame
        Columns path (relative to `root`), label ("" of images alone) and split ("" without folders of splits).
    notes : tuple of str
        What was passed over.

    Raises
    ------
    SourceError
        If there are no images, or what lies there can't be meant.
    """
    tree = _Tree(root)
    folders = tree.class_folders(root)
    split_of = {folder: SPLIT_NAMES.get(folder.name.lower(), "") for folder in folders}
    named = [folder.name for folder in folders if split_of[folder]]

    rows: list[tuple[str, str, str]] = []
    notes = []
    if named and len(named) == len(folders):
        for folder in folders:
            _refuse_loose(folder, tree.look_into(folder))
            of_split = tree.read_classes(tree.class_folders(folder), split_of[folder])
            if not of_split:
                notes.append(f"no image is in the split folder {folder.name!r}")
            rows += of_split
    elif "train" in split_of.values() and len(set(split_of.values()) - {""}) > 1:
        others = [folder.name for folder in folders if not split_of[folder]]
        raise SourceError(
            f"{root}: the folders {', '.join(named)} are splits, but {others[0]!r} stands beside them. "
            "Move it away, or list the images in a CSV"
        )
    else:
        rows += tree.read_classes(folders, "")
        _refuse_splits_below(root, tree.classes)
        notes += _note_same_folders(root, rows)

    loose = tree.look_into(root)
    if rows:
        _refuse_loose(root, loose)
    if rows and named and len(named) < len(folders):
        notes.append(f"the folders {', '.join(named)} are taken for classes, since others stand beside them")
    if loose:
        # Without classes, a folder with an image's name is no class without images but a file that is none.
        rows = [(str(path), "", "") for path in sorted([*loose, *tree.hollow])]
        tree.hollow.clear()
        notes.append("no class folders: the images get no label")
    if not rows:
        raise SourceError(f"{describe_no_images(root, tree.found.others)}, in one folder per class")
    if len({label for _, label, _ in rows} - {""}) == 1:
        _refuse_folder_around(root, tree.classes[0], rows[0][2])
    paths, labels, splits = zip(*rows, strict=True)
    columns = {
        # Names that are no text don't fit into pandas's own strings where these are Arrow's.
        "path": pd.Series([os.path.relpath(path, root) for path in paths], dtype=object),
        "label": pd.Series(labels, dtype=str),
        "split": pd.Series(splits, dtype=str),
    }
    return pd.DataFrame(columns), (*notes, *tree.notes())


class _Tree:
    """What is found on the way through a folder tree, and what is not taken from it."""

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
            # Of the root itself, links to folders are classes, and what is of a system was listed with these.
            self.found.links.extend(found.links)
            self.found.of_systems.extend(found.of_systems)
        return found.images

    def notes(self) -> list[str]:
        """Say what was passed over."""
        kinds = (
            (self.hollow, "folders passed over: their names end like an image's, and no image is in them"),
            (self.empty, "folders passed over: no image is in them, so they are no classes"),
        )
        more = [describe_passed_over(paths, what, self.root) for paths, what in kinds if paths]
        return [*self.found.notes(self.root), *more]


def _refuse_splits_below(root: Path, classes: list[Path]) -> None:
    """Refuse splits that lie below the classes: they are expected above them, and would be lost."""
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
        f"found the same {len(inner):,} folders ({same}) in each of the folders {classes}, which are taken for "
        "classes. If these are splits, rename them to train, validation, test"
    ]


def _is_split(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_NAMES


def _refuse_folder_around(root: Path, folder: Path, split: str) -> None:
    """Refuse a folder that holds the class folders where these are expected themselves, as unpacked archives have it.

    Nothing is refused where the folder holds images as one class does.
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


def _refuse_loose(folder: Path, images: list[Path]) -> None:
    if images:
        raise SourceError(
            f"{folder}: {len(images):,} images (first: {images[0].name!r}) lie in this folder itself, where class "
            "folders are expected. Move each into its class's folder"
        )
