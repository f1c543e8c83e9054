"""Where images come from: a folder with one folder a class, or a CSV, as one table of path, label, split and more."""

import os
import re
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from featx.class_folders import SPLIT_NAMES, read_classes
from featx.csv_tables import list_columns, load_csv
from featx.errors import SourceError
from featx.folders import find_named_otherwise, has_image_name

SPLITS = ("train", "validation", "test")

_DEFAULT_COLUMNS = {"path": "path", "label": "label", "split": None, "group": None}
_WHOLE_NUMBER = r"\s*-?(0|[1-9]\d*)\s*"
_NUMBER = r"\s*-?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?\s*"
# Unicode's line separators among them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Manifest:
    """The images of one store, in the order of its rows.

    Attributes
    ----------
    table : DataFrame
        Columns `path` (relative to `root`, or absolute), `label` ("" where unknown), `split` (train, validation, test
        or ""), then any further columns of the source.
    root : Path
        The folder that relative paths start from.
    notes : tuple of str
        What the reader of the source should know: files passed over, labels that are missing.
    """

    table: pd.DataFrame
    root: Path
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.table)

    @property
    def has_splits(self) -> bool:
        """Whether any image has a split."""
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
        UTF-8, its cells separated by commas, semicolons or tabs; its columns without a name are left out.
    path_column, label_column : str
        Columns of the CSV. `label_column=""` reads images without labels.
    split_column, group_column : str, optional
        Columns of the CSV; without them, columns called `split` and `group` are used where they are there. `""` does
        without, and leaves a column of that name out.
    root : path, optional
        The folder that the CSV's paths start from; default: the CSV's own.

    Raises
    ------
    SourceError
        If there is nothing to read, something in it can't be meant, or what is of a CSV is given with a folder.
    """
    source = Path(source)
    columns = {"path": path_column, "label": label_column, "split": split_column, "group": group_column}
    if source.is_dir():
        _refuse_of_csvs(source, columns, root)
        table, notes = read_classes(source)
        manifest = Manifest(table, source.resolve(), notes)
    elif has_image_name(source) and source.is_file():
        raise SourceError(f"{source}: an image; expected a folder of images, or a CSV with their paths")
    elif source.is_file():
        manifest = _read_csv(source, columns=columns, root=Path(root) if root is not None else source.parent)
    else:
        raise SourceError(f"{source}: no such folder or CSV file")
    _check_labels(manifest.table, source)
    return replace(manifest, notes=(*manifest.notes, *_note_twins(manifest.table["label"])))


def _refuse_of_csvs(source: Path, columns: dict[str, str | None], root: str | Path | None) -> None:
    """Refuse what a folder would take no notice of."""
    given = [f"{name}_column" for name, column in columns.items() if column != _DEFAULT_COLUMNS[name]]
    given += ["root"] if root is not None else []
    if given:
        options, keys = (", ".join(form.format(name) for name in given) for form in ("--{}", "source.{}"))
        is_of, it = ("is", "it") if len(given) == 1 else ("are", "them")
        raise SourceError(
            f"{source}: a folder, and {options.replace('_', '-')} (in an experiment file: {keys}) {is_of} of a CSV: "
            f"leave {it} out, or list the images in a CSV"
        )


def _check_labels(table: pd.DataFrame, source: Path) -> None:
    labels = table["label"].unique()
    if len(labels) == 1 and labels[0] != "":
        raise SourceError(
            f"{source}: one class only ({labels[0]!r}, {len(table):,} images), and a classifier needs two. For "
            "features without labels, give the folder that holds the images themselves, or a CSV with "
            "--label-column '' (in an experiment file: source.label_column: '')"
        )


def _note_twins(labels: pd.Series) -> tuple[str, ...]:
    """Name labels that look alike and are two classes, such as one file system's "é" and another's."""
    notes, seen = [], {}
    for label in labels.unique():
        other = seen.setdefault(unicodedata.normalize("NFC", label), label)
        if other != label:
            notes.append(
                f"the labels {other!a} and {label!a} are the same text, composed in two ways, and two "
                "classes: write them alike if one class is meant"
            )
    return tuple(notes)


def _read_csv(csv_path: Path, *, columns: dict[str, str | None], root: Path) -> Manifest:
    table, notes = load_csv(csv_path, path_column=columns["path"], root=root)
    table = _name_columns(table, csv_path, columns, notes)
    for column in table.columns.intersection(["path", "label", "split", "group"]):
        table[column] = table[column].str.strip()
    _check_paths_are_there(table["path"], csv_path)
    table["path"], more = find_named_otherwise(table["path"].tolist(), root)
    notes = (*notes, *more)
    _refuse_repeated(table["path"], csv_path, root)
    _refuse_control(table["label"], csv_path)
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
    """Give the chosen columns featx's own names; say which columns there are when one is missing."""
    chosen = {}
    unwanted = [name for name, column in columns.items() if column == "" and name != "path"]
    for name, column in columns.items():
        if column is None or name in unwanted:
            continue
        if column not in table.columns:
            raise SourceError(
                f"{csv_path}: no column {column!r}; it has {list_columns(table, notes)}. "
                f"Name the right one with --{name}-column (in an experiment file: source.{name}_column)"
            )
        if column in chosen:
            raise SourceError(
                f"{csv_path}: the column {column!r} can't be both the {chosen[column]} and the {name}: name another "
                f"one, or '' for none, with --{chosen[column]}-column or --{name}-column (in an experiment file: "
                f"source.{chosen[column]}_column, source.{name}_column)"
            )
        chosen[column] = name
    for name, column in columns.items():
        # What is taken without being asked for gives way to what is.
        if column is None and name in table.columns and name not in chosen:
            chosen[name] = name
    table = table.drop(columns=[name for name in unwanted if name in table.columns and name not in chosen])
    clash = [name for name in chosen.values() if name in table.columns and name not in chosen]
    reserved = [name for name in ("sha256", *clash) if name in table.columns]
    unusable = [name for name in table.columns if "/" in name or "\0" in name or name == "."]
    if reserved or unusable:
        name = (reserved + unusable)[0]
        why = f" beside the one that --{name}-column names" if name in clash else ""
        raise SourceError(
            f"{csv_path}: the column {name!r} can't be carried into a store{why}: rename it or leave it out"
        )
    table = table.rename(columns=chosen)
    for name in ("label", "split"):
        if name not in table.columns:
            table[name] = ""
    return table


