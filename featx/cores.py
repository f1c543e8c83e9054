"""How much of this machine is ours."""

import os


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


SHARED_BY = "FEATX_PROCESSES"
"""The environment variable that says how many workers share a machine, or a job's part of one."""


def sharing_processes() -> int:
    """Return how many processes of one cluster share this machine, this one among them."""
    text = os.environ.get(SHARED_BY, "1")
    return max(1, int(text)) if text.isdecimal() else 1
