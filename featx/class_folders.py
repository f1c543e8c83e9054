"""A folder tree as a table of images: one folder a class, below folders of splits where there are some."""

import os
from pathlib import Path

import pandas as pd

from featx.errors import SourceError
from featx.folders import has_image_name, is_utf8, list_folders, list_images
from featx.images import EXTENSIONS

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
    if named and len(named) == len(folders):
        for folder in folders:
            _refuse_loose(folder, list_images(folder, recurse=False).images)
            rows += tree.read_classes(tree.class_folders(folder), split_of[folder])
    elif "train" in split_of.values() and len(set(split_of.values()) - {""}) > 1:
        others = [folder.name for folder in folders if not split_of[folder]]
        raise SourceError(
            f"{root}: the folders {', '.join(named)} are splits, but {others[0]!r} stands beside them. "
            "Move it away, or list the images in a CSV"
        )
    else:
        rows += tree.read_classes(folders, "")

    notes = []
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
        raise SourceError(
            f"{root}: no images below this folder. Expected files ending in {' '.join(sorted(EXTENSIONS))}, "
            "in one folder a class"
        )
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
        self.others: list[Path] = []
        self.links: list[Path] = []
        self.hollow: list[Path] = []

    def class_folders(self, folder: Path) -> list[Path]:
        """Return the folders that may be classes or splits: not those named like an image that hold none."""
        folders, links_back = list_folders(folder)
        self.links += links_back
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
            rows += [(str(path), folder.name, split) for path in paths]
        return rows

    def look_into(self, folder: Path, *, recurse: bool = False) -> list[Path]:
        """Return the images in a folder."""
        found = list_images(folder, recurse=recurse)
        self.others += found.others
        # Links to folders in the root are folders of classes.
        self.links += found.links if recurse else []
        return found.images

    def notes(self) -> list[str]:
        """Say what was passed over."""
        kinds = (
            (self.others, "files passed over: their names don't end like an image's"),
            (self.links, "links to folders not followed"),
            (self.hollow, "folders passed over: their names end like an image's, and no image is in them"),
        )
        return [f"{len(paths):,} {what}; first {str(self._shown(paths[0]))!r}" for paths, what in kinds if paths]

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self.root)


def _refuse_loose(folder: Path, images: list[Path]) -> None:
    if images:
        raise SourceError(
            f"{folder}: {len(images):,} images (first: {images[0].name!r}) lie in this folder itself, where class "
            "folders are expected. Move each into its class's folder"
        )
