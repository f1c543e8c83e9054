"""What the library says of options of the command line, said of the keys of an experiment file."""

import re
from dataclasses import fields

from featx.experiment_parts import FinetuneSpec, FitSpec, Source, Split, StoreSpec

_KEYS = {entry.name for kind in (Source, Split, StoreSpec, FinetuneSpec, FitSpec) for entry in fields(kind)}
_KEYS |= {"output"}
# Options that are no key's name with hyphens.
_NO_CACHE = "--no-cache"
_SPLIT_COLUMN = re.compile(r"--split-column\b")
_CHANGE = re.compile(r"--set (\w+)=(\.\.\.)")
_CACHE_LIMIT = re.compile(r"--cache-limit ([\d.]+)")
_SHARES = re.compile(r"--split ([\d.]+(?:,[\d.]+)+)")
_OPTION = re.compile(r"--([A-Za-z][A-Za-z-]*)")


def in_keys(text: str) -> str:
    """Name keys in the place of options, in what is said of a fine-tuning, a fit or a store.

    Options that `featx run` has as well, and those of other commands, stay.

    Examples
    --------
    >>> in_keys("Give --cache-limit 0.5 or more, or --no-cache; or leave --class-weight out, or --overwrite")
    'Give cache_limit: 500000000 or more, or cache_limit: 0; or leave class_weight out, or --overwrite'
    >>> in_keys("Extract with --split 0.6,0.2,0.2, or give a smaller one (--set batch_size=...)")
    'Extract with split: {shares: [0.6, 0.2, 0.2]}, or give a smaller one (set: {batch_size: ...})'
    """
    text = _SHARES.sub(lambda found: f"split: {{shares: [{found[1].replace(',', ', ')}]}}", text)
    # Bytes here, GB there.
    text = _CACHE_LIMIT.sub(lambda found: f"cache_limit: {round(float(found[1]) * 1e9)}", text)
    text = _CHANGE.sub(r"set: {\1: \2}", text.replace(_NO_CACHE, "cache_limit: 0"))
    return _OPTION.sub(_name_key, _SPLIT_COLUMN.sub("split", text))


def _name_key(found: re.Match) -> str:
    key = found[1].replace("-", "_")
    return key if key in _KEYS else found[0]
