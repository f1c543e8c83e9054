"""Predictions of new images as a table, and how they leave: CSV as they come, or JSON."""

import contextlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from featx.csv_tables import write_table
from featx.errors import FeatxError
from featx.parts import name_beside


@dataclass(frozen=True)
class Block:
    """What was found for some images that follow one another.

    Attributes
    ----------
    table : DataFrame
        One row an image that could be read, in the order of the images. Columns `path` and `predicted`; then
        `probability_<class>` of every class where the model knows probabilities, else `score`, the decision value of
        the predicted class, where it knows those.
    rejected : DataFrame
        Columns `path` and `reason`, of the images that could not be read.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame


def write_predictions(blocks: Iterable[Block], file: BinaryIO, *, as_json: bool = False) -> pd.DataFrame:
    """Write predictions.

    Parameters
    ----------
    blocks : iterable of Block
    file : binary file
    as_json : bool, default False
        Write one JSON object, `predictions` and `rejected`, once all is there; else CSV as it comes, with six digits
        a number.

    Returns
    -------
    DataFrame
        `path` and `reason` of the images that could not be read.
    """
    rejected = [pd.DataFrame({"path": [], "reason": []}, dtype=object)]
    records: list[dict[str, object]] = []
    has_header = False
    for block in blocks:
        rejected.append(block.rejected)
        if as_json:
            records += block.table.to_dict("records")
        elif len(block.table):
            text = io.StringIO()
            write_table(block.table, text, index=False, header=not has_header, float_format="%.6g", lineterminator="\n")
            file.write(text.getvalue().encode())
            file.flush()
            has_header = True
    refused = pd.concat(rejected, ignore_index=True)
    if as_json:
        record = {"predictions": records, "rejected": refused.to_dict("records")}
        file.write((json.dumps(record, indent=1) + "\n").encode())
    return refused


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is taken, is no file, or whose folder isn't there or can't be looked into.

    Raises
    ------
    FeatxError
    """
    try:
        is_folder, is_there, is_file = path.is_dir(), path.exists(), path.is_file()
        has_folder = path.absolute().parent.is_dir()
    except OSError as error:
        raise FeatxError(f"{path}: can't be written: {error.strerror or error}; give another --output") from error
    if is_folder:
        raise FeatxError(f"{path}: a folder; give the name of a file to write")
    if is_there and not is_file:
        # A device or a pipe: what is renamed into its place would take it away from everybody.
        raise FeatxError(f"{path}: neither a file nor free; give another --output")
    if is_there and not overwrite:
        raise FeatxError(f"{path}: exists. Give another --output, or --overwrite to replace it")
    if not has_folder:
        raise FeatxError(f"{path}: the folder {path.parent} doesn't exist; make it first")


@contextlib.contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name once all of it is there, or not at all.

    Raises
    ------
    FeatxError
        If it can't be written.
    """
    temporary = name_beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise FeatxError(f"{path}: writing failed: {error.strerror or error}; nothing of it was kept") from error
    finally:
        # Where it couldn't even be looked for, that is what was raised.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
