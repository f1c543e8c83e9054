"""Show an error of the library with the keys of an experiment file in place of Python's parameters."""

from featx.errors import FeatxError, name_parameters
from featx.experiment.schema import FinetuneSpec, FitSpec, Source, Split, StoreSpec
from featx.fit import AXES
from featx.system import options_of

_KEYS = {name for kind in (Source, Split, StoreSpec, FinetuneSpec, FitSpec) for name in options_of(kind)} | {"output"}


_GRID = {name for axes in AXES.values() for name in axes}


# Parameters that an experiment file calls otherwise.
_OTHER_NAMES = {"n_repeats": "repeats", "changes": "set"}


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
    text = name_parameters(error.text, _key_of)
    key = dotted_key(error, entry)
    return f"{key}: {text}" if key else text


def dotted_key(error: FeatxError, entry: str = "") -> str:
    """Return the dotted key of the parameter that an error is about, or that of the entry."""
    key = "" if error.parameter is None else _key_of(error.parameter) or error.parameter
    return key if key.startswith("source.") else f"{entry}{'.' if entry and key else ''}{key}"


def _key_of(parameter: str) -> str | None:
    name = _OTHER_NAMES.get(parameter, parameter)
    if name.endswith("_column") and name in _KEYS:
        return f"source.{name}"
    return name if name in _KEYS else f"grid.{name}" if name in _GRID else None
