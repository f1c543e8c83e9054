"""Define the options, the output and the error line that commands share."""

import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import click

from featx.errors import FeatxError, StoppedError, one_line
from featx.system import Terminated, stop_on_sigterm


class Failure(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, error: FeatxError, command: click.Command | None = None) -> None:
        super().__init__(one_line(error.show(lambda name: option_of(command, name))))
        by_signal = error.__cause__ if isinstance(error.__cause__, Terminated) else error
        self.exit_code = by_signal.exit_code

    def show(self, file: object = None) -> None:
        """Print the line."""
        say(f"featx: {self.message}")


def option_of(command: click.Command | None, parameter: str) -> str | None:
    """Return the option that sets a parameter, such as --group-column; None where there is none."""
    for option in command.params if command is not None else ():
        if isinstance(option, click.Option) and option.name == parameter:
            return max(option.opts, key=len)
    return None


class Command(click.Command):
    """A command that shows an error that a user can fix as one line, with the names of its options."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FeatxError as error:
            raise Failure(error, self) from error


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


class Commands(Group):
    """The group of all commands: the program."""

    def main(self, *arguments: object, **options: object) -> object:
        """Run a command as a program."""
        prepare_streams()
        try:
            return super().main(*arguments, **options)
        finally:
            finish_output()

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            with stop_on_sigterm():
                return super().invoke(ctx)
        except FeatxError as error:
            raise Failure(error) from error
        except KeyboardInterrupt as error:
            stopped = StoppedError("stopped; finished work is kept, nothing half-written is")
            stopped.__cause__ = error
            raise Failure(stopped) from error


class Numbers(click.ParamType):
    """A list of numbers with commas, each within a range.

    Parameters
    ----------
    kind : type
        int or float.
    low : number
        The smallest that is taken.
    is_open : bool
        Whether `low` itself is too small.
    high : number, optional
        The largest that is taken; default: any that is finite.
    words : sequence of str
        Words that may stand for a number.
    counts : bool
        Whether whole numbers without a point are counts, from 1 up, and others shares.
    """

    name = "list"

    def __init__(
        self,
        kind: type,
        low: float,
        *,
        is_open: bool = False,
        high: float | None = None,
        words: Sequence[str] = (),
        counts: bool = False,
    ) -> None:
        self.kind = kind
        self.low = low
        self.is_open = is_open
        self.high = high
        self.words = words
        self.counts = counts

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Return a tuple of numbers and words."""
        if isinstance(value, tuple):
            return value
        return tuple(self._convert_one(part.strip(), param, ctx) for part in str(value).split(","))

    def _convert_one(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if text in self.words:
            return text
        if self.counts and text.isdecimal() and int(text) > 0:
            return int(text)
        try:
            number = self.kind(text)
        except ValueError:
            number = None
        if number is None or not self._is_within(number):
            bound = f"over {self.low:g}" if self.is_open else f"from {self.low:g}"
            if self.high is not None:
                bound += f" to {self.high:g}"
            kind = "a whole number" if self.kind is int else "a number"
            bound += ", a count" if self.counts else ""
            others = f" or {', '.join(self.words)}" if self.words else ""
            self.fail(f"{text!r} is not {kind} {bound}{others} (several: with commas)", param, ctx)
        return number

    def _is_within(self, number: float) -> bool:
        # A NaN compares false with everything.
        above = number > self.low or (number == self.low and not self.is_open)
        below = number < float("inf") if self.high is None else number <= self.high
        return above and below


class BatchSize(click.IntRange):
    """A number of images within a range, or `auto`."""

    name = "auto or integer"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or the word."""
        return "auto" if value == "auto" else super().convert(value, param, ctx)


class CountOrShare(click.ParamType):
    """A number of images, or a share of them in percent."""

    name = "count or share%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """Return a count as an int, and a share, 0.0 to 1.0, as a float."""
        if isinstance(value, int | float):
            return value
        text = str(value).strip()
        if text.isdecimal():
            return int(text)
        if re.fullmatch(r"\d+(\.\d+)?%", text) and (percent := Decimal(text[:-1])) <= 100:
            # Decimal: 0.7% are 0.007 to the last bit.
            return float(percent / 100)
        self.fail(f"{text!r} is neither a number of images (10) nor a share of them (1%)", param, ctx)


class Words(click.ParamType):
    """A list of words with commas, each one of a few."""

    name = "list"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return a tuple of words."""
        chosen = value if isinstance(value, tuple) else tuple(part.strip() for part in str(value).split(","))
        for word in chosen:
            if word not in self.words:
                self.fail(f"{word!r} is none of {', '.join(self.words)}", param, ctx)
        return chosen


class ShardType(click.ParamType):
    """One of several equal shares: NUMBER/COUNT."""

    name = "number/count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Return a `featx.system.Shard`."""
        from featx.system import Shard, parse_shard

        if isinstance(value, Shard):
            return value
        try:
            return parse_shard(str(value))
        except FeatxError as error:
            self.fail(error.text, param, ctx)


# What NumPy takes for a seed.
SEED = click.IntRange(0, 2**32 - 1)


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


SHARD = ShardType()


DROP_DUPLICATES = click.option(
    "--drop-duplicates", is_flag=True, help="Leave out images of identical files; all test images stay."
)


OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")


class _Output(io.FileIO):
    """Standard output, which keeps the error that it could not be written for."""

    error: OSError | None = None

    def write(self, data: bytes) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


class _Remarks(io.FileIO):
    """Standard error: what can't be written is lost, and the work continues."""

    def write(self, data: bytes) -> int | None:
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


def _write_through(kind: type[io.FileIO], stream: TextIO) -> TextIO:
    """Return a stream like another one, to the same place by another kind of file."""
    with contextlib.suppress(OSError):
        stream.flush()
    raw = kind(stream.fileno(), "wb", closefd=False)
    options = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
    return io.TextIOWrapper(io.BufferedWriter(raw), **options)


def finish_output() -> None:
    """Write what is left of the output; where nothing can be written any more, end with one line and exit code 1.

    Whoever reads only the beginning, as `head` does, knows why there is no more.
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


def show_json(record: object) -> None:
    """Print a record as JSON."""
    click.echo(json.dumps(record, indent=1, default=str))


class ClusterAddress(click.ParamType):
    """A cluster: local, local:N, slurm, or the address of a running scheduler."""

    name = "cluster"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Return an `Address`."""
        from featx.cluster import parse_address

        if not isinstance(value, str):
            return value
        try:
            return parse_address(value)
        except FeatxError as error:
            self.fail(str(error).removeprefix("--cluster "), param, ctx)


def cluster_options(command: Callable) -> Callable:
    """Add the options; the command gets `cluster` and `cluster_settings`, for `opened`."""
    command = click.option(
        "--cluster-settings",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="YAML: jobs, partition, time, memory and more for slurm.  [default: dask's own configuration]",
    )(command)
    return click.option(
        "--cluster",
        type=ClusterAddress(),
        metavar="local[:N]|slurm|tcp://HOST:PORT",
        help="Leave the work to the workers of a Dask cluster.  [default: this process]",
    )(command)


def check_first(cluster: object, store: Path, output: Path | None, *, overwrite: bool, **columns: str | None) -> None:
    """Refuse, before a cluster is waited for, what the work would be refused for once one is there.

    Parameters
    ----------
    cluster : Address or None
        None: nothing is waited for, and nothing is looked at.
    store : Path
        To be read.
    output : Path or None
        A run's folder; None: one that is there may stay.
    overwrite : bool
    **columns
        See `featx.store.rows.read_rows`.

    Raises
    ------
    FeatxError
        If the store can't be read, lacks a column or rows, or the output is taken.
    """
    if cluster is None:
        return
    from featx.results import check_free
    from featx.store import Store, read_rows

    if output is not None:
        check_free(output, overwrite=overwrite)
    with Store(store) as found:
        read_rows(found, [], **columns, needs_split=False)


def opened(cluster: object, cluster_settings: Path | None, *, uses_gpus: bool = True) -> AbstractContextManager:
    """Return a context manager that opens the cluster asked for; without one, it gives None.

    Raises
    ------
    FeatxError
        If there are settings, and no cluster.
    """
    _check_pair(cluster, cluster_settings)
    if cluster is None:
        return nullcontext()
    from featx.cluster import open_cluster

    return open_cluster(cluster, cluster_settings, uses_gpus=uses_gpus, echo=say)


def note_of_dry_run(cluster: object, cluster_settings: Path | None) -> None:
    """Check the options where nothing is done, and say that a prediction is of one process all the same.

    Raises
    ------
    FeatxError
        If there are settings, and no cluster; or if something is wrong with the settings.
    """
    _check_pair(cluster, cluster_settings)
    if cluster is not None:
        from featx.cluster import read_settings

        read_settings(cluster, cluster_settings)
        say(f"seconds and memory are of one process on this machine, not of the workers of --cluster {cluster}")


def _check_pair(cluster: object, cluster_settings: Path | None) -> None:
    if cluster is None and cluster_settings is not None:
        raise FeatxError("--cluster-settings is of a cluster: give --cluster too")
