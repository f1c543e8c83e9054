"""Where a store came from: the command, the machine and the versions of a run, as its store keeps them."""

import json
from collections.abc import Mapping

from featx.system import format_command, format_machine, versions_record

MOST_RUNS = 50
"""How many earlier runs a store tells of: one that is added to every day keeps the last ones."""


def describe_process() -> dict[str, object]:
    """Return the command, the machine and the versions of this process."""
    return {"command": format_command(), "machine": format_machine(), "versions": versions_record()}


def read_history(attributes: Mapping[str, object]) -> list[dict[str, object]]:
    """Return what a store tells of the runs that made it, oldest first; nothing where it doesn't, as older ones don't.

    Parameters
    ----------
    attributes : mapping of str to object
        Of the store.
    """
    try:
        history = json.loads(attributes["history"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return [run for run in history if isinstance(run, dict)] if isinstance(history, list) else []
