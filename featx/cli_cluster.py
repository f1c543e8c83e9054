"""--cluster and --cluster-settings, of every command that can leave its work to others."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click

from featx.cli_options import say
from featx.errors import FeatxError


class ClusterAddress(click.ParamType):
    """A cluster: local, local:N, slurm, or the address of a running scheduler."""

    name = "cluster"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Return an `Address`."""
        from featx.cluster_settings import parse_address

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
        See `featx.rows.read_rows`.

    Raises
    ------
    FeatxError
        If the store can't be read, lacks a column or rows, or the output is taken.
    """
    if cluster is None:
        return
    from featx.results import check_free
    from featx.rows import read_rows
    from featx.store import Store

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
        from featx.cluster_settings import read_settings

        read_settings(cluster, cluster_settings)
        say(f"seconds and memory are of one process on this machine, not of the workers of --cluster {cluster}")


def _check_pair(cluster: object, cluster_settings: Path | None) -> None:
    if cluster is None and cluster_settings is not None:
        raise FeatxError("--cluster-settings is of a cluster: give --cluster too")
