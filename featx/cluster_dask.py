"""Dask itself: imported without its handling of signals, quiet, with featx's choices in its configuration."""

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType

from featx.cluster_settings import ClusterSettings
from featx.errors import FeatxError

_LOST_SECONDS = 10


def load_dask() -> ModuleType:
    """Import dask.

    Raises
    ------
    FeatxError
        If it, or a part of it, isn't installed.
    """
    try:
        import cryptography  # noqa: F401
        import dask
        import distributed  # noqa: F401

        with keep_signals():
            import dask_jobqueue  # noqa: F401 (it brings its part of dask's configuration)
    except ImportError as error:
        raise FeatxError(f"--cluster: {error}: pip install 'featx[cluster]'") from error
    return dask


@contextlib.contextmanager
def keep_signals() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM to what takes care of them: importing dask-jobqueue would have them end everything."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: not Python's, and left alone.
            if handler is not None:
                signal.signal(number, handler)


def choices_of_featx(dask: ModuleType, settings: ClusterSettings) -> dict[str, object]:
    """Return what featx has to say to dask's configuration, of schedulers and workers that it starts."""
    given = dask.config.get("distributed.deploy.lost-worker-timeout", "15s")
    lost = max(_LOST_SECONDS, dask.utils.parse_timedelta(given))
    return {
        "distributed.deploy.lost-worker-timeout": f"{lost}s",
        "distributed.scheduler.no-workers-timeout": f"{settings.wait}s",
        # One task in a worker's hands, so that its death is blamed on no other.
        "distributed.scheduler.worker-saturation": 1.0,
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back dask's own log: what matters comes as an error's one line."""
    families = ("distributed", "tornado", "asyncio", "dask_jobqueue")
    # Some have levels of their own.
    names = {*families, *(name for name in logging.root.manager.loggerDict if name.partition(".")[0] in families)}
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed|dask_jobqueue|joblib")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
