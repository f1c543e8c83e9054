"""Errors that a user can fix: each says what failed, where, what was expected and what to do next."""

import re
from collections.abc import Callable


class FeatxError(Exception):
    """Something that a user can fix.

    The command line shows the message as one line, without a traceback, and exits with `exit_code`.

    Parameters
    ----------
    text : str
        The message. It names parameters as Python does, in backquotes: "leave `shard` or `cluster` out".
    parameter : str, optional
        Name of the parameter whose value is wrong. The message begins with it.

    Examples
    --------
    >>> str(FeatxError("expected 2 or more folds, found 1", parameter="cv"))
    'cv: expected 2 or more folds, found 1'
    """

    exit_code = 1

    def __init__(self, text: str, *, parameter: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.parameter = parameter

    def __str__(self) -> str:
        return self.text if self.parameter is None else f"{self.parameter}: {self.text}"

    def show(self, name: Callable[[str], str | None]) -> str:
        """Return the message with parameters named as the user wrote them: as options, or as keys of a file.

        Parameters
        ----------
        name : callable
            Returns what to write for a parameter; None for a name that it doesn't know.
        """
        text = name_parameters(self.text, name)
        return text if self.parameter is None else f"{name(self.parameter) or self.parameter}: {text}"


def name_parameters(text: str, name: Callable[[str], str | None]) -> str:
    """Replace parameters in backquotes by what `name` returns for each; where that is None, the text stays as it is.

    Examples
    --------
    >>> name_parameters("leave `shard` out of `x`", {"shard": "--shard"}.get)
    'leave --shard out of `x`'
    """
    return re.sub(r"`([A-Za-z]\w*)`", lambda match: name(match[1]) or match[0], text)


def one_line(text: str) -> str:
    """Make a text with untrusted file names safe to show: one line, without control characters."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(text.splitlines()))


class SourceError(FeatxError):
    """The images or their table are not usable as they are."""


class MissingSourceError(SourceError, FileNotFoundError):
    """The folder or table of images doesn't exist."""


class ImageError(FeatxError):
    """An image can't be read; its message is the reason that the store keeps."""


class UnknownLayerError(FeatxError, KeyError):
    """A network has no layer of that name."""


class WeightsError(FeatxError):
    """Weights are missing, damaged, or do not fit the backbone."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """The file with the weights doesn't exist."""


class StoreError(FeatxError):
    """A feature store can't be read or written."""


class MissingStoreError(StoreError, FileNotFoundError):
    """The feature store doesn't exist."""


class MissingRunError(FeatxError, FileNotFoundError):
    """The folder of a run doesn't exist, or holds no run."""


class WriteError(FeatxError, OSError):
    """A file or folder can't be written; its cause is the system's error."""

    @property
    def strerror(self) -> str | None:
        """What the system said."""
        return getattr(self.__cause__, "strerror", None)


class TakenError(FeatxError):
    """Another process is writing it."""


class StoppedError(FeatxError):
    """A run was stopped by its user; what was finished is kept."""

    exit_code = 130
