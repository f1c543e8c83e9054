"""Whether the tables of a store, of its images and of those rejected, say what they may say."""

import hashlib
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from featx.damage import Problem, ranges_of
from featx.manifest import SPLITS

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def check_tables(
    images: pd.DataFrame, rejected: pd.DataFrame, attributes: Mapping[str, object], unread: np.ndarray
) -> Iterator[Problem]:
    """Yield what is wrong with the tables of a store.

    Parameters
    ----------
    images, rejected : DataFrame
        See `featx.store.Store`; columns that couldn't be read are not there.
    attributes : mapping
        Of the store's root.
    unread : ndarray of int
        Rows whose sha256 couldn't be read, and stands there empty.
    """
    if "path" in images:
        yield from _check_paths(images["path"], rejected, attributes)
    if "split" in images:
        wrong = ~images["split"].isin([*SPLITS, ""])
        if wrong.any():
            found = images["split"][wrong].iloc[0]
            yield _problem("/images/split", wrong, f"{found!r} is no split; expected {', '.join(SPLITS)} or nothing")
    if "sha256" in images:
        wrong = ~images["sha256"].map(is_digest).astype(bool)
        wrong.iloc[unread] = False
        if wrong.any():
            yield _problem("/images/sha256", wrong, f"{images['sha256'][wrong].iloc[0]!r} is not 64 hexadecimal digits")


def _check_paths(paths: pd.Series, rejected: pd.DataFrame, attributes: Mapping[str, object]) -> Iterator[Problem]:
    wrong = paths == ""
    if wrong.any():
        yield _problem("/images/path", wrong, "there is no path")
    wrong = paths.duplicated(keep=False) & ~wrong
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} stands there more than once")
    if "path" not in rejected:
        return
    wrong = paths.isin(set(rejected["path"]))
    if wrong.any():
        yield _problem("/images/path", wrong, f"{paths[wrong].iloc[0]!r} is among the rejected, too")
    # Where some were rejected, their places in the list are not known any more.
    if not len(rejected) and (recorded := attributes.get("paths_sha256")) is not None:
        text = "\0".join(paths).encode("utf-8", "surrogateescape")
        if hashlib.sha256(text).hexdigest() != recorded:
            yield Problem(
                "order", "/images/path", (), "these paths in this order are not those of the source (paths_sha256)"
            )


def _problem(where: str, wrong: pd.Series, detail: str) -> Problem:
    return Problem("table", where, ranges_of(wrong.to_numpy().nonzero()[0]), detail)
