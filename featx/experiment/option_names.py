"""Show an error of the library with the keys of an experiment file in place of Python's parameters."""

import re

from featx.errors import FeatxError, name_parameters
from featx.experiment.schema import FinetuneSpec, FitSpec, Source, Split, StoreSpec
from featx.fit import AXES
from featx.system import options_of

_KEYS = {name for kind in (Source, Split, StoreSpec, FinetuneSpec, FitSpec) for name in options_of(kind)} | {"output"}


_GRID = {name for axes in AXES.values() for name in axes}


# Parameters that an experiment file calls otherwise.
_OTHER_NAMES = {"n_repeats": "repeats", "changes": "set"}


# An option stands by itself; within a path or quotes it is part of a user's text.
_BEGIN, _END = r"(?<![^\s(])--", r"(?![\w/-]|\.\w)"


# Options that differ from a key's name by more than hyphens.
_NO_CACHE = re.compile(rf"{_BEGIN}no-cache{_END}")


_NO_COLUMN = re.compile(rf"{_BEGIN}(\w+)-column ''")


_NO_STRATA = re.compile(rf"{_BEGIN}stratify ''")


_SPLIT_COLUMN = re.compile(rf"{_BEGIN}split-column{_END}")


_CHANGE = re.compile(rf"{_BEGIN}set (\w+)=(\.\.\.)")


_CACHE_LIMIT = re.compile(rf"{_BEGIN}cache-limit (\d+(?:\.\d+)?)")


_SHARES = re.compile(rf"{_BEGIN}split ([\d.]+(?:,\d+(?:\.\d+)?)+)")


_OPTION = re.compile(rf"{_BEGIN}([A-Za-z][A-Za-z-]*){_END}")


def explain(error: FeatxError, entry: str = "") -> str:
    """Return an error's message with the keys of an experiment file in place of parameters.

    Parameters
    ----------
    error : FeatxError
    entry : str, optional
        Dotted key of the entry that the error is about; the message begins with it.

    Examples
    --------
    >>> explain(FeatxError("give `sample_weight` too", parameter="group_column"))
    'source.group_column: give sample_weight too'
    >>> explain(FeatxError("expected 3 or more", parameter="n_estimators"), "fits.rf")
    'fits.rf.grid.n_estimators: expected 3 or more'
    """
    text = in_keys(name_parameters(error.text, _key_of))
    key = "" if error.parameter is None else _key_of(error.parameter) or error.parameter
    if not key.startswith("source."):
        key = f"{entry}{'.' if entry and key else ''}{key}"
    return f"{key}: {text}" if key else text


def _key_of(parameter: str) -> str | None:
    name = _OTHER_NAMES.get(parameter, parameter)
    if name.endswith("_column") and name in _KEYS:
        return f"source.{name}"
    return name if name in _KEYS else f"grid.{name}" if name in _GRID else None


def in_keys(text: str) -> str:
    """Replace options of the command line by keys, in a note or message about a store, a fine-tuning or a fit.

    Options of `featx run` itself, and those of other commands, stay.

    Examples
    --------
    >>> in_keys("Give --cache-limit 0.5 or more, or --no-cache; or leave --class-weight out, or --overwrite")
    'Give cache_limit: 500000000 or more, or cache_limit: 0; or leave class_weight out, or --overwrite'
    >>> in_keys("Extract with --split 0.6,0.2,0.2, or give a smaller one (--set batch_size=...)")
    'Extract with split: {shares: [0.6, 0.2, 0.2]}, or give a smaller one (set: {batch_size: ...})'
    >>> in_keys("a--label/--seed.jpg: extract with --group-column '' or --stratify ''")
    "a--label/--seed.jpg: extract with source.group_column: '' or stratify: []"
    """
    text = _SHARES.sub(lambda found: f"split: {{shares: [{found[1].replace(',', ', ')}]}}", text)
    # Bytes here, GB there.
    text = _CACHE_LIMIT.sub(lambda found: f"cache_limit: {round(float(found[1]) * 1e9)}", text)
    text = _CHANGE.sub(r"set: {\1: \2}", _NO_CACHE.sub("cache_limit: 0", text))
    text = _NO_STRATA.sub("stratify: []", _NO_COLUMN.sub(r"source.\1_column: ''", text))
    return _OPTION.sub(_name_key, _SPLIT_COLUMN.sub("split", text))


def _name_key(found: re.Match) -> str:
    key = found[1].replace("-", "_")
    return key if key in _KEYS else found[0]
