"""The HDF5 file of features: reader, writer, parts, settings, rows, checks. Imports `images`, `networks` and below."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
