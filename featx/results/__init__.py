"""The folder of a run: record, tables, predictions, metrics, model. Imports `networks` and what lies below it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
