"""Read and extend a store's history: the command, the machine and the versions of each run."""

import json
from collections.abc import Mapping

from featx.system import format_command, format_machine, now, versions_record

# A store that is added to every day keeps its last runs.
_MOST_RUNS = 50


def read_history(attributes: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the runs that made a store, oldest first; an empty list if the attribute is missing or damaged.

    Parameters
    ----------
    attributes : mapping of str to object
        The store's.
    """
    try:
        history = json.loads(attributes["history"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [run for run in history if isinstance(run, dict)] if isinstance(history, list) else []


def add_run(
    attributes: Mapping[str, object],
    device: str,
    started: str,
    *,
    n_images: int,
    n_rejected: int,
    n_computed: int,
    n_resumed: int,
    images_per_second: float | None = None,
) -> str:
    """Return the attribute history of a store with the run that ends now.

    Parameters
    ----------
    attributes : mapping of str to object
        The store's before this run.
    device, started : str
        What the network ran on, and since when this run works.
    n_images, n_rejected : int
        Numbers of the whole store.
    n_computed, n_resumed : int
        Images that went through the network in this run, and before it.
    images_per_second : float, optional
    """
    run = {
        "command": format_command(),
        "machine": format_machine(),
        "versions": versions_record(),
        "device": device,
        "started": started,
        "ended": now(),
        "n_images": n_images,
        "n_rejected": n_rejected,
        "n_computed": n_computed,
        "n_resumed": n_resumed,
        **({} if images_per_second is None else {"images_per_second": images_per_second}),
    }
    return json.dumps([*read_history(attributes), run][-_MOST_RUNS:])
