"""Figures of runs, stores and features, for `featx plot` and for the report; they do not know the page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
