"""A finished feature store in the formats that other people's scripts read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import FeatxError
from featx.store.export.formats import (
    check_h5ad,
    check_mat,
    check_parquet,
    write_csv,
    write_h5ad,
    write_mat,
    write_npy,
    write_parquet,
)
from featx.store.export.selection import Selection, select
from featx.store.reader import Store
from featx.system import check_free_files, progress_bar, whole_files


@dataclass(frozen=True)
class Export:
    """What an export has written.

    Attributes
    ----------
    path : str
        The file that was asked for.
    paths : tuple of str
        All files: that one, and those beside it.
    format : str
        One of `FORMATS`.
    n_images, n_features : int
    bytes : int
        Of all files.
    """

    path: str
    paths: tuple[str, ...]
    format: str
    n_images: int
    n_features: int
    bytes: int


@dataclass(frozen=True)
class _Format:
    """How a format is written: its writer, what is refused before that, and the endings of files beside the first."""

    write: Callable[[Selection, Sequence[Path], Callable[[int], object]], None]
    check: Callable[[Selection, Path], None] = lambda selection, path: None
    beside: tuple[str, ...] = ()


_FORMATS = {
    "npy": _Format(write_npy, beside=(".images.csv", ".features.csv")),
    "csv": _Format(write_csv),
    "parquet": _Format(write_parquet, check_parquet),
    "mat": _Format(write_mat, check_mat),
    "h5ad": _Format(write_h5ad, check_h5ad),
}


FORMATS = tuple(_FORMATS)
"""The formats; a file's ending names its own."""


def export_store(
    store_path: str | Path,
    output_path: str | Path,
    *,
    format: str | None = None,
    layers: str | Sequence[str] | None = None,
    split: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Export:
    """Write a store's features, and the table of its images, in a format that other people's scripts read.

    Features are those of `Store.matrix`, to the bit; rows are in the store's order.

    Parameters
    ----------
    store_path : path
        A finished store.
    output_path : path
        The file to write. It, and those beside it, appear once all is there, or not at all.
    format : {"npy", "csv", "parquet", "mat", "h5ad"}, optional
        Default: what the ending of `output_path` says.

        - npy: the matrix, float32; beside it `<name>.images.csv` and `<name>.features.csv`, a row an image and a row a
          feature.
        - csv, parquet: a row an image: path, label, split, sha256, the store's further columns, and a column a feature,
          named ``<layer>/<channel>``. Parquet's metadata has the store's attributes, as JSON under ``featx``.
        - mat: MATLAB's, version 5: ``X``; a variable a column of the images; ``feature_names``, ``layers``,
          ``attributes``. Names that MATLAB doesn't take are made legal, and numbered where two become one;
          ``columns`` has each variable's name beside the store's.
        - h5ad: AnnData's: ``X``, ``obs`` by path, ``var`` by feature name, ``uns["featx"]`` with the attributes.
    layers : str or sequence of str, optional
        Names and sets of the store's layers, as of `featx fit --layers`; default: all.
    split : {"train", "validation", "test"}, optional
        Only the images of this split; default: all.
    overwrite : bool, default False
        Replace files that are there.
    progress : bool, default False
        Show a bar on standard error, if that is a terminal.

    Returns
    -------
    Export

    Raises
    ------
    FeatxError
        If the store can't be read, lacks a layer or a split; if the format isn't known, its library isn't here, or it
        can't hold the features; if a file is there already or can't be written; or if mat or h5ad, which are written
        as one piece, would take more memory than is free.

    Examples
    --------
    >>> featx.export_store("photos.h5", "photos.parquet", layers="block5", split="train")       # doctest: +SKIP
    """
    output_path = Path(output_path)
    format = choose_format(output_path, format)
    plan = _FORMATS[format]
    whole = str(output_path)
    stem = whole[: -len(format) - 1] if whole.lower().endswith(f".{format}") else whole
    paths = [output_path, *(Path(stem + ending) for ending in plan.beside)]
    with Store(store_path) as store:
        check_free_files(paths, overwrite=overwrite, keep=store.path)
        selection = select(store, layers, split)
        plan.check(selection, output_path)
        n_images, n_features = selection.shape
        with whole_files(paths) as temporaries, progress_bar(n_images, wanted=progress) as bar:
            plan.write(selection, temporaries, bar.update)
    return Export(
        path=str(output_path),
        paths=tuple(map(str, paths)),
        format=format,
        n_images=n_images,
        n_features=n_features,
        bytes=sum(path.stat().st_size for path in paths),
    )


def choose_format(path: Path, name: str | None = None) -> str:
    """Return the format of a file to write: the one that is named, else the one of its ending.

    Parameters
    ----------
    path : Path
    name : str, optional
        One of `FORMATS`.

    Raises
    ------
    FeatxError
        If neither says one, or they contradict each other.

    Examples
    --------
    >>> choose_format(Path("photos.CSV"))
    'csv'
    """
    ending = path.suffix.lower().removeprefix(".")
    if name is not None and name not in FORMATS:
        raise FeatxError(f"format: expected one of {', '.join(FORMATS)}, found {name!r}")
    if ending in FORMATS and name not in (None, ending):
        raise FeatxError(f"{path}: ends in .{ending}, and the format is to be {name}: give one of them up")
    if name is None and ending not in FORMATS:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise FeatxError(f"{path}: expected a name that ends in {endings}; or name one of these with --format")
    return name or ending
