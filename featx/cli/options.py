"""Define what commands share: options, the error line, and the cluster that a command opens."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featx.cli.streams import finish_output, prepare_streams, say
from featx.errors import FeatxError, StoppedError, one_line
from featx.system import Terminated, stop_on_sigterm

if TYPE_CHECKING:
    from featx.cluster import Address, Cluster


class Failure(click.ClickException):
    """One line on standard error, and an exit code."""

    def __init__(self, error: FeatxError, command: click.Command | None = None) -> None:
        super().__init__(one_line(error.show(lambda name: option_of(command, name))))
        by_signal = error.__cause__ if isinstance(error.__cause__, Terminated) else error
        self.exit_code = by_signal.exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the line."""
        say(f"featx: {self.message}")


def option_of(command: click.Command | None, parameter: str) -> str | None:
    """Return the option that sets a parameter, such as --group-column; None if the command has none."""
    for option in command.params if command is not None else ():
        if isinstance(option, click.Option) and option.name == parameter:
            return max(option.opts, key=len)
    return None


class Command(click.Command):
    """A command that shows an error that a user can fix as one line, with the names of its options."""

    def invoke(self, ctx: click.Context) -> Any:
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

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run a command as a program."""
        prepare_streams()
        try:
            return super().main(*arguments, **settings)
        finally:
            finish_output()

    def invoke(self, ctx: click.Context) -> Any:
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


class ShardType(click.ParamType):
    """One of several equal shares: NUMBER/COUNT."""

    name = "number/count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `featx.system.Shard`."""
        from featx.system import parse_shard

        if not isinstance(value, str):
            return value
        try:
            return parse_shard(value)
        except FeatxError as error:
            self.fail(error.text, param, ctx)


# Seeds that NumPy takes.
SEED = click.IntRange(0, 2**32 - 1)


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


SHARD = ShardType()


OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace existing results.")


def show_json(record: object) -> None:
    """Print a record as JSON."""
    click.echo(json.dumps(record, indent=1, default=str))


class ClusterAddress(click.ParamType):
    """A cluster: local, local:N, slurm, or the address of a running scheduler."""

    name = "cluster"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a `featx.cluster.Address`."""
        from featx.cluster import parse_address

        if not isinstance(value, str):
            return value
        try:
            return parse_address(value)
        except FeatxError as error:
            self.fail(error.text, param, ctx)


def cluster_options(command: Callable) -> Callable:
    """Add the options of a cluster; the command gets `cluster` and `cluster_settings`, for `opened`."""
    command = click.option(
        "--cluster-settings",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="YAML file for slurm: jobs, partition, time, memory and more.  [default: dask's own configuration]",
    )(command)
    return click.option(
        "--cluster",
        type=ClusterAddress(),
        metavar="local[:N]|slurm|tcp://HOST:PORT",
        help="Dask cluster whose workers do the work.  [default: this process]",
    )(command)


def check_first(
    cluster: "Address | None",
    store: Path,
    output: Path | None,
    *,
    overwrite: bool,
    label: str,
    where: str | None,
    sample_weight: str | None,
    drop_duplicates: bool,
    split: str = "split",
) -> None:
    """Check the store and the output before a command waits for a cluster.

    Parameters
    ----------
    cluster : Address or None
        None: there is nothing to wait for, and nothing is checked.
    store : Path
        The store that is read.
    output : Path or None
        The folder of a run; None if an existing one may stay.
    overwrite : bool
    label, where, sample_weight, drop_duplicates, split
        See `featx.store.read_rows`.

    Raises
    ------
    FeatxError
        If the store can't be read, has no such column or no rows, or the output exists.
    """
    if cluster is None:
        return
    from featx.results import check_free
    from featx.store import Store, read_rows

    if output is not None:
        check_free(output, overwrite=overwrite)
    with Store(store) as opened_store:
        read_rows(
            opened_store,
            [],
            label=label,
            where=where,
            sample_weight=sample_weight,
            drop_duplicates=drop_duplicates,
            split=split,
            needs_split=False,
        )


def opened(
    cluster: "Address | None", cluster_settings: Path | None, *, uses_gpus: bool = True
) -> "AbstractContextManager[Cluster | None]":
    """Return a context manager that opens a cluster; without one, it gives None.

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


def note_of_dry_run(cluster: "Address | None", cluster_settings: Path | None) -> None:
    """Check the options of a cluster in a dry run, and say that it predicts one process.

    Raises
    ------
    FeatxError
        If there are settings, and no cluster; or if the settings are wrong.
    """
    _check_pair(cluster, cluster_settings)
    if cluster is not None:
        from featx.cluster import read_settings

        read_settings(cluster, cluster_settings)
        say(f"seconds and memory are for one process on this machine, not for the workers of --cluster {cluster}")


def _check_pair(cluster: "Address | None", cluster_settings: Path | None) -> None:
    if cluster is None and cluster_settings is not None:
        raise FeatxError("only for a cluster: give `cluster` too", parameter="cluster_settings")
