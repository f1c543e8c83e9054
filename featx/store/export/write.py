"""Export a finished store to the formats that other people's scripts read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import FeatxError
from featx.store.export.formats import check_parquet, write_csv, write_npy, write_parquet
from featx.store.export.matlab import check_mat, write_mat
from featx.store.export.selection import Selection, select
from featx.store.reader import Store
from featx.system import check_free_files, progress_bar, whole_files


@dataclass(frozen=True)
class Export:
    """Files that an export has written.

    Attributes
    ----------
    path : str
        The file that was asked for.
    paths : tuple of str
        All files: that one, and those next to it.
    format : str
        One of `FORMATS`.
    n_images, n_features : int
    bytes : int
        Size of all files.
    """

    path: str
    paths: tuple[str, ...]
    format: str
    n_images: int
    n_features: int
    bytes: int


@dataclass(frozen=True)
class _Format:
    """A format: its writer, the check before writing, and the endings of the files next to the first."""

    write: Callable[[Selection, Sequence[Path], Callable[[int], object]], None]
    check: Callable[[Selection, Path], None] = lambda selection, path: None
    companions: tuple[str, ...] = ()


_FORMATS = {
    "npy": _Format(write_npy, companions=(".images.csv", ".features.csv")),
    "csv": _Format(write_csv),
    "parquet": _Format(write_parquet, check_parquet),
    "mat": _Format(write_mat, check_mat),
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

    Features equal those of `Store.matrix` bit for bit; rows are in the store's order. AnnData needs no export:
    ``AnnData(store.matrix(), obs=store.images)``.

    Parameters
    ----------
    store_path : path
        A finished store.
    output_path : path
        The file to write. It and those next to it appear once all of them are complete, or not at all.
    format : {"npy", "csv", "parquet", "mat"}, optional
        Default: by the ending of `output_path`.

        - npy: the matrix, float32; next to it `<name>.images.csv` with one row per image, and `<name>.features.csv`
          with one row per feature.
        - csv, parquet: one row per image: path, label, split, sha256, the store's further columns, and one column per
          feature, named ``<layer>/<channel>``. Parquet's metadata has the store's attributes, as JSON under ``featx``.
        - mat: MATLAB's, version 5: ``X``; one variable per column of the images; ``feature_names``, ``layers``,
          ``attributes``. Names that MATLAB doesn't accept are made legal, and numbered where two become one;
          ``columns`` has each variable's name next to the store's.
    layers : str or sequence of str, optional
        Names and sets of the store's layers, as of `featx fit --layers`; default: all.
    split : {"train", "validation", "test"}, optional
        Only the images of this split; default: all.
    overwrite : bool, default False
        Replace existing files.
    progress : bool, default False
        Show a bar on standard error, if that is a terminal.

    Returns
    -------
    Export

    Raises
    ------
    FeatxError
        If the store can't be read, or has no such layer or split; if the format isn't known, its library isn't
        installed, or it can't hold the features; or if a file exists or can't be written.

    Examples
    --------
    >>> featx.export_store("photos.h5", "photos.parquet", layers="block5", split="train")       # doctest: +SKIP
    """
    output_path = Path(output_path)
    format = choose_format(output_path, format)
    plan = _FORMATS[format]
    whole = str(output_path)
    stem = whole[: -len(format) - 1] if whole.lower().endswith(f".{format}") else whole
    paths = [output_path, *(Path(stem + ending) for ending in plan.companions)]
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
    """Return the format of a file to write: the given one, else the one of its ending.

    Examples
    --------
    >>> choose_format(Path("photos.CSV"))
    'csv'
    """
    ending = path.suffix.lower().removeprefix(".")
    if name is not None and name not in FORMATS:
        raise FeatxError(f"expected one of {', '.join(FORMATS)}, found {name!r}", parameter="format")
    if ending in FORMATS and name not in (None, ending):
        raise FeatxError(f"{path}: ends in .{ending}, and `format` is {name}: change one of them")
    if name is None and ending not in FORMATS:
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise FeatxError(f"{path}: expected a name that ends in {endings}; or one of these as `format`")
    return name or ending
