"""The machine and its files: whole files, locks, signals, cores, progress, YAML. Imports `errors` alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
