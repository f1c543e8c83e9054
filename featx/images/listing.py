"""List the images of files, folders and CSVs as one list, without labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

from featx.errors import SourceError
from featx.images.folders import find_named_otherwise, format_no_images, list_images, list_paths
from featx.images.tables import list_columns, load_csv
from featx.system import is_folder


def list_sources(
    sources: str | Path | Sequence[str | Path],
    *,
    path_column: str = "path",
    root: str | Path | None = None,
    echo: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """List the images of some sources, in their order.

    Parameters
    ----------
    sources : path, or sequence of path
        Image files, folders (every image below them, sorted; hidden files, folders that are hidden or of a system, and
        linked folders are passed over), and CSVs. Any file that is not named .csv or .tsv stands for an image, whether
        or not it can be read.
    path_column : str, default "path"
        The column of a CSV that holds the paths.
    root : path, optional
        The folder that a CSV's paths start from; default: the CSV's own.
    echo : callable, optional
        Is called with each line that a user should know: what was passed over, and how a CSV was read.

    Returns
    -------
    list of Path

    Raises
    ------
    SourceError
        If a folder holds no images, a CSV can't be read, or there is none for `path_column` or `root`.

    Examples
    --------
    >>> [path.as_posix() for path in list_sources(["photos/cat.jpg", "dog.png"])]
    ['photos/cat.jpg', 'dog.png']
    """
    sources = list_paths(sources)
    if not any(map(_is_csv, sources)):
        options = ["`path_column`"] if path_column != "path" else []
        options += ["`root`"] if root is not None else []
        if options:
            raise SourceError(f"none of the images is a CSV: leave {' and '.join(options)} out")
    paths: list[Path] = []
    for source in sources:
        if is_folder(source):
            found = list_images(source, recurse=True)
            if not found.images:
                raise SourceError(format_no_images(source, found.others))
            paths += found.images
            for note in found.notes(source):
                echo(f"{source}: {note}")
        elif _is_csv(source):
            found_paths, notes = _list_csv(source, path_column, source.parent if root is None else Path(root))
            paths += found_paths
            for note in notes:
                echo(note)
        else:
            paths.append(source)
    return paths


def _is_csv(source: Path) -> bool:
    return source.suffix.lower() in (".csv", ".tsv")


def _list_csv(csv_path: Path, column: str, root: Path) -> tuple[list[Path], list[str]]:
    table, notes = load_csv(csv_path, path_column=column, root=root)
    if column not in table:
        raise SourceError(
            f"{csv_path}: no column {column!r}; it has {list_columns(table, notes)}. "
            "Name the right one with `path_column`"
        )
    cells = table[column].str.strip()
    empty = cells.index[(cells == "") | cells.str.contains("\0", regex=False)]
    if len(empty):
        raise SourceError(f"{csv_path}: line {empty[0]} has no usable path (such lines: {len(empty):,})")
    found, more = find_named_otherwise(cells.tolist(), root)
    return [root / cell for cell in found], [*notes, *more]
