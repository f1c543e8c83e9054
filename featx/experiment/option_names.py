"""What the library says of options of the command line, said of the keys of an experiment file."""

import re
from dataclasses import fields

from featx.errors import FeatxError
from featx.experiment.schema import FinetuneSpec, FitSpec, Source, Split, StoreSpec

_KEYS = {entry.name for kind in (Source, Split, StoreSpec, FinetuneSpec, FitSpec) for entry in fields(kind)}


_KEYS |= {"output"}


# An option stands by itself; in a path, or in quotes, it is somebody's own text.
_BEGIN, _END = r"(?<![^\s(])--", r"(?![\w/-]|\.\w)"


# Options that are no key's name with hyphens.
_NO_CACHE = re.compile(rf"{_BEGIN}no-cache{_END}")


_NO_COLUMN = re.compile(rf"{_BEGIN}(\w+)-column ''")


_NO_STRATA = re.compile(rf"{_BEGIN}stratify ''")


_SPLIT_COLUMN = re.compile(rf"{_BEGIN}split-column{_END}")


_CHANGE = re.compile(rf"{_BEGIN}set (\w+)=(\.\.\.)")


_CACHE_LIMIT = re.compile(rf"{_BEGIN}cache-limit (\d+(?:\.\d+)?)")


_SHARES = re.compile(rf"{_BEGIN}split ([\d.]+(?:,\d+(?:\.\d+)?)+)")


_OPTION = re.compile(rf"{_BEGIN}([A-Za-z][A-Za-z-]*){_END}")


def explain(error: FeatxError) -> str:
    """Return an error's message with the keys of an experiment file in place of parameters and options.

    Examples
    --------
    >>> explain(FeatxError("give `sample_weight` too", parameter="group_column"))
    'source.group_column: give sample_weight too'
    """
    return in_keys(error.show(_key_of))


def _key_of(parameter: str) -> str | None:
    if parameter.endswith("_column") and parameter in _KEYS:
        return f"source.{parameter}"
    return parameter if parameter in _KEYS else None


def in_keys(text: str) -> str:
    """Name keys in the place of options, in what is said of a fine-tuning, a fit or a store.

    Options that `featx run` has as well, and those of other commands, stay.

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
