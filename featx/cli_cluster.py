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
            self.fail(str(error).partition(": ")[2], param, ctx)


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


def opened(cluster: object, cluster_settings: Path | None, *, uses_gpus: bool = True) -> AbstractContextManager:
    """Return a context manager that opens the cluster asked for; without one, it gives None.

    Raises
    ------
    FeatxError
        If there are settings, and no cluster.
    """
    if cluster is None:
        if cluster_settings is not None:
            raise FeatxError("--cluster-settings is of a cluster: give --cluster too")
        return nullcontext()
    from featx.cluster import open_cluster

    return open_cluster(cluster, cluster_settings, uses_gpus=uses_gpus, echo=say)
