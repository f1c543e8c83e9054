"""Where a store came from: the command, the machine and the versions of a run, as its store keeps them."""

import importlib.metadata
import json
import os
import platform
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import featx
from featx.cores import available_cores, total_memory
from featx.keras_setup import load_keras

if TYPE_CHECKING:
    from featx.engines import Engine

MOST_RUNS = 50
"""How many earlier runs a store tells of: one that is added to every day keeps the last ones."""

# A command may list any number of files.
_MOST_CHARACTERS = 2000

_PACKAGES = ("numpy", "h5py", "pillow", "tifffile", "imagecodecs", "keras", "tensorflow", "jax", "torch", "ncnn")


def describe_process() -> dict[str, object]:
    """Return the command, the machine and the versions of this process."""
    return {"command": describe_command(), "machine": describe_machine(), "versions": describe_versions()}


def describe_engines(engines: Iterable["Engine"], stored: Mapping[str, object]) -> dict[str, str]:
    """Return versions and devices: those of the store that is added to, and those of a run, each once, with commas.

    Parameters
    ----------
    engines : iterable of Engine
        What computed features in this run.
    stored : mapping of str to object
        Attributes of the store that is added to; empty if there is none.
    """
    names = ("keras_version", "engine_version", "device")
    found = {name: str(stored[name]).split(", ") if stored.get(name) else [] for name in names}
    for engine in engines:
        found["keras_version"].append(load_keras().__version__)
        found["engine_version"].append(engine.version)
        found["device"].append(engine.device)
    return {name: ", ".join(dict.fromkeys(values)) for name, values in found.items() if values}


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


def describe_command() -> str:
    """Return the command line that this process was started with, as a shell would take it, cut if it is very long."""
    program, *arguments = sys.argv or ["python"]
    path = Path(program)
    # Of `python -m featx`, too.
    program = path.parent.name if path.name == "__main__.py" else path.name
    text = shlex.join([program, *arguments]).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def describe_machine() -> str:
    """Return host name, system, processor kind, and the cores and memory that this process may use."""
    memory, whole_memory = total_memory(), psutil.virtual_memory().total
    return (
        f"{socket.gethostname()}: {platform.system()} {platform.release()}, {platform.machine()}, "
        f"{available_cores()} of {os.cpu_count()} cores, {memory / 1e9:.0f} of {whole_memory / 1e9:.0f} GB"
    )


def describe_versions() -> dict[str, str]:
    """Return the versions of featx, Python and the packages that features may depend on."""
    versions = {"featx": featx.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    """Return the time by the machine's clock: UTC, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
