"""Errors that a user can mend: each says what failed, where, what was expected and what to do next."""


class FeatxError(Exception):
    """Something that a user can mend.

    The command line shows the message as one line, without a traceback, and exits with `exit_code`.
    """

    exit_code = 1


def one_line(text: str) -> str:
    """Make a text that may hold a stranger's file names safe to show: one line, nothing that steers a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in " ".join(text.splitlines()))


class SourceError(FeatxError):
    """The images or their table are not usable as they are."""


class ImageError(FeatxError):
    """An image can't be read; its message is the reason that the store keeps."""


class WeightsError(FeatxError):
    """Weights are missing, damaged, or do not fit the backbone."""


class StoreError(FeatxError):
    """A feature store can't be read or written."""


class TakenError(FeatxError):
    """Another process is writing it."""


class StoppedError(FeatxError):
    """A run was stopped by its user; what was finished is kept."""

    exit_code = 130
