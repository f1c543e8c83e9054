"""Images without labels: files, the files below a folder, and the paths of a CSV, as one list."""

from collections.abc import Sequence
from pathlib import Path

from featx.csv_tables import list_columns, load_csv
from featx.errors import SourceError
from featx.folders import is_folder, list_images, list_paths
from featx.images import EXTENSIONS


def list_sources(
    sources: str | Path | Sequence[str | Path], *, path_column: str = "path", root: str | Path | None = None
) -> list[Path]:
    """List the images of some sources, in their order.

    Parameters
    ----------
    sources : path, or sequence of path
        Image files, folders (every image below them, sorted; hidden files and linked folders are passed over), and
        CSVs. Any file that is not named .csv stands for an image, whether or not it can be read.
    path_column : str, default "path"
        Of a CSV.
    root : path, optional
        The folder that a CSV's paths start from; default: the CSV's own.

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
        given = ["--path-column"] if path_column != "path" else []
        given += ["--root"] if root is not None else []
        if given:
            raise SourceError(f"{' and '.join(given)}: of a CSV, and none is among the images: leave that out")
    paths: list[Path] = []
    for source in sources:
        if is_folder(source):
            found = list_images(source, recurse=True).images
            if not found:
                raise SourceError(
                    f"{source}: no images below this folder. Expected files ending in {' '.join(sorted(EXTENSIONS))}"
                )
            paths += found
        elif _is_csv(source):
            paths += _list_csv(source, path_column, source.parent if root is None else Path(root))
        else:
            paths.append(source)
    return paths


def _is_csv(source: Path) -> bool:
    return source.suffix.lower() == ".csv"


def _list_csv(csv_path: Path, column: str, root: Path) -> list[Path]:
    table, notes = load_csv(csv_path)
    if column not in table:
        raise SourceError(
            f"{csv_path}: no column {column!r}; it has {list_columns(table, notes)}. "
            "Name the right one with --path-column"
        )
    cells = table[column].str.strip()
    empty = cells.index[(cells == "") | cells.str.contains("\0", regex=False)]
    if len(empty):
        raise SourceError(f"{csv_path}: line {empty[0] + 2} has no usable path (such lines: {len(empty):,})")
    return [root / cell for cell in cells]