def _check_paths_are_there(paths: pd.Series, csv_path: Path) -> None:
    empty = paths.index[(paths == "") | paths.str.contains("\0", regex=False)]
    if len(empty):
        raise SourceError(f"{csv_path}: line {empty[0]} has no usable path (such lines: {len(empty):,})")


def _refuse_repeated(paths: pd.Series, csv_path: Path, root: Path) -> None:
    repeated = paths[paths.map(lambda path: os.path.normpath(root.absolute() / path)).duplicated()]
    if len(repeated):
        raise SourceError(
            f"{csv_path}: {_count(len(repeated), 'path stands', 'paths stand')} there twice; the first is "
            f"{repeated.iloc[0]!r}, again in line {repeated.index[0]}. Keep one line per image"
        )


def _refuse_control(labels: pd.Series, csv_path: Path) -> None:
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
    """Turn a column of text into numbers if nothing is lost by it; empty cells become NaN.

    Codes stay text: numbers with leading zeros, and whole numbers that a float can't hold.
    """
    filled = column[column.str.strip() != ""]
    if not len(filled) or not filled.str.fullmatch(_NUMBER).all():
        return column
    numbers = pd.to_numeric(filled, errors="coerce").astype(float)
    if not np.isfinite(numbers).all() or numbers.abs().max() >= 2**53:
        return column
    is_whole = filled.str.fullmatch(_WHOLE_NUMBER).all() and len(filled) == len(column)
    return numbers.astype(int) if is_whole else numbers.reindex(column.index)
