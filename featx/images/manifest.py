"""Read a source of images, a folder or a CSV, as one table of path, label, split and more."""

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from featx.errors import MissingSourceError, SourceError
from featx.images.folders import SPLIT_NAMES, find_named_otherwise, has_image_name, read_classes
from featx.images.labels import are_numbers, as_labels, note_look_alikes, text_of
from featx.images.tables import list_columns, load_csv
from featx.system import sha256_of

SPLITS = ("train", "validation", "test")
_DEFAULT_COLUMNS = {"path": "path", "label": "label", "split": None, "group": None}

# Unicode's line separators among them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Manifest:
    """The images of one store, in the order of its rows.

    Attributes
    ----------
    table : DataFrame
        Columns `path` (relative to `root`, or absolute), `label` ("" where unknown), `split` (train, validation, test
        or ""), then any further columns of the source. Whatever types the table is made with, paths, labels, splits and
        a column `group` become text, and any other column what a store holds: see `featx.store`.
    root : Path
        The folder that relative paths start from.
    notes : tuple of str
        What the reader of the source should know: files passed over, labels that are missing.
    """

    table: pd.DataFrame
    root: Path
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        table = self.table.copy()
        for name in table:
            kind = _KINDS.get(name, _as_stored)
            table[name] = kind(table[name])
        object.__setattr__(self, "table", table)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def has_splits(self) -> bool:
        """Return whether any image has a split."""
        return bool((self.table["split"] != "").any())


def read_source(
    source: str | Path,
    *,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str | None = None,
    group_column: str | None = None,
    root: str | Path | None = None,
) -> Manifest:
    """List the images of a folder tree or of a CSV.

    Parameters
    ----------
    source : path
        A folder `<class>/...`, or `<split>/<class>/...`, or of images alone (they get no label); or a CSV file,
        UTF-8, cells separated by commas, semicolons or tabs; its columns without a name are left out. Paths, labels,
        splits and groups are text without blanks at the ends; `featx.store` describes further columns.
    path_column, label_column : str
        Columns of the CSV. `label_column=""` reads images without labels.
    split_column, group_column : str, optional
        Columns of the CSV; by default, columns called `split` and `group` if there are any. `""` uses none, and leaves
        a column of that name out.
    root : path, optional
        The folder that the CSV's paths start from; default: the CSV's own.

    Raises
    ------
    SourceError
        If there is nothing to read, it can't be read as a table of images, or parameters of a CSV come with a folder.
    """
    source = Path(source)
    columns = {"path": path_column, "label": label_column, "split": split_column, "group": group_column}
    if source.is_dir():
        _check_no_csv_options(source, columns, root)
        table, notes = read_classes(source)
        manifest = Manifest(table, source.resolve(), notes)
    elif has_image_name(source) and source.is_file():
        raise SourceError(f"{source}: an image; expected a folder of images, or a CSV with their paths")
    elif source.is_file():
        manifest = _read_csv(source, columns=columns, root=Path(root) if root is not None else source.parent)
    else:
        raise MissingSourceError(f"{source}: no such folder or CSV file")
    _check_labels(manifest.table, source)
    return replace(manifest, notes=(*manifest.notes, *note_look_alikes(manifest.table["label"])))


def _check_no_csv_options(source: Path, columns: dict[str, str | None], root: str | Path | None) -> None:
    """Raise an error for parameters of a CSV: a folder has no use for them."""
    options = [f"{name}_column" for name, column in columns.items() if column != _DEFAULT_COLUMNS[name]]
    options += ["root"] if root is not None else []
    if options:
        shown = ", ".join(f"`{name}`" for name in options)
        raise SourceError(f"{source}: a folder, not a CSV: leave {shown} out, or list the images in a CSV")


def _check_labels(table: pd.DataFrame, source: Path) -> None:
    labels = table["label"].unique()
    if len(labels) == 1 and labels[0] != "":
        raise SourceError(
            f"{source}: one class only ({labels[0]!r}, {len(table):,} images), and a classifier needs two. For "
            "features without labels, give the folder that holds the images themselves, or a CSV with "
            "`label_column` ''"
        )


def _read_csv(csv_path: Path, *, columns: dict[str, str | None], root: Path) -> Manifest:
    table, notes = load_csv(csv_path, path_column=columns["path"], root=root)
    table = _name_columns(table, csv_path, columns, notes)
    for column in table.columns.intersection(["path", "label", "split", "group"]):
        table[column] = table[column].str.strip()
    _check_paths(table["path"], csv_path)
    table["path"], more = find_named_otherwise(table["path"].tolist(), root)
    notes = (*notes, *more)
    _check_repeated(table["path"], csv_path, root)
    _check_labels_printable(table["label"], csv_path)
    table["split"] = _canonical_splits(table["split"], csv_path)
    further = [name for name in table.columns if name not in ("path", "label", "split")]
    for name in further:
        if name != "group":
            table[name] = _numbers_where_possible(table[name])
    n_unlabelled = int((table["label"] == "").sum())
    if n_unlabelled:
        notes = (*notes, f"{_count(n_unlabelled, 'image has', 'images have')} no label")
    table = table[["path", "label", "split", *further]].reset_index(drop=True)
    return Manifest(table, root.resolve(), notes)


