"""Prepare standard output and standard error, and write lines to them."""

import contextlib
import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import click


class _Output(io.FileIO):
    """Standard output, which keeps the error that it could not be written for."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


class _Remarks(io.FileIO):
    """Standard error: what can't be written is lost, and the work continues."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def prepare_streams() -> None:
    """Change the standard streams so that no command fails because of them.

    Characters that the output's encoding doesn't have are shown as escapes. A stream that is closed becomes the null
    device; otherwise the next file that is opened would take its number, and get what libraries write to it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # It takes the lowest number that is free: this one. Programs that are started here inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stdout is sys.__stdout__ and not sys.stdout.isatty():
        sys.stdout = _write_through(_Output, sys.stdout)
    if sys.stderr is sys.__stderr__ and not sys.stderr.isatty():
        sys.stderr = _write_through(_Remarks, sys.stderr)


def _write_through(kind: type[io.FileIO], stream: Any) -> TextIO:
    """Return a stream like another one, to the same place by another kind of file."""
    with contextlib.suppress(OSError):
        stream.flush()
    raw = kind(stream.fileno(), "wb", closefd=False)
    options: dict[str, Any] = {
        "encoding": stream.encoding,
        "errors": stream.errors,
        "line_buffering": stream.line_buffering,
    }
    return io.TextIOWrapper(io.BufferedWriter(raw), **options)


def finish_output() -> None:
    """Write what is left of the output; where nothing can be written any more, end with one line and exit code 1.

    A reader that takes only the beginning, as `head` does, needs no message.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Output) and raw.error is not None:
        # What it still holds would be another error as Python ends.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if raw.error.errno != errno.EPIPE:
            say(f"featx: standard output: can't be written: {raw.error.strerror or raw.error}")
        raise SystemExit(1)


def say(line: str) -> None:
    """Show a line that is not the result: results alone go to standard output."""
    click.echo(line, err=True)