def _name_columns(
    table: pd.DataFrame, csv_path: Path, columns: dict[str, str | None], notes: tuple[str, ...]
) -> pd.DataFrame:
    """Rename the chosen columns to featx's own names; an error for a missing one lists the existing columns."""
    chosen = {}
    unwanted = [name for name, column in columns.items() if column == "" and name != "path"]
    for name, column in columns.items():
        if column is None or name in unwanted:
            continue
        if column not in table.columns:
            raise SourceError(
                f"{csv_path}: no column {column!r}; it has {list_columns(table, notes)}. "
                f"Name the right one with `{name}_column`"
            )
        if column in chosen:
            raise SourceError(
                f"{csv_path}: the column {column!r} can't be both the {chosen[column]} and the {name}: name another "
                f"one, or '' for none, with `{chosen[column]}_column` or `{name}_column`"
            )
        chosen[column] = name
    for name, column in columns.items():
        # Columns that are used by default give way to those that are named.
        if column is None and name in table.columns and name not in chosen:
            chosen[name] = name
    table = table.drop(columns=[name for name in unwanted if name in table.columns and name not in chosen])
    clash = [name for name in chosen.values() if name in table.columns and name not in chosen]
    reserved = [name for name in ("sha256", *clash) if name in table.columns]
    unusable = [name for name in table.columns if "/" in name or "\0" in name or name == "."]
    if reserved or unusable:
        name = (reserved + unusable)[0]
        why = f" next to the one that `{name}_column` names" if name in clash else ""
        raise SourceError(
            f"{csv_path}: the column {name!r} can't be carried into a store{why}: rename it or leave it out"
        )
    table = table.rename(columns=chosen)
    for name in ("label", "split"):
        if name not in table.columns:
            table[name] = ""
    return table


def _check_paths(paths: pd.Series, csv_path: Path) -> None:
    empty = paths.index[(paths == "") | paths.str.contains("\0", regex=False)]
    if len(empty):
        raise SourceError(f"{csv_path}: line {empty[0]} has no usable path (such lines: {len(empty):,})")


def _check_repeated(paths: pd.Series, csv_path: Path, root: Path) -> None:
    repeated = paths[paths.map(lambda path: os.path.normpath(root.absolute() / path)).duplicated()]
    if len(repeated):
        raise SourceError(
            f"{csv_path}: {_count(len(repeated), 'path stands', 'paths stand')} there twice; the first is "
            f"{repeated.iloc[0]!r}, again in line {repeated.index[0]}. Keep one line per image"
        )


def _check_labels_printable(labels: pd.Series, csv_path: Path) -> None:
    wrong = labels.index[labels.isin([label for label in labels.unique() if _CONTROL.search(label)])]
    if len(wrong):
        raise SourceError(
            f"{csv_path}: line {wrong[0]}: the label {labels[wrong[0]]!r} has a line break or another control "
            "character in it: take it out"
        )


def _canonical_splits(splits: pd.Series, csv_path: Path) -> pd.Series:
    known = splits.str.lower().map(SPLIT_NAMES)
    unknown = splits.index[known.isna()]
    if len(unknown):
        raise SourceError(
            f"{csv_path}: line {unknown[0]}: {splits[unknown[0]]!r} is no split; expected train, validation, test "
            "or nothing"
        )
    return known


def _count(n: int, one: str, more: str) -> str:
    return f"1 {one}" if n == 1 else f"{n:,} {more}"


def _numbers_where_possible(column: pd.Series) -> pd.Series:
    """Turn a column of text into numbers where every cell that isn't empty comes back from its number."""
    cells = {cell: cell.strip() for cell in column.unique()}
    filled = [cell for cell in cells.values() if cell]
    if not filled or not are_numbers(filled):
        return column
    return column.map({cell: float(text) if text else np.nan for cell, text in cells.items()}).astype(float)


def _as_text(column: pd.Series) -> pd.Series:
    return pd.Series(list(map(text_of, column.array)), index=column.index, dtype=object)


def _as_stored(column: pd.Series) -> pd.Series:
    """Return a further column as float64 where it is of numbers that come back from it, else as text."""
    if column.dtype == np.float64:
        return column
    cells = list(column.array)
    texts = [text_of(cell) for cell in cells]
    if any(texts) and all(_is_number(cell) for cell, text in zip(cells, texts, strict=True) if text):
        numbers = [float(text) if text else np.nan for text in texts]
        if list(map(text_of, numbers)) == texts:
            return pd.Series(numbers, index=column.index)
    return pd.Series(texts, index=column.index, dtype=object)


_KINDS = {"path": _as_text, "label": as_labels, "split": as_labels, "group": as_labels}


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool)


def digest_paths(manifest: Manifest) -> str:
    """Return the digest of a manifest's paths, in their order."""
    text = "\0".join(manifest.table["path"]).encode("utf-8", "surrogateescape")
    return sha256_of(text)
